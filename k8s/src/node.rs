//! `EdgeNode`: what the orchestrator knows of a node. The operator writes it; people read it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A node of the fleet as the orchestrator measured it.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "splitplace.dev",
    version = "v1alpha1",
    kind = "EdgeNode",
    plural = "edgenodes",
    shortname = "en",
    category = "splitplace",
    namespaced,
    status = "EdgeNodeStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason"}"#,
    printcolumn = r#"{"name":"Cores","type":"integer","jsonPath":".status.cores"}"#,
    printcolumn = r#"{"name":"Speed","type":"string","jsonPath":".status.speed"}"#,
    printcolumn = r#"{"name":"Memory","type":"string","jsonPath":".status.memory"}"#,
    printcolumn = r#"{"name":"Fragments","type":"integer","jsonPath":".status.fragmentCount"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#,
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".status.address","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct EdgeNodeSpec {
    /// Keep fragments off this node, as cordoning does: `kubectl patch edgenode NAME --type merge -p
    /// '{"spec":{"hold":true}}'`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<bool>,
}

/// What is known of a node.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeNodeStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Alive, Leaving, Held, Lost, Absent when only the cluster knows the node, or Unknown while the orchestrator
    /// cannot be reached.
    pub state: String,
    /// In one word, why.
    pub reason: String,
    /// For people: what happened, and what to do.
    pub message: String,
    /// UID of the cluster's node of that name, the last one when the cluster has it no more; absent for a machine that
    /// never was a node of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_uid: Option<String>,
    /// Cores that fragments may use.
    #[serde(default)]
    pub cores: i32,
    /// Speed measured with the engine, in multiply-accumulates a second on one core.
    #[serde(default)]
    pub macs_per_second: f64,
    /// The same for people.
    #[serde(default)]
    pub speed: String,
    /// Bytes that fragments may take.
    #[serde(default)]
    pub memory_bytes: i64,
    /// Bytes that fragments take.
    #[serde(default)]
    pub memory_used_bytes: i64,
    /// Both for people.
    #[serde(default)]
    pub memory: String,
    /// Where its peers reach it.
    #[serde(default)]
    pub address: String,
    /// How many fragments of the plan in force it has.
    #[serde(default)]
    pub fragment_count: i32,
    /// Which.
    #[serde(default)]
    pub fragments: Vec<HeldFragment>,
    /// Ways to its peers: as frames found them, and before there were any as the fleet file says, or as is assumed.
    #[serde(default)]
    pub links: Vec<LinkRate>,
}

/// A fragment that a node holds.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldFragment {
    /// The model.
    pub model: String,
    /// The arm.
    pub arm: String,
    /// The fragment's name.
    pub fragment: String,
    /// Bytes that it takes.
    pub memory_bytes: i64,
}

/// A way to a peer.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkRate {
    /// The peer.
    pub to: String,
    /// Bytes a second; written anew when it has changed by a fifth. Absent when nothing is known to limit them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
    /// One-way delay, in microseconds.
    #[serde(default)]
    pub delay_micros: i64,
}
