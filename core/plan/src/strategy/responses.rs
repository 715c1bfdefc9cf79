//! Several models on one fleet: each placed at its best beside the others, in turn, until nothing gets better.
//!
//! Best responses in Gauss and Seidel's order. What comes out is judged with everything in it, and the best that was
//! seen is kept, so turns that go in circles do no harm. It is the optimum of each model given the others, which need not
//! be the best for all together.

use std::collections::BTreeMap;

use super::{
    Strategy, cost,
    exact::{Room, arm_by_arm, excess, why_not},
};
use crate::{
    Beside, Outcome, Placed, Problem, Solution,
    joint::{Places, weights},
    problem::ArmProblem,
};

/// From an empty fleet that fills up.
///
/// A turn costs one exact solution for each model, of as many nodes as are looked at for an arm: those on which it would be
/// done first beside the load that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Responses {
    /// Nodes looked at for one arm, at most.
    pub nodes: usize,
    /// Turns of every model at most.
    pub turns: usize,
}

impl Default for Responses {
    fn default() -> Self {
        Self { nodes: 6, turns: 3 }
    }
}

impl Strategy for Responses {
    fn name(&self) -> &'static str {
        "responses"
    }

    fn solve(&self, problem: &Problem, _seed: u64) -> Solution {
        let nowhere = vec![None; problem.arms.len()];
        let mut turns = Turns::new(problem, nowhere, self.nodes);
        let best = turns.take(self.turns, None);
        turns.solution(best.map_or_else(|| turns.places.clone(), |(_, places)| places))
    }
}

/// What places are worth to all; less is better, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Judged {
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

/// Whether more than one model has something to do.
pub(super) fn are_several_busy(problem: &Problem) -> bool {
    let mut busy = problem.arms.iter().filter(|arm| arm.arrival_rate > 0.0);
    let first = busy.next();
    first.is_some_and(|first| busy.any(|arm| arm.model != first.model))
}

/// Where everything is while models take turns.
pub(super) struct Turns<'p> {
    problem: &'p Problem,
    /// The same with what a model meets of the others, kept up to date for the one whose turn it is.
    met: Problem,
    pub(super) places: Places,
    nodes: usize,
    /// By model: its arms' numbers, and what they do where they are.
    models: BTreeMap<usize, (Vec<usize>, Beside)>,
    /// Models, those of the highest priority first.
    order: Vec<usize>,
}

impl<'p> Turns<'p> {
    pub(super) fn new(problem: &'p Problem, places: Places, nodes: usize) -> Self {
        let mut models: BTreeMap<usize, (Vec<usize>, Beside)> = BTreeMap::new();
        for (number, arm) in problem.arms.iter().enumerate() {
            models.entry(arm.model).or_default().0.push(number);
        }
        let first = |arm: &ArmProblem| (std::cmp::Reverse(arm.bounds.priority), arm.model);
        let mut order: Vec<_> = problem.arms.iter().map(first).collect();
        order.sort_unstable();
        let mut seen = std::collections::BTreeSet::new();
        let order = order.into_iter().map(|(_, model)| model);
        let mut turns = Self {
            problem,
            met: problem.clone(),
            order: order.filter(|model| seen.insert(*model)).collect(),
            places,
            nodes,
            models,
        };
        let last = turns
            .models
            .last_key_value()
            .map_or(0, |(model, _)| model + 1);
        let beside = &mut turns.met.beside;
        beside.resize(beside.len().max(last), Beside::default());
        for model in turns.order.clone() {
            turns.tell(model);
        }
        turns
    }

    /// So many turns of every model, or fewer when nothing moves any more. The best that was seen, if it is better than what
    /// there was.
    pub(super) fn take(
        &mut self,
        turns: usize,
        mut best: Option<(Judged, Places)>,
    ) -> Option<(Judged, Places)> {
        for _ in 0..turns {
            let before = self.places.clone();
            for model in self.order.clone() {
                self.respond(model);
            }
            let seen = self.judged();
            if best.as_ref().is_none_or(|(known, _)| seen.is_better(known)) {
                best = Some((seen, self.places.clone()));
            }
            if self.places == before {
                break;
            }
        }
        best
    }

