//! Strategies: from a problem to a solution.
//!
//! [`Exact`] is optimal arm by arm for fleets of up to [`Exact::NODES`] nodes; larger fleets are first
//! reduced to the nodes that an arm could use best, which is stated as what it is. [`Integer`] is the
//! integer programme of the literature, [`Annealing`] searches over all arms together, [`Greedy`] and
//! [`Random`] are what the others have to beat.

mod annealing;
mod integer;
mod simple;

use std::collections::BTreeMap;

pub use annealing::Annealing;
pub use integer::Integer;
pub use simple::{Greedy, Random};

use crate::{
    ArmKind, Crossing,
    joint::{Worth, lower_bound, places, service, worth},
    problem::{ArmProblem, ChainProblem, Outcome, Placed, Problem, Solution, Stage},
    station::Sojourn,
};

/// Names that [`by_name`] knows.
pub const STRATEGIES: [&str; 5] = ["exact", "annealing", "integer", "greedy", "random"];

/// The strategy of that name, with what it takes by default; `None` when there is none.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Strategy>> {
    Some(match name {
        "exact" => Box::new(Exact),
        "annealing" => Box::new(Annealing::default()),
        "integer" => Box::new(Integer::default()),
        "greedy" => Box::new(Greedy),
        "random" => Box::new(Random),
        _ => return None,
    })
}

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

/// Least expected latency under memory limits.
///
/// A chain of `k` fragments lies on `k` distinct nodes. For one chain the optimum is found by dynamic
/// programming over (nodes used, segments done, last node): latency is a sum over stages and links, so
/// the best way to reach a state is part of the best way through it. With N nodes, S segments and at
/// most K parts this costs O(C(N, ≤K) · K · S² · N), some 10⁵ steps for 5 nodes and 24 segments.
///
/// The branches of a semantic variant are assigned by exhaustive search with pruning (N^B); branches on
/// one node add up. Arms share memory, so the order in which they are placed matters: every order of up
/// to [`Exact::ORDERS`] arms is tried, and the one that places most arms, then with least total latency,
/// wins; ties go to the earlier order. Arms of a higher priority always come before those of a lower one.
///
/// [`Bounds`](crate::Bounds) only take steps away: the number of a stage is the number of nodes used
/// before it, which every state knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exact;

impl Exact {
    /// Most nodes considered for one arm.
    pub const NODES: usize = 10;
    /// Most arms whose orders are all tried; beyond, they are placed as they come.
    pub const ORDERS: usize = 5;
}

impl Strategy for Exact {
    fn name(&self) -> &'static str {
        "exact"
    }

    fn solve(&self, problem: &Problem, _seed: u64) -> Solution {
        let mut best: Option<(usize, f64, f64, Vec<Outcome>)> = None;
        for order in orders(problem) {
            let outcomes = in_order(problem, &order);
            let (mut placed, mut excess, mut total) = (0, 0.0, 0.0);
            for (arm, outcome) in problem.arms.iter().zip(&outcomes) {
                if let Outcome::Placed(one) = outcome {
                    placed += 1;
                    total += one.latency;
                    excess += (problem.loss(arm, &one.branches) - problem.may_lose(arm)).max(0.0);
                }
            }
            let is_better = best.as_ref().is_none_or(|(most, lost, least, _)| {
                let is_equal = placed == *most && (excess - lost).abs() <= 1e-9;
                placed > *most
                    || (placed == *most && excess < lost - 1e-9)
                    || (is_equal && total < least * (1.0 - 1e-9))
            });
            if is_better {
                best = Some((placed, excess, total, outcomes));
            }
        }
        Solution {
            arms: best.map_or_else(Vec::new, |(_, _, _, outcomes)| outcomes),
        }
    }
}

