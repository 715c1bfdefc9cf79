//! The plan as operators meet it: shown, explained, compared, laid down; after a kill too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::Command;

use serde_json::Value;
use splitplace_tests::{
    http,
    process::{Process, until},
};

fn splitplace() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_splitplace"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SPLITPLACE_")) {
        command.env_remove(name);
    }
    command
}

/// An orchestrator with three nodes, on a store.
struct Up {
    process: Process,
    server: String,
}

fn up(store: &std::path::Path) -> Up {
    let mut command = splitplace();
    command.args([
        "up",
        "--json",
        "--free-ports",
        "--seed",
        "1",
        "--nodes",
        "3",
    ]);
    command.args(["--load", "fashion-mnist", "--set", "planning.drift-ms=0"]);
    for set in [
        "planning.follow-load=false",
        "planning.profile-runs=0",
        "planning.arms=[\"whole\",\"chain\"]",
        // A busy machine must not make nodes look lost.
        "workers.silence-ms=20000",
    ] {
        command.args(["--set", set]);
    }
    let mut process = Process::start(command.arg("--store").arg(store)).unwrap();
    let told = process.json_line().unwrap();
    Up {
        process,
        server: told["grpc"].as_str().unwrap().to_owned(),
    }
}

impl Up {
    /// Runs `plan`; what it printed as JSON, or its error.
    fn plan(&self, arguments: &[&str]) -> Result<Value, String> {
        let output = splitplace()
            .arg("plan")
            .args(arguments)
            .args(["--server", &self.server, "--json"])
            .output()
            .unwrap();
        if output.status.success() {
            Ok(serde_json::from_slice(&output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Waits until the plan is so.
    fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        until(what, || {
            self.plan(&["show"]).ok().filter(|plan| is_so(plan))
        })
        .unwrap()
    }
}

fn arm<'a>(plan: &'a Value, name: &str) -> Option<&'a Value> {
    let mut arms = plan["models"][0]["arms"].as_array()?.iter();
    arms.find(|arm| arm["arm"] == name)
}

fn cuts(plan: &Value, name: &str) -> Option<Vec<u64>> {
    let cuts = arm(plan, name)?["cuts"].as_array()?.iter();
    cuts.map(Value::as_u64).collect()
}

#[test]
fn what_operators_lay_down_holds_after_a_kill_and_is_explained() {
    const CHAIN: &str = "base/chain";
    let store = tempfile::tempdir().unwrap();
    let up_first = up(store.path());
    let shown = up_first.until("a chain", |plan| arm(plan, CHAIN).is_some());
    let cut = if cuts(&shown, CHAIN).unwrap() == [3] {
        4
    } else {
        3
    };
    // What cannot be is refused, and says what can.
    for (wrong, why) in [
        (vec!["pin", "nothing", CHAIN], "nothing"),
        (vec!["pin", "fashion-mnist", "base/none"], "base/chain"),
        (
            vec!["pin", "fashion-mnist", CHAIN, "--cut", "0"],
            "from 1 to",
        ),
        (vec!["pin", "fashion-mnist", CHAIN, "--cut", "none"], "cuts"),
        (
            vec!["pin", "fashion-mnist", "base/whole", "--cut", "3"],
            "whole pieces",
        ),
        (
            vec!["pin", "fashion-mnist", CHAIN, "--on", "attic"],
            "node-1",
        ),
        (vec!["undrain", "node-3"], "not drained"),
    ] {
        let error = up_first.plan(&wrong).unwrap_err();
        assert!(error.contains(why), "{wrong:?}: {error}");
    }
    // Whatever a node holds was measured there, with the tail and the peak of a run.
    let profiles = up_first.plan(&["profiles", "fashion-mnist"]).unwrap();
    let profiles = profiles.as_array().unwrap();
    assert!(!profiles.is_empty());
    for one in profiles {
        assert!(one["peak_bytes"].as_u64().unwrap() < one["memory_bytes"].as_u64().unwrap());
        let settings = one["settings"].as_array().unwrap();
        let alone = settings
            .iter()
            .find(|s| s["batch"] == 1 && s["threads"] == 1);
        let alone = alone.unwrap();
        assert!(alone["p95_seconds"].as_f64().unwrap() > 0.0, "{one}");
        assert_eq!(alone["speed_up"], 1.0, "{one}");
    }
    let text = cut.to_string();
    let pin = [
        "pin",
        "fashion-mnist",
        CHAIN,
        "--cut",
        &text,
        "--on",
        "*,node-1",
    ];
    up_first.plan(&pin).unwrap();
    up_first.plan(&["pin", "fashion-mnist", CHAIN]).unwrap();
    up_first.plan(&["drain", "node-3"]).unwrap();
    let is_so = |plan: &Value| {
        let way = arm(plan, CHAIN).map(|arm| arm["way"].as_str().unwrap_or_default().to_owned());
        cuts(plan, CHAIN) == Some(vec![cut])
            && way.is_some_and(|way| way.contains("on node-1"))
            // Nothing is left on the drained node: the plan that follows the drain is in force.
            && !plan["models"].to_string().contains("node-3")
            && plan["drained"] == serde_json::json!(["node-3"])
            && plan["models"][0]["taken"] == CHAIN
    };
    let before = up_first.until("pins in force", is_so);
    let generation = before["generation"].as_u64().unwrap();
    // The journal says why, and what was changed; each arm knows its runner-up.
    let told = up_first
        .plan(&["explain", "fashion-mnist", "-n", "60"])
        .unwrap();
    let events = told["events"].as_array().unwrap();
    assert!(
        events.iter().any(|event| {
            let said = event["said"].as_str().unwrap();
            said.contains("an operator places base/chain") && said.contains("instead of")
        }),
        "{events:#?}"
    );
    let why = &arm(&told, CHAIN).unwrap()["why"];
    // The cut and its second node are laid down: only the first node could be another.
    assert_eq!(why["runner_up"], Value::from(""), "{why}");
    let why = &arm(&told, "base/whole").unwrap()["why"];
    assert!(
        why["runner_up"].as_str().unwrap().starts_with("on node-"),
        "{why}"
    );
    // The first plans may have been made before all nodes were there.
    let first = shown["generation"].as_u64().unwrap().to_string();
    let found = up_first.plan(&["diff", &first]).unwrap();
    assert!(found["after"].as_u64() >= Some(generation));
    let changes = found["changes"].as_array().unwrap();
    assert!(
        changes
            .iter()
            .any(|change| change["arm"] == CHAIN && change["resplit"] == true)
    );
    let error = up_first.plan(&["diff", "999999"]).unwrap_err();
    assert!(error.contains("not remembered"), "{error}");
    // Dropped without a word, as by `kill -9`.
    drop(up_first);

    let again = up(store.path());
    let after = again.until("pins after a kill", is_so);
    let pinned = arm(&after, CHAIN).unwrap()["pinned"].as_str().unwrap();
    assert!(
        pinned.contains(&format!("segment {cut}")) && pinned.contains("node-1"),
        "{pinned}"
    );
    again.plan(&["unpin", "fashion-mnist"]).unwrap();
    again.plan(&["undrain", "node-3"]).unwrap();
    let free = again.until("a free plan", |plan| {
        plan["drained"] == serde_json::json!([]) && plan["models"][0]["taken"] == ""
    });
    assert_eq!(arm(&free, CHAIN).unwrap()["pinned"], "");
    let (ended, errors) = again.process.terminate().unwrap();
    assert!(ended.success(), "{errors}");
}

/// A slow node beside the centre, and a fast one behind an uplink on which a tensor takes an eighth of a second.
const UPLINK: &str = r#"
[[node]]
name = "device"
speed = 0.05
memory-mb = 100
[[node]]
name = "server"
speed = 0.5
memory-mb = 100
[[link]]
from = "center"
to = "server"
rate-mbit = 0.2
delay-ms = 1
[[link]]
from = "device"
to = "server"
rate-mbit = 0.2
delay-ms = 1
"#;

/// What a client sends that has a picture's file, by the binary extension.
fn send_picture(rest: &str, picture: &[u8]) -> u16 {
    let mut bytes = u32::try_from(picture.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(picture);
    let header = serde_json::json!({
        "inputs": [{
            "name": "image", "datatype": "BYTES", "shape": [1],
            "parameters": {"binary_data_size": bytes.len()},
        }],
    });
    let mut body = header.to_string().into_bytes();
    let length = body.len().to_string();
    body.extend_from_slice(&bytes);
    let headers = [
        ("content-type", "application/octet-stream"),
        ("inference-header-content-length", &length[..]),
    ];
    let path = "/v2/models/fashion-mnist/infer";
    http::ask(rest, "POST", path, &headers, &body)
        .unwrap()
        .status
}

#[test]
fn clients_that_send_pictures_have_them_sent_to_the_strong_node_in_one_piece() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = folder.path().join("fleet.toml");
    std::fs::write(&fleet, UPLINK).unwrap();
    let mut command = splitplace();
    command.args(["up", "--json", "--free-ports", "--seed", "1"]);
    command
        .args(["--load", "fashion-mnist", "--fleet"])
        .arg(&fleet);
    for set in [
        "planning.arms=[\"whole\",\"chain\"]",
        "planning.drift-ms=100",
        "workers.silence-ms=20000",
    ] {
        command.args(["--set", set]);
    }
    let mut process = Process::start(&mut command).unwrap();
    let told = process.json_line().unwrap();
    let text = |name: &str| told[name].as_str().unwrap().to_owned();
    let rest = text("http");
    let up = Up {
        process,
        server: text("grpc"),
    };
    // Before anything came, tensors are expected: they take longer to the server than the device for everything.
    let way = |plan: &Value| arm(plan, "base/whole").map(|arm| arm["way"].clone());
    up.until("a place beside the centre", |plan| {
        way(plan).is_some_and(|way| way == "on device")
    });
    let picture = image::GrayImage::from_pixel(28, 28, image::Luma([90]));
    let mut file = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    until(
        "the picture goes to the server, and the plan says so",
        || {
            for _ in 0..5 {
                assert_eq!(send_picture(&rest, file.get_ref()), 200);
            }
            let plan = up.plan(&["show"]).ok()?;
            let said = plan["explanation"].as_str()?;
            let is_said = said.contains("the compressed picture")
                && said.contains("goes to server and nothing is cut");
            (way(&plan)? == "on server" && is_said).then_some(())
        },
    )
    .unwrap();
}
