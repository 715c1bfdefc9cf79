//! `splitplace lab splitplace`: the experiment of the SplitPlace paper, redone: who decides how requests are split,
//! times who places the pieces, on unequal fleets under rising load, every one on the same requests.

mod world;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::ensure;
use clap::Args;
use serde_json::json;
use splitplace_plan::{Plan, Random, Strategy};
use splitplace_policy::by_name;
use splitplace_twin::{
    Seed, placement::Proven, planner::Fixed, stats::Summary, surrogate::Descent,
    world::run as simulate,
};
use world::{Application, Ground};

use crate::{
    command::twin,
    output,
    svg::{Bar, Bars},
};

#[derive(Debug, Args)]
pub(crate) struct Splitplace {
    /// Folder with the measured packages of the three applications.
    #[arg(long, value_name = "DIR", default_value = "models/packages")]
    packages: PathBuf,
    /// Sizes of fleets: multiples of ten.
    #[arg(long, value_delimiter = ',', default_value = "10,50")]
    nodes: Vec<usize>,
    /// Loads: requests over what the fleet could do if each ran uncut wherever there is time.
    #[arg(long, value_delimiter = ',', default_value = "0.1,0.3,0.5")]
    load: Vec<f64>,
    /// Who decides; all without it.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    decider: Vec<String>,
    /// Who places; all without it.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    placement: Vec<String>,
    /// Runs of each, every one with other requests and other placements.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The seed that all others come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests of a run that count; half as many come before them.
    #[arg(long, default_value_t = 3000)]
    requests: u64,
    /// Requests that a bandit with a training schedule is trained on before.
    #[arg(long, default_value_t = 4000)]
    training: u64,
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

/// The applications' packages and their shares of the requests, as in the released workload.
const APPLICATIONS: [(&str, f64); 3] = [
    ("fashion-mnist", 0.5),
    ("cifar10", 0.25),
    ("mobilenetv2-imagenet", 0.25),
];

/// Who decides how a request is split.
struct Decider {
    name: &'static str,
    policy: &'static str,
    params: &'static [(&'static str, f64)],
    /// Numbers of its training phase, if it has one.
    training: Option<&'static [(&'static str, f64)]>,
}

/// The paper's numbers for estimate and value.
const PAPER: [(&str, f64); 3] = [("phi", 0.9), ("gamma", 0.3), ("c", 0.0)];

const DECIDERS: [Decider; 7] = [
    Decider {
        name: "bandit, trained",
        policy: "two-context",
        params: &PAPER,
        // RBED: at random with a probability that falls as the reward rises.
        training: Some(&[
            ("phi", 0.9),
            ("gamma", 0.3),
            ("c", 0.0),
            ("epsilon", 0.95),
            ("rho", 0.45),
            ("k", 0.1),
        ]),
    },
    Decider {
        name: "bandit, UCB",
        policy: "two-context",
        params: &[("phi", 0.9), ("gamma", 0.3), ("c", 0.5)],
        training: None,
    },
    Decider {
        name: "ours",
        policy: "slack",
        params: &[],
        training: None,
    },
    Decider {
        name: "layer",
        policy: "layer",
        params: &[],
        training: None,
    },
    Decider {
        name: "semantic",
        policy: "semantic",
        params: &[],
        training: None,
    },
    Decider {
        name: "compressed",
        policy: "compressed",
        params: &[],
        training: None,
    },
    Decider {
        name: "random",
        policy: "random",
        params: &[],
        training: None,
    },
];

/// Who places the pieces.
const PLACEMENTS: [&str; 4] = ["daso", "gobi", "random", "ours"];

fn placement(name: &str) -> Box<dyn Strategy> {
    match name {
        "daso" => Box::new(Descent::daso()),
        "gobi" => Box::new(Descent::gobi()),
        "random" => Box::new(Random),
        _ => Box::new(Proven::default()),
    }
}

