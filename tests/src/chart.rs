//! What the chart renders, from its snapshots, which `charts/check.py` holds against real Helm.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "what fails here is a failed test"
)]

use std::{fs, path::Path};

use serde_json::Value;

/// Every object of a snapshot (`default`), in order, in the namespace `edge`.
#[must_use]
pub fn rendered(snapshot: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/snapshots");
    let text = fs::read_to_string(folder.join(format!("{snapshot}.yaml"))).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}
