//! The operator's parts that are not the cluster's: the way to the orchestrator, and its own pulse.

pub(crate) mod center;
pub(crate) mod pulse;
