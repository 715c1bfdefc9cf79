//! `splitplace lab resplit`: the uplink falls and comes back under load, and the split follows.
//!
//! A slow node stands beside the orchestrator, a fast one behind an uplink that is slowed by the emulation. The planner
//! is told how the uplink is at the start, and nothing after that: it has to find out by what frames take. The same
//! requests at the same instants are sent to fleets that are told each rate and plan once: the best static plans. What
//! counts of a phase is what was sent [`SETTLED`] after it began. Pictures come to the slow node: the first fragment is
//! pinned there.

mod fleet;
mod phases;
mod table;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::ensure;
use clap::Args;
use serde::Serialize;

use self::{
    fleet::Stage,
    phases::{Phase, fixed, follow, live},
};
use crate::{command::twin, load::arrivals, output};

#[derive(Debug, Args)]
pub(crate) struct Resplit {
    /// A shipped package, or a folder with one.
    #[arg(long, default_value = "models/packages/cifar10")]
    package: String,
    /// Rates of the uplink, one phase each, in Mbit/s.
    #[arg(long, value_delimiter = ',', default_value = "100,2,100")]
    rates: Vec<f64>,
    /// One-way delay of the uplink, in milliseconds.
    #[arg(long, default_value_t = 5.0)]
    delay_ms: f64,
    /// Seconds of each phase.
    #[arg(long, default_value_t = 20.0)]
    phase: f64,
    /// Requests a second; of the slow node the default is three fifths of what it can do.
    #[arg(long, default_value_t = 15.0)]
    rate: f64,
    /// Time of the whole network on the node beside the orchestrator, in milliseconds.
    #[arg(long, default_value_t = 40.0)]
    device_ms: f64,
    /// The same on the node behind the uplink.
    #[arg(long, default_value_t = 4.0)]
    server_ms: f64,
    /// Kinds of arms that are planned.
    #[arg(long, value_delimiter = ',', default_value = "chain")]
    arms: Vec<String>,
    /// Code tensors on the uplink.
    #[arg(long)]
    codecs: bool,
    /// Leave out the static plans.
    #[arg(long)]
    no_static: bool,
    /// Phases that end when the split has followed, however long that takes, instead of after a time; one client
    /// asks again and again. Nothing is compared with static plans.
    #[arg(long)]
    follow: bool,
    /// The whole again, with other arrivals; medians are told.
    #[arg(long, default_value_t = 1)]
    repeats: u64,
    /// The seed that all others come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write everything to this file as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What was sent later than this into a phase counts.
const SETTLED: Duration = Duration::from_secs(5);
/// Promised to every request: long enough that nothing is given up for time alone.
const SLA: Duration = Duration::from_secs(120);

#[derive(Clone, Debug, Serialize)]
struct RunTold {
    seed: u64,
    phases: Vec<Phase>,
}

pub(crate) async fn run(args: &Resplit) -> anyhow::Result<ExitCode> {
    ensure!(!args.rates.is_empty(), "--rates needs a phase");
    let is_rate = |rate: &f64| *rate > 0.0 && rate.is_finite();
    ensure!(args.rates.iter().all(is_rate), "--rates must be above 0");
    ensure!(is_rate(&args.rate), "--rate must be above 0");
    ensure!(
        args.phase > SETTLED.as_secs_f64(),
        "--phase must be longer than {SETTLED:?}, after which requests count"
    );
    let stage = Stage::open(args)?;
    let distinct = distinct(&args.rates).len() as u64;
    let is_alone = args.no_static || args.follow;
    let each = 1 + if is_alone { 0 } else { distinct };
    let bar = twin::bar("runs", each * args.repeats);
    let mut runs = Vec::new();
    for repeat in 0..args.repeats {
        let seed = args.seed.wrapping_add(repeat.wrapping_mul(7919));
        let instants = instants(args.rate, args.phase, args.rates.len(), seed);
        let mut phases = if args.follow {
            follow(&stage, args, seed).await?
        } else {
            live(&stage, args, &instants, seed).await?
        };
        bar.inc(1);
        if !is_alone {
            for rate in self::distinct(&args.rates) {
                for (number, phase) in phases.iter_mut().enumerate() {
                    if phase.mbit.total_cmp(&rate).is_eq() && phase.fixed.is_none() {
                        let fixed = fixed(&stage, args, rate, &instants[number], seed).await?;
                        phase.over_static = Some(phase.p95_ms / fixed.p95_ms);
                        phase.fixed = Some(fixed);
                    }
                }
                bar.inc(1);
            }
        }
        runs.push(RunTold { seed, phases });
    }
    bar.finish_and_clear();
    let told = serde_json::json!({
        "package": stage.name,
        "device_ms": args.device_ms,
        "server_ms": args.server_ms,
        "delay_ms": args.delay_ms,
        "requests_per_second": args.rate,
        "phase_s": args.phase,
        "settled_s": SETTLED.as_secs(),
        "codecs": args.codecs,
        "arms": args.arms,
        "runs": runs,
    });
    if let Some(path) = &args.report {
        output::report(path, &told)?;
    }
    if args.json {
        output::json(&told)?;
    } else {
        table::show(&runs);
    }
    Ok(ExitCode::SUCCESS)
}

/// Rates without repetition, in the order in which they come.
fn distinct(rates: &[f64]) -> Vec<f64> {
    let mut all: Vec<f64> = Vec::new();
    for rate in rates {
        if !all.contains(rate) {
            all.push(*rate);
        }
    }
    all
}

/// Instants of Poisson arrivals, by phase, in seconds from its beginning.
fn instants(rate: f64, phase: f64, phases: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut stream = splitplace_twin::Seed(seed).stream("arrivals", 0);
    let of = |_| arrivals::poisson(rate, phase, &mut stream);
    (0..phases).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::{phases::quantile, *};

    #[test]
    fn requests_come_in_every_phase_and_the_same_for_a_seed() {
        let all = instants(5.0, 20.0, 3, 4);
        assert_eq!(all, instants(5.0, 20.0, 3, 4));
        assert_ne!(all, instants(5.0, 20.0, 3, 5));
        for phase in &all {
            assert!(phase.is_sorted() && phase.iter().all(|at| (0.0..20.0).contains(at)));
            assert!((60..140).contains(&phase.len()), "{}", phase.len());
        }
    }

    #[test]
    fn quantiles_are_of_what_there_is() {
        assert!(quantile(&[], 0.5).abs() < 1e-12);
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert!((quantile(&values, 0.95) - 95.0).abs() < 1e-12);
        assert_eq!(distinct(&[100.0, 2.0, 100.0]), [100.0, 2.0]);
    }
}
