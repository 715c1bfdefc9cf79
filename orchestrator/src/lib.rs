//! The centre: inference API, control sessions, decisions, store.
//!
//! Reading order: [`face`] (what is asked of the centre).

pub mod catalog;
pub mod face;
pub mod measured;
pub mod planning;
pub mod store;