/// Every order of the arms in which priorities never rise, the natural one first; only that one when
/// there are too many.
fn orders(problem: &Problem) -> Vec<Vec<usize>> {
    let count = problem.arms.len();
    let priority = |arm: &usize| problem.arms[*arm].bounds.priority;
    if Exact::ORDERS < count {
        let mut natural: Vec<usize> = (0..count).collect();
        natural.sort_by_key(|arm| std::cmp::Reverse(priority(arm)));
        return vec![natural];
    }
    let mut all = vec![Vec::new()];
    for _ in 0..count {
        all = all
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..count)
                    .filter(|next| {
                        let last = order.last().map(priority);
                        !order.contains(next) && last.is_none_or(|last| priority(next) <= last)
                    })
                    .map(|next| {
                        let mut longer = order.clone();
                        longer.push(next);
                        longer
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    // An order that began too low cannot be completed.
    all.retain(|order| order.len() == count);
    all
}

fn in_order(problem: &Problem, order: &[usize]) -> Vec<Outcome> {
    let mut free: Vec<u64> = problem.nodes.iter().map(|node| node.memory_bytes).collect();
    let mut used = vec![false; problem.nodes.len()];
    let mut outcomes: Vec<Option<Outcome>> = vec![None; problem.arms.len()];
    for &index in order {
        let arm = &problem.arms[index];
        let outcome = place(problem, arm, &free, &used);
        if let Outcome::Placed(placed) = &outcome {
            for (chain, stages) in arm.chains.iter().zip(&placed.branches) {
                for stage in stages {
                    free[stage.node] -= problem.memory(chain, stage.segments.clone());
                    used[stage.node] = true;
                }
            }
        }
        outcomes[index] = Some(outcome);
    }
    outcomes.into_iter().flatten().collect()
}

fn place(problem: &Problem, arm: &ArmProblem, free: &[u64], used: &[bool]) -> Outcome {
    let nodes = candidates(problem, arm, free);
    let factor = |node: usize| {
        if used[node] {
            1.0 + problem.spread
        } else {
            1.0
        }
    };
    let find = |price: f64| {
        let judge = Judge {
            problem,
            arm,
            factor: &factor,
            price,
        };
        match (&arm.kind, arm.chains.as_slice()) {
            (ArmKind::Semantic, chains) => fan_out(&judge, chains, free, &nodes),
            (_, [chain]) => line(&judge, chain, free, &nodes).map(|one| vec![one]),
            (_, _) => None,
        }
    };
    let Some(branches) = quickest(problem, arm, &find) else {
        return Outcome::Unplaced(why_not(problem, arm, free));
    };
    let (latency, bottleneck) = cost(problem, arm, &branches);
    Outcome::Placed(Placed {
        branches,
        latency,
        bottleneck,
    })
}

/// Halvings of the price of a loss between nothing and everything: to a quarter of a decade. Each costs a solution of the
/// arm, in every order of the arms.
const HALVINGS: u32 = 6;
/// Seconds that a loss of everything is worth to whom it is worth least, and most.
const PRICES: (f64, f64) = (1e-6, 1e9);

/// Light and heavy load as one objective: the quickest places that lose no more than is allowed, and where there are
/// none those that lose least. `find` gives the best places for a price of losses, in seconds for each `-ln(1 - loss)`;
/// the price is the multiplier of the bound, so what lies inside the convex hull of (seconds, loss) is not found. One
/// solution where load is light, two where nothing keeps up, some [`HALVINGS`] between.
fn quickest(
    problem: &Problem,
    arm: &ArmProblem,
    find: &dyn Fn(f64) -> Option<Vec<Vec<Stage>>>,
) -> Option<Vec<Vec<Stage>>> {
    let keeps = |branches: &[Vec<Stage>]| problem.loss(arm, branches) <= problem.may_lose(arm);
    let quickest = find(0.0)?;
    if keeps(&quickest) {
        return Some(quickest);
    }
    let (mut low, mut high) = PRICES;
    let mut best = find(high)?;
    if !keeps(&best) {
        return Some(best);
    }
    for _ in 0..HALVINGS {
        let middle = (low * high).sqrt();
        match find(middle) {
            Some(found) if keeps(&found) => (best, high) = (found, middle),
            _ => low = middle,
        }
    }
    Some(best)
}

/// What places of an arm are judged by.
struct Judge<'a> {
    problem: &'a Problem,
    arm: &'a ArmProblem,
    /// How many times as slow a node counts.
    factor: &'a dyn Fn(usize) -> f64,
    /// Seconds for each `-ln(1 - loss)`.
    price: f64,
}

impl Judge<'_> {
    /// Seconds of a stage, and what its losses cost.
    fn stage(&self, node: usize, service: f64) -> f64 {
        let sojourn = self
            .problem
            .sojourn(self.arm, node, service * (self.factor)(node));
        self.worth(sojourn)
    }

    /// Seconds on a link, and what its losses cost.
    fn link(&self, from: usize, to: usize, crossing: &Crossing) -> f64 {
        self.worth(self.problem.carry(self.arm, from, to, crossing))
    }

    fn worth(&self, sojourn: Sojourn) -> f64 {
        sojourn.seconds + self.price * surprise(sojourn.loss)
    }
}

/// `-ln(1 - loss)`: what adds up along a way.
fn surprise(loss: f64) -> f64 {
    -(-loss.min(1.0 - 1e-12)).ln_1p()
}

