//! What a run has shown.

use std::{collections::BTreeMap, time::Duration};

use splitplace_brain::{Refusal, Report as Ended};
use splitplace_fleet::{NodeId, Timestamp};
use splitplace_lifecycle::{Counts, Ending};
use splitplace_plan::{Generation, ModelName};

use crate::stats::{Batches, Quantiles, Summary};

/// Answers by one arm.
#[derive(Clone, Debug, Default)]
pub struct ArmReport {
    /// Answers.
    pub answered: u64,
    /// Of these within the promise.
    pub held: u64,
    /// Seconds to the answer.
    pub response: Summary,
    /// Forecast over what it took.
    pub forecast: Summary,
    /// Share of samples that were right, a missing branch's classes being wrong.
    pub accuracy: Summary,
    /// Answers without some branch.
    pub partial: u64,
}

/// Requests for one model, those of the warm-up left out.
#[derive(Clone, Debug, Default)]
pub struct ModelReport {
    /// All that came.
    pub arrived: u64,
    /// Not let in: no arm could answer.
    pub not_ready: u64,
    /// Not let in: no arm could answer while the client waits.
    pub hopeless: u64,
    /// Not let in: too many in flight.
    pub overloaded: u64,
    /// Answered, in time or late.
    pub answered: u64,
    /// Answered within the promise.
    pub held: u64,
    /// Nobody waited any more.
    pub expired: u64,
    /// Given up.
    pub failed: u64,
    /// Seconds to the answer.
    pub response: Summary,
    /// The same, for quantiles.
    pub times: Quantiles,
    /// One over it, for the fairness.
    pub pace: Summary,
    /// The same as the response, for an interval within one run.
    pub batches: Batches,
    /// Share of samples that were right, over answers.
    pub accuracy: Summary,
    /// By name of the arm.
    pub arms: BTreeMap<String, ArmReport>,
}

impl ModelReport {
    /// Share of the requests without an answer.
    #[must_use]
    pub fn loss(&self) -> f64 {
        1.0 - self.answered as f64 / self.arrived.max(1) as f64
    }

    /// Share of the requests whose promise was not kept, unanswered ones included.
    #[must_use]
    pub fn violations(&self) -> f64 {
        1.0 - self.held as f64 / self.arrived.max(1) as f64
    }

    /// Adds up with another model.
    pub fn merge_counts(&mut self, other: &Self) {
        self.arrived += other.arrived;
        self.not_ready += other.not_ready;
        self.hopeless += other.hopeless;
        self.overloaded += other.overloaded;
        self.answered += other.answered;
        self.held += other.held;
        self.expired += other.expired;
        self.failed += other.failed;
        self.times.merge(&other.times);
    }

    pub(super) fn refused(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::NotReady => self.not_ready += 1,
            // No request of a scenario asks for accuracy, so only time can be hopeless.
            Refusal::Hopeless { .. } | Refusal::Inaccurate { .. } => self.hopeless += 1,
            Refusal::Overloaded => self.overloaded += 1,
        }
    }

    pub(super) fn ended(&mut self, ended: &Ended, accuracy: f64) {
        let Ending::Answered { missing, .. } = &ended.ending else {
            match ended.ending {
                Ending::Expired { .. } => self.expired += 1,
                Ending::Refused => self.overloaded += 1,
                Ending::Failed { .. } | Ending::Cancelled | Ending::Answered { .. } => {
                    self.failed += 1;
                }
            }
            return;
        };
        let seconds = ended.response.as_secs_f64();
        self.answered += 1;
        self.held += u64::from(ended.sla_held);
        self.response.add(seconds);
        if seconds > 0.0 {
            self.pace.add(1.0 / seconds);
        }
        self.times
            .add(u64::try_from(ended.response.as_nanos()).unwrap_or(u64::MAX));
        self.batches.add(seconds);
        self.accuracy.add(accuracy);
        let Some(decision) = &ended.decision else {
            return;
        };
        if !self.arms.contains_key(&decision.arm.name) {
            self.arms
                .insert(decision.arm.name.clone(), ArmReport::default());
        }
        if let Some(arm) = self.arms.get_mut(&decision.arm.name) {
            arm.answered += 1;
            arm.held += u64::from(ended.sla_held);
            arm.response.add(seconds);
            arm.accuracy.add(accuracy);
            arm.partial += u64::from(!missing.is_empty());
            if seconds > 0.0 {
                arm.forecast.add(decision.predicted.as_secs_f64() / seconds);
            }
        }
    }
}

