//! A worker under a centre whose plans come to nothing: what they left does not take the room of later ones.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use prometheus_client::registry::Registry;
use sha2::{Digest as _, Sha256};
use splitplace_onnx::{Limits, Model, cut_layers, import};
use splitplace_proto::control::{
    Assignment, AssignmentStatus, Beat, CenterMessage, FetchChunk, FetchRequest, FragmentSpec,
    HopSpec, Peer, Piece, PieceList, PiecesRequest, ProfilePoint, Report, RouteSpec, Welcome,
    WorkerMessage, center_message,
    control_server::{Control, ControlServer},
    worker_message,
};
use splitplace_worker::{Config, Metrics};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming};

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A centre that says what the test wants said.
struct Center {
    files: BTreeMap<Vec<u8>, Bytes>,
    /// Bytes of them that went to the worker.
    sent: Arc<AtomicUsize>,
    /// One session: what goes to the worker, and what comes from it.
    session: parking_lot::Mutex<Option<Session>>,
}

type Session = (
    mpsc::Receiver<Result<CenterMessage, Status>>,
    mpsc::Sender<WorkerMessage>,
);

#[tonic::async_trait]
impl Control for Center {
    type SessionStream = Messages<CenterMessage>;
    type FetchStream = Messages<FetchChunk>;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let one = self.session.lock().take();
        let (said, heard) = one.ok_or_else(|| Status::unavailable("one session is enough"))?;
        let mut inbox = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(message)) = inbox.next().await {
                if heard.send(message).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }

    async fn fetch(
        &self,
        request: Request<FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let request = request.into_inner();
        let file = self.files.get(&request.id[..]);
        let file = file.ok_or_else(|| Status::not_found("no such"))?;
        let pieces = splitplace_onnx::pieces(file);
        let wanted = request
            .pieces
            .iter()
            .map(|&number| pieces[number as usize].clone());
        let data = if request.pieces.is_empty() {
            file.clone()
        } else {
            wanted.flat_map(|piece| file[piece].to_vec()).collect()
        };
        self.sent.fetch_add(data.len(), Ordering::Relaxed);
        let chunk = FetchChunk { data };
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(chunk)))))
    }

    async fn pieces(&self, request: Request<PiecesRequest>) -> Result<Response<PieceList>, Status> {
        let file = self.files.get(&request.into_inner().id[..]);
        let file = file.ok_or_else(|| Status::not_found("no such"))?;
        let pieces = splitplace_onnx::pieces(file)
            .into_iter()
            .map(|piece| Piece {
                hash: Sha256::digest(&file[piece.clone()]).to_vec().into(),
                size_bytes: piece.len() as u64,
            });
        Ok(Response::new(PieceList {
            pieces: pieces.collect(),
        }))
    }
}

/// A worker with so much memory, and the centre's end of its session.
struct Fleet {
    say: mpsc::Sender<Result<CenterMessage, Status>>,
    heard: mpsc::Receiver<WorkerMessage>,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<tokio::task::JoinHandle<()>>,
    specs: Vec<FragmentSpec>,
    sent: Arc<AtomicUsize>,
}

/// Samples in a call, threads, and runs.
fn settings(points: &[ProfilePoint]) -> Vec<(u32, u32, u64)> {
    let runs = |point: &ProfilePoint| point.service.map_or(0, |service| service.count);
    let settings = points.iter().map(|p| (p.batch, p.threads, runs(p)));
    settings.collect()
}

/// Whole networks stand for fragments: each is another content.
fn files() -> Vec<Bytes> {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../models/packages/fashion-mnist/"
    );
    let names = ["student", "semantic-plain-2-0", "semantic-plain-2-1"];
    let read = |name: &str| {
        std::fs::read(format!("{folder}{name}.onnx"))
            .unwrap()
            .into()
    };
    names.into_iter().map(read).collect()
}

/// The first segments of a network, to several ends.
fn cuts(shares: &[f64]) -> Vec<Bytes> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages/fashion-mnist/base.onnx");
    let limits = Limits::default();
    let from = import(Model::open(&path, &limits).unwrap(), &limits).unwrap();
    let chain = from.graph.chain();
    let cut = |share: &f64| {
        let end = (chain.len() as f64 * share) as usize;
        let layers = chain.layers(0..end).collect();
        cut_layers(&from, &layers, 0, 2).unwrap().onnx
    };
    shares.iter().map(cut).collect()
}

impl Fleet {
    async fn start(memory_bytes: u64) -> Self {
        Self::with(files(), memory_bytes, None).await
    }

