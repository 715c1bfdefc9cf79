//! An implicit heap of `D` children a node, ordered by (instant, sequence).

use splitplace_fleet::Timestamp;

use super::Queue;

/// See the module. O(log n) for both operations.
#[derive(Clone, Debug)]
pub struct Heap<E, const D: usize> {
    entries: Vec<(u128, E)>,
    next: u64,
    last: u64,
}

impl<E, const D: usize> Default for Heap<E, D> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            next: 0,
            last: 0,
        }
    }
}

impl<E, const D: usize> Queue<E> for Heap<E, D> {
    fn push(&mut self, at: Timestamp, event: E) {
        let at = at.as_nanos().max(self.last);
        self.entries
            .push((u128::from(at) << 64 | u128::from(self.next), event));
        self.next += 1;
        let mut child = self.entries.len() - 1;
        while 0 < child {
            let parent = (child - 1) / D;
            if self.entries[parent].0 <= self.entries[child].0 {
                break;
            }
            self.entries.swap(parent, child);
            child = parent;
        }
    }

    fn pop(&mut self) -> Option<(Timestamp, E)> {
        if self.entries.is_empty() {
            return None;
        }
        let (key, event) = self.entries.swap_remove(0);
        let (mut parent, len) = (0, self.entries.len());
        loop {
            let first = parent * D + 1;
            let children = first..(first + D).min(len);
            let Some(least) = children.min_by_key(|&child| self.entries[child].0) else {
                break;
            };
            if self.entries[parent].0 <= self.entries[least].0 {
                break;
            }
            self.entries.swap(parent, least);
            parent = least;
        }
        let at = (key >> 64) as u64;
        self.last = at;
        Some((Timestamp::from_nanos(at), event))
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}
