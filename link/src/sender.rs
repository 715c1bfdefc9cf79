//! The sending end: one long-lived stream to one peer.
//!
//! Frames wait in a bounded queue; when the stream breaks, those that wait are handed back, the peer
//! is reported lost, and the connection is tried again with growing pauses. A frame that was handed to
//! the socket before the break may or may not have arrived: whoever sent the request finds out.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};
use splitplace_fleet::Timestamp;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_rustls::rustls;
use tonic::{body::Body, transport::Endpoint};
use tower::{Service, ServiceExt as _};

use crate::{Backlog, Frame, LinkShape, Security, Shaper, receipt::Receipts, wire};

/// Metadata that names the sender.
pub(crate) const PEER_HEADER: &str = "splitplace-peer";

/// What may be chosen about a stream.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Own name, told to the peer.
    pub own_name: String,
    /// The peer's `host:port`.
    pub address: String,
    /// Certificates, if the peer wants them.
    pub security: Option<Security>,
    /// Frames that may wait.
    pub queue_frames: usize,
    /// Emulated slowness; `None` for the link as it is.
    pub shape: Option<LinkShape>,
    /// Seed of the emulated jitter.
    pub seed: u64,
    /// Longest pause between two tries to connect.
    pub pause_max: Duration,
}

/// Told what happens to the stream.
pub trait Events: Send + Sync + 'static {
    /// Frames that were not handed over when the stream broke.
    fn lost(&self, peer: &str, frames: Vec<Frame>);

    /// The peer said how many requests are present there.
    fn heard(&self, peer: &str, backlogs: &[Backlog]) {
        let _ = (peer, backlogs);
    }

    /// The stream broke: what was heard holds no longer.
    fn broke(&self, peer: &str) {
        let _ = peer;
    }
}

/// Why a frame was not taken; it is handed back.
#[derive(Debug)]
pub enum SendError {
    /// As many frames wait as may.
    Full(Box<Frame>),
    /// The peer cannot be reached at present.
    Lost(Box<Frame>),
}

/// A frame that waits, and since when.
struct Waiting {
    frame: Frame,
    since: Instant,
}

/// Cumulative numbers of a stream.
#[derive(Debug, Default)]
pub struct Tallies {
    /// Frames handed to the socket.
    pub frames: AtomicU64,
    /// Their tensors' bytes.
    pub bytes: AtomicU64,
    /// Connections after the first.
    pub reconnects: AtomicU64,
}

/// A stream to one peer. Dropping it closes the stream.
pub struct Sender {
    queue: mpsc::Sender<Waiting>,
    shaped: Option<crossbeam_channel::Sender<Waiting>>,
    is_lost: Arc<AtomicBool>,
    tallies: Arc<Tallies>,
    task: JoinHandle<()>,
    distrust: Arc<Mutex<Option<String>>>,
    /// How the link is slowed; read for every frame.
    shape: Option<Arc<Mutex<LinkShape>>>,
    /// Where it goes.
    pub address: String,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sender to {}", self.address)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sender {
    /// Opens a stream; must be called within a tokio runtime. Frames may be sent at once.
    ///
    /// # Errors
    /// When the address is no address.
    pub fn open(
        config: SenderConfig,
        peer: &str,
        events: Arc<dyn Events>,
    ) -> Result<Self, tonic::transport::Error> {
        // What is no address is said at once.
        endpoint(&config.address, config.security.as_ref())?;
        let (queue, waiting) = mpsc::channel(config.queue_frames.max(1));
        let is_lost = Arc::new(AtomicBool::new(false));
        let tallies = Arc::new(Tallies::default());
        let shape = config.shape.map(|shape| Arc::new(Mutex::new(shape)));
        let shaped = shape.clone().map(|shape| {
            let (door, frames) = crossbeam_channel::bounded(config.queue_frames.max(1));
            let (out, seed) = (queue.clone(), config.seed);
            std::thread::Builder::new()
                .name(format!("link to {peer}"))
                .spawn(move || delay(&frames, &out, &shape, seed))
                .expect("the system can start one more thread");
            door
        });
        let distrust = Arc::default();
        let stream = Stream {
            peer: peer.to_owned(),
            own_name: config.own_name,
            address: config.address.clone(),
            security: config.security,
            waiting: Arc::new(Mutex::new(waiting)),
            is_shaped: config.shape.is_some(),
            is_lost: Arc::clone(&is_lost),
            distrust: Arc::clone(&distrust),
            tallies: Arc::clone(&tallies),
            events,
            pause_max: config.pause_max,
        };
        let task = tokio::spawn(stream.run());
        let address = config.address;
        Ok(Self {
            queue,
            shaped,
            is_lost,
            tallies,
            task,
            distrust,
            shape,
            address,
        })
    }