fn params(numbers: &[(&str, f64)]) -> BTreeMap<String, f64> {
    let named = numbers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value));
    named.collect()
}

/// What a run has shown.
type Figures = [f64; 7];
/// Names of the figures in reports.
const NAMES: [&str; 7] = [
    "response_seconds",
    "sla_violations",
    "accuracy",
    "reward",
    "watts",
    "fairness",
    "loss",
];
const RESPONSE: usize = 0;
const VIOLATIONS: usize = 1;
const ACCURACY: usize = 2;
const REWARD: usize = 3;

/// One decider with one placement on one fleet under one load: the figures of each run.
struct Cell {
    nodes: usize,
    load: f64,
    decider: &'static str,
    placement: &'static str,
    figures: Vec<Figures>,
    /// Seconds that placing took.
    scheduling: Summary,
}

impl Cell {
    fn summary(&self, figure: usize) -> Summary {
        self.figures.iter().map(|one| one[figure]).collect()
    }
}

pub(super) fn run(args: &Splitplace) -> anyhow::Result<ExitCode> {
    check(args)?;
    let mut applications = Vec::new();
    for (name, share) in APPLICATIONS {
        applications.push(Application::open(&args.packages.join(name), share)?);
    }
    let deciders: Vec<&Decider> = DECIDERS
        .iter()
        .filter(|one| args.decider.is_empty() || args.decider.iter().any(|name| name == one.name))
        .collect();
    let placements: Vec<&'static str> = PLACEMENTS
        .into_iter()
        .filter(|one| args.placement.is_empty() || args.placement.iter().any(|name| name == one))
        .collect();
    let mut cells = Vec::new();
    let all = args.nodes.len() * args.load.len() * placements.len();
    let bar = twin::bar("runs", all as u64 * args.seeds);
    for &nodes in &args.nodes {
        for &load in &args.load {
            let ground = |requests: u64, before: u64| {
                Ground::new(&applications, nodes, load, requests, before)
            };
            let judged = ground(args.requests, args.requests / 2)?;
            let trained = ground(args.training.max(1), 0)?;
            for &name in &placements {
                let threads = twin::threads(args.threads);
                let runs = twin::in_parallel(0..args.seeds, threads, &bar, |number| {
                    let seed = Seed(args.seed).child("run", number);
                    let begin = Instant::now();
                    let plan = judged.plan(placement(name), seed.0);
                    let scheduling = begin.elapsed().as_secs_f64();
                    let figures = deciders
                        .iter()
                        .map(|one| figures(one, &judged, &trained, &plan, seed));
                    (scheduling, figures.collect::<Vec<_>>())
                });
                for (at, decider) in deciders.iter().enumerate() {
                    cells.push(Cell {
                        nodes,
                        load,
                        decider: decider.name,
                        placement: name,
                        figures: runs.iter().map(|(_, figures)| figures[at]).collect(),
                        scheduling: runs.iter().map(|(seconds, _)| *seconds).collect(),
                    });
                }
            }
        }
    }
    bar.finish_and_clear();
    let told = report(args, &cells);
    if let Some(path) = &args.report {
        output::report(path, &told)?;
        for (what, plot) in plots(&cells) {
            let path = path.with_extension(format!("{what}.svg"));
            output::write(&path, plot.draw())?;
        }
    }
    if args.json {
        output::json(&told)?;
    } else {
        show(args, &cells);
    }
    Ok(ExitCode::SUCCESS)
}

