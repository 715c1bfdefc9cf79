//! An orchestrator from its parts: store, centre and four servers, on listeners given by the binary.

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use splitplace_link::{
    Files, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_FRAME_BYTES, HTTP2_STREAM_WINDOW_BYTES, Receiver,
    Secured, Security, SecurityError, WireLimits,
};
use splitplace_onnx::Costs;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_stream::{StreamExt as _, wrappers::TcpListenerStream};
use tonic::transport::Server;

use crate::{
    api::{self, standby::Standby, tls::TlsListener, tokens::Tokens},
    center::{Center, Parts, Running, StartError},
    config::{self, Config},
    face::Face,
    fleet_file::{FleetFile, FleetFileError},
    store::{MemoryStore, SledStore, Store, StoreError, StoreLimits},
};

/// Requests of one client's stream that may be in flight.
const STREAM_IN_FLIGHT: usize = 256;
/// Longest wait for requests in flight when leaving.
const DRAIN: Duration = Duration::from_secs(30);
/// For connections that clients keep open when the servers stop.
const CLOSE: Duration = Duration::from_secs(2);

/// Bound sockets, one for each server.
#[derive(Debug)]
pub struct Listeners {
    /// Inference over gRPC.
    pub grpc: TcpListener,
    /// Inference over REST.
    pub http: TcpListener,
    /// Metrics.
    pub metrics: TcpListener,
    /// Workers: sessions and results.
    pub workers: TcpListener,
}

/// Where the servers really listen.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Inference over gRPC.
    pub grpc: SocketAddr,
    /// Inference over REST.
    pub http: SocketAddr,
    /// Metrics.
    pub metrics: SocketAddr,
    /// Workers.
    pub workers: SocketAddr,
}

/// Why an orchestrator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration cannot be used.
    #[error("{}", .0.join("; "))]
    Config(Vec<String>),
    /// A file named by the configuration cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The fleet file cannot be used.
    #[error(transparent)]
    Fleet(#[from] FleetFileError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The centre cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] SecurityError),
    /// A listener is broken.
    #[error("a listener is broken: {0}")]
    Listener(std::io::Error),
}

/// What predictions start from.
fn costs(planning: &config::Planning) -> Result<Costs, AppError> {
    let wrong = |whose: String, why: String| AppError::Config(vec![format!("{whose}: {why}")]);
    let Some(path) = &planning.costs else {
        return Costs::shipped().map_err(|why| wrong("the shipped coefficients".into(), why));
    };
    let text = std::fs::read_to_string(path).map_err(|source| AppError::File {
        path: path.clone(),
        source,
    })?;
    let whose = format!("planning.costs: {}", path.display());
    Costs::from_text(&text).map_err(|why| {
        let recipe = "`splitplace lab costs --write FILE` makes such a file";
        wrong(whose, format!("{why}; {recipe}"))
    })
}

/// A running orchestrator.
#[derive(Debug)]
pub struct App {
    center: Center,
    running: Running,
    addresses: Addresses,
    servers: JoinSet<()>,
    stop: watch::Sender<bool>,
    dashboard_token: Option<Secret>,
}

/// A text that is not for logs.
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

