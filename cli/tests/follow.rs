//! A split that follows an uplink which falls and comes back, on running workers.
//!
//! In a file of its own, so that no other test runs beside it: a machine that is busy with something else changes what is
//! best.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::Command;

use serde_json::Value;

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "an unoptimised program takes as long to call segments as to compute them, which plans have to go by: \
              cargo test --release -p splitplace --test follow"
)]
fn the_split_follows_the_uplink_and_no_request_is_lost() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_splitplace"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SPLITPLACE_")) {
        command.env_remove(name);
    }
    let output = command
        .args([
            "lab",
            "resplit",
            "--follow",
            "--json",
            "--rates",
            "100,0.1,100",
            // Times that a busy machine keeps, too.
            "--device-ms",
            "600",
            "--server-ms",
            "60",
            "--package",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../models/packages/cifar10"),
        ])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let phases = told["runs"][0]["phases"].as_array().unwrap();
    let [fast, slow, back] = &phases[..] else {
        panic!("{told:#}");
    };
    for phase in [fast, slow, back] {
        assert_eq!(phase["lost"], 0, "{told:#}\n{errors}");
        assert!(phase["requests"].as_u64().unwrap() > 0);
        // No to and fro: a plan or two for each change.
        assert!(phase["adopted"].as_u64().unwrap() <= 3, "{told:#}");
    }
    let bytes = |phase: &Value| phase["bytes_between"].as_u64().unwrap();
    assert!(bytes(slow) < bytes(fast), "{told:#}");
    assert_ne!(slow["cuts"], fast["cuts"], "{told:#}");
    assert!(bytes(back) > bytes(slow), "{told:#}");
    let said = slow["said"][0].as_str().unwrap();
    // By its link or by the load, whichever showed that the other plan is better.
    assert!(said.contains("instead of"), "{said}");
}
