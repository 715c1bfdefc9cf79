//! What is known about the world, as values: nodes, links, and the moment at which it was known.
//!
//! Nothing here measures anything. The edges fill a [`Snapshot`] from sessions and configuration;
//! the planner, the policies and the twin read it. Units are seconds, bytes and multiply-accumulates
//! (MACs); instants are [`Timestamp`]s from whichever clock the interpreter runs on.
//!
//! Reading order: [`time`], [`node`], [`link`], [`snapshot`], [`watch`] (what frames say of a link).

pub mod link;
pub mod node;
pub mod snapshot;
pub mod time;
pub mod watch;

pub use link::{Link, Links, Place};
pub use node::{Node, NodeId, NodeState};
pub use snapshot::Snapshot;
pub use time::Timestamp;
pub use watch::{LinkWatch, WatchSettings};
