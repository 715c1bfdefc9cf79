//! The control plane: one session with the orchestrator, opened again whenever it breaks.

mod fetch;
mod loader;

use std::{
    future::Future,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use splitplace_link::{
    Files, Receiver, Secured, Security, SecurityError, WireLimits,
    sender::{endpoint, unix_us},
};
use splitplace_plan::Generation;
use splitplace_proto::control::{
    self, Beat, CenterMessage, Hello, WorkerMessage, center_message, control_client::ControlClient,
    worker_message,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Channel;

use self::loader::{Load, Loader, shape_of};
use crate::{
    Config,
    cache::Cache,
    fragments::Fragments,
    memory,
    metrics::Families,
    node::{Arrivals, Node},
    profiles::{self, Profiles},
};

/// Why a worker could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("{}", .0.join("; "))]
    Config(Vec<String>),
    /// A file named by the configuration cannot be used.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The engine does not work on this machine.
    #[error("the engine does not run: {0}")]
    Engine(#[from] splitplace_onnx::Error),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] SecurityError),
    /// The orchestrator will not have this worker.
    #[error("the orchestrator refused node '{node}': {reason}")]
    Refused {
        /// Own name.
        node: String,
        /// What it said.
        reason: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// How often what was measured goes to disk: a crash forgets no more than that.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// Messages to the orchestrator that may wait.
const OUTBOX: usize = 256;

/// Runs a worker until `shutdown` is ready, then finishes what it has and leaves.
///
/// `listener` takes the frames of peers; binding it is the caller's business.
///
/// # Errors
/// [`Error`]; a lost orchestrator is none, the session is opened again.
pub async fn run(
    config: Config,
    listener: TcpListener,
    metrics: &Families,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let wrong = config.check();
    if !wrong.is_empty() {
        return Err(Error::Config(wrong));
    }
    let name = if config.node.is_empty() {
        own_name()
    } else {
        config.node.clone()
    };
    let memory = memory::memory(config.memory_bytes);
    let cores = memory::cores(config.cores);
    let files = config.tls.as_ref().map(|tls| Files {
        ca: tls.ca.clone(),
        cert: tls.cert.clone(),
        key: tls.key.clone(),
    });
    let security = files.map(Security::open).transpose()?;
    let cache = match &config.cache {
        Some(folder) => {
            Some(
                Cache::open(folder, config.cache_bytes).map_err(|source| Error::File {
                    path: folder.clone(),
                    source,
                })?,
            )
        }
        None => None,
    };
    let limits = splitplace_onnx::Limits {
        model_bytes: config.max_fragment_bytes,
        ..splitplace_onnx::Limits::default()
    };
    let fragments = Fragments::new(
        memory.bytes,
        limits,
        config.warm_runs,
        config.speed_share,
        cache,
        Profiles::open(
            config.cache.as_deref(),
            profiles::hardware(cores, config.speed_share),
        ),
    );
    let node = Node::new(name.clone(), fragments, metrics.of(&name));
    let speed = tokio::task::spawn_blocking(|| {
        splitplace_onnx::speed::macs_per_second(8, crate::emulated::thread_time)
    });
    let speed = speed.await.map_err(|error| Error::Thread(error.into()))?? * config.speed_share;
    let data_address = match &config.public {
        Some(public) => public.clone(),
        None => listener
            .local_addr()
            .map_or_else(|_| String::new(), |address| address.to_string()),
    };
    let server = serve(&config, listener, security.clone(), &node);
    let mut threads = Vec::new();
    for number in 0..cores {
        let node = Arc::clone(&node);
        let thread = std::thread::Builder::new()
            .name(format!("{name} compute {number}"))
            .spawn(move || node.compute())
            .map_err(Error::Thread)?;
        threads.push(thread);
    }
    let hello = Hello {
        node: name.clone(),
        data_address,
        version: env!("CARGO_PKG_VERSION").into(),
        cores,
        memory_bytes: memory.bytes,
        memory_source: memory.source,
        macs_per_second: speed,
        labels: config.labels.clone().into_iter().collect(),
        speed_share: config.speed_share,
        emulated: config.is_emulated(),
        generation: 0,
    };
    let worker = Worker {
        config,
        security,
        node,
        hello,
    };
    let ended = worker.sessions(shutdown).await;
    server.abort();
    worker.node.queue.close();
    let joined = tokio::task::spawn_blocking(move || {
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!(code = "SP405", "a compute thread panicked");
            }
        }
        worker.node.fragments.profiles.save();
    });
    joined.await.map_err(|error| Error::Thread(error.into()))?;
    ended
}

fn own_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_lowercase()
}

fn serve(
    config: &Config,
    listener: TcpListener,
    security: Option<Security>,
    node: &Arc<Node>,
) -> tokio::task::JoinHandle<()> {
    let limits = WireLimits {
        frame_bytes: config.max_frame_bytes,
        ..WireLimits::default()
    };
    let receiver = Receiver::new(Arc::new(Arrivals(Arc::clone(node))), limits);
    let router = tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .max_frame_size(splitplace_link::HTTP2_FRAME_BYTES)
        .initial_stream_window_size(splitplace_link::HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(splitplace_link::HTTP2_CONNECTION_WINDOW_BYTES)
        .add_service(receiver);
    tokio::spawn(async move {
        let served = match security {
            Some(security) => {
                let secured = Secured::new(listener, move || security.server());
                router.serve_with_incoming(secured).await
            }
            None => router.serve_with_incoming(nodelay(listener)).await,
        };
        if let Err(error) = served {
            tracing::error!(code = "SP405", %error, "the data plane stopped");
        }
    })
}

/// Connections without Nagle's delay, which costs a small frame 40 ms.
fn nodelay(
    listener: TcpListener,
) -> impl tokio_stream::Stream<Item = std::io::Result<tokio::net::TcpStream>> {
    tokio_stream::StreamExt::map(TcpListenerStream::new(listener), |stream| {
        stream.inspect(|stream| {
            let _ = stream.set_nodelay(true);
        })
    })
}

/// How a session ended.
enum End {
    Broken(String),
    Refused(String),
    Left,
}

struct Worker {
    config: Config,
    security: Option<Security>,
    node: Arc<Node>,
    hello: Hello,
}

impl Worker {
    async fn sessions(&self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let mut shutdown = pin!(shutdown);
        let mut pause = Duration::from_millis(50);
        loop {
            let begin = Instant::now();
            let reason = match self.session(shutdown.as_mut()).await {
                End::Left => return Ok(()),
                // A name that is taken may be free again once the old session is seen to be dead.
                End::Refused(reason) if Duration::from_secs(10) < begin.elapsed() => {
                    return Err(Error::Refused {
                        node: self.hello.node.clone(),
                        reason,
                    });
                }
                End::Refused(reason) | End::Broken(reason) => reason,
            };
            tracing::warn!(
                code = "SP401",
                node = self.hello.node,
                orchestrator = self.config.orchestrator,
                reason,
                "no session with the orchestrator; trying again"
            );
            if Duration::from_secs(5) < begin.elapsed() {
                pause = Duration::from_millis(50);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.as_mut() => return Ok(()),
            }
            pause = (pause * 2).min(Duration::from_millis(self.config.reconnect_ms.max(50)));
        }
    }

    async fn client(&self) -> Result<ControlClient<Channel>, tonic::transport::Error> {
        let channel = endpoint(&self.config.orchestrator, self.security.as_ref())?
            .connect()
            .await?;
        Ok(ControlClient::new(channel)
            .max_decoding_message_size(self.config.max_frame_bytes)
            .max_encoding_message_size(self.config.max_frame_bytes))
    }

    async fn session(&self, mut shutdown: std::pin::Pin<&mut impl Future<Output = ()>>) -> End {
        let opening = async {
            let mut client = self.client().await.map_err(|error| chain(&error))?;
            let (outbox, messages) = mpsc::channel(OUTBOX);
            let generation = self.node.routes.read().newest().0;
            let hello = Hello {
                generation,
                ..self.hello.clone()
            };
            outbox
                .send(message(worker_message::Kind::Hello(hello)))
                .await
                .map_err(|error| error.to_string())?;
            let inbox = client
                .session(ReceiverStream::new(messages))
                .await
                .map_err(|status| status.message().to_owned())?
                .into_inner();
            Ok::<_, String>((client, outbox, inbox))
        };
        let opened = tokio::select! {
            opened = tokio::time::timeout(Duration::from_secs(5), opening) => opened,
            () = shutdown.as_mut() => return End::Left,
        };
        let (client, outbox, mut inbox) = match opened {
            Ok(Ok(parts)) => parts,
            Ok(Err(reason)) => return End::Broken(reason),
            Err(_) => return End::Broken("it did not answer within 5 s".into()),
        };
        let welcome = match tokio::time::timeout(Duration::from_secs(5), inbox.message()).await {
            Ok(Ok(Some(CenterMessage {
                kind: Some(center_message::Kind::Welcome(welcome)),
            }))) => welcome,
            Ok(Ok(Some(CenterMessage {
                kind: Some(center_message::Kind::Refusal(refusal)),
            }))) => {
                return End::Refused(refusal.reason);
            }
            Ok(Err(status)) => return End::Broken(status.message().to_owned()),
            Ok(_) => return End::Broken("it did not begin with a welcome".into()),
            Err(_) => return End::Broken("it did not welcome within 5 s".into()),
        };
        tracing::info!(node = self.hello.node, "joined the fleet");
        let (loads, mut to_load) = mpsc::channel::<Load>(16);
        let loader = {
            let loader = Loader {
                node: Arc::clone(&self.node),
                client,
                outbox: outbox.clone(),
                center: welcome.center_data_address.clone(),
                peer_queue: self.config.peer_queue,
                max_fragment_bytes: self.config.max_fragment_bytes,
                security: self.security.clone(),
                cores: self.hello.cores,
            };
            let waiting = loads.downgrade();
            tokio::spawn(async move {
                let mut loader = loader;
                while let Some(load) = to_load.recv().await {
                    loader.one(load).await;
                    for loaded in loader.node.fragments.all() {
                        if !to_load.is_empty() {
                            break;
                        }
                        loader.curve(loaded, waiting.clone()).await;
                    }
                }
            })
        };
        let mut leaving = None;
        let end = self
            .talk(
                &welcome,
                &outbox,
                &mut inbox,
                &loads,
                shutdown,
                &mut leaving,
            )
            .await;
        loader.abort();
        match end {
            // Both were asked to stop, as by an upgrade: there is nobody to hand over to, and nothing more to wait for.
            End::Broken(_) if leaving.is_some() => {
                self.rest().await;
                End::Left
            }
            end => end,
        }
    }

    /// The session proper: beats, reports, and whatever the orchestrator asks for. `leaving` is when it ends at the
    /// latest, from when `shutdown` was ready.
    async fn talk(
        &self,
        welcome: &control::Welcome,
        outbox: &mpsc::Sender<WorkerMessage>,
        inbox: &mut tonic::Streaming<CenterMessage>,
        loads: &mpsc::Sender<Load>,
        mut shutdown: std::pin::Pin<&mut impl Future<Output = ()>>,
        leaving: &mut Option<tokio::time::Instant>,
    ) -> End {
        let every = |ms: u32| Duration::from_millis(u64::from(ms.max(10)));
        let mut beats = tokio::time::interval(every(welcome.beat_interval_ms));
        let mut reports = tokio::time::interval(every(welcome.report_interval_ms));
        let mut saves = tokio::time::interval(SAVE_EVERY);
        let silence = every(welcome.silence_limit_ms);
        let mut heard = tokio::time::Instant::now();
        let mut echo: Option<(i64, i64)> = None;
        loop {
            tokio::select! {
                () = shutdown.as_mut(), if leaving.is_none() => {
                    let grace = Duration::from_millis(self.config.grace_ms);
                    *leaving = Some(tokio::time::Instant::now() + grace);
                    let reason = "asked to stop".into();
                    let told = worker_message::Kind::Leaving(control::Leaving { reason });
                    if outbox.send(message(told)).await.is_err() {
                        return End::Left;
                    }
                }
                received = inbox.message() => {
                    heard = tokio::time::Instant::now();
                    match received {
                        Ok(Some(CenterMessage { kind: Some(kind) })) => match kind {
                            center_message::Kind::Beat(beat) => {
                                echo = Some((beat.sent_unix_us, unix_us()));
                            }
                            center_message::Kind::Assignment(assignment) => {
                                if loads.try_send(Load::Assignment(assignment)).is_err() {
                                    return End::Broken("it assigns faster than can be loaded".into());
                                }
                            }
                            center_message::Kind::Profile(profile) => {
                                if loads.try_send(Load::Profile(profile)).is_err() {
                                    return End::Broken("it profiles faster than can be run".into());
                                }
                            }
                            center_message::Kind::Retire(retire) => {
                                self.retire(Generation(retire.below_generation));
                            }
                            center_message::Kind::Exits(rules) => self.node.control(&rules),
                            center_message::Kind::Reshape(reshape) => {
                                for peer in &reshape.peers {
                                    self.node.reshape(&peer.node, peer.shape.map(shape_of));
                                }
                            }
                            center_message::Kind::Probes(probes) => {
                                for probe in &probes.probes {
                                    self.node.probe(&probe.peer, probe.bytes);
                                }
                            }
                            center_message::Kind::Welcome(_) | center_message::Kind::Refusal(_) => {
                                return End::Broken("it greeted twice".into());
                            }
                        },
                        Ok(Some(_)) => {}
                        Ok(None) if leaving.is_some() => return End::Left,
                        Ok(None) => return End::Broken("it closed the session".into()),
                        Err(status) => return End::Broken(status.message().to_owned()),
                    }
                }
                _ = beats.tick() => {
                    let (echo_sent_unix_us, echo_received_unix_us) = echo.unwrap_or_default();
                    let beat =
                        Beat { sent_unix_us: unix_us(), echo_sent_unix_us, echo_received_unix_us };
                    if outbox.try_send(message(worker_message::Kind::Beat(beat))).is_err() {
                        return End::Broken("it reads too slowly".into());
                    }
                    let seen = self.node.probed();
                    if !seen.is_empty() {
                        let probed = worker_message::Kind::Probed(control::Probed { seen });
                        if outbox.try_send(message(probed)).is_err() {
                            return End::Broken("it reads too slowly".into());
                        }
                    }
                    if silence < heard.elapsed() {
                        return End::Broken(format!("it was silent for {silence:?}"));
                    }
                    if let Some(until) = *leaving {
                        let is_free = self.node.routes.read().fragments_of(&self.node.name).is_empty()
                            && self.node.queue.len() == 0;
                        if is_free || until <= tokio::time::Instant::now() {
                            self.rest().await;
                            return End::Left;
                        }
                    }
                }
                _ = saves.tick() => {
                    let node = Arc::clone(&self.node);
                    tokio::task::spawn_blocking(move || node.fragments.profiles.save());
                }
                _ = reports.tick() => {
                    if let Some(security) = &self.security {
                        self.node.metrics.certificate_expiry.set(security.expiry());
                    }
                    let report = worker_message::Kind::Report(self.report());
                    if outbox.try_send(message(report)).is_err() {
                        return End::Broken("it reads too slowly".into());
                    }
                }
            }
        }
    }

    fn retire(&self, first: Generation) {
        self.node.routes.write().retire(first);
        self.node.fragments.retain(self.node.needed());
        self.gauge();
    }

    async fn rest(&self) {
        let node = Arc::clone(&self.node);
        let grace = Duration::from_millis(self.config.grace_ms);
        let waited = tokio::task::spawn_blocking(move || node.queue.wait_for_rest(grace)).await;
        if !waited.unwrap_or(false) {
            tracing::warn!(
                code = "SP406",
                node = self.hello.node,
                "left before everything was finished"
            );
        }
    }

    fn gauge(&self) {
        let used = i64::try_from(self.node.fragments.used_bytes()).unwrap_or(i64::MAX);
        self.node.metrics.memory.set(used);
    }

    fn report(&self) -> control::Report {
        use std::sync::atomic::Ordering::Relaxed;
        self.gauge();
        let links = self.node.peers.read();
        let links = links.iter().map(|(peer, sender)| control::LinkReport {
            peer: peer.clone(),
            frames: sender.tallies().frames.load(Relaxed),
            bytes: sender.tallies().bytes.load(Relaxed),
            reconnects: sender.tallies().reconnects.load(Relaxed),
            distrust: sender.distrust().unwrap_or_default(),
        });
        control::Report {
            fragments: self.node.fragments.reports(),
            memory_used_bytes: self.node.fragments.used_bytes(),
            links: links.collect(),
            stations: self
                .node
                .routes
                .read()
                .all()
                .filter_map(|way| way.station.report())
                .collect(),
        }
    }
}

fn message(kind: worker_message::Kind) -> WorkerMessage {
    WorkerMessage { kind: Some(kind) }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
