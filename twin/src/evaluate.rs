//! What a plan is worth, by whoever can say: formulas in microseconds, simulation in milliseconds.

mod analytic;
mod graph;
mod simulated;

use splitplace_plan::Plan;

pub use analytic::Analytic;
pub(crate) use simulated::Replications;
pub use simulated::{Precision, Simulated};

use crate::{Seed, stats::Estimate, world::World};

/// The worth of a plan. An interval of infinite width says that nothing is known of the error.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean seconds to the answer.
    pub latency: Estimate,
    /// Answers a second.
    pub throughput: Estimate,
    /// Share of the requests without an answer.
    pub loss: Estimate,
    /// Share of the requests whose promise was not kept; `None` when the evaluator cannot say.
    pub violations: Option<Estimate>,
    /// Share of right answers, over answers.
    pub accuracy: Estimate,
    /// Watts of all nodes together.
    pub watts: Estimate,
    /// What was spent on it: replications, or iterations.
    pub spent: u64,
}

/// Judges plans.
pub trait Evaluator {
    /// Its name in tables.
    fn name(&self) -> &'static str;

    /// Judges a plan for the world's workers, links and loads. The same arguments give the same answer;
    /// the same seed gives every plan the same arrivals, promises and service draws.
    fn evaluate(&self, world: &World, plan: &Plan, seed: Seed) -> Evaluation;
}

#[cfg(test)]
mod tests;
