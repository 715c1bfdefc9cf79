//! A radix heap (Ahuja, Mehlhorn, Orlin, Tarjan 1990): a priority queue for times that never go back.
//!
//! An event lies in the bucket of the highest bit in which its instant differs from the last one taken
//! out; bucket 0 holds the present instant. Taking out from an empty bucket 0 spreads the first
//! bucket that is not empty over those below it. An event moves down at most 64 times, in practice by
//! about log2(its gap / the gap between events) times. Events of one instant are always in one bucket
//! and keep their order, so that ties need no sequence number.

use std::collections::VecDeque;

use splitplace_fleet::Timestamp;

use super::Queue;

const BUCKETS: usize = 65;

/// See the module.
#[derive(Clone, Debug)]
pub struct Radix<E> {
    /// Of the last event taken out.
    last: u64,
    /// The present instant's events.
    present: VecDeque<E>,
    /// `later[b]`: events whose instant differs from `last` in bit `b` and none above.
    later: Vec<Vec<(u64, E)>>,
    /// Bit `b` says that `later[b]` is not empty.
    filled: u64,
    len: usize,
}

impl<E> Default for Radix<E> {
    fn default() -> Self {
        Self {
            last: 0,
            present: VecDeque::new(),
            later: (1..BUCKETS).map(|_| Vec::new()).collect(),
            filled: 0,
            len: 0,
        }
    }
}

impl<E> Radix<E> {
    #[inline]
    fn put(&mut self, at: u64, event: E) {
        let differ = at ^ self.last;
        if differ == 0 {
            self.present.push_back(event);
            return;
        }
        let bucket = differ.ilog2();
        self.later[bucket as usize].push((at, event));
        self.filled |= 1 << bucket;
    }

    /// Moves the first bucket that is not empty down; the earliest instant becomes the present.
    fn advance(&mut self) {
        if self.filled == 0 {
            return;
        }
        let bucket = self.filled.trailing_zeros();
        self.filled &= !(1 << bucket);
        let mut moved = std::mem::take(&mut self.later[bucket as usize]);
        self.last = moved.iter().map(|(at, _)| *at).min().unwrap_or(self.last);
        for (at, event) in moved.drain(..) {
            self.put(at, event);
        }
        // The room is kept for the next time.
        self.later[bucket as usize] = moved;
    }
}

impl<E> Queue<E> for Radix<E> {
    #[inline]
    fn push(&mut self, at: Timestamp, event: E) {
        self.len += 1;
        self.put(at.as_nanos().max(self.last), event);
    }

    #[inline]
    fn pop(&mut self) -> Option<(Timestamp, E)> {
        if self.present.is_empty() {
            self.advance();
        }
        let event = self.present.pop_front()?;
        self.len -= 1;
        Some((Timestamp::from_nanos(self.last), event))
    }

    fn len(&self) -> usize {
        self.len
    }
}
