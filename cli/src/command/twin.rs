//! `splitplace twin`: what would happen, without it happening.

pub(crate) mod chainnet;
mod compare;
mod generate;
mod live;
mod run;
mod snapshot;
mod train;
mod what_if;

use std::{process::ExitCode, thread};

use clap::Subcommand;
use indicatif::ProgressBar;
use splitplace_twin::stats::{Estimate, Summary};

use crate::{output, svg::Bar};

#[derive(Debug, Subcommand)]
pub(crate) enum TwinCommand {
    /// Simulate a scenario: a table with intervals.
    Run(run::Run),
    /// Compare policies on a scenario on the same random numbers, or the twin with running workers.
    Compare(Box<compare::Compare>),
    /// Ask what would happen to a live system if something were different.
    WhatIf(Box<what_if::WhatIf>),
    /// Draw systems by the law of the published ones, and label them by simulation.
    Generate(generate::Generate),
    /// Train the graph network that judges systems.
    Train(train::Train),
    /// Hold a judge, the simulator first of all, against the published systems of ChainNet.
    Chainnet(chainnet::Chainnet),
}

pub(crate) fn run(command: TwinCommand) -> anyhow::Result<ExitCode> {
    match command {
        TwinCommand::Run(args) => run::run(&args),
        TwinCommand::Compare(args) => compare::run(&args),
        TwinCommand::WhatIf(_) => unreachable!("it speaks with a server: see `what_if`"),
        TwinCommand::Generate(args) => generate::run(&args),
        TwinCommand::Train(args) => train::run(&args),
        TwinCommand::Chainnet(args) => chainnet::run(&args),
    }
}

pub(crate) use what_if::run as what_if;

/// Whether this asks for running workers.
pub(crate) fn is_live(command: &TwinCommand) -> bool {
    matches!(command, TwinCommand::Compare(args) if args.live)
}

/// As [`run()`], of what needs running workers.
pub(crate) async fn run_live(command: TwinCommand) -> anyhow::Result<ExitCode> {
    match command {
        TwinCommand::Compare(args) => live::run(&args).await,
        other => run(other),
    }
}

/// Confidence of every interval that is shown.
pub(crate) const CONFIDENCE: f64 = 0.95;

/// As many threads as asked for, or as the machine has.
pub(crate) fn threads(asked: usize) -> usize {
    match asked {
        0 => thread::available_parallelism().map_or(1, usize::from),
        asked => asked,
    }
}

/// The results of `work` for each number, in order, on so many threads.
pub(crate) fn in_parallel<T: Send>(
    numbers: std::ops::Range<u64>,
    threads: usize,
    bar: &ProgressBar,
    work: impl Fn(u64) -> T + Sync,
) -> Vec<T> {
    let next = std::sync::atomic::AtomicU64::new(numbers.start);
    let one = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if numbers.end <= number {
                return done;
            }
            done.push((number, work(number)));
            bar.inc(1);
        }
    };
    let mut all: Vec<(u64, T)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(one)).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.flatten().collect()
    });
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, result)| result).collect()
}

/// A bar for so many steps.
pub(crate) fn bar(name: &str, steps: u64) -> ProgressBar {
    let bar = super::load::bar(name, std::time::Duration::ZERO);
    bar.set_length(steps);
    bar
}

/// A figure as a bar, so many times as high; none is drawn where nothing was counted.
pub(crate) fn drawn(summary: Option<&Summary>, times: f64) -> Bar {
    let estimate = summary.map(|summary| summary.estimate(CONFIDENCE));
    let estimate = estimate.filter(|estimate| 0 < estimate.count);
    let nothing = Bar {
        height: f64::NAN,
        half_width: 0.0,
    };
    estimate.map_or(nothing, |estimate| Bar {
        height: estimate.mean * times,
        half_width: estimate.half_width * times,
    })
}

/// `12.3 ms ± 0.4 ms`.
pub(crate) fn time(summary: &Summary) -> String {
    if summary.count() == 0 {
        return "—".into();
    }
    let Estimate {
        mean, half_width, ..
    } = summary.estimate(CONFIDENCE);
    with_interval(&output::micros(mean * 1e6), half_width, || {
        output::micros(half_width * 1e6)
    })
}

/// `1.23 % ± 0.04`.
pub(crate) fn share(summary: &Summary) -> String {
    if summary.count() == 0 {
        return "—".into();
    }
    let estimate = summary.estimate(CONFIDENCE);
    let mean = format!("{:.2} %", estimate.mean * 100.0);
    with_interval(&mean, estimate.half_width, || {
        format!("{:.2}", estimate.half_width * 100.0)
    })
}

/// `1.2 ± 0.4`.
pub(crate) fn number(summary: &Summary) -> String {
    if summary.count() == 0 {
        return "—".into();
    }
    let estimate = summary.estimate(CONFIDENCE);
    with_interval(
        &format!("{:.1}", estimate.mean),
        estimate.half_width,
        || format!("{:.1}", estimate.half_width),
    )
}

fn with_interval(mean: &str, half_width: f64, told: impl FnOnce() -> String) -> String {
    if !half_width.is_finite() {
        return mean.to_owned();
    }
    let told = told();
    if told.chars().all(|c| !c.is_ascii_digit() || c == '0') {
        return mean.to_owned();
    }
    format!("{mean} ± {told}")
}

pub(crate) fn json(summary: &Summary) -> serde_json::Value {
    let estimate = summary.estimate(CONFIDENCE);
    let half_width = estimate.half_width;
    serde_json::json!({
        "mean": estimate.mean,
        "half_width": half_width.is_finite().then_some(half_width),
        "runs": estimate.count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_whoever_is_first() {
        let hidden = ProgressBar::hidden();
        let squares = in_parallel(3..40, 4, &hidden, |n| n * n);
        assert_eq!(squares, (3..40).map(|n| n * n).collect::<Vec<u64>>());
        assert!(in_parallel(0..0, 2, &hidden, |n| n).is_empty());
    }

    #[test]
    fn intervals_are_shown_where_there_are_any() {
        let two: Summary = [0.0120, 0.0124].into_iter().collect();
        assert_eq!(time(&two), "12.2 ms ± 2.54 ms");
        assert_eq!(time(&[0.012].into_iter().collect()), "12.0 ms");
        assert_eq!(time(&Summary::default()), "—");
        assert_eq!(share(&[0.0, 0.0].into_iter().collect()), "0.00 %");
        assert_eq!(share(&[0.10, 0.11].into_iter().collect()), "10.50 % ± 6.35");
    }
}
