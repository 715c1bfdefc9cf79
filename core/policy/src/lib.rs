//! Which arm answers a request: bandits and fixed policies behind one trait.
//!
//! A policy sees a [`Context`] and the arms that could answer, and returns a [`Choice`] that says why.
//! Later it is told the [`Outcome`]. It has no clock and no source of randomness of its own, so that
//! the daemon, the tests and the twin get the same choices from the same seed.
//!
//! What is deliberately absent: knowledge of nodes, routes and models. An arm is what its
//! [`ArmView`] says of it.

mod contract;

pub use contract::{ArmView, Choice, Context, Outcome, Policy, Reason};
