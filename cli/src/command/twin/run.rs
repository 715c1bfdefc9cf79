//! `splitplace twin run`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::json;
use splitplace_twin::{
    Seed,
    scenario::{ModelOutcome, Outcome, Scenario},
    stats::Summary,
};

use crate::{output, svg::Bars};

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The scenario's file.
    scenario: PathBuf,
    /// Runs, each with seeds of its own; as the file says without it.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The seed that all others come from; as the file says without it.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop as soon as half the interval of the mean response is within this share of it.
    #[arg(long, value_name = "SHARE")]
    precision: Option<f64>,
    /// Who chooses arms; as the file says without it.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Threads; 0 for as many as the machine has.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Write everything to this file as JSON, and plots beside it.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Reads a scenario.
pub(super) fn read(path: &PathBuf) -> anyhow::Result<Scenario> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    Ok(Scenario::parse(&name, &text)?)
}

pub(super) fn run(args: &Run) -> anyhow::Result<ExitCode> {
    let mut scenario = read(&args.scenario)?;
    if let Some(seed) = args.seed {
        scenario.seed = Seed(seed);
    }
    if let Some(policy) = &args.policy {
        scenario.set_policy(policy, std::collections::BTreeMap::new())?;
    }
    let runs = args.seeds.unwrap_or(scenario.replications);
    ensure!(
        (1..=100_000).contains(&runs),
        "--seeds must lie in 1 to 100000"
    );
    let begin = Instant::now();
    let outcome = replicate(&scenario, runs, args.threads, args.precision, "runs");
    let seconds = begin.elapsed().as_secs_f64();
    let told = report(&scenario, &outcome, seconds);
    if let Some(path) = &args.report {
        output::report(path, &told)?;
        for (what, plot) in plots(&scenario, &outcome) {
            output::write(&plot_path(path, what), plot.draw())?;
        }
    }
    if args.json {
        output::json(&told)?;
    } else {
        show(&scenario, &outcome, seconds);
        if let Some(path) = &args.report {
            let plots = plots(&scenario, &outcome);
            let plots = plots.map(|(what, _)| plot_path(path, what).display().to_string());
            println!("report: {}; plots: {}", path.display(), plots.join(", "));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `split.json` has its plots in `split.response.svg` and so on.
fn plot_path(report: &Path, what: &str) -> PathBuf {
    report.with_extension(format!("{what}.svg"))
}

/// What the models' requests took, and what became of them, by model, with intervals.
fn plots(scenario: &Scenario, outcome: &Outcome) -> [(&'static str, Bars); 2] {
    type Of = fn(&ModelOutcome) -> &Summary;
    let plot = |what: &str, y: &str, times: f64, figures: &[(&str, Of)]| Bars {
        title: format!("{what}, {}", scenario.description),
        y: y.into(),
        series: figures.iter().map(|(name, _)| (*name).to_owned()).collect(),
        groups: outcome
            .models
            .iter()
            .map(|(name, model)| {
                let bars = figures.iter();
                let bars = bars.map(|(_, of)| super::drawn(Some(of(model)), times));
                (name.to_string(), bars.collect())
            })
            .collect(),
    };
    let response = plot(
        "response",
        "ms",
        1e3,
        &[
            ("mean", |one| &one.mean),
            ("p50", |one| &one.p50),
            ("p95", |one| &one.p95),
            ("p99", |one| &one.p99),
        ],
    );
    let missed = plot(
        "lost and late",
        "% of requests",
        1e2,
        &[
            ("lost", |one| &one.loss),
            ("SLA missed", |one| &one.violations),
        ],
    );
    [("response", response), ("missed", missed)]
}

/// Runs a scenario so many times, or until it is precise enough.
pub(super) fn replicate(
    scenario: &Scenario,
    runs: u64,
    threads: usize,
    precision: Option<f64>,
    name: &str,
) -> Outcome {
    let bar = super::bar(name, runs);
    let threads = super::threads(threads);
    let mut outcome = Outcome::default();
    // Looks at the precision come after fixed numbers of runs, so that threads change nothing.
    const LOOK: u64 = 4;
    let step = if precision.is_some() { LOOK } else { runs };
    let mut from = 0;
    while from < runs {
        let to = (from + step).min(runs);
        let reports = super::in_parallel(from..to, threads, &bar, |n| scenario.replicate(n));
        reports.iter().for_each(|report| outcome.add(report));
        from = to;
        if precision.is_some_and(|share| outcome.is_precise(share, super::CONFIDENCE)) {
            break;
        }
    }
    bar.finish_and_clear();
    outcome
}

fn report(scenario: &Scenario, outcome: &Outcome, seconds: f64) -> serde_json::Value {
    let models = outcome.models.iter().map(|(name, model)| {
        let arms = model.arms.iter().map(|(name, arm)| {
            let told = json!({
                "share": super::json(&arm.share),
                "response_seconds": super::json(&arm.response),
                "sla_held": super::json(&arm.held),
                "accuracy": super::json(&arm.accuracy),
                "forecast_over_response": super::json(&arm.forecast),
                "partial": super::json(&arm.partial),
            });
            (name.clone(), told)
        });
        let told = json!({
            "offered_per_second": super::json(&model.offered),
            "answers_per_second": super::json(&model.throughput),
            "response_seconds": super::json(&model.mean),
            "p50_seconds": super::json(&model.p50),
            "p95_seconds": super::json(&model.p95),
            "p99_seconds": super::json(&model.p99),
            "loss": super::json(&model.loss),
            "refused": super::json(&model.refused),
            "sla_violations": super::json(&model.violations),
            "accuracy": super::json(&model.accuracy),
            "arms": arms.collect::<serde_json::Map<_, _>>(),
        });
        (name.to_string(), told)
    });
    let nodes = outcome.nodes.iter();
    let nodes = nodes.map(|(name, busy)| (name.clone(), super::json(busy)));
    let traces = outcome.traces.iter().map(|trace| format!("{trace:016x}"));
    json!({
        "description": scenario.description,
        "seed": scenario.seed.0,
        "runs": outcome.runs(),
        "confidence": super::CONFIDENCE,
        "policy": scenario.policy(),
        "models": models.collect::<serde_json::Map<_, _>>(),
        "watts": super::json(&outcome.watts),
        "utilisation": nodes.collect::<serde_json::Map<_, _>>(),
        "plans": super::json(&outcome.plans),
        "retried_per_second": super::json(&outcome.retried),
        "requests": outcome.requests,
        "events": outcome.events,
        "wall_seconds": seconds,
        "traces": traces.collect::<Vec<_>>(),
    })
}

fn show(scenario: &Scenario, outcome: &Outcome, seconds: f64) {
    println!("{}", scenario.description);
    let mut table = output::table([
        "model",
        "offered/s",
        "answers/s",
        "mean",
        "p50",
        "p95",
        "p99",
        "lost",
        "SLA missed",
        "accuracy",
    ]);
    for (name, model) in &outcome.models {
        table.add_row([
            name.to_string(),
            super::number(&model.offered),
            super::number(&model.throughput),
            super::time(&model.mean),
            super::time(&model.p50),
            super::time(&model.p95),
            super::time(&model.p99),
            super::share(&model.loss),
            super::share(&model.violations),
            super::share(&model.accuracy),
        ]);
    }
    println!("{table}");
    let mut table = output::table([
        "model",
        "arm",
        "share",
        "mean",
        "SLA held",
        "accuracy",
        "forecast / response",
        "partial",
    ]);
    for (name, model) in &outcome.models {
        for (arm, told) in &model.arms {
            table.add_row([
                name.to_string(),
                arm.clone(),
                super::share(&told.share),
                super::time(&told.response),
                super::share(&told.held),
                super::share(&told.accuracy),
                format!("{:.2}", told.forecast.mean()),
                super::share(&told.partial),
            ]);
        }
    }
    println!("{table}");
    let busiest = outcome
        .nodes
        .iter()
        .max_by(|a, b| a.1.mean().total_cmp(&b.1.mean()));
    if let Some((node, busy)) = busiest {
        println!("busiest node: {node}, {} of its cores", super::share(busy));
    }
    println!(
        "{} W · {} plans after the first · {} retries/s · policy {}",
        super::number(&outcome.watts),
        super::number(&outcome.plans),
        super::number(&outcome.retried),
        scenario.policy(),
    );
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let (events, requests) = (outcome.events as f64, outcome.requests as f64);
    println!(
        "{} runs, seed {}, 95 % intervals · {:.1} s, {:.2} million events a second, {:.1} µs a request",
        outcome.runs(),
        scenario.seed.0,
        seconds,
        events / seconds / 1e6,
        seconds / requests.max(1.0) * 1e6,
    );
}
