//! Both ends over real sockets, and against stock gRPC code.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use splitplace_link::{
    Backlog, Events, Files, Frame, LinkShape, Receiver, Secured, Security, SendError, Sender,
    SenderConfig, Sink, Tensor, WireLimits,
};
use splitplace_proto::data::{self, DType, data_plane_client::DataPlaneClient};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{StreamExt as _, wrappers::TcpListenerStream};

struct Into(mpsc::UnboundedSender<(String, Frame)>);

impl Sink for Into {
    fn frame(&self, peer: &str, frame: Frame) {
        let _ = self.0.send((peer.to_owned(), frame));
    }
}

struct Lost(mpsc::UnboundedSender<(String, Vec<Frame>)>);

impl Events for Lost {
    fn lost(&self, peer: &str, frames: Vec<Frame>) {
        let _ = self.0.send((peer.to_owned(), frames));
    }
}

type Frames = mpsc::UnboundedReceiver<(String, Frame)>;

async fn serve(limits: WireLimits) -> (SocketAddr, Frames, tokio::task::JoinHandle<()>) {
    let (tx, rx) = mpsc::unbounded_channel();
    let (address, server) = mount(Receiver::new(Arc::new(Into(tx)), limits)).await;
    (address, rx, server)
}

async fn mount<S: Sink>(receiver: Receiver<S>) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        tonic::transport::Server::builder()
            .max_frame_size(splitplace_link::HTTP2_FRAME_BYTES)
            .initial_stream_window_size(splitplace_link::HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(splitplace_link::HTTP2_CONNECTION_WINDOW_BYTES)
            .add_service(receiver)
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    (address, server)
}

fn config(address: SocketAddr) -> SenderConfig {
    SenderConfig {
        own_name: "alpha".into(),
        address: address.to_string(),
        security: None,
        queue_frames: 64,
        shape: None,
        seed: 1,
        pause_max: Duration::from_millis(100),
    }
}

fn open(config: SenderConfig) -> (Sender, mpsc::UnboundedReceiver<(String, Vec<Frame>)>) {
    let (tx, rx) = mpsc::unbounded_channel();
    (
        Sender::open(config, "beta", Arc::new(Lost(tx))).unwrap(),
        rx,
    )
}

async fn stock(address: SocketAddr) -> DataPlaneClient<tonic::transport::Channel> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    DataPlaneClient::new(endpoint.connect().await.unwrap())
}

fn frame(request: u64, size: usize) -> Frame {
    let bytes: Bytes = (0..size).map(|k| k as u8).collect::<Vec<_>>().into();
    let shape = vec![1, i64::try_from(size).unwrap()];
    let tensor = Tensor {
        name: "x".into(),
        dtype: DType::Uint8,
        shape,
        codec: splitplace_codec::Codec::RAW,
        chunks: vec![bytes],
    };
    Frame {
        request,
        tensors: vec![tensor],
        ..Frame::default()
    }
}

/// An authority in a folder, and what it signs there for one name.
fn signed(folder: &Path, authority: &str, name: &str) -> Security {
    let issuer = folder.join(authority);
    let path = |file: String| folder.join(file);
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // One authority for all that it signs.
    let key = match fs::read_to_string(&issuer) {
        Ok(pem) => KeyPair::from_pem(&pem).unwrap(),
        Err(_) => KeyPair::generate().unwrap(),
    };
    fs::write(&issuer, key.serialize_pem()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, authority);
    let files = Files {
        ca: path(format!("{authority}.crt")),
        cert: path(format!("{authority} {name}.crt")),
        key: path(format!("{authority} {name}.key")),
    };
    fs::write(&files.ca, params.self_signed(&key).unwrap().pem()).unwrap();
    let (issuer, own) = (Issuer::new(params, key), KeyPair::generate().unwrap());
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let cert = params.signed_by(&own, &issuer).unwrap();
    fs::write(&files.cert, cert.pem()).unwrap();
    fs::write(&files.key, own.serialize_pem()).unwrap();
    Security::open(files).unwrap()
}

