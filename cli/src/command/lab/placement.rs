//! `splitplace lab placement`: strategies over drawn fleets and loads, each judged by simulation on requests
//! that no strategy has seen.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::json;
use splitplace_plan::{
    Annealing, ArmKind, ArmProblem, Bounds, BruteForce, ChainProblem, Exact, Greedy, Integer,
    NodeSpec, Problem, Random, Responses, SegmentSpec, Strategy,
    joint::{Places, Worth, lower_bound, places, worth},
    rules,
};
use splitplace_twin::{
    Seed,
    placement::{Proven, Trial},
    stats::Summary,
    surrogate::Descent,
};

use crate::{
    command::twin,
    output,
    svg::{Plot, Series},
};

#[derive(Debug, Args)]
pub(crate) struct Placement {
    /// Sizes of fleets.
    #[arg(long, value_delimiter = ',', default_value = "2,3,5,10,20,50,100")]
    nodes: Vec<usize>,
    /// Loads: share of what the fleet could do if all work went anywhere for nothing.
    #[arg(long, value_delimiter = ',', default_value = "0.2,0.5,0.8")]
    load: Vec<f64>,
    /// Fleets drawn of each size, with arms and links.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// The seed that all others come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests of the run that judges.
    #[arg(long, default_value_t = 50_000)]
    requests: u64,
    /// Write everything to this file as JSON, and plots beside it.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Segments of a model.
const SEGMENTS: usize = 8;
/// A promise is this many times the least that an arm can take on average.
const PROMISE: f64 = 3.0;
/// Nodes up to which the integer programme is written down here.
const INTEGER: usize = 10;
/// Nodes up to which every placement is tried: the optimum of the formulas is known.
const BRUTE_FORCE: usize = 3;
/// Watts of a board at no and at full load, by its power table.
const WATTS: (f64, f64) = (0.45, 1.75);

/// What one strategy showed over the seeds of one cell.
#[derive(Clone, Debug, Default)]
struct Row {
    response: Summary,
    over_bound: Summary,
    /// Expected seconds by `joint::worth` over those of the best of all placements by it, less 1: of the fleets where it
    /// places as much and overloads as little as that.
    over_optimum: Summary,
    /// Fleets where it places less or overloads more than the best of all placements, of those where that is known.
    short: u64,
    loss: Summary,
    violations: Summary,
    watts: Summary,
    decided: Summary,
}

fn strategies(nodes: usize) -> Vec<Box<dyn Strategy>> {
    let mut all: Vec<Box<dyn Strategy>> = vec![
        Box::new(Random),
        Box::new(Greedy),
        Box::new(Exact),
        Box::new(Responses::default()),
        Box::new(Annealing::default()),
        Box::new(Descent::gobi()),
        Box::new(Descent::daso()),
    ];
    if nodes <= INTEGER {
        all.push(Box::new(Integer {
            nodes: 200,
            ..Integer::default()
        }));
    }
    all.push(Box::new(Proven::default()));
    if nodes <= BRUTE_FORCE {
        all.push(Box::new(BruteForce::default()));
    }
    all
}

/// Unequal nodes of 0.5 to 4 GMAC/s on links of 100 Mbit/s and 1 ms; half as many models as nodes, each of
/// eight segments in one to four pieces, none so large that it must be cut.
fn problem(nodes: usize, load: f64, seed: Seed) -> Problem {
    let mut stream = seed.stream("problem", 0);
    let mut draw = |low: f64, high: f64| low * (high / low).powf(stream.unit());
    let speeds: Vec<f64> = (0..nodes).map(|_| draw(0.5e9, 4e9)).collect();
    let arms = nodes.div_ceil(2);
    let models: Vec<(Vec<f64>, Vec<u64>)> = (0..arms)
        .map(|_| {
            let macs = (0..SEGMENTS).map(|_| draw(1e6, 30e6)).collect();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "some kilobytes"
            )]
            let bytes = (0..=SEGMENTS).map(|_| draw(1e3, 60e3) as u64).collect();
            (macs, bytes)
        })
        .collect();
    let work: f64 = models
        .iter()
        .map(|(macs, _)| macs.iter().sum::<f64>())
        .sum();
    let able: f64 = speeds.iter().sum();
    let rate = load * able / work;
    let arm = |(number, (macs, bytes)): (usize, &(Vec<f64>, Vec<u64>))| ArmProblem {
        name: format!("model {number}"),
        model: number,
        kind: ArmKind::Compressed,
        parts: (1, 4),
        chains: vec![ChainProblem {
            segments: macs
                .iter()
                .map(|macs| SegmentSpec {
                    weight_bytes: 500_000,
                    activation_bytes: 100_000,
                    service: speeds.iter().map(|speed| macs / speed).collect(),
                })
                .collect(),
            boundaries: bytes.iter().map(|&bytes| bytes.into()).collect(),
        }],
        arrival_rate: rate,
        arrival_scv: 1.0,
        bounds: Bounds::default(),
    };
    Problem {
        nodes: vec![NodeSpec::of(12_000_000); nodes],
        links: vec![vec![(100e6 / 8.0, 0.001); nodes + 1]; nodes + 1],
        coding: vec![0.0; nodes + 1],
        arms: models.iter().enumerate().map(arm).collect(),
        overhead_bytes: 100_000,
        spread: 0.0,
        places: Problem::PLACES,
        loss_target: Problem::LOSS,
        beside: Vec::new(),
    }
}

