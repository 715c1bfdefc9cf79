//! The baselines: arm by arm where it is fastest now, and anywhere.

use std::cmp::Reverse;

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

/// Arms by number, those of a higher priority first.
fn by_priority(problem: &Problem) -> Vec<usize> {
    let mut order: Vec<usize> = (0..problem.arms.len()).collect();
    order.sort_by_key(|arm| Reverse(problem.arms[*arm].bounds.priority));
    order
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
        for number in by_priority(problem) {
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
    for (branch, chain) in arm.chains.iter().enumerate() {
        let count = chain.segments.len();
        let cuts: Vec<usize> = (1..count).filter(|at| arm.bounds.may_cut(*at)).collect();
        // In pieces of as many segments each as can be, more of them where fewer do not fit.
        let fits = (arm.parts.0..=arm.parts.1.min(cuts.len() + 1)).find_map(|parts| {
            let mut stages: Vec<Stage> = Vec::new();
            let mut free = free.clone();
            let border = |part: usize| match part {
                0 => 0,
                _ if part == parts => count,
                _ => cuts[part * (cuts.len() + 1) / parts - 1],
            };
            for part in 0..parts {
                let segments = border(part)..border(part + 1);
                let need = problem.memory(chain, segments.clone());
                let place = if arm.chains.len() > 1 { branch } else { part };
                let later = (part + 1..parts).filter_map(|later| arm.bounds.pins.get(&later));
                let kept: Vec<usize> = later.filter(|_| arm.chains.len() == 1).copied().collect();
                let open = (0..problem.nodes.len()).filter(|&node| {
                    let mut others = branches.iter().flatten();
                    let is_apart = !arm.bounds.apart || others.all(|stage| stage.node != node);
                    need <= free[node]
                        && is_apart
                        && arm.bounds.allow(place, node)
                        && !kept.contains(&node)
                        && stages.iter().all(|stage| stage.node != node)
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
        for number in by_priority(problem) {
            let (arm, place) = (&problem.arms[number], &mut places[number]);
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
