//! `EdgeModel`: a model that shall be served, and how.

#![allow(
    unreachable_pub,
    reason = "the schema's derive repeats each type within a function of its own"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A model that shall be served by the fleet: where its package is, and what is promised.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "splitplace.dev",
    version = "v1alpha1",
    kind = "EdgeModel",
    plural = "edgemodels",
    shortname = "em",
    category = "splitplace",
    namespaced,
    status = "EdgeModelStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Arms","type":"string","jsonPath":".status.arms"}"#,
    printcolumn = r#"{"name":"Nodes","type":"integer","jsonPath":".status.nodes"}"#,
    printcolumn = r#"{"name":"Predicted","type":"string","jsonPath":".status.predicted"}"#,
    printcolumn = r#"{"name":"SLA","type":"string","jsonPath":".status.sla"}"#,
    printcolumn = r#"{"name":"Loss","type":"string","jsonPath":".status.loss"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Plan","type":"integer","jsonPath":".status.planGeneration","priority":1}"#,
    printcolumn = r#"{"name":"Accuracy","type":"string","jsonPath":".status.accuracy","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.model) == has(oldSelf.model) && (!has(self.model) || self.model == oldSelf.model)")
    .message("model cannot be changed: what is served under the old name would be left behind; make a new EdgeModel"))]
pub struct EdgeModelSpec {
    /// Name under which clients ask for the model; the resource's own name when absent. It must be the
    /// name in the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub model: Option<String>,
    /// Where the package is.
    pub source: Source,
    /// What is promised when a client says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sla: Option<Sla>,
    /// Least validated accuracy of an arm that may answer, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_accuracy: Option<f64>,
    /// Ways of running the model that are allowed; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    #[x_kube(validation = Rule::new("self.all(v, self.exists_one(w, w == v))").message("a variant is named twice"))]
    pub variants: Vec<Variant>,
    /// When the model may answer early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exits: Option<Exits>,
    /// Where fragments may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Who gets memory first when it is not enough for all: higher before lower.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// Longest wait for requests in flight when the model is deleted, in seconds.
    #[serde(default = "drain_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_seconds: u32,
}

const fn drain_seconds() -> u32 {
    30
}

/// Where a package is: exactly one of these.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.stored), has(self.claim), has(self.hostPath), has(self.http), has(self.oci)].filter(x, x).size() == 1")
    .message("source needs exactly one of stored, claim, hostPath, http, oci"))]
pub struct Source {
    /// The orchestrator has it already: in its store, or in its models' folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Stored>,
    /// On a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// In a folder of the orchestrator's node. Refused in namespaces with the restricted standard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<HostPath>,
    /// A `.tar`, `.tar.gz` or `.onnx` file at a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// An artifact in an OCI registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<Oci>,
}

/// A package that the orchestrator has already.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {}

/// A package on a volume.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The PersistentVolumeClaim, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Folder or file on it.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(p, p == '..')").message("path must be relative and without .."))]
    pub path: String,
}

/// A package in a folder of the orchestrator's node.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPath {
    /// Folder or file.
    #[schemars(length(min = 2, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/') && !self.split('/').exists(p, p == '..')").message("path must be absolute and without .."))]
    pub path: String,
}

/// A package at a URL.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// `http://` or `https://`.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^/?#]+/.*$"))]
    pub url: String,
    /// SHA-256 of the file, as `sha256:…`. What has another one is not served.
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
}

/// A package in an OCI registry.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Oci {
    /// `registry[:port]/repository`, without a tag.
    #[schemars(
        length(max = 512),
        regex(pattern = r"^[a-z0-9.-]+(:[0-9]+)?/[a-z0-9._/-]+$")
    )]
    pub repository: String,
    /// Digest of the manifest, as `sha256:…`.
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// Speak plain HTTP: for a registry within the cluster.
    #[serde(default)]
    pub plain_http: bool,
}

/// What is promised.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sla {
    /// Milliseconds from arrival to answer.
    #[schemars(range(min = 1, max = 600_000))]
    pub milliseconds: u32,
    /// Share of answers that shall be within that, from 0 to 1.
    #[serde(default = "share")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
}

const fn share() -> f64 {
    0.9
}

/// A way of running a model.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// On one node.
    Whole,
    /// Cut by layers.
    Chain,
    /// Branches over groups of classes.
    Semantic,
    /// With exits that answer early.
    Exits,
    /// Quantised or pruned.
    Compressed,
}