/// The nodes worth considering: all of them, or those on which the arm's segments would run fastest
/// among those that can hold at least one.
fn candidates(problem: &Problem, arm: &ArmProblem, free: &[u64]) -> Vec<usize> {
    let is_pinned = |node: usize| arm.bounds.pins.values().any(|pin| *pin == node);
    let fits = |node: usize| {
        let allowed = arm.bounds.nodes.as_ref();
        if allowed.is_some_and(|allowed| !allowed.contains(&node)) {
            return false;
        }
        arm.chains.iter().any(|chain| {
            (0..chain.segments.len()).any(|k| problem.memory(chain, k..k + 1) <= free[node])
        })
    };
    let mut nodes: Vec<usize> = (0..problem.nodes.len())
        .filter(|&node| fits(node))
        .collect();
    if Exact::NODES < nodes.len() {
        let speed = |node: usize| -> f64 {
            let work: f64 = arm
                .chains
                .iter()
                .flat_map(|chain| &chain.segments)
                .map(|s| s.service[node])
                .sum();
            work + problem.transfer(problem.center(), node, &arm.chains[0].boundaries[0])
        };
        nodes.sort_by(|&a, &b| {
            let pinned_first = is_pinned(b).cmp(&is_pinned(a));
            pinned_first
                .then(speed(a).total_cmp(&speed(b)))
                .then(a.cmp(&b))
        });
        nodes.truncate(Exact::NODES);
        nodes.sort_unstable();
    }
    nodes
}

/// The best chain over distinct nodes.
fn line(
    judge: &Judge<'_>,
    chain: &ChainProblem,
    free: &[u64],
    nodes: &[usize],
) -> Option<Vec<Stage>> {
    let (problem, arm) = (judge.problem, judge.arm);
    let (fewest, most) = arm.parts;
    let count = chain.segments.len();
    let center = problem.center();
    let sums = prefix_sums(chain, nodes);
    // Longest range that fits each node from each start, so that memory is computed once.
    let mut reach = vec![vec![0usize; count]; nodes.len()];
    for (ends, &node) in reach.iter_mut().zip(nodes) {
        for (start, slot) in ends.iter_mut().enumerate() {
            let mut end = start;
            while end < count && problem.memory(chain, start..end + 1) <= free[node] {
                end += 1;
            }
            *slot = end;
        }
    }
    // State (nodes used, segments done, last node), dense: the set of used nodes grows with every stage,
    // so going through the sets as numbers visits each state after all that lead to it.
    let most = most.min(nodes.len()).min(count);
    let at =
        |used: usize, done: usize, last: usize| (used * (count + 1) + done) * nodes.len() + last;
    let states = at(1 << nodes.len(), 0, 0);
    let mut least = vec![f64::INFINITY; states];
    // The state before is known by where its stage ended and by the last node; the set follows.
    let mut before: Vec<(usize, usize)> = vec![(0, 0); states];
    let mut best: Option<(usize, f64, (usize, usize))> = None;
    let mut visit =
        |used: usize, start: usize, last: Option<usize>, spent: f64, least: &mut [f64]| {
            let from = last.map_or(center, |last| nodes[last]);
            for (n, &node) in nodes.iter().enumerate() {
                let number = used.count_ones() as usize;
                if used >> n & 1 == 1 || !arm.bounds.allow(number, node) {
                    continue;
                }
                let arrive = spent + judge.link(from, node, &chain.boundaries[start]);
                for end in start + 1..=reach[n][start] {
                    if end < count && !arm.bounds.may_cut(end) {
                        continue;
                    }
                    let total = arrive + judge.stage(node, sums[n][end] - sums[n][start]);
                    let state = at(used | 1 << n, end, n);
                    if total < least[state] {
                        least[state] = total;
                        before[state] = (start, last.unwrap_or(n));
                    }
                }
            }
        };
    if 0 < most {
        visit(0, 0, None, 0.0, &mut least);
    }
    for used in 1..1usize << nodes.len() {
        let parts = used.count_ones() as usize;
        for last in (0..nodes.len()).filter(|last| used >> last & 1 == 1) {
            let spent = least[at(used, count, last)];
            let back = judge.link(nodes[last], center, &chain.boundaries[count]);
            let total = spent + back;
            // Fewer stages win among equals.
            let is_better = best
                .is_none_or(|(known, cost, _)| total < cost || (total <= cost && parts < known));
            if fewest <= parts && total < f64::INFINITY && is_better {
                best = Some((parts, total, (used, last)));
            }
        }
        for done in (1..count).filter(|_| parts < most) {
            for last in 0..nodes.len() {
                let spent = least[at(used, done, last)];
                if spent < f64::INFINITY {
                    visit(used, done, Some(last), spent, &mut least);
                }
            }
        }
    }
    let (_, _, (mut used, mut last)) = best?;
    let mut end = count;
    let mut stages = Vec::new();
    while 0 < end {
        let (start, previous) = before[at(used, end, last)];
        stages.push(Stage {
            segments: start..end,
            node: nodes[last],
        });
        used &= !(1 << last);
        (end, last) = (start, previous);
    }
    stages.reverse();
    Some(stages)
}

