//! The graph as a sequence of segments: what a layer-wise split chooses from.

use std::{collections::BTreeSet, ops::Range};

use crate::graph::{Graph, OutletId};

/// Most tensors that cross a boundary where one alone does not do.
const WIDE: usize = 4;
/// Share of the work between two cuts of one tensor above which it is looked for cuts of several.
const GAP: f64 = 1.0 / 3.0;

/// What crosses between two segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// Number of layers of the canonical order before it.
    pub position: usize,
    /// What later layers need.
    pub outlets: Vec<OutletId>,
    /// Finished outputs on their way to whoever answers.
    pub carried: Vec<OutletId>,
    /// Bytes of one sample of both.
    pub bytes: u64,
}

/// The layers between two neighbouring boundaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Positions of its layers in the canonical order.
    pub layers: Range<usize>,
    /// Multiply-accumulates for one sample.
    pub macs: u64,
    /// Bytes of its weights.
    pub parameter_bytes: u64,
    /// Largest number of bytes live at once while it runs, weights not counted.
    pub activation_bytes: u64,
}

/// Segments and the boundaries around them: `boundaries.len() == segments.len() + 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// From the inputs (0) to the outputs (last).
    pub boundaries: Vec<Boundary>,
    /// `segments[i]` lies between `boundaries[i]` and `boundaries[i + 1]`.
    pub segments: Vec<Segment>,
}

impl Chain {
    /// Number of segments.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether there is nothing to split.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Positions of the layers that a range of segments covers.
    #[must_use]
    pub fn layers(&self, segments: Range<usize>) -> Range<usize> {
        self.boundaries[segments.start].position..self.boundaries[segments.end].position
    }

    /// The same chain with at most `most` segments: boundaries are dropped one at a time, the dearest
    /// first, where dear is bytes on the link and, among equals, an uneven share of the work.
    ///
    /// O(n²) for n segments.
    #[must_use]
    pub fn coarsen(&self, graph: &Graph, most: usize) -> Self {
        self.coarsen_but(graph, most, &BTreeSet::new())
    }

    /// The same, with the boundaries at these positions kept, even if that leaves more segments.
    #[must_use]
    pub fn coarsen_but(&self, graph: &Graph, most: usize, keep: &BTreeSet<usize>) -> Self {
        let most = most.max(1);
        let mut kept: Vec<usize> = (0..self.boundaries.len()).collect();
        while kept.len() > most + 1 {
            let drop = (1..kept.len() - 1)
                .filter(|&place| !keep.contains(&self.boundaries[kept[place]].position))
                .max_by_key(|&place| {
                    let work = graph.macs(
                        self.boundaries[kept[place - 1]].position
                            ..self.boundaries[kept[place + 1]].position,
                    );
                    // A merger that stays small is preferred: less resolution is lost.
                    (self.boundaries[kept[place]].bytes, u64::MAX - work)
                });
            let Some(drop) = drop else {
                break;
            };
            kept.remove(drop);
        }
        let positions: Vec<usize> = kept.iter().map(|&k| self.boundaries[k].position).collect();
        graph.chain_at(&positions)
    }

    /// The inner boundaries of a split into `parts` whose dearest part has the fewest multiply-accumulates;
    /// among such splits one with the fewest bytes crossing. `allowed` says of an inner boundary (by its
    /// number) whether it may be used. `None` when too few may.
    ///
    /// O(parts · n²) for n segments.
    #[must_use]
    pub fn balanced(&self, parts: usize, allowed: impl Fn(usize) -> bool) -> Option<Vec<usize>> {
        let count = self.segments.len();
        if parts == 0 || parts > count {
            return None;
        }
        let mut before = vec![0u64; count + 1];
        for (at, segment) in self.segments.iter().enumerate() {
            before[at + 1] = before[at].saturating_add(segment.macs);
        }
        // best[end]: cost of the first `end` segments in so many parts, and where the last part begins.
        let mut best: Vec<Option<(u64, u64)>> = vec![None; count + 1];
        best[0] = Some((0, 0));
        let mut begins: Vec<Vec<usize>> = Vec::with_capacity(parts);
        for part in 1..=parts {
            let mut next = vec![None; count + 1];
            let mut begin = vec![0; count + 1];
            for end in part..=count {
                if end < count && !allowed(end) {
                    continue;
                }
                for start in part - 1..end {
                    let Some((most, bytes)) = best[start] else {
                        continue;
                    };
                    let crossing = if start == 0 {
                        0
                    } else {
                        self.boundaries[start].bytes
                    };
                    let cost = (
                        most.max(before[end] - before[start]),
                        bytes.saturating_add(crossing),
                    );
                    if next[end].is_none_or(|known| cost < known) {
                        next[end] = Some(cost);
                        begin[end] = start;
                    }
                }
            }
            best = next;
            begins.push(begin);
        }
        best[count]?;
        let mut cuts = Vec::with_capacity(parts - 1);
        let mut end = count;
        for begin in begins.iter().rev() {
            end = begin[end];
            cuts.push(end);
        }
        cuts.pop();
        cuts.reverse();
        Some(cuts)
    }
}

