//! Cuts: which outlets cross from a part of the layers to the rest.

use std::collections::{BTreeSet, VecDeque};

use crate::graph::{Graph, OutletId};

/// A set of outlets, and the layers before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// Positions of the layers before the cut, ascending: a down-set.
    pub before: Vec<usize>,
    /// What later layers need, ascending.
    pub outlets: Vec<OutletId>,
    /// Outputs of the graph that are made before the cut and not needed after it: they are done, and
    /// only have to be carried to whoever answers.
    pub carried: Vec<OutletId>,
}

impl Cut {
    /// Bytes of one sample that cross, carried outputs included.
    #[must_use]
    pub fn bytes(&self, graph: &Graph) -> u64 {
        self.outlets
            .iter()
            .chain(&self.carried)
            .fold(0, |sum, &id| sum.saturating_add(graph.outlet(id).bytes))
    }
}

impl Graph {
    /// The cut behind a down-set of layers, given as ascending positions. O(V + E).
    ///
    /// `None` when `before` is not a down-set: some layer in it needs one outside.
    #[must_use]
    pub fn cut_after(&self, before: &[usize]) -> Option<Cut> {
        let mut is_before = vec![false; self.layers().len()];
        for &position in before {
            *is_before.get_mut(position)? = true;
        }
        for &position in before {
            for &input in &self.layers()[position].inputs {
                if self
                    .outlet(input)
                    .producer
                    .is_some_and(|producer| !is_before[producer])
                {
                    return None;
                }
            }
        }
        let (mut outlets, mut carried) = (Vec::new(), Vec::new());
        for (number, outlet) in self.outlets().iter().enumerate() {
            let id = OutletId(number);
            let is_here = match outlet.producer {
                Some(producer) => is_before[producer],
                None => self.inputs().contains(&id),
            };
            if !is_here {
                continue;
            }
            if outlet
                .consumers
                .iter()
                .any(|&consumer| !is_before[consumer])
            {
                outlets.push(id);
            } else if outlet.is_output {
                carried.push(id);
            }
        }
        Some(Cut {
            before: before.to_vec(),
            outlets,
            carried,
        })
    }

    /// Number of outlets live after each prefix of the canonical order: `widths[k]` after `k` layers.
    /// O(V + E).
    pub(crate) fn widths(&self) -> Vec<usize> {
        let count = self.layers().len();
        let mut change = vec![0isize; count + 2];
        for (number, outlet) in self.outlets().iter().enumerate() {
            let from = match outlet.producer {
                Some(producer) => producer + 1,
                None if self.inputs().contains(&OutletId(number)) => 0,
                None => continue,
            };
            if let Some(&last) = outlet.consumers.last()
                && from <= last
            {
                change[from] += 1;
                change[last + 1] -= 1;
            }
        }
        let mut live = 0isize;
        change[..=count]
            .iter()
            .map(|step| {
                live += step;
                usize::try_from(live).unwrap_or(0)
            })
            .collect()
    }

    /// Lengths of the prefixes of the canonical order after which exactly one outlet is live, the empty
    /// prefix and the whole graph left out. These cuts are nested, so they make a chain. O(V + E).
    ///
    /// In a graph with one output they are all the cuts of one outlet: whatever such an outlet depends
    /// on comes before it, and everything else depends on it. With several outputs a side branch may
    /// have single cuts of its own, which are not positions of the trunk; [`Self::single_cuts`] has
    /// those too.
    #[must_use]
    pub fn single_positions(&self) -> Vec<usize> {
        let widths = self.widths();
        (1..self.layers().len())
            .filter(|&position| widths[position] == 1)
            .collect()
    }

    /// Every cut of one outlet `x` such that all that depends on `x` comes after it, in the order of
    /// the outlets. O(V (V + E)).
    #[must_use]
    pub fn single_cuts(&self) -> Vec<Cut> {
        let count = self.layers().len();
        let mut cuts = Vec::new();
        for (number, outlet) in self.outlets().iter().enumerate() {
            if outlet.producer.is_none() || outlet.consumers.is_empty() {
                continue;
            }
            let mut is_after = vec![false; count];
            for position in outlet.consumers[0]..count {
                is_after[position] = self.layers()[position].inputs.iter().any(|&input| {
                    input.0 == number
                        || self
                            .outlet(input)
                            .producer
                            .is_some_and(|producer| is_after[producer])
                });
            }
            let before: Vec<usize> = (0..count).filter(|&position| !is_after[position]).collect();
            if let Some(cut) = self.cut_after(&before)
                && cut.outlets == [OutletId(number)]
            {
                cuts.push(cut);
            }
        }
        cuts
    }

    /// The cut after the first `count` layers of the canonical order.
    #[must_use]
    pub fn prefix_cut(&self, count: usize) -> Option<Cut> {
        self.cut_after(&(0..count).collect::<Vec<_>>())
    }

    /// Cuts of several outlets: for each block between two single cuts, its down-sets in order of
    /// size, at most `per_block` of them and none wider than `max_width` outlets.
    ///
    /// A block of `b` layers can have 2^b down-sets; the bound keeps the whole at
    /// O(blocks · per_block · b (b + V + E)).
    #[must_use]
    pub fn multi_cuts(&self, per_block: usize, max_width: usize) -> Vec<Cut> {
        let mut ends = self.single_positions();
        ends.push(self.layers().len());
        let mut start = 0;
        let mut cuts = Vec::new();
        for end in ends {
            cuts.extend(self.block_cuts(start, end, per_block, max_width));
            start = end;
        }
        cuts
    }

    fn block_cuts(&self, start: usize, end: usize, limit: usize, max_width: usize) -> Vec<Cut> {
        let mut seen: BTreeSet<Vec<usize>> = BTreeSet::new();
        let mut queue = VecDeque::from([Vec::new()]);
        let mut cuts = Vec::new();
        while let Some(taken) = queue.pop_front() {
            for next in start..end {
                if seen.len() >= limit || taken.contains(&next) {
                    continue;
                }
                let is_ready = self.layers()[next].inputs.iter().all(|&input| {
                    self.outlet(input)
                        .producer
                        .is_none_or(|producer| producer < start || taken.contains(&producer))
                });
                if !is_ready {
                    continue;
                }
                let mut larger = taken.clone();
                larger.push(next);
                larger.sort_unstable();
                if larger.len() < end - start && seen.insert(larger.clone()) {
                    queue.push_back(larger);
                }
            }
        }
        for within in seen {
            let before: Vec<usize> = (0..start).chain(within).collect();
            if let Some(cut) = self.cut_after(&before)
                && 1 < cut.outlets.len()
                && cut.outlets.len() <= max_width
            {
                cuts.push(cut);
            }
        }
        cuts
    }
}

#[cfg(test)]
mod tests;