impl Variant {
    /// The orchestrator's word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Chain => "chain",
            Self::Semantic => "semantic",
            Self::Exits => "exits",
            Self::Compressed => "compressed",
        }
    }
}

/// When a model may answer early. What is said here goes before the orchestrator's configuration and the package.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.policy == 'confidence') == has(self.minConfidence)")
    .message("minConfidence goes with the policy confidence, and it needs it"))]
#[x_kube(validation = Rule::new("!has(self.lossTarget) || !(self.policy in ['never', 'confidence'])")
    .message("lossTarget goes with a controller: under never and confidence nothing is turned away"))]
pub struct Exits {
    /// Who decides whether an exit answers: never, confidence (fixed thresholds), or a controller, of which joint is
    /// the one to begin with.
    pub policy: ExitPolicy,
    /// Confidence from which an exit may answer, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_confidence: Option<f64>,
    /// Share of requests that may be turned away, which the controller holds, above 0 and below 1. Without it, what
    /// the orchestrator's configuration says, or the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    #[x_kube(validation = Rule::new("0.0 < self && self < 1.0").message("lossTarget must be above 0 and below 1"))]
    pub loss_target: Option<f64>,
}

/// Who decides whether an exit answers. The controllers are those of `docs/exit-control.md`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitPolicy {
    /// No arm with exits has a place.
    #[default]
    Never,
    /// A fixed threshold.
    Confidence,
    /// Backlog, confidence and accuracy weighed together, for a whole line of nodes.
    Joint,
    /// The same on each node alone.
    Apart,
    /// Every request goes to the network's end; what finds a node full is turned away.
    LastExit,
    /// Two exits that fit the mean rate, drawn when service begins.
    Knapsack,
    /// Exits drawn when service begins, by the loss that a queueing formula gives.
    QueueingLp,
    /// The exit by backlog, chosen when service begins.
    BacklogLp,
    /// Thresholds searched on recorded inputs.
    DataDriven,
    /// A bandit over one threshold, on the node.
    AdaEe,
    /// A bandit with nested feedback, on the node.
    Nested,
}

/// Where fragments may be.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.pin) || self.pin.all(p, self.pin.exists_one(q, q.fragment == p.fragment))").message("a fragment is pinned twice"))]
pub struct Placement {
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Fragments with a place of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub pin: Vec<Pin>,
    /// At most one fragment of a chain on a node.
    #[serde(default)]
    pub spread: bool,
    /// Data must not leave nodes whose label `topology.kubernetes.io/zone` has this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub zone: Option<String>,
}

/// A fragment with a place of its own.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// Index of the fragment, from 0.
    #[schemars(range(min = 0, max = 63))]
    pub fragment: u32,
    /// The node.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
}

/// What became of it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeModelStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, Fetched, Placed, PromiseKept, Ready.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of the plan in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_generation: Option<i64>,
    /// How to ask for the model.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Where its fragments are.
    #[serde(default)]
    pub fragments: Vec<FragmentPlace>,
    /// How many nodes have fragments of it.
    #[serde(default)]
    pub nodes: i32,
    /// Arms that can answer now, by comma.
    #[serde(default)]
    pub arms: String,
    /// Response that the fastest arm is predicted to have.
    #[serde(default)]
    pub predicted: String,
    /// The promise, and what is known of its keeping.
    #[serde(default)]
    pub sla: String,
    /// Share of requests without an answer.
    #[serde(default)]
    pub loss: String,
    /// Validated accuracy of the arms that can answer, least to best.
    #[serde(default)]
    pub accuracy: String,
}

/// How to ask for a model.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// `grpc` or `http`, both of the Open Inference Protocol v2.
    pub protocol: String,
    /// `host:port`, or a URL.
    pub address: String,
    /// The name to ask for.
    pub model: String,
    /// Whether certificates are used.
    #[serde(default)]
    pub tls: bool,
    /// Whether it leads in from outside the cluster.
    #[serde(default)]
    pub external: bool,
}

/// Where a fragment is.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FragmentPlace {
    /// The node.
    pub node: String,
    /// The arm it belongs to.
    pub arm: String,
    /// Its name.
    pub fragment: String,
    /// Bytes that it takes there.
    pub memory_bytes: i64,
    /// Mean time for one sample, in microseconds.
    pub service_micros: i64,
}

impl EdgeModel {
    /// Name under which clients ask for it.
    #[must_use]
    pub fn served_name(&self) -> &str {
        let own = self.metadata.name.as_deref().unwrap_or_default();
        self.spec.model.as_deref().unwrap_or(own)
    }
}
