//! Packages from texts and bytes, no files.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
