//! What may be chosen about an orchestrator, with defaults that serve one machine.
//!
//! Read from file, environment and flags by the binary; every field has a unit in its name or its
//! comment. Nothing here is checked twice: [`Config::check`] finds every mistake at once.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use splitplace_plan::ArmKind;
use splitplace_policy::exit::{MAX_PLACES, task::SERVED};
use splitplace_twin::strategies::STRATEGIES;

/// Everything that may be chosen about an orchestrator.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// Folder whose packages may be served; each is a folder with `package.toml`, or an `.onnx` file.
    pub models: Option<PathBuf>,
    /// Models to serve from the start, by name; empty means every package of `models`.
    pub load: Vec<String>,
    /// Where state is kept. Nothing survives a restart without it.
    pub store: Option<PathBuf>,
    /// Description of an emulated fleet: links are slowed as it says.
    pub fleet: Option<PathBuf>,
    /// Which arm answers.
    pub policy: PolicyConfig,
    /// When a request is let in, and how long it is kept.
    pub admission: Admission,
    /// Sessions with workers.
    pub workers: Workers,
    /// Where fragments go.
    pub planning: Planning,
    /// When early exits answer.
    pub exits: Exits,
    /// The inference API.
    pub api: Api,
    /// Traces of requests.
    pub traces: Traces,
    /// Certificates; without them only loopback addresses are allowed.
    pub tls: Option<Tls>,
    /// Allow addresses beyond loopback without certificates. For networks that are trusted otherwise.
    pub insecure: bool,
    /// Seed of every random choice; drawn at start when absent.
    pub seed: Option<u64>,
}

/// Addresses. Port 0 takes any free port.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Listen {
    /// Inference over gRPC.
    pub grpc: SocketAddr,
    /// Inference over REST.
    pub http: SocketAddr,
    /// Prometheus metrics.
    pub metrics: SocketAddr,
    /// Workers: control sessions and results.
    pub workers: SocketAddr,
    /// Where workers reach `workers`, when that is not the address it listens on.
    pub workers_public: Option<String>,
}

/// Which arm answers a request.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PolicyConfig {
    /// Its name: `slack`, `two-context`, `layer`, `semantic`, `whole`, `random`.
    pub name: String,
    /// Its own numbers, by name; the ones left out keep the policy's defaults.
    pub params: BTreeMap<String, f64>,
}

/// When a request is let in, and how long it is kept.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Admission {
    /// Requests in flight; one more is refused.
    pub max_in_flight: usize,
    /// A client that set no deadline of its own is answered up to this long after the promised time,
    /// in milliseconds: late is better than lost.
    pub patience_ms: u64,
    /// Refuse at once what no variant can answer while the client still waits.
    pub refuse_hopeless: bool,
    /// Attempts of one request before it fails.
    pub max_attempts: u32,
    /// Decisions remembered for feedback.
    pub remembered: usize,
}

/// Sessions with workers.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Workers {
    /// Between two beats, in milliseconds.
    pub beat_ms: u64,
    /// Silence after which a node is lost, in milliseconds.
    pub silence_ms: u64,
    /// Between two reports, in milliseconds.
    pub report_ms: u64,
    /// Nodes that may join.
    pub max_nodes: usize,
    /// Requests that may wait for one fragment.
    pub queue_limit: u32,
    /// Largest frame from or to a worker, in bytes.
    pub max_frame_bytes: usize,
    /// Time for a node to fetch and load what it is assigned, in milliseconds.
    pub load_timeout_ms: u64,
}

/// Where fragments go.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Planning {
    /// Largest number of fragments of a chain.
    pub max_parts: usize,
    /// Ways of running a model that may be planned: `whole`, `chain`, `semantic`, `exits`,
    /// `compressed`.
    pub arms: Vec<String>,
    /// Who chooses places: `exact` (each arm at its best, one after another), `annealing` (all arms together), `integer`,
    /// `greedy`, or `random`, to compare with.
    pub strategy: String,
    /// Most accuracy that coding tensors on one link may cost, as a share of answers. Only codings
    /// that were measured for a package are used; 0 allows those that cost nothing.
    pub codec_cost: f64,
    /// Whether tensors may be coded on links at all.
    pub codecs: bool,
    /// Requests a second that each way of running a model should be able to carry; 0 plans for the
    /// least latency of a single request. A chain is cut into more fragments where fewer could not
    /// keep up.
    pub rate_per_second: f64,
    /// After the fleet changes, how long to wait for more changes before planning, in milliseconds.
    pub settle_ms: u64,
    /// At start, how long to wait for the nodes of the last plan, in milliseconds.
    pub rejoin_ms: u64,
    /// Runs of each segment when a model is first measured on the fleet; 0 trusts what is predicted.
    pub profile_runs: u32,
    /// File with what layers cost, for predicting segments that never ran: `splitplace lab costs --write` makes one.
    /// Without it, coefficients that are shipped.
    pub costs: Option<PathBuf>,
    /// Shortest time between two plans that are made because links or load have moved, in milliseconds; 0 makes none
    /// for that alone.
    pub drift_ms: u64,
    /// Plan for the load that is seen, where it keeps nodes busy. What an operator has said of a load goes before it.
    pub follow_load: bool,
    /// Share of each link's time that probes may take while nothing else measures it; 0 sends none.
    pub probe_share: f64,
}

