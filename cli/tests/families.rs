//! Every way of running a network, as served: exits fire where they are, every variant answers as well as its
//! tables say, encoded pictures are understood.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{path::Path, process::Command};

use serde_json::Value;
use splitplace_tests::process::Process;

fn splitplace() -> Command {
    Command::new(env!("CARGO_BIN_EXE_splitplace"))
}

/// A fleet that serves the package in one way only, and what 240 real pictures brought back.
fn served(arm: &str) -> (Value, Value) {
    let arms = format!("planning.arms=[\"{arm}\"]");
    let mut command = splitplace();
    command.args(["up", "--json", "--free-ports", "--nodes", "4"]);
    command.args(["--load", "fashion-mnist", "--set", &arms]);
    let mut up = Process::start(&mut command).unwrap();
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

/// What `model verify` says of a shipped package on some pictures of Fashion-MNIST.
fn verified(package: &str, more: &[&str]) -> Vec<Value> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let output = splitplace()
        .args(["model", "verify", "--json", "--samples", "150", "--data"])
        .arg(models.join("data/fashion-mnist"))
        .arg(models.join("packages").join(package))
        .args(more)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["right"], true);
    assert_eq!(told["refused"], Value::Array(Vec::new()));
    told["rows"].as_array().unwrap().clone()
}

#[test]
fn every_variant_is_served_and_answers_as_the_engine_does() {
    let rows = verified("fashion-mnist", &[]);
    let arms: Vec<_> = rows
        .iter()
        .map(|row| row["arm"].as_str().unwrap())
        .collect();
    assert_eq!(
        arms,
        [
            "base/whole",
            "base/chain",
            "base/exits",
            "student",
            "pruned",
            "int8",
            "bottleneck",
            "semantic-learned-2",
            "semantic-learned-4",
            "semantic-plain-2",
            "semantic-plain-4",
        ]
    );
    for row in &rows {
        // On fast links nothing is coded, so every answer is the same, not only as many right ones.
        assert_eq!(row["served"], row["expected"], "{row}");
        assert!(0.85 < row["served"].as_f64().unwrap(), "{row}");
        assert_eq!(row["lost"], 0);
    }
}

#[test]
fn over_a_slow_link_a_learned_code_crosses_in_eight_bits_or_less() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = folder.path().join("fleet.toml");
    let node = |name: &str, megabytes: f64| {
        format!("[[node]]\nname = \"{name}\"\nspeed = 0.4\nmemory-mb = {megabytes}\n")
    };
    let link = "[[link]]\nfrom = \"*\"\nto = \"*\"\nrate-mbit = 1\ndelay-ms = 1\n";
    // Neither holds the network.
    let text = format!(
        "description = \"\"\n{}{}{link}",
        node("a", 2.0),
        node("b", 4.2)
    );
    std::fs::write(&fleet, text).unwrap();
    let more = [
        "--variant",
        "bottleneck",
        "--fleet",
        fleet.to_str().unwrap(),
    ];
    let rows = verified("fashion-mnist", &more);
    let codecs = rows[0]["codecs"].as_array().unwrap();
    assert_eq!((rows[0]["nodes"].clone(), codecs.len()), (2.into(), 1));
    assert_ne!(codecs[0], "raw");
    let (served, expected) = (&rows[0]["served"], &rows[0]["expected"]);
    let cost = expected.as_f64().unwrap() - served.as_f64().unwrap();
    // One picture in a hundred and fifty.
    assert!(cost < 0.007, "{rows:?}");
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
