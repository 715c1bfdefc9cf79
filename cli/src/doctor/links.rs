//! How fast the way to another machine is, measured with nothing but TCP between two doctors.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use super::Finding;

/// Sent for one measurement.
const BYTES: usize = 16 << 20;
/// Round trips whose median counts.
const TRIPS: usize = 21;
/// For one measurement.
const PATIENCE: Duration = Duration::from_secs(60);
/// A slower way leaves little to be gained by splitting: 100 kB take longer than 80 ms.
const SLOW: f64 = 1.25e6;

/// Takes what other doctors send, until stopped: one byte is echoed, everything after it is counted.
pub(crate) async fn listen(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    eprintln!(
        "another machine measures the way here with: splitplace doctor --link THIS-HOST:{}",
        listener.local_addr()?.port()
    );
    loop {
        let (mut stream, peer) = listener.accept().await?;
        tokio::spawn(async move {
            let served = async {
                stream.set_nodelay(true)?;
                for _ in 0..TRIPS {
                    let byte = stream.read_u8().await?;
                    stream.write_u8(byte).await?;
                }
                let mut buffer = vec![0; 1 << 16];
                let mut left = BYTES;
                while left > 0 {
                    let count = stream.read(&mut buffer).await?;
                    if count == 0 {
                        break;
                    }
                    left = left.saturating_sub(count);
                }
                stream.write_u8(0).await
            };
            if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, served).await {
                tracing::debug!(%peer, %error, "a measurement broke off");
            }
        });
    }
}

/// Measures the way to a machine where `listen` runs.
pub(crate) async fn measure(peer: &str) -> Finding {
    let mend = format!(
        "is `splitplace doctor --listen` running there, and does a firewall let {peer} through?"
    );
    match tokio::time::timeout(PATIENCE, once(peer)).await {
        Ok(Ok((trip, rate))) => judge(peer, trip, rate),
        Ok(Err(error)) => Finding::bad("link", format!("{peer}: {error:#}"), mend),
        Err(_) => Finding::bad(
            "link",
            format!("{peer}: slower than {PATIENCE:?} for {} MB", BYTES >> 20),
            mend,
        ),
    }
}

fn judge(peer: &str, trip: Duration, rate: f64) -> Finding {
    let seen = format!(
        "{peer}: {:.1} Mbit/s, round trip {:.2} ms",
        rate * 8.0 / 1e6,
        trip.as_secs_f64() * 1e3
    );
    if rate < SLOW {
        let mend = "a cable instead of Wi-Fi, or a better switch: tensors of 100 kB take longer than most layers";
        return Finding::doubt("link", seen, mend);
    }
    Finding::good("link", seen)
}

async fn once(peer: &str) -> Result<(Duration, f64)> {
    let mut stream = TcpStream::connect(peer).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let mut trips = Vec::with_capacity(TRIPS);
    for _ in 0..TRIPS {
        let begin = Instant::now();
        stream.write_u8(1).await?;
        stream.read_u8().await?;
        trips.push(begin.elapsed());
    }
    trips.sort_unstable();
    let begin = Instant::now();
    let chunk = vec![0x5a; 1 << 16];
    for _ in 0..BYTES / chunk.len() {
        stream.write_all(&chunk).await?;
    }
    stream.read_u8().await?;
    #[expect(clippy::cast_precision_loss, reason = "a constant below 2^53")]
    let bytes = BYTES as f64;
    Ok((trips[TRIPS / 2], bytes / begin.elapsed().as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_slow_way_is_doubted() {
        let trip = Duration::from_millis(2);
        assert_eq!(judge("a:1", trip, 1e6).level, Level::Doubt);
        assert_eq!(judge("a:1", trip, 1e8).level, Level::Good);
    }

    #[tokio::test]
    async fn nobody_there_is_bad_and_says_what_to_try() {
        let found = measure("127.0.0.1:1").await;
        assert_eq!(found.level, Level::Bad);
        assert!(found.mend.contains("--listen"));
    }
}
