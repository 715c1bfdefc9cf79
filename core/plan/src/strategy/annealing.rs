//! Simulated annealing (Kirkpatrick, Gelatt, Vecchi 1983) on whatever judges places.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::{Greedy, Strategy};
use crate::{
    Problem, Solution,
    joint::{Places, places, room, solution, step, unit, worth},
};

/// Steps from one set of places to another, worse ones with a probability that falls as it cools.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Annealing {
    /// Places judged.
    pub steps: u32,
    /// Temperatures at the beginning and at the end, as shares of the cost at the beginning.
    pub heat: (f64, f64),
}

impl Default for Annealing {
    fn default() -> Self {
        Self {
            steps: 4000,
            heat: (0.1, 1e-4),
        }
    }
}

impl Annealing {
    /// The best places found from these on, and their cost by `judge`; every one that it is shown fits.
    pub fn improve(
        &self,
        problem: &Problem,
        mut now: Places,
        judge: &mut dyn FnMut(&Places) -> f64,
        seed: u64,
    ) -> (Places, f64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut cost = judge(&now);
        let (mut best, mut least) = (now.clone(), cost);
        if problem.arms.is_empty() || problem.nodes.is_empty() {
            return (best, least);
        }
        // Cost holds hours for what is unplaced: a temperature by that would accept anything.
        let scale = cost.min(worth(problem, &now).seconds.max(cost.min(1.0)));
        let (hot, cold) = self.heat;
        for number in 0..self.steps {
            let share = f64::from(number) / f64::from(self.steps);
            let heat = scale * hot * (cold / hot).powf(share);
            let Some((arm, branches)) = step(problem, &now, &mut rng) else {
                continue;
            };
            let before = now[arm].replace(branches);
            let is_taken = room(problem, &now).is_some() && {
                let new = judge(&now);
                let is_taken = new <= cost || unit(&mut rng) < ((cost - new) / heat).exp();
                if is_taken {
                    cost = new;
                }
                is_taken
            };
            if !is_taken {
                now[arm] = before;
            } else if cost < least {
                best.clone_from(&now);
                least = cost;
            }
        }
        (best, least)
    }
}

impl Strategy for Annealing {
    fn name(&self) -> &'static str {
        "annealing"
    }

    /// Costs O(steps · stages).
    fn solve(&self, problem: &Problem, seed: u64) -> Solution {
        let begin = places(&Greedy.solve(problem, seed));
        let mut judge = |places: &Places| worth(problem, places).cost();
        let (found, _) = self.improve(problem, begin, &mut judge, seed);
        solution(problem, found, &|arm| {
            format!("{}: no place was found that its memory fits", arm.name)
        })
    }
}
