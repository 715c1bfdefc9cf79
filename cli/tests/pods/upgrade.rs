//! `helm upgrade` and rollback under load: every process is replaced as the chart's controllers would, and no request
//! that was let in goes without its answer.
//!
//! The DaemonSet replaces workers one after another: SIGTERM, the end, a new one, ready when the orchestrator counts
//! it as alive. The StatefulSet takes its pod out of the Service first (the preStop action waits for that), then
//! SIGTERM, the end, a new one on the same store, and back into the Service when it is ready. The two controllers know
//! nothing of each other.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
};

use serde_json::json;
use splitplace_tests::{
    http,
    process::{Process, signal, until},
};

use crate::{
    commands::{free_port, good, splitplace, status, write},
    operator::worker,
};

const MODEL: &str = "fashion-mnist";
/// Clients that ask without a pause.
const CLIENTS: u64 = 4;
/// Answers between two steps, so that each step happens under load.
const BETWEEN: u64 = 40;

#[derive(Default)]
struct Counts {
    /// Whether the Service leads to the orchestrator.
    is_in_service: AtomicBool,
    is_over: AtomicBool,
    answered: AtomicU64,
    refused: AtomicU64,
}

/// Asks again and again; gives what was lost.
fn client(number: u64, address: String, counts: Arc<Counts>) -> JoinHandle<Vec<String>> {
    thread::spawn(move || {
        let pixels: Vec<u64> = (0..784).map(|k| (k * 37 + number) % 251).collect();
        let body = json!({
            "inputs": [{"name": "image", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": pixels}],
            "parameters": {"splitplace_sla_ms": 60_000},
        })
        .to_string();
        let mut lost = Vec::new();
        while !counts.is_over.load(SeqCst) {
            if !counts.is_in_service.load(SeqCst) {
                thread::yield_now();
                continue;
            }
            let path = format!("/v2/models/{MODEL}/infer");
            match http::ask(&address, "POST", &path, &[], body.as_bytes()) {
                Ok(answer) if answer.status == 200 => {
                    counts.answered.fetch_add(1, SeqCst);
                }
                Ok(answer) if answer.header("splitplace-admitted") == Some("false") => {
                    counts.refused.fetch_add(1, SeqCst);
                }
                Ok(answer) => lost.push(format!("{answer:?}")),
                Err(error) => {
                    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
                    if kind == Some(io::ErrorKind::ConnectionRefused) {
                        counts.refused.fetch_add(1, SeqCst);
                    } else {
                        // Whoever waits for an answer does not get one: that is a loss, whoever is to blame.
                        lost.push(format!("{error:#}"));
                    }
                }
            }
        }
        lost
    })
}

struct Release {
    folder: tempfile::TempDir,
    config: String,
    grpc: String,
    center: String,
    counts: Arc<Counts>,
}

impl Release {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn orchestrator(&self) -> Process {
        let mut started =
            Process::start(splitplace().args(["orchestrator", "--json", "--config", &self.config]))
                .unwrap();
        started.json_line().unwrap();
        started
    }

    fn ready(&self, more: &[&str]) {
        good(&[&["health", "--server", &self.grpc, "--wait", "120s"], more].concat());
    }

    /// The DaemonSet's way with one node.
    fn replace_worker(&self, name: &str, old: Process) -> Process {
        let (status, errors) = old.terminate().unwrap();
        assert!(status.success(), "{errors}");
        let new = worker(name, &self.center, self.path());
        self.ready(&["--node", name]);
        new
    }

    /// The StatefulSet's way with its pod.
    fn replace_orchestrator(&self, old: Process) -> Process {
        self.counts.is_in_service.store(false, SeqCst);
        let (status, errors) = old.terminate().unwrap();
        assert!(status.success(), "{errors}");
        let new = self.orchestrator();
        self.ready(&[]);
        self.counts.is_in_service.store(true, SeqCst);
        new
    }

    /// Waits until the load goes on.
    fn goes_on(&self) {
        let wanted = self.counts.answered.load(SeqCst) + BETWEEN;
        let is_so = || (wanted <= self.counts.answered.load(SeqCst)).then_some(());
        until("answers go on", is_so).unwrap();
    }
}

#[test]
fn an_upgrade_and_a_rollback_lose_no_request_that_was_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    good(&["packages", &path("models"), "--only", MODEL]);
    let [grpc, http, metrics, center] = [0; 4].map(|_| format!("127.0.0.1:{}", free_port()));
    let config = format!(
        "listen.grpc = \"{grpc}\"\nlisten.http = \"{http}\"\nlisten.metrics = \"{metrics}\"\n\
         listen.workers = \"{center}\"\nmodels = {:?}\nstore = {:?}\n",
        path("models"),
        path("store"),
    );
    let config = write(folder.path(), "orchestrator.toml", &config);
    let counts = Arc::new(Counts::default());
    let release = Release {
        folder,
        config,
        grpc,
        center,
        counts: Arc::clone(&counts),
    };
    let mut orchestrator = release.orchestrator();
    let mut workers = ["attic", "cellar", "shed"]
        .map(|name| (name, Some(worker(name, &release.center, release.path()))));
    for (name, _) in &workers {
        release.ready(&["--node", name]);
    }
    release.ready(&["--model", MODEL]);
    release.ready(&[]);
    counts.is_in_service.store(true, SeqCst);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| client(number, http.clone(), Arc::clone(&counts)))
        .collect();
    release.goes_on();

    // The upgrade, one thing after another.
    for (name, slot) in &mut workers {
        *slot = slot.take().map(|old| release.replace_worker(name, old));
        release.goes_on();
    }
    orchestrator = release.replace_orchestrator(orchestrator);
    release.goes_on();

    // The rollback, both controllers at once.
    let orchestrator = thread::scope(|scope| {
        let pods = scope.spawn(|| {
            for (name, slot) in &mut workers {
                *slot = slot.take().map(|old| release.replace_worker(name, old));
            }
        });
        let new = release.replace_orchestrator(orchestrator);
        pods.join().unwrap();
        new
    });
    release.goes_on();

    counts.is_over.store(true, SeqCst);
    let lost: Vec<String> = clients
        .into_iter()
        .flat_map(|client| client.join().unwrap())
        .collect();
    let (answered, refused) = (counts.answered.load(SeqCst), counts.refused.load(SeqCst));
    println!(
        "{answered} answered, {refused} refused before they were let in, {} lost",
        lost.len()
    );
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(6 * BETWEEN <= answered);
    let (status, errors) = orchestrator.terminate().unwrap();
    assert!(status.success(), "{errors}");
}

#[test]
fn a_worker_that_leaves_while_the_orchestrator_goes_away_ends_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    good(&["packages", &path("models"), "--only", "simple"]);
    let mut orchestrator = Process::start(
        splitplace()
            .args(["orchestrator", "--json", "--free-ports"])
            .args(["--models", &path("models"), "--store", &path("store")]),
    )
    .unwrap();
    let addresses = orchestrator.json_line().unwrap();
    let address = |name: &str| addresses[name].as_str().unwrap().to_owned();
    let attic = worker("attic", &address("workers"), folder.path());
    let grpc = address("grpc");
    good(&[
        "health", "--server", &grpc, "--wait", "120s", "--model", "simple",
    ]);
    // Nobody could take its fragments: it goes on serving for the whole grace.
    signal(attic.id(), "TERM").unwrap();
    let is_leaving = || {
        let status = status(&grpc)?;
        (status["nodes"][0]["state"] == "leaving").then_some(())
    };
    until("the worker is leaving", is_leaving).unwrap();
    orchestrator.kill_9().unwrap();
    let (status, errors) = attic.wait().unwrap();
    assert!(status.success(), "{errors}");
}
