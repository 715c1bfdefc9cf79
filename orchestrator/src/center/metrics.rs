//! Numbers of the centre, in base units.
//!
//! Labels are bounded: beyond [`MODELS`] models, and [`ARMS`] arms of each, everything is counted under
//! [`OTHER`]. What a plan names is there from the moment it is in force, so that a rate has a beginning.
//! `docs/metrics.md` is made from [`reference`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::Mutex;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter, exemplar::HistogramWithExemplars, family::Family, gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};
use splitplace_brain::Report;
use splitplace_lifecycle::Ending;
use splitplace_plan::{ModelName, Plan};
use splitplace_policy::exit::govern::GovernorView;

use super::{answer, exits, prediction::Predictions};
use crate::{
    face::{Answer, LAST_EXIT},
    watch::{Loss, MODELS, OTHER, trace::Kept, traffic::NAMES as ARMS},
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
pub(super) struct Arm {
    pub(super) model: String,
    pub(super) arm: String,
}

/// A part of a response.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stage {
    model: String,
    stage: &'static str,
}

/// What an exemplar points to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Trace {
    trace_id: String,
}

/// Names that have a label of their own.
#[derive(Debug, Default)]
struct Known {
    arms: BTreeMap<String, BTreeSet<String>>,
}

impl Known {
    /// The names to count under.
    fn bound(&mut self, model: &str, arm: &str) -> (String, String) {
        if !self.arms.contains_key(model) && MODELS <= self.arms.len() {
            return (OTHER.into(), OTHER.into());
        }
        let arms = self.arms.entry(model.to_owned()).or_default();
        if arm.is_empty() || arms.contains(arm) || arms.len() < ARMS {
            arms.insert(arm.to_owned());
            return (model.to_owned(), arm.to_owned());
        }
        (model.to_owned(), OTHER.into())
    }
}

impl Trace {
    fn new(trace: u128) -> Self {
        Self {
            trace_id: format!("{trace:032x}"),
        }
    }
}

/// Why a trace was kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    kept: &'static str,
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
    response: Family<Arm, Exemplars, fn() -> Exemplars>,
    stages: Family<Stage, Histogram, fn() -> Histogram>,
    known: Arc<Mutex<Known>>,
    retries: Family<Arm, Counter>,
    losses: Family<Lost, Counter>,
    traces: Family<Why, Counter>,
    traces_dropped: Counter,
    pub(super) stale: Counter,
    pub(super) forgotten: Counter,
    pub(super) in_flight: Gauge,
    /// Seconds since the Unix epoch.
    pub(super) certificate_expiry: Gauge,
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
    pub(super) predictions: Predictions,
}

/// In the order of [`slowest`](crate::watch::traffic::slowest).
const STAGES: [&str; 3] = ["queue", "compute", "transfer"];

type Exemplars = HistogramWithExemplars<Trace>;

/// From a quarter of a millisecond to half a minute.
fn bounds() -> impl Iterator<Item = f64> {
    (0..18).map(|k| 2.5e-4 * 2f64.powi(k))
}

fn seconds() -> Exemplars {
    HistogramWithExemplars::new(bounds())
}

