//! `splitplace lab chainnet`: fragments placed anew by annealing, with each of the judges; what is lost
//! before and after is measured by a long simulation that no judge has seen.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use splitplace_twin::{
    Seed,
    chainnet::{ChainNet, System, Thinned},
    stats::Summary,
};

use crate::{
    command::twin::{self, chainnet::Judge},
    output,
    svg::{Bar, Bars},
};

#[derive(Debug, Args)]
pub(crate) struct Chainnet {
    /// Folder with systems in the published format.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Systems, from the first one on.
    #[arg(long, default_value_t = 200)]
    systems: usize,
    /// Systems that each search judges.
    #[arg(long, default_value_t = 200)]
    steps: u32,
    /// Jobs of a simulation that judges.
    #[arg(long, default_value_t = 3000)]
    arrivals: u64,
    /// Jobs of the simulation that measures.
    #[arg(long, default_value_t = 100_000)]
    truth: u64,
    /// Systems that lose less than this to begin with are left out: nothing can be gained on them.
    #[arg(long, default_value_t = 0.01)]
    least: f64,
    /// Of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; 0 for as many as the machine has.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Write everything to this file as JSON, and a plot beside it.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

const JUDGES: [(Judge, &str); 4] = [
    (Judge::Formulas, "formulas"),
    (Judge::Plain, "graph network, plain"),
    (Judge::Residual, "graph network, residual"),
    (Judge::Simulation, "simulation"),
];

/// What came of one judge.
#[derive(Clone, Debug, Default)]
struct Row {
    before: Summary,
    after: Summary,
    /// (L0 - L*) / L0.
    reduction: Summary,
    seconds: Summary,
}

pub(super) fn run(args: &Chainnet) -> anyhow::Result<ExitCode> {
    let systems = twin::chainnet::systems(&args.data, args.systems)?;
    let measure = |system: &System, number: u64| {
        let found = system.simulate(args.truth, Seed(args.seed).child("truth", number));
        system.loss(found.iter().map(|one| one.throughput))
    };
    let mut rows = Vec::new();
    for (judge, name) in JUDGES {
        let net = judge.net()?;
        let bar = twin::bar(name, systems.len() as u64);
        let threads = twin::threads(args.threads);
        let found = twin::in_parallel(0..systems.len() as u64, threads, &bar, |number| {
            let system = usize::try_from(number)
                .ok()
                .and_then(|at| systems.get(at))?;
            let before = measure(system, number);
            if before < args.least {
                return None;
            }
            let seed = Seed(args.seed).child("search", number);
            let begin = Instant::now();
            let mut loss = |system: &System| {
                let ratios = match (judge, &net) {
                    (Judge::Formulas, _) => Thinned::of(system).ratios(system),
                    (_, Some(net)) => predict(net, system),
                    (_, None) => system.simulate(args.arrivals, seed),
                };
                system.loss(ratios.iter().map(|one| one.throughput))
            };
            let (better, _) = system.improve(args.steps, seed, &mut loss);
            let seconds = begin.elapsed().as_secs_f64();
            Some((before, measure(&better, number), seconds))
        });
        bar.finish_and_clear();
        let mut row = Row::default();
        for (before, after, seconds) in found.into_iter().flatten() {
            row.before.add(before);
            row.after.add(after);
            row.reduction.add((before - after) / before);
            row.seconds.add(seconds);
        }
        rows.push((name, row));
    }
    let told = report(args, &rows);
    if let Some(path) = &args.report {
        let text = serde_json::to_string_pretty(&told)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.with_extension("svg");
        std::fs::write(&path, plot(&rows).draw())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.json {
        output::json(&told)?;
    } else {
        show(args, &rows);
    }
    Ok(ExitCode::SUCCESS)
}

fn predict(net: &ChainNet, system: &System) -> Vec<splitplace_twin::chainnet::Ratios> {
    net.predict(&[system]).pop().unwrap_or_default()
}

fn report(args: &Chainnet, rows: &[(&str, Row)]) -> serde_json::Value {
    let rows = rows.iter().map(|(name, row)| {
        json!({
            "judge": name,
            "systems": row.before.count(),
            "loss_before": twin::json(&row.before),
            "loss_after": twin::json(&row.after),
            "reduction": twin::json(&row.reduction),
            "seconds_a_search": twin::json(&row.seconds),
        })
    });
    json!({
        "seed": args.seed,
        "steps": args.steps,
        "arrivals": args.arrivals,
        "truth_arrivals": args.truth,
        "least_loss": args.least,
        "confidence": twin::CONFIDENCE,
        "judges": rows.collect::<Vec<_>>(),
    })
}

fn show(args: &Chainnet, rows: &[(&str, Row)]) {
    let mut table = output::table([
        "judge",
        "loss before",
        "loss after",
        "(L0 - L*) / L0",
        "a search takes",
    ]);
    for (name, row) in rows {
        table.add_row([
            (*name).to_owned(),
            twin::share(&row.before),
            twin::share(&row.after),
            twin::share(&row.reduction),
            twin::time(&row.seconds),
        ]);
    }
    println!("{table}");
    println!(
        "{} systems that lose at least {} of their jobs, {} steps of annealing each; measured by {} \
         arrivals; 95 % intervals",
        rows.first().map_or(0, |(_, row)| row.before.count()),
        args.least,
        args.steps,
        args.truth
    );
}

fn plot(rows: &[(&str, Row)]) -> Bars {
    let bars = rows.iter().map(|(_, row)| {
        let estimate = row.reduction.estimate(twin::CONFIDENCE);
        Bar {
            height: estimate.mean,
            half_width: estimate.half_width,
        }
    });
    Bars {
        title: "share of the loss that placing anew saves".into(),
        y: "(L0 - L*) / L0".into(),
        series: rows.iter().map(|(name, _)| (*name).to_owned()).collect(),
        groups: vec![("chainnet-val".into(), bars.collect())],
    }
}