/// Opens a stream with one certificate to a peer with another; sends until it is clear how it ends.
async fn meet(own: Security, peer: Security) -> Option<String> {
    let (tx, mut frames) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let receiver = Receiver::new(Arc::new(Into(tx)), WireLimits::default());
    let router = tonic::transport::Server::builder().add_service(receiver);
    let secured = Secured::new(listener, move || peer.server());
    let _server = tokio::spawn(router.serve_with_incoming(secured));
    let config = SenderConfig {
        address: format!("localhost:{}", address.port()),
        security: Some(own),
        ..config(address)
    };
    let (sender, _lost) = open(config);
    loop {
        // Handed back while there is no stream.
        let _ = sender.send(frame(1, 1));
        if let Some(why) = sender.distrust() {
            assert!(matches!(sender.send(frame(2, 1)), Err(SendError::Lost(_))));
            return Some(why);
        }
        if frames.try_recv().is_ok() {
            return sender.distrust();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn certificates_that_keep_a_link_down_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let made = |authority, name| signed(folder.path(), authority, name);
    assert_eq!(
        meet(made("ours", "localhost"), made("ours", "localhost")).await,
        None
    );
    let why = meet(made("ours", "localhost"), made("theirs", "localhost"))
        .await
        .unwrap();
    assert!(why.contains("UnknownIssuer"), "{why}");
    let why = meet(made("ours", "localhost"), made("ours", "elsewhere"))
        .await
        .unwrap();
    assert!(why.contains("not valid for name"), "{why}");
}

#[tokio::test]
async fn a_peer_that_is_merely_away_is_not_distrusted() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let own = signed(folder.path(), "ours", "localhost");
    let (sender, mut lost) = open(SenderConfig {
        security: Some(own),
        ..config(address)
    });
    sender.send(frame(1, 1)).unwrap();
    assert_eq!(lost.recv().await.unwrap().1.len(), 1);
    assert!(sender.is_lost());
    assert_eq!(sender.distrust(), None);
}

#[tokio::test]
async fn frames_of_any_size_arrive_in_order() {
    let (address, mut frames, _server) = serve(WireLimits::default()).await;
    let (sender, _lost) = open(config(address));
    for (request, size) in [(0, 0), (1, 10), (2, 5_000_000), (3, 8192), (4, 1_000_000)] {
        sender.send(frame(request, size)).unwrap();
    }
    for (request, size) in [(0, 0), (1, 10), (2, 5_000_000), (3, 8192), (4, 1_000_000)] {
        let (peer, found) = frames.recv().await.unwrap();
        assert_eq!((peer.as_str(), found.request), ("alpha", request));
        assert_eq!(
            found.tensors[0].contiguous(),
            frame(request, size).tensors[0].chunks[0]
        );
        assert!(found.sent_unix_us > 0);
    }
}

#[tokio::test]
async fn a_stock_client_is_understood() {
    let (address, mut frames, _server) = serve(WireLimits::default()).await;
    let mut client = stock(address).await;
    let stock = data::Frame {
        request: 9,
        tensors: vec![data::TensorHeader {
            name: "x".into(),
            dtype: DType::Fp32.into(),
            shape: vec![2],
            codec: 0,
            bytes: 8,
        }],
        payload: Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8]),
        ..data::Frame::default()
    };
    let sent = tokio_stream::iter([stock.clone(), stock]);
    let answers = client.stream(sent).await.unwrap().into_inner();
    assert_eq!(answers.collect::<Vec<_>>().await.len(), 0);
    for _ in 0..2 {
        let (_, found) = frames.recv().await.unwrap();
        assert_eq!(
            found.tensors[0].contiguous(),
            Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8])
        );
    }
}

/// Tells whoever sends what it is given.
struct Telling(tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<Backlog>>>);

impl Sink for Telling {
    fn frame(&self, _: &str, _: Frame) {}

    async fn news(&self, _: &str) -> Vec<Backlog> {
        match self.0.lock().await.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }
}

struct Hearing(mpsc::UnboundedSender<Option<Vec<Backlog>>>);

impl Events for Hearing {
    fn lost(&self, _: &str, _: Vec<Frame>) {}

