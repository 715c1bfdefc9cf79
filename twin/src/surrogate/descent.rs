//! Placement by gradient descent through a surrogate: GOBI and DASO.

use ndarray::Array2;
use splitplace_plan::{
    ArmProblem, Problem, Random, Solution, Stage, Strategy,
    joint::{Places, places, solution},
};

use super::{
    Scene, Surrogate,
    model::{Fed, together},
};
use crate::{
    Seed,
    net::{Adam, AdamSettings, Matrix, Tape, Weights},
};

/// Pieces stand on nodes in shares; their logarithms follow the gradient of the network's response and loss;
/// every few steps the shares are rounded to a placement that keeps memory, bounds and shape, and the best of
/// these by the network is the answer. Begins, as published, at random places; how requests are cut is given,
/// not sought.
#[derive(Clone, Debug)]
pub struct Descent {
    surrogate: Surrogate,
    /// Steps of each descent.
    pub steps: u32,
    /// Descents, each from other places.
    pub starts: u64,
    /// Length of the first steps.
    pub rate: f64,
}

/// Steps between two roundings.
const ROUND: u32 = 5;
/// How much more than the others the first place of a piece counts, as a logarithm.
const FIRST: f32 = 1.0;
/// What a lost request counts, in units of the work of one.
const LOST: f64 = 20.0;

impl Descent {
    /// Through this network.
    #[must_use]
    pub const fn new(surrogate: Surrogate) -> Self {
        Self {
            surrogate,
            steps: 80,
            starts: 2,
            rate: 0.3,
        }
    }

    /// GOBI: the shipped network that does not know the split decision.
    ///
    /// # Panics
    /// When the files that come with the crate were changed; a test holds them whole.
    #[must_use]
    pub fn gobi() -> Self {
        Self::new(Surrogate::gobi())
    }

    /// DASO: the shipped network that does.
    ///
    /// # Panics
    /// As [`Descent::gobi`].
    #[must_use]
    pub fn daso() -> Self {
        Self::new(Surrogate::daso())
    }

    /// What the network says of shares, in units of the work of one request, and its gradient by share where it
    /// is wanted.
    fn cost(&self, fed: &Fed, weights: &[f64], shares: &Matrix) -> f64 {
        let said = together(&self.surrogate.judge(fed, shares), weights);
        said.response / fed.unit() + LOST * said.loss
    }

    /// The gradient of the logarithm of the cost by the logarithms of the shares.
    fn gradient(&self, fed: &Fed, weights: &[f64], logs: &Matrix) -> (Matrix, Option<Matrix>) {
        use crate::net::Learner as _;
        let mut tape = Tape::new(self.surrogate.weights());
        let given = tape.input(logs.clone());
        let shares = tape.softmax(given);
        let ends = self.surrogate.forward(&mut tape, fed, shares);
        let [response, loss] = ends.map(|end| tape.value(end).clone());
        let rows = response.nrows();
        let weight = |row: usize| if rows == 1 { 1.0 } else { weights[row] };
        let total: f64 = (0..rows)
            .map(|row| {
                weight(row) * (f64::from(response[(row, 0)]) + LOST * f64::from(loss[(row, 0)]))
            })
            .sum();
        let of = |scale: f64| {
            Array2::from_shape_fn((rows, 1), |(row, _)| {
                (scale * weight(row) / total.max(1e-12)) as f32
            })
        };
        let gradients = tape.backward(vec![(ends[0], of(1.0)), (ends[1], of(LOST))]);
        (tape.value(shares).clone(), gradients.input(given).cloned())
    }

    /// One descent: the best placement met.
    fn descend(&self, problem: &Problem, begin: &Places) -> Option<Found> {
        let (scene, nodes) = Scene::of(problem, begin);
        if scene.pieces.is_empty() {
            return None;
        }
        let fed = Fed::new(&scene, self.surrogate.awareness());
        let weights = scene.shares();
        let mut logs = Array2::zeros((scene.pieces.len(), scene.nodes()));
        for (piece, &node) in nodes.iter().enumerate() {
            logs[(piece, node)] = FIRST;
        }
        let mut best: Option<Found> = None;
        let mut holder = Weights::default();
        holder.zeros("shares", scene.pieces.len(), scene.nodes());
        let settings = AdamSettings {
            longest: f32::INFINITY,
            ..AdamSettings::default()
        };
        let mut adam = Adam::new(&holder, settings);
        holder = holder.with_values(vec![logs]);
        for step in 0..self.steps.max(1) {
            let (shares, gradient) = self.gradient(&fed, &weights, &holder.all()[0]);
            if step % ROUND == 0 || step + 1 == self.steps {
                let rounded = round(problem, begin, &shares);
                let (_, nodes) = Scene::of(problem, &rounded);
                // One that leaves something out is worse than any that does not.
                let cost = if nodes.len() == scene.pieces.len() {
                    self.cost(&fed, &weights, &scene.certain(&nodes))
                } else {
                    f64::INFINITY
                };
                let unplaced = rounded.iter().filter(|one| one.is_none()).count();
                let found = Found {
                    unplaced,
                    cost,
                    places: rounded,
                };
                if best.as_ref().is_none_or(|best| found.is_better(best)) {
                    best = Some(found);
                }
            }
            let Some(gradient) = gradient else { break };
            let share = f64::from(step) / f64::from(self.steps);
            let rate = self.rate
                * (0.05 + 0.95 * f64::midpoint(1.0, (std::f64::consts::PI * share).cos()));
            adam.step(&mut holder, &[gradient], rate as f32);
        }
        best
    }
}

/// A placement with what the network says of it.
struct Found {
    unplaced: usize,
    cost: f64,
    places: Places,
}

