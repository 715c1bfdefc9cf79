//! The gRPC service behind the sessions: one task for each.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use splitplace_fleet::{Node, NodeId, NodeState};
use splitplace_link::sender::unix_us;
use splitplace_plan::FragmentId;
use splitplace_proto::control::{
    Beat, CenterMessage, FetchChunk, FetchRequest, FragmentStatus, Hello, Piece, PieceList,
    PiecesRequest, Refusal, Welcome, WorkerMessage, center_message, control_server::Control,
    worker_message,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Handle, Loading, OUTBOX, Refused, SessionEvent, Sessions};

/// Longest text that a worker may tell.
const TEXT_BYTES: usize = 256;
/// Most labels of a node.
const LABELS: usize = 64;
/// Most probes that are told at once.
const PROBES: usize = 1024;
/// Most entries of a report.
const REPORT_ENTRIES: usize = 4096;
/// Time for a worker to say who it is.
const GREETING: Duration = Duration::from_secs(5);

/// Serves `splitplace.control.v1.Control`.
#[derive(Debug)]
pub struct Server {
    sessions: Sessions,
}

impl Server {
    pub(super) const fn new(sessions: Sessions) -> Self {
        Self { sessions }
    }
}

type Outbox = mpsc::Sender<Result<CenterMessage, Status>>;

