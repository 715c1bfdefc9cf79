//! The daemon's clock: the only place where instants of the brain are made.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use splitplace_fleet::Timestamp;
use tokio::time::Instant;

/// Time since the daemon started.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts at zero, now.
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.origin.elapsed()
    }

    /// The instant at which `at` is reached.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        // A deadline beyond what the platform can represent is as good as a century.
        let century = Duration::from_secs(100 * 365 * 86_400);
        self.origin + at.since(Timestamp::ZERO).min(century)
    }
}

/// Microseconds since the Unix epoch, for stamps that other machines read.
pub(crate) fn unix_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}
