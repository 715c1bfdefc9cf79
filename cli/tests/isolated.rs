//! Nodes in network namespaces of their own, with shaped links and limits on CPU and memory.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write as _;

use serde_json::Value;
use splitplace_tests::{
    ground::{Ground, Limits},
    process::{Process, until},
};

/// Memory of each node's control group.
const MEMORY: u64 = 400 << 20;

fn ground() -> Option<Ground> {
    match Ground::lay(31) {
        Ok(ground) => Some(ground),
        Err(error) => {
            // Past the capture of the test runner.
            let mut terminal = std::io::stderr();
            let _ = writeln!(terminal, "SKIPPED nodes_on_their_own_ground: {error:#}");
            None
        }
    }
}

#[test]
fn nodes_on_their_own_ground() {
    let Some(mut ground) = ground() else { return };
    let limits = Limits {
        cpu: 0.5,
        memory: MEMORY,
        mbit: 50,
    };
    let mut nodes = Vec::new();
    for _ in 0..3 {
        match ground.node(limits) {
            Ok(node) => nodes.push(node),
            Err(error) => {
                let mut terminal = std::io::stderr();
                let _ = writeln!(terminal, "SKIPPED nodes_on_their_own_ground: {error:#}");
                return;
            }
        }
    }
    let (center, address) = (ground.center(), ground.center_address());
    let binary = env!("CARGO_BIN_EXE_splitplace");
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/packages");
    let mut command = ground.command(&center, binary);
    command.args([
        "orchestrator",
        "--json",
        "--insecure",
        "--seed",
        "1",
        "--models",
        models,
    ]);
    command.args(["--load", "fashion-mnist"]);
    for (name, port) in [
        ("--grpc", 8001),
        ("--http", 8000),
        ("--metrics", 8002),
        ("--workers", 8003),
    ] {
        command.args([name, &format!("{address}:{port}")]);
    }
    let mut orchestrator = Process::start(&mut command).unwrap();
    orchestrator.json_line().unwrap();
    let mut workers = Vec::new();
    for (number, (namespace, own)) in nodes.iter().enumerate() {
        let mut command = ground.command(namespace, binary);
        command.args(["worker", "--insecure", "--node", &format!("n{number}")]);
        command.args([
            "--orchestrator",
            &format!("{address}:8003"),
            "--listen",
            &format!("{own}:0"),
        ]);
        workers.push(Process::start(&mut command).unwrap());
    }
    let server = format!("{address}:8001");
    let run = |arguments: &[&str]| {
        let output = ground
            .command(&center, binary)
            .args(arguments)
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or(Value::Null)
    };
    let status = || run(&["status", "--server", &server, "--json"]);
    // Packages that were not asked for are listed too.
    let model = |status: &Value| -> Value {
        let mut models = status["models"].as_array().into_iter().flatten();
        let found = models.find(|model| model["model"] == "fashion-mnist");
        found.cloned().unwrap_or_default()
    };
    let arms = |status: &Value| model(status)["arms"].as_array().map_or(0, Vec::len);
    let ready = until("readiness", || {
        let status = status();
        let is_there = status["nodes"]
            .as_array()
            .is_some_and(|nodes| nodes.len() == 3);
        (is_there && arms(&status) > 0).then_some(status)
    })
    .unwrap_or_else(|error| {
        let said: Vec<_> = workers.drain(..).map(|worker| worker.terminate()).collect();
        panic!("{error}: {said:?}")
    });
    // The node reads what its control group really allows.
    for node in ready["nodes"].as_array().unwrap() {
        assert_eq!(node["memory_bytes"], MEMORY, "{node:#}");
    }
    // A cable is pulled under load: nothing says goodbye, and silence has to be noticed.
    let mut load = ground.command(&center, binary);
    load.args([
        "load",
        "--server",
        &server,
        "fashion-mnist",
        "--rate",
        "30",
        "--duration",
        "8s",
    ]);
    load.args(["--warm-up", "0s", "--json"]);
    let load = Process::start(&mut load).unwrap();
    let used = |status: &Value| {
        let plan = model(status)["arms"].to_string();
        (0..3)
            .find(|number| plan.contains(&format!("\"n{number}\"")))
            .unwrap()
    };
    until("answers", || {
        let stats = splitplace_stats(&ground, &center, &address)?;
        (stats > 40).then_some(())
    })
    .unwrap();
    let victim = used(&status());
    ground.link(victim + 1, false).unwrap();
    let state = |status: &Value| {
        let nodes = status["nodes"].as_array().unwrap();
        let name = format!("n{victim}");
        let node = nodes.iter().find(|node| node["node"] == *name).unwrap();
        node["state"].as_str().unwrap().to_owned()
    };
    until("the silent node is lost", || {
        (state(&status()) == "lost").then_some(())
    })
    .unwrap();
    let (_, report, errors) = load.output().unwrap();
    let report: Value =
        serde_json::from_str(&report).unwrap_or_else(|_| panic!("{report} {errors}"));
    let report = &report["runs"][0];
    assert_eq!(report["lost"], 0, "{report:#}");
    // The cable is plugged in again, and the node comes back by itself.
    ground.link(victim + 1, true).unwrap();
    until("the node is back", || {
        (state(&status()) == "alive").then_some(())
    })
    .unwrap();
    for worker in workers {
        worker.kill_9().unwrap();
    }
    orchestrator.terminate().unwrap();
}

/// Requests that the model has answered.
fn splitplace_stats(ground: &Ground, center: &str, address: &str) -> Option<u64> {
    // A request from within the namespace; the page is small.
    let script = format!(
        "exec 3<>/dev/tcp/{address}/8000; printf 'GET /v2/models/stats HTTP/1.1\\r\\nhost: x\\r\\n\
         connection: close\\r\\n\\r\\n' >&3; cat <&3"
    );
    let output = ground
        .command(center, "bash")
        .args(["-c", &script])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let stats: Value = serde_json::from_str(text.split("\r\n\r\n").nth(1)?).ok()?;
    let models = stats["model_stats"].as_array()?.iter();
    models.map(|model| model["inference_count"].as_u64()).sum()
}
