//! The dense problem and its answer, checked for shape.

use std::iter;

use splitplace_plan::{ArmKind, Beside, Lying, NodeSpec, Outcome, Placed, Problem, Stage};

use super::{
    PlanningError, PlanningInput,
    candidates::{Candidate, Fleet},
};

/// Places all arms.
pub(super) fn solve(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    candidates: &[Candidate<'_>],
) -> Result<Vec<Outcome>, PlanningError> {
    let problem = problem(input, fleet, Left::all(fleet), candidates.iter());
    let solution = input.strategy.solve(&problem, input.seed);
    let is_sound = solution.arms.len() == candidates.len()
        && candidates
            .iter()
            .zip(&solution.arms)
            .all(|(candidate, outcome)| is_possible(fleet, candidate, outcome));
    if !is_sound {
        return Err(PlanningError::Nonsense {
            strategy: input.strategy.name(),
            asked: candidates.len(),
            answered: solution.arms.len(),
        });
    }
    Ok(solution.arms)
}

/// The problem without arms: what tensors cost on the fleet's links.
pub(super) fn links(input: &PlanningInput<'_>, fleet: &Fleet<'_>) -> Problem {
    problem(input, fleet, Left::all(fleet), iter::empty())
}

/// Arms on their stages.
pub(super) type Lies<'c> = (&'c Candidate<'c>, &'c [Vec<Stage>]);

/// The same, with what each model meets of the others where they lie.
pub(super) fn met(input: &PlanningInput<'_>, fleet: &Fleet<'_>, lying: &[Lies<'_>]) -> Problem {
    let mut problem = links(input, fleet);
    problem.beside = beside(input, &problem, lying);
    problem
}

/// The arms that have a place, where they have it.
pub(super) fn lying<'c>(candidates: &'c [Candidate<'c>], outcomes: &'c [Outcome]) -> Vec<Lies<'c>> {
    let lying = candidates.iter().zip(outcomes);
    let lying = lying.filter_map(|(candidate, outcome)| match outcome {
        Outcome::Placed(placed) => Some((candidate, &placed.branches[..])),
        Outcome::Unplaced(_) => None,
    });
    lying.collect()
}

fn beside(input: &PlanningInput<'_>, problem: &Problem, lying: &[Lies<'_>]) -> Vec<Beside> {
    let arms: Vec<Lying<'_>> = lying
        .iter()
        .map(|(candidate, stages)| (&candidate.problem, *stages))
        .collect();
    Beside::all(problem, input.wishes.len(), &arms)
}

/// What the other arms leave of the fleet to one.
#[derive(Clone)]
pub(super) struct Left {
    pub(super) nodes: Vec<NodeSpec>,
    /// By model, what the others' requests do.
    pub(super) beside: Vec<Beside>,
}

impl Left {
    /// Everything.
    fn all(fleet: &Fleet<'_>) -> Self {
        Self {
            nodes: fleet.specs(),
            beside: Vec::new(),
        }
    }
}

/// Places one arm alone, on what these nodes have left.
pub(super) fn solve_one(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    candidate: &Candidate<'_>,
    left: Left,
) -> Option<Placed> {
    let problem = problem(input, fleet, left, [candidate].into_iter());
    let outcome = input.strategy.solve(&problem, input.seed).arms.pop()?;
    match outcome {
        Outcome::Placed(placed)
            if is_possible(fleet, candidate, &Outcome::Placed(placed.clone())) =>
        {
            Some(placed)
        }
        Outcome::Placed(_) | Outcome::Unplaced(_) => None,
    }
}

fn problem<'c>(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    Left { nodes, beside }: Left,
    candidates: impl Iterator<Item = &'c Candidate<'c>>,
) -> Problem {
    Problem {
        nodes,
        links: fleet.links.clone(),
        coding: fleet.coding.clone(),
        arms: candidates
            .map(|candidate| candidate.problem.clone())
            .collect(),
        // What a fragment takes beside its weights is counted with what its segments need once.
        overhead_bytes: 0,
        spread: input.settings.spread,
        places: input.settings.places,
        loss_target: input.settings.loss_target,
        beside,
    }
}

/// What the fleet has left when all placed arms but `without` have taken their share.
pub(super) fn left(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    candidates: &[Candidate<'_>],
    outcomes: &[Outcome],
    without: usize,
) -> Left {
    let lying = lying(candidates, outcomes);
    let mut left = Left {
        beside: beside(input, &links(input, fleet), &lying),
        nodes: fleet.specs(),
    };
    let own = &candidates[without];
    for (candidate, branches) in lying {
        if std::ptr::eq(candidate, own) {
            continue;
        }
        for (chain, stages) in candidate.problem.chains.iter().zip(branches) {
            for stage in stages {
                let taken = super::candidates::promised(chain, &stage.segments);
                let bytes = &mut left.nodes[stage.node].memory_bytes;
                *bytes = bytes.saturating_sub(taken);
            }
        }
    }
    left
}

/// Whether stages name nodes and segments that there are, in order and complete.
fn is_possible(fleet: &Fleet<'_>, candidate: &Candidate<'_>, outcome: &Outcome) -> bool {
    let Outcome::Placed(placed) = outcome else {
        return true;
    };
    let (problem, chains) = (&candidate.problem, &candidate.problem.chains);
    let has_kind = match problem.kind {
        ArmKind::Whole | ArmKind::Semantic => placed.branches.iter().all(|one| one.len() == 1),
        ArmKind::Chain => placed.branches.iter().all(|one| one.len() >= 2),
        ArmKind::Exits | ArmKind::Compressed => placed.branches.iter().all(|one| !one.is_empty()),
    };
    has_kind
        && placed.latency.is_finite()
        && placed.branches.len() == chains.len()
        && problem.bounds.hold(&placed.branches)
        && chains.iter().zip(&placed.branches).all(|(chain, stages)| {
            let mut at = 0;
            let in_order = stages.iter().all(|stage| {
                let follows = stage.segments.start == at && stage.segments.end > at;
                at = stage.segments.end;
                follows && stage.node < fleet.nodes.len()
            });
            in_order && at == chain.segments.len()
        })
}