/// When early exits answer.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Exits {
    /// What decides: `threshold`, `last-exit`, `knapsack`, `queueing-lp`, `data-driven`, `backlog-lp`, `joint`,
    /// `apart`, `ada-ee`, `nested` (docs/exit-control.md). Without it, what the package says; without that,
    /// `threshold`.
    pub policy: Option<String>,
    /// Share of the requests that may be turned away for want of room. Without it, what the package says; without
    /// that, 0.01.
    pub loss_target: Option<f64>,
    /// Requests of one arm that may be present on a node, the ones in service included, while its exits are
    /// controlled.
    pub places: u32,
    /// Share of the requests that go to the network's end so that the exits' calibration is checked.
    pub audit_share: f64,
}

/// The inference API.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Api {
    /// Largest message from or to a client, in bytes.
    pub max_message_bytes: usize,
    /// File with one client token a line; without it clients need none.
    pub tokens: Option<PathBuf>,
    /// Offer gRPC reflection.
    pub reflection: bool,
    /// Offer the numbers of `docs/metrics.md` under Triton's names too.
    pub triton_metrics: bool,
}

/// Traces of requests (docs/tracing.md).
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Traces {
    /// Where an OTLP collector takes gRPC, as `http://127.0.0.1:4317`. Without it, and without `--otlp` or its
    /// variable, nothing is traced.
    pub endpoint: Option<String>,
    /// Share of the requests that are traced when their client says nothing about it. Those that are lost,
    /// late or slow always are.
    pub ratio: f64,
    /// An answer that takes longer is slow, in milliseconds.
    pub slow_ms: u64,
    /// Traces that may wait for the collector; more are dropped, and counted.
    pub queue: usize,
}

/// Certificate files, in PEM.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tls {
    /// Authority that signed the workers' certificates.
    pub ca: PathBuf,
    /// This orchestrator's certificate chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Default for Listen {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            grpc: local(8001),
            http: local(8000),
            metrics: local(8002),
            workers: local(8003),
            workers_public: None,
        }
    }
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            name: "slack".into(),
            params: BTreeMap::new(),
        }
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            max_in_flight: 4096,
            patience_ms: 5000,
            refuse_hopeless: true,
            max_attempts: 16,
            remembered: 65_536,
        }
    }
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            beat_ms: 100,
            silence_ms: 800,
            report_ms: 500,
            max_nodes: 1024,
            queue_limit: 512,
            max_frame_bytes: 64 << 20,
            load_timeout_ms: 60_000,
        }
    }
}

impl Default for Planning {
    fn default() -> Self {
        Self {
            max_parts: 4,
            arms: ArmKind::ALL.map(|kind| kind.label().to_owned()).to_vec(),
            strategy: STRATEGIES[0].to_owned(),
            codec_cost: 0.002,
            codecs: true,
            rate_per_second: 0.0,
            settle_ms: 150,
            rejoin_ms: 3000,
            profile_runs: 5,
            costs: None,
            drift_ms: 1000,
            follow_load: true,
            probe_share: 0.01,
        }
    }
}

impl Default for Exits {
    fn default() -> Self {
        Self {
            policy: None,
            loss_target: None,
            places: 16,
            audit_share: 0.01,
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            max_message_bytes: 64 << 20,
            tokens: None,
            reflection: true,
            triton_metrics: false,
        }
    }
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: None,
            ratio: 0.01,
            slow_ms: 1000,
            queue: 4096,
        }
    }
}

