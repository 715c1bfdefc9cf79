//! Probes and numbers of whoever waits for a Lease, over plain HTTP: `/live`, `/ready`, `/metrics`.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use splitplace_k8s::operator::Pulse;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Longest wait for a request, and the largest head that is read.
const PATIENCE: Duration = Duration::from_secs(5);
const HEAD_MAX: usize = 8192;

/// Answers until the process ends.
pub(crate) async fn serve(listener: TcpListener, pulse: Arc<Pulse>, part: &'static str) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let pulse = Arc::clone(&pulse);
                tokio::spawn(async move {
                    // Whoever asks and goes away misses nothing.
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, &pulse, part)).await;
                });
            }
            Err(error) => {
                tracing::warn!(code = "SP405", %error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, pulse: &Pulse, part: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_MAX {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = String::from_utf8_lossy(&head);
    let path = line.split_whitespace().nth(1).unwrap_or_default();
    let (code, body) = match path {
        "/live" if pulse.is_hung(Instant::now()) => (
            "503 Service Unavailable",
            "a pass over everything does not end\n".to_owned(),
        ),
        "/live" => ("200 OK", "live\n".to_owned()),
        "/ready" if pulse.is_ready.load(Relaxed) => ("200 OK", "ready\n".to_owned()),
        "/ready" => (
            "503 Service Unavailable",
            "the API server is not reached, or what is led is not ready\n".to_owned(),
        ),
        "/metrics" => ("200 OK", metrics(pulse, part)),
        _ => ("404 Not Found", String::new()),
    };
    let answer = format!(
        "HTTP/1.1 {code}\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: \
         close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn metrics(pulse: &Pulse, part: &str) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a duration for a gauge")]
    let seconds = pulse.pass_micros.load(Relaxed) as f64 / 1e6;
    let mut text = String::new();
    for (name, kind, help, value) in [
        (
            "leader",
            "gauge",
            "Whether this one leads",
            f64::from(u8::from(pulse.is_leader.load(Relaxed))).to_string(),
        ),
        (
            "passes_total",
            "counter",
            "Passes over everything",
            pulse.passes.load(Relaxed).to_string(),
        ),
        (
            "errors_total",
            "counter",
            "What could not be carried out, and is tried again",
            pulse.errors.load(Relaxed).to_string(),
        ),
        (
            "pass_seconds",
            "gauge",
            "Time that the last pass took",
            seconds.to_string(),
        ),
    ] {
        let name = format!("splitplace_{part}_{name}");
        text.push_str(&format!(
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        ));
    }
    text
}
