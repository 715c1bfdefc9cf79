//! The whole system as its users meet it: the binary, its output, its death.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::Command;

use serde_json::Value;
use splitplace_tests::process::{Process, signal, until};

fn splitplace() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_splitplace"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SPLITPLACE_")) {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end; gives its exit code, what it printed as JSON, and its errors.
fn json(arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = splitplace().args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), value, errors)
}

fn up(arguments: &[&str]) -> (Process, Value) {
    let mut up = Process::start(
        splitplace()
            .args(["up", "--json", "--free-ports", "--seed", "1"])
            .args(arguments),
    )
    .unwrap();
    let told = up.json_line().unwrap();
    (up, told)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn status(server: &str) -> Option<Value> {
    let (code, value, _) = json(&["status", "--server", server, "--json"]);
    (code == Some(0)).then_some(value)
}

fn is_ready(status: &Value, model: &str) -> bool {
    let models = status["models"].as_array().unwrap();
    models
        .iter()
        .any(|of| of["model"] == model && of["state"] == "READY")
}

#[test]
fn up_answers_and_leaves_cleanly() {
    let (up, told) = up(&["--nodes", "2"]);
    let server = text(&told["grpc"]);
    let (code, answer, errors) = json(&[
        "infer",
        "--server",
        &server,
        "fashion-mnist",
        "--picture",
        "7",
        "--sla",
        "500",
        "--json",
    ]);
    assert_eq!(code, Some(0), "{errors}");
    let scores: Vec<f64> = answer["outputs"][0]["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|score| score.as_f64().unwrap())
        .collect();
    let best = (0..scores.len())
        .max_by(|&a, &b| scores[a].total_cmp(&scores[b]))
        .unwrap();
    assert_eq!(Value::from(best), answer["label"]);
    let said = &answer["parameters"];
    assert_eq!(said["splitplace_sla_us"], 500_000);
    assert_eq!(said["splitplace_attempts"], 1);
    let hops: Vec<Value> = serde_json::from_str(said["splitplace_hops"].as_str().unwrap()).unwrap();
    assert!(
        hops.len() >= 2,
        "at least one worker and the way back: {hops:?}"
    );
    let (code, _, errors) = json(&["infer", "--server", &server, "nothing", "--picture", "7"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("unknown model: 'nothing'"), "{errors}");
    let (ended, errors) = up.terminate().unwrap();
    assert!(ended.success(), "{errors}");
    let (code, _, errors) = json(&["status", "--server", &server]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("is it running"), "{errors}");
}

#[test]
fn a_killed_worker_loses_no_accepted_request() {
    let (_up, told) = up(&["--processes", "--nodes", "3", "--load", "fashion-mnist"]);
    let server = text(&told["grpc"]);
    let before = status(&server).unwrap();
    // The node that the plan needs most.
    let plan = before["models"][0]["arms"].to_string();
    let processes = told["processes"].as_object().unwrap();
    let uses = |name: &str| plan.matches(&format!("\"{name}\"")).count();
    let (victim, process) = processes.iter().max_by_key(|(name, _)| uses(name)).unwrap();
    assert!(uses(victim) > 0);
    let load = Process::start(splitplace().args([
        "load",
        "--server",
        &server,
        "fashion-mnist",
        "--rate",
        "60",
        "--duration",
        "6s",
        "--warm-up",
        "0s",
        "--json",
    ]))
    .unwrap();
    let metrics = text(&told["metrics"]);
    until("half of the answers", || {
        let page = splitplace_tests::http::ask(&metrics, "GET", "/metrics", &[], &[]).ok()?;
        let page = String::from_utf8_lossy(&page.body).into_owned();
        let count: f64 = page
            .lines()
            .filter(|line| line.starts_with("splitplace_requests_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        (count > 150.0).then_some(())
    })
    .unwrap();
    signal(u32::try_from(process.as_u64().unwrap()).unwrap(), "KILL").unwrap();
    let (_, report, errors) = load.output().unwrap();
    let report: Value =
        serde_json::from_str(&report).unwrap_or_else(|_| panic!("{report} {errors}"));
    let run = &report["runs"][0];
    assert_eq!(run["lost_after_admission"], 0, "{run:#}");
    assert_eq!(run["lost"], 0, "{run:#}");
    assert!(
        run["generations"].as_object().unwrap().len() >= 2,
        "{run:#}"
    );
    let after = status(&server).unwrap();
    let nodes = after["nodes"].as_array().unwrap();
    let lost = nodes.iter().find(|node| node["node"] == **victim).unwrap();
    assert_eq!(lost["state"], "lost");
    assert!(
        !after["models"][0]["arms"]
            .to_string()
            .contains(&format!("\"{victim}\""))
    );
}

#[test]
fn a_killed_orchestrator_comes_back_with_packages_plan_and_policy() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store").display().to_string();
    let models = folder.path().join("models");
    let package =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages/fashion-mnist");
    std::fs::create_dir_all(models.join("fashion-mnist")).unwrap();
    for entry in std::fs::read_dir(package).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(
            &path,
            models.join("fashion-mnist").join(path.file_name().unwrap()),
        )
        .unwrap();
    }
    let start = |workers: &str, models: Option<&str>| {
        let mut command = splitplace();
        command.args(["orchestrator", "--json", "--seed", "1", "--store", &store]);
        command.args([
            "--grpc",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
        ]);
        command.args(["--workers", workers]);
        if let Some(models) = models {
            command.args(["--models", models]);
        }
        let mut process = Process::start(&mut command).unwrap();
        let told = process.json_line().unwrap();
        (process, told)
    };
    let (first, told) = start("127.0.0.1:0", Some(&models.display().to_string()));
    let workers = text(&told["workers"]);
    let _nodes: Vec<Process> = ["a", "b"]
        .iter()
        .map(|name| {
            Process::start(splitplace().args([
                "worker",
                "--node",
                name,
                "--orchestrator",
                &workers,
            ]))
            .unwrap()
        })
        .collect();
    let server = text(&told["grpc"]);
    let both = |status: &Value| {
        is_ready(status, "fashion-mnist")
            && status["models"][0]["arms"].as_array().unwrap().len() >= 2
            && status["nodes"].as_array().unwrap().len() == 2
    };
    until("readiness", || status(&server).filter(both)).unwrap();
    let (code, load, errors) = json(&[
        "load",
        "--server",
        &server,
        "fashion-mnist",
        "--concurrency",
        "2",
        "--requests",
        "80",
        "--sla",
        "50",
        "--warm-up",
        "0s",
        "--json",
    ]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(load["runs"][0]["answered"].as_u64().unwrap() > 0);
    // What a truth teaches is on disk before it is acknowledged.
    let asked = json(&[
        "infer",
        "--server",
        &server,
        "fashion-mnist",
        "--picture",
        "3",
        "--json",
    ])
    .1;
    let request = text(&asked["parameters"]["splitplace_request"]);
    let (code, told_back, errors) = json(&[
        "feedback",
        "--server",
        &server,
        &request,
        "--label",
        &asked["label"].to_string(),
        "--json",
    ]);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(told_back["used"], true);
    let before = status(&server).unwrap();
    first.kill_9().unwrap();

    // The folder is not needed any more: packages are in the store.
    std::fs::remove_dir_all(&models).unwrap();
    let (second, told) = start(&workers, None);
    let server = text(&told["grpc"]);
    let after = until("readiness", || status(&server).filter(both)).unwrap();
    assert_eq!(after["generation"], before["generation"]);
    let places = |status: &Value| {
        let arms = status["models"][0]["arms"].as_array().unwrap();
        let hops = arms
            .iter()
            .flat_map(|arm| arm["branches"].as_array().unwrap());
        let hops = hops.flat_map(|branch| branch.as_array().unwrap());
        hops.map(|hop| (text(&hop["node"]), text(&hop["fragment"])))
            .collect::<Vec<_>>()
    };
    assert_eq!(places(&after), places(&before));
    assert_eq!(after["policy_state"], before["policy_state"]);
    assert!(!before["policy_state"].as_object().unwrap().is_empty());
    let (code, _, errors) = json(&[
        "infer",
        "--server",
        &server,
        "fashion-mnist",
        "--picture",
        "3",
        "--json",
    ]);
    assert_eq!(code, Some(0), "{errors}");
    let (ended, errors) = second.terminate().unwrap();
    assert!(ended.success(), "{errors}");
}

#[test]
fn the_demo_ends_well_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("r.json").display().to_string();
    let output = splitplace()
        .args([
            "demo",
            "--duration",
            "8s",
            "--rate",
            "30",
            "--report",
            &report,
        ])
        .output()
        .unwrap();
    let (out, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(0), "{out}\n{errors}");
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["right"], true);
    assert_eq!(report["load"]["lost_after_admission"], 0);
    assert!(report["reference"]["compared"].as_u64().unwrap() > 100);
    assert!(report["kill"]["replanned_after_s"].as_f64().is_some());
    assert!(out.contains("no accepted request vanished"));
}

#[test]
fn settings_come_from_file_environment_and_flags() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, "[admission]\npatience-ms = 7\nmax-attempts = 8\n").unwrap();
    let output = splitplace()
        .args([
            "orchestrator",
            "--print-config",
            "--policy",
            "layer",
            "--config",
        ])
        .arg(&file)
        .env("SPLITPLACE_ORCHESTRATOR_ADMISSION__MAX_ATTEMPTS", "9")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    for line in ["patience-ms = 7", "max-attempts = 9", "name = \"layer\""] {
        assert!(printed.contains(line), "{line} in {printed}");
    }
    let (code, _, errors) = json(&[
        "orchestrator",
        "--set",
        "admission.patiense-ms=1",
        "--print-config",
    ]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("patiense-ms"), "{errors}");
    let (code, _, errors) = json(&["up", "--fleet", "no-such-file.toml"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("no-such-file.toml"), "{errors}");
    let (code, _, errors) = json(&["worker", "--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("without certificates"), "{errors}");
}

#[test]
fn a_scenario_is_run_reported_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("split.json");
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/scenarios/split.toml");
    let run = |more: &[&str]| {
        let file = report.to_str().unwrap();
        let asked = ["twin", "run", scenario, "--seeds", "2", "--report", file];
        splitplace().args(asked).args(more).output().unwrap()
    };
    let output = run(&[]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let told: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let models = told["models"].as_object().unwrap();
    assert!(!models.is_empty() && told["runs"] == 2, "{told}");
    for (plot, bars) in [("split.response.svg", 4), ("split.missed.svg", 2)] {
        let file = folder.path().join(plot);
        assert!(printed.contains(file.to_str().unwrap()), "{printed}");
        let drawn = std::fs::read_to_string(file).unwrap();
        for model in models.keys() {
            assert!(drawn.contains(&format!(">{model}</text>")), "{drawn}");
        }
        // The background, and of each figure its key and a bar for each model.
        let expected = 1 + bars * (1 + models.len());
        assert_eq!(drawn.matches("<rect").count(), expected, "{drawn}");
    }
    // The same seed gives the same traces, and JSON alone is printed when that is asked for.
    let again = run(&["--json"]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["traces"], told["traces"]);
}

#[test]
fn what_if_answers_from_a_live_system() {
    let (_up, told) = up(&["--nodes", "2", "--load", "fashion-mnist"]);
    let server = text(&told["grpc"]);
    let ask = |changes: &[&str]| {
        let options = ["--seeds", "2", "--duration", "2s", "--json"];
        let asked = ["twin", "what-if", "--server", &server];
        json(&[&asked[..], changes, &options[..]].concat())
    };
    let (code, _, errors) = ask(&["load=2"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("no request was seen lately"), "{errors}");
    let (code, _, errors) = json(&[
        "load",
        "--server",
        &server,
        "fashion-mnist",
        "--rate",
        "15",
        "--duration",
        "2s",
        "--json",
    ]);
    assert_eq!(code, Some(0), "{errors}");
    let (code, answer, errors) = ask(&["remove=node-1"]);
    assert_eq!(code, Some(0), "{errors}");
    let moved = answer["moved"].as_array().unwrap();
    assert!(!moved.is_empty(), "{answer}");
    let uses = |nodes: &Value| nodes.to_string().contains("node-1");
    assert!(moved.iter().any(|arm| uses(&arm["before"])), "{answer}");
    assert!(!moved.iter().any(|arm| uses(&arm["after"])), "{answer}");
    let model = &answer["models"]["fashion-mnist"];
    assert!(
        model["shown"]["requests"].as_f64().unwrap() > 1.0,
        "{answer}"
    );
    assert!(
        model["before"]["response_seconds"]["mean"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    let (code, _, errors) = ask(&["remove=node-9"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("there is no node node-9"), "{errors}");
}
