//! `splitplace load`: how a server behaves under load.

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use splitplace_proto::inference::ModelMetadataResponse;

use crate::{
    client::{Client, Server},
    load::{
        arrivals::{self, Arrivals, Gaps, SlaMix},
        engine::{self, Mode, Run},
        payloads::{self, Payloads},
        summary::{Group, Summary},
    },
    output, shipped,
};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GapsArg {
    Poisson,
    Constant,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    #[command(flatten)]
    server: Server,
    /// Which model.
    model: String,
    /// Open loop: requests a second; several, as `100,200,400`, are tried one after another.
    #[arg(long, value_delimiter = ',', value_name = "RATE", group = "mode")]
    rate: Vec<f64>,
    /// Closed loop: requests in flight; several, as `1,2,4`, are tried one after another.
    #[arg(long, value_delimiter = ',', value_name = "CLIENTS", group = "mode")]
    concurrency: Vec<usize>,
    /// Open loop: a file with the seconds of each arrival and, if it likes, its SLA in milliseconds.
    #[arg(long, value_name = "FILE", group = "mode")]
    trace: Option<PathBuf>,
    /// Gaps between the requests of an open loop.
    #[arg(long, value_enum, default_value = "poisson")]
    gaps: GapsArg,
    /// How long requests leave, after the warm-up.
    #[arg(long, short = 'd', value_parser = humantime::parse_duration, default_value = "10s")]
    duration: Duration,
    /// No more than these.
    #[arg(long, short = 'n', default_value_t = u64::MAX, hide_default_value = true)]
    requests: u64,
    /// Answers to what leaves in this time do not count.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "1s")]
    warm_up: Duration,
    /// Time to be promised, in milliseconds; several with weights, as `30@0.7,200@0.3`, are mixed.
    #[arg(long, value_name = "MS[@WEIGHT],…")]
    sla: Option<SlaMix>,
    /// Pictures in an IDX file; without it the shipped ones where the model takes them, else noise.
    #[arg(long, value_name = "FILE")]
    images: Option<PathBuf>,
    /// Their classes in an IDX file.
    #[arg(long, value_name = "FILE", requires = "images")]
    labels: Option<PathBuf>,
    /// Send every picture exactly once, in order, and stop: accuracy on the whole set.
    #[arg(long, conflicts_with_all = ["rate", "trace", "noise", "requests"])]
    once: bool,
    /// Send noise, whatever the model takes.
    #[arg(long, conflicts_with = "images")]
    noise: bool,
    /// Samples in a request.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Connections, used in turn.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// An answer that takes longer is given up.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s")]
    timeout: Duration,
    /// Requests of an open loop in flight.
    #[arg(long, default_value_t = 10_000)]
    max_in_flight: usize,
    /// Closed loop: how often each client's users would send, to correct for what it did not send while
    /// it waited.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "INTERVAL")]
    expected_interval: Option<Duration>,
    /// Seed of arrivals, promises, payloads and noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// One setting of a sweep.
enum Step {
    Rate(f64),
    Clients(usize),
    Trace(Gaps),
}

impl Step {
    fn name(&self) -> String {
        match self {
            Self::Rate(rate) => format!("open loop, {rate}/s"),
            Self::Clients(clients) => format!("closed loop, {clients}"),
            Self::Trace(_) => "open loop, trace".into(),
        }
    }
}

pub(crate) async fn run(args: Load) -> anyhow::Result<ExitCode> {
    ensure!(args.connections > 0, "--connections must be at least 1");
    let mut connections = Vec::new();
    for _ in 0..args.connections {
        connections.push(Client::connect(&args.server).await?);
    }
    let metadata = connections[0].metadata(&args.model).await?;
    let payloads = Arc::new(payloads(&args, &metadata)?);
    let mut results = Vec::new();
    for step in steps(&args)? {
        let name = step.name();
        let summary = one(&args, &connections, &payloads, step).await?;
        results.push((name, summary));
    }
    if args.json {
        let runs: Vec<_> = results
            .iter()
            .map(|(name, summary)| {
                let mut json = summary.json();
                json["mode"] = name.clone().into();
                json
            })
            .collect();
        output::json(&serde_json::json!({
            "server": args.server.address,
            "model": args.model,
            "request_bytes": payloads.request_bytes(),
            "batch": args.batch,
            "connections": args.connections,
            "seed": args.seed,
            "runs": runs,
        }))?;
    } else {
        show(&results, args.expected_interval.is_some());
    }
    let lost: u64 = results.iter().map(|(_, summary)| summary.lost()).sum();
    Ok(if lost == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(output::NO)
    })
}

