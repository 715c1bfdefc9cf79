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
use splitplace_policy::exit::govern::GovernorView;

use super::{answer, exits};
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
struct ExitOf {
    model: String,
    arm: String,
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
    solved: Family<Arm, Counter>,
    solving: Family<Arm, Gauge<f64, AtomicU64>>,
    exit_rate: Family<Arm, Gauge<f64, AtomicU64>>,
    exit_load: Family<Arm, Gauge<f64, AtomicU64>>,
    exit_loss: Family<Arm, Gauge<f64, AtomicU64>>,
    exit_lost: Family<Arm, Gauge<f64, AtomicU64>>,
    exit_accuracy: Family<Arm, Gauge<f64, AtomicU64>>,
    exit_trust: Family<ExitOf, Gauge<f64, AtomicU64>>,
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
            solved: Family::default(),
            solving: Family::default(),
            exit_rate: Family::default(),
            exit_load: Family::default(),
            exit_loss: Family::default(),
            exit_lost: Family::default(),
            exit_accuracy: Family::default(),
            exit_trust: Family::default(),
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
        metrics.register_exits(registry);
        metrics
    }

    /// What is known of arms whose exits are controlled.
    fn register_exits(&self, registry: &mut Registry) {
        registry.register(
            "exit_rules",
            "Times that the rules of an arm's exits were made",
            self.solved.clone(),
        );
        registry.register_with_unit(
            "exit_solving",
            "Time that an arm's last exit rules took to make",
            Unit::Seconds,
            self.solving.clone(),
        );
        registry.register(
            "exit_arrivals_per_second",
            "Requests a second that an arm's exit rules were made for",
            self.exit_rate.clone(),
        );
        registry.register(
            "exit_offered_load",
            "Load of an arm's busiest node if every request went to the network's end",
            self.exit_load.clone(),
        );
        registry.register(
            "exit_expected_loss_ratio",
            "Share of an arm's requests that its exit rules should lose",
            self.exit_loss.clone(),
        );
        registry.register(
            "exit_loss_ratio",
            "Share of an arm's requests lost for want of room since its rules were made",
            self.exit_lost.clone(),
        );
        registry.register(
            "exit_expected_accuracy_ratio",
            "Share of correct answers that an arm's exit rules should give",
            self.exit_accuracy.clone(),
        );
        registry.register(
            "exit_trust_ratio",
            "How far the confidence of an exit is believed; 1 while its calibration holds",
            self.exit_trust.clone(),
        );
    }

    /// Rules were made, or could not be.
    pub(super) fn solved(&self, (model, arm): &exits::Key, took: std::time::Duration) {
        let of = Arm {
            model: model.to_string(),
            arm: arm.clone(),
        };
        self.solved.get_or_create(&of).inc();
        self.solving.get_or_create(&of).set(took.as_secs_f64());
    }

    /// What is known of a controlled arm now.
    pub(super) fn controlled(&self, (model, arm): &exits::Key, view: &GovernorView) {
        let of = Arm {
            model: model.to_string(),
            arm: arm.clone(),
        };
        self.exit_rate.get_or_create(&of).set(view.rate);
        self.exit_load.get_or_create(&of).set(view.load);
        self.exit_loss.get_or_create(&of).set(view.loss);
        self.exit_lost.get_or_create(&of).set(view.lost);
        self.exit_accuracy.get_or_create(&of).set(view.accuracy);
        for (number, trust) in (1..).zip(&view.trust) {
            let of = ExitOf {
                model: of.model.clone(),
                arm: of.arm.clone(),
                exit: i32::to_string(&number),
            };
            self.exit_trust.get_or_create(&of).set(*trust);
        }
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
