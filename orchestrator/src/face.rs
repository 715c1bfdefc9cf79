//! What the API servers ask of the centre: values in, values out.
//!
//! The gRPC and REST modules decode, ask a [`Face`], and encode. They know nothing of plans, workers
//! or policies, and whatever stands behind the face knows nothing of wire formats.

use std::{collections::BTreeMap, future::Future, time::Duration};

use splitplace_link::Tensor;
use splitplace_plan::ArmKind;
use splitplace_proto::{center, data::DType};

use crate::{
    watch::trace::Context,
    wishes::{Wishes, WishesError},
};

/// By which door a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// One call of gRPC.
    Grpc,
    /// A stream of gRPC.
    Stream,
    /// REST.
    Rest,
}

/// One request for an answer, decoded and checked against nothing yet.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Name of the model.
    pub model: String,
    /// Version asked for; empty for whatever is served.
    pub version: String,
    /// The inputs, as the client ordered them.
    pub inputs: Vec<Tensor>,
    /// Names of the outputs wanted; empty for all.
    pub outputs: Vec<String>,
    /// What the client wants promised: `splitplace_sla_ms`, else Triton's `timeout`, else the gRPC
    /// deadline. `None` leaves it to the package.
    pub sla: Option<Duration>,
    /// After this long nobody waits any more (the gRPC deadline); `None` leaves it to the centre.
    pub patience: Option<Duration>,
    /// The caller's place in a trace (W3C `traceparent`).
    pub caller: Option<Context>,
    /// How it came.
    pub via: Via,
    /// Least share of correct answers (`splitplace_min_accuracy`); 0 asks for nothing.
    pub min_accuracy: f64,
}

/// What one hop cost, with the clocks' difference taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopRecord {
    /// Where.
    pub node: String,
    /// Branch of a semantic variant, else 0.
    pub branch: u32,
    /// Position on the route; one more than the last hop for the way back to the centre.
    pub hop: u32,
    /// How the tensors were coded on the link to here: `raw`, `u8-rans`.
    pub codec: String,
    /// From the sender's link to here.
    pub transfer: Duration,
    /// Waiting for a thread.
    pub queue: Duration,
    /// Decoding and computing.
    pub compute: Duration,
    /// Decoding alone.
    pub decode: Duration,
    /// Encoding.
    pub encode: Duration,
    /// Waiting for the way out, which keeps no thread busy.
    pub outbox: Duration,
}

/// The end of a network among its exits.
pub const LAST_EXIT: &str = "last";

/// An answer with everything that can be said about how it came to be.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The centre's own number for the request; the handle for feedback.
    pub request: u64,
    /// Model and version that answered.
    pub model: String,
    /// Version that answered.
    pub version: String,
    /// The outputs asked for, in that order; all in the package's order when none were named.
    pub outputs: Vec<Tensor>,
    /// Name of the arm: `base/chain`.
    pub arm: String,
    /// Variant of the package.
    pub variant: String,
    /// How it ran.
    pub kind: ArmKind,
    /// The early exit that answered; `None` for the end of the network.
    pub exit: Option<String>,
    /// The plan that answered.
    pub generation: u64,
    /// The policy's name for the request's context.
    pub context: &'static str,
    /// Why the arm was chosen.
    pub reason: String,
    /// Probability with which it was chosen.
    pub propensity: f64,
    /// Response predicted when it was chosen.
    pub predicted: Duration,
    /// Time from arrival to this answer.
    pub response: Duration,
    /// What was promised.
    pub sla: Duration,
    /// Whether that held.
    pub sla_held: bool,
    /// Attempts made, 1 when nothing went wrong.
    pub attempts: u32,
    /// Branches left out of the merge because they were late or lost.
    pub missing: Vec<u32>,
    /// The hop trail, by branch and hop.
    pub hops: Vec<HopRecord>,
    /// The trace that is kept of it.
    pub trace: Option<u128>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AskError {
    /// No such model.
    #[error("Request for unknown model: '{model}' is not found")]
    UnknownModel {
        /// As asked for.
        model: String,
    },
    /// The model is there in another version.
    #[error("Request for unknown model: '{model}' version {version} is not found")]
    UnknownVersion {
        /// As asked for.
        model: String,
        /// As asked for.
        version: String,
    },
    /// The request does not fit the model.
    #[error("{0}")]
    Invalid(String),
    /// Nothing can run the model now.
    #[error("model '{model}' is not ready: {reason}")]
    NotReady {
        /// Which model.
        model: String,
        /// Why, and what to do.
        reason: String,
    },
    /// More is in flight than the bound allows.
    #[error(
        "{in_flight} requests are in flight, which is the limit; retry later or raise `max-in-flight`"
    )]
    Overloaded {
        /// The bound reached.
        in_flight: u64,
    },
    /// The time left is not enough for any arm.
    #[error(
        "no variant of '{model}' can answer in {left:?}: the fastest is predicted to take {fastest:?}"
    )]
    Hopeless {
        /// Which model.
        model: String,
        /// Time left at arrival.
        left: Duration,
        /// The best prediction.
        fastest: Duration,
    },
    /// No arm is as accurate as the client asks for.
    #[error(
        "no variant of '{model}' is right in {wanted} of all answers: the best is in {best}; lower \
         'splitplace_min_accuracy'"
    )]
    Inaccurate {
        /// Which model.
        model: String,
        /// Share of correct answers asked for.
        wanted: f64,
        /// The most accurate arm's.
        best: f64,
    },
    /// Accepted, but nobody could answer in time.
    #[error("no answer within {waited:?}: {last}")]
    Expired {
        /// Time since arrival.
        waited: Duration,
        /// The last thing that went wrong, or that nothing did.
        last: String,
    },
    /// Accepted, and failed for good.
    #[error("{0}")]
    Failed(String),
    /// The centre is leaving.
    #[error("the server is shutting down")]
    Draining,
}