fn steps(args: &Load) -> anyhow::Result<Vec<Step>> {
    if let Some(path) = &args.trace {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let gaps = arrivals::trace(&text).with_context(|| path.display().to_string())?;
        return Ok(vec![Step::Trace(gaps)]);
    }
    if !args.rate.is_empty() {
        return Ok(args.rate.iter().map(|rate| Step::Rate(*rate)).collect());
    }
    let clients = if args.concurrency.is_empty() {
        &[1][..]
    } else {
        &args.concurrency
    };
    ensure!(
        clients
            .iter()
            .all(|clients| (1..=100_000).contains(clients)),
        "--concurrency must lie in 1 to 100000"
    );
    Ok(clients
        .iter()
        .map(|clients| Step::Clients(*clients))
        .collect())
}

fn payloads(args: &Load, metadata: &ModelMetadataResponse) -> anyhow::Result<Payloads> {
    if let Some(images) = &args.images {
        let pictures = shipped::read_pictures(images, args.labels.as_deref())?;
        return Payloads::pictures(metadata, &pictures, args.batch);
    }
    let pictures = shipped::pictures()?;
    let fits = metadata.inputs.len() == 1 && payloads::takes(&metadata.inputs[0], pictures.size);
    if fits && !args.noise {
        return Payloads::pictures(metadata, &pictures, args.batch);
    }
    Payloads::noise(metadata, args.batch, args.seed)
}

async fn one(
    args: &Load,
    connections: &[Client],
    payloads: &Arc<Payloads>,
    step: Step,
) -> anyhow::Result<Summary> {
    let slas = args.sla.clone().unwrap_or_default();
    let name = step.name();
    let (mode, warm_up, duration) = match step {
        Step::Trace(gaps) => {
            let Gaps::Trace(times) = &gaps else {
                bail!("a trace has times")
            };
            let last = times.last().map_or(Duration::ZERO, |(at, _)| *at);
            let arrivals = Arrivals::new(gaps, 1.0, slas, args.seed)?;
            (
                Mode::Open(Box::new(arrivals)),
                Duration::ZERO,
                last + Duration::from_nanos(1),
            )
        }
        Step::Rate(rate) => {
            let gaps = match args.gaps {
                GapsArg::Poisson => Gaps::Poisson,
                GapsArg::Constant => Gaps::Constant,
            };
            let arrivals = Arrivals::new(gaps, rate, slas, args.seed)?;
            (
                Mode::Open(Box::new(arrivals)),
                args.warm_up,
                args.warm_up + args.duration,
            )
        }
        Step::Clients(clients) => {
            let mode = Mode::Closed {
                clients,
                slas,
                seed: args.seed,
            };
            if args.once {
                // As long as it takes.
                (mode, Duration::ZERO, Duration::from_secs(86_400))
            } else {
                (mode, args.warm_up, args.warm_up + args.duration)
            }
        }
    };
    let is_closed = matches!(mode, Mode::Closed { .. });
    let mut summary = Summary::new(warm_up, args.expected_interval.filter(|_| is_closed));
    let bar = bar(&name, duration);
    let run = Run {
        connections: connections.to_vec(),
        payloads: Arc::clone(payloads),
        mode,
        duration,
        requests: if args.once {
            payloads.len() as u64
        } else {
            args.requests
        },
        in_order: args.once,
        timeout: args.timeout,
        in_flight: args.max_in_flight,
    };
    engine::run(run, |outcome| {
        summary.add(&outcome);
        bar.set_position(u64::try_from(outcome.ended.as_millis()).unwrap_or(0));
        bar.set_message(format!(
            "{} answered, {} lost",
            summary.all.count,
            summary.lost()
        ));
    })
    .await;
    bar.finish_and_clear();
    Ok(summary)
}

