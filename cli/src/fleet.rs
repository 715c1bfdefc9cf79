//! An orchestrator and its workers on this machine: in one process, or one process for each worker.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use splitplace_orchestrator::{
    app::{Addresses, App, Listeners},
    config::{Config, Listen},
    face::Face as _,
    fleet_file::FleetFile,
};
use splitplace_proto::center::StatusResponse;
use splitplace_worker as worker;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::oneshot,
    task::JoinHandle,
};

/// One worker to start.
#[derive(Clone, Debug)]
pub(crate) struct NodeSpec {
    /// Its name.
    pub(crate) name: String,
    /// Its settings, beside the orchestrator's address.
    pub(crate) config: worker::Config,
}

/// Has an orchestrator listen on whatever ports of this machine are free.
pub(crate) fn on_free_ports(config: &mut Config) {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    config.listen.grpc = free;
    config.listen.http = free;
    config.listen.metrics = free;
    config.listen.workers = free;
}

/// Nodes alike, which share this machine.
pub(crate) fn equal_nodes(count: usize) -> Vec<NodeSpec> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let each = u32::try_from((cores / count.max(1)).max(1)).unwrap_or(1);
    let of = |number: usize| {
        let name = format!("node-{number}");
        let config = worker::Config {
            node: name.clone(),
            cores: each,
            ..worker::Config::default()
        };
        NodeSpec { name, config }
    };
    (1..=count).map(of).collect()
}

/// The nodes of a fleet file.
pub(crate) fn emulated_nodes(file: &FleetFile) -> Vec<NodeSpec> {
    let of = |node: &splitplace_orchestrator::fleet_file::NodeEntry| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be above 0 and below 10^9 megabytes"
        )]
        let memory_bytes = (node.memory_mb * 1e6) as u64;
        let config = worker::Config {
            node: node.name.clone(),
            cores: node.cores,
            memory_bytes,
            speed_share: node.speed,
            emulated: true,
            ..worker::Config::default()
        };
        NodeSpec {
            name: node.name.clone(),
            config,
        }
    };
    file.nodes.iter().map(of).collect()
}

/// A running worker.
enum Worker {
    Task {
        stop: oneshot::Sender<()>,
        ended: JoinHandle<Result<(), worker::Error>>,
    },
    Process(Box<Child>),
}

/// An orchestrator with its workers.
pub(crate) struct Fleet {
    app: App,
    traces: Option<crate::telemetry::Exporter>,
    workers: BTreeMap<String, Worker>,
}

/// Binds the orchestrator's addresses.
pub(crate) async fn bind(listen: &Listen) -> anyhow::Result<Listeners> {
    let bind = |name: &'static str, address: SocketAddr| async move {
        TcpListener::bind(address).await.with_context(|| {
            format!(
                "cannot listen on {address} for {name}: choose another with --{name} or \
                 listen.{name}, or stop what listens there"
            )
        })
    };
    Ok(Listeners {
        grpc: bind("grpc", listen.grpc).await?,
        http: bind("http", listen.http).await?,
        metrics: bind("metrics", listen.metrics).await?,
        workers: bind("workers", listen.workers).await?,
    })
}

/// A seed for every random choice: the configured one, or one drawn now.
pub(crate) fn seed(config: &Config) -> u64 {
    config.seed.unwrap_or_else(rand::random)
}

impl Fleet {
    /// Starts everything. `processes` starts each worker as a process of its own.
    pub(crate) async fn start(
        config: Config,
        nodes: Vec<NodeSpec>,
        processes: bool,
    ) -> anyhow::Result<Self> {
        let listeners = bind(&config.listen).await?;
        let registry = Arc::new(Mutex::new(Registry::default()));
        let seed = seed(&config);
        let traces = config.traces.clone();
        let app = App::start(config, listeners, &registry, seed)?;
        app.center().set_foresight(Arc::new(crate::foresight::Twin));
        let mut fleet = Self {
            traces: crate::telemetry::export(&app, &traces)?,
            app,
            workers: BTreeMap::new(),
        };
        let families = worker::Metrics::register(&mut registry.lock());
        for node in nodes {
            let mut config = node.config;
            config.orchestrator = fleet.app.addresses().workers.to_string();
            let started = if processes {
                Worker::Process(Box::new(spawn(&config)?))
            } else {
                run(config, families.clone()).await?
            };
            fleet.workers.insert(node.name, started);
        }
        Ok(fleet)
    }

    /// Where the servers listen.
    pub(crate) fn addresses(&self) -> Addresses {
        self.app.addresses()
    }

    /// Where the dashboard is, with the token that lets its reader act.
    pub(crate) fn dashboard(&self) -> String {
        let token = self
            .app
            .dashboard_token()
            .map(|token| format!("#token={token}"));
        format!(
            "http://{}/{}",
            self.app.addresses().http,
            token.unwrap_or_default()
        )
    }

    /// The centre itself.
    pub(crate) fn center(&self) -> &splitplace_orchestrator::center::Center {
        self.app.center()
    }

    /// State of everything.
    pub(crate) fn status(&self) -> StatusResponse {
        self.app.center().status()
    }

