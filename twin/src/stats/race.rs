//! Two candidates on the same random numbers, until it is decided which is better.

use super::{Estimate, Summary};

/// When a race ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RaceSettings {
    /// Probability of naming the worse one, over the whole race.
    pub error: f64,
    /// Differences up to this do not matter.
    pub indifference: f64,
    /// Pairs before the first look, at least 2.
    pub first: u64,
    /// Pairs at most.
    pub most: u64,
}

impl Default for RaceSettings {
    fn default() -> Self {
        Self {
            error: 0.05,
            indifference: 0.0,
            first: 4,
            most: 256,
        }
    }
}

/// What a race has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// More pairs are needed.
    Open,
    /// The first has the smaller mean.
    First,
    /// The second has.
    Second,
    /// They differ by no more than what does not matter.
    Alike,
    /// As many pairs as may be, and nothing shown.
    Undecided,
}

/// Paired differences (first minus second) with looks at 1, 2, 4, 8 ... times `first` pairs. The k-th
/// look spends `error / 2^k`, so that looking often does not make errors likelier than promised.
#[derive(Clone, Debug)]
pub struct Race {
    settings: RaceSettings,
    differences: Summary,
    next_look: u64,
    looks: i32,
    verdict: Verdict,
}

impl Race {
    /// A race that has not begun.
    #[must_use]
    pub fn new(settings: RaceSettings) -> Self {
        Self {
            next_look: settings.first.max(2),
            settings,
            differences: Summary::default(),
            looks: 0,
            verdict: Verdict::Open,
        }
    }

    /// Takes in the two outcomes of one seed; smaller is better.
    pub fn add(&mut self, first: f64, second: f64) -> Verdict {
        if self.verdict != Verdict::Open {
            return self.verdict;
        }
        self.differences.add(first - second);
        let count = self.differences.count();
        if count == self.next_look || count == self.settings.most {
            self.looks += 1;
            self.next_look *= 2;
            let spent = self.settings.error / 2f64.powi(self.looks);
            let Estimate {
                mean, half_width, ..
            } = self.differences.estimate(1.0 - spent);
            let (low, high) = (mean - half_width, mean + half_width);
            let indifference = self.settings.indifference;
            self.verdict = if -indifference <= low && high <= indifference {
                Verdict::Alike
            } else if high < 0.0 {
                Verdict::First
            } else if 0.0 < low {
                Verdict::Second
            } else if count == self.settings.most {
                Verdict::Undecided
            } else {
                Verdict::Open
            };
        }
        self.verdict
    }

    /// What has been shown so far.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The mean difference with its interval, as of one look.
    #[must_use]
    pub fn difference(&self, confidence: f64) -> Estimate {
        self.differences.estimate(confidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    fn race(seed: u64, by: f64, settings: RaceSettings) -> (Verdict, u64) {
        let mut race = Race::new(settings);
        let mut stream = Seed(seed).stream("race", 0);
        loop {
            // What both share is large; what is their own is small.
            let shared = stream.unit() * 100.0;
            let own = |stream: &mut crate::Stream| stream.unit() + stream.unit() + stream.unit();
            let first = shared + own(&mut stream);
            let verdict = race.add(first, shared + own(&mut stream) + by);
            if verdict != Verdict::Open {
                return (verdict, race.difference(0.95).count);
            }
        }
    }

    #[test]
    fn the_better_one_wins_soon_and_equal_ones_are_rarely_told_apart() {
        let settings = RaceSettings::default();
        for seed in 0..50 {
            let (verdict, pairs) = race(seed, 2.0, settings);
            assert!(
                verdict == Verdict::First && pairs <= 32,
                "{verdict:?} {pairs}"
            );
        }
        let wrong = (0..400)
            .filter(|&seed| race(seed, 0.0, settings).0 != Verdict::Undecided)
            .count();
        // At most 20 expected; plus five standard errors.
        assert!(wrong <= 42, "{wrong}");
    }

    #[test]
    fn what_does_not_matter_is_called_alike() {
        let settings = RaceSettings {
            indifference: 1.0,
            ..RaceSettings::default()
        };
        assert_eq!(race(1, 0.0, settings).0, Verdict::Alike);
        assert_eq!(race(1, -3.0, settings).0, Verdict::Second);
    }
}
