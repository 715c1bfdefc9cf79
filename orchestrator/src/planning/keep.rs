//! Whether the arms stay where they are: moving costs loading, and measurements are noisy.

use std::{collections::BTreeSet, time::Duration};

use splitplace_fleet::NodeId;

use super::{
    PlanningError, PlanningInput,
    candidates::{Candidate, Fleet},
    spread,
    translate::{self, Place},
};

/// The new places, or the parent's; and whether it is the parent's.
///
/// The parent's are kept when they still hold everything that the new ones hold, fit, leave no more
/// models to the mercy of one node, and the new ones would not be faster by the share of
/// [`inertia`](super::PlanningSettings::inertia), all arms together.
pub(super) fn keep_or_move(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    candidates: &[Candidate<'_>],
    new: Vec<Place>,
) -> Result<(Vec<Place>, bool), PlanningError> {
    let Some(old) = in_old_places(input, fleet, candidates, &new)? else {
        return Ok((new, false));
    };
    let fits = translate::memory(&old).iter().all(|(node, bytes)| {
        let node = fleet.find(node).map(|number| fleet.nodes[number]);
        node.is_some_and(|node| *bytes <= node.memory_bytes)
    });
    let is_as_safe = at_mercy(input, candidates, &old) <= at_mercy(input, candidates, &new);
    let (before, after) = (together(&old), together(&new));
    let is_worth_it = after.as_secs_f64() < before.as_secs_f64() * (1.0 - input.settings.inertia);
    if fits && is_as_safe && !is_worth_it {
        Ok((old, true))
    } else {
        Ok((new, false))
    }
}

/// Every arm that has a new place, in its old one; `None` when some cannot stay.
fn in_old_places(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    candidates: &[Candidate<'_>],
    new: &[Place],
) -> Result<Option<Vec<Place>>, PlanningError> {
    let mut old = Vec::with_capacity(new.len());
    for (candidate, new) in candidates.iter().zip(new) {
        if let Place::Nowhere(why) = new {
            old.push(Place::Nowhere(why.clone()));
            continue;
        }
        let model = input.parent.models.get(candidate.model());
        let model = model.filter(|model| model.version == candidate.loaded().version());
        let arm = model.and_then(|model| {
            let mut arms = model.arms.iter();
            arms.find(|arm| arm.name == candidate.problem.name)
        });
        let Some(arm) = arm else {
            return Ok(None);
        };
        let max_parts = input.settings.max_parts;
        let Some(stages) = translate::stages(fleet, candidate, arm, max_parts) else {
            return Ok(None);
        };
        let place = translate::one(input, fleet, candidate, stages)?;
        // The package may have changed under the same version.
        let is_same = matches!(&place, Place::Here(here) if {
            let hops = |plan: &splitplace_plan::ArmPlan| -> Vec<_> {
                let hops = plan.branches.iter().flat_map(|route| &route.hops);
                hops.map(|hop| hop.fragment).collect()
            };
            hops(&here.plan) == hops(arm)
        });
        if !is_same {
            return Ok(None);
        }
        old.push(place);
    }
    Ok(Some(old))
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

fn together(placed: &[Place]) -> Duration {
    let predicted = placed.iter().map(|place| match place {
        Place::Here(here) => here.plan.predicted,
        Place::Nowhere(_) => Duration::ZERO,
    });
    predicted.fold(Duration::ZERO, Duration::saturating_add)
}
