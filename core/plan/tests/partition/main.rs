//! Parting networks: every method against every cut there is, and against cases solved by hand.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod down_sets;
mod drawn;
mod envelope;
mod methods;
mod placed;
mod question;
mod several;
