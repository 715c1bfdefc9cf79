//! The digital twin: what would happen, without it happening.
//!
//! An event simulation of queues, links and failures. It is pure: no clock, no I/O, no logging; time is
//! a number and randomness a parameter. The same seed gives the same trace, bit for bit.
//!
//! Reading order: [`seed`] (streams of randomness), [`agenda`] (what will happen next).

pub mod agenda;
pub mod seed;

pub use seed::{Seed, Stream};
