//! Maximum flow by Dinic's algorithm, over whole picoseconds, so that it ends and is the same everywhere.

/// Capacity that no cut may contain.
const NEVER: u64 = u64::MAX / 4;
/// Units in one: sums of a thousand terms stay below [`NEVER`] up to some hours.
const UNITS: f64 = 1e12;

/// A network of arcs, made for one flow.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// By place: numbers of the arcs that leave it.
    leave: Vec<Vec<usize>>,
    /// Arcs in pairs: number `2 i + 1` is the way back of `2 i`.
    to: Vec<usize>,
    room: Vec<u64>,
}

impl Flow {
    /// So many places without arcs.
    pub(super) fn new(places: usize) -> Self {
        Self {
            leave: vec![Vec::new(); places],
            to: Vec::new(),
            room: Vec::new(),
        }
    }

    /// An arc; infinite and beyond count as never to be cut.
    pub(super) fn arc(&mut self, from: usize, to: usize, capacity: f64) {
        let units = capacity * UNITS;
        let room = match units {
            units if units < NEVER as f64 / 1024.0 => units.max(0.0).round() as u64,
            // A finite price beyond all others' sum is not never, but dear.
            units if units.is_finite() => NEVER / 1024,
            _ => NEVER,
        };
        for (from, to, room) in [(from, to, room), (to, from, 0)] {
            self.leave[from].push(self.to.len());
            self.to.push(to);
            self.room.push(room);
        }
    }

    /// The places on the source's side of the least cut, the fewest there can be. O(V² E).
    pub(super) fn near(mut self, source: usize, sink: usize) -> Vec<bool> {
        let mut level = self.levels(source);
        while level[sink].is_some() {
            let mut next = vec![0; self.leave.len()];
            while self.push(source, sink, &level, &mut next) > 0 {}
            level = self.levels(source);
        }
        level.iter().map(Option::is_some).collect()
    }

    /// Steps from the source over arcs with room.
    fn levels(&self, source: usize) -> Vec<Option<usize>> {
        let mut level = vec![None; self.leave.len()];
        level[source] = Some(0);
        let mut queue = vec![source];
        let mut at = 0;
        while at < queue.len() {
            let place = queue[at];
            at += 1;
            for &arc in &self.leave[place] {
                let to = self.to[arc];
                if self.room[arc] > 0 && level[to].is_none() {
                    level[to] = level[place].map(|steps: usize| steps + 1);
                    queue.push(to);
                }
            }
        }
        level
    }

    /// Sends what fits along one shortest path; 0 when there is none left. Without recursion: paths are as long as
    /// networks are deep.
    fn push(
        &mut self,
        source: usize,
        sink: usize,
        level: &[Option<usize>],
        next: &mut [usize],
    ) -> u64 {
        let mut path: Vec<usize> = Vec::new();
        let mut place = source;
        while place != sink {
            let Some(&arc) = self.leave[place].get(next[place]) else {
                // A dead end: one step back, and never here again.
                let Some(last) = path.pop() else {
                    return 0;
                };
                place = self.to[last ^ 1];
                next[place] += 1;
                continue;
            };
            let to = self.to[arc];
            let is_on = self.room[arc] > 0 && level[to] == level[place].map(|steps| steps + 1);
            if is_on {
                path.push(arc);
                place = to;
            } else {
                next[place] += 1;
            }
        }
        let most = path.iter().map(|&arc| self.room[arc]).min().unwrap_or(0);
        for arc in path {
            self.room[arc] -= most;
            self.room[arc ^ 1] += most;
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_cut_of_a_small_network_is_found() {
        // Two paths of 3 and 2 that cross: 0 is the source, 3 the sink.
        let mut flow = Flow::new(4);
        for (from, to, capacity) in [
            (0, 1, 3.0),
            (0, 2, 2.0),
            (1, 2, 1.0),
            (1, 3, 1.0),
            (2, 3, 4.0),
        ] {
            flow.arc(from, to, capacity);
        }
        // 0→1 has room for one more than leaves 1.
        assert_eq!(flow.near(0, 3), [true, true, false, false]);
    }

    #[test]
    fn what_may_never_be_cut_is_not() {
        let mut flow = Flow::new(3);
        flow.arc(0, 1, f64::INFINITY);
        flow.arc(1, 2, 5.0);
        assert_eq!(flow.near(0, 2), [true, true, false]);
    }
}