    fn heard(&self, _: &str, backlogs: &[Backlog]) {
        let _ = self.0.send(Some(backlogs.to_vec()));
    }

    fn broke(&self, _: &str) {
        let _ = self.0.send(None);
    }
}

#[tokio::test]
async fn the_receiver_tells_its_backlog_until_the_stream_breaks() {
    let (news, telling) = mpsc::unbounded_channel();
    let limits = WireLimits {
        frame_bytes: 1_000,
        ..WireLimits::default()
    };
    let telling = Receiver::new(Arc::new(Telling(telling.into())), limits);
    let (address, _server) = mount(telling).await;
    let (tx, mut heard) = mpsc::unbounded_channel();
    let sender = Sender::open(config(address), "beta", Arc::new(Hearing(tx))).unwrap();
    for present in [3, 0, 7] {
        let backlog = Backlog {
            generation: 5,
            route: 2,
            present,
        };
        news.send(vec![backlog]).unwrap();
        assert_eq!(heard.recv().await.unwrap(), Some(vec![backlog]));
        // Frames go the other way all the while.
        sender.send(frame(u64::from(present), 100)).unwrap();
    }
    // Too large a frame: the receiver closes the stream.
    sender.send(frame(8, 5_000)).unwrap();
    assert_eq!(heard.recv().await.unwrap(), None);
}

#[tokio::test]
async fn a_stock_client_reads_receipts() {
    let (news, telling) = mpsc::unbounded_channel();
    let telling = Receiver::new(Arc::new(Telling(telling.into())), WireLimits::default());
    let (address, _server) = mount(telling).await;
    let mut client = stock(address).await;
    let (_frames, open) = mpsc::unbounded_channel::<data::Frame>();
    let open = tokio_stream::wrappers::UnboundedReceiverStream::new(open);
    let mut answers = client.stream(open).await.unwrap().into_inner();
    let backlog = Backlog {
        generation: 1,
        route: 9,
        present: 4,
    };
    news.send(vec![backlog]).unwrap();
    let receipt = answers.next().await.unwrap().unwrap();
    assert_eq!(
        (receipt.backlogs[0].route, receipt.backlogs[0].present),
        (9, 4)
    );
}

#[tokio::test]
async fn nonsense_ends_the_stream_with_a_status() {
    let limits = WireLimits {
        frame_bytes: 100,
        ..WireLimits::default()
    };
    let (address, _frames, _server) = serve(limits).await;
    let mut client = stock(address).await;
    let big = data::Frame {
        failure: Some(data::Failure {
            message: "x".repeat(200),
            ..data::Failure::default()
        }),
        ..data::Frame::default()
    };
    let mut answers = client
        .stream(tokio_stream::iter([big]))
        .await
        .unwrap()
        .into_inner();
    let status = answers.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("limit is 100"));
}

#[tokio::test]
async fn a_peer_that_cannot_be_reached_gives_the_frames_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (sender, mut lost) = open(config(address));
    sender.send(frame(5, 100)).unwrap();
    let (peer, frames) = lost.recv().await.unwrap();
    assert_eq!((peer.as_str(), frames[0].request), ("beta", 5));
    assert!(sender.is_lost());
    assert!(matches!(sender.send(frame(6, 1)), Err(SendError::Lost(f)) if f.request == 6));
}

#[tokio::test]
async fn an_emulated_link_takes_its_time_and_keeps_order() {
    let (address, mut frames, _server) = serve(WireLimits::default()).await;
    let shape = LinkShape {
        rate_bytes_per_second: 1e6,
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(2),
    };
    let (sender, _lost) = open(SenderConfig {
        shape: Some(shape),
        ..config(address)
    });
    let begin = Instant::now();
    for request in 0..5 {
        sender.send(frame(request, 10_000)).unwrap();
    }
    for request in 0..5 {
        assert_eq!(frames.recv().await.unwrap().1.request, request);
    }
    // Five times 10 ms on the link, and at least most of one delay: a lower bound, never an upper one.
    assert!(begin.elapsed() >= Duration::from_millis(50 + 10));
}
