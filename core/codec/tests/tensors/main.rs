//! The codecs from outside: what comes back, how long it is, and what happens to what was not written by us.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod corrupted;
mod golden;
mod made;
mod round_trip;
mod size;
