//! Several models on one fleet: each placed anew beside the others until nothing gets better.
//!
//! Best responses in turn (Gauss and Seidel's order), from every model where it is best alone and from an empty fleet
//! that fills up: what comes out is judged with everything in it, and the best that was seen is kept, so turns that go in circles
//! do no harm.

use super::{Room, arm_by_arm, cost, excess};
use crate::{
    Outcome, Placed, Problem, Solution,
    joint::{met, places, weights},
    problem::ArmProblem,
};

/// Turns of every model at most. Most settle within two.
const TURNS: usize = 4;

/// What places are worth to all; less is better, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Judged {
    unplaced: usize,
    /// Share of requests lost beyond what may be, by weight.
    excess: f64,
    seconds: f64,
}

impl Judged {
    fn is_better(&self, other: &Self) -> bool {
        if self.unplaced != other.unplaced {
            return self.unplaced < other.unplaced;
        }
        let by = other.excess - self.excess;
        by > 1e-9 || (by > -1e-9 && self.seconds < other.seconds * (1.0 - 1e-9))
    }
}

/// The best of `alone` and of what turns make of it. Costs [`TURNS`] times two solutions of each model.
pub(super) fn settled(problem: &Problem, alone: Vec<Outcome>) -> Solution {
    let mut busy: Vec<usize> = problem
        .arms
        .iter()
        .filter(|arm| arm.arrival_rate > 0.0)
        .map(|arm| arm.model)
        .collect();
    busy.sort_unstable();
    busy.dedup();
    if busy.len() < 2 {
        return Solution { arms: alone };
    }
    let turns = turns(problem);
    let mut best = judged(problem, alone.clone());
    let empty = alone.iter().map(|_| Outcome::Unplaced(String::new()));
    for begin in [empty.collect(), alone] {
        let mut now: Vec<Outcome> = begin;
        for _ in 0..TURNS {
            let before = places(&Solution { arms: now.clone() });
            for arms in &turns {
                respond(problem, &mut now, arms);
            }
            let (seen, told) = judged(problem, now.clone());
            if seen.is_better(&best.0) {
                best = (seen, told);
            }
            if places(&Solution { arms: now.clone() }) == before {
                break;
            }
        }
    }
    Solution { arms: best.1 }
}

/// The arms of each model, those of the highest priority first.
fn turns(problem: &Problem) -> Vec<Vec<usize>> {
    let first = |arm: &ArmProblem| (std::cmp::Reverse(arm.bounds.priority), arm.model);
    let mut keys: Vec<_> = problem.arms.iter().map(first).collect();
    keys.sort_unstable();
    keys.dedup_by_key(|key| key.1);
    let arms = |model: usize| -> Vec<usize> {
        let arms = problem.arms.iter().enumerate();
        arms.filter(|(_, arm)| arm.model == model)
            .map(|(number, _)| number)
            .collect()
    };
    keys.into_iter().map(|(_, model)| arms(model)).collect()
}

/// Places the arms of one model anew, in the memory that the others leave and beside what they do. Keeps what is there
/// where fewer would have a place.
fn respond(problem: &Problem, now: &mut [Outcome], arms: &[usize]) {
    let mut others = now.to_vec();
    for &arm in arms {
        others[arm] = Outcome::Unplaced(String::new());
    }
    let met = met(
        problem,
        &places(&Solution {
            arms: others.clone(),
        }),
    );
    let mut room = Room::new(problem);
    for (arm, outcome) in problem.arms.iter().zip(&others) {
        if let Outcome::Placed(placed) = outcome {
            room.take(problem, arm, &placed.branches);
        }
    }
    let found = arm_by_arm(&met, arms, &room);
    let count = |outcomes: &mut dyn Iterator<Item = &Outcome>| {
        outcomes
            .filter(|one| matches!(one, Outcome::Placed(_)))
            .count()
    };
    let before = count(&mut arms.iter().map(|&arm| &now[arm]));
    if before <= count(&mut found.iter()) {
        for (&arm, outcome) in arms.iter().zip(found) {
            now[arm] = outcome;
        }
    }
}

/// What places are worth with everything in them, and each with the latency that it has then.
fn judged(problem: &Problem, mut outcomes: Vec<Outcome>) -> (Judged, Vec<Outcome>) {
    let met = met(
        problem,
        &places(&Solution {
            arms: outcomes.clone(),
        }),
    );
    let weights = weights(problem);
    let (mut unplaced, mut lost, mut seconds, mut all) = (0, 0.0, 0.0, 0.0);
    for ((arm, outcome), weight) in problem.arms.iter().zip(&mut outcomes).zip(weights) {
        let Outcome::Placed(Placed {
            branches,
            latency,
            bottleneck,
        }) = outcome
        else {
            unplaced += 1;
            continue;
        };
        (*latency, *bottleneck) = cost(&met, arm, branches);
        lost += weight * excess(&met, arm, branches);
        seconds += weight * *latency;
        all += weight;
    }
    let judged = Judged {
        unplaced,
        excess: if all > 0.0 { lost / all } else { 0.0 },
        seconds: if all > 0.0 { seconds / all } else { 0.0 },
    };
    (judged, outcomes)
}