fn prefix_sums(chain: &ChainProblem, nodes: &[usize]) -> Vec<Vec<f64>> {
    nodes
        .iter()
        .map(|&node| {
            let mut sums = vec![0.0];
            for segment in &chain.segments {
                sums.push(sums[sums.len() - 1] + segment.service[node]);
            }
            sums
        })
        .collect()
}

/// The best assignment of branches to nodes: least time of the slowest.
fn fan_out(
    judge: &Judge<'_>,
    chains: &[ChainProblem],
    free: &[u64],
    nodes: &[usize],
) -> Option<Vec<Vec<Stage>>> {
    struct Search<'a> {
        judge: &'a Judge<'a>,
        chains: &'a [ChainProblem],
        nodes: &'a [usize],
        best: Option<(f64, Vec<usize>)>,
        steps: usize,
    }
    impl Search<'_> {
        fn visit(&mut self, chosen: &mut Vec<usize>, free: &mut [u64]) {
            // A bound on the search: beyond it the best found so far stands.
            self.steps += 1;
            if 200_000 < self.steps {
                return;
            }
            let latency = self.latency(chosen);
            if self
                .best
                .as_ref()
                .is_some_and(|(least, _)| *least <= latency)
            {
                return;
            }
            let Some(chain) = self.chains.get(chosen.len()) else {
                self.best = Some((latency, chosen.clone()));
                return;
            };
            let need = self.judge.problem.memory(chain, 0..chain.segments.len());
            for &node in self.nodes {
                let bounds = &self.judge.arm.bounds;
                let is_free = !bounds.apart || !chosen.contains(&node);
                if need <= free[node] && is_free && bounds.allow(chosen.len(), node) {
                    free[node] -= need;
                    chosen.push(node);
                    self.visit(chosen, free);
                    chosen.pop();
                    free[node] += need;
                }
            }
        }

        /// Slowest of the branches placed so far; grows with every further branch.
        fn latency(&self, chosen: &[usize]) -> f64 {
            let branches: Vec<Vec<Stage>> = chosen
                .iter()
                .zip(self.chains)
                .map(|(&node, chain)| {
                    vec![Stage {
                        segments: 0..chain.segments.len(),
                        node,
                    }]
                })
                .collect();
            let Judge {
                problem,
                arm,
                factor,
                price,
            } = *self.judge;
            slowest(problem, arm, &branches, factor) + price * lossiness(problem, arm, &branches)
        }
    }
    let mut free = free.to_vec();
    let mut search = Search {
        judge,
        chains,
        nodes,
        best: None,
        steps: 0,
    };
    search.visit(&mut Vec::new(), &mut free);
    let (_, chosen) = search.best?;
    let branches = chosen
        .into_iter()
        .zip(chains)
        .map(|(node, chain)| {
            vec![Stage {
                segments: 0..chain.segments.len(),
                node,
            }]
        })
        .collect();
    Some(branches)
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

/// Why an arm has no place, with the numbers.
fn why_not(problem: &Problem, arm: &ArmProblem, free: &[u64]) -> String {
    let whole: u64 = arm
        .chains
        .iter()
        .map(|chain| problem.memory(chain, 0..chain.segments.len()))
        .fold(0, u64::saturating_add);
    let (fewest, most) = arm.parts;
    let shape = match arm.kind {
        ArmKind::Whole => "in one piece".to_owned(),
        ArmKind::Chain | ArmKind::Exits | ArmKind::Compressed => {
            format!("in {fewest} to {most} pieces on distinct nodes")
        }
        ArmKind::Semantic => format!("in {} branches", arm.chains.len()),
    };
    let may = |node: &usize| {
        let nodes = arm.bounds.nodes.as_ref();
        nodes.is_none_or(|nodes| nodes.contains(node))
    };
    let free: Vec<u64> = (0..free.len()).filter(may).map(|n| free[n]).collect();
    let largest = free.iter().copied().max().unwrap_or(0);
    let bound = if arm.bounds.pins.is_empty() && !arm.bounds.apart {
        ""
    } else {
        ", where it is pinned or spread to"
    };
    format!(
        "{} needs {:.1} MB {shape}{bound}; {} nodes have room, the largest {:.1} MB, together {:.1} MB",
        arm.name,
        megabytes(whole),
        free.iter().filter(|&&bytes| 0 < bytes).count(),
        megabytes(largest),
        megabytes(free.iter().fold(0, |n, &b| n.saturating_add(b))),
    )
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests;
