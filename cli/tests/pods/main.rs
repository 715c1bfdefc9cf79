//! What the chart's pods run, as processes of this machine: the same commands with the same settings, with
//! certificates, on addresses beyond loopback. Only the names of the cluster's DNS are others, and the
//! API server, where one is needed, is ours.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod commands;
mod doctor;
mod load;
mod operator;
mod serving;
mod standby;
mod traefik;
mod upgrade;

use commands::good;

/// Of an orchestrator's settings: unoptimised workers beside other tests are silent for longer than those of a node.
const PATIENT: &str = "workers.silence-ms = 5000\n";

#[test]
fn the_definitions_are_printed() {
    let text = good(&["crds"]);
    assert!(
        text.contains("edgemodels.splitplace.dev") && text.contains("edgenodes.splitplace.dev")
    );
}
