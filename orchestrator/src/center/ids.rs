//! Numbers for requests that never repeat, even over a kill.

use std::{ops::Range, sync::Arc};

use parking_lot::Mutex;
use splitplace_lifecycle::RequestId;

use crate::store::{Counter, Store, StoreError};

/// Numbers taken from the store at once: a restart skips at most this many.
const BLOCK: u64 = 1 << 20;

/// Hands out request numbers.
#[derive(Debug)]
pub(super) struct Ids {
    store: Arc<dyn Store>,
    free: Mutex<Range<u64>>,
}

impl Ids {
    pub(super) fn new(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let free = store.reserve(Counter::Request, BLOCK)?;
        Ok(Self {
            store,
            free: Mutex::new(free),
        })
    }

    /// The next number. Asks the disk once in a million times.
    pub(super) fn next(&self) -> Result<RequestId, StoreError> {
        let mut free = self.free.lock();
        if free.is_empty() {
            *free = self.store.reserve(Counter::Request, BLOCK)?;
        }
        let next = free.start;
        free.start += 1;
        Ok(RequestId(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, StoreLimits};

    #[test]
    fn a_restart_never_repeats_a_number() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(StoreLimits::default()));
        let first = Ids::new(Arc::clone(&store)).unwrap();
        let a = first.next().unwrap();
        let b = first.next().unwrap();
        assert!(a < b);
        drop(first);
        let second = Ids::new(store).unwrap();
        assert!(second.next().unwrap() > b);
    }
}