impl AskError {
    /// Its page in `docs/errors/`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownModel { .. } | Self::UnknownVersion { .. } => "SP303",
            Self::NotReady { .. } | Self::Draining => "SP304",
            Self::Overloaded { .. } => "SP305",
            Self::Hopeless { .. } | Self::Expired { .. } => "SP306",
            Self::Invalid(_) => "SP308",
            Self::Failed(_) => "SP309",
            Self::Inaccurate { .. } => "SP310",
        }
    }
}

/// A tensor as the model's interface declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorFacts {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape; -1 is any size.
    pub shape: Vec<i64>,
    /// Names of the classes, for an output of scores.
    pub labels: Vec<String>,
}

/// State of a model in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// Served.
    Ready,
    /// On its way.
    Loading,
    /// In the repository, not served.
    Unavailable,
    /// On its way out.
    Unloading,
}

impl ModelState {
    /// The protocol's word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Loading => "LOADING",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unloading => "UNLOADING",
        }
    }
}

/// A count with a sum of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Together.
    pub nanos: u64,
}

/// Cumulative numbers of one model, since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelTallies {
    /// Milliseconds since the Unix epoch; 0 before the first request.
    pub last_inference_unix_ms: u64,
    /// Samples answered.
    pub samples: u64,
    /// Requests answered, from arrival to answer.
    pub success: Tally,
    /// Those of them that came within their SLA.
    pub held: u64,
    /// Requests that ended without an answer.
    pub fail: Tally,
    /// Waiting in workers.
    pub queue: Tally,
    /// Transfer and decoding.
    pub compute_input: Tally,
    /// Computing.
    pub compute_infer: Tally,
    /// Encoding.
    pub compute_output: Tally,
}

/// One model of the repository.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFacts {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Whether it can answer now, honestly: a plan whose nodes are alive.
    pub state: ModelState,
    /// Why it is not ready; empty when it is.
    pub reason: String,
    /// Inputs, in the package's order.
    pub inputs: Vec<TensorFacts>,
    /// Outputs, in the package's order.
    pub outputs: Vec<TensorFacts>,
    /// What is promised when the client says nothing.
    pub default_sla: Duration,
    /// Free-form facts for people: variants, accuracies.
    pub properties: BTreeMap<String, String>,
    /// Cumulative numbers.
    pub tallies: ModelTallies,
}

/// Why a model could not be loaded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// Neither in the store nor in the repository folder.
    #[error("failed to load '{model}', no such model in the repository")]
    Unknown {
        /// As asked for.
        model: String,
    },
    /// It is there and cannot be served.
    #[error("failed to load '{model}', {reason}")]
    Refused {
        /// As asked for.
        model: String,
        /// Why, with the arithmetic, and what to try.
        reason: String,
    },
    /// It could be served, and not as it was asked for. Nothing was changed.
    #[error(transparent)]
    NotGranted(WishesError),
}

impl LoadError {
    /// Its page in `docs/errors/`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "SP303",
            _ => "SP307",
        }
    }
}

/// Everything that the API servers need.
pub trait Face: Send + Sync + 'static {
    /// Answers one request. Dropping the future gives the request up everywhere.
    fn ask(&self, ask: Ask) -> impl Future<Output = Result<Answer, AskError>> + Send;

    /// The model by name and version (empty for the served one).
    ///
    /// # Errors
    /// [`AskError::UnknownModel`] and [`AskError::UnknownVersion`].
    fn model(&self, name: &str, version: &str) -> Result<ModelFacts, AskError>;

    /// Every model of the repository, by name.
    fn models(&self) -> Vec<ModelFacts>;

    /// Whether everything that should be served can be served.
    fn is_ready(&self) -> bool;

    /// Loads a model from the repository and waits until it is served or refused. `None` leaves what was
    /// asked for the model before.
    fn load(
        &self,
        model: &str,
        wishes: Option<Wishes>,
    ) -> impl Future<Output = Result<(), LoadError>> + Send;

    /// Stops serving a model; a model that is not served is fine.
    ///
    /// # Errors
    /// [`LoadError::Unknown`] when the repository does not have it.
    fn unload(&self, model: &str) -> impl Future<Output = Result<(), LoadError>> + Send;

    /// Tells the truth about an answered request. What was learnt from it is on disk when this ends.
    fn feedback(
        &self,
        told: center::FeedbackRequest,
    ) -> impl Future<Output = center::FeedbackResponse> + Send;

    /// The whole state, for operators.
    fn status(&self) -> center::StatusResponse;

    /// What the digital twin starts from; `None` while the centre is going down.
    fn snapshot(&self) -> impl Future<Output = Option<center::SnapshotResponse>> + Send;

    /// What runs, why, and what became of the last plans; with runners-up if that is asked for.
    ///
    /// # Errors
    /// Why it cannot be said here.
    fn plan(
        &self,
        explain: bool,
    ) -> impl Future<Output = Result<center::PlanResponse, String>> + Send;

    /// What fragments take on the nodes that ran them.
    ///
    /// # Errors
    /// Why it cannot be said here.
    fn profiles(&self) -> Result<center::ProfilesResponse, String>;

    /// What differs between two plans that are remembered.
    ///
    /// # Errors
    /// Which plan is not.
    fn plan_diff(&self, asked: center::PlanDiffRequest)
    -> Result<center::PlanDiffResponse, String>;

    /// Lays down what an operator wants of plans; says what will follow.
    ///
    /// # Errors
    /// Why not, and what to try.
    fn act(&self, what: center::ActRequest) -> impl Future<Output = Result<String, String>> + Send;

    /// Changes whenever the running plan, the nodes or the models change.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;
}
