//! What the chart's pods run, as processes of this machine: the same commands with the same settings, with
//! certificates, on addresses beyond loopback. Only the names of the cluster's DNS are others.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{fs, net::TcpListener, path::Path, process::Command};

use splitplace_tests::process::Process;

fn splitplace() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_splitplace"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SPLITPLACE_")) {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = splitplace().args(arguments).output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), text.concat())
}

#[track_caller]
fn good(arguments: &[&str]) -> String {
    let (code, text) = run(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {text}");
    text
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn worker(name: &str, center: u16, folder: &Path) -> Process {
    let tls = |key: &str, file: &str| {
        format!(
            "--set=tls.{key}={}",
            folder.join("tls").join(file).display()
        )
    };
    let mut command = splitplace();
    command
        .args([
            "worker",
            &format!("--node={name}"),
            &format!("--orchestrator=localhost:{center}"),
        ])
        .args([
            format!("--listen=0.0.0.0:{}", free_port()),
            "--service=".into(),
        ])
        .arg(format!("--cache={}", folder.join(name).display()))
        .args(["--set=grace-ms=5000", "--set=labels.pool=\"default\""])
        .args([
            tls("ca", "ca.crt"),
            tls("cert", "worker.crt"),
            tls("key", "worker.key"),
        ])
        .env("POD_IP", "127.0.0.1");
    Process::start(&mut command).unwrap()
}

#[test]
fn what_the_pods_run_serves_and_its_probes_are_honest() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    good(&["certs", "dir", &path("tls")]);
    // The init container, twice: a pod may start again.
    good(&["packages", &path("models"), "--only", "fashion-mnist"]);
    good(&["packages", &path("models"), "--only", "fashion-mnist"]);
    let [grpc, http, metrics, center] = [0; 4].map(|_| free_port());
    let config = format!(
        "listen.grpc = \"0.0.0.0:{grpc}\"\nlisten.http = \"0.0.0.0:{http}\"\n\
         listen.metrics = \"0.0.0.0:{metrics}\"\nlisten.workers = \"0.0.0.0:{center}\"\n\
         listen.workers-public = \"localhost:{center}\"\nload = []\nmodels = {:?}\n\
         policy.name = \"slack\"\nstore = {:?}\ntls.ca = {:?}\ntls.cert = {:?}\ntls.key = {:?}\n",
        path("models"),
        path("store"),
        path("tls/ca.crt"),
        path("tls/orchestrator.crt"),
        path("tls/orchestrator.key"),
    );
    fs::write(path("orchestrator.toml"), config).unwrap();
    let mut orchestrator = Process::start(splitplace().args([
        "orchestrator",
        "--json",
        "--config",
        &path("orchestrator.toml"),
    ]))
    .unwrap();
    orchestrator.json_line().unwrap();
    let (server, ca) = (format!("localhost:{grpc}"), path("tls/ca.crt"));
    let at = ["--server", &server, "--ca", &ca];
    let health = |what: &[&str]| run(&[&["health"], &at[..], what].concat());
    // Nobody is there to compute: it lives, and is not ready.
    let (code, why) = health(&[]);
    assert_eq!(code, Some(1), "{why}");
    assert_eq!(health(&["--node", "attic"]).0, Some(1));
    let attic = worker("attic", center, folder.path());
    let _cellar = worker("cellar", center, folder.path());
    good(&[&["health"], &at[..], &["--wait", "60s", "--node", "attic"]].concat());
    good(
        &[
            &["health"],
            &at[..],
            &["--wait", "60s", "--model", "fashion-mnist"],
        ]
        .concat(),
    );
    good(&[&["health"], &at[..], &["--wait", "60s"]].concat());
    // What `helm test` does.
    good(&[&["status"], &at[..]].concat());
    let answer = good(
        &[
            &["infer", "fashion-mnist", "--picture=7", "--sla=1000"],
            &at[..],
        ]
        .concat(),
    );
    assert!(!answer.is_empty());
    // A worker that is asked to stop leaves in good order, and the rest serves on.
    let (status, errors) = attic.terminate().unwrap();
    assert!(status.success(), "{errors}");
    good(
        &[
            &["infer", "fashion-mnist", "--picture=8", "--sla=1000"],
            &at[..],
        ]
        .concat(),
    );
    assert_eq!(health(&["--node", "attic"]).0, Some(1));
    // Without the authority nobody gets in, and without certificates neither.
    assert_eq!(run(&["health", "--server", &server]).0, Some(1));
    let (status, errors) = orchestrator.terminate().unwrap();
    assert!(status.success(), "{errors}");
}

#[test]
fn a_doctor_says_what_to_mend() {
    let folder = tempfile::tempdir().unwrap();
    let tls = folder.path().join("tls").display().to_string();
    good(&["certs", "dir", &tls, "--days", "10"]);
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (_, text) = run(&[
        "doctor",
        "--json",
        "--port",
        &port,
        "--name",
        "localhost",
        "--certs",
        &tls,
    ]);
    let findings: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let of = |what: &str| {
        findings
            .iter()
            .filter(|f| f["what"] == what)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("port")[0]["level"], "doubt");
    assert_eq!(of("name")[0]["level"], "good");
    assert_eq!(of("certificate").len(), 3);
    assert!(
        of("certificate")
            .iter()
            .any(|f| f["level"] == "doubt" && f["mend"] != "")
    );
    assert_eq!(of("kernel").len(), 1);
}

#[test]
fn two_doctors_measure_the_way_between_them() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let _other = Process::start(splitplace().args(["doctor", "--listen", &address])).unwrap();
    let found = splitplace_tests::process::until("the other doctor", || {
        let (_, text) = run(&["doctor", "--json", "--link", &address]);
        let findings: Vec<serde_json::Value> = serde_json::from_str(&text).ok()?;
        findings
            .into_iter()
            .find(|f| f["what"] == "link" && f["level"] == "good")
    });
    assert!(found.unwrap()["seen"].as_str().unwrap().contains("Mbit/s"));
}

#[test]
fn the_definitions_are_printed() {
    let text = good(&["crds"]);
    assert!(
        text.contains("edgemodels.splitplace.dev") && text.contains("edgenodes.splitplace.dev")
    );
}