fn check(args: &Splitplace) -> anyhow::Result<()> {
    ensure!(
        args.nodes
            .iter()
            .all(|nodes| (10..=200).contains(nodes) && nodes % 10 == 0),
        "--nodes must be multiples of 10 up to 200"
    );
    ensure!(
        args.load.iter().all(|load| (0.01..=2.0).contains(load)),
        "--load must lie in 0.01 to 2"
    );
    ensure!(
        (2..=10_000).contains(&args.seeds),
        "--seeds must lie in 2 to 10000"
    );
    ensure!(
        (100..=10_000_000).contains(&args.requests) && args.training <= 10_000_000,
        "--requests must lie in 100 to 10000000, --training in 0 to that"
    );
    for name in &args.decider {
        ensure!(
            DECIDERS.iter().any(|one| one.name == name),
            "no decider is called {name:?}; there are {}",
            DECIDERS.map(|one| one.name).join("; ")
        );
    }
    for name in &args.placement {
        ensure!(
            PLACEMENTS.contains(&&name[..]),
            "nobody who places is called {name:?}; there are {}",
            PLACEMENTS.join(", ")
        );
    }
    Ok(())
}

/// One run. The same seed gives every decider and placement the same requests, promises and service factors.
fn figures(
    decider: &Decider,
    judged: &Ground,
    trained: &Ground,
    plan: &Plan,
    seed: Seed,
) -> Figures {
    #[expect(
        clippy::expect_used,
        reason = "the deciders are constants; a test makes all of them"
    )]
    let policy = |numbers| by_name(decider.policy, &params(numbers)).expect("it is one of ours");
    let fixed = Fixed(plan.clone());
    let mut wise = policy(decider.params);
    if let Some(numbers) = decider.training {
        let report = simulate(
            &trained.world,
            policy(numbers),
            &fixed,
            seed.child("training", 0),
        );
        let mut learnt = report.learnt;
        // What was learnt is used greedily from now on.
        learnt.insert("epsilon".into(), 0.0);
        wise.restore(&learnt);
    }
    let report = simulate(&judged.world, wise, &fixed, seed.child("judged", 0));
    let total = report.total();
    let seconds = report
        .ended
        .since(splitplace_fleet::Timestamp::ZERO)
        .as_secs_f64();
    [
        report.mean_response(),
        total.violations(),
        report.mean_accuracy(),
        report.reward(),
        report.joules() / seconds.max(1e-9),
        report.fairness(),
        total.loss(),
    ]
}

/// By how much one is above another, run by run, over the other; the accuracy in points.
fn gain(better: &Cell, than: &Cell, figure: usize) -> Summary {
    let pairs = better.figures.iter().zip(&than.figures);
    pairs
        .filter(|(_, than)| figure == ACCURACY || than[figure] > 0.0)
        .map(|(one, than)| {
            let difference = one[figure] - than[figure];
            if figure == ACCURACY {
                difference
            } else {
                difference / than[figure]
            }
        })
        .collect()
}

/// The claims: who, against the best of the methods of the paper's day on each fleet and load.
struct Claim {
    who: (&'static str, &'static str),
    nodes: usize,
    load: f64,
    against: (&'static str, &'static str),
    gains: [Summary; 4],
}

/// Methods of the paper's day: one way to split, or a compressed model, placed by GOBI; deciding at random.
const BEFORE: [(&str, &str); 4] = [
    ("layer", "gobi"),
    ("semantic", "gobi"),
    ("compressed", "gobi"),
    ("random", "daso"),
];
/// Who is held against the claims.
const CLAIMANTS: [(&str, &str); 3] = [
    ("bandit, trained", "daso"),
    ("bandit, UCB", "daso"),
    ("ours", "ours"),
];

fn claims(cells: &[Cell]) -> Vec<Claim> {
    let mut found = Vec::new();
    let mut grounds: Vec<(usize, f64)> = Vec::new();
    for cell in cells {
        if grounds.last() != Some(&(cell.nodes, cell.load)) {
            grounds.push((cell.nodes, cell.load));
        }
    }
    for (nodes, load) in grounds {
        let find = |(decider, placement): (&str, &str)| {
            let is_it = |cell: &&Cell| {
                cell.nodes == nodes
                    && cell.load.total_cmp(&load).is_eq()
                    && cell.decider == decider
                    && cell.placement == placement
            };
            cells.iter().find(is_it)
        };
        let before = BEFORE.into_iter().filter_map(find);
        // The best by reward, which is what the paper's bandit is paid for.
        let best = before.max_by(|a, b| {
            let [a, b] = [a, b].map(|cell| cell.summary(REWARD).mean());
            a.total_cmp(&b)
        });
        let Some(best) = best else { continue };
        for who in CLAIMANTS {
            let Some(cell) = find(who) else { continue };
            let gains =
                [RESPONSE, VIOLATIONS, ACCURACY, REWARD].map(|figure| gain(cell, best, figure));
            let against = (best.decider, best.placement);
            found.push(Claim {
                who,
                nodes,
                load,
                against,
                gains,
            });
        }
    }
    found
}

