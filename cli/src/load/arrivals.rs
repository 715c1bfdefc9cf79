//! When requests come. Pure: a seed gives the same arrivals again.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Exp};

/// One request to come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrival {
    /// After the start.
    pub(crate) at: Duration,
    /// Time to be promised.
    pub(crate) sla: Option<Duration>,
    /// Drawn uniformly; says which payload.
    pub(crate) draw: u64,
}

/// Gaps between requests of an open loop.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Gaps {
    /// Exponential, so that arrivals are a Poisson process.
    Poisson,
    /// All alike.
    Constant,
    /// As given: offset from the start, and the time to be promised where the trace has one.
    Trace(Vec<(Duration, Option<Duration>)>),
}

/// Instants of a Poisson process in seconds, up to an end.
pub(crate) fn poisson(rate: f64, end: f64, stream: &mut splitplace_twin::Stream) -> Vec<f64> {
    let mut all = Vec::new();
    let mut now = 0.0;
    loop {
        now -= (1.0 - stream.unit()).ln() / rate;
        if end <= now {
            return all;
        }
        all.push(now);
    }
}

/// Times to be promised, each with its weight; none promises nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SlaMix(Vec<(Duration, f64)>);

impl SlaMix {
    /// Times with weights that are not negative.
    pub(crate) fn new(parts: Vec<(Duration, f64)>) -> Self {
        Self(parts)
    }

    /// One of them.
    fn draw(&self, rng: &mut ChaCha8Rng) -> Option<Duration> {
        let total: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut left = rng.random::<f64>() * total;
        for (time, weight) in &self.0 {
            left -= weight;
            if left < 0.0 {
                return Some(*time);
            }
        }
        self.0.last().map(|(time, _)| *time)
    }
}

impl std::str::FromStr for SlaMix {
    type Err = anyhow::Error;

    /// `30` or `30@0.7,200@0.3`: milliseconds, each with a weight.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let part = |part: &str| -> anyhow::Result<(Duration, f64)> {
            let (ms, weight) = part.split_once('@').unwrap_or((part, "1"));
            let ms: f64 = ms
                .trim()
                .parse()
                .with_context(|| format!("{ms:?} is no number"))?;
            let weight: f64 = weight
                .trim()
                .parse()
                .with_context(|| format!("{weight:?} is no weight"))?;
            ensure!(ms > 0.0 && ms < 1e9, "{ms} ms cannot be promised");
            ensure!(
                weight > 0.0 && weight.is_finite(),
                "a weight must be above 0, not {weight}"
            );
            Ok((Duration::from_secs_f64(ms / 1e3), weight))
        };
        text.split(',')
            .map(part)
            .collect::<anyhow::Result<_>>()
            .map(Self)
    }
}

/// Arrivals of an open loop, without end except for a trace.
pub(crate) struct Arrivals {
    gaps: Gaps,
    rate: f64,
    slas: SlaMix,
    rng: ChaCha8Rng,
    at: f64,
    count: usize,
}

impl Arrivals {
    /// `rate` requests a second; a trace brings its own times.
    pub(crate) fn new(gaps: Gaps, rate: f64, slas: SlaMix, seed: u64) -> anyhow::Result<Self> {
        ensure!(
            rate.is_finite() && rate > 0.0,
            "a rate must be above 0 requests a second, not {rate}"
        );
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Ok(Self {
            gaps,
            rate,
            slas,
            rng,
            at: 0.0,
            count: 0,
        })
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let mut sla = self.slas.draw(&mut self.rng);
        let at = match &self.gaps {
            Gaps::Poisson => {
                let gap = Exp::new(self.rate).map_or(0.0, |gap| gap.sample(&mut self.rng));
                self.at += gap;
                Duration::from_secs_f64(self.at)
            }
            Gaps::Constant => {
                #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
                let at = self.count as f64 / self.rate;
                Duration::from_secs_f64(at)
            }
            Gaps::Trace(times) => {
                let (at, own) = *times.get(self.count)?;
                sla = own.or(sla);
                at
            }
        };
        self.count += 1;
        Some(Arrival {
            at,
            sla,
            draw: self.rng.random(),
        })
    }
}

/// Reads a trace: on each line the seconds from the start and, if it likes, the milliseconds to be
/// promised; `#` begins a comment.
pub(crate) fn trace(text: &str) -> anyhow::Result<Gaps> {
    let mut times = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let parse = || -> anyhow::Result<(Duration, Option<Duration>)> {
            let mut words = line.split([',', ' ', '\t']).filter(|word| !word.is_empty());
            let at: f64 = words.next().unwrap_or("").parse()?;
            let sla = words.next().map(str::parse::<f64>).transpose()?;
            let sla = sla
                .map(|ms| Duration::try_from_secs_f64(ms / 1e3))
                .transpose()?;
            Ok((Duration::try_from_secs_f64(at)?, sla))
        };
        let time = parse()
            .with_context(|| format!("line {}: {line:?} is not `SECONDS [SLA_MS]`", number + 1))?;
        times.push(time);
    }
    ensure!(!times.is_empty(), "the trace has no arrivals");
    times.sort_by_key(|(at, _)| *at);
    Ok(Gaps::Trace(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(gaps: Gaps, rate: f64, slas: &str) -> Arrivals {
        Arrivals::new(gaps, rate, slas.parse().expect("mix"), 7).expect("rate")
    }

    #[test]
    fn a_poisson_process_has_its_rate_and_its_variance() {
        let times: Vec<f64> = arrivals(Gaps::Poisson, 50.0, "10")
            .take(20_000)
            .map(|arrival| arrival.at.as_secs_f64())
            .collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Five standard errors of the mean and of the variance of an exponential distribution.
        assert!(
            (mean * 50.0 - 1.0).abs() < 5.0 / (gaps.len() as f64).sqrt(),
            "{mean}"
        );
        assert!((variance * 2500.0 - 1.0).abs() < 5.0 * (8.0 / gaps.len() as f64).sqrt());
    }

    #[test]
    fn constant_gaps_do_not_drift() {
        let last = arrivals(Gaps::Constant, 3.0, "10")
            .nth(3_000_000)
            .expect("endless");
        assert_eq!(last.at, Duration::from_secs(1_000_000));
    }

    #[test]
    fn promises_are_mixed_by_weight() {
        let tight = arrivals(Gaps::Constant, 1.0, "10@3, 20@1")
            .take(8000)
            .filter(|arrival| arrival.sla == Some(Duration::from_millis(10)))
            .count();
        assert!((5800..6200).contains(&tight), "{tight}");
        for wrong in ["", "x", "0", "-1", "5@0", "5@x", "5,,6"] {
            assert!(wrong.parse::<SlaMix>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn traces_are_sorted_and_checked() {
        let gaps = trace("# arrivals\n1.5 30\n\n0.5\n").expect("trace");
        let all: Vec<_> = arrivals(gaps, 1.0, "10").map(|a| (a.at, a.sla)).collect();
        let ms = Duration::from_millis;
        assert_eq!(all, [(ms(500), Some(ms(10))), (ms(1500), Some(ms(30)))]);
        assert!(
            trace("1\nsoon\n")
                .unwrap_err()
                .to_string()
                .contains("line 2")
        );
        assert!(trace("").is_err());
        assert!(trace("-1").is_err());
    }
}
