//! Offers placed: one dense problem for the nodes there are, its solution as arms with routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use splitplace_brain::forecast::{self, Backlog};
use splitplace_fleet::{Node, Place, Snapshot};
use splitplace_plan::{
    ArmKind, ArmPlan, ArmProblem, ChainProblem, ExitRule, FragmentId, Hop, ModelName, NodeSpec,
    Outcome, Placed, Problem, Route, RouteId, Stage, Strategy,
};

use super::PlannerSettings;
use crate::TraceHash;

/// An arm that could be, with what it costs on each node of a list that goes with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Whose arm.
    pub model: ModelName,
    /// The variant that it runs.
    pub variant: String,
    /// Validated share of correct answers.
    pub accuracy: Option<f64>,
    /// As a strategy sees it; services in the order of the list of nodes. Its model is numbered when it is placed.
    pub problem: ArmProblem,
}

/// The arms of each model that have a place on these nodes. `coding` is [`Problem::coding`], `next` the
/// number of the next route.
pub(super) fn place(
    offers: &[Offer],
    nodes: &[&Node],
    coding: Vec<f64>,
    snapshot: &Snapshot,
    by: (&dyn Strategy, &PlannerSettings),
    next: &mut u32,
) -> BTreeMap<ModelName, Vec<ArmPlan>> {
    let (strategy, settings) = by;
    let mut arms: BTreeMap<ModelName, Vec<ArmPlan>> = BTreeMap::new();
    if nodes.is_empty() {
        return arms;
    }
    let models: BTreeSet<&ModelName> = offers.iter().map(|offer| &offer.model).collect();
    let numbered = |offer: &Offer| ArmProblem {
        model: models
            .iter()
            .take_while(|name| ***name < offer.model)
            .count(),
        ..offer.problem.clone()
    };
    let problem = Problem {
        nodes: nodes
            .iter()
            .map(|node| NodeSpec {
                cores: node.cores,
                ..NodeSpec::of(node.memory_bytes)
            })
            .collect(),
        links: links(nodes, snapshot),
        coding,
        arms: offers.iter().map(numbered).collect(),
        overhead_bytes: settings.overhead_bytes,
        spread: settings.spread,
        places: Problem::PLACES,
        loss_target: Problem::LOSS,
        beside: Vec::new(),
    };
    let solution = strategy.solve(&problem, settings.seed);
    for (offer, outcome) in offers.iter().zip(&solution.arms) {
        if let Outcome::Placed(placed) = outcome {
            let mut arm = arm(&problem, offer, placed, nodes, next);
            arm.predicted = forecast::response(&arm, 1, &Backlog::default(), snapshot);
            arms.entry(offer.model.clone()).or_default().push(arm);
        }
    }
    arms
}

/// [`Problem::coding`] where a way's times are multiply-accumulates: the centre codes as if it were as fast as the
/// fastest node.
pub(super) fn coding(nodes: &[&Node]) -> Vec<f64> {
    let speeds = nodes.iter().map(|node| node.macs_per_second);
    let fastest = speeds.clone().fold(0.0, f64::max);
    let all = speeds.chain([fastest]);
    all.map(|speed| if speed > 0.0 { 1.0 / speed } else { 0.0 })
        .collect()
}

fn links(nodes: &[&Node], snapshot: &Snapshot) -> Vec<Vec<(f64, f64)>> {
    let mut places: Vec<Place> = nodes.iter().map(|node| Place::from(&node.id)).collect();
    places.push(Place::Center);
    let row = |from: &Place| {
        let links = places.iter().map(|to| snapshot.links.get(from, to));
        links
            .map(|link| (link.rate_bytes_per_second, link.delay.as_secs_f64()))
            .collect()
    };
    places.iter().map(row).collect()
}

