//! Probes that came here: who sent them, how large they were, how long they took.

use std::collections::VecDeque;

use parking_lot::Mutex;
use splitplace_link::{Frame, sender::unix_us};
use splitplace_proto::control::ProbeSeen;

/// Probes that may wait to be told; the oldest make room.
const WAITING: usize = 256;

/// What waits to be told to the centre.
#[derive(Debug, Default)]
pub(crate) struct Probed(Mutex<VecDeque<ProbeSeen>>);

impl Probed {
    /// Takes in one that has just arrived.
    pub(crate) fn take(&self, peer: &str, frame: &Frame) {
        let seen = ProbeSeen {
            from: peer.to_owned(),
            bytes: frame.payload_bytes() as u64,
            transfer_us: unix_us().saturating_sub(frame.sent_unix_us),
        };
        let mut waiting = self.0.lock();
        if waiting.len() == WAITING {
            waiting.pop_front();
        }
        waiting.push_back(seen);
    }

    /// Everything since the last time.
    pub(crate) fn drain(&self) -> Vec<ProbeSeen> {
        self.0.lock().drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use splitplace_link::probe;

    use super::*;

    #[test]
    fn probes_are_told_once_and_bounded() {
        let probed = Probed::default();
        for bytes in 0..300 {
            probed.take("attic", &probe::frame(bytes));
        }
        let seen = probed.drain();
        assert_eq!(seen.len(), WAITING);
        assert_eq!(seen[0].bytes, 300 - WAITING as u64);
        assert_eq!(seen[0].from, "attic");
        assert!(probed.drain().is_empty());
    }
}
