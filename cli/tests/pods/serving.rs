//! An orchestrator and workers as the chart starts them, with certificates and probes.

use std::fs;

use splitplace_tests::{
    http,
    process::{Process, until},
};

use crate::commands::{free_port, good, run, splitplace, worker, worker_and};

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
    // Whoever renews certificates replaces files; here the authority is another one, too, so that old and new differ in
    // everything. Nobody is started again: who connects from now on meets the new ones.
    good(&["certs", "dir", &path("renewed")]);
    for file in [
        "ca.crt",
        "orchestrator.crt",
        "orchestrator.key",
        "worker.crt",
        "worker.key",
    ] {
        let (from, to) = (
            path(&format!("renewed/{file}")),
            path(&format!("tls/{file}")),
        );
        // As a kubelet does: never half a file.
        fs::copy(from, path("next")).unwrap();
        fs::rename(path("next"), to).unwrap();
    }
    good(
        &[
            &["health"],
            &at[..],
            &["--wait", "60s", "--model", "fashion-mnist"],
        ]
        .concat(),
    );
    let metrics = free_port();
    let _shed = worker_and(
        "shed",
        center,
        folder.path(),
        &[&format!("--metrics=127.0.0.1:{metrics}")],
    );
    good(&[&["health"], &at[..], &["--wait", "60s", "--node", "shed"]].concat());
    good(&[&["health"], &at[..], &["--node", "attic"]].concat());
    let address = format!("127.0.0.1:{metrics}");
    let expiry = || {
        let answer = http::ask(&address, "GET", "/metrics", &[], &[]).ok()?;
        let text = String::from_utf8(answer.body).ok()?;
        let mut lines = text.lines();
        let line = lines.find(|line| {
            line.starts_with("splitplace_worker_certificate_expiry_timestamp_seconds{")
        })?;
        let seconds: f64 = line.split_whitespace().last()?.parse().ok()?;
        (1.7e9 < seconds).then_some(())
    };
    until("the end of the certificate is told", expiry).unwrap();
    good(
        &[
            &["infer", "fashion-mnist", "--picture=7", "--sla=1000"],
            &at[..],
        ]
        .concat(),
    );
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
