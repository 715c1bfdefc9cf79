//! The node daemon: engine, queues, fragments, forwarding.
//!
//! A worker dials the orchestrator and keeps one session; what it is assigned it fetches, verifies,
//! loads and measures. Frames come in from the orchestrator and from other workers, wait in bounded
//! queues ordered by deadline, are computed on threads of their own, and leave for the next hop of
//! their route without passing through the orchestrator.
//!
//! Nothing is global: any number of workers live in one process.
//!
//! Reading order: [`config`], [`memory`] (what a node really has), `cache` (on disk), `profile` (what a fragment takes), `profiles`
//! (kept), `fragments` (held and measured), `curve` (in settings that no traffic has shown),
//! `routes` (tables by generation), `compute` (queues and threads), `coding` (tensors as they cross
//! links), `exits` (heads that may answer), `station` (who decides at them), `node` (frames in and out),
//! `probed` (frames that only measure links), `session` (the control plane).

mod cache;
mod coding;
mod compute;
pub mod config;
mod curve;
mod emulated;
mod exits;
mod fragments;
pub mod memory;
mod metrics;
mod news;
mod node;
mod probed;
mod profile;
mod profiles;
mod routes;
mod session;
mod station;

pub use config::Config;
pub use metrics::Families as Metrics;
pub use session::{Error, run};
