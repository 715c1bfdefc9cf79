//! The centre: inference API, control sessions, decisions, store.