fn report(args: &Splitplace, cells: &[Cell]) -> serde_json::Value {
    let rows = cells.iter().map(|cell| {
        let figures = NAMES.iter().enumerate();
        let figures: serde_json::Map<_, _> = figures
            .map(|(at, name)| ((*name).to_owned(), twin::json(&cell.summary(at))))
            .collect();
        json!({
            "nodes": cell.nodes,
            "load": cell.load,
            "decider": cell.decider,
            "placement": cell.placement,
            "figures": figures,
            "scheduling_seconds": twin::json(&cell.scheduling),
        })
    });
    let claims = claims(cells);
    let claims = claims.iter().map(|claim| {
        let [response, violations, accuracy, reward] = &claim.gains;
        json!({
            "decider": claim.who.0,
            "placement": claim.who.1,
            "nodes": claim.nodes,
            "load": claim.load,
            "against": { "decider": claim.against.0, "placement": claim.against.1 },
            "response": twin::json(response),
            "sla_violations": twin::json(violations),
            "accuracy_points": twin::json(accuracy),
            "reward": twin::json(reward),
        })
    });
    json!({
        "seed": args.seed,
        "seeds": args.seeds,
        "requests": args.requests,
        "training_requests": args.training,
        "confidence": twin::CONFIDENCE,
        "claimed": { "response": -0.46, "sla_violations": -0.69, "accuracy": 0.03, "reward": 0.12 },
        "cells": rows.collect::<Vec<_>>(),
        "claims": claims.collect::<Vec<_>>(),
    })
}

fn show(args: &Splitplace, cells: &[Cell]) {
    let mut table = output::table([
        "nodes",
        "load",
        "decider",
        "placement",
        "response",
        "SLA missed",
        "accuracy",
        "reward",
        "W",
        "fairness",
        "lost",
        "placed in",
    ]);
    for cell in cells {
        let [
            response,
            violations,
            accuracy,
            reward,
            watts,
            fairness,
            loss,
        ] = std::array::from_fn(|at| cell.summary(at));
        table.add_row([
            cell.nodes.to_string(),
            cell.load.to_string(),
            cell.decider.to_owned(),
            cell.placement.to_owned(),
            twin::time(&response),
            twin::share(&violations),
            twin::share(&accuracy),
            twin::share(&reward),
            twin::number(&watts),
            twin::share(&fairness),
            twin::share(&loss),
            twin::time(&cell.scheduling),
        ]);
    }
    println!("{table}");
    let mut table = output::table([
        "nodes",
        "load",
        "who",
        "against",
        "response",
        "SLA missed",
        "accuracy, points",
        "reward",
    ]);
    for claim in claims(cells) {
        let [response, violations, accuracy, reward] = &claim.gains;
        table.add_row([
            claim.nodes.to_string(),
            claim.load.to_string(),
            format!("{} + {}", claim.who.0, claim.who.1),
            format!("{} + {}", claim.against.0, claim.against.1),
            signed(response),
            signed(violations),
            signed(accuracy),
            signed(reward),
        ]);
    }
    table.add_row(
        [
            "",
            "",
            "claimed, at best",
            "",
            "-46 %",
            "-69 %",
            "+3",
            "+12 %",
        ]
        .map(str::to_owned),
    );
    println!("{table}");
    println!(
        "{} runs each of {} requests, all methods on the same; 95 % intervals, in the second table of paired \
         differences; the best of the methods of that day is the one with the most reward",
        args.seeds, args.requests
    );
}

