//! The one brain: lifecycle, policy and plan put together, told facts and giving orders.
//!
//! A [`Brain`] holds every request in flight, the running plan, which nodes are alive, how much work
//! is on its way to each, and the policy that chooses arms. It has no clock, no thread and no socket:
//! the daemon and the twin both drive it, one with real workers behind it, the other with simulated
//! ones. The same facts in the same order from the same seed give the same orders.
//!
//! Reading order: [`forecast`] (how long an arm would take now), [`memory`] (decisions kept for
//! feedback), [`brain`](Brain).

mod brain;
mod facts;
pub mod forecast;
pub mod memory;

pub use brain::Brain;
pub use facts::{Arrival, Decision, Order, Refusal, Report, Settings};