impl App {
    /// Starts an orchestrator. Models are loaded and workers waited for after this has returned.
    ///
    /// # Errors
    /// [`AppError`].
    pub fn start(
        config: Config,
        listeners: Listeners,
        registry: &Arc<Mutex<Registry>>,
        seed: u64,
    ) -> Result<Self, AppError> {
        let wrong = config.check();
        if !wrong.is_empty() {
            return Err(AppError::Config(wrong));
        }
        let address = |listener: &TcpListener| listener.local_addr().map_err(AppError::Listener);
        let addresses = Addresses {
            grpc: address(&listeners.grpc)?,
            http: address(&listeners.http)?,
            metrics: address(&listeners.metrics)?,
            workers: address(&listeners.workers)?,
        };
        let security = security(&config)?;
        let settings = settings(&config)?;
        // Whoever can read what the binary prints may act, when no token was given out.
        let dashboard_token = settings
            .tokens
            .is_empty()
            .then(|| Secret(format!("{:032x}", rand::random::<u128>())));
        let acting = dashboard_token
            .as_ref()
            .map_or_else(|| settings.tokens.clone(), |own| Tokens::from_lines(&own.0));
        let links = match &config.fleet {
            Some(path) => Some(FleetFile::read(path)?.links()),
            None => None,
        };
        let limits = StoreLimits::default();
        let store: Arc<dyn Store> = match &config.store {
            Some(folder) => Arc::new(SledStore::open(folder, limits)?),
            None => Arc::new(MemoryStore::new(limits)),
        };
        let wire = WireLimits {
            frame_bytes: config.workers.max_frame_bytes,
            ..WireLimits::default()
        };
        let parts = Parts {
            center_address: config
                .listen
                .workers_public
                .clone()
                .unwrap_or_else(|| addresses.workers.to_string()),
            store,
            links,
            security: security.clone(),
            costs: costs(&config.planning)?,
            seed,
            config,
        };
        let (center, running) = Center::start(parts, &mut registry.lock())?;
        let face = Arc::new(center.clone());
        let (stop, stopping) = watch::channel(false);
        let mut servers = JoinSet::new();

        let clients = Clients {
            grpc: listeners.grpc,
            http: listeners.http,
            settings: &settings,
            security: security.as_ref(),
            beside: api::dashboard(&face, acting),
        };
        clients.serve(&face, &mut servers, &stopping)?;
        let workers = builder()
            .add_service(center.sessions().service())
            .add_service(Receiver::new(Arc::clone(&face), wire));
        let stopped = until(stopping.clone());
        match security.clone() {
            Some(security) => {
                let secured = Secured::new(listeners.workers, move || security.server());
                let served = workers.serve_with_incoming_shutdown(secured, stopped);
                servers.spawn(named("workers", served));
            }
            None => {
                let plain = nodelay(listeners.workers);
                let served = workers.serve_with_incoming_shutdown(plain, stopped);
                servers.spawn(named("workers", served));
            }
        }

        let metrics = api::metrics(Arc::clone(registry));
        let stopped = until(stopping.clone());
        http(
            "metrics",
            listeners.metrics,
            metrics,
            security.as_ref(),
            &mut servers,
            stopped,
        )?;
        Ok(Self {
            center,
            running,
            addresses,
            servers,
            stop,
            dashboard_token,
        })
    }

    /// The centre, for whoever lives in the same process.
    #[must_use]
    pub const fn center(&self) -> &Center {
        &self.center
    }

    /// Where the servers really listen.
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The token with which the dashboard lets somebody act, when the configuration has none. Not for
    /// logs.
    #[must_use]
    pub fn dashboard_token(&self) -> Option<&str> {
        self.dashboard_token.as_ref().map(|own| &own.0[..])
    }

    /// Refuses what is new, waits for what is in flight, saves everything, and ends.
    pub async fn stop(mut self) {
        self.center.drain();
        let center = self.center.clone();
        let drained = async {
            let mut pause = tokio::time::interval(Duration::from_millis(20));
            while center.in_flight() > 0 {
                pause.tick().await;
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            let left = self.center.in_flight();
            tracing::warn!(
                code = "SP406",
                left,
                "requests were still in flight when the time to leave was over"
            );
        }
        let _ = self.stop.send(true);
        let closed = async { while self.servers.join_next().await.is_some() {} };
        // Clients may keep connections open for as long as they like.
        if tokio::time::timeout(CLOSE, closed).await.is_err() {
            self.servers.shutdown().await;
        }
        self.running.stop().await;
    }
}

/// What is listened on for clients, whoever answers them.
struct Clients<'a> {
    grpc: TcpListener,
    http: TcpListener,
    settings: &'a api::Settings,
    security: Option<&'a Security>,
    /// What is on the REST address too.
    beside: axum::Router,
}

