//! Frames of 4 MB from one end of the data plane to the other, against a raw TCP socket that carries the
//! same bytes, turn by turn in one process. The bar is 60 % of the socket's rate.
//!
//! Expected: the payload is never copied by us; HTTP/2 framing and flow control, and the copy from the
//! kernel, are what remains.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use splitplace_link::{Events, Frame, Receiver, Sender, SenderConfig, Sink, Tensor, WireLimits};
use splitplace_proto::data::DType;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::TcpListenerStream;

const BYTES: usize = 4 << 20;
const FRAMES: usize = 128;
const ROUNDS: usize = 7;

struct Count(mpsc::UnboundedSender<usize>);

impl Sink for Count {
    fn frame(&self, _: &str, frame: Frame) {
        let _ = self.0.send(frame.payload_bytes());
    }
}

struct Nobody;

impl Events for Nobody {
    fn lost(&self, _: &str, frames: Vec<Frame>) {
        assert!(frames.is_empty(), "a frame was lost");
    }
}

/// A raw socket. Whoever gets a frame keeps it, so each is read into memory of its own; `is_kept` false
/// reads everything into one buffer and forgets it, which is the most that a socket can do.
async fn raw(payload: &Bytes, is_kept: bool) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let reader = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a peer");
        let mut kept = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        let mut left = BYTES * FRAMES;
        while left > 0 && !is_kept {
            left -= stream.read(&mut buffer).await.expect("bytes");
        }
        while left > 0 {
            let mut frame = Vec::with_capacity(BYTES);
            let mut rest = (&mut stream).take(BYTES as u64);
            while frame.len() < BYTES {
                rest.read_buf(&mut frame).await.expect("bytes");
            }
            left -= frame.len();
            // Some frames are always being computed.
            kept.push(frame);
            if kept.len() > 4 {
                kept.clear();
            }
        }
    });
    let mut stream = TcpStream::connect(address).await.expect("a peer");
    stream.set_nodelay(true).expect("a socket");
    let begin = Instant::now();
    for _ in 0..FRAMES {
        stream.write_all(payload).await.expect("room");
    }
    reader.await.expect("all bytes");
    (BYTES * FRAMES) as f64 / begin.elapsed().as_secs_f64()
}

async fn frames(payload: &Bytes) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let (told, mut came) = mpsc::unbounded_channel();
    let receiver = Receiver::new(Arc::new(Count(told)), WireLimits::default());
    let server = tokio::spawn(
        tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .max_frame_size(splitplace_link::HTTP2_FRAME_BYTES)
            .initial_stream_window_size(splitplace_link::HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(splitplace_link::HTTP2_CONNECTION_WINDOW_BYTES)
            .add_service(receiver)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let config = SenderConfig {
        own_name: "a".into(),
        address: address.to_string(),
        security: None,
        queue_frames: FRAMES + 1,
        shape: None,
        seed: 1,
        pause_max: std::time::Duration::from_secs(1),
    };
    let sender = Sender::open(config, "b", Arc::new(Nobody)).expect("an address");
    let frame = |request| Frame {
        request,
        deadline: std::time::Duration::from_secs(60),
        expiry: std::time::Duration::from_secs(60),
        tensors: vec![Tensor {
            name: "x".into(),
            dtype: DType::Fp32,
            shape: vec![1, (BYTES / 4) as i64],
            codec: splitplace_codec::Codec::RAW,
            chunks: vec![payload.clone()],
        }],
        ..Frame::default()
    };
    sender.send(frame(0)).expect("an open stream");
    assert_eq!(came.recv().await, Some(BYTES));
    let begin = Instant::now();
    for number in 0..FRAMES {
        sender.send(frame(number as u64)).expect("room");
    }
    for _ in 0..FRAMES {
        assert_eq!(came.recv().await, Some(BYTES));
    }
    let rate = (BYTES * FRAMES) as f64 / begin.elapsed().as_secs_f64();
    server.abort();
    rate
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let payload = Bytes::from(vec![7; BYTES]);
    let (mut kept, mut forgotten, mut links, mut ratios) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (socket, link) = (raw(&payload, true).await, frames(&payload).await);
        forgotten.push(raw(&payload, false).await);
        kept.push(socket);
        links.push(link);
        ratios.push(link / socket);
    }
    let ratio = median(&mut ratios);
    println!(
        "raw TCP {:.2} GB/s (forgetting what it reads {:.2}), frames {:.2} GB/s, ratio {ratio:.2} (medians \
         of {ROUNDS}; ratios {:.2} to {:.2})",
        median(&mut kept) / 1e9,
        median(&mut forgotten) / 1e9,
        median(&mut links) / 1e9,
        ratios[0],
        ratios[ROUNDS - 1],
    );
}
