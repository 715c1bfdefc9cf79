//! How far a prediction is from the truth, in the measures that ChainNet is judged by.

use super::{Ratios, System};
use crate::stats::Summary;

/// Mean absolute errors over chains and systems.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Systems compared.
    pub systems: u64,
    /// Relative errors of the chains' throughput ratios.
    pub throughput: Summary,
    /// Relative errors of the chains' latency ratios. Chains that delivered nothing in truth have none.
    pub latency: Summary,
    /// Absolute errors of the systems' loss, 1 - sum of delivered over sum of arrived.
    pub loss: Summary,
}

impl Score {
    /// Takes in one system.
    pub fn add(&mut self, system: &System, found: &[Ratios]) {
        self.systems += 1;
        let (mut rate, mut truth, mut said) = (0.0, 0.0, 0.0);
        for (chain, found) in system.chains.iter().zip(found) {
            let relative = |found: f64, truth: f64| (found - truth).abs() / (truth + 1e-5);
            self.throughput
                .add(relative(found.throughput, chain.throughput_ratio));
            self.latency
                .add(relative(found.latency, chain.latency_ratio));
            rate += 1.0 / chain.interarrival;
            truth += chain.throughput_ratio / chain.interarrival;
            said += found.throughput / chain.interarrival;
        }
        self.loss.add((truth - said).abs() / rate);
    }
}

/// Scores predictions, in the order of the systems.
#[must_use]
pub fn score<'a>(pairs: impl Iterator<Item = (&'a System, &'a [Ratios])>) -> Score {
    let mut score = Score::default();
    pairs.for_each(|(system, found)| score.add(system, found));
    score
}