/// Watts of all nodes, from the work that is placed on them.
fn watts(problem: &Problem, placed: &Places) -> f64 {
    let mut busy = vec![0.0; problem.nodes.len()];
    for (arm, place) in problem.arms.iter().zip(placed) {
        for (chain, stages) in arm.chains.iter().zip(place.iter().flatten()) {
            for stage in stages {
                let segments = &chain.segments[stage.segments.clone()];
                let seconds: f64 = segments.iter().map(|one| one.service[stage.node]).sum();
                busy[stage.node] += arm.arrival_rate * seconds;
            }
        }
    }
    let (idle, full) = WATTS;
    busy.iter()
        .map(|busy| idle + (full - idle) * busy.min(1.0))
        .sum()
}

pub(super) fn run(args: &Placement) -> anyhow::Result<ExitCode> {
    ensure!(
        args.nodes.iter().all(|nodes| (2..=200).contains(nodes)),
        "--nodes must lie in 2 to 200"
    );
    ensure!(
        args.load.iter().all(|load| (0.01..=2.0).contains(load)),
        "--load must lie in 0.01 to 2"
    );
    let mut cells: BTreeMap<(usize, usize), Vec<(&'static str, Row)>> = BTreeMap::new();
    let all = args.nodes.len() as u64 * args.load.len() as u64 * args.seeds;
    let bar = twin::bar("fleets", all);
    for (size, &nodes) in args.nodes.iter().enumerate() {
        for (heavy, &load) in args.load.iter().enumerate() {
            let mut rows: Vec<(&'static str, Row)> = strategies(nodes)
                .iter()
                .map(|strategy| (strategy.name(), Row::default()))
                .collect();
            for number in 0..args.seeds {
                let seed = Seed(args.seed).child("fleet", number);
                one(args, &mut rows, nodes, load, seed)?;
                bar.inc(1);
            }
            cells.insert((size, heavy), rows);
        }
    }
    bar.finish_and_clear();
    let told = report(args, &cells);
    if let Some(path) = &args.report {
        output::report(path, &told)?;
        for (heavy, load) in args.load.iter().enumerate() {
            for (what, plot) in plots(args, &cells, heavy) {
                let path = path.with_extension(format!("{what}-{load}.svg"));
                output::write(&path, plot.draw())?;
            }
        }
    }
    if args.json {
        output::json(&told)?;
    } else {
        show(args, &cells);
    }
    Ok(ExitCode::SUCCESS)
}

fn one(
    args: &Placement,
    rows: &mut [(&'static str, Row)],
    nodes: usize,
    load: f64,
    seed: Seed,
) -> anyhow::Result<()> {
    let problem = problem(nodes, load, seed);
    let bound = lower_bound(&problem);
    let optimum = (nodes <= BRUTE_FORCE)
        .then(|| BruteForce::default().best(&problem))
        .flatten()
        .map(|(_, places)| worth(&problem, &places));
    let judge = Trial {
        requests: args.requests,
        promise: PROMISE * bound,
        ..Trial::default()
    };
    for (strategy, (_, row)) in strategies(nodes).iter().zip(rows) {
        let begin = Instant::now();
        let solution = strategy.solve(&problem, seed.0);
        row.decided.add(begin.elapsed().as_secs_f64());
        rules::check(&problem, &solution).with_context(|| {
            let name = strategy.name();
            format!(
                "{name} broke a rule on {nodes} nodes at load {load}, seed {}",
                seed.0
            )
        })?;
        let placed = places(&solution);
        if let Some(optimum) = optimum {
            match gap(worth(&problem, &placed), optimum) {
                Some(gap) => row.over_optimum.add(gap),
                None => row.short += 1,
            }
        }
        let shown = judge.run(&problem, &placed, seed.child("judge", 0));
        row.loss.add(shown.loss);
        row.violations.add(shown.violations);
        row.watts.add(watts(&problem, &placed));
        if 0 < shown.response.count() {
            row.response.add(shown.response.mean());
            row.over_bound.add(shown.response.mean() / bound - 1.0);
        }
    }
    Ok(())
}

/// How much slower by formulas than the best of all placements; `None` where less is placed or more is overloaded.
fn gap(found: Worth, optimum: Worth) -> Option<f64> {
    let is_as_good =
        found.unplaced == optimum.unplaced && found.overload <= optimum.overload + 1e-9;
    is_as_good.then(|| found.seconds / optimum.seconds - 1.0)
}

/// `2.10 % ± 0.04`, and the fleets of which no such share can be told.
fn over_optimum(row: &Row) -> String {
    let share = twin::share(&row.over_optimum);
    match row.short {
        0 => share,
        short => format!("{share}; {short} overloaded"),
    }
}

/// What is drawn, in what unit, and where it stands.
type Figure = (&'static str, &'static str, fn(&Row) -> f64);
type Cells = BTreeMap<(usize, usize), Vec<(&'static str, Row)>>;

fn report(args: &Placement, cells: &Cells) -> serde_json::Value {
    let cells = cells.iter().map(|((size, heavy), rows)| {
        let rows = rows.iter().map(|(name, row)| {
            json!({
                "strategy": name,
                "response_seconds": twin::json(&row.response),
                "response_over_bound": twin::json(&row.over_bound),
                "expected_over_optimum": twin::json(&row.over_optimum),
                "fleets_short_of_optimum": row.short,
                "loss": twin::json(&row.loss),
                "sla_violations": twin::json(&row.violations),
                "watts": twin::json(&row.watts),
                "decision_seconds": twin::json(&row.decided),
            })
        });
        json!({
            "nodes": args.nodes[*size],
            "load": args.load[*heavy],
            "strategies": rows.collect::<Vec<_>>(),
        })
    });
    json!({
        "seed": args.seed,
        "seeds": args.seeds,
        "requests": args.requests,
        "confidence": twin::CONFIDENCE,
        "promise_over_bound": PROMISE,
        "cells": cells.collect::<Vec<_>>(),
    })
}

fn show(args: &Placement, cells: &Cells) {
    let mut table = output::table([
        "nodes",
        "load",
        "strategy",
        "mean",
        "over the bound",
        "over the optimum",
        "lost",
        "SLA missed",
        "W",
        "decided in",
    ]);
    for ((size, heavy), rows) in cells {
        for (name, row) in rows {
            table.add_row([
                args.nodes[*size].to_string(),
                args.load[*heavy].to_string(),
                (*name).to_owned(),
                twin::time(&row.response),
                twin::share(&row.over_bound),
                over_optimum(row),
                twin::share(&row.loss),
                twin::share(&row.violations),
                twin::number(&row.watts),
                twin::time(&row.decided),
            ]);
        }
    }
    println!("{table}");
    println!(
        "{} fleets each, {} requests to judge; 95 % intervals; the bound knows no queues and no memory. The optimum is \
         the best of all placements by the formulas (`worth`), up to {BRUTE_FORCE} nodes: what a strategy is over it is by \
         them too, all else is simulated",
        args.seeds, args.requests
    );
}

fn plots(args: &Placement, cells: &Cells, heavy: usize) -> Vec<(&'static str, Plot)> {
    let figures: [Figure; 3] = [
        ("response", "ms", |row| row.response.mean() * 1e3),
        ("violations", "share of requests", |row| {
            row.violations.mean()
        }),
        ("decision", "s", |row| row.decided.mean()),
    ];
    let plot = |(what, y, of): Figure| {
        let mut series: BTreeMap<&'static str, Vec<(f64, f64, bool)>> = BTreeMap::new();
        for ((size, own), rows) in cells {
            for (name, row) in rows.iter().filter(|_| *own == heavy) {
                let nodes = super::real(args.nodes[*size]);
                series
                    .entry(*name)
                    .or_default()
                    .push((nodes, of(row), true));
            }
        }
        let series = series.into_iter().map(|(name, points)| Series {
            name: name.to_owned(),
            points,
        });
        let plot = Plot {
            title: format!("{what} at load {}", args.load[heavy]),
            x: "nodes",
            y,
            log: what == "decision",
            line: None,
            series: series.collect(),
        };
        (what, plot)
    };
    figures.into_iter().map(plot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_below_the_optimum_and_brute_force_is_at_it() {
        let args = Placement {
            nodes: vec![2, 3],
            load: vec![0.2, 0.8],
            seeds: 2,
            seed: 1,
            requests: 50,
            report: None,
            json: false,
        };
        for &nodes in &args.nodes {
            for &load in &args.load {
                let all = strategies(nodes);
                let mut rows: Vec<_> = all.iter().map(|one| (one.name(), Row::default())).collect();
                for number in 0..args.seeds {
                    let seed = Seed(args.seed).child("fleet", number);
                    one(&args, &mut rows, nodes, load, seed).expect("all keep the rules");
                }
                for (name, row) in &rows {
                    assert_eq!(row.over_optimum.count() + row.short, args.seeds, "{name}");
                    let least = match row.over_optimum.count() {
                        0 => 0.0,
                        _ => row.over_optimum.mean(),
                    };
                    assert!(-1e-9 < least, "{name}: {least}");
                    if *name == "brute-force" {
                        assert!(least < 1e-9 && row.short == 0, "{row:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_gap_is_told_only_where_as_much_is_kept() {
        let worth = |unplaced, overload, seconds| Worth {
            unplaced,
            overload,
            seconds,
        };
        let optimum = worth(0, 0.0, 2.0);
        let slower = gap(worth(0, 0.0, 2.5), optimum).expect("nothing is overloaded");
        assert!((slower - 0.25).abs() < 1e-12);
        assert_eq!(gap(worth(0, 0.1, 1.0), optimum), None);
        assert_eq!(gap(worth(1, 0.0, 1.0), optimum), None);
        let row = Row {
            short: 2,
            ..Row::default()
        };
        assert_eq!(over_optimum(&row), "—; 2 overloaded");
    }
}
