//! What a chain carries: four balanced fragments on four workers, each limited to a quarter of a core,
//! against the slowest of the four fragments served alone by one such worker. The bar is 90 %.
//!
//! Expected: stages overlap, so the chain runs at the rate of its slowest stage; what is lost is the
//! share of a quarter core that sockets take from computing, which emulation does not count, and the
//! machine's own two cores, of which the four workers want one.
//!
//! `cargo bench -p splitplace --bench pipeline [-- SECONDS]`

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use splitplace_tests::process::Process;

const ROUNDS: usize = 3;
const SHARE: f64 = 0.25;

fn splitplace() -> Command {
    Command::new(env!("CARGO_BIN_EXE_splitplace"))
}

/// The fleet file of that many workers with a quarter of a core each.
fn fleet(folder: &Path, nodes: usize) -> PathBuf {
    let path = folder.join(format!("quarter-{nodes}.toml"));
    let nodes = (1..=nodes)
        .map(|n| format!("[[node]]\nname = \"quarter-{n}\"\nspeed = {SHARE}\nmemory-mb = 512\n\n"));
    std::fs::write(&path, nodes.collect::<String>()).expect("a fleet file");
    path
}

/// Answers a second that a fleet gives to clients who never let it rest, and its arms.
fn rate(fleet: &Path, models: &Path, model: &str, more: &[&str], seconds: &str) -> (f64, Value) {
    let mut command = splitplace();
    command.args(["up", "--json", "--free-ports", "--processes", "--fleet"]);
    command.arg(fleet).arg("--models").arg(models).args(more);
    let mut up = Process::start(&mut command).expect("it starts");
    let told = up.json_line().expect("it is ready");
    let server = told["grpc"].as_str().expect("an address");
    let output = splitplace()
        .args(["load", model, "--server", server, "--json", "--noise"])
        .args([
            "--concurrency",
            "16",
            "--sla",
            "10000",
            "--warm-up",
            "2s",
            "-d",
            seconds,
        ])
        .output()
        .expect("load runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rate = report["runs"][0]["answers_per_second"].as_f64();
    let status = splitplace()
        .args(["status", "--server", server, "--json"])
        .output()
        .expect("status runs");
    let status = serde_json::from_slice(&status.stdout).expect("JSON");
    (rate.expect("a rate"), status)
}

fn main() {
    let seconds = std::env::args()
        .skip(1)
        .find(|word| word.parse::<f64>().is_ok());
    let seconds = format!("{}s", seconds.as_deref().unwrap_or("8"));
    let folder = tempfile::tempdir().expect("a folder");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/testdata/even.onnx");
    let cut = folder.path().join("cut");
    let made = splitplace()
        .args(["model", "cut"])
        .arg(&source)
        .args(["--parts", "4", "-o"])
        .arg(&cut)
        .output()
        .expect("it cuts");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let mut fragments: Vec<PathBuf> = std::fs::read_dir(&cut)
        .expect("fragments")
        .map(|entry| entry.expect("a fragment").path())
        .filter(|path| path.extension().is_some_and(|end| end == "onnx"))
        .collect();
    fragments.sort();
    assert_eq!(fragments.len(), 4);
    let whole = folder.path().join("whole");
    std::fs::create_dir(&whole).expect("a folder");
    std::fs::copy(&source, whole.join("even.onnx")).expect("a copy");
    let (one, four) = (fleet(folder.path(), 1), fleet(folder.path(), 4));
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let mut slowest = f64::INFINITY;
        for (number, fragment) in fragments.iter().enumerate() {
            let alone = folder.path().join(format!("alone-{round}-{number}"));
            std::fs::create_dir(&alone).expect("a folder");
            std::fs::copy(fragment, alone.join("fragment.onnx")).expect("a copy");
            let (rate, _) = rate(&one, &alone, "fragment", &[], &seconds);
            println!("round {round}: fragment {number} alone {rate:.1}/s");
            slowest = slowest.min(rate);
        }
        // Asked for nearly what the slowest stage can carry, the planner has to use all four nodes.
        let wanted = format!("planning.rate-per-second={}", 0.95 * slowest);
        let more = [
            "--policy",
            "layer",
            "--set",
            "planning.arms=[\"chain\"]",
            "--set",
            &wanted,
        ];
        let (chain, status) = rate(&four, &whole, "even", &more, &seconds);
        let hops = status["models"][0]["arms"][0]["branches"][0].as_array();
        let services: Vec<String> = hops
            .into_iter()
            .flatten()
            .map(|hop| format!("{:.1} ms", hop["service_us"].as_f64().unwrap_or(0.0) / 1e3))
            .collect();
        println!(
            "round {round}: chain of {} ({}) {chain:.1}/s, {:.3} of its slowest fragment",
            services.len(),
            services.join(", "),
            chain / slowest
        );
        ratios.push(chain / slowest);
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "median {:.3} of the slowest fragment's rate",
        ratios[ROUNDS / 2]
    );
}