impl Graph {
    /// The chain over every cut of one outlet. O(cuts (V + E)).
    #[must_use]
    pub fn chain(&self) -> Chain {
        let mut positions = vec![0];
        positions.extend(self.single_positions());
        positions.push(self.layers().len());
        self.chain_at(&positions)
    }

    /// The chain over every cut of one outlet, and where more than a third of the work lies between two of these (long
    /// skips, as of a U-Net; wide modules) over the cuts of up to four in the canonical order too. The others need not be
    /// looked at: a cut of several inside a short block carries more than the one before the block and saves little work.
    /// O(cuts (V + E)).
    #[must_use]
    pub fn chain_with_wide_cuts(&self) -> Chain {
        let last = self.layers().len();
        let singles: Vec<usize> = [0]
            .into_iter()
            .chain(self.single_positions())
            .chain([last])
            .collect();
        let widths = self.widths();
        #[expect(clippy::cast_precision_loss, reason = "a share of the work")]
        let share =
            |layers: Range<usize>| self.macs(layers) as f64 / self.macs(0..last).max(1) as f64;
        let mut positions = vec![0];
        for pair in singles.windows(2) {
            if GAP < share(pair[0]..pair[1]) {
                let inside = pair[0] + 1..pair[1];
                positions.extend(inside.filter(|&position| (2..=WIDE).contains(&widths[position])));
            }
            positions.push(pair[1]);
        }
        positions.dedup();
        self.chain_at(&positions)
    }

    /// What a layer-wise split of this graph chooses from: at most `most` segments over the cuts of
    /// [`Graph::chain_with_wide_cuts`], but always a boundary right behind each of `exits`, so that what lies behind an
    /// exit need not run. The boundaries behind the exits are told by their numbers. O(n²) for n segments.
    #[must_use]
    pub fn chain_with_exits(&self, most: usize, exits: &[OutletId]) -> (Chain, Vec<usize>) {
        let fine = self.chain_with_wide_cuts();
        let behind = |exit: &OutletId| {
            let made = self
                .outlet(*exit)
                .producer
                .map_or(0, |producer| producer + 1);
            let boundaries = fine.boundaries.iter().map(|boundary| boundary.position);
            boundaries.into_iter().find(|&position| made <= position)
        };
        let positions: Vec<usize> = exits.iter().filter_map(behind).collect();
        let chain = fine.coarsen_but(self, most, &positions.iter().copied().collect());
        let number = |position: &usize| {
            let boundaries = &chain.boundaries;
            boundaries.partition_point(|boundary| boundary.position < *position)
        };
        let numbers = positions.iter().map(number).collect();
        (chain, numbers)
    }

    /// The chain with boundaries after these numbers of layers, ascending from 0 to all of them.
    #[must_use]
    pub fn chain_at(&self, positions: &[usize]) -> Chain {
        let last = self.layers().len();
        let boundaries: Vec<Boundary> = positions
            .iter()
            .filter_map(|&position| {
                let cut = self.prefix_cut(position)?;
                let bytes = cut.bytes(self);
                let (outlets, carried) = if position == last {
                    (self.outputs().to_vec(), Vec::new())
                } else {
                    (cut.outlets, cut.carried)
                };
                Some(Boundary {
                    position,
                    outlets,
                    carried,
                    bytes,
                })
            })
            .collect();
        let peaks = self.live_bytes();
        let segments = boundaries
            .windows(2)
            .map(|pair| {
                let layers = pair[0].position..pair[1].position;
                Segment {
                    macs: self.macs(layers.clone()),
                    parameter_bytes: self.parameter_bytes(layers.clone()),
                    activation_bytes: peaks[layers.clone()].iter().copied().max().unwrap_or(0),
                    layers,
                }
            })
            .collect();
        Chain {
            boundaries,
            segments,
        }
    }

