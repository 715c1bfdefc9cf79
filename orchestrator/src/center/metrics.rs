//! Numbers of the centre, in base units.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use splitplace_brain::Report;
use splitplace_lifecycle::Ending;
use splitplace_plan::ModelName;

use super::answer;
use crate::{
    face::{Answer, LAST_EXIT},
    watch::Loss,
};

/// What an ended request is counted under. Bounded: models, arms and endings are few.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    model: String,
    arm: String,
    context: String,
    ending: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Arm {
    model: String,
    arm: String,
}

/// Which exit of which variant answered: `last` where nothing left early.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Exit {
    model: String,
    arm: String,
    variant: String,
    exit: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lost {
    model: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Promise {
    model: String,
    arm: String,
    held: String,
}

/// Numbers of the centre.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    requests: Family<Ended, Counter>,
    promises: Family<Promise, Counter>,
    answers: Family<Exit, Counter>,
    response: Family<Arm, Histogram, fn() -> Histogram>,
    retries: Family<Arm, Counter>,
    losses: Family<Lost, Counter>,
    pub(super) stale: Counter,
    pub(super) forgotten: Counter,
    pub(super) in_flight: Gauge,
    pub(super) generation: Gauge,
    pub(super) nodes: Gauge,
    pub(super) planning: Gauge<f64, AtomicU64>,
}

fn seconds() -> Histogram {
    Histogram::new((0..18).map(|k| 2.5e-4 * 2f64.powi(k)))
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            promises: Family::default(),
            answers: Family::default(),
            response: Family::new_with_constructor(seconds),
            retries: Family::default(),
            losses: Family::default(),
            stale: Counter::default(),
            forgotten: Counter::default(),
            in_flight: Gauge::default(),
            generation: Gauge::default(),
            nodes: Gauge::default(),
            planning: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("splitplace");
        registry.register(
            "requests",
            "Requests that ended, by how",
            metrics.requests.clone(),
        );
        registry.register(
            "promises",
            "Answers, by whether the SLA held",
            metrics.promises.clone(),
        );
        registry.register(
            "answers",
            "Answers, by the variant and the exit that gave them",
            metrics.answers.clone(),
        );
        registry.register_with_unit(
            "response",
            "From arrival to answer",
            Unit::Seconds,
            metrics.response.clone(),
        );
        registry.register(
            "retries",
            "Attempts after a request's first",
            metrics.retries.clone(),
        );
        registry.register(
            "losses",
            "Requests without an answer, refused ones included, by reason",
            metrics.losses.clone(),
        );
        registry.register(
            "stale_answers",
            "Answers nobody waited for",
            metrics.stale.clone(),
        );
        registry.register(
            "decisions_forgotten",
            "Decisions that the disk was too slow for",
            metrics.forgotten.clone(),
        );
        registry.register(
            "in_flight",
            "Requests that have not ended",
            metrics.in_flight.clone(),
        );
        registry.register(
            "plan_generation",
            "Plan in force",
            metrics.generation.clone(),
        );
        registry.register("nodes", "Nodes that are alive", metrics.nodes.clone());
        registry.register_with_unit(
            "planning",
            "Time that the last plan took to make",
            Unit::Seconds,
            metrics.planning.clone(),
        );
        metrics
    }

    /// An answer on its way to a client.
    pub(super) fn answered(&self, answer: &Answer) {
        let exit = Exit {
            model: answer.model.clone(),
            arm: answer.arm.clone(),
            variant: answer.variant.clone(),
            exit: answer.exit.clone().unwrap_or_else(|| LAST_EXIT.into()),
        };
        self.answers.get_or_create(&exit).inc();
    }

    /// A request without an answer.
    pub(super) fn lost(&self, model: &ModelName, loss: Loss) {
        let lost = Lost {
            model: model.to_string(),
            reason: loss.label(),
        };
        self.losses.get_or_create(&lost).inc();
    }

    pub(super) fn ended(&self, model: &ModelName, report: &Report) {
        let arm = report
            .decision
            .as_ref()
            .map(|d| d.arm.name.clone())
            .unwrap_or_default();
        let context = report.decision.as_ref().map_or("", |d| d.context);
        let model = model.to_string();
        let ended = Ended {
            model: model.clone(),
            arm: arm.clone(),
            context: context.to_owned(),
            ending: answer::ending(&report.ending).to_owned(),
        };
        self.requests.get_or_create(&ended).inc();
        if let Ending::Answered { attempt, .. } = report.ending {
            let of = Arm {
                model: model.clone(),
                arm: arm.clone(),
            };
            self.response
                .get_or_create(&of)
                .observe(report.response.as_secs_f64());
            if attempt > 0 {
                self.retries.get_or_create(&of).inc_by(u64::from(attempt));
            }
            let held = report.sla_held.to_string();
            self.promises
                .get_or_create(&Promise { model, arm, held })
                .inc();
        }
    }
}
