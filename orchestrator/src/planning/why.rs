//! Why an arm runs where it does: what else it could do and what it would lose by that, and at which rates of links
//! the choice would be another.
//!
//! An arm's way differs from another in its number of fragments, in the node of some fragment, or in some cut. So the
//! best of what remains when the number is forbidden, when each fragment is held to each other node, and when each cut
//! is taken away, is the best way but the one that is: nothing is left out. Each takes one solution of the arm alone
//! in the memory that the other arms leave.
//!
//! Rates of one link at a time are gone through on a logarithmic grid, and where the choice differs between two
//! neighbours the border is found by halving. A way that is best only within a step of the grid is not seen.

use std::collections::{BTreeMap, BTreeSet};

use splitplace_codec::Codec;
use splitplace_fleet::Place;
use splitplace_plan::{ArmPlan, ArmProblem, ModelName, Outcome, Placed, Problem, Stage, in_words};

use super::{
    PlanningInput,
    candidates::{self, Candidate, Fleet, is_cut},
    solve::{self, Left},
    translate,
};

/// Rates looked at, in bytes a second: 0.1 to 1000 Mbit/s.
const RATES: (f64, f64) = (12_500.0, 125_000_000.0);
/// Steps of the grid.
const STEPS: u32 = 16;
/// Halvings of a step: to a hundredth of it.
const HALVINGS: u32 = 7;
/// Fleets of more nodes have only the links of the way that is looked at.
const SMALL: usize = 3;

/// One way an arm could run.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// In words: `0–4 on attic → 4–9 on cellar`.
    pub way: String,
    /// Expected seconds of one sample.
    pub seconds: f64,
}

/// A rate of a link at which the choice changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Switch {
    /// From where.
    pub from: Place,
    /// To where.
    pub to: Place,
    /// As it is taken to be, in bytes a second.
    pub now: f64,
    /// Where the choice changes.
    pub at: f64,
    /// What would be chosen beyond it.
    pub becomes: String,
}

/// Why one arm runs as it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Why {
    /// As it runs, with its seconds at the load that is planned for.
    pub chosen: Alternative,
    /// Seconds that are expected of it at the load as it is, with nothing on top.
    pub expected: f64,
    /// The best of everything else, with its seconds at the load as it is; `None` when there is nothing else.
    pub runner_up: Option<Alternative>,
    /// By link, the nearest rates below and above the present one.
    pub switches: Vec<Switch>,
}

/// Of each arm of the parent that the fleet still has everything for. Costs some hundred solutions of one arm each.
#[must_use]
pub fn why(input: &PlanningInput<'_>) -> BTreeMap<(ModelName, String), Why> {
    let fleet = Fleet::of(input.snapshot, input.measured);
    let (arms, _) = candidates::list(input, &fleet);
    let in_force: Vec<Option<Vec<Vec<Stage>>>> = arms
        .iter()
        .map(|candidate| {
            let arm = parent_arm(input, candidate)?;
            translate::stages(&fleet, candidate, arm, input.settings.max_parts)
        })
        .collect();
    let outcomes: Vec<Outcome> = in_force
        .iter()
        .map(|stages| match stages {
            Some(branches) => Outcome::Placed(Placed {
                branches: branches.clone(),
                latency: 0.0,
                bottleneck: 0.0,
            }),
            None => Outcome::Unplaced(String::new()),
        })
        .collect();
    let mut all = BTreeMap::new();
    for (number, candidate) in arms.iter().enumerate() {
        let Some(stages) = &in_force[number] else {
            continue;
        };
        let left = solve::left(input, &fleet, &arms, &outcomes, number);
        let look = Look {
            input,
            fleet: &fleet,
            candidate,
            left,
        };
        let key = (candidate.model().clone(), candidate.problem.name.clone());
        all.insert(key, look.why(stages));
    }
    all
}

