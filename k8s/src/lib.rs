//! SplitPlace in a cluster: custom resources, and an operator between them and the orchestrator.
//!
//! Kubernetes keeps processes alive, names nodes, carries secrets and elects a leader; which fragment
//! runs where stays with the orchestrator. The operator is a thin edge around pure functions: it looks
//! at everything (resources, cluster nodes, jobs, the orchestrator), asks [`decide`] what follows, and
//! carries that out. Nothing depends on having seen every change: a pass that is missed is made up for
//! by the next.
//!
//! Reading order: [`model`], [`node`] (the resources), [`center`] (what is asked of an orchestrator),
//! [`conditions`], [`status`], [`tell`], [`decide`], [`nodes`], [`fetch`] (pure), [`cluster`], [`lease`],
//! [`pass`], [`operator`] (the edge), [`crds`], then for `doctor` [`look`], [`rights`], [`drift`] (pure).
//!
//! Deliberately absent: sockets of its own, the environment, prost, any decision about requests.

pub mod center;
pub mod cluster;
pub mod conditions;
pub mod crds;
pub mod decide;
pub mod drift;
pub mod fetch;
pub mod lease;
pub mod look;
pub mod model;
pub mod node;
pub mod nodes;
pub mod operator;
pub mod pass;
pub mod rights;
pub mod status;
pub mod tell;

/// API group of the custom resources, and prefix of labels and finalisers.
pub const GROUP: &str = "splitplace.dev";
/// Manager under which fields are applied. It never changes: who else sets a field of ours is told so.
pub const FIELD_MANAGER: &str = "splitplace-operator";
/// Finaliser of an EdgeModel: requests are drained before it goes.
pub const FINALIZER: &str = "splitplace.dev/drain";
/// Label that keeps workers off a cluster node; the chart's DaemonSets avoid it.
pub const HOLD_LABEL: &str = "splitplace.dev/hold";

/// The Kubernetes client, for whoever starts an operator on a cluster of their own.
pub use kube::Client;