    async fn with(files: Vec<Bytes>, memory_bytes: u64, cache: Option<PathBuf>) -> Self {
        let specs = files.iter().map(|file| FragmentSpec {
            id: Sha256::digest(file).to_vec().into(),
            label: "whole".into(),
            size_bytes: file.len() as u64,
            queue_limit: 4,
            threads: 1,
        });
        let specs: Vec<FragmentSpec> = specs.collect();
        let (say, said) = mpsc::channel(64);
        let (tell, heard) = mpsc::channel(1024);
        let sent = Arc::new(AtomicUsize::new(0));
        let center = Center {
            sent: Arc::clone(&sent),
            files: specs.iter().map(|s| s.id.to_vec()).zip(files).collect(),
            session: parking_lot::Mutex::new(Some((said, tell))),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tonic::transport::Server::builder()
            .add_service(ControlServer::new(center))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        let config = Config {
            node: "attic".into(),
            orchestrator: address.clone(),
            memory_bytes,
            cores: 2,
            warm_runs: 1,
            cache,
            ..Config::default()
        };
        let frames = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let metrics = Metrics::register(&mut Registry::default());
        let ended = tokio::spawn(async move {
            let ended = splitplace_worker::run(config, frames, &metrics, async {
                let _ = stopped.await;
            });
            ended.await.unwrap();
        });
        let welcome = Welcome {
            beat_interval_ms: 20,
            silence_limit_ms: 60_000,
            center_data_address: address,
            report_interval_ms: 20,
        };
        let fleet = Self {
            say,
            heard,
            stop: Some(stop),
            ended: Some(ended),
            specs,
            sent,
        };
        fleet.say(center_message::Kind::Welcome(welcome)).await;
        fleet.say(center_message::Kind::Beat(Beat::default())).await;
        fleet
    }

    async fn say(&self, kind: center_message::Kind) {
        let message = CenterMessage { kind: Some(kind) };
        self.say.send(Ok(message)).await.unwrap();
    }

    async fn hear<T>(&mut self, mut wanted: impl FnMut(worker_message::Kind) -> Option<T>) -> T {
        let hear = async {
            loop {
                let message = self.heard.recv().await.unwrap();
                if let Some(found) = message.kind.and_then(&mut wanted) {
                    return found;
                }
            }
        };
        let limit = Duration::from_secs(120);
        tokio::time::timeout(limit, hear).await.unwrap()
    }

    /// Assigns one fragment under a generation; says how the worker took it.
    async fn assign(
        &mut self,
        generation: u64,
        fragment: usize,
        in_force: u64,
    ) -> AssignmentStatus {
        let spec = self.specs[fragment].clone();
        let route = RouteSpec {
            route: 0,
            hops: vec![HopSpec {
                node: "attic".into(),
                fragment: spec.id.clone(),
                ..HopSpec::default()
            }],
        };
        let assignment = Assignment {
            generation,
            fragments: vec![spec],
            routes: vec![route],
            peers: vec![Peer::default()],
            in_force,
        };
        self.say(center_message::Kind::Assignment(assignment)).await;
        let status = |kind| match kind {
            worker_message::Kind::Assignment(status) => Some(status),
            _ => None,
        };
        self.hear(status).await
    }

    /// The next report that was made after everything said so far.
    async fn report(&mut self) -> Report {
        let report = |kind| match kind {
            worker_message::Kind::Report(report) => Some(report),
            _ => None,
        };
        // One may have been on its way.
        self.hear(report).await;
        self.hear(report).await
    }

    /// Asks the worker to stop, and waits until it has.
    async fn leave(mut self) {
        let _ = self.stop.take().unwrap().send(());
        let ended = self.ended.take().unwrap();
        drop(self);
        ended.await.unwrap();
    }

    async fn holds(&mut self) -> Vec<usize> {
        let report = self.report().await;
        let held: Vec<_> = report.fragments.iter().map(|f| f.id.clone()).collect();
        let numbers = 0..self.specs.len();
        numbers
            .filter(|&number| held.contains(&self.specs[number].id))
            .collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_came_to_nothing_leaves_room_for_the_next() {
    // What each takes, on a node with room for all.
    let mut roomy = Fleet::start(1 << 30).await;
    let mut bytes = Vec::new();
    for fragment in 0..3 {
        let status = roomy.assign(fragment as u64 + 1, fragment, 0).await;
        assert_eq!(status.refusal, "");
        bytes.push(status.fragments[0].memory_bytes);
    }
    // Nothing was in force: each assignment let go of those before.
    assert_eq!(roomy.holds().await, [2]);
    drop(roomy);

    // Room for the one in force and one more, not for all three.
    let memory = bytes[0] + bytes[1].max(bytes[2]) + bytes[1].min(bytes[2]) / 2;
    let mut full = Fleet::start(memory).await;
    let status = full.assign(1, 0, 0).await;
    assert_eq!(status.refusal, "");
    // Taken here, and refused by some other node: it never comes into force.
    let status = full.assign(2, 1, 1).await;
    assert_eq!(status.refusal, "");
    assert_eq!(full.holds().await, [0, 1]);
    // The next plan finds room, and what is in force is still served.
    let status = full.assign(3, 2, 1).await;
    assert_eq!(status.refusal, "", "the room is still taken");
    assert_eq!(full.holds().await, [0, 2]);
    // Had the second come into force, there would be none: the arithmetic is told.
    let status = full.assign(4, 1, 3).await;
    assert!(status.refusal.contains("needs"), "{}", status.refusal);
    assert_eq!(full.holds().await, [0, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_force_or_still_drains_is_kept() {
    let mut fleet = Fleet::start(1 << 30).await;
    for (generation, fragment, in_force) in [(1, 0, 0), (2, 1, 1), (3, 2, 2)] {
        let status = fleet.assign(generation, fragment, in_force).await;
        assert_eq!(status.refusal, "");
    }
    assert_eq!(fleet.holds().await, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_a_node_has_are_not_sent_again() {
    let files = cuts(&[0.5, 0.75, 0.5]);
    let sizes: Vec<usize> = files.iter().map(Bytes::len).collect();
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::with(files.clone(), 1 << 30, Some(folder.path().to_owned())).await;
    let mut before = 0;
    let mut sent = Vec::new();
    for (generation, fragment) in [(1, 0), (2, 1), (3, 2)] {
        let status = fleet.assign(generation, fragment, generation - 1).await;
        assert_eq!(status.refusal, "");
        let now = fleet.sent.load(Ordering::Relaxed);
        sent.push(now - before);
        before = now;
    }
    assert_eq!(sent[0], sizes[0]);
    // What is beyond the first cut, and headers; then nothing, for it is all there.
    let beyond = sizes[1] - sizes[0];
    assert!(
        (beyond..beyond + sizes[0] / 20).contains(&sent[1]),
        "{sent:?} of {sizes:?}"
    );
    assert_eq!(sent[2], 0);
    // Without a cache everything is sent.
    let mut bare = Fleet::with(files, 1 << 30, None).await;
    for (generation, fragment) in [(1, 0), (2, 1)] {
        let status = bare.assign(generation, fragment, generation - 1).await;
        assert_eq!(status.refusal, "");
    }
    assert_eq!(bare.sent.load(Ordering::Relaxed), sizes[0] + sizes[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_measured_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Some(folder.path().to_owned());
    let mut first = Fleet::with(files(), 1 << 30, cache.clone()).await;
    let status = first.assign(1, 0, 0).await;
    assert_eq!(settings(&status.fragments[0].profile), [(1, 1, 1)]);
    let (peak, memory) = (
        status.fragments[0].peak_bytes,
        status.fragments[0].memory_bytes,
    );
    assert!(0 < peak && peak < memory, "{peak} of {memory}");
    // Nobody needs the node, so it finds out what more samples and threads do: told once, by whichever report comes next.
    let mut heard = Vec::new();
    let more = |kind| match kind {
        worker_message::Kind::Report(report) => {
            heard.extend(report.fragments.iter().flat_map(|f| settings(&f.profile)));
            let has = |is: fn(&(u32, u32, u64)) -> bool| heard.iter().any(is);
            (has(|more| more.0 > 1) && has(|more| more.1 > 1)).then(|| heard.clone())
        }
        _ => None,
    };
    let told = first.hear(more).await;
    first.leave().await;

    let mut second = Fleet::with(files(), 1 << 30, cache.clone()).await;
    let status = second.assign(1, 0, 0).await;
    // All of it is there, and the run at load came on top.
    let known = settings(&status.fragments[0].profile);
    assert!(known.contains(&(1, 1, 2)), "{known:?}");
    for (batch, threads, runs) in told {
        let is_there = |k: &(u32, u32, u64)| (k.0, k.1) == (batch, threads) && runs <= k.2;
        assert!(known.iter().any(is_there), "{known:?}");
    }
    let points = &status.fragments[0].profile;
    assert!(points.iter().all(|p| p.p95_seconds > 0.0), "{points:?}");
    let memory = status.fragments[0].memory_bytes;
    second.leave().await;

    // What it takes is known, so where that is too much it is not even loaded: no run comes on top.
    let mut small = Fleet::with(files(), memory - 1, cache).await;
    let status = small.assign(1, 0, 0).await;
    assert!(status.refusal.contains("needs"), "{}", status.refusal);
    let told = &status.fragments[0];
    assert_eq!((told.memory_bytes, told.service.as_ref()), (memory, None));
    assert!(0 < told.peak_bytes && told.peak_bytes < memory, "{told:?}");
    let known = settings(&told.profile);
    assert!(known.contains(&(1, 1, 2)), "{known:?}");
}
