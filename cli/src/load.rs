//! Load for any server that speaks the Open Inference Protocol over gRPC.
//!
//! Reading order: `arrivals` (when requests come), `payloads` (what they carry), `engine` (sending them
//! and noting what happened), `summary` (what it amounts to), `trial` (measuring a fleet of
//! this machine). The command is in `command::load`.

pub(crate) mod arrivals;
pub(crate) mod engine;
pub(crate) mod payloads;
pub(crate) mod summary;
pub(crate) mod trial;
