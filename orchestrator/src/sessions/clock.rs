//! How far two clocks are apart, from beats and their echoes.
//!
//! The estimate of the Network Time Protocol (RFC 5905, §8): with the centre's send and receive times
//! `t0`, `t3` and the worker's receive and send times `t1`, `t2`, the worker is ahead by
//! `((t1 - t0) + (t2 - t3)) / 2`, wrong by at most half the round trip. Of the last few rounds the one
//! with the shortest round trip is believed.

use std::collections::VecDeque;

/// Rounds that are remembered.
const ROUNDS: usize = 16;

/// The estimate for one worker.
#[derive(Clone, Debug, Default)]
pub struct ClockOffset {
    rounds: VecDeque<(i64, i64)>,
}

impl ClockOffset {
    /// Takes in one round, all in microseconds. Rounds that cannot be are left out.
    pub fn observe(&mut self, t0: i64, t1: i64, t2: i64, t3: i64) {
        let trip = t3.saturating_sub(t0).saturating_sub(t2.saturating_sub(t1));
        if t0 == 0 || t1 == 0 || trip < 0 || t2 < t1 {
            return;
        }
        let ahead = t1.saturating_sub(t0).saturating_add(t2.saturating_sub(t3)) / 2;
        self.rounds.push_back((trip, ahead));
        if ROUNDS < self.rounds.len() {
            self.rounds.pop_front();
        }
    }

    /// By how much the worker is ahead, in microseconds; 0 before the first round.
    #[must_use]
    pub fn offset_us(&self) -> i64 {
        self.rounds.iter().min().map_or(0, |&(_, ahead)| ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_round_is_believed() {
        let mut offset = ClockOffset::default();
        assert_eq!(offset.offset_us(), 0);
        // 5000 ahead; 100 there, 300 back; then 100 both ways.
        offset.observe(1000, 6100, 6200, 1500);
        assert_eq!(offset.offset_us(), 4900);
        offset.observe(2000, 7100, 7200, 2300);
        assert_eq!(offset.offset_us(), 5000);
        offset.observe(3000, 8100, 8000, 1);
        assert_eq!(
            offset.offset_us(),
            5000,
            "a round that cannot be is left out"
        );
    }
}
