//! The centre: inference API, control sessions, decisions, store.
//!
//! Reading order: [`face`] (what is asked of the centre), [`api`] (who asks), [`center`] (who answers),
//! [`wishes`], [`planning`] with [`measured`], [`sessions`] and [`adoption`] (the fleet), [`catalog`] and [`store`]
//! (what lasts), [`watch`] with [`watched`] and [`foresight`] (what operators see), [`app`] (all of it on sockets).

pub mod adoption;
pub mod api;
pub mod app;
pub mod catalog;
pub mod center;
pub mod config;
pub mod face;
pub mod fleet_file;
pub mod foresight;
pub mod measured;
pub mod planning;
pub mod sessions;
pub mod store;
pub mod watch;
pub mod watched;
pub mod wishes;
