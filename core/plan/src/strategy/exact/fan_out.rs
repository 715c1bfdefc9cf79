//! The best assignment of branches to nodes: least time of the slowest, by depth-first search with a bound.

use super::super::{lossiness, slowest, surprise};
use crate::{
    Problem, Stage,
    problem::{ArmProblem, ChainProblem},
};

/// Assignments looked at, begun ones included: beyond, the best found so far stands.
const STEPS: usize = 200_000;

struct Search<'a> {
    problem: &'a Problem,
    arm: &'a ArmProblem,
    /// How many times as slow a node counts.
    factor: &'a dyn Fn(usize) -> f64,
    price: f64,
    /// By branch: the nodes that may hold it, by what it takes there alone.
    nodes: Vec<Vec<usize>>,
    /// By branch: what it and those behind it take at least, of the slowest and of the price of losses.
    rest: Vec<(f64, f64)>,
    best: Option<(f64, Vec<Vec<Stage>>)>,
    steps: usize,
}

/// The best one for a price in seconds for each `-ln(1 - loss)`; branches on one node add up. `None` when none fits.
pub(super) fn best(
    problem: &Problem,
    arm: &ArmProblem,
    nodes: &[usize],
    (free, factor): (&[u64], &dyn Fn(usize) -> f64),
    price: f64,
) -> Option<Vec<Vec<Stage>>> {
    let mut search = Search {
        problem,
        arm,
        factor,
        price,
        nodes: Vec::new(),
        rest: vec![(0.0, 0.0)],
        best: None,
        steps: 0,
    };
    for (number, chain) in arm.chains.iter().enumerate().rev() {
        // Seconds, and what losses cost, of the branch alone on each node.
        let open = nodes.iter().filter(|node| arm.bounds.allow(number, **node));
        let mut alone: Vec<(f64, f64, usize)> = open
            .map(|&node| {
                let (seconds, losses) = search.alone(chain, node);
                (seconds, losses, node)
            })
            .collect();
        let least = |of: &dyn Fn(&(f64, f64, usize)) -> f64| {
            alone.iter().map(of).fold(f64::INFINITY, f64::min)
        };
        // What losses cost on a node is not more for a second branch there by what it costs alone.
        let (seconds, losses) = (least(&|one| one.0), 0.0f64.max(least(&|one| one.1)));
        let behind = search.rest[search.rest.len() - 1];
        search
            .rest
            .push((behind.0.max(seconds), behind.1.max(losses)));
        alone.sort_by(|a, b| (a.0 + a.1).total_cmp(&(b.0 + b.1)).then(a.2.cmp(&b.2)));
        search
            .nodes
            .push(alone.into_iter().map(|one| one.2).collect());
    }
    search.nodes.reverse();
    search.rest.reverse();
    search.visit(&mut Vec::new(), &mut free.to_vec());
    search.best.map(|(_, branches)| branches)
}

impl Search<'_> {
    fn visit(&mut self, chosen: &mut Vec<Vec<Stage>>, free: &mut [u64]) {
        self.steps += 1;
        if STEPS < self.steps {
            return;
        }
        let number = chosen.len();
        let (seconds, losses) = self.cost(chosen);
        let (rest, lost) = self.rest[number];
        let least = seconds.max(rest) + losses.max(lost);
        if self.best.as_ref().is_some_and(|(known, _)| *known <= least) {
            return;
        }
        let Some(chain) = self.arm.chains.get(number) else {
            self.best = Some((least, chosen.clone()));
            return;
        };
        let segments = 0..chain.segments.len();
        let need = self.problem.memory(chain, segments.clone());
        for at in 0..self.nodes[number].len() {
            let node = self.nodes[number][at];
            let mut before = chosen.iter().flatten();
            let is_free = !self.arm.bounds.apart || before.all(|stage| stage.node != node);
            if need <= free[node] && is_free {
                free[node] -= need;
                let segments = segments.clone();
                chosen.push(vec![Stage { segments, node }]);
                self.visit(chosen, free);
                chosen.pop();
                free[node] += need;
            }
        }
    }

    /// Seconds of the slowest of the branches placed so far, and what their losses cost; both grow with every further one.
    fn cost(&self, chosen: &[Vec<Stage>]) -> (f64, f64) {
        let Self { problem, arm, .. } = *self;
        let seconds = slowest(problem, arm, chosen, self.factor);
        (seconds, self.price * lossiness(problem, arm, chosen))
    }

    /// The same of one branch on a node of its own.
    fn alone(&self, chain: &ChainProblem, node: usize) -> (f64, f64) {
        let segments = 0..chain.segments.len();
        let service: f64 = chain.segments.iter().map(|one| one.service[node]).sum();
        let stages = [Stage { segments, node }];
        let (mut seconds, mut lost) = (0.0, 0.0);
        for (from, to, crossing) in chain.legs(&stages, self.problem.center()) {
            let sojourn = self.problem.carry(self.arm, from, to, crossing);
            seconds += sojourn.seconds;
            lost += surprise(sojourn.loss);
        }
        let slowed = service * (self.factor)(node);
        seconds += self.problem.sojourn(self.arm, node, slowed).seconds;
        lost += surprise(self.problem.sojourn(self.arm, node, service).loss);
        (seconds, self.price * lost)
    }
}
