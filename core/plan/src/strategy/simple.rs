//! The baselines: arm by arm where it is fastest now, and anywhere.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::Strategy;
use crate::{
    Problem, Solution, Stage,
    joint::{Places, anywhere, room, solution, take},
    problem::ArmProblem,
    standing::Standing,
};

/// Attempts of [`Random`] for one arm.
const ATTEMPTS: usize = 200;

fn nowhere(arm: &ArmProblem) -> String {
    format!("{}: no place was found that its memory fits", arm.name)
}

/// Each arm after the other, in as few pieces as it may have, each piece on the node that makes the whole
/// of what is placed so far cheapest. Costs O(arms · pieces · nodes · (nodes + arms)).
#[derive(Clone, Copy, Debug, Default)]
pub struct Greedy;

impl Strategy for Greedy {
    fn name(&self) -> &'static str {
        "greedy"
    }

    fn solve(&self, problem: &Problem, _: u64) -> Solution {
        let mut standing = Standing::new(problem, vec![None; problem.arms.len()]);
        for number in 0..problem.arms.len() {
            let found = best(problem, &mut standing, number);
            standing.change(number, found);
        }
        solution(problem, standing.into_places(), &nowhere)
    }
}

fn best(problem: &Problem, standing: &mut Standing<'_>, number: usize) -> Option<Vec<Vec<Stage>>> {
    let arm = &problem.arms[number];
    let mut free = room(problem, standing.places())?;
    let mut branches: Vec<Vec<Stage>> = Vec::new();
    for chain in &arm.chains {
        let count = chain.segments.len();
        // In pieces of as many segments each as can be, more of them where fewer do not fit.
        let fits = (arm.parts.0..=arm.parts.1.min(count)).find_map(|parts| {
            let mut stages: Vec<Stage> = Vec::new();
            let mut free = free.clone();
            for part in 0..parts {
                let segments = part * count / parts..(part + 1) * count / parts;
                let need = problem.memory(chain, segments.clone());
                let open = (0..problem.nodes.len()).filter(|&node| {
                    need <= free[node] && stages.iter().all(|stage| stage.node != node)
                });
                let judged = open.map(|node| {
                    let mut trial = stages.clone();
                    let segments = segments.clone();
                    trial.push(Stage { segments, node });
                    let mut all = branches.clone();
                    all.push(trial);
                    standing.change(number, Some(all));
                    (standing.worth().cost(), node)
                });
                let least = judged.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                let (_, node) = least?;
                free[node] -= need;
                stages.push(Stage { segments, node });
            }
            Some((stages, free))
        });
        standing.change(number, None);
        let (stages, left) = fits?;
        free = left;
        branches.push(stages);
    }
    Some(branches)
}

/// Any places that fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Random;

impl Strategy for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn solve(&self, problem: &Problem, seed: u64) -> Solution {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut free: Vec<u64> = problem.nodes.iter().map(|node| node.memory_bytes).collect();
        let mut places: Places = vec![None; problem.arms.len()];
        for (arm, place) in problem.arms.iter().zip(&mut places) {
            for _ in 0..ATTEMPTS {
                let Some(branches) = anywhere(problem, arm, &mut rng) else {
                    break;
                };
                let mut left = free.clone();
                if take(problem, arm, &branches, &mut left).is_some() {
                    free = left;
                    *place = Some(branches);
                    break;
                }
            }
        }
        solution(problem, places, &nowhere)
    }
}
