//! Exit control as operators and clients meet it: rules follow the load, a floor of accuracy is kept, audits are
//! counted.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{io::Write as _, path::Path, process::Command};

use serde_json::{Value, json};
use splitplace_tests::{http, process::Process};

fn splitplace() -> Command {
    Command::new(env!("CARGO_BIN_EXE_splitplace"))
}

/// One slow node that serves the exits alone, under the joint controller.
struct Slow {
    _up: Process,
    grpc: String,
    http: String,
    _fleet: tempfile::NamedTempFile,
}

fn slow(more: &[&str]) -> Slow {
    let mut fleet = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    fleet
        .write_all(
            b"description = \"one slow node\"\n[[node]]\nname = \"slow\"\nspeed = 0.05\nmemory-mb = 64\n",
        )
        .unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages");
    let mut command = splitplace();
    command.args(["up", "--json", "--free-ports"]);
    for set in [
        "planning.arms=[\"exits\"]",
        "exits.policy=\"joint\"",
        "exits.places=8",
        "admission.max-attempts=1",
        "admission.refuse-hopeless=false",
    ]
    .iter()
    .chain(more)
    {
        command.args(["--set", set]);
    }
    command.args(["--load", "fashion-mnist", "--fleet"]);
    command.arg(fleet.path());
    let mut up = Process::start(command.arg("--models").arg(models)).unwrap();
    let told = up.json_line().unwrap();
    let text = |key: &str| told[key].as_str().unwrap().to_owned();
    Slow {
        grpc: text("grpc"),
        http: text("http"),
        _up: up,
        _fleet: fleet,
    }
}

impl Slow {
    fn run(&self, arguments: &[&str]) -> Value {
        let output = splitplace()
            .args(arguments)
            .args(["--server", &self.grpc, "--json"])
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn control(&self) -> Value {
        let status = self.run(&["status"]);
        let mut models = status["models"].as_array().unwrap().iter();
        let model = models
            .find(|model| model["model"] == "fashion-mnist")
            .unwrap();
        model["arms"][0]["exit_control"].clone()
    }

    /// Requests so many a second (`--rate`) or at a time (`--concurrency`); answers by exit, and how many were lost.
    fn load(&self, how: [&str; 2], requests: &str) -> (serde_json::Map<String, Value>, u64) {
        let load = self.run(&[
            "load",
            "fashion-mnist",
            how[0],
            how[1],
            "-n",
            requests,
            "--warm-up",
            "0s",
            "-d",
            "600s",
            "--sla",
            "600000",
        ]);
        let run = &load["runs"][0];
        let all = &run["all"];
        let lost = requests.parse::<u64>().unwrap() - all["requests"].as_u64().unwrap();
        (all["exits"].as_object().unwrap().clone(), lost)
    }
}

#[test]
fn rules_follow_the_load_and_audits_are_counted() {
    let slow = slow(&["exits.audit-share=0.2"]);
    let control = slow.control();
    assert_eq!(control["policy"], "joint");
    assert_eq!(control["instead"], "");
    let first = |exits: &serde_json::Map<String, Value>| {
        let count = |name: &str| exits.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        let all: f64 = exits.keys().map(|name| count(name)).sum();
        (count("exit1") / all, count("last") / all)
    };
    // Where there is time for it many go on to the network's end, if only because they are audited.
    let (calm, lost) = slow.load(["--rate", "3"], "60");
    assert_eq!(lost, 0);
    // Seven at a time keep all places but one full.
    let (busy, lost) = slow.load(["--concurrency", "7"], "600");
    assert_eq!(lost, 0);
    let ((calm_first, calm_last), (busy_first, busy_last)) = (first(&calm), first(&busy));
    assert!(busy_first > calm_first + 0.1, "{calm:?} {busy:?}");
    assert!(busy_last < calm_last, "{calm:?} {busy:?}");
    let control = slow.control();
    assert!(control["solutions"].as_u64().unwrap() >= 2, "{control}");
    assert!(control["audited"].as_u64().unwrap() > 0, "{control}");
    assert!(control["expected_accuracy"].as_f64().unwrap() > 0.9);
}

#[test]
fn a_floor_of_accuracy_holds_haste_back_and_one_that_is_none_is_refused() {
    let slow = slow(&["exits.audit-share=0"]);
    let pixels: Vec<f32> = (0..784u32).map(|k| (k * 37 % 251) as f32).collect();
    let ask = |floor: Value| {
        let body = json!({
            "inputs": [{"name": "image", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": pixels}],
            "parameters": {"splitplace_min_accuracy": floor, "splitplace_sla_ms": 600_000},
        });
        let path = "/v2/models/fashion-mnist/infer";
        let answer = http::ask(&slow.http, "POST", path, &[], body.to_string().as_bytes());
        let answer = answer.unwrap();
        (answer.status, answer.json().unwrap())
    };
    let (status, answer) = ask(json!(1.0));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["parameters"]["splitplace_exit"], "last");
    for wrong in [json!(93), json!("high"), json!(true)] {
        let (status, answer) = ask(wrong);
        assert_eq!(status, 400);
        assert!(
            answer["error"]
                .as_str()
                .unwrap()
                .contains("splitplace_min_accuracy")
        );
    }
}

#[test]
fn what_is_asked_of_a_model_decides_at_its_exits_before_the_configuration() {
    let slow = slow(&["exits.loss-target=0.01"]);
    let ask = |exits: Value| {
        let body = json!({ "parameters": { "splitplace_wishes": { "exits": exits } } });
        let path = "/v2/repository/models/fashion-mnist/load";
        http::ask(&slow.http, "POST", path, &[], body.to_string().as_bytes()).unwrap()
    };
    assert_eq!(
        ask(json!({"policy": "knapsack", "lossTarget": 0.05})).status,
        200
    );
    let control = slow.control();
    assert_eq!(
        (&control["policy"], &control["loss_target"]),
        (&json!("knapsack"), &json!(0.05))
    );
    let (_, lost) = slow.load(["--concurrency", "1"], "20");
    assert_eq!(lost, 0);
    // What is refused changes nothing, and says its page.
    let refused = ask(json!({"policy": "fastest"}));
    assert_eq!(refused.status, 501);
    assert_eq!(refused.json().unwrap()["code"], "SP307");
    assert_eq!(slow.control()["policy"], "knapsack");
    // Without an own word the configuration's holds again.
    let body = json!({ "parameters": { "splitplace_wishes": {} } });
    let path = "/v2/repository/models/fashion-mnist/load";
    let answer = http::ask(&slow.http, "POST", path, &[], body.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(slow.control()["policy"], "joint");
}
