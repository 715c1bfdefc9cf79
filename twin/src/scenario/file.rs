//! The file's shape.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    #[serde(default)]
    pub(super) description: String,
    pub(super) duration_s: f64,
    #[serde(default)]
    pub(super) warm_up_s: f64,
    #[serde(default = "one_seed")]
    pub(super) seed: u64,
    #[serde(default = "replications")]
    pub(super) replications: u64,
    /// The whole file so many times, each in a site of its own: `name@1`, `name@2`, ...
    #[serde(default = "one")]
    pub(super) copies: u32,
    #[serde(default)]
    pub(super) policy: PolicyEntry,
    #[serde(default)]
    pub(super) admission: Admission,
    #[serde(default)]
    pub(super) planning: Planning,
    #[serde(default)]
    pub(super) control: ControlEntry,
    #[serde(rename = "node")]
    pub(super) nodes: Vec<NodeEntry>,
    #[serde(rename = "link", default)]
    pub(super) links: Vec<LinkEntry>,
    #[serde(rename = "model")]
    pub(super) models: Vec<ModelEntry>,
    #[serde(rename = "load")]
    pub(super) loads: Vec<LoadEntry>,
    #[serde(rename = "fault", default)]
    pub(super) faults: Vec<FaultEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct PolicyEntry {
    pub(super) name: String,
    #[serde(default)]
    pub(super) params: BTreeMap<String, f64>,
}

impl Default for PolicyEntry {
    fn default() -> Self {
        Self {
            name: "two-context".into(),
            params: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Admission {
    pub(super) max_in_flight: Option<usize>,
    pub(super) max_attempts: Option<u32>,
    pub(super) refuse_hopeless: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Planning {
    pub(super) strategy: Option<String>,
    pub(super) arms: Option<Vec<String>>,
    pub(super) max_parts: Option<usize>,
    pub(super) spread: Option<f64>,
    pub(super) fragment_kb: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct ControlEntry {
    pub(super) broken_ms: Option<f64>,
    pub(super) silence_ms: Option<f64>,
    pub(super) settle_ms: Option<f64>,
    pub(super) planning_ms: Option<f64>,
    pub(super) fetch_mbit: Option<f64>,
    pub(super) load_ms: Option<f64>,
    pub(super) load_ms_per_mb: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct NodeEntry {
    pub(super) name: String,
    #[serde(default = "one")]
    pub(super) count: u32,
    #[serde(default = "one")]
    pub(super) cores: u32,
    pub(super) gmacs: f64,
    pub(super) memory_mb: f64,
    #[serde(default)]
    pub(super) discipline: DisciplineEntry,
    #[serde(default = "queue_limit")]
    pub(super) queue_limit: u32,
    /// How many times longer than planned it computes.
    #[serde(default = "whole")]
    pub(super) slowness: f64,
    /// Squared coefficient of variation of that.
    #[serde(default)]
    pub(super) service_scv: f64,
    /// Observed factors instead.
    pub(super) service_factors: Option<Vec<f64>>,
    /// How many times as long a frame takes while all cores are busy as alone.
    #[serde(default = "whole")]
    pub(super) crowding: f64,
    #[serde(default)]
    pub(super) overhead_ms: f64,
    pub(super) uplink_mbit: Option<f64>,
    #[serde(default)]
    pub(super) watts: Vec<f64>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DisciplineEntry {
    #[default]
    EarliestDeadline,
    InOrder,
    Sharing,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LinkEntry {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) rate_mbit: Option<f64>,
    #[serde(default)]
    pub(super) delay_ms: f64,
    #[serde(default)]
    pub(super) jitter_ms: f64,
    #[serde(default)]
    pub(super) one_way: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ModelEntry {
    pub(super) name: String,
    pub(super) site: Option<String>,
    #[serde(default)]
    pub(super) planned_rate: f64,
    #[serde(rename = "variant")]
    pub(super) variants: Vec<VariantEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct VariantEntry {
    pub(super) name: String,
    pub(super) accuracy: Option<f64>,
    #[serde(default)]
    pub(super) semantic: bool,
    #[serde(default)]
    pub(super) compressed: bool,
    #[serde(default)]
    pub(super) exits: Vec<ExitEntry>,
    pub(super) exit_policy: Option<String>,
    pub(super) loss_target: Option<f64>,
    pub(super) exit_places: Option<u32>,
    pub(super) audit_share: Option<f64>,
    #[serde(rename = "part")]
    pub(super) parts: Vec<PartEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ExitEntry {
    /// Segments before it.
    pub(super) behind: usize,
    /// Of all requests the share that it answers at its threshold.
    pub(super) leave: f64,
    /// Share of right answers if all requests were answered there.
    pub(super) accuracy: f64,
    #[serde(default)]
    pub(super) mmacs: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct PartEntry {
    pub(super) segments: Vec<SegmentEntry>,
    pub(super) crossing_kb: Vec<f64>,
    #[serde(default)]
    pub(super) codings: Vec<CodingEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CodingEntry {
    /// Segments before what crosses.
    pub(super) behind: usize,
    pub(super) codec: String,
    pub(super) kb: f64,
    #[serde(default)]
    pub(super) encode_mmacs: f64,
    #[serde(default)]
    pub(super) decode_mmacs: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct SegmentEntry {
    pub(super) mmacs: f64,
    #[serde(default)]
    pub(super) weights_kb: f64,
    #[serde(default)]
    pub(super) live_kb: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LoadEntry {
    pub(super) model: String,
    /// Requests a second, Poisson unless `constant`.
    pub(super) rate: Option<f64>,
    #[serde(default)]
    pub(super) constant: bool,
    /// Modulated: requests a second and mean seconds of each phase.
    pub(super) phases: Option<Vec<(f64, f64)>>,
    /// Seconds of each arrival.
    pub(super) trace_s: Option<Vec<f64>>,
    pub(super) sla_ms: Vec<(f64, f64)>,
    #[serde(default = "patience")]
    pub(super) patience_ms: f64,
    #[serde(default = "one")]
    pub(super) samples: u32,
    #[serde(default)]
    pub(super) feedback: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct FaultEntry {
    pub(super) at_s: f64,
    pub(super) crash: Option<String>,
    pub(super) silence: Option<String>,
    pub(super) rejoin: Option<String>,
    pub(super) slow: Option<String>,
    #[serde(default = "whole")]
    pub(super) times: f64,
    pub(super) link: Option<LinkEntry>,
}

const fn one() -> u32 {
    1
}

const fn one_seed() -> u64 {
    1
}

const fn replications() -> u64 {
    10
}

const fn queue_limit() -> u32 {
    512
}

const fn whole() -> f64 {
    1.0
}

const fn patience() -> f64 {
    5000.0
}