impl Config {
    /// Every mistake, in words for the person who wrote it; none when it can be used.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let listen = &self.listen;
        for (name, address) in [
            ("listen.grpc", listen.grpc),
            ("listen.http", listen.http),
            ("listen.metrics", listen.metrics),
            ("listen.workers", listen.workers),
        ] {
            if !address.ip().is_loopback() && self.tls.is_none() && !self.insecure {
                wrong.push(format!(
                    "{name} = {address} is reachable from other machines without certificates; \
                     set tls.ca, tls.cert and tls.key, or insecure = true if the network is trusted"
                ));
            }
        }
        if self.workers.silence_ms < 2 * self.workers.beat_ms {
            wrong.push(format!(
                "workers.silence-ms = {} would take one late beat for a loss; at least twice \
                 workers.beat-ms = {} is needed",
                self.workers.silence_ms, self.workers.beat_ms
            ));
        }
        for (name, value) in [
            ("admission.max-in-flight", self.admission.max_in_flight),
            (
                "admission.max-attempts",
                self.admission.max_attempts as usize,
            ),
            ("workers.beat-ms", self.workers.beat_ms as usize),
            ("workers.report-ms", self.workers.report_ms as usize),
            ("workers.max-nodes", self.workers.max_nodes),
            ("workers.queue-limit", self.workers.queue_limit as usize),
            ("planning.max-parts", self.planning.max_parts),
            ("traces.queue", self.traces.queue),
        ] {
            if value == 0 {
                wrong.push(format!("{name} must be at least 1"));
            }
        }
        let cost = self.planning.codec_cost;
        if !(0.0..=1.0).contains(&cost) {
            wrong.push(format!(
                "planning.codec-cost = {cost} must be a share of answers, between 0 and 1"
            ));
        }
        let rate = self.planning.rate_per_second;
        if !rate.is_finite() || rate < 0.0 {
            wrong.push(format!(
                "planning.rate-per-second = {rate} must be a number of requests, 0 or above"
            ));
        }
        let ratio = self.traces.ratio;
        if !(0.0..=1.0).contains(&ratio) {
            wrong.push(format!(
                "traces.ratio = {ratio} must be a share of requests, between 0 and 1"
            ));
        }
        let exits = &self.exits;
        if let Some(policy) = exits.policy.as_deref().filter(|p| !SERVED.contains(p)) {
            wrong.push(format!(
                "exits.policy names {policy:?}; known are {}",
                SERVED.join(", ")
            ));
        }
        if exits
            .loss_target
            .is_some_and(|target| !(0.0 < target && target < 1.0))
        {
            wrong.push("exits.loss-target must be a share of requests, above 0 and below 1".into());
        }
        if !(1..=MAX_PLACES).contains(&(exits.places as usize)) {
            wrong.push(format!("exits.places must lie between 1 and {MAX_PLACES}"));
        }
        if !(0.0..=0.5).contains(&exits.audit_share) {
            wrong.push("exits.audit-share must be a share of requests, at most a half".into());
        }
        if !(0.0..=0.2).contains(&self.planning.probe_share) {
            wrong.push("planning.probe-share must be a share of links' time, at most 0.2".into());
        }
        for arm in &self.planning.arms {
            if ArmKind::from_label(arm).is_none() {
                let known = ArmKind::ALL.map(ArmKind::label).join(", ");
                wrong.push(format!("planning.arms names {arm:?}; known are {known}"));
            }
        }
        if !STRATEGIES.contains(&self.planning.strategy.as_str()) {
            wrong.push(format!(
                "planning.strategy is {:?}; known are {}",
                self.planning.strategy,
                STRATEGIES.join(", ")
            ));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_used() {
        assert_eq!(Config::default().check(), Vec::<String>::new());
    }

    #[test]
    fn an_open_address_needs_certificates_or_a_word() {
        let mut config = Config::default();
        config.listen.grpc = SocketAddr::from(([0, 0, 0, 0], 8001));
        assert_eq!(config.check().len(), 1);
        config.insecure = true;
        assert!(config.check().is_empty());
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let mut config = Config::default();
        config.workers.silence_ms = 1;
        config.admission.max_in_flight = 0;
        config.planning.arms.push("magic".into());
        config.planning.rate_per_second = f64::NAN;
        config.exits.policy = Some("hasty".into());
        config.exits.places = 0;
        config.exits.audit_share = f64::NAN;
        config.exits.loss_target = Some(1.0);
        config.planning.probe_share = f64::NAN;
        config.planning.strategy = "luck".into();
        assert_eq!(config.check().len(), 10);
    }
}
