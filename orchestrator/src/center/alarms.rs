//! One alarm clock for every request in flight.
//!
//! A heap of instants with one sleeping task, instead of one timer for each request: most alarms are
//! deadlines of requests that were answered long before, and ringing for those costs one look-up.

use std::{cmp::Reverse, collections::BinaryHeap};

use parking_lot::Mutex;
use splitplace_fleet::Timestamp;
use splitplace_lifecycle::RequestId;
use tokio::sync::Notify;

use super::clock::Clock;

/// Alarms that have not rung.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    heap: Mutex<BinaryHeap<Reverse<(Timestamp, RequestId)>>>,
    earlier: Notify,
}

impl Alarms {
    /// Sets an alarm. O(log n).
    pub(crate) fn set(&self, at: Timestamp, request: RequestId) {
        let is_earliest = {
            let mut heap = self.heap.lock();
            let is_earliest = heap.peek().is_none_or(|Reverse((first, _))| at < *first);
            heap.push(Reverse((at, request)));
            is_earliest
        };
        if is_earliest {
            self.earlier.notify_one();
        }
    }

    /// Sleeps until an alarm is due and takes out every one that is.
    pub(crate) async fn due(&self, clock: &Clock) -> Vec<RequestId> {
        loop {
            let next = {
                let mut heap = self.heap.lock();
                let now = clock.now();
                let mut due = Vec::new();
                while let Some(&Reverse((at, request))) = heap.peek() {
                    if at > now {
                        break;
                    }
                    heap.pop();
                    due.push(request);
                }
                if !due.is_empty() {
                    return due;
                }
                heap.peek().map(|Reverse((at, _))| *at)
            };
            match next {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(clock.instant(at)) => {}
                    () = self.earlier.notified() => {}
                },
                None => self.earlier.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn alarms_ring_in_order_and_an_earlier_one_interrupts_the_sleep() {
        let clock = Clock::start();
        let alarms = Arc::new(Alarms::default());
        alarms.set(clock.now() + Duration::from_secs(60), RequestId(1));
        let sleeper = tokio::spawn({
            let (alarms, clock) = (Arc::clone(&alarms), clock.clone());
            async move { (alarms.due(&clock).await, clock.now()) }
        });
        tokio::task::yield_now().await;
        let soon = clock.now() + Duration::from_secs(1);
        alarms.set(soon, RequestId(2));
        let (rung, at) = sleeper.await.unwrap();
        assert_eq!(rung, [RequestId(2)]);
        assert!(at >= soon && at < soon + Duration::from_secs(1));
        assert_eq!(alarms.due(&clock).await, [RequestId(1)]);
    }
}