    /// Hands a frame over, without waiting.
    ///
    /// # Errors
    /// [`SendError`] with the frame, when the queue is full or the peer is lost.
    pub fn send(&self, frame: Frame) -> Result<(), SendError> {
        if self.is_lost.load(Ordering::Relaxed) {
            return Err(SendError::Lost(Box::new(frame)));
        }
        let waiting = Waiting {
            frame,
            since: Instant::now(),
        };
        if let Some(door) = &self.shaped {
            return door.try_send(waiting).map_err(|error| match error {
                crossbeam_channel::TrySendError::Full(w) => SendError::Full(Box::new(w.frame)),
                crossbeam_channel::TrySendError::Disconnected(w) => {
                    SendError::Lost(Box::new(w.frame))
                }
            });
        }
        self.queue.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(waiting) => SendError::Full(Box::new(waiting.frame)),
            mpsc::error::TrySendError::Closed(waiting) => SendError::Lost(Box::new(waiting.frame)),
        })
    }

    /// How the link is slowed; `None` for the link as it is.
    #[must_use]
    pub fn shape(&self) -> Option<LinkShape> {
        self.shape.as_ref().map(|shape| *shape.lock())
    }

    /// Slows an emulated link otherwise, from the next frame on. Says whether it could: a link that is left as it
    /// is cannot become an emulated one, nor the other way round.
    pub fn reshape(&self, shape: Option<LinkShape>) -> bool {
        match (&self.shape, shape) {
            (Some(known), Some(shape)) => {
                *known.lock() = shape;
                true
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Whether the peer could not be reached when it was last tried.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Why the peer's certificate is not trusted, while that is so: the link comes up when somebody mends it, and
    /// not before. A peer that is merely away is trusted.
    #[must_use]
    pub fn distrust(&self) -> Option<String> {
        self.distrust.lock().clone()
    }

    /// What went over it.
    #[must_use]
    pub fn tallies(&self) -> &Tallies {
        &self.tallies
    }
}

/// A connection to a peer with the settings of the data plane.
///
/// # Errors
/// When the address is no address.
pub fn endpoint(
    address: &str,
    security: Option<&Security>,
) -> Result<Endpoint, tonic::transport::Error> {
    let scheme = if security.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(crate::HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(crate::HTTP2_CONNECTION_WINDOW_BYTES)
        .max_frame_size(crate::HTTP2_FRAME_BYTES);
    if let Some(security) = security {
        endpoint = endpoint.tls_config(security.client())?;
    }
    Ok(endpoint)
}

struct Stream {
    peer: String,
    own_name: String,
    address: String,
    security: Option<Security>,
    waiting: Arc<Mutex<mpsc::Receiver<Waiting>>>,
    is_shaped: bool,
    is_lost: Arc<AtomicBool>,
    distrust: Arc<Mutex<Option<String>>>,
    tallies: Arc<Tallies>,
    events: Arc<dyn Events>,
    pause_max: Duration,
}

impl Stream {
    async fn run(self) {
        let mut pause = Duration::from_millis(20);
        loop {
            match self.once().await {
                Ok(()) => pause = Duration::from_millis(20),
                Err(error) => {
                    tracing::debug!(peer = self.peer, error = %Chain(&*error), "stream broke");
                    self.judge(certificate_error(&*error).map(ToString::to_string));
                }
            }
            self.is_lost.store(true, Ordering::Relaxed);
            self.events.broke(&self.peer);
            self.hand_back();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.pause_max);
            self.tallies.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes whether certificates are why there is no stream. Said once, however often it is tried again.
    fn judge(&self, distrust: Option<String>) {
        let mut known = self.distrust.lock();
        if *known == distrust {
            return;
        }
        match &distrust {
            Some(why) => tracing::warn!(
                code = "SP409",
                node = self.own_name,
                peer = self.peer,
                address = self.address,
                why,
                "no link to a peer because of a certificate"
            ),
            None => tracing::info!(
                peer = self.peer,
                "certificates do not keep a link down any more"
            ),
        }
        *known = distrust;
    }

    /// Connects and sends until the stream ends.
    async fn once(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        // Made anew each time: certificates may be other ones by then.
        let endpoint = endpoint(&self.address, self.security.as_ref())?;
        let mut channel = endpoint.connect().await?;
        let body = Outgoing {
            waiting: Arc::clone(&self.waiting),
            pieces: Vec::new().into_iter(),
            is_shaped: self.is_shaped,
            tallies: Arc::clone(&self.tallies),
        };
        let mut request = Request::new(Body::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = "/splitplace.data.v1.DataPlane/Stream".parse()?;
        let headers = request.headers_mut();
        headers.insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
        headers.insert(PEER_HEADER, HeaderValue::from_str(&self.own_name)?);
        self.is_lost.store(false, Ordering::Relaxed);
        let response = channel.ready().await?.call(request).await?;
        self.judge(None);
        let mut body = response.into_body();
        let mut receipts = Receipts::default();
        while let Some(frame) = body.frame().await {
            let frame = frame?;
            if let Some(piece) = frame.data_ref() {
                let backlogs = receipts.push(piece)?;
                self.events.heard(&self.peer, &backlogs);
            }
            if let Some(status) = frame.trailers_ref().and_then(|map| map.get("grpc-status"))
                && status != "0"
            {
                return Err(format!("the peer closed the stream with status {status:?}").into());
            }
        }
        Ok(())
    }

    fn hand_back(&self) {
        let mut frames = Vec::new();
        {
            let mut waiting = self.waiting.lock();
            while let Ok(one) = waiting.try_recv() {
                frames.push(one.frame);
            }
        }
        if !frames.is_empty() {
            self.events.lost(&self.peer, frames);
        }
    }
}

/// What is wrong with the peer's certificate, if an error comes from that. What a peer has against the own one comes after
/// the handshake, as a stream that breaks.
fn certificate_error<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // What such an error wraps is no source of it.
        let inner = error.downcast_ref::<std::io::Error>();
        let inner = inner.and_then(std::io::Error::get_ref);
        let error: &(dyn std::error::Error + 'static) = match inner {
            Some(inner) => inner,
            None => error,
        };
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return matches!(found, rustls::Error::InvalidCertificate(_)).then_some(found);
        }
        cause = error.source();
    }
    None
}

/// An error with what caused it, on one line.
struct Chain<'a>(&'a (dyn std::error::Error + Send + Sync));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// The request's body: each frame's header, then its tensors' own memory.
struct Outgoing {
    waiting: Arc<Mutex<mpsc::Receiver<Waiting>>>,
    pieces: std::vec::IntoIter<Bytes>,
    is_shaped: bool,
    tallies: Arc<Tallies>,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, tonic::Status>>> {
        loop {
            if let Some(piece) = self.pieces.next() {
                return Poll::Ready(Some(Ok(http_body::Frame::data(piece))));
            }
            let next = self.waiting.lock().poll_recv(cx);
            let Some(mut waiting) = std::task::ready!(next) else {
                return Poll::Ready(None);
            };
            if !self.is_shaped {
                stamp(&mut waiting.frame, waiting.since.elapsed());
            }
            self.tallies.frames.fetch_add(1, Ordering::Relaxed);
            self.tallies
                .bytes
                .fetch_add(waiting.frame.payload_bytes() as u64, Ordering::Relaxed);
            match wire::encode(&waiting.frame) {
                Ok(pieces) => self.pieces = pieces.into_iter(),
                Err(error) => tracing::error!(code = "SP405", %error, "a frame cannot be sent"),
            }
        }
    }
}

/// Notes that a frame has waited, and when it leaves.
fn stamp(frame: &mut Frame, waited: Duration) {
    frame.deadline = frame.deadline.saturating_sub(waited);
    frame.expiry = frame.expiry.saturating_sub(waited);
    frame.sent_unix_us = unix_us();
    if let Some(last) = frame.trail.last_mut() {
        last.outbox_us += u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
    }
}

/// Microseconds since the Unix epoch.
#[must_use]
pub fn unix_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}

