//! Every way of running a network, as served: exits fire where they are, compressed and semantic variants
//! answer as well as their tables say, encoded pictures are understood.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{path::Path, process::Command};

use serde_json::Value;
use splitplace_tests::process::Process;

fn splitplace() -> Command {
    Command::new(env!("CARGO_BIN_EXE_splitplace"))
}

/// A fleet that serves the package in one way only, and what 240 real pictures brought back.
fn served(arm: &str) -> (Value, Value) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/families");
    let arms = format!("planning.arms=[\"{arm}\"]");
    let mut command = splitplace();
    command.args([
        "up",
        "--json",
        "--free-ports",
        "--nodes",
        "4",
        "--set",
        &arms,
        "--models",
    ]);
    let mut up = Process::start(command.arg(models)).unwrap();
    let told = up.json_line().unwrap();
    let server = told["grpc"].as_str().unwrap();
    let json = |arguments: &[&str]| -> Value {
        let output = splitplace()
            .args(arguments)
            .args(["--server", server, "--json"])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let load = json(&[
        "load",
        "fashion-mnist",
        "--concurrency",
        "2",
        "-n",
        "240",
        "--warm-up",
        "0s",
        "-d",
        "300s",
        "--sla",
        "20000",
    ]);
    (load["runs"][0].clone(), json(&["status"]))
}

/// Whether a share of right answers may come from a variant of that accuracy: within five standard errors.
fn is_plausible(found: f64, claimed: f64, count: f64) -> bool {
    (found - claimed).abs() <= 5.0 * (claimed * (1.0 - claimed) / count).sqrt()
}

fn arms(status: &Value) -> &Vec<Value> {
    status["models"][0]["arms"].as_array().unwrap()
}

#[test]
fn exits_answer_early_and_as_well_as_measured() {
    let (run, status) = served("exits");
    assert_eq!(run["all"]["requests"], 240);
    let exits = run["all"]["exits"].as_object().unwrap();
    assert!(exits.contains_key("exit1"), "{exits:?}");
    let early: u64 = exits
        .iter()
        .filter(|(name, _)| *name != "last")
        .map(|(_, n)| n.as_u64().unwrap())
        .sum();
    assert!(120 < early, "{exits:?}");
    let arm = &arms(&status)[0];
    assert_eq!(arm["kind"], "exits");
    let claimed = arm["accuracy"].as_f64().unwrap();
    let found = run["all"]["accuracy"].as_f64().unwrap();
    assert!(is_plausible(found, claimed, 240.0), "{found} {claimed}");
    // The server counts what the client saw.
    let counted = arm["exits"].as_object().unwrap();
    for (exit, count) in exits {
        assert_eq!(counted[exit], *count, "{exit}");
    }
}

#[test]
fn semantic_and_compressed_variants_answer_as_well_as_measured() {
    for kind in ["semantic", "compressed"] {
        let (run, status) = served(kind);
        assert_eq!(run["all"]["requests"], 240, "{kind}");
        let known = arms(&status);
        assert!(known.iter().all(|arm| arm["kind"] == kind), "{known:?}");
        for (name, group) in run["groups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|g| (&g["arm"], g))
        {
            let arm = known.iter().find(|arm| arm["arm"] == *name).unwrap();
            let claimed = arm["accuracy"].as_f64().unwrap();
            let (found, count) = (
                group["accuracy"].as_f64().unwrap(),
                group["requests"].as_f64().unwrap(),
            );
            assert!(
                is_plausible(found, claimed, count),
                "{name}: {found} of {count}, {claimed}"
            );
        }
    }
}
