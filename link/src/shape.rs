//! Emulated links: when a frame would leave and when it would arrive.

use std::time::Duration;

use splitplace_fleet::{Link, Timestamp};

/// How a link is slowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkShape {
    /// Bytes a second; infinite for no limit.
    pub rate_bytes_per_second: f64,
    /// One way.
    pub delay: Duration,
    /// Standard deviation of the delay; order is kept.
    pub jitter: Duration,
}

impl From<Link> for LinkShape {
    fn from(link: Link) -> Self {
        Self {
            rate_bytes_per_second: link.rate_bytes_per_second,
            delay: link.delay,
            jitter: link.jitter,
        }
    }
}

/// A link with frames on it: they leave one after another at its rate, and travel side by side.
#[derive(Clone, Debug)]
pub struct Shaper {
    shape: LinkShape,
    free: Timestamp,
    last: Timestamp,
}

impl Shaper {
    /// An idle link.
    #[must_use]
    pub const fn new(shape: LinkShape) -> Self {
        Self {
            shape,
            free: Timestamp::ZERO,
            last: Timestamp::ZERO,
        }
    }

    /// From now on the link is slowed so; frames on their way arrive as was said.
    pub const fn reshape(&mut self, shape: LinkShape) {
        self.shape = shape;
    }

    /// When a frame handed over at `now` begins to leave, and when it has arrived whole. `deviate` is
    /// a draw from the standard normal distribution.
    pub fn schedule(
        &mut self,
        now: Timestamp,
        bytes: usize,
        deviate: f64,
    ) -> (Timestamp, Timestamp) {
        let start = now.max(self.free);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a frame is far below 2^53 bytes"
        )]
        let seconds = bytes as f64 / self.shape.rate_bytes_per_second;
        self.free = start + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let jitter = deviate * self.shape.jitter.as_secs_f64();
        let delay = (self.shape.delay.as_secs_f64() + jitter).max(0.0);
        let arrival = self.free + Duration::try_from_secs_f64(delay).unwrap_or(Duration::MAX);
        self.last = self.last.max(arrival);
        (start, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn frames_queue_for_the_rate_and_overlap_in_the_delay() {
        let mut link = Shaper::new(LinkShape {
            rate_bytes_per_second: 1e6,
            delay: Duration::from_millis(50),
            jitter: Duration::ZERO,
        });
        assert_eq!(link.schedule(at(0), 10_000, 0.0), (at(0), at(60)));
        assert_eq!(link.schedule(at(1), 10_000, 0.0), (at(10), at(70)));
        assert_eq!(link.schedule(at(100), 1000, 0.0), (at(100), at(151)));
    }

    #[test]
    fn a_link_that_becomes_slower_keeps_its_order() {
        let shape = |rate: f64| LinkShape {
            rate_bytes_per_second: rate,
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
        };
        let mut link = Shaper::new(shape(1e6));
        assert_eq!(link.schedule(at(0), 10_000, 0.0), (at(0), at(15)));
        link.reshape(shape(1e5));
        assert_eq!(link.schedule(at(1), 10_000, 0.0), (at(10), at(115)));
        link.reshape(shape(1e6));
        assert_eq!(link.schedule(at(2), 10_000, 0.0), (at(110), at(125)));
    }

    #[test]
    fn jitter_does_not_reorder() {
        let mut link = Shaper::new(LinkShape {
            rate_bytes_per_second: f64::INFINITY,
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(5),
        });
        let (_, first) = link.schedule(at(0), 1, 2.0);
        let (_, second) = link.schedule(at(1), 1, -2.0);
        assert_eq!(first, at(20));
        assert_eq!(second, first);
    }
}