/// An emulated link: a thread of its own, because timers of the runtime are no finer than a
/// millisecond.
fn delay(
    frames: &crossbeam_channel::Receiver<Waiting>,
    out: &mpsc::Sender<Waiting>,
    shape: &Mutex<LinkShape>,
    seed: u64,
) {
    let origin = Instant::now();
    let now = || Timestamp::ZERO + origin.elapsed();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut shaper = Shaper::new(*shape.lock());
    let mut line: std::collections::VecDeque<(Timestamp, Waiting)> = Default::default();
    let bound = frames.capacity().unwrap_or(1);
    loop {
        while let Some((arrival, _)) = line.front()
            && *arrival <= now()
        {
            if let Some((_, waiting)) = line.pop_front()
                && out.blocking_send(waiting).is_err()
            {
                return;
            }
        }
        let next = line.front().map(|(arrival, _)| now().until(*arrival));
        let received = match next {
            Some(wait) if bound <= line.len() => {
                std::thread::sleep(wait);
                continue;
            }
            Some(wait) => match frames.recv_timeout(wait) {
                Ok(waiting) => waiting,
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => continue,
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return,
            },
            None => match frames.recv() {
                Ok(waiting) => waiting,
                Err(_) => return,
            },
        };
        let mut waiting = received;
        let entered = now();
        let deviate: f64 = StandardNormal.sample(&mut rng);
        shaper.reshape(*shape.lock());
        let (start, arrival) = shaper.schedule(entered, waiting.frame.payload_bytes(), deviate);
        stamp(&mut waiting.frame, waiting.since.elapsed());
        // It leaves when the link is free: the wait before that is the sender's, not the link's.
        let held = entered.until(start);
        waiting.frame.sent_unix_us += i64::try_from(held.as_micros()).unwrap_or(0);
        if let Some(last) = waiting.frame.trail.last_mut() {
            last.outbox_us += u64::try_from(held.as_micros()).unwrap_or(0);
        }
        let way = entered.until(arrival);
        waiting.frame.deadline = waiting.frame.deadline.saturating_sub(way);
        waiting.frame.expiry = waiting.frame.expiry.saturating_sub(way);
        line.push_back((arrival, waiting));
    }
}
