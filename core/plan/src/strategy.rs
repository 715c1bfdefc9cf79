//! Strategies: from a problem to a solution.
//!
//! [`Exact`] is optimal arm by arm for fleets of up to [`Exact::NODES`] nodes; larger fleets are first
//! reduced to the nodes that an arm could use best, which is stated as what it is. [`Responses`] is what it does where
//! several models have something to do, quicker. [`Integer`] is the
//! integer programme of the literature, [`Annealing`] searches over all arms together, [`Greedy`] and
//! [`Random`] are what the others have to beat; [`BruteForce`] tries every placement of a small problem, and is what they
//! are held against.

mod annealing;
mod brute_force;
mod exact;
mod integer;
mod responses;
mod simple;

use std::collections::BTreeMap;

pub use annealing::Annealing;
pub use brute_force::BruteForce;
pub use exact::Exact;
pub use integer::Integer;
pub use responses::Responses;
pub use simple::{Greedy, Random};

use crate::{
    joint::{Worth, lower_bound, places, service, worth},
    problem::{ArmProblem, Problem, Solution, Stage},
};

/// Solves placement problems. The same problem and seed give the same solution.
pub trait Strategy: Send + Sync {
    /// Its name in configuration and tables.
    fn name(&self) -> &'static str;

    /// Places what fits and says of the rest why it does not.
    fn solve(&self, problem: &Problem, seed: u64) -> Solution;

    /// Why a solution is what it is, for people: what it is expected to cost, all arms together, and what
    /// no solution can be below.
    fn explain(&self, problem: &Problem, solution: &Solution) -> String {
        let Worth {
            unplaced,
            overload,
            seconds,
        } = worth(problem, &places(solution));
        let least = lower_bound(problem);
        let name = self.name();
        if 0 < unplaced {
            return format!(
                "{name}: {unplaced} of {} arms have no place",
                problem.arms.len()
            );
        }
        if overload > 0.0 {
            return format!("{name}: {overload:.2} nodes' work is more than the nodes can do");
        }
        format!(
            "{name}: {:.3} ms expected; nothing can be below {:.3} ms",
            seconds * 1e3,
            least * 1e3
        )
    }
}

/// `-ln(1 - loss)`: what adds up along a way.
fn surprise(loss: f64) -> f64 {
    -(-loss.min(1.0 - 1e-12)).ln_1p()
}

/// Expected seconds of the slowest branch; services on one node add up.
fn slowest(
    problem: &Problem,
    arm: &ArmProblem,
    branches: &[Vec<Stage>],
    factor: &dyn Fn(usize) -> f64,
) -> f64 {
    let load = loads(arm, branches);
    let lines = arm.chains.iter().zip(branches).map(|(chain, stages)| {
        let links = chain
            .legs(stages, problem.center())
            .map(|(from, to, crossing)| problem.carry(arm, from, to, crossing));
        let nodes = stages.iter().map(|stage| {
            let service = load[&stage.node] * factor(stage.node);
            problem.sojourn(arm, stage.node, service)
        });
        links.chain(nodes).map(|sojourn| sojourn.seconds).sum()
    });
    lines.fold(0.0, f64::max)
}

/// Σ `-ln(1 - loss)` over the nodes of an arm, where what its branches take on one adds up, and over the links.
pub(crate) fn lossiness(problem: &Problem, arm: &ArmProblem, branches: &[Vec<Stage>]) -> f64 {
    let loads = loads(arm, branches).into_iter();
    let on_nodes = loads.map(|(node, service)| problem.sojourn(arm, node, service));
    let lines = arm.chains.iter().zip(branches);
    let legs = lines.flat_map(|(chain, stages)| chain.legs(stages, problem.center()));
    let on_links = legs.map(|(from, to, crossing)| problem.carry(arm, from, to, crossing));
    on_nodes
        .chain(on_links)
        .map(|sojourn| surprise(sojourn.loss))
        .sum()
}

/// Seconds that an arm takes of each of its nodes for one sample.
fn loads(arm: &ArmProblem, branches: &[Vec<Stage>]) -> BTreeMap<usize, f64> {
    let mut load: BTreeMap<usize, f64> = BTreeMap::new();
    for (chain, stages) in arm.chains.iter().zip(branches) {
        for stage in stages {
            *load.entry(stage.node).or_default() += service(chain, stage);
        }
    }
    load
}

/// Latency and busiest stage, without the penalty for shared nodes.
pub(crate) fn cost(problem: &Problem, arm: &ArmProblem, branches: &[Vec<Stage>]) -> (f64, f64) {
    let latency = slowest(problem, arm, branches, &|_| 1.0);
    let busiest = loads(arm, branches).into_values().fold(0.0, f64::max);
    (latency, busiest)
}