/// `-12.3 % ± 0.4`.
fn signed(summary: &Summary) -> String {
    if summary.count() == 0 {
        return "—".into();
    }
    let estimate = summary.estimate(twin::CONFIDENCE);
    let (mean, half) = (estimate.mean * 100.0, estimate.half_width * 100.0);
    format!("{mean:+.1} % ± {half:.1}")
}

/// A plot for each fleet of violations and of response: loads as groups, the claimants and those before as bars.
fn plots(cells: &[Cell]) -> Vec<(String, Bars)> {
    let who: Vec<(&str, &str)> = CLAIMANTS.into_iter().chain(BEFORE).collect();
    let mut fleets: Vec<usize> = cells.iter().map(|cell| cell.nodes).collect();
    fleets.sort_unstable();
    fleets.dedup();
    let mut plots = Vec::new();
    for nodes in fleets {
        let own: Vec<&Cell> = cells.iter().filter(|cell| cell.nodes == nodes).collect();
        let mut loads: Vec<f64> = own.iter().map(|cell| cell.load).collect();
        loads.dedup();
        for (what, figure, y, scale) in [
            ("violations", VIOLATIONS, "share of requests", 1.0),
            ("response", RESPONSE, "ms", 1e3),
            ("reward", REWARD, "reward", 1.0),
        ] {
            let groups = loads.iter().map(|&load| {
                let bars = who.iter().map(|&(decider, placement)| {
                    let cell = own.iter().find(|cell| {
                        cell.load.total_cmp(&load).is_eq()
                            && cell.decider == decider
                            && cell.placement == placement
                    });
                    let estimate = cell.map(|cell| cell.summary(figure).estimate(twin::CONFIDENCE));
                    Bar {
                        height: estimate.map_or(f64::NAN, |one| one.mean * scale),
                        half_width: estimate.map_or(0.0, |one| one.half_width * scale),
                    }
                });
                (format!("load {load}"), bars.collect())
            });
            let plot = Bars {
                title: format!("{what} on {nodes} nodes"),
                y: y.into(),
                series: who
                    .iter()
                    .map(|(decider, placement)| format!("{decider} + {placement}"))
                    .collect(),
                groups: groups.collect(),
            };
            plots.push((format!("{what}-{nodes}"), plot));
        }
    }
    plots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(
        decider: &'static str,
        placement: &'static str,
        violations: &[f64],
        reward: f64,
    ) -> Cell {
        let figures = violations
            .iter()
            .map(|&missed| [0.1, missed, 0.9, reward, 1.0, 1.0, 0.0]);
        Cell {
            nodes: 10,
            load: 0.5,
            decider,
            placement,
            figures: figures.collect(),
            scheduling: Summary::default(),
        }
    }

    #[test]
    fn every_decider_is_a_policy_with_its_numbers() {
        for decider in &DECIDERS {
            assert!(
                by_name(decider.policy, &params(decider.params)).is_ok(),
                "{}",
                decider.name
            );
            if let Some(numbers) = decider.training {
                assert!(by_name(decider.policy, &params(numbers)).is_ok());
            }
        }
    }

    #[test]
    fn claims_are_held_against_the_best_of_those_before_run_by_run() {
        let cells = [
            cell("layer", "gobi", &[0.5, 0.4], 0.6),
            cell("semantic", "gobi", &[0.4, 0.2], 0.7),
            cell("ours", "ours", &[0.2, 0.1], 0.77),
        ];
        let found = claims(&cells);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].against, ("semantic", "gobi"));
        assert!((found[0].gains[1].mean() + 0.5).abs() < 1e-12);
        assert!((found[0].gains[3].mean() - 0.1).abs() < 1e-9);
        assert!(found[0].gains[2].mean().abs() < 1e-12);
    }
}
