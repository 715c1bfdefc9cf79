//! How fast the way to another machine is, and how far its clock is off, measured with nothing but TCP
//! between two doctors.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

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

/// More than this between two clocks, and the times of hops say little.
const SKEW: f64 = 0.5;

/// Takes what other doctors send, until stopped: bytes are answered with the own time, in microseconds
/// since the Unix epoch; everything after them is counted.
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
                    stream.read_u8().await?;
                    stream.write_u64(unix_micros()).await?;
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
        Ok(Ok(measured)) => judge(peer, &measured),
        Ok(Err(error)) => Finding::bad("link", format!("{peer}: {error:#}"), mend),
        Err(_) => Finding::bad(
            "link",
            format!("{peer}: slower than {PATIENCE:?} for {} MB", BYTES >> 20),
            mend,
        ),
    }
}

/// What was measured of a way.
#[derive(Clone, Copy, Debug)]
struct Measured {
    trip: Duration,
    bytes_per_second: f64,
    /// How far the other clock is ahead, in seconds.
    skew: f64,
}

fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let micros = since.map_or(0, |since| since.as_micros());
    u64::try_from(micros).unwrap_or(u64::MAX)
}

fn judge(peer: &str, measured: &Measured) -> Finding {
    let Measured {
        trip,
        bytes_per_second: rate,
        skew,
    } = *measured;
    let seen = format!(
        "{peer}: {:.1} Mbit/s, round trip {:.2} ms, clocks {:.1} ms apart",
        rate * 8.0 / 1e6,
        trip.as_secs_f64() * 1e3,
        skew.abs() * 1e3
    );
    if SKEW < skew.abs() {
        let mend = "have both clocks kept by the network: timedatectl set-ntp true on each";
        return Finding::bad("link", seen, mend);
    }
    if rate < SLOW {
        let mend = "a cable instead of Wi-Fi, or a better switch: tensors of 100 kB take longer than most layers";
        return Finding::doubt("link", seen, mend);
    }
    Finding::good("link", seen)
}

async fn once(peer: &str) -> Result<Measured> {
    let mut stream = TcpStream::connect(peer).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let mut trips = Vec::with_capacity(TRIPS);
    for _ in 0..TRIPS {
        let (begin, before) = (Instant::now(), unix_micros());
        stream.write_u8(1).await?;
        let there = stream.read_u64().await?;
        let trip = begin.elapsed();
        // Said in the middle of the trip, as far as one can know.
        let here = Duration::from_micros(before) + trip / 2;
        let skew = Duration::from_micros(there).as_secs_f64() - here.as_secs_f64();
        trips.push((trip, skew));
    }
    trips.sort_unstable_by_key(|(trip, _)| *trip);
    let begin = Instant::now();
    let chunk = vec![0x5a; 1 << 16];
    for _ in 0..BYTES / chunk.len() {
        stream.write_all(&chunk).await?;
    }
    stream.read_u8().await?;
    #[expect(clippy::cast_precision_loss, reason = "a constant below 2^53")]
    let bytes = BYTES as f64;
    Ok(Measured {
        trip: trips[TRIPS / 2].0,
        bytes_per_second: bytes / begin.elapsed().as_secs_f64(),
        // The shortest trip leaves least to guess.
        skew: trips[0].1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_slow_way_is_doubted() {
        let good = Measured {
            trip: Duration::from_millis(2),
            bytes_per_second: 1e8,
            skew: -0.01,
        };
        assert_eq!(judge("a:1", &good).level, Level::Good);
        let slow = Measured {
            bytes_per_second: 1e6,
            ..good
        };
        assert_eq!(judge("a:1", &slow).level, Level::Doubt);
        let skewed = Measured { skew: -2.0, ..good };
        assert!(judge("a:1", &skewed).mend.contains("set-ntp"));
    }

    #[tokio::test]
    async fn nobody_there_is_bad_and_says_what_to_try() {
        let found = measure("127.0.0.1:1").await;
        assert_eq!(found.level, Level::Bad);
        assert!(found.mend.contains("--listen"));
    }
}
