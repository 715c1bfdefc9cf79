//! The digital twin: what would happen, without it happening.
//!
//! An event simulation of queues, links and failures. It is pure: no clock, no I/O, no logging; time is
//! a number and randomness a parameter. The same seed gives the same trace, bit for bit.
//!
//! Reading order: [`seed`] (streams of randomness), [`agenda`] (what will happen next), [`law`] and
//! [`arrivals`] (lengths and instants), [`station`] and [`wire`] (where work waits), [`network`] (queues
//! without a brain), [`net`] (small networks that are trained), [`chainnet`] (held against a published truth), [`world`] (the production brain over
//! simulated workers), [`planner`] (plans for it, by the production strategies), [`placement`] (places that simulation decides), [`strategies`] (all of them by name), [`evaluate`]
//! (what a plan is worth), [`scenario`] (worlds as files), [`what_if`] (a live
//! system, changed), [`stats`] (what may be claimed).

pub mod agenda;
pub mod arrivals;
pub mod chainnet;
pub mod evaluate;
pub mod law;
pub mod net;
pub mod network;
pub mod placement;
pub mod planner;
pub mod scenario;
pub mod seed;
pub mod station;
pub mod stats;
pub mod strategies;
pub mod surrogate;
pub mod trace;
pub mod what_if;
pub mod wire;
pub mod world;

pub use law::{Law, LawError};
pub use seed::{Seed, Stream};
pub use trace::TraceHash;
