//! Queues and threads: what waits is ordered by deadline, and computed off the runtime.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    sync::{Arc, atomic},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use splitplace_link::Frame;

use crate::{fragments::Loaded, routes::Way};

/// A frame that waits for a thread.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) frame: Frame,
    pub(crate) fragment: Arc<Loaded>,
    /// The frame's route, as it was when it arrived.
    pub(crate) way: Arc<Way>,
    pub(crate) arrived: Instant,
    pub(crate) deadline: Instant,
    pub(crate) expiry: Instant,
    pub(crate) transfer_us: i64,
}

struct Entry {
    item: Item,
    /// Among equal deadlines, first come first served.
    number: u64,
}

impl Entry {
    fn key(&self) -> (Instant, u64) {
        (self.item.deadline, self.number)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The heap gives out the largest: the earliest deadline.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

#[derive(Default)]
struct Inner {
    heap: BinaryHeap<Entry>,
    next: u64,
    running: usize,
    is_closed: bool,
}

impl Inner {
    fn is_idle(&self) -> bool {
        self.running == 0 && self.heap.is_empty()
    }
}

/// What waits on one node.
#[derive(Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    more: Condvar,
    rest: Condvar,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue of {}", self.inner.lock().heap.len())
    }
}

impl Queue {
    /// Takes a frame in, or hands it back when its fragment's queue is at its bound. O(log n).
    pub(crate) fn push(&self, item: Item) -> Result<(), Box<Item>> {
        let fragment = &item.fragment;
        let waiting = fragment.queued.fetch_add(1, atomic::Ordering::Relaxed);
        if fragment.queue_limit <= waiting {
            fragment.queued.fetch_sub(1, atomic::Ordering::Relaxed);
            return Err(Box::new(item));
        }
        {
            let mut inner = self.inner.lock();
            let number = inner.next;
            inner.next += 1;
            inner.heap.push(Entry { item, number });
        }
        self.more.notify_one();
        Ok(())
    }

    /// The frame with the earliest deadline; waits for one. `None` when the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<Item> {
        let mut inner = self.inner.lock();
        loop {
            if let Some(entry) = inner.heap.pop() {
                inner.running += 1;
                entry
                    .item
                    .fragment
                    .queued
                    .fetch_sub(1, atomic::Ordering::Relaxed);
                return Some(entry.item);
            }
            if inner.is_closed {
                return None;
            }
            self.more.wait(&mut inner);
        }
    }

    /// A popped frame is done with.
    pub(crate) fn done(&self) {
        let mut inner = self.inner.lock();
        inner.running -= 1;
        if inner.is_idle() {
            self.rest.notify_all();
        }
    }

    /// Waits until nothing waits or runs, at most this long. Blocks.
    pub(crate) fn wait_for_rest(&self, most: Duration) -> bool {
        let until = Instant::now() + most;
        let mut inner = self.inner.lock();
        while !inner.is_idle() {
            if self.rest.wait_until(&mut inner, until).timed_out() {
                return false;
            }
        }
        true
    }

    /// Frames that wait.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().heap.len()
    }

    /// Frames that are computed now.
    pub(crate) fn running(&self) -> usize {
        self.inner.lock().running
    }

    /// Whether nothing waits and nothing is computed.
    pub(crate) fn is_idle(&self) -> bool {
        self.inner.lock().is_idle()
    }

    /// Lets the threads end once the queue is empty.
    pub(crate) fn close(&self) {
        self.inner.lock().is_closed = true;
        self.more.notify_all();
    }
}
