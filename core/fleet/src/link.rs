//! Links: what it costs to carry bytes from one place to another.

use std::{collections::BTreeMap, time::Duration};

use crate::NodeId;

/// One end of a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The orchestrator, where requests arrive and answers leave.
    Center,
    /// A node.
    Node(NodeId),
}

impl From<&NodeId> for Place {
    fn from(node: &NodeId) -> Self {
        Self::Node(node.clone())
    }
}

/// A directed link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Bytes a second; infinite when nothing limits it.
    pub rate_bytes_per_second: f64,
    /// One-way delay of an empty message.
    pub delay: Duration,
    /// Standard deviation of the delay.
    pub jitter: Duration,
}

impl Link {
    /// A link within one machine: no rate limit, and the delay of one message through two sockets.
    pub const LOCAL: Self = Self {
        rate_bytes_per_second: f64::INFINITY,
        delay: Duration::from_micros(100),
        jitter: Duration::ZERO,
    };

    /// Expected time for a message of `bytes` to arrive whole: delay plus bytes over rate.
    #[must_use]
    pub fn transfer(&self, bytes: u64) -> Duration {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a tensor is far below 2^53 bytes"
        )]
        let serialisation = bytes as f64 / self.rate_bytes_per_second;
        self.delay + Duration::try_from_secs_f64(serialisation).unwrap_or(Duration::MAX / 4)
    }
}

/// Every directed link of the fleet: the exceptions, and one default for the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Links {
    default: Link,
    known: BTreeMap<(Place, Place), Link>,
}

impl Default for Links {
    fn default() -> Self {
        Self::new(Link::LOCAL)
    }
}

impl Links {
    /// All links alike.
    #[must_use]
    pub const fn new(default: Link) -> Self {
        Self {
            default,
            known: BTreeMap::new(),
        }
    }

    /// States what the link from `from` to `to` is like.
    pub fn set(&mut self, from: Place, to: Place, link: Link) {
        self.known.insert((from, to), link);
    }

    /// The link from `from` to `to`. A place reaches itself for nothing.
    #[must_use]
    pub fn get(&self, from: &Place, to: &Place) -> Link {
        if from == to {
            return Link {
                rate_bytes_per_second: f64::INFINITY,
                delay: Duration::ZERO,
                jitter: Duration::ZERO,
            };
        }
        self.known
            .get(&(from.clone(), to.clone()))
            .copied()
            .unwrap_or(self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_is_delay_plus_bytes_over_rate() {
        let link = Link {
            rate_bytes_per_second: 1e6,
            delay: Duration::from_millis(3),
            jitter: Duration::ZERO,
        };
        assert_eq!(link.transfer(500_000), Duration::from_millis(503));
        assert_eq!(Link::LOCAL.transfer(u64::MAX), Link::LOCAL.delay);
    }

    #[test]
    fn a_link_without_rate_never_arrives_but_does_not_panic() {
        let link = Link {
            rate_bytes_per_second: 0.0,
            ..Link::LOCAL
        };
        assert!(link.transfer(1) > Duration::from_secs(1 << 40));
    }

    #[test]
    fn links_are_directed_and_default_otherwise() {
        let (a, b) = (Place::Node("a".into()), Place::Node("b".into()));
        let slow = Link {
            rate_bytes_per_second: 1e3,
            ..Link::LOCAL
        };
        let mut links = Links::default();
        links.set(a.clone(), b.clone(), slow);
        assert_eq!(links.get(&a, &b), slow);
        assert_eq!(links.get(&b, &a), Link::LOCAL);
        assert_eq!(links.get(&a, &a).transfer(1 << 30), Duration::ZERO);
    }
}
