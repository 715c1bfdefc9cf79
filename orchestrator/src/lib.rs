//! The centre: inference API, control sessions, decisions, store.
//!
//! Reading order: [`face`] (what is asked of the centre).

pub mod adoption;
pub mod catalog;
pub mod center;
pub mod config;
pub mod face;
pub mod measured;
pub mod planning;
pub mod sessions;
pub mod store;
