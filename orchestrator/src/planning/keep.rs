//! Whether the arms stay where they are: moving costs loading, and measurements are noisy.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use splitplace_fleet::NodeId;
use splitplace_plan::{ArmPlan, ArmProblem, Problem};

use super::{
    PlanningError, PlanningInput,
    candidates::{Candidate, Fleet},
    solve, spread,
    translate::{self, Here, Place},
};

/// Seconds.
const DAY: f64 = 86_400.0;

/// The new places, the parent's, or for each arm the better of both; and whether nothing moves.
///
/// An arm stays where it is unless another place makes it faster by the share of
/// [`inertia`](super::PlanningSettings::inertia) and by [`least_gain`](super::PlanningSettings::least_gain): so
/// a plan moves only what changes. An old place is judged beside other models' old places, a new one beside their new
/// ones. Where the arms do not fit together so, or get in each other's way, or more models would be at the mercy of one
/// node, all stay or all move, by what all together gain.
pub(super) fn keep_or_move(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    candidates: &[Candidate<'_>],
    new: Vec<Place>,
) -> Result<(Vec<Place>, bool), PlanningError> {
    let news = new.iter().map(here);
    let as_new = beside(input, fleet, candidates, news.clone());
    let old = in_old_places(input, fleet, &as_new, candidates, &new)?;
    let olds = old.iter().map(Option::as_deref);
    let as_before: Vec<_> = olds.zip(news).map(|(old, new)| old.or(new)).collect();
    let as_before = beside(input, fleet, candidates, as_before.into_iter());
    let mut mixed = Vec::with_capacity(new.len());
    let (mut stays, mut moves) = (0, 0);
    let (mut before, mut after) = (0.0, 0.0);
    let mut worst = Vec::new();
    for (arm, (old, new)) in old.iter().zip(&new).enumerate() {
        let (Some(old), Place::Here(there)) = (old, new) else {
            mixed.push(new.clone());
            moves += usize::from(matches!(new, Place::Here(_)));
            continue;
        };
        let is_same = old.stages == there.stages && old.plan.branches == there.plan.branches;
        let spec = &candidates[arm].problem;
        let stay = seconds(&as_before, fleet, spec, old);
        let go = seconds(&as_new, fleet, spec, there);
        worst.push((arm, stay.max(go)));
        (before, after) = (before + stay, after + go);
        tracing::debug!(
            arm = candidates[arm].problem.name,
            stay,
            go,
            here = told(old),
            there = told(there),
            "an arm in its old place and in its new one"
        );
        if !is_same && is_worth_it(input, stay, go) {
            moves += 1;
            mixed.push(new.clone());
        } else {
            stays += 1;
            mixed.push(Place::Here(old.clone()));
        }
    }
    if stays == 0 {
        return Ok((new, false));
    }
    let most = at_mercy(input, candidates, &new);
    let may = |placed: &[Place]| fits(fleet, placed) && at_mercy(input, candidates, placed) <= most;
    let together = beside(input, fleet, candidates, mixed.iter().map(here));
    let is_as_good = |(arm, worst): &(usize, f64)| {
        let now = here(&mixed[*arm])
            .map(|here| seconds(&together, fleet, &candidates[*arm].problem, here));
        now.is_none_or(|now| !is_worth_it(input, now, *worst))
    };
    if may(&mixed) && worst.iter().all(is_as_good) {
        return Ok((mixed, moves == 0));
    }
    let all: Option<Vec<Place>> = old
        .into_iter()
        .zip(&new)
        .map(|(old, new)| match (old, new) {
            (Some(old), _) => Some(Place::Here(old)),
            (None, Place::Nowhere(why)) => Some(Place::Nowhere(why.clone())),
            (None, Place::Here(_)) => None,
        })
        .collect();
    match all.filter(|all| may(all) && !is_worth_it(input, before, after)) {
        Some(all) => Ok((all, true)),
        None => Ok((new, false)),
    }
}

pub(super) fn here(place: &Place) -> Option<&Here> {
    match place {
        Place::Here(here) => Some(here),
        Place::Nowhere(_) => None,
    }
}

/// The fleet with what each model meets of the others in these places, one for each candidate.
pub(super) fn beside<'h>(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    candidates: &[Candidate<'_>],
    places: impl Iterator<Item = Option<&'h Here>>,
) -> Problem {
    let lying = candidates.iter().zip(places);
    let lying = lying.filter_map(|(candidate, here)| Some((candidate, &here?.stages[..])));
    solve::met(input, fleet, &lying.collect::<Vec<_>>())
}

