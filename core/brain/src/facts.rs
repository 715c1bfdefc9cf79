//! What comes in and goes out of a brain beside events: requests at the door, refusals, decisions, orders, reports.

use std::{sync::Arc, time::Duration};

use splitplace_fleet::{NodeId, Timestamp};
use splitplace_lifecycle::{Ending, Limits, RequestId};
use splitplace_plan::{ArmPlan, Generation, ModelName, RouteId};
use splitplace_policy::Reason;

/// What may be chosen about a brain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Bounds of the ledger.
    pub limits: Limits,
    /// Decisions remembered for feedback.
    pub memory: usize,
    /// Whether a request that no arm can answer before its expiry is refused at once.
    pub refuse_hopeless: bool,
    /// Accuracy assumed of an arm whose package names none.
    pub accuracy_unknown: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            memory: 65_536,
            refuse_hopeless: true,
            accuracy_unknown: 0.5,
        }
    }
}

/// A request at the door.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// The model asked for.
    pub model: ModelName,
    /// Samples in it.
    pub samples: u32,
    /// What is promised.
    pub sla: Duration,
    /// How long the client waits, from now; at least the SLA.
    pub patience: Duration,
    /// Least share of correct answers that the arm must promise; 0 asks for nothing. Arms with exits always may: their
    /// exits keep to it. No branch may be missing then.
    pub min_accuracy: f64,
}

/// Why a request was not let in. No trace of it is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refusal {
    /// No arm of the model can run now.
    NotReady,
    /// The fastest arm would take longer than the client waits.
    Hopeless {
        /// Its forecast.
        fastest: Duration,
    },
    /// The bound of requests in flight is reached.
    Overloaded,
    /// No arm is accurate enough.
    Inaccurate {
        /// The most accurate one's share of correct answers.
        best: f64,
    },
}

/// The decision that an answer came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The plan.
    pub generation: Generation,
    /// The arm, as planned.
    pub arm: Arc<ArmPlan>,
    /// The policy's word for the context.
    pub context: &'static str,
    /// Why this arm.
    pub reason: Reason,
    /// Probability with which it was taken.
    pub propensity: f64,
    /// Forecast of the whole response, made when it was chosen.
    pub predicted: Duration,
}

/// How a request ended, with what led to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// How.
    pub ending: Ending,
    /// The last decision; `None` when it was never routed.
    pub decision: Option<Decision>,
    /// From arrival to end.
    pub response: Duration,
    /// What was promised.
    pub sla: Duration,
    /// Whether it was answered within that.
    pub sla_held: bool,
}

/// Something for the interpreter to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Send the request's tensors to the first hop of a route.
    Send {
        /// Which request.
        request: RequestId,
        /// Which attempt.
        attempt: u32,
        /// Which branch.
        branch: u32,
        /// The plan.
        generation: Generation,
        /// The way.
        route: RouteId,
        /// Its first node.
        node: NodeId,
        /// Left until the promised answer.
        slack: Duration,
        /// Left until nobody waits.
        patience: Duration,
    },
    /// Come back with [`Event::Woke`](splitplace_lifecycle::Event::Woke) then; one alarm for each request, the earliest.
    WakeAt {
        /// Which request.
        request: RequestId,
        /// When.
        at: Timestamp,
    },
    /// Answer the client and forget the request.
    Finish {
        /// Which request.
        request: RequestId,
        /// How it ended.
        report: Report,
    },
}