    /// Takes up what a model's arms do where they are.
    fn tell(&mut self, model: usize) {
        if let Some((arms, own)) = self.models.get_mut(&model) {
            let lying = arms.iter().filter_map(|&arm| {
                let branches = self.places[arm].as_deref()?;
                Some((&self.problem.arms[arm], branches))
            });
            *own = Beside::of(self.problem, &lying.collect::<Vec<_>>());
        }
    }

    /// Takes up what a model meets of the others.
    fn meet(&mut self, model: usize) {
        let mut beside = self.problem.beside.get(model).cloned().unwrap_or_default();
        for (_, (_, own)) in self.models.iter().filter(|(other, _)| **other != model) {
            beside.add(own, 1.0);
        }
        self.met.beside[model] = beside;
    }

    /// What the arms of other models than this leave.
    fn room(&self, model: Option<usize>) -> Room {
        let mut room = Room::new(self.problem);
        for (arm, place) in self.problem.arms.iter().zip(&self.places) {
            if let Some(branches) = place.as_ref().filter(|_| Some(arm.model) != model) {
                room.take(self.problem, arm, branches);
            }
        }
        room
    }

    /// Places the arms of one model anew, in the memory that the others leave and beside what they do. Keeps what is
    /// there where fewer would have a place.
    fn respond(&mut self, model: usize) {
        self.meet(model);
        let room = self.room(Some(model));
        let Some((arms, _)) = self.models.get(&model) else {
            return;
        };
        let found = arm_by_arm(&self.met, arms, &room, self.nodes);
        let found = found.into_iter().map(|outcome| match outcome {
            Outcome::Placed(placed) => Some(placed.branches),
            Outcome::Unplaced(_) => None,
        });
        let found: Vec<_> = found.collect();
        let before = arms
            .iter()
            .filter(|&&arm| self.places[arm].is_some())
            .count();
        if before <= found.iter().flatten().count() {
            for (&arm, place) in arms.iter().zip(found) {
                self.places[arm] = place;
            }
            self.tell(model);
        }
    }

    /// What the places are worth with everything in them.
    pub(super) fn judged(&mut self) -> Judged {
        for model in self.order.clone() {
            self.meet(model);
        }
        let weights = weights(self.problem);
        let (mut unplaced, mut lost, mut seconds, mut all) = (0, 0.0, 0.0, 0.0);
        for ((arm, place), weight) in self.problem.arms.iter().zip(&self.places).zip(weights) {
            let Some(branches) = place else {
                unplaced += 1;
                continue;
            };
            lost += weight * excess(&self.met, arm, branches);
            seconds += weight * cost(&self.met, arm, branches).0;
            all += weight;
        }
        let mean = |sum: f64| if all > 0.0 { sum / all } else { 0.0 };
        Judged {
            unplaced,
            excess: mean(lost),
            seconds: mean(seconds),
        }
    }

    /// These places, each with the latency that it has with everything in them, or with what is missing.
    pub(super) fn solution(&mut self, places: Places) -> Solution {
        self.places = places;
        for model in self.order.clone() {
            self.tell(model);
        }
        for model in self.order.clone() {
            self.meet(model);
        }
        let free = self.room(None).free;
        let arms = self.problem.arms.iter().zip(&self.places);
        let told = arms.map(|(arm, place)| match place {
            Some(branches) => {
                let (latency, bottleneck) = cost(&self.met, arm, branches);
                Outcome::Placed(Placed {
                    branches: branches.clone(),
                    latency,
                    bottleneck,
                })
            }
            None => Outcome::Unplaced(why_not(self.problem, arm, &free)),
        });
        Solution {
            arms: told.collect(),
        }
    }
}