fn stage_seconds() -> Histogram {
    Histogram::new(bounds())
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("splitplace");
        let metrics = Self {
            requests: Family::default(),
            promises: Family::default(),
            answers: Family::default(),
            response: Family::new_with_constructor(seconds),
            stages: Family::new_with_constructor(stage_seconds),
            known: Arc::default(),
            retries: Family::default(),
            losses: Family::default(),
            traces: Family::default(),
            traces_dropped: Counter::default(),
            stale: Counter::default(),
            forgotten: Counter::default(),
            in_flight: Gauge::default(),
            certificate_expiry: Gauge::default(),
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
            predictions: Predictions::register(registry),
        };
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
        registry.register_with_unit(
            "stage",
            "Parts of the response of answers, of the slowest branch: queue, compute, transfer",
            Unit::Seconds,
            metrics.stages.clone(),
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
            "traces",
            "Traces handed to the exporter, by why they are kept",
            metrics.traces.clone(),
        );
        registry.register(
            "traces_dropped",
            "Traces that were to be kept and found too many waiting for the collector",
            metrics.traces_dropped.clone(),
        );
        for kept in Kept::ALL {
            drop(metrics.traces.get_or_create(&Why { kept: kept.label() }));
        }
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
            "certificate_expiry_timestamp_seconds",
            "When the orchestrator's certificate holds no more, in seconds since the Unix epoch; 0 without one",
            metrics.certificate_expiry.clone(),
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
    pub(super) fn solved(&self, (model, arm): &exits::Key, took: Duration) {
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

    /// Makes everything that a plan names countable, at 0.
    pub(super) fn expect(&self, plan: &Plan) {
        for (model, planned) in &plan.models {
            for arm in &planned.arms {
                self.begin(model.as_str(), &arm.name);
            }
            self.begin(model.as_str(), "");
        }
    }

    fn begin(&self, model: &str, arm: &str) {
        let (model, arm) = self.known.lock().bound(model, arm);
        for loss in Loss::ALL {
            drop(self.losses.get_or_create(&Lost {
                model: model.clone(),
                reason: loss.label(),
            }));
        }
        for stage in STAGES {
            drop(self.stages.get_or_create(&Stage {
                model: model.clone(),
                stage,
            }));
        }
        if arm.is_empty() {
            return;
        }
        for held in [true, false] {
            drop(self.promises.get_or_create(&Promise {
                model: model.clone(),
                arm: arm.clone(),
                held: held.to_string(),
            }));
        }
        let of = Arm { model, arm };
        drop(self.response.get_or_create(&of));
        drop(self.retries.get_or_create(&of));
    }

    /// An answer on its way to a client.
    pub(super) fn answered(&self, answer: &Answer) {
        let (model, arm) = self.known.lock().bound(&answer.model, &answer.arm);
        let exit = Exit {
            model,
            arm,
            variant: answer.variant.clone(),
            exit: answer.exit.clone().unwrap_or_else(|| LAST_EXIT.into()),
        };
        self.answers.get_or_create(&exit).inc();
    }

    /// Where the time of an answer went: queue, compute and transfer, in microseconds.
    pub(super) fn stages(&self, model: &ModelName, spent: [u64; 3]) {
        let (model, _) = self.known.lock().bound(model.as_str(), "");
        for (stage, us) in STAGES.into_iter().zip(spent) {
            let model = model.clone();
            self.stages
                .get_or_create(&Stage { model, stage })
                .observe(Duration::from_micros(us).as_secs_f64());
        }
    }

    /// A request without an answer.
    pub(super) fn lost(&self, model: &ModelName, loss: Loss) {
        let (model, _) = self.known.lock().bound(model.as_str(), "");
        let lost = Lost {
            model,
            reason: loss.label(),
        };
        self.losses.get_or_create(&lost).inc();
    }

    /// A trace was to be kept.
    pub(super) fn traced(&self, kept: Kept, is_taken: bool) {
        if is_taken {
            let kept = kept.label();
            self.traces.get_or_create(&Why { kept }).inc();
        } else {
            self.traces_dropped.inc();
        }
    }

    /// A request ended. `trace` is what its time may point to.
    pub(super) fn ended(&self, model: &ModelName, report: &Report, trace: Option<u128>) {
        let decision = report.decision.as_ref();
        let arm = decision.map_or("", |decision| &decision.arm.name);
        let context = decision.map_or("", |decision| decision.context);
        let (model, arm) = self.known.lock().bound(model.as_str(), arm);
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
            let trace = trace.map(Trace::new);
            self.response
                .get_or_create(&of)
                .observe(report.response.as_secs_f64(), trace, None);
            if attempt > 0 {
                self.retries.get_or_create(&of).inc_by(u64::from(attempt));
            }
            if let Some(decision) = decision {
                let (forecast, response) = (decision.predicted, report.response);
                self.predictions.answered(&of, forecast, response);
            }
            let held = report.sla_held.to_string();
            self.promises
                .get_or_create(&Promise { model, arm, held })
                .inc();
        }
    }
}

/// Registers every number of a centre with labels that stand for themselves, for documentation.
pub fn reference(registry: &mut Registry) {
    let metrics = Metrics::register(registry);
    metrics.begin("MODEL", "ARM");
    let known = Duration::from_secs(1);
    let (model, arm) = ("MODEL".to_owned(), "ARM".to_owned());
    let of = Arm {
        model: model.clone(),
        arm: arm.clone(),
    };
    metrics.predictions.answered(&of, known, known);
    metrics.predictions.compared("MODEL", 0.0);
    drop(metrics.requests.get_or_create(&Ended {
        model: model.clone(),
        arm: arm.clone(),
        context: "CONTEXT".into(),
        ending: "ENDING".into(),
    }));
    drop(metrics.answers.get_or_create(&Exit {
        model,
        arm,
        variant: "VARIANT".into(),
        exit: "EXIT".into(),
    }));
    super::triton::reference(registry);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        for model in 0..3 * MODELS {
            for arm in 0..3 * ARMS {
                metrics.begin(&format!("m{model}"), &format!("a{arm}"));
            }
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let of = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert!(of("splitplace_retries_total") <= (MODELS + 1) * (ARMS + 1));
        assert!(of("splitplace_losses_total") <= (MODELS + 1) * Loss::ALL.len());
        assert!(text.contains("model=\"other\",arm=\"other\""));
    }

    #[test]
    fn what_a_plan_names_is_there_at_nought_and_a_slow_answer_points_to_its_trace() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.begin("m", "base/chain");
        let of = Arm {
            model: "m".into(),
            arm: "base/chain".into(),
        };
        let trace = Trace::new(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        let response = metrics.response.get_or_create(&of);
        response.observe(0.2, Some(trace), None);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let zero = "splitplace_losses_total{model=\"m\",reason=\"expired\"} 0";
        assert!(text.contains(zero), "{text}");
        let exemplar = "# {trace_id=\"0af7651916cd43dd8448eb211c80319c\"} 0.2";
        assert!(text.contains(exemplar), "{text}");
    }
}
