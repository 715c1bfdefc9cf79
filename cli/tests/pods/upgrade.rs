//! `helm upgrade` and rollback under load: every process is replaced as the chart's controllers would, and no request
//! that was let in goes without its answer.
//!
//! The DaemonSet replaces workers one after another: SIGTERM, the end, a new one, ready when the orchestrator counts
//! it as alive. The StatefulSet takes its pod out of the Service first (the preStop action waits for that), then
//! SIGTERM, the end, a new one on the same store, and back into the Service when it is ready. The two controllers know
//! nothing of each other.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use splitplace_tests::process::{Process, signal, until};

use crate::{
    PATIENT,
    commands::{free_port, good, splitplace, status, write},
    load::{BETWEEN, Load},
    operator::worker,
};

const MODEL: &str = "fashion-mnist";

struct Release {
    folder: tempfile::TempDir,
    config: String,
    grpc: String,
    center: String,
    /// Whether the Service leads to the orchestrator.
    is_in_service: Arc<AtomicBool>,
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
        self.is_in_service.store(false, SeqCst);
        let (status, errors) = old.terminate().unwrap();
        assert!(status.success(), "{errors}");
        let new = self.orchestrator();
        self.ready(&[]);
        self.is_in_service.store(true, SeqCst);
        new
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
         listen.workers = \"{center}\"\n{PATIENT}models = {:?}\nstore = {:?}\n",
        path("models"),
        path("store"),
    );
    let config = write(folder.path(), "orchestrator.toml", &config);
    let is_in_service = Arc::new(AtomicBool::new(false));
    let release = Release {
        folder,
        config,
        grpc,
        center,
        is_in_service: Arc::clone(&is_in_service),
    };
    let mut orchestrator = release.orchestrator();
    let mut workers = ["attic", "cellar", "shed"]
        .map(|name| (name, Some(worker(name, &release.center, release.path()))));
    for (name, _) in &workers {
        release.ready(&["--node", name]);
    }
    release.ready(&["--model", MODEL]);
    release.ready(&[]);
    is_in_service.store(true, SeqCst);
    let load = Load::start(MODEL, move || {
        is_in_service.load(SeqCst).then(|| http.clone())
    });
    load.goes_on();

    // The upgrade, one thing after another.
    for (name, slot) in &mut workers {
        *slot = slot.take().map(|old| release.replace_worker(name, old));
        load.goes_on();
    }
    orchestrator = release.replace_orchestrator(orchestrator);
    load.goes_on();

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
    load.goes_on();

    let (answered, _) = load.end();
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
