//! The demo's parts: what is checked, and what it tells at the end.
//!
//! Reading order: `reference` (what answers must be), `recovery` (what happened at the kill), `report`.
//! The command is in `command::demo`.

pub(crate) mod recovery;
pub(crate) mod reference;
pub(crate) mod report;