#[tonic::async_trait]
impl Control for Server {
    type SessionStream = ReceiverStream<Result<CenterMessage, Status>>;
    type FetchStream = ReceiverStream<Result<FetchChunk, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        tokio::spawn(session(self.sessions.clone(), request.into_inner(), outbox));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn fetch(
        &self,
        request: Request<FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let inner = &self.sessions.inner;
        let request = request.into_inner();
        let whole = self.fragment(&request.id)?;
        let mut parts = Vec::new();
        if request.pieces.is_empty() {
            parts.push(whole);
        } else {
            let pieces = splitplace_onnx::pieces(&whole);
            if pieces.len() < request.pieces.len() {
                return Err(Status::invalid_argument(format!(
                    "the fragment has {} pieces",
                    pieces.len()
                )));
            }
            for number in request.pieces {
                let piece = pieces.get(number as usize);
                let piece = piece.ok_or_else(|| {
                    Status::invalid_argument(format!("the fragment has no piece {number}"))
                })?;
                parts.push(whole.slice(piece.clone()));
            }
        }
        let size: usize = parts.iter().map(Bytes::len).sum();
        inner.fetched.fetch_add(size as u64, Ordering::Relaxed);
        let (chunks, stream) = mpsc::channel(4);
        let size = inner.config.fetch_chunk_bytes.max(1);
        tokio::spawn(async move {
            for mut rest in parts {
                while !rest.is_empty() {
                    let data = rest.split_to(size.min(rest.len()));
                    if chunks.send(Ok(FetchChunk { data })).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn pieces(&self, request: Request<PiecesRequest>) -> Result<Response<PieceList>, Status> {
        let whole = self.fragment(&request.into_inner().id)?;
        let list = move || {
            let pieces = splitplace_onnx::pieces(&whole).into_iter();
            let pieces = pieces.map(|piece| Piece {
                hash: Sha256::digest(&whole[piece.clone()]).to_vec().into(),
                size_bytes: piece.len() as u64,
            });
            PieceList {
                pieces: pieces.collect(),
            }
        };
        // Hashing a large fragment takes a while.
        let list = tokio::task::spawn_blocking(list).await;
        list.map(Response::new)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl Server {
    fn fragment(&self, id: &[u8]) -> Result<Bytes, Status> {
        let id = FragmentId::from_slice(id)
            .ok_or_else(|| Status::invalid_argument("a fragment is named by 32 bytes"))?;
        self.sessions.inner.fragments.bytes(id).ok_or_else(|| {
            Status::not_found(format!(
                "fragment {} is not part of any plan that is in force or being prepared",
                id.hex()
            ))
        })
    }
}

/// One session from greeting to end.
async fn session(sessions: Sessions, mut inbox: Streaming<WorkerMessage>, outbox: Outbox) {
    let hello = match tokio::time::timeout(GREETING, inbox.message()).await {
        Ok(Ok(Some(WorkerMessage {
            kind: Some(worker_message::Kind::Hello(hello)),
        }))) => hello,
        Ok(Ok(_)) => return refuse(&outbox, "a session begins with hello").await,
        Ok(Err(_)) => return,
        Err(_) => return refuse(&outbox, "no hello came").await,
    };
    let (node, number) = match register(&sessions, &hello, &outbox) {
        Ok(registered) => registered,
        Err(reason) => return refuse(&outbox, &reason).await,
    };
    let config = &sessions.inner.config;
    let welcome = Welcome {
        beat_interval_ms: millis(config.beat),
        silence_limit_ms: millis(config.silence),
        center_data_address: config.center_address.clone(),
        report_interval_ms: millis(config.report),
    };
    let welcome = center_message::Kind::Welcome(welcome);
    let joined = SessionEvent::Joined {
        session: number,
        address: hello.data_address.clone(),
        memory_source: hello.memory_source.clone(),
        speed_share: hello.speed_share,
        node: node.clone(),
    };
    let events = &sessions.inner.events;
    let mut why = "its session was replaced".to_owned();
    if outbox.send(Ok(message(welcome))).await.is_ok() && events.send(joined).await.is_ok() {
        why = talk(&sessions, &node.id, number, &mut inbox, &outbox).await;
    }
    {
        let mut nodes = sessions.inner.nodes.lock();
        if nodes
            .get(&node.id)
            .is_some_and(|handle| handle.number == number)
        {
            nodes.remove(&node.id);
        }
    }
    let _ = events
        .send(SessionEvent::Left {
            session: number,
            node: node.id,
            why,
        })
        .await;
}

async fn refuse(outbox: &Outbox, reason: &str) {
    let refusal = Refusal {
        reason: reason.to_owned(),
    };
    let _ = outbox
        .send(Ok(message(center_message::Kind::Refusal(refusal))))
        .await;
}

/// Checks a greeting and enters the session.
fn register(sessions: &Sessions, hello: &Hello, outbox: &Outbox) -> Result<(Node, u64), String> {
    let inner = &sessions.inner;
    let name = hello.node.as_str();
    let is_name = !name.is_empty()
        && name.len() <= 63
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !is_name {
        return Err(format!(
            "\"{name}\" is no node name: letters, digits, '.', '_' and '-', at most 63"
        ));
    }
    let texts = [&hello.data_address, &hello.version, &hello.memory_source];
    let long = |text: &String| TEXT_BYTES < text.len();
    if texts.into_iter().any(long)
        || LABELS < hello.labels.len()
        || hello
            .labels
            .iter()
            .any(|(key, value)| long(key) || long(value))
    {
        return Err("its hello is too long".into());
    }
    if !(hello.macs_per_second.is_finite() && 0.0 < hello.macs_per_second) {
        return Err("it did not measure its speed".into());
    }
    let node = Node {
        id: NodeId::new(name),
        state: NodeState::Alive,
        cores: hello.cores.max(1),
        macs_per_second: hello.macs_per_second,
        memory_bytes: hello.memory_bytes,
        labels: hello.labels.clone().into_iter().collect(),
        emulated: hello.emulated,
    };
    let number = {
        let mut next = inner.next.lock();
        *next += 1;
        *next
    };
    let mut nodes = inner.nodes.lock();
    if let Some(known) = nodes.get(&node.id) {
        let silent = known.heard.elapsed();
        if silent < inner.config.silence && !known.outbox.is_closed() {
            return Err(format!(
                "a node named {name} is connected from {} and was heard {silent:?} ago; give this \
                 one another name, or wait until that one is gone",
                known.address
            ));
        }
    } else if inner.config.max_nodes <= nodes.len() {
        return Err(format!(
            "{} nodes are connected, which is the limit",
            nodes.len()
        ));
    }
    let handle = Handle {
        number,
        outbox: outbox.clone(),
        address: hello.data_address.clone(),
        heard: tokio::time::Instant::now(),
        offset: super::ClockOffset::default(),
        assignments: Default::default(),
        profiles: Default::default(),
    };
    nodes.insert(node.id.clone(), handle);
    Ok((node, number))
}

/// Beats and listens until the session ends; returns why it did.
async fn talk(
    sessions: &Sessions,
    node: &NodeId,
    number: u64,
    inbox: &mut Streaming<WorkerMessage>,
    outbox: &Outbox,
) -> String {
    let config = &sessions.inner.config;
    let mut beats = tokio::time::interval(config.beat);
    let mut echo: Option<(i64, i64)> = None;
    let mut heard = tokio::time::Instant::now();
    loop {
        tokio::select! {
            biased;
            received = inbox.message() => {
                let kind = match received {
                    Ok(Some(WorkerMessage { kind: Some(kind) })) => kind,
                    Ok(Some(_)) => continue,
                    Ok(None) => return "it closed its session".into(),
                    Err(status) => return format!("its session broke: {}", status.message()),
                };
                heard = tokio::time::Instant::now();
                if let worker_message::Kind::Beat(beat) = &kind {
                    echo = Some((beat.sent_unix_us, unix_us()));
                }
                if let Err(why) = take(sessions, node, number, heard, kind).await {
                    return why;
                }
            }
            _ = beats.tick() => {
                if config.silence < heard.elapsed() {
                    return format!("nothing was heard of it for {:?}", config.silence);
                }
                let is_current = sessions
                    .inner
                    .nodes
                    .lock()
                    .get(node)
                    .is_some_and(|handle| handle.number == number);
                if !is_current {
                    return "it read its messages too slowly, or was replaced".into();
                }
                let (echo_sent_unix_us, echo_received_unix_us) = echo.unwrap_or_default();
                let beat =
                    Beat { sent_unix_us: unix_us(), echo_sent_unix_us, echo_received_unix_us };
                if outbox.try_send(Ok(message(center_message::Kind::Beat(beat)))).is_err() {
                    return "it does not read its messages".into();
                }
            }
        }
    }
}

/// Takes in one message.
async fn take(
    sessions: &Sessions,
    node: &NodeId,
    number: u64,
    now: tokio::time::Instant,
    kind: worker_message::Kind,
) -> Result<(), String> {
    let event = {
        let mut nodes = sessions.inner.nodes.lock();
        let Some(handle) = nodes.get_mut(node).filter(|handle| handle.number == number) else {
            return Err("its session was replaced".into());
        };
        handle.heard = now;
        match kind {
            worker_message::Kind::Hello(_) => return Err("it said hello twice".into()),
            worker_message::Kind::Beat(beat) => {
                handle.offset.observe(
                    beat.echo_sent_unix_us,
                    beat.echo_received_unix_us,
                    beat.sent_unix_us,
                    unix_us(),
                );
                return Ok(());
            }
            worker_message::Kind::Assignment(status) => {
                if let Some(waiter) = handle.assignments.remove(&status.generation) {
                    // Whoever asked may have given up.
                    let _ = waiter.send(outcome(status.refusal, status.fragments));
                }
                return Ok(());
            }
            worker_message::Kind::Profile(result) => {
                if let Some(waiter) = handle.profiles.remove(&result.id) {
                    let _ = waiter.send(outcome(result.refusal, result.fragments));
                }
                return Ok(());
            }
            worker_message::Kind::Report(report) => {
                let lists = [
                    report.fragments.len(),
                    report.links.len(),
                    report.stations.len(),
                ];
                if lists.iter().any(|&len| REPORT_ENTRIES < len) {
                    return Err("its report is too long".into());
                }
                SessionEvent::Reported {
                    node: node.clone(),
                    report,
                }
            }
            worker_message::Kind::Probed(probed) => {
                if PROBES < probed.seen.len() {
                    return Err("it tells of too many probes".into());
                }
                SessionEvent::Probed {
                    node: node.clone(),
                    seen: probed.seen,
                }
            }
            worker_message::Kind::Leaving(leaving) => {
                let why = leaving.reason.chars().take(TEXT_BYTES).collect();
                SessionEvent::Leaving {
                    node: node.clone(),
                    why,
                }
            }
        }
    };
    sessions
        .inner
        .events
        .send(event)
        .await
        .map_err(|_| "the centre is gone".to_owned())
}

fn outcome(refusal: String, fragments: Vec<FragmentStatus>) -> Loading {
    if refusal.is_empty() {
        Ok(fragments)
    } else {
        Err(Refused {
            reason: refusal,
            measured: fragments,
        })
    }
}

const fn message(kind: center_message::Kind) -> CenterMessage {
    CenterMessage { kind: Some(kind) }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