/// Where an arm is, and what is expected of its fragments, in words.
fn told(here: &Here) -> String {
    let hops = here.plan.branches.iter().flat_map(|route| &route.hops);
    let hops = hops.map(|hop| {
        let service = (hop.service + hop.coding).as_secs_f64() * 1e3;
        let Range { start, end } = hop.segments;
        format!("{start}–{end} on {} {service:.2} ms", hop.node)
    });
    hops.collect::<Vec<_>>().join(" → ") + " (" + here.source.label() + ")"
}

/// Whether going from so many seconds to so many is worth the loading.
fn is_worth_it(input: &PlanningInput<'_>, before: f64, after: f64) -> bool {
    let settings = &input.settings;
    after < before * (1.0 - settings.inertia) && after + settings.least_gain.as_secs_f64() <= before
}

/// Expected seconds of an arm at its rate beside what else there is: the idle response, and what waiting and crowding cost at its nodes and links. A
/// loss of everything beyond what is allowed counts as a day: that of two which cannot keep up the one that loses less
/// is the better one.
fn seconds(problem: &Problem, fleet: &Fleet<'_>, spec: &ArmProblem, here: &Here) -> f64 {
    let arm = &here.plan;
    let mut work: BTreeMap<&NodeId, f64> = BTreeMap::new();
    for hop in arm.branches.iter().flat_map(|route| &route.hops) {
        *work.entry(&hop.node).or_default() += (hop.service + hop.coding).as_secs_f64() * hop.reach;
    }
    let (waits, lost) = problem.on_links(spec, &here.stages);
    let (mut seconds, mut kept) = (arm.predicted.as_secs_f64() + waits, 1.0 - lost);
    for (node, service) in work {
        // A node that is gone is no place to stay: such arms are not asked about.
        let Some(node) = fleet.find(node) else {
            continue;
        };
        let sojourn = problem.sojourn(spec, node, service);
        seconds += sojourn.seconds - service;
        kept *= 1.0 - sojourn.loss;
    }
    seconds + DAY * (1.0 - kept - problem.may_lose(spec)).max(0.0)
}

fn fits(fleet: &Fleet<'_>, placed: &[Place]) -> bool {
    translate::memory(placed).iter().all(|(node, bytes)| {
        let node = fleet.find(node).map(|number| fleet.nodes[number]);
        node.is_some_and(|node| *bytes <= node.memory_bytes)
    })
}

/// Every arm that has a new place, in its old one; `None` for those that cannot stay.
fn in_old_places(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    problem: &Problem,
    candidates: &[Candidate<'_>],
    new: &[Place],
) -> Result<Vec<Option<Box<Here>>>, PlanningError> {
    let mut old = Vec::with_capacity(new.len());
    for (candidate, new) in candidates.iter().zip(new) {
        let model = input.parent.models.get(candidate.model());
        let model = model.filter(|model| model.version == candidate.loaded().version());
        let arm = model.and_then(|model| {
            let mut arms = model.arms.iter();
            arms.find(|arm| arm.name == candidate.problem.name)
        });
        let max_parts = input.settings.max_parts;
        let stages = arm
            .filter(|_| matches!(new, Place::Here(_)))
            .and_then(|arm| Some((arm, translate::stages(fleet, candidate, arm, max_parts)?)));
        let Some((arm, stages)) = stages else {
            old.push(None);
            continue;
        };
        let hops = |plan: &ArmPlan| -> Vec<_> {
            let hops = plan.branches.iter().flat_map(|route| &route.hops);
            hops.map(|hop| hop.fragment).collect()
        };
        old.push(
            match translate::one(input, fleet, problem, candidate, stages)? {
                // The package may have changed under the same version.
                Place::Here(here) if hops(&here.plan) == hops(arm) => Some(here),
                Place::Here(_) | Place::Nowhere(_) => None,
            },
        );
    }
    Ok(old)
}

/// Number of models of which the loss of one node takes every arm.
fn at_mercy(input: &PlanningInput<'_>, candidates: &[Candidate<'_>], placed: &[Place]) -> usize {
    let wishes = input.wishes.iter();
    wishes
        .filter(|wish| !critical(candidates, placed, wish.loaded.name()).is_empty())
        .count()
}

/// The nodes whose loss takes every arm of a model.
pub(super) fn critical(
    candidates: &[Candidate<'_>],
    placed: &[Place],
    model: &splitplace_plan::ModelName,
) -> BTreeSet<NodeId> {
    let nodes: Vec<BTreeSet<NodeId>> = spread::arms_of(candidates, model)
        .into_iter()
        .filter_map(|arm| match &placed[arm] {
            Place::Here(here) => Some(here.plan.nodes().into_iter().cloned().collect()),
            Place::Nowhere(_) => None,
        })
        .collect();
    spread::common(nodes.iter())
}
