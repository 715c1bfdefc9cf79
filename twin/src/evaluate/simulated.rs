//! By event simulation, as often as it takes.

use std::collections::BTreeMap;

use splitplace_plan::Plan;
use splitplace_policy::{PolicyError, by_name};

use super::{Evaluation, Evaluator};
use crate::{
    Seed,
    planner::Fixed,
    stats::Summary,
    world::{Report, World, run},
};

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Precision {
    /// Of the intervals.
    pub confidence: f64,
    /// Half the interval of the latency over its mean.
    pub relative: f64,
    /// Replications before the first look, at least 2.
    pub least: u64,
    /// Replications at most.
    pub most: u64,
}

impl Default for Precision {
    fn default() -> Self {
        Self {
            confidence: 0.95,
            relative: 0.02,
            least: 3,
            most: 50,
        }
    }
}

/// The world run with the plan, a seed each time, until the latency is known well enough.
#[derive(Clone, Debug)]
pub struct Simulated {
    policy: String,
    params: BTreeMap<String, f64>,
    precision: Precision,
}

impl Simulated {
    /// With the policy of this name, new for each replication.
    ///
    /// # Errors
    /// When there is no such policy.
    pub fn new(
        policy: &str,
        params: BTreeMap<String, f64>,
        precision: Precision,
    ) -> Result<Self, PolicyError> {
        by_name(policy, &params)?;
        Ok(Self {
            policy: policy.to_owned(),
            params,
            precision,
        })
    }

    /// One replication.
    ///
    /// # Panics
    /// Never: the policy was made before.
    #[must_use]
    pub fn replicate(&self, world: &World, plan: &Plan, seed: Seed, number: u64) -> Report {
        let policy = by_name(&self.policy, &self.params).expect("made before by the same name");
        let planner = Fixed(plan.clone());
        run(world, policy, &planner, seed.child("replication", number))
    }
}

impl Evaluator for Simulated {
    fn name(&self) -> &'static str {
        "simulation"
    }

    /// Costs 5 to 20 µs for each request and replication.
    fn evaluate(&self, world: &World, plan: &Plan, seed: Seed) -> Evaluation {
        let Precision {
            confidence,
            relative,
            least,
            most,
        } = self.precision;
        let mut all = Replications::default();
        for number in 0..most.max(2) {
            all.add(&self.replicate(world, plan, seed, number));
            let latency = all.latency.estimate(confidence);
            if least.max(2) <= number + 1 && latency.relative() <= relative {
                break;
            }
        }
        all.evaluation(confidence)
    }
}

/// The figures of several runs of one world, one value each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replications {
    latency: Summary,
    throughput: Summary,
    loss: Summary,
    violations: Summary,
    accuracy: Summary,
    watts: Summary,
}

impl Replications {
    pub(crate) fn add(&mut self, report: &Report) {
        let total = report.total();
        self.latency.add(report.mean_response());
        self.throughput.add(total.answered as f64 / report.seconds);
        self.loss.add(total.loss());
        self.violations.add(total.violations());
        self.accuracy.add(report.mean_accuracy());
        let seconds = report.ended.as_nanos() as f64 / 1e9;
        self.watts.add(report.joules() / seconds.max(1e-9));
    }

    pub(crate) fn evaluation(&self, confidence: f64) -> Evaluation {
        let of = |summary: &Summary| summary.estimate(confidence);
        Evaluation {
            latency: of(&self.latency),
            throughput: of(&self.throughput),
            loss: of(&self.loss),
            violations: Some(of(&self.violations)),
            accuracy: of(&self.accuracy),
            watts: of(&self.watts),
            spent: self.latency.count(),
        }
    }
}
