//! A bandit that uses nested feedback: a request that goes on shows what every lower threshold would have got.
//!
//! For each exit e and confidence bin it keeps the mean gain `G = E[max(C_j - C_e, 0)]` over the exits j that lie
//! behind, and stops where the best of `G_j + bonus - o · (t_j - t_e)` is not positive. One request that runs
//! to the last exit teaches the gains of all its exits at once, so that regret is a fraction of that of a
//! bandit over thresholds. Where it always stops it learns nothing; the audited share keeps its eyes open. Old
//! outcomes fade, so that it follows drift.

use std::collections::BTreeMap;

use super::{At, ExitOutcome, ExitPolicy, ExitTable, ada_ee::spent, real};

/// Numbers of the bandit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NestedSettings {
    /// Bins of confidence at each exit, evenly wide; `1..=256`.
    pub bins: usize,
    /// o: what it costs to run from the first exit to the last, in confidence.
    pub overhead: f64,
    /// Width of the optimistic bonus `width · √(ln t / N)`.
    pub width: f64,
    /// Outcomes after which an old one counts half; infinite for never.
    pub half_life: f64,
}

impl Default for NestedSettings {
    fn default() -> Self {
        Self {
            bins: 20,
            overhead: 0.1,
            width: 0.1,
            half_life: f64::INFINITY,
        }
    }
}

/// The bandit.
#[derive(Clone, Debug, PartialEq)]
pub struct Nested {
    settings: NestedSettings,
    spent: Vec<f64>,
    /// `[exit][later exit][bin]`: mean gain and weight of what it was taken from.
    gains: Vec<(f64, f64)>,
    total: f64,
}

impl Nested {
    /// A bandit that knows nothing yet.
    #[must_use]
    pub fn new(table: &ExitTable, settings: NestedSettings) -> Self {
        Self::over(&spent(table), settings)
    }

    /// The same from the shares of the time from the first exit to the last, by exit.
    #[must_use]
    pub fn over(spent: &[f64], settings: NestedSettings) -> Self {
        let settings = NestedSettings {
            bins: settings.bins.clamp(1, 256),
            ..settings
        };
        let exits = spent.len();
        Self {
            settings,
            spent: spent.to_vec(),
            gains: vec![(0.0, 0.0); exits * exits * settings.bins],
            total: 0.0,
        }
    }

    fn index(&self, exit: usize, later: usize, confidence: f64) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the bins"
        )]
        let bin = (confidence.clamp(0.0, 1.0) * real(self.settings.bins)) as usize;
        let bin = bin.min(self.settings.bins - 1);
        (exit * self.spent.len() + later) * self.settings.bins + bin
    }

    /// What going on from an exit is worth at best: positive, and it is worth while.
    #[must_use]
    pub fn advantage(&self, exit: usize, confidence: f64) -> f64 {
        let later = exit + 1..self.spent.len();
        let worth = later.map(|later| {
            let (gain, n) = self.gains[self.index(exit, later, confidence)];
            let bonus = if n < 0.5 {
                f64::INFINITY
            } else {
                self.settings.width * ((self.total.max(1.0)).ln() / n).sqrt()
            };
            gain + bonus - self.settings.overhead * (self.spent[later] - self.spent[exit])
        });
        worth.fold(f64::NEG_INFINITY, f64::max)
    }
}

impl ExitPolicy for Nested {
    fn name(&self) -> &'static str {
        "nested"
    }

    fn stop(&self, at: &At) -> f64 {
        f64::from(u8::from(self.advantage(at.exit, at.confidence) <= 0.0))
    }

    fn learn(&mut self, outcome: &ExitOutcome<'_>) {
        self.total += 1.0;
        let keep = 0.5_f64.powf(1.0 / self.settings.half_life);
        let seen = outcome.confidences.len().min(self.spent.len());
        for exit in 0..seen {
            for later in exit + 1..seen {
                let confidence = outcome.confidences[exit];
                let gain = (outcome.confidences[later] - confidence).max(0.0);
                let index = self.index(exit, later, confidence);
                let (mean, n) = &mut self.gains[index];
                *n = *n * keep + 1.0;
                *mean += (gain - *mean) / *n;
            }
        }
    }

    fn explain(&self) -> BTreeMap<String, f64> {
        let mut numbers = BTreeMap::from([("requests".into(), self.total)]);
        for exit in 0..self.spent.len() - 1 {
            let steps = 0..=self.settings.bins;
            let levels = steps.map(|b| real(b) / real(self.settings.bins));
            let first = levels.into_iter().find(|&c| self.advantage(exit, c) <= 0.0);
            numbers.insert(format!("threshold-{exit}"), first.unwrap_or(1.01));
        }
        numbers
    }
}
