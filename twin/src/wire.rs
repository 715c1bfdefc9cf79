//! Links: messages leave one after another at the link's rate and travel side by side.
//!
//! The arithmetic is that of the emulated links of the live system (`link/src/shape.rs`), in whole
//! nanoseconds. A wire that several ways share is a shared uplink.

use splitplace_fleet::{Link, Timestamp};

use crate::law::nanos;

/// A directed link with messages on it. 32 bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Wire {
    rate_bytes_per_second: f64,
    delay_seconds: f64,
    jitter_seconds: f64,
    free: u64,
    last: u64,
}

impl Wire {
    /// An idle link.
    #[must_use]
    pub const fn new(link: &Link) -> Self {
        Self {
            rate_bytes_per_second: link.rate_bytes_per_second,
            delay_seconds: link.delay.as_secs_f64(),
            jitter_seconds: link.jitter.as_secs_f64(),
            free: 0,
            last: 0,
        }
    }

    /// From now on it is like `link`; what is on it arrives as it would have.
    pub const fn reshape(&mut self, link: &Link) {
        self.rate_bytes_per_second = link.rate_bytes_per_second;
        self.delay_seconds = link.delay.as_secs_f64();
        self.jitter_seconds = link.jitter.as_secs_f64();
    }

    /// Whether arrivals depend on a deviate.
    #[must_use]
    pub const fn has_jitter(&self) -> bool {
        0.0 < self.jitter_seconds
    }

    /// When a message handed over at `now` has arrived whole. `deviate` is a draw from the standard
    /// normal law. Messages never overtake.
    pub fn send(&mut self, now: Timestamp, bytes: u64, deviate: f64) -> Timestamp {
        let start = now.as_nanos().max(self.free);
        let seconds = bytes as f64 / self.rate_bytes_per_second;
        self.free = start.saturating_add(nanos(seconds));
        let delay = nanos(self.delay_seconds + deviate * self.jitter_seconds);
        self.last = self.last.max(self.free.saturating_add(delay));
        Timestamp::from_nanos(self.last)
    }

    /// How long a message handed over now would wait before it begins to leave.
    #[must_use]
    pub const fn backlog_nanos(&self, now: Timestamp) -> u64 {
        self.free.saturating_sub(now.as_nanos())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    /// The cases of `link/src/shape.rs`: both must say the same.
    #[test]
    fn messages_queue_for_the_rate_and_overlap_in_the_delay() {
        let mut wire = Wire::new(&Link {
            rate_bytes_per_second: 1e6,
            delay: Duration::from_millis(50),
            jitter: Duration::ZERO,
        });
        assert_eq!(wire.send(at(0), 10_000, 0.0), at(60));
        assert_eq!(wire.backlog_nanos(at(1)), 9_000_000);
        assert_eq!(wire.send(at(1), 10_000, 0.0), at(70));
        assert_eq!(wire.send(at(100), 1000, 0.0), at(151));
    }

    #[test]
    fn jitter_does_not_reorder_and_nothing_arrives_before_it_leaves() {
        let mut wire = Wire::new(&Link {
            rate_bytes_per_second: f64::INFINITY,
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(5),
        });
        assert_eq!(wire.send(at(0), 1, 2.0), at(20));
        assert_eq!(wire.send(at(1), 1, -2.0), at(20));
        assert_eq!(wire.send(at(30), 1, -9.0), at(30));
    }
}