impl Clients<'_> {
    fn serve<F: Face>(
        self,
        face: &Arc<F>,
        servers: &mut JoinSet<()>,
        stopping: &watch::Receiver<bool>,
    ) -> Result<(), AppError> {
        let clients = builder().add_routes(api::grpc(face, self.settings));
        let stopped = until(stopping.clone());
        match self.security.cloned() {
            Some(security) => {
                let secured = Secured::new(self.grpc, move || security.server_for_anyone());
                let served = clients.serve_with_incoming_shutdown(secured, stopped);
                servers.spawn(named("gRPC", served));
            }
            None => {
                let served = clients.serve_with_incoming_shutdown(nodelay(self.grpc), stopped);
                servers.spawn(named("gRPC", served));
            }
        }
        let routes = api::rest(face, self.settings).merge(self.beside);
        let stopped = until(stopping.clone());
        http("REST", self.http, routes, self.security, servers, stopped)
    }
}

/// Serves routes, with certificates where there are some.
fn http(
    name: &'static str,
    listener: TcpListener,
    routes: axum::Router,
    security: Option<&Security>,
    servers: &mut JoinSet<()>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> Result<(), AppError> {
    match security {
        Some(security) => {
            let listener = TlsListener::new(listener, security).map_err(AppError::Listener)?;
            let served = axum::serve(listener, routes).with_graceful_shutdown(stopped);
            servers.spawn(named(name, served.into_future()));
        }
        None => {
            use axum::serve::ListenerExt as _;
            let listener = listener.tap_io(|stream| {
                let _ = stream.set_nodelay(true);
            });
            let served = axum::serve(listener, routes).with_graceful_shutdown(stopped);
            servers.spawn(named(name, served.into_future()));
        }
    }
    Ok(())
}

/// The servers of a standby: it has no store open and no workers.
#[derive(Debug)]
pub struct Reads {
    servers: JoinSet<()>,
    /// Kept, or the servers would stop.
    _stop: watch::Sender<bool>,
}

impl Reads {
    /// Answers clients from `standby`, on the addresses and with the certificates and tokens that the
    /// orchestrator has when it leads.
    ///
    /// # Errors
    /// [`AppError`].
    pub fn start(
        config: &Config,
        (grpc, http): (TcpListener, TcpListener),
        standby: &Arc<Standby>,
    ) -> Result<Self, AppError> {
        let (settings, security) = (settings(config)?, security(config)?);
        let clients = Clients {
            grpc,
            http,
            settings: &settings,
            security: security.as_ref(),
            beside: axum::Router::new(),
        };
        let mut servers = JoinSet::new();
        let (stop, stopping) = watch::channel(false);
        clients.serve(standby, &mut servers, &stopping)?;
        Ok(Self {
            servers,
            _stop: stop,
        })
    }

    /// Closes the listeners and every connection. Nobody is drained: whoever reads asks again.
    pub async fn stop(mut self) {
        self.servers.shutdown().await;
    }
}

fn settings(config: &Config) -> Result<api::Settings, AppError> {
    Ok(api::Settings {
        max_message_bytes: config.api.max_message_bytes,
        stream_in_flight: STREAM_IN_FLIGHT,
        reflection: config.api.reflection,
        tokens: match &config.api.tokens {
            Some(path) => Tokens::from_lines(&read(path)?),
            None => Tokens::default(),
        },
    })
}

fn security(config: &Config) -> Result<Option<Security>, AppError> {
    let files = config.tls.as_ref().map(|tls| Files {
        ca: tls.ca.clone(),
        cert: tls.cert.clone(),
        key: tls.key.clone(),
    });
    Ok(files.map(Security::open).transpose()?)
}

fn read(path: &PathBuf) -> Result<String, AppError> {
    std::fs::read_to_string(path).map_err(|source| AppError::File {
        path: path.clone(),
        source,
    })
}

fn builder() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .max_frame_size(HTTP2_FRAME_BYTES)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
}

/// Connections without Nagle's delay, which costs a small message 40 ms.
fn nodelay(listener: TcpListener) -> impl tokio_stream::Stream<Item = std::io::Result<TcpStream>> {
    TcpListenerStream::new(listener).map(|stream| {
        stream.inspect(|stream| {
            let _ = stream.set_nodelay(true);
        })
    })
}

async fn until(mut stopping: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn named<E: std::fmt::Display>(
    name: &'static str,
    served: impl Future<Output = Result<(), E>>,
) {
    if let Err(error) = served.await {
        tracing::error!(code = "SP405", server = name, %error, "a server stopped");
    }
}
