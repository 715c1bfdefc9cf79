//! Where all arms of a model need the same node, one of them is moved off it if that is cheap enough.

use std::collections::{BTreeMap, BTreeSet};

use splitplace_plan::{Outcome, Placed};

use super::{
    PlanningInput,
    candidates::{Candidate, Fleet},
    solve::{self, Left},
};

/// Moves at most one arm of each model: the one that loses least by it.
///
/// An arm is tried off the nodes that all arms need, and off all nodes of each other arm; it counts
/// only if no node is needed by all arms afterwards.
pub(super) fn spread(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    candidates: &[Candidate<'_>],
    outcomes: &mut [Outcome],
) {
    for wish in input.wishes {
        let mut placed: BTreeMap<usize, BTreeSet<usize>> = arms_of(candidates, wish.loaded.name())
            .into_iter()
            .filter_map(|arm| Some((arm, nodes_of(&outcomes[arm])?)))
            .collect();
        let critical = common(placed.values());
        if placed.len() < 2 || critical.is_empty() {
            continue;
        }
        let mut best: Option<(f64, usize, Placed)> = None;
        for arm in placed.keys().copied().collect::<Vec<_>>() {
            let Outcome::Placed(before) = &outcomes[arm] else {
                continue;
            };
            let left = solve::left(input, fleet, candidates, outcomes, arm);
            let others = placed.iter().filter(|(other, _)| **other != arm);
            let mut avoid: BTreeSet<&BTreeSet<usize>> = others.map(|(_, nodes)| nodes).collect();
            avoid.insert(&critical);
            let mut tried = Vec::new();
            for nodes in avoid {
                let left = without(left.clone(), nodes);
                tried.extend(solve::solve_one(input, fleet, &candidates[arm], left));
            }
            for after in tried {
                let moved = stages_nodes(&after);
                let stays = placed.insert(arm, moved).unwrap_or_default();
                let is_safe = common(placed.values()).is_empty();
                placed.insert(arm, stays);
                let times = after.latency / before.latency;
                let is_better = best.as_ref().is_none_or(|(least, _, _)| times < *least);
                if is_safe && is_better && times <= input.settings.resilience {
                    best = Some((times, arm, after));
                }
            }
        }
        if let Some((_, arm, after)) = best {
            outcomes[arm] = Outcome::Placed(after);
        }
    }
}

/// Numbers of the arms of one model.
pub(super) fn arms_of(
    candidates: &[Candidate<'_>],
    model: &splitplace_plan::ModelName,
) -> Vec<usize> {
    let numbered = candidates.iter().enumerate();
    numbered
        .filter(|(_, candidate)| candidate.model() == model)
        .map(|(number, _)| number)
        .collect()
}

fn nodes_of(outcome: &Outcome) -> Option<BTreeSet<usize>> {
    match outcome {
        Outcome::Placed(placed) => Some(stages_nodes(placed)),
        Outcome::Unplaced(_) => None,
    }
}

fn stages_nodes(placed: &Placed) -> BTreeSet<usize> {
    let stages = placed.branches.iter().flatten();
    stages.map(|stage| stage.node).collect()
}

/// What is in every one of the sets; nothing when there is none.
pub(super) fn common<'a, T: Ord + Clone + 'a>(
    mut sets: impl Iterator<Item = &'a BTreeSet<T>>,
) -> BTreeSet<T> {
    let first = sets.next().cloned().unwrap_or_default();
    sets.fold(first, |common, set| &common & set)
}

/// The same nodes, with no room on these.
pub(super) fn without(mut left: Left, nodes: &BTreeSet<usize>) -> Left {
    for &node in nodes {
        left.nodes[node].memory_bytes = 0;
    }
    left
}