    /// Process numbers of the workers that have one.
    pub(crate) fn processes(&self) -> BTreeMap<String, u32> {
        let of = |(name, worker): (&String, &Worker)| match worker {
            Worker::Process(child) => child.id().map(|id| (name.clone(), id)),
            Worker::Task { .. } => None,
        };
        self.workers.iter().filter_map(of).collect()
    }

    /// Waits until every model can be served, or says what is missing.
    pub(crate) async fn ready(&mut self, within: Duration) -> anyhow::Result<()> {
        let mut changes = self.app.center().changes();
        let deadline = tokio::time::Instant::now() + within;
        loop {
            if self.app.center().is_ready() {
                return Ok(());
            }
            self.check_processes()?;
            let look = (tokio::time::Instant::now() + Duration::from_millis(200)).min(deadline);
            let _ = tokio::time::timeout_at(look, changes.changed()).await;
            if tokio::time::Instant::now() >= deadline {
                let models = self.app.center().models();
                let missing: Vec<_> = models
                    .iter()
                    .filter(|facts| !facts.reason.is_empty())
                    .map(|facts| format!("{}: {}", facts.name, facts.reason))
                    .collect();
                bail!("not ready after {within:?}: {}", missing.join("; "));
            }
        }
    }

    fn check_processes(&mut self) -> anyhow::Result<()> {
        for (name, worker) in &mut self.workers {
            if let Worker::Process(child) = worker
                && let Some(status) = child.try_wait()?
            {
                bail!("the process of node {name} ended with {status}; try --log info to see why");
            }
        }
        Ok(())
    }

    /// Kills a worker's process, as `kill -9` does.
    pub(crate) async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        match self.workers.remove(name) {
            Some(Worker::Process(mut child)) => Ok(child.kill().await?),
            Some(Worker::Task { .. }) => bail!("node {name} has no process of its own"),
            None => bail!("there is no node {name}"),
        }
    }

    /// Drains the orchestrator, then stops the workers.
    pub(crate) async fn stop(self) {
        self.app.stop().await;
        let mut ending = Vec::new();
        for (name, worker) in self.workers {
            ending.push(tokio::spawn(end(name, worker)));
        }
        for one in ending {
            let _ = one.await;
        }
        if let Some(traces) = self.traces {
            traces.flush().await;
        }
    }
}

/// Time for a worker's process to leave by itself.
const LEAVE: Duration = Duration::from_secs(8);

async fn end(name: String, worker: Worker) {
    match worker {
        Worker::Task { stop, ended } => {
            let _ = stop.send(());
            match ended.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(code = "SP405", node = name, %error, "a worker ended badly");
                }
                Err(error) => {
                    tracing::error!(code = "SP405", node = name, %error, "a worker panicked");
                }
            }
        }
        Worker::Process(mut child) => {
            if let Some(id) = child.id() {
                terminate(id);
            }
            if tokio::time::timeout(LEAVE, child.wait()).await.is_err() {
                tracing::warn!(
                    code = "SP406",
                    node = name,
                    "a worker did not leave in time and is killed"
                );
                let _ = child.kill().await;
            }
        }
    }
}

fn terminate(id: u32) {
    let pid = i32::try_from(id)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

async fn run(config: worker::Config, metrics: worker::Metrics) -> anyhow::Result<Worker> {
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} for frames", config.listen))?;
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(async move {
        worker::run(config, listener, &metrics, async {
            let _ = stopped.await;
        })
        .await
    });
    Ok(Worker::Task { stop, ended })
}

/// Starts this binary as a worker that ends when this process does.
fn spawn(config: &worker::Config) -> anyhow::Result<Child> {
    let own = std::env::current_exe().context("cannot find the own binary")?;
    let mut command = Command::new(own);
    command
        .arg("worker")
        .arg("--die-with-parent")
        .args(["--node", &config.node])
        .args(["--orchestrator", &config.orchestrator])
        .args(["--set", &format!("cores={}", config.cores)])
        .args(["--set", &format!("memory-bytes={}", config.memory_bytes)])
        .args(["--set", &format!("speed-share={:?}", config.speed_share)])
        .args(["--set", &format!("emulated={}", config.emulated)])
        // Ctrl-C is for us; workers are told afterwards.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    if let Some(cache) = &config.cache {
        command.arg("--cache").arg(cache);
    }
    command.spawn().context("cannot start a worker's process")
}

/// The packages to serve: the given folder, or the shipped ones in a folder that lasts as long as what
/// is returned.
pub(crate) fn packages(
    given: Option<&Path>,
) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    match given {
        Some(folder) => {
            if !folder.exists() {
                bail!(
                    "there is no folder {}: --models needs one with packages",
                    folder.display()
                );
            }
            Ok((folder.to_owned(), None))
        }
        None => {
            let folder = tempfile::Builder::new().prefix("splitplace-").tempdir()?;
            crate::shipped::write_packages(folder.path(), None)?;
            Ok((folder.path().to_owned(), Some(folder)))
        }
    }
}

/// Has the system send this process a signal when the one that started it is gone.
pub(crate) fn die_with_parent(signal: rustix::process::Signal) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(signal))
        .context("the parent's death cannot be watched")?;
    Ok(())
}

/// Ready when the process is asked to stop: Ctrl-C or `SIGTERM`.
pub(crate) async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let term = async {
        match signal(SignalKind::terminate()) {
            Ok(mut term) => {
                term.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = term => {}
    }
}