impl Found {
    fn is_better(&self, than: &Self) -> bool {
        (self.unplaced, self.cost) < (than.unplaced, than.cost)
    }
}

/// Shares as places: each piece, arm by arm, on the node that has most of it among those where it may be.
fn round(problem: &Problem, begin: &Places, shares: &Matrix) -> Places {
    let mut free: Vec<u64> = problem.nodes.iter().map(|node| node.memory_bytes).collect();
    let mut row = 0;
    let arms = problem.arms.iter().zip(begin);
    arms.map(|(arm, place)| {
        let place = place.as_ref()?;
        let first = row;
        row += place.iter().map(Vec::len).sum::<usize>();
        round_arm(problem, arm, place, shares, first, &mut free)
    })
    .collect()
}

fn round_arm(
    problem: &Problem,
    arm: &ArmProblem,
    place: &[Vec<Stage>],
    shares: &Matrix,
    first: usize,
    free: &mut Vec<u64>,
) -> Option<Vec<Vec<Stage>>> {
    let mut left = free.clone();
    let mut row = first;
    let mut branches: Vec<Vec<Stage>> = Vec::with_capacity(place.len());
    for (branch, (chain, stages)) in arm.chains.iter().zip(place).enumerate() {
        let mut new: Vec<Stage> = Vec::with_capacity(stages.len());
        for (number, stage) in stages.iter().enumerate() {
            let need = problem.memory(chain, stage.segments.clone());
            let is_semantic = 1 < arm.chains.len();
            let may = |node: usize| {
                let is_taken = new.iter().any(|one| one.node == node);
                let is_apart =
                    !arm.bounds.apart || branches.iter().flatten().all(|one| one.node != node);
                let number = if is_semantic { branch } else { number };
                need <= left[node] && !is_taken && is_apart && arm.bounds.allow(number, node)
            };
            let open = (0..left.len()).filter(|&node| may(node));
            let node = open.max_by(|&a, &b| {
                let [left, right] = [a, b].map(|node| shares[(row, node)]);
                left.total_cmp(&right).then(b.cmp(&a))
            })?;
            left[node] -= need;
            new.push(Stage {
                segments: stage.segments.clone(),
                node,
            });
            row += 1;
        }
        branches.push(new);
    }
    *free = left;
    Some(branches)
}

impl Strategy for Descent {
    fn name(&self) -> &'static str {
        self.surrogate.awareness().label()
    }

    /// Costs `starts · steps` passes through the network and back, each O(pieces · nodes · columns) and, for
    /// DASO, O(pieces · nodes²).
    fn solve(&self, problem: &Problem, seed: u64) -> Solution {
        let begins = (0..self.starts.max(1)).map(|start| {
            let own = Seed(seed).child("start", start).0;
            places(&Random.solve(&cut(problem), own))
        });
        let found = begins.filter_map(|begin| self.descend(problem, &begin));
        let best = found.reduce(|best, one| if one.is_better(&best) { one } else { best });
        let places = best.map_or_else(|| vec![None; problem.arms.len()], |best| best.places);
        solution(problem, places, &|arm| {
            format!("{}: no place was found that its memory fits", arm.name)
        })
    }
}

/// The problem with the decision made how each arm is cut: in as few pieces as may be and fit somewhere. Idle, so
/// that nothing is left out for its rate.
fn cut(problem: &Problem) -> Problem {
    let most = problem
        .nodes
        .iter()
        .map(|node| node.memory_bytes)
        .max()
        .unwrap_or(0);
    let mut cut = problem.clone();
    for arm in &mut cut.arms {
        let fits = |parts: usize| {
            arm.chains.iter().all(|chain| {
                let count = chain.segments.len();
                (0..parts).all(|part| {
                    let segments = part * count / parts..(part + 1) * count / parts;
                    problem.memory(chain, segments) <= most
                })
            })
        };
        let (fewest, parts) = arm.parts;
        let least = (fewest.max(1)..=parts)
            .find(|&parts| fits(parts))
            .unwrap_or(parts);
        arm.parts = (least, least);
        arm.arrival_rate = 0.0;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surrogate::draw;
    use splitplace_plan::joint::{room, worth};

    #[test]
    fn descent_betters_random_places_keeps_memory_and_repeats() {
        let (mut random, mut daso, mut count) = (0.0, 0.0, 0);
        let strategy = Descent::daso();
        for number in 0..24 {
            let problem = draw(Seed(31), number).problem;
            let solved = places(&strategy.solve(&problem, 7));
            assert!(room(&problem, &solved).is_some());
            assert_eq!(places(&strategy.solve(&problem, 7)), solved);
            let drawn = places(&Random.solve(&cut(&problem), 7));
            let [ours, theirs] = [&solved, &drawn].map(|one| worth(&problem, one));
            if ours.unplaced == 0 && theirs.unplaced == 0 {
                daso += (ours.overload + ours.seconds).ln();
                random += (theirs.overload + theirs.seconds).ln();
                count += 1;
            }
        }
        assert!(count >= 12, "{count}");
        // A third less, as a geometric mean.
        assert!(
            daso < random - 0.4 * f64::from(count),
            "{daso} {random} {count}"
        );
    }

    #[test]
    fn what_bounds_forbid_is_not_done() {
        for number in 0..12 {
            let mut problem = draw(Seed(32), number).problem;
            let nodes = problem.nodes.len();
            for arm in &mut problem.arms {
                arm.bounds.apart = true;
                if arm.parts.1 < nodes && arm.chains.len() < nodes {
                    arm.bounds.nodes = Some((1..nodes).collect());
                }
            }
            let solved = places(&Descent::gobi().solve(&problem, 1));
            for (arm, place) in problem.arms.iter().zip(&solved) {
                assert!(place.as_ref().is_none_or(|place| arm.bounds.hold(place)));
            }
        }
    }
}
