//! From stages to hops: fragments cut, times and memory as well as they are known.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use splitplace_brain::forecast::{self, Backlog};
use splitplace_fleet::NodeId;
use splitplace_onnx::Fragment;
use splitplace_plan::{ArmKind, ArmPlan, FragmentId, Hop, Outcome, Plan, Route, RouteId, Stage};

use super::{
    PlanningError, PlanningInput,
    candidates::{Candidate, Fleet},
};
use crate::measured::Source;

/// What became of a candidate.
pub(super) enum Place {
    Here(Box<Here>),
    /// Why it has no place.
    Nowhere(String),
}

/// An arm with its place.
pub(super) struct Here {
    pub(super) stages: Vec<Vec<Stage>>,
    /// Its routes are not numbered yet.
    pub(super) plan: ArmPlan,
    pub(super) fragments: BTreeMap<FragmentId, Arc<Fragment>>,
    /// Where the worst known of its times comes from.
    pub(super) source: Source,
}

/// Every candidate with its place or the reason for having none.
pub(super) fn all(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    candidates: &[Candidate<'_>],
    outcomes: &[Outcome],
) -> Result<Vec<Place>, PlanningError> {
    let translate = |(candidate, outcome): (&Candidate<'_>, &Outcome)| match outcome {
        Outcome::Placed(placed) => one(input, fleet, candidate, placed.branches.clone()),
        Outcome::Unplaced(why) => Ok(Place::Nowhere(why.clone())),
    };
    candidates.iter().zip(outcomes).map(translate).collect()
}

/// One candidate on these stages.
pub(super) fn one(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    candidate: &Candidate<'_>,
    stages: Vec<Vec<Stage>>,
) -> Result<Place, PlanningError> {
    let mut fragments = BTreeMap::new();
    let mut source = Source::Observed;
    let mut branches = Vec::with_capacity(stages.len());
    for (number, stages) in stages.iter().enumerate() {
        let part = candidate.part(number);
        let mut hops = Vec::with_capacity(stages.len());
        for stage in stages {
            let segments = candidate.segments(number, &stage.segments);
            let fragment = candidate
                .loaded()
                .fragment(candidate.variant, number, segments.clone())
                .map_err(|source| PlanningError::Cut {
                    model: candidate.model().clone(),
                    source,
                })?;
            let on = &candidate.estimates[number][stage.node];
            let service = on.service(segments.clone(), Some(fragment.id));
            source = source.max(service.source);
            hops.push(Hop {
                node: fleet.nodes[stage.node].id.clone(),
                fragment: fragment.id,
                // In the problem's count: one segment where nothing was cut.
                segments: stage.segments.clone(),
                memory_bytes: on.memory(segments.clone(), Some(fragment.id)).0,
                service: service.service,
                bytes_in: part.crossing_bytes(segments.start),
                forward: part.crossing(segments.end).to_vec(),
            });
            fragments.insert(fragment.id, fragment);
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
        accuracy: candidate.variant().accuracy,
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
    })))
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
            line.push(Stage {
                segments: hop.segments.clone(),
                node: fleet.find(&hop.node)?,
            });
        }
        let most = if arm.kind == ArmKind::Chain {
            max_parts
        } else {
            1
        };
        if at != chain.segments.len() || line.len() > most {
            return None;
        }
        stages.push(line);
    }
    Some(stages)
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
