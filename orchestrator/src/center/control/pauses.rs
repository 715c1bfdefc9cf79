//! How long to wait between two plans for drift alone: longer each time that nothing came of one, and longer while arms move
//! again and again, for then what is measured does not hold.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause, as a multiple of the shortest.
const LONGEST: u32 = 32;
/// After this long a plan that moved something counts half.
const HALF_LIFE: Duration = Duration::from_secs(30);
/// Moves, so counted, that are nothing odd: an uplink that falls and comes back.
const USUAL: f64 = 2.0;

/// What came of the plans so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    shortest: Duration,
    /// After plans that moved nothing.
    in_vain: Duration,
    /// Plans for drift alone that moved something, those long ago counting less.
    moves: f64,
    ended: Instant,
}

impl Pauses {
    /// Nothing planned yet.
    pub(super) const fn new(shortest: Duration, now: Instant) -> Self {
        Self {
            shortest,
            in_vain: shortest,
            moves: 0.0,
            ended: now,
        }
    }

    /// The shortest pause; zero plans nothing for drift alone.
    pub(super) const fn shortest(&self) -> Duration {
        self.shortest
    }

    /// Whether the next plan may be made for drift alone. A long pause after plans in vain is for what does not help; a
    /// link that has changed since may.
    pub(super) fn is_over(&self, now: Instant, is_link: bool) -> bool {
        let in_vain = if is_link { self.shortest } else { self.in_vain };
        let beyond = (self.moves_at(now) - USUAL).max(0.0);
        let restless = self.shortest.mul_f64(beyond.exp2().min(f64::from(LONGEST)));
        self.ended + in_vain.max(restless) <= now
    }

    /// A plan was made; `is_alone` says whether for drift alone.
    pub(super) fn ended(&mut self, now: Instant, has_moved: bool, is_alone: bool) {
        self.moves = self.moves_at(now);
        if is_alone && has_moved {
            self.moves += 1.0;
        }
        self.in_vain = if has_moved || !is_alone {
            self.shortest
        } else {
            (self.in_vain * 2).min(self.shortest * LONGEST)
        };
        self.ended = now;
    }

    fn moves_at(&self, now: Instant) -> f64 {
        let halves =
            now.saturating_duration_since(self.ended).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.moves * (-halves).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds until the next plan may be made, to a tenth.
    fn pause(pauses: &Pauses, from: Instant, is_link: bool) -> f64 {
        let tenths = (0..1_000).map(f64::from);
        let over = |tenth: &f64| pauses.is_over(from + SECOND.mul_f64(tenth / 10.0), is_link);
        let mut over = tenths.filter(over);
        over.next().unwrap_or(f64::INFINITY) / 10.0
    }

    #[test]
    fn plans_in_vain_become_rare_unless_a_link_has_changed() {
        let now = Instant::now();
        let mut pauses = Pauses::new(SECOND, now);
        for expected in [2.0, 4.0, 8.0, 16.0, 32.0, 32.0] {
            pauses.ended(now, false, true);
            assert_eq!(pause(&pauses, now, false), expected);
            assert_eq!(pause(&pauses, now, true), 1.0);
        }
        pauses.ended(now, false, false);
        assert_eq!(pause(&pauses, now, false), 1.0);
    }

    #[test]
    fn a_fleet_that_never_rests_is_planned_for_less_often_and_one_that_rests_again_at_once() {
        let mut now = Instant::now();
        let mut pauses = Pauses::new(SECOND, now);
        let mut waited = Vec::new();
        for _ in 0..60 {
            pauses.ended(now, true, true);
            let next = pause(&pauses, now, true);
            waited.push(next);
            now += SECOND.mul_f64(next);
        }
        assert_eq!(&waited[..2], [1.0, 1.0]);
        let plans = waited.iter().skip(20).sum::<f64>() / 40.0;
        assert!((5.0..15.0).contains(&plans), "{waited:?}");
        now += HALF_LIFE * 4;
        pauses.ended(now, true, true);
        assert_eq!(pause(&pauses, now, true), 1.0);
    }
}
