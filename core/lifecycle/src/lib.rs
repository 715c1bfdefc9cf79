//! One request from arrival to answer, as a pure state machine.
//!
//! ```text
//!             ┌────────────── failure, node lost ──────────────┐
//!             v                                                │
//!  Arrived ─> Deciding ── Routed ──> Running(attempt k) ───────┤
//!     │          │ Unroutable            │ all branches ─────> Answered
//!     │          v                       │ deadline, some ───> Answered (partial)
//!     │       Waiting ── routes change,  │ expiry ───────────> Expired
//!     │          │       wake ──> Deciding
//!     └ refused  └ expiry ─> Expired
//! ```
//!
//! The [`Ledger`] is told facts ([`Event`]s) and answers with orders ([`Effect`]s). It never waits,
//! never draws a random number and never looks at a clock: `now` comes with each fact, and waking up
//! is an order like any other. It decides neither arm nor route; it asks for that ([`Effect::Decide`])
//! and is told the result ([`Event::Routed`]), so that the daemon, the tests and the twin can put the
//! same policy and the same plan behind it.
//!
//! Invariants, asserted in every step:
//! - a request that arrived ends exactly once, by one [`Effect::Finish`];
//! - `arrived = refused + answered + expired + failed + cancelled + in flight`;
//! - a fact about an older attempt, or about a request that has ended, changes nothing.
//!
//! Deliberately absent: tensors, clients, sockets. The edge keeps those by [`RequestId`].
//!
//! Reading order: [`event`], [`ledger`].

pub mod event;
pub mod ledger;

pub use event::{BranchRoute, Effect, Ending, Event, Fault, RequestId};
pub use ledger::{Counts, Ledger, Limits};