/// What one node did, over the whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReport {
    /// Which.
    pub node: NodeId,
    /// Busy cores over cores, averaged over time.
    pub utilisation: f64,
    /// Energy.
    pub joules: f64,
    /// Frames computed.
    pub computed: u64,
    /// Frames dropped because nobody waited any more.
    pub expired: u64,
    /// Frames refused because the queue was full.
    pub refused: u64,
}

/// A plan put in force.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanChange {
    /// When.
    pub at: Timestamp,
    /// Which.
    pub generation: Generation,
    /// From the wish to plan to the plan in force.
    pub took: Duration,
}

/// Everything.
#[derive(Clone, Debug)]
pub struct Report {
    /// By model.
    pub models: BTreeMap<ModelName, ModelReport>,
    /// By node, in the world's order.
    pub nodes: Vec<NodeReport>,
    /// Plans after the first.
    pub plans: Vec<PlanChange>,
    /// Of the ledger, warm-up included; requests that were refused by the brain are not in it.
    pub counts: Counts,
    /// Seconds that counted.
    pub seconds: f64,
    /// Events taken out of the agenda.
    pub events: u64,
    /// When the last event was.
    pub ended: Timestamp,
    /// What the policy knew at the end, as it would be saved.
    pub learnt: BTreeMap<String, f64>,
    /// Of the whole trace; the same for the same world, policy, planner and seed.
    pub trace: u64,
}

impl Report {
    /// All models added up: counts and quantiles; the rest stays empty.
    #[must_use]
    pub fn total(&self) -> ModelReport {
        let mut total = ModelReport::default();
        for model in self.models.values() {
            total.merge_counts(model);
        }
        total
    }

    /// Energy of all nodes.
    #[must_use]
    pub fn joules(&self) -> f64 {
        self.nodes.iter().map(|node| node.joules).sum()
    }

    /// Mean seconds to the answer over all models; 0 when nothing was answered.
    #[must_use]
    pub fn mean_response(&self) -> f64 {
        let (sum, count) = self.models.values().fold((0.0, 0), |(sum, count), model| {
            let n = model.response.count();
            (sum + model.response.mean() * n as f64, count + n)
        });
        if count == 0 { 0.0 } else { sum / count as f64 }
    }

    /// Jain's index of one over the response, over all answers (Jain, Chiu, Hawe 1984): 1 when all took as
    /// long, towards 0 the more they differ; 1 when nothing was answered.
    #[must_use]
    pub fn fairness(&self) -> f64 {
        let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
        for pace in self.models.values().map(|model| &model.pace) {
            let n = pace.count() as f64;
            sum += n * pace.mean();
            squares += n * pace.mean().powi(2) + (n - 1.0).max(0.0) * pace.variance();
            count += n;
        }
        if squares > 0.0 {
            sum * sum / (count * squares)
        } else {
            1.0
        }
    }

    /// The reward that the SplitPlace paper's bandit is paid, over all requests: half of the share of promises
    /// kept and half of the share of right answers, no answer being wrong.
    #[must_use]
    pub fn reward(&self) -> f64 {
        let total = self.total();
        let held = 1.0 - total.violations();
        f64::midpoint(held, self.mean_accuracy() * (1.0 - total.loss()))
    }

    /// Mean share of right samples over all answers; 0 when nothing was answered.
    #[must_use]
    pub fn mean_accuracy(&self) -> f64 {
        let (sum, count) = self.models.values().fold((0.0, 0), |(sum, count), model| {
            let n = model.accuracy.count();
            (sum + model.accuracy.mean() * n as f64, count + n)
        });
        if count == 0 { 0.0 } else { sum / count as f64 }
    }
}