/// A bar on standard error, hidden where nobody watches.
pub(crate) fn bar(name: &str, duration: Duration) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(8)
    } else {
        ProgressDrawTarget::hidden()
    };
    let length = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {elapsed} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(length), target)
        .with_style(style)
        .with_prefix(name.to_owned())
}

/// A share as text.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "—".into(), |share| format!("{:.2} %", share * 100.0))
}

fn show(results: &[(String, Summary)], is_corrected: bool) {
    let mut table = output::table([
        "run",
        "answers",
        "lost",
        "answers/s",
        "mean",
        "p50",
        "p90",
        "p95",
        "p99",
        "p99.9",
        "max",
        "SLA held",
        "accuracy",
    ]);
    for (name, summary) in results {
        let quantiles = summary.latency().quantiles();
        let time = |of: fn(&crate::load::summary::Quantiles) -> f64| {
            quantiles
                .as_ref()
                .map_or_else(|| "—".into(), |q| output::micros(of(q)))
        };
        table.add_row([
            name.clone(),
            summary.all.count.to_string(),
            summary.lost().to_string(),
            format!("{:.1}", summary.rate()),
            time(|q| q.mean_us),
            time(|q| q.p50_us),
            time(|q| q.p90_us),
            time(|q| q.p95_us),
            time(|q| q.p99_us),
            time(|q| q.p999_us),
            time(|q| q.max_us),
            percent(summary.all.held()),
            percent(summary.all.accuracy()),
        ]);
    }
    println!("{table}");
    if is_corrected {
        println!("latency is filled up with what clients did not send while they waited");
    } else if results.iter().any(|(name, _)| name.starts_with("closed")) {
        println!(
            "a closed loop waits with the server, so that its latency says nothing about users who \
             do not; --expected-interval or --rate does"
        );
    }
    for (name, summary) in results {
        let is_known = summary.groups.keys().any(|(arm, _)| !arm.is_empty());
        if is_known {
            println!("{name}:\n{}", groups(&summary.groups));
        }
        for ((code, admitted), count) in &summary.losses {
            let admitted = match admitted {
                Some(true) => " after it was let in",
                Some(false) => " at the door",
                None => "",
            };
            let example = summary.examples.get(code).map_or("", String::as_str);
            println!("{name}: {count} × {code}{admitted}, as: {example}");
        }
    }
}

/// Answers by arm and context.
pub(crate) fn groups(
    groups: &std::collections::BTreeMap<(String, String), Group>,
) -> comfy_table::Table {
    let mut table = output::table([
        "arm",
        "context",
        "answers",
        "accuracy",
        "SLA held",
        "p50",
        "p95",
        "p99",
        "predicted p50",
        "server p50",
        "retried",
        "degraded",
    ]);
    for ((arm, context), group) in groups {
        let times = |times: &crate::load::summary::Times, quantile: f64| {
            times
                .quantiles()
                .map_or_else(|| "—".into(), |_| output::micros(times.quantile(quantile)))
        };
        table.add_row([
            arm.clone(),
            context.clone(),
            group.count.to_string(),
            percent(group.accuracy()),
            percent(group.held()),
            times(&group.latency, 0.5),
            times(&group.latency, 0.95),
            times(&group.latency, 0.99),
            times(&group.predicted, 0.5),
            times(&group.response, 0.5),
            group.retried.to_string(),
            group.degraded.to_string(),
        ]);
    }
    table
}
