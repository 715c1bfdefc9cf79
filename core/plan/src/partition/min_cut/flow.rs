//! Maximum flow by Dinic's algorithm, over whole picoseconds, so that it ends and is the same everywhere.

/// Capacity that no cut may contain.
const NEVER: u64 = u64::MAX / 4;
/// Units in one: sums of a thousand terms stay below [`NEVER`] up to some hours.
const UNITS: f64 = 1e12;

/// A network of arcs, for one flow after another.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// Numbers of the arcs that leave each place, one place after the other.
    leave: Vec<usize>,
    /// By place: where its own begin among them; one more for the end.
    begin: Vec<usize>,
    /// Arcs in pairs: number `2 i + 1` is the way back of `2 i`.
    to: Vec<usize>,
    room: Vec<u64>,
    /// Steps from the source over arcs with room; [`usize::MAX`] where none leads.
    level: Vec<usize>,
}

impl Flow {
    /// So many places with these arcs, from where to where.
    pub(super) fn new(places: usize, arcs: &[(usize, usize)]) -> Self {
        let to: Vec<usize> = arcs.iter().flat_map(|&(from, to)| [to, from]).collect();
        let mut begin = vec![0; places + 1];
        for number in 0..to.len() {
            begin[to[number ^ 1] + 1] += 1;
        }
        for place in 0..places {
            begin[place + 1] += begin[place];
        }
        let mut leave = vec![0; to.len()];
        let mut next = begin.clone();
        for number in 0..to.len() {
            let slot = &mut next[to[number ^ 1]];
            leave[*slot] = number;
            *slot += 1;
        }
        Self {
            leave,
            begin,
            room: vec![0; to.len()],
            to,
            level: vec![usize::MAX; places],
        }
    }

    /// The places on the source's side of the least cut, the fewest there can be, when arcs have these capacities;
    /// infinite ones are never cut. O(V² E).
    pub(super) fn near(
        &mut self,
        source: usize,
        sink: usize,
        capacities: impl Iterator<Item = f64>,
    ) -> impl Fn(usize) -> bool {
        for (pair, capacity) in self.room.chunks_exact_mut(2).zip(capacities) {
            pair.copy_from_slice(&[units(capacity), 0]);
        }
        self.levels(source);
        let mut next = vec![0; self.begin.len()];
        while self.level[sink] != usize::MAX {
            next.copy_from_slice(&self.begin);
            self.block(source, sink, &mut next);
            self.levels(source);
        }
        |place| self.level[place] != usize::MAX
    }

    fn levels(&mut self, source: usize) {
        self.level.fill(usize::MAX);
        self.level[source] = 0;
        let mut queue = vec![source];
        let mut at = 0;
        while at < queue.len() {
            let place = queue[at];
            at += 1;
            for &arc in &self.leave[self.begin[place]..self.begin[place + 1]] {
                let to = self.to[arc];
                if self.room[arc] > 0 && self.level[to] == usize::MAX {
                    self.level[to] = self.level[place] + 1;
                    queue.push(to);
                }
            }
        }
    }

    /// Sends what fits along shortest paths until none is left; `next` is the next arc to try of each place. Without
    /// recursion: paths are as long as networks are deep.
    fn block(&mut self, source: usize, sink: usize, next: &mut [usize]) {
        let mut path: Vec<usize> = Vec::new();
        let mut place = source;
        loop {
            if place == sink {
                let most = path.iter().map(|&arc| self.room[arc]).min().unwrap_or(0);
                for &arc in &path {
                    self.room[arc] -= most;
                    self.room[arc ^ 1] += most;
                }
                // On from where the first arc is full now.
                let full = path.iter().position(|&arc| self.room[arc] == 0);
                let full = full.unwrap_or(0);
                place = path.get(full).map_or(source, |&arc| self.to[arc ^ 1]);
                path.truncate(full);
            } else if next[place] == self.begin[place + 1] {
                // A dead end: one step back, and never here again.
                let Some(last) = path.pop() else {
                    return;
                };
                place = self.to[last ^ 1];
                next[place] += 1;
            } else {
                let arc = self.leave[next[place]];
                let to = self.to[arc];
                if self.room[arc] > 0 && self.level[to] == self.level[place] + 1 {
                    path.push(arc);
                    place = to;
                } else {
                    next[place] += 1;
                }
            }
        }
    }
}

fn units(capacity: f64) -> u64 {
    match capacity * UNITS {
        units if units < NEVER as f64 / 1024.0 => units.max(0.0).round() as u64,
        // A finite price beyond all others' sum is not never, but dear.
        units if units.is_finite() => NEVER / 1024,
        _ => NEVER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_cut_of_a_small_network_is_found_for_one_set_of_capacities_after_another() {
        // Two paths of 3 and 2 that cross: 0 is the source, 3 the sink.
        let arcs = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)];
        let mut flow = Flow::new(4, &arcs);
        let mut near = |capacities: [f64; 5]| -> Vec<bool> {
            let is_near = flow.near(0, 3, capacities.into_iter());
            (0..4).map(is_near).collect()
        };
        // 0→1 has room for one more than leaves 1.
        assert_eq!(near([3.0, 2.0, 1.0, 1.0, 4.0]), [true, true, false, false]);
        assert_eq!(near([1.0, 1.0, 9.0, 9.0, 9.0]), [true, false, false, false]);
        assert_eq!(near([3.0, 2.0, 1.0, 1.0, 4.0]), [true, true, false, false]);
    }

    #[test]
    fn what_may_never_be_cut_is_not() {
        let mut flow = Flow::new(3, &[(0, 1), (1, 2)]);
        let is_near = flow.near(0, 2, [f64::INFINITY, 5.0].into_iter());
        assert_eq!([0, 1, 2].map(is_near), [true, true, false]);
    }
}
