//! AdaEE (ICC'23): a bandit over one confidence threshold.
//!
//! Arms are thresholds. A request answers at the first exit whose confidence reaches the threshold. If that is
//! beyond the first exit, the reward is what confidence gained there over the first exit, less an overhead:
//! `max(C_e - C_0, 0) - o · t_e`, with `t_e` the share of the remaining service time that was spent (1 at the
//! last exit: the two-exit case of the paper). At the first exit it is 0. The arm of the largest
//! `mean + c √(ln t / N)` is played, each arm once before. Neither backlog nor a loss target is known to it: the overhead is
//! all it has.

use std::collections::BTreeMap;

use super::{At, ExitOutcome, ExitPolicy, ExitTable, Intent, Intents, real};

/// Numbers of the bandit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaEeSettings {
    /// Arms: thresholds `0, 1/(arms-1), …, 1`; `2..=1001`.
    pub arms: u16,
    /// o: what it costs to run to the last exit, in confidence.
    pub overhead: f64,
    /// c: width of the confidence bound.
    pub width: f64,
}

impl Default for AdaEeSettings {
    fn default() -> Self {
        Self {
            arms: 21,
            overhead: 0.1,
            width: 1.0,
        }
    }
}

/// The bandit.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaEe {
    settings: AdaEeSettings,
    /// By exit: share of the time from the first exit to the last.
    spent: Vec<f64>,
    counts: Vec<f64>,
    means: Vec<f64>,
    total: f64,
    /// The arm that is played next.
    next: u16,
}

impl AdaEe {
    /// A bandit that knows nothing yet.
    #[must_use]
    pub fn new(table: &ExitTable, settings: AdaEeSettings) -> Self {
        Self::over(&spent(table), settings)
    }

    /// The same from the shares of the time from the first exit to the last, by exit.
    #[must_use]
    pub fn over(spent: &[f64], settings: AdaEeSettings) -> Self {
        let arms = settings.arms.clamp(2, 1001);
        let settings = AdaEeSettings { arms, ..settings };
        Self {
            settings,
            spent: spent.to_vec(),
            counts: vec![0.0; usize::from(arms)],
            means: vec![0.0; usize::from(arms)],
            total: 0.0,
            next: 0,
        }
    }

    /// The confidence that an arm asks for.
    #[must_use]
    pub fn threshold(&self, arm: Intent) -> f64 {
        f64::from(arm.0) / f64::from(self.settings.arms - 1)
    }

    /// The threshold of the best mean so far.
    #[must_use]
    pub fn best(&self) -> f64 {
        let arms = 0..self.settings.arms;
        let best =
            arms.max_by(|&a, &b| self.means[usize::from(a)].total_cmp(&self.means[usize::from(b)]));
        self.threshold(Intent(best.unwrap_or(0)))
    }

    fn pick(&self) -> u16 {
        let score = |arm: u16| {
            let n = self.counts[usize::from(arm)];
            if n == 0.0 {
                return f64::INFINITY;
            }
            self.means[usize::from(arm)] + self.settings.width * (self.total.ln() / n).sqrt()
        };
        // The first of equals, so that untried arms come in order.
        (0..self.settings.arms)
            .rev()
            .max_by(|&a, &b| score(a).total_cmp(&score(b)))
            .unwrap_or(0)
    }
}

/// By exit of the network: the share of the time between the first exit and the last that is spent when it answers.
#[must_use]
pub fn spent(table: &ExitTable) -> Vec<f64> {
    let to: Vec<f64> = (0..table.exits()).map(|e| table.mean(e)).collect();
    shares(&to)
}

/// The same from the times up to each exit.
#[must_use]
pub fn shares(to: &[f64]) -> Vec<f64> {
    let (Some(first), Some(last)) = (to.first(), to.last()) else {
        return Vec::new();
    };
    let share = |time: &f64| {
        if last > first {
            (time - first) / (last - first)
        } else {
            0.0
        }
    };
    to.iter().map(share).collect()
}

/// Confidence gained over the first exit, less the overhead of the time spent.
pub(crate) fn reward(confidences: &[f64], spent: &[f64], overhead: f64) -> f64 {
    match confidences {
        [first, .., last] => {
            let time = spent.get(confidences.len() - 1).copied().unwrap_or(1.0);
            (last - first).max(0.0) - overhead * time
        }
        _ => 0.0,
    }
}

impl ExitPolicy for AdaEe {
    fn name(&self) -> &'static str {
        "ada-ee"
    }

    fn intents(&self, _: usize) -> Intents {
        Intents::one(Intent(self.next))
    }

    fn stop(&self, at: &At) -> f64 {
        f64::from(u8::from(at.confidence >= self.threshold(at.intent)))
    }

    fn learn(&mut self, outcome: &ExitOutcome<'_>) {
        let arm = usize::from(outcome.intent.0);
        if outcome.audited || arm >= self.counts.len() {
            return;
        }
        let reward = reward(outcome.confidences, &self.spent, self.settings.overhead);
        self.total += 1.0;
        self.counts[arm] += 1.0;
        self.means[arm] += (reward - self.means[arm]) / self.counts[arm];
        self.next = self.pick();
    }

    fn explain(&self) -> BTreeMap<String, f64> {
        let arms = 0..self.counts.len();
        let numbers = arms.map(|arm| (format!("mean-{arm}"), self.means[arm]));
        let mut numbers: BTreeMap<_, _> = numbers.collect();
        numbers.insert("best".into(), self.best());
        numbers.insert("requests".into(), self.total);
        numbers.insert("arms".into(), real(self.counts.len()));
        numbers
    }
}
