//! Simulated annealing (Kirkpatrick, Gelatt, Vecchi 1983) on whatever judges places.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::{Greedy, Strategy};
use crate::{
    Problem, Solution, Stage,
    joint::{Places, places, room, solution, step, unit, worth},
    standing::Standing,
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

/// Places that a search takes its steps on.
trait Ground {
    fn places(&self) -> &Places;
    /// Gives an arm other branches; returns those that it had.
    fn change(&mut self, arm: usize, branches: Option<Branches>) -> Option<Branches>;
    /// What they cost; `None` where memory does not hold them.
    fn cost(&mut self) -> Option<f64>;
    fn into_places(self) -> Places;
}

type Branches = Vec<Vec<Stage>>;

/// Judged anew after each step.
struct Judged<'a> {
    problem: &'a Problem,
    places: Places,
    judge: &'a mut dyn FnMut(&Places) -> f64,
}

impl Ground for Judged<'_> {
    fn places(&self) -> &Places {
        &self.places
    }

    fn change(&mut self, arm: usize, branches: Option<Branches>) -> Option<Branches> {
        std::mem::replace(&mut self.places[arm], branches)
    }

    fn cost(&mut self) -> Option<f64> {
        room(self.problem, &self.places)?;
        Some((self.judge)(&self.places))
    }

    fn into_places(self) -> Places {
        self.places
    }
}

impl Ground for Standing<'_> {
    fn places(&self) -> &Places {
        Standing::places(self)
    }

    fn change(&mut self, arm: usize, branches: Option<Branches>) -> Option<Branches> {
        Standing::change(self, arm, branches)
    }

    fn cost(&mut self) -> Option<f64> {
        self.fits().then(|| self.worth().cost())
    }

    fn into_places(self) -> Places {
        Standing::into_places(self)
    }
}

impl Annealing {
    /// The best places found from these on, and their cost by `judge`; every one that it is shown fits.
    /// O(steps · (stages + judging)).
    pub fn improve(
        &self,
        problem: &Problem,
        begin: Places,
        judge: &mut dyn FnMut(&Places) -> f64,
        seed: u64,
    ) -> (Places, f64) {
        let cost = judge(&begin);
        // Cost holds hours for what is unplaced: a temperature by that would accept anything.
        let seconds = worth(problem, &begin).seconds;
        let ground = Judged {
            problem,
            places: begin,
            judge,
        };
        self.search(problem, ground, cost, seconds, seed)
    }

    /// The same by [`worth`]'s cost, which need not be judged anew: O(steps · (nodes + arms)).
    #[must_use]
    pub fn by_worth(&self, problem: &Problem, begin: Places, seed: u64) -> (Places, f64) {
        let ground = Standing::new(problem, begin);
        let begin = ground.worth();
        self.search(problem, ground, begin.cost(), begin.seconds, seed)
    }

    fn search(
        &self,
        problem: &Problem,
        mut now: impl Ground,
        mut cost: f64,
        seconds: f64,
        seed: u64,
    ) -> (Places, f64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut least = cost;
        if problem.arms.is_empty() || problem.nodes.is_empty() {
            return (now.into_places(), least);
        }
        let scale = cost.min(seconds.max(cost.min(1.0)));
        let (hot, cold) = self.heat;
        // The way back to the best.
        let mut since: Vec<(usize, Option<Branches>)> = Vec::new();
        for number in 0..self.steps {
            let share = f64::from(number) / f64::from(self.steps);
            let heat = scale * hot * (cold / hot).powf(share);
            let Some((arm, branches)) = step(problem, now.places(), &mut rng) else {
                continue;
            };
            let before = now.change(arm, Some(branches));
            let is_taken = |new: &f64| *new <= cost || unit(&mut rng) < ((cost - new) / heat).exp();
            match now.cost().filter(is_taken) {
                None => {
                    now.change(arm, before);
                }
                Some(new) => {
                    cost = new;
                    since.push((arm, before));
                }
            }
            if cost < least {
                least = cost;
                since.clear();
            }
        }
        for (arm, before) in since.into_iter().rev() {
            now.change(arm, before);
        }
        (now.into_places(), least)
    }
}

impl Strategy for Annealing {
    fn name(&self) -> &'static str {
        "annealing"
    }

    /// Costs O(steps · (nodes + arms)).
    fn solve(&self, problem: &Problem, seed: u64) -> Solution {
        let begin = places(&Greedy.solve(problem, seed));
        let (found, _) = self.by_worth(problem, begin, seed);
        solution(problem, found, &|arm| {
            format!("{}: no place was found that its memory fits", arm.name)
        })
    }
}
