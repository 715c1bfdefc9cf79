//! From stages to hops: fragments cut, times and memory as well as they are known.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use splitplace_brain::forecast::{self, Backlog};
use splitplace_codec::Codec;
use splitplace_fleet::NodeId;
use splitplace_onnx::Fragment;
use splitplace_plan::{
    ArmPlan, ExitRule, FragmentId, Hop, Outcome, Plan, Problem, Route, RouteId, Stage,
};

use super::{
    PlanningError, PlanningInput,
    candidates::{self, Candidate, Fleet, is_cut},
    solve,
};
use crate::{catalog::LoadedExit, measured::Source};

/// What became of a candidate.
#[derive(Clone)]
pub(super) enum Place {
    Here(Box<Here>),
    /// Why it has no place.
    Nowhere(String),
}

/// An arm with its place.
#[derive(Clone)]
pub(super) struct Here {
    pub(super) stages: Vec<Vec<Stage>>,
    /// Its routes are not numbered yet.
    pub(super) plan: ArmPlan,
    pub(super) fragments: BTreeMap<FragmentId, Arc<Fragment>>,
    /// Where the worst known of its times comes from.
    pub(super) source: Source,
    /// Standard deviation of its services together, in seconds.
    pub(super) deviation: f64,
}

/// Every candidate with its place or the reason for having none.
pub(super) fn all(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    candidates: &[Candidate<'_>],
    outcomes: &[Outcome],
) -> Result<Vec<Place>, PlanningError> {
    let problem = solve::met(input, fleet, &solve::lying(candidates, outcomes));
    let translate = |(candidate, outcome): (&Candidate<'_>, &Outcome)| match outcome {
        Outcome::Placed(placed) => one(input, fleet, &problem, candidate, placed.branches.clone()),
        Outcome::Unplaced(why) => Ok(Place::Nowhere(why.clone())),
    };
    candidates.iter().zip(outcomes).map(translate).collect()
}

/// One candidate on these stages, with tensors coded as the links of `problem` and what is on them make best.
pub(super) fn one(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    problem: &Problem,
    candidate: &Candidate<'_>,
    stages: Vec<Vec<Stage>>,
) -> Result<Place, PlanningError> {
    let mut fragments = BTreeMap::new();
    let mut source = Source::Observed;
    let mut variance = 0.0;
    let mut branches = Vec::with_capacity(stages.len());
    let (center, asked) = (problem.center(), &candidate.problem);
    for (number, stages) in stages.iter().enumerate() {
        let part = candidate.part(number);
        let chain = &candidate.problem.chains[number];
        let fragments_of = |stage: &Stage| {
            let ranges = candidate.fragments(&stage.segments);
            ranges
                .into_iter()
                .map(|range| (stage.node, range))
                .collect::<Vec<_>>()
        };
        let line: Vec<(usize, Range<usize>)> = stages.iter().flat_map(fragments_of).collect();
        let mut hops = Vec::with_capacity(line.len());
        let mut from = center;
        for (place, (node, range)) in line.iter().enumerate() {
            let segments = candidate.segments(number, range);
            let fragment = candidate
                .loaded()
                .fragment(candidate.variant, number, segments.clone())
                .map_err(|source| PlanningError::Cut {
                    model: candidate.model().clone(),
                    source,
                })?;
            let on = &candidate.estimates[number][*node];
            let service = on.service(segments.clone(), Some(fragment.id));
            source = source.max(service.source);
            variance += service.deviation.as_secs_f64().powi(2);
            let way = problem.best_way(asked, from, *node, &chain.boundaries[range.start]);
            let coding = if from == *node {
                0.0
            } else {
                way.encode * problem.coding[from] + way.decode * problem.coding[*node]
            };
            let next = line.get(place + 1);
            let codec = next.map_or(Codec::RAW, |(next, _)| {
                problem
                    .best_way(asked, *node, *next, &chain.boundaries[range.end])
                    .codec
            });
            let exits = candidate.exits().filter(|exit| exit.behind == range.end);
            hops.push(Hop {
                // In the problem's count: one segment where nothing was cut.
                memory_bytes: on.memory(segments.clone(), Some(fragment.id)).0,
                service: service.service,
                bytes_in: way.bytes,
                forward: part.crossing(segments.end).to_vec(),
                reach: candidate.reach(segments.start),
                codec,
                coding: Duration::try_from_secs_f64(coding).unwrap_or(Duration::ZERO),
                exits: exits.map(|exit| rule(candidate, exit)).collect(),
                ..Hop::new(fleet.nodes[*node].id.clone(), fragment.id, range.clone())
            });
            fragments.insert(fragment.id, fragment);
            from = *node;
        }
        branches.push(Route {
            id: RouteId(0),
            hops,
            bytes_out: part.crossing_bytes(part.segments()),
        });
    }
    let mut plan = ArmPlan {
        name: candidate.problem.name.clone(),
        variant: candidate.variant().name.clone(),
        kind: candidate.problem.kind,
        accuracy: candidates::accuracy(candidate.variant(), candidate.problem.kind),
        predicted: Duration::ZERO,
        branches,
    };
    // The very forecast that requests will be routed by, for one sample with nothing before it.
    plan.predicted = forecast::response(&plan, 1, &Backlog::default(), input.snapshot);
    Ok(Place::Here(Box::new(Here {
        stages,
        plan,
        fragments,
        source,
        deviation: f64::sqrt(variance),
    })))
}

/// An exit as the workers are told: its number counts those that never answer too.
fn rule(candidate: &Candidate<'_>, exit: &LoadedExit) -> ExitRule {
    let exits = candidate.variant().exits.iter();
    let before = exits.take_while(|other| other.name != exit.name).count();
    ExitRule {
        number: u32::try_from(before + 1).unwrap_or(u32::MAX),
        name: exit.name.clone(),
        output: exit.output.clone(),
        // The package's own holds where it is higher: accuracy was validated with that.
        threshold: exit
            .threshold
            .max(candidate.wish.asked.min_confidence.unwrap_or(0.0)),
    }
}

/// The stages of an arm of the parent, if the fleet and the model still have everything in it.
pub(super) fn stages(
    fleet: &Fleet<'_>,
    candidate: &Candidate<'_>,
    arm: &ArmPlan,
    max_parts: usize,
) -> Option<Vec<Vec<Stage>>> {
    let chains = &candidate.problem.chains;
    let is_same = arm.kind == candidate.problem.kind
        && arm.variant == candidate.variant().name
        && arm.branches.len() == chains.len();
    if !is_same {
        return None;
    }
    let mut stages = Vec::with_capacity(chains.len());
    for (chain, route) in chains.iter().zip(&arm.branches) {
        let (mut at, mut line) = (0, Vec::new());
        for hop in &route.hops {
            if hop.segments.start != at || hop.segments.end <= at {
                return None;
            }
            at = hop.segments.end;
            let node = fleet.find(&hop.node)?;
            match line.last_mut() {
                // Cut at an exit, not to be placed elsewhere.
                Some(Stage {
                    node: last,
                    segments,
                }) if *last == node => segments.end = at,
                _ => line.push(Stage {
                    segments: hop.segments.clone(),
                    node,
                }),
            }
        }
        let most = if is_cut(arm.kind) { max_parts } else { 1 };
        let (fewest, allowed) = candidate.problem.parts;
        let is_many = line.len() < fewest || most.max(allowed) < line.len();
        if at != chain.segments.len() || is_many {
            return None;
        }
        stages.push(line);
    }
    candidate.problem.bounds.hold(&stages).then_some(stages)
}

/// Bytes that the placed arms take on each node; a fragment that several share counts once.
pub(super) fn memory(placed: &[Place]) -> BTreeMap<NodeId, u64> {
    taken(hops(placed))
}

/// Bytes that the parent takes on each node.
pub(super) fn parent_memory(parent: &Plan) -> BTreeMap<NodeId, u64> {
    taken(parent.routes().flat_map(|route| &route.hops))
}

/// The nodes that cannot hold the parent and these arms at once: bytes needed and bytes there.
pub(super) fn crowded(
    parent: &Plan,
    placed: &[Place],
    fleet: &Fleet<'_>,
) -> BTreeMap<NodeId, (u64, u64)> {
    // Where both hold a fragment, it is there already: the newer estimate counts.
    let both = hops(placed).chain(parent.routes().flat_map(|route| &route.hops));
    let needed = taken(both);
    let new = memory(placed);
    let over = fleet.nodes.iter().filter_map(|node| {
        let needed = needed.get(&node.id).copied().unwrap_or(0);
        let is_over = new.contains_key(&node.id) && needed > node.memory_bytes;
        is_over.then(|| (node.id.clone(), (needed, node.memory_bytes)))
    });
    over.collect()
}

fn hops(placed: &[Place]) -> impl Iterator<Item = &Hop> {
    let here = placed.iter().filter_map(|place| match place {
        Place::Here(here) => Some(here),
        Place::Nowhere(_) => None,
    });
    here.flat_map(|here| &here.plan.branches)
        .flat_map(|route| &route.hops)
}

fn taken<'h>(hops: impl Iterator<Item = &'h Hop>) -> BTreeMap<NodeId, u64> {
    let mut seen = BTreeSet::new();
    let mut taken: BTreeMap<NodeId, u64> = BTreeMap::new();
    for hop in hops {
        if seen.insert((&hop.node, hop.fragment)) {
            let bytes = taken.entry(hop.node.clone()).or_default();
            *bytes = bytes.saturating_add(hop.memory_bytes);
        }
    }
    taken
}