fn parent_arm<'a>(input: &PlanningInput<'a>, candidate: &Candidate<'_>) -> Option<&'a ArmPlan> {
    let model = input.parent.models.get(candidate.model())?;
    let mut arms = model.arms.iter();
    arms.find(|arm| arm.name == candidate.problem.name)
}

/// One arm, with what the others leave.
struct Look<'a> {
    input: &'a PlanningInput<'a>,
    fleet: &'a Fleet<'a>,
    candidate: &'a Candidate<'a>,
    left: Left,
}

impl Look<'_> {
    fn why(&self, stages: &[Vec<Stage>]) -> Why {
        let problem = self.problem();
        let arm = &problem.arms[0];
        let seconds = problem.latency(arm, stages);
        let as_it_is = ArmProblem {
            arrival_rate: self.candidate.wish.load.rate_per_second.max(0.0),
            ..arm.clone()
        };
        let expected = problem.latency(&as_it_is, stages);
        let chosen = Alternative {
            way: self.told(&problem, stages),
            seconds,
        };
        let others = self.others(&problem, stages);
        let best = others.iter().min_by(|a, b| a.latency.total_cmp(&b.latency));
        let mut links = self.used(stages);
        if let Some(best) = best {
            links.extend(self.used(&best.branches));
        }
        let center = problem.center();
        if self.fleet.nodes.len() <= SMALL {
            let places = 0..=center;
            let pairs = places
                .clone()
                .flat_map(|from| places.clone().map(move |to| (from, to)));
            links.extend(pairs.filter(|(from, to)| from != to));
        }
        Why {
            chosen,
            expected,
            runner_up: best.map(|best| Alternative {
                way: self.told(&problem, &best.branches),
                seconds: problem.latency(&as_it_is, &best.branches),
            }),
            switches: links
                .into_iter()
                .flat_map(|link| self.switches(&problem, link))
                .collect(),
        }
    }

    /// The arm alone, in the memory that the others leave and beside what they do.
    fn problem(&self) -> Problem {
        let mut problem = solve::links(self.input, self.fleet);
        problem.nodes.clone_from(&self.left.nodes);
        problem.beside.clone_from(&self.left.beside);
        problem.arms = vec![self.candidate.problem.clone()];
        problem
    }

    fn solve(&self, problem: &Problem) -> Option<Placed> {
        let outcome = self
            .input
            .strategy
            .solve(problem, self.input.seed)
            .arms
            .pop()?;
        match outcome {
            Outcome::Placed(placed) => Some(placed),
            Outcome::Unplaced(_) => None,
        }
    }

    /// The best ways with something that the chosen one has forbidden.
    fn others(&self, problem: &Problem, stages: &[Vec<Stage>]) -> Vec<Placed> {
        let mut others = Vec::new();
        let mut try_with = |change: &dyn Fn(&mut ArmProblem) -> bool| {
            let mut other = problem.clone();
            if change(&mut other.arms[0]) {
                others.extend(self.solve(&other));
            }
        };
        let nodes: Vec<usize> = match stages {
            [line] => line.iter().map(|stage| stage.node).collect(),
            branches => branches.iter().flatten().map(|stage| stage.node).collect(),
        };
        for (number, &node) in nodes.iter().enumerate() {
            let pin = problem.arms[0].bounds.pins.get(&number);
            if pin.is_some() {
                continue;
            }
            for other in (0..problem.nodes.len()).filter(|other| *other != node) {
                try_with(&|arm| {
                    arm.bounds.pins.insert(number, other);
                    // A number that the way has not binds nothing: ask for the same number of fragments.
                    if stages.len() == 1 && is_cut(arm.kind) {
                        arm.parts = (nodes.len(), nodes.len());
                    }
                    true
                });
            }
        }
        if let ([line], true) = (stages, is_cut(problem.arms[0].kind)) {
            let count = line.len();
            let segments = problem.arms[0].chains[0].segments.len();
            for stage in &line[..count - 1] {
                let cut = stage.segments.end;
                try_with(&|arm| {
                    let all = || (1..segments).collect::<BTreeSet<usize>>();
                    arm.bounds.cuts.get_or_insert_with(all).remove(&cut);
                    arm.parts = (count, count);
                    true
                });
            }
            try_with(&|arm| {
                arm.parts.1 = arm.parts.1.min(count - 1);
                arm.parts.0 <= arm.parts.1
            });
            try_with(&|arm| {
                arm.parts.0 = arm.parts.0.max(count + 1);
                arm.parts.0 <= arm.parts.1
            });
        }
        others.retain(|placed| placed.branches != stages);
        others
    }

    /// The links that a way goes over.
    fn used(&self, stages: &[Vec<Stage>]) -> BTreeSet<(usize, usize)> {
        let center = self.fleet.nodes.len();
        let mut used = BTreeSet::new();
        for line in stages {
            let mut from = center;
            for stage in line {
                used.insert((from, stage.node));
                from = stage.node;
            }
            used.insert((from, center));
        }
        used.retain(|(from, to)| from != to);
        used
    }

    /// The nearest rates of one link, below and above the present one, at which the best way is another than it is
    /// at the present one.
    fn switches(&self, problem: &Problem, (from, to): (usize, usize)) -> Vec<Switch> {
        let now = problem.links[from][to].0;
        let with = |rate: f64| {
            let mut other = problem.clone();
            other.links[from][to].0 = rate;
            other
        };
        let at = |rate: f64| self.solve(&with(rate)).map(|placed| placed.branches);
        let present = at(now);
        let grid = (0..=STEPS)
            .map(|step| RATES.0 * (RATES.1 / RATES.0).powf(f64::from(step) / f64::from(STEPS)));
        let grid: Vec<f64> = grid.collect();
        let mut below = grid.iter().rev().copied().filter(|rate| *rate < now);
        let mut above = grid.iter().copied().filter(|rate| *rate > now);
        let border = |rates: &mut dyn Iterator<Item = f64>| -> Option<Switch> {
            // Beyond the grid, the choice is the one at its end.
            let mut same = now.clamp(RATES.0, RATES.1);
            for rate in rates {
                let mut becomes = at(rate);
                if becomes == present {
                    same = rate;
                    continue;
                }
                let mut other = rate;
                for _ in 0..HALVINGS {
                    let middle = (same * other).sqrt();
                    let there = at(middle);
                    if there == present {
                        same = middle;
                    } else {
                        (other, becomes) = (middle, there);
                    }
                }
                return Some(Switch {
                    from: self.place(from),
                    to: self.place(to),
                    now,
                    at: other,
                    becomes: becomes
                        .map_or_else(|| "nowhere".into(), |way| self.told(&with(other), &way)),
                });
            }
            None
        };
        let found = [border(&mut below), border(&mut above)];
        found.into_iter().flatten().collect()
    }

    fn place(&self, number: usize) -> Place {
        let node = self.fleet.nodes.get(number);
        node.map_or(Place::Center, |node| Place::from(&node.id))
    }

    /// As [`splitplace_plan::described`], of stages.
    fn told(&self, problem: &Problem, stages: &[Vec<Stage>]) -> String {
        let arm = &self.candidate.problem;
        let branches = stages.iter().zip(&arm.chains).map(|(line, chain)| {
            in_words(line.iter().enumerate().map(|(place, stage)| {
                let codec = line.get(place + 1).map_or(Codec::RAW, |next| {
                    let crossing = &chain.boundaries[next.segments.start];
                    let (from, to) = (stage.node, next.node);
                    problem.best_way(arm, from, to, crossing).codec
                });
                let node = &self.fleet.nodes[stage.node].id;
                (stage.segments.clone(), node, codec)
            }))
        });
        branches.collect::<Vec<_>>().join(" | ")
    }
}
