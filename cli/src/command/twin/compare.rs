//! `splitplace twin compare`: policies on a scenario, or with `--live` the twin against running workers.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::json;
use splitplace_twin::{scenario::Outcome, stats::Summary};

use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The scenario's file.
    #[arg(required_unless_present = "live", conflicts_with = "live")]
    scenario: Option<PathBuf>,
    /// The policies, the first being what the others are compared with.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME,…",
        required_unless_present = "live",
        conflicts_with = "live"
    )]
    policy: Vec<String>,
    /// Start fleets of worker processes on shaped links, and hold what the twin predicts of them against what
    /// they do.
    #[arg(long)]
    pub(super) live: bool,
    /// With --live: folder with packages; those that travel in the binary without it.
    #[arg(long, value_name = "DIR", requires = "live")]
    pub(super) packages: Option<PathBuf>,
    /// With --live: models to serve, each in every way.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME,…",
        default_value = "fashion-mnist"
    )]
    pub(super) model: Vec<String>,
    /// With --live: fleets to start, of alone, pair, row and star; all without it.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", requires = "live")]
    pub(super) fleet: Vec<String>,
    /// With --live: loads, as shares of what the busiest node can do.
    #[arg(long, value_delimiter = ',', default_values_t = LOADS)]
    pub(super) load: Vec<f64>,
    /// With --live: how long each load is measured.
    #[arg(long, short = 'd', value_parser = humantime::parse_duration, default_value = "40s")]
    pub(super) duration: Duration,
    /// With --live: of everything random.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// With --live: write everything to this file as JSON.
    #[arg(long, value_name = "FILE", requires = "live")]
    pub(super) report: Option<PathBuf>,
    /// Runs of each; as the file says without it.
    #[arg(long, value_name = "N")]
    pub(super) seeds: Option<u64>,
    /// Threads; 0 for as many as the machine has.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// As JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// Loads that the twin is held against.
pub(super) const LOADS: [f64; 4] = [0.3, 0.6, 0.85, 1.3];

/// One run's figures: mean response, share of promises missed, accuracy, share lost.
type Figures = [f64; 4];
const NAMES: [&str; 4] = ["response_seconds", "sla_violations", "accuracy", "loss"];

pub(super) fn run(args: &Compare) -> anyhow::Result<ExitCode> {
    let path = args.scenario.as_ref().context("which scenario?")?;
    let mut scenario = super::run::read(path)?;
    let runs = args.seeds.unwrap_or(scenario.replications);
    ensure!(
        (2..=100_000).contains(&runs),
        "--seeds must lie in 2 to 100000"
    );
    let threads = super::threads(args.threads);
    let mut all: Vec<(String, Vec<Figures>)> = Vec::new();
    for policy in &args.policy {
        scenario.set_policy(policy, BTreeMap::new())?;
        let bar = super::bar(policy, runs);
        let figures = super::in_parallel(0..runs, threads, &bar, |number| {
            let mut outcome = Outcome::default();
            outcome.add(&scenario.replicate(number));
            let total = outcome.evaluation(super::CONFIDENCE);
            let missed = total.violations.map_or(0.0, |missed| missed.mean);
            [
                total.latency.mean,
                missed,
                total.accuracy.mean,
                total.loss.mean,
            ]
        });
        bar.finish_and_clear();
        all.push((policy.clone(), figures));
    }
    let first = all
        .first()
        .map_or(Vec::new(), |(_, figures)| figures.clone());
    let summaries = |figures: &[Figures]| -> [Summary; 4] {
        std::array::from_fn(|at| figures.iter().map(|one| one[at]).collect())
    };
    let differences = |figures: &[Figures]| -> [Summary; 4] {
        let pairs = || figures.iter().zip(&first);
        std::array::from_fn(|at| pairs().map(|(one, base)| one[at] - base[at]).collect())
    };
    if args.json {
        let rows = all.iter().map(|(policy, figures)| {
            let told = |of: [Summary; 4]| {
                let named = NAMES.iter().zip(of);
                named
                    .map(|(name, summary)| ((*name).to_owned(), super::json(&summary)))
                    .collect::<serde_json::Map<_, _>>()
            };
            json!({
                "policy": policy,
                "is": told(summaries(figures)),
                "against_first": told(differences(figures)),
            })
        });
        output::json(&json!({
            "description": scenario.description,
            "runs": runs,
            "confidence": super::CONFIDENCE,
            "policies": rows.collect::<Vec<_>>(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", scenario.description);
    let mut table = output::table(["policy", "mean response", "SLA missed", "accuracy", "lost"]);
    for (policy, figures) in &all {
        let [response, missed, accuracy, lost] = summaries(figures);
        table.add_row([
            policy.clone(),
            super::time(&response),
            super::share(&missed),
            super::share(&accuracy),
            super::share(&lost),
        ]);
        if policy != &args.policy[0] {
            let [response, missed, accuracy, lost] = differences(figures);
            table.add_row([
                format!("  minus {}", args.policy[0]),
                format!("{} ms", signed(&response, 1e3)),
                signed(&missed, 100.0),
                signed(&accuracy, 100.0),
                signed(&lost, 100.0),
            ]);
        }
    }
    println!("{table}");
    println!("{runs} runs each on the same random numbers; 95 % intervals of paired differences");
    Ok(ExitCode::SUCCESS)
}

/// `-1.23 ± 0.04`, with a star when the interval leaves out 0.
fn signed(summary: &Summary, times: f64) -> String {
    let estimate = summary.estimate(super::CONFIDENCE);
    let (mean, half) = (estimate.mean * times, estimate.half_width * times);
    let star = if mean.abs() > half { " *" } else { "" };
    format!("{mean:+.2} ± {half:.2}{star}")
}