/// A placed offer as an arm.
fn arm(
    problem: &Problem,
    offer: &Offer,
    placed: &Placed,
    nodes: &[&Node],
    next: &mut u32,
) -> ArmPlan {
    let mut branches = Vec::with_capacity(placed.branches.len());
    for (number, (chain, stages)) in offer
        .problem
        .chains
        .iter()
        .zip(&placed.branches)
        .enumerate()
    {
        branches.push(Route {
            id: RouteId(*next),
            hops: hops(problem, offer, number, chain, stages, nodes),
            bytes_out: chain.boundaries.last().map_or(0, |last| last.raw_bytes()),
        });
        *next += 1;
    }
    ArmPlan {
        name: offer.problem.name.clone(),
        variant: offer.variant.clone(),
        kind: offer.problem.kind,
        accuracy: offer.accuracy,
        predicted: Duration::ZERO,
        branches,
    }
}

fn hops(
    problem: &Problem,
    offer: &Offer,
    number: usize,
    chain: &ChainProblem,
    stages: &[Stage],
    nodes: &[&Node],
) -> Vec<Hop> {
    let reach = |at: usize| chain.boundaries[at].reach;
    let line: Vec<(usize, Range<usize>)> = stages
        .iter()
        .flat_map(|stage| {
            let ranges = pieces(chain, &stage.segments);
            ranges.into_iter().map(|range| (stage.node, range))
        })
        .collect();
    let mut from = problem.center();
    let mut hops = Vec::with_capacity(line.len());
    let mut exits = 0;
    for (place, (node, range)) in line.iter().enumerate() {
        let way = problem.best_way(&offer.problem, from, *node, &chain.boundaries[range.start]);
        let coding = if from == *node {
            0.0
        } else {
            way.encode * problem.coding[from] + way.decode * problem.coding[*node]
        };
        let codec = line.get(place + 1).map(|(next, _)| {
            let crossing = &chain.boundaries[range.end];
            problem
                .best_way(&offer.problem, *node, *next, crossing)
                .codec
        });
        // The problem counts a segment as often as it is run; a hop says how long one run takes.
        let share = reach(range.start);
        let segments = &chain.segments[range.clone()];
        let seconds: f64 = segments.iter().map(|segment| segment.service[*node]).sum();
        let is_exit = range.end < chain.segments.len() && reach(range.end) < share;
        exits += u32::from(is_exit);
        let mut hop = Hop {
            memory_bytes: problem.memory(chain, range.clone()),
            service: duration(seconds / share),
            bytes_in: way.bytes,
            reach: share,
            coding: duration(coding),
            exits: is_exit.then(|| rule(exits)).into_iter().collect(),
            ..Hop::new(
                nodes[*node].id.clone(),
                fragment(offer, number, range),
                range.clone(),
            )
        };
        hop.codec = codec.unwrap_or(hop.codec);
        hops.push(hop);
        from = *node;
    }
    hops
}

/// A stage cut wherever an exit may answer.
fn pieces(chain: &ChainProblem, stage: &Range<usize>) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = stage.start;
    for at in stage.start + 1..stage.end {
        if chain.boundaries[at].reach < chain.boundaries[at - 1].reach {
            pieces.push(start..at);
            start = at;
        }
    }
    pieces.push(start..stage.end);
    pieces
}

/// An exit that is known by the share of requests that it answers only.
fn rule(number: u32) -> ExitRule {
    ExitRule {
        number,
        name: format!("exit{number}"),
        output: format!("exit{number}"),
        threshold: 1.0,
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// An id that stands for the content: the same part of the same variant has the same.
fn fragment(offer: &Offer, part: usize, segments: &Range<usize>) -> FragmentId {
    let mut hash = TraceHash::default();
    hash.add_text(offer.model.as_str());
    hash.add_text(&offer.variant);
    // A part that was not cut is one segment, whatever it is called when it is.
    let cut = match offer.problem.kind {
        ArmKind::Whole | ArmKind::Semantic => 0,
        ArmKind::Chain | ArmKind::Compressed => 1,
        ArmKind::Exits => 2,
    };
    for word in [part, segments.start, segments.end, cut] {
        hash.add(word as u64);
    }
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_exact_mut(8) {
        hash.add(1);
        chunk.copy_from_slice(&hash.get().to_le_bytes());
    }
    FragmentId(bytes)
}
