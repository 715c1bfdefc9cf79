//! What the operator asks of an orchestrator, whatever wire is between them.

use std::{collections::BTreeMap, future::Future};

use serde_json::{Value, json};

use crate::model::{EdgeModelSpec, Variant};

/// Wishes for a model, by name.
pub type Wishes = BTreeMap<String, Value>;

/// What an orchestrator knows, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Its version.
    pub version: String,
    /// Number of the plan in force.
    pub generation: u64,
    /// Whether it is leaving.
    pub draining: bool,
    /// Requests in flight.
    pub in_flight: u64,
    /// Nodes that it knows.
    pub nodes: Vec<SeenNode>,
    /// Models of its repository.
    pub models: Vec<SeenModel>,
}

/// A node, as the orchestrator sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeenNode {
    /// Its name, which is the cluster node's.
    pub name: String,
    /// `alive`, `draining`, `leaving` or `lost`.
    pub state: String,
    /// Cores that fragments may use.
    pub cores: u32,
    /// Bytes that fragments may take.
    pub memory_bytes: u64,
    /// Bytes that they take.
    pub memory_used_bytes: u64,
    /// Speed of one core.
    pub macs_per_second: f64,
    /// Where peers reach it.
    pub address: String,
    /// Measured ways to peers: name, bytes a second (infinite when nothing is known to limit them), delay in microseconds.
    pub links: Vec<(String, f64, u64)>,
}

/// Whether a model answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// In the repository, not served.
    #[default]
    Unavailable,
    /// On its way.
    Loading,
    /// Served.
    Ready,
    /// On its way out.
    Unloading,
}

/// A model, as the orchestrator sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeenModel {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Whether it answers.
    pub phase: Phase,
    /// Why not; empty when it does.
    pub reason: String,
    /// Whether no arm of it has found a place: `reason` has the arithmetic.
    pub is_unplaced: bool,
    /// Promise of the package, in microseconds.
    pub default_sla_micros: u64,
    /// Ways of running it under the plan in force.
    pub arms: Vec<SeenArm>,
    /// Requests answered, and requests that ended without an answer, since it was loaded.
    pub ended: Option<(u64, u64)>,
    /// Share of answers within the promise, when it is known.
    pub held: Option<f64>,
    /// Wishes that are in force; `None` when it does not tell.
    pub wishes: Option<Wishes>,
}

/// A way of running a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeenArm {
    /// `base/chain`.
    pub name: String,
    /// `whole`, `chain`, `semantic`, `compressed`.
    pub kind: String,
    /// Validated accuracy; 0 when it is not known.
    pub accuracy: f64,
    /// Predicted response, in microseconds.
    pub predicted_micros: u64,
    /// Whether every node of it is alive.
    pub available: bool,
    /// Every fragment of every branch.
    pub hops: Vec<SeenHop>,
}

/// A fragment on a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeenHop {
    /// The node.
    pub node: String,
    /// The fragment.
    pub fragment: String,
    /// Mean service time.
    pub service_micros: u64,
    /// Bytes that it takes.
    pub memory_bytes: u64,
}

/// What an orchestrator is asked to serve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Order {
    /// The model's name in the repository.
    pub model: String,
    /// What the operator of the fleet wants; see [`Order::wishes`].
    pub spec: EdgeModelSpec,
    /// Nodes that fit the node selector and the zone; `None` when every node does.
    pub nodes: Option<Vec<String>>,
}

impl Order {
    /// Wishes beyond "serve it", by the field that states them, as an orchestrator reads them. One that
    /// cannot carry a wish out has to say so.
    #[must_use]
    pub fn wishes(&self) -> Wishes {
        let spec = &self.spec;
        let mut wishes = Wishes::new();
        let mut wish = |name: &str, value: Value| {
            wishes.insert(name.to_owned(), value);
        };
        if let Some(sla) = &spec.sla {
            wish("sla", json!({"milliseconds": sla.milliseconds}));
        }
        if let Some(least) = spec.min_accuracy {
            wish("minAccuracy", json!(least));
        }
        if !spec.variants.is_empty() {
            let names: Vec<_> = spec.variants.iter().map(|v: &Variant| v.label()).collect();
            wish("variants", json!(names));
        }
        if let Some(exits) = &spec.exits {
            wish("exits", json!(exits));
        }
        if let Some(placement) = &spec.placement {
            if let Some(nodes) = &self.nodes {
                wish("placement.nodes", json!(nodes));
            }
            if !placement.pin.is_empty() {
                let pins = placement.pin.iter();
                let pins = pins.map(|pin| (pin.fragment.to_string(), json!(pin.node)));
                wish("placement.pin", Value::Object(pins.collect()));
            }
            if placement.spread {
                wish("placement.spread", json!(true));
            }
        }
        if spec.priority != 0 {
            wish("priority", json!(spec.priority));
        }
        wishes
    }
}

/// Why an orchestrator did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CenterError {
    /// Nobody answers there.
    #[error("the orchestrator does not answer: {0}")]
    Unreachable(String),
    /// It answered "no".
    #[error("{0}")]
    Refused(String),
    /// It has no such package, neither in a folder nor in its store.
    #[error("{0}")]
    Missing(String),
}

/// An orchestrator.
pub trait Center: Send + Sync + 'static {
    /// Everything that it knows.
    fn look(&self) -> impl Future<Output = Result<Seen, CenterError>> + Send;

    /// Serve a model; ends when it is served or refused. Names the wishes that were not carried out.
    fn load(&self, order: &Order) -> impl Future<Output = Result<Vec<String>, CenterError>> + Send;

    /// Stop serving a model; one that is not served is fine.
    fn unload(&self, model: &str) -> impl Future<Output = Result<(), CenterError>> + Send;

    /// Move fragments off a node whose worker runs, or have it used again; what is so already is fine.
    fn drain(
        &self,
        node: &str,
        is_drained: bool,
    ) -> impl Future<Output = Result<(), CenterError>> + Send;

    /// Ends when something has changed since `above`, or after a while.
    fn changed(&self, above: u64) -> impl Future<Output = ()> + Send;
}