    /// Bytes live while each layer runs, in canonical order. O(V + E).
    fn live_bytes(&self) -> Vec<u64> {
        let count = self.layers().len();
        let mut change = vec![0i128; count + 1];
        for (number, outlet) in self.outlets().iter().enumerate() {
            let from = match outlet.producer {
                Some(producer) => producer,
                None if self.inputs().contains(&OutletId(number)) => 0,
                None => continue,
            };
            let until = outlet.consumers.last().copied().unwrap_or(from) + 1;
            if from < count {
                change[from] += i128::from(outlet.bytes);
                change[until.min(count)] -= i128::from(outlet.bytes);
            }
        }
        let mut live = 0;
        change[..count]
            .iter()
            .map(|step| {
                live += step;
                u64::try_from(live).unwrap_or(u64::MAX)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Element, LayerSpec, OutletSpec};

    use super::*;

    /// A line of layers with these costs; tensor `i` has `bytes[i]` bytes.
    fn line(macs: &[u64], bytes: &[u64]) -> Chain {
        let name = |at: usize| format!("t{at}");
        let outlets = bytes.iter().enumerate().map(|(at, &bytes)| OutletSpec {
            name: name(at),
            element: Element::U8,
            shape: vec![bytes],
        });
        let layers = macs.iter().enumerate().map(|(at, &macs)| LayerSpec {
            name: format!("l{at}"),
            operator: "Any".into(),
            macs,
            parameter_bytes: 0,
            inputs: vec![name(at)],
            outputs: vec![name(at + 1)],
        });
        let outputs = [name(macs.len())];
        let graph = Graph::new(outlets.collect(), &[name(0)], &outputs, layers.collect());
        graph.expect("a line").chain()
    }

    /// A contracting half, an expanding one, and tensors that skip from each level to its mirror: `x` crosses alone only at
    /// the ends.
    fn skips(levels: usize) -> Graph {
        let outlet = |name: String, bytes: u64| OutletSpec {
            name,
            element: Element::U8,
            shape: vec![bytes],
        };
        let size = |level: usize| 1u64 << (20 - 2 * level);
        let mut outlets = vec![outlet("x".into(), 64)];
        let mut layers = Vec::new();
        let mut add = |name: String, inputs: Vec<String>, bytes: u64| {
            outlets.push(outlet(name.clone(), bytes));
            layers.push(LayerSpec {
                name: format!("make {name}"),
                operator: "Any".into(),
                macs: 1000,
                parameter_bytes: 10,
                inputs,
                outputs: vec![name],
            });
        };
        let mut before = "x".to_owned();
        for level in 0..levels {
            add(format!("d{level}"), vec![before], size(level));
            before = format!("d{level}");
        }
        for level in (0..levels - 1).rev() {
            add(
                format!("u{level}"),
                vec![before, format!("d{level}")],
                size(level),
            );
            before = format!("u{level}");
        }
        Graph::new(outlets, &["x".into()], &[before], layers).expect("a graph")
    }

    #[test]
    fn where_no_tensor_alone_connects_cuts_of_several_are_taken() {
        let graph = skips(4);
        // One tensor alone: behind the first level, where its skip is all there is, and at no place further on.
        assert_eq!(graph.chain().len(), 2);
        let (chain, _) = graph.chain_with_exits(24, &[]);
        let widths: Vec<usize> = chain.boundaries.iter().map(|b| b.outlets.len()).collect();
        assert_eq!(widths, [1, 1, 2, 3, 4, 3, 2, 1]);
        for boundary in &chain.boundaries[1..chain.len()] {
            let cut = graph.prefix_cut(boundary.position).expect("a cut");
            assert_eq!(boundary.outlets, cut.outlets);
            assert_eq!(boundary.bytes, cut.bytes(&graph));
        }
        // Where there are too many, the dearest go.
        let (chain, _) = graph.chain_with_exits(3, &[]);
        assert_eq!(chain.len(), 3);
        assert!(chain.boundaries[1].bytes <= chain.boundaries[2].bytes);
        // Five levels need five tensors in the middle, which is too many; the rest is cut.
        let (chain, _) = skips(5).chain_with_exits(24, &[]);
        assert!(chain.boundaries.iter().all(|b| b.outlets.len() <= WIDE));
        assert!(chain.len() > 2);
    }

    #[test]
    fn a_line_of_single_cuts_is_not_cut_elsewhere() {
        let macs = [10, 10, 10, 10, 10, 10];
        let line = line(&macs, &[8; 7]);
        assert!(
            line.boundaries
                .iter()
                .all(|boundary| boundary.outlets.len() == 1)
        );
        assert_eq!(line.len(), macs.len());
    }

    /// Every choice of boundaries, tried one after another.
    fn slow(chain: &Chain, parts: usize) -> Option<(u64, u64)> {
        let count = chain.len();
        (0u32..1 << (count - 1))
            .filter(|mask| mask.count_ones() as usize == parts - 1)
            .map(|mask| {
                let mut ends: Vec<usize> =
                    (1..count).filter(|at| mask >> (at - 1) & 1 == 1).collect();
                ends.push(count);
                cost(chain, &ends)
            })
            .min()
    }

    fn cost(chain: &Chain, ends: &[usize]) -> (u64, u64) {
        let (mut most, mut bytes, mut start) = (0, 0, 0);
        for &end in ends {
            most = most.max(chain.segments[start..end].iter().map(|s| s.macs).sum());
            if end < chain.len() {
                bytes += chain.boundaries[end].bytes;
            }
            start = end;
        }
        (most, bytes)
    }

    /// Three stages; after the first two a head whose output nobody consumes.
    fn with_exits() -> Graph {
        let outlets = ["in", "a", "h1", "e1", "b", "e2", "out"].map(|name| OutletSpec {
            name: name.into(),
            element: Element::U8,
            shape: vec![if name.starts_with('e') { 1 } else { 100 }],
        });
        let layer = |input: &str, output: &str| LayerSpec {
            name: format!("to {output}"),
            operator: "Any".into(),
            macs: 10,
            parameter_bytes: 1,
            inputs: vec![input.into()],
            outputs: vec![output.into()],
        };
        let layers = [
            ("in", "a"),
            ("a", "h1"),
            ("h1", "e1"),
            ("a", "b"),
            ("b", "e2"),
            ("b", "out"),
        ];
        let layers = layers.map(|(input, output)| layer(input, output));
        let outputs = ["e1", "e2", "out"].map(String::from);
        Graph::new(outlets.into(), &["in".into()], &outputs, layers.into()).expect("a graph")
    }

    #[test]
    fn a_boundary_lies_right_behind_each_exit() {
        let graph = with_exits();
        let exits = ["e1", "e2"].map(|name| graph.find(name).expect("it is there"));
        // One segment would do, but the exits keep their boundaries.
        let (chain, behind) = graph.chain_with_exits(1, &exits);
        assert_eq!(behind, [1, 2]);
        assert_eq!(chain.len(), 3);
        for (number, exit) in behind.iter().zip(exits) {
            let boundary = &chain.boundaries[*number];
            assert!(boundary.carried.contains(&exit));
            assert_eq!(boundary.outlets.len(), 1, "the trunk alone goes on");
        }
        assert_eq!(
            chain.segments.iter().map(|s| s.macs).collect::<Vec<_>>(),
            [30, 20, 10]
        );
        assert_eq!(graph.chain_with_exits(24, &[]).0, graph.chain());
    }

    #[test]
    fn balanced_splits_are_the_best_of_all() {
        let macs = [5, 1, 9, 2, 2, 7, 3, 4, 1];
        let bytes = [1, 50, 3, 9, 9, 40, 2, 8, 8, 1];
        let chain = line(&macs, &bytes);
        for parts in 1..=macs.len() {
            let mut ends = chain.balanced(parts, |_| true).expect("there are enough");
            assert_eq!(ends.len(), parts - 1);
            ends.push(chain.len());
            assert_eq!(
                Some(cost(&chain, &ends)),
                slow(&chain, parts),
                "{parts} parts"
            );
        }
        assert_eq!(chain.balanced(macs.len() + 1, |_| true), None);
        assert_eq!(chain.balanced(0, |_| true), None);
        assert_eq!(chain.balanced(3, |at| at == 4), None);
        assert_eq!(chain.balanced(2, |at| at == 4), Some(vec![4]));
    }
}
