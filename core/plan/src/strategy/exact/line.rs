//! The best chain over distinct nodes, by dynamic programming over (nodes used, segments done, last node).

use crate::{
    Problem, Stage,
    problem::{ArmProblem, ChainProblem},
    station::Sojourn,
    strategy::surprise,
};

/// What a stage or a link costs, whatever a loss is worth.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// Of one sample.
    seconds: f64,
    /// `-ln(1 - loss)`.
    surprise: f64,
}

impl From<Sojourn> for Cost {
    fn from(sojourn: Sojourn) -> Self {
        Self {
            seconds: sojourn.seconds,
            surprise: surprise(sojourn.loss),
        }
    }
}

/// What a chain may be made of on some nodes: every stage and every link between, judged once for all prices, orders of
/// arms and states of memory.
#[derive(Debug)]
pub(super) struct Line {
    nodes: Vec<usize>,
    /// Fewest and most stages.
    parts: (usize, usize),
    /// Boundaries at which it may be cut, both ends among them; stages and links are by their numbers here.
    cuts: Vec<usize>,
    /// By [`Line::stage`]: on a node that no other arm uses, and on one that counts as slower.
    stages: Vec<[Cost; 2]>,
    /// By [`Line::link`].
    links: Vec<Cost>,
    /// Number of stages before, and node: whether that is allowed.
    allowed: Vec<bool>,
    /// By the number of its members: sets of nodes.
    sets: Vec<Vec<usize>>,
    /// By set: its number among those of its size.
    ranks: Vec<usize>,
}

impl Line {
    /// Nodes as [`Exact::NODES`](super::Exact::NODES) allows. O(nodes² · segments · ways + nodes · segments²).
    pub(super) fn new(
        problem: &Problem,
        arm: &ArmProblem,
        chain: &ChainProblem,
        nodes: Vec<usize>,
    ) -> Self {
        let count = chain.segments.len();
        let (fewest, most) = arm.parts;
        let most = most.min(nodes.len()).min(count);
        let may_cut = |at: &usize| 1 < most && arm.bounds.may_cut(*at);
        let mut cuts = vec![0];
        cuts.extend((1..count).filter(may_cut));
        cuts.push(count);
        let mut line = Self {
            parts: (fewest, most),
            stages: Vec::with_capacity(nodes.len() * cuts.len() * cuts.len()),
            links: Vec::new(),
            allowed: Vec::new(),
            sets: vec![Vec::new(); nodes.len() + 1],
            ranks: Vec::with_capacity(1 << nodes.len()),
            nodes,
            cuts,
        };
        for &node in &line.nodes {
            let mut sums = vec![0.0];
            for segment in &chain.segments {
                sums.push(sums[sums.len() - 1] + segment.service[node]);
            }
            for &start in &line.cuts {
                for &end in &line.cuts {
                    let both = if start < end {
                        let service = sums[end] - sums[start];
                        let own = Cost::from(problem.sojourn(arm, node, service));
                        // What is lost is judged without the penalty for a shared node.
                        let slower = service * (1.0 + problem.spread);
                        let slower = problem.sojourn(arm, node, slower).seconds;
                        [
                            own,
                            Cost {
                                seconds: slower,
                                ..own
                            },
                        ]
                    } else {
                        [Cost::default(); 2]
                    };
                    line.stages.push(both);
                }
            }
        }
        line.links = line.all_links(problem, arm, chain);
        for number in 0..most {
            let allowed = line
                .nodes
                .iter()
                .map(|&node| arm.bounds.allow(number, node));
            line.allowed.extend(allowed);
        }
        for set in 0..1usize << line.nodes.len() {
            let alike = &mut line.sets[set.count_ones() as usize];
            line.ranks.push(alike.len());
            alike.push(set);
        }
        line
    }

    fn all_links(&self, problem: &Problem, arm: &ArmProblem, chain: &ChainProblem) -> Vec<Cost> {
        let (center, last) = (self.nodes.len(), self.cuts.len() - 1);
        let mut links = vec![Cost::default(); (center + 1) * (center + 1) * self.cuts.len()];
        let place = |number: usize| self.nodes.get(number).copied().unwrap_or(problem.center());
        for from in 0..=center {
            for to in 0..=center {
                let ends = match (from == center, to == center) {
                    (true, true) => 0..0,
                    (true, false) => 0..1,
                    (false, true) => last..last + 1,
                    (false, false) => 1..last,
                };
                for at in ends {
                    let crossing = &chain.boundaries[self.cuts[at]];
                    let sojourn = problem.carry(arm, place(from), place(to), crossing);
                    links[self.link(from, to, at)] = sojourn.into();
                }
            }
        }
        links
    }

    fn stage(&self, node: usize, start: usize, end: usize) -> usize {
        (node * self.cuts.len() + start) * self.cuts.len() + end
    }

    fn link(&self, from: usize, to: usize, at: usize) -> usize {
        (from * (self.nodes.len() + 1) + to) * self.cuts.len() + at
    }

    /// The farthest cut up to which a stage fits, by node and the cut where it begins.
    fn reach(&self, problem: &Problem, chain: &ChainProblem, free: &[u64]) -> Vec<usize> {
        let count = self.cuts.len();
        let mut reach = Vec::with_capacity(self.nodes.len() * count);
        for &node in &self.nodes {
            for start in 0..count {
                let fits = |end: &usize| {
                    let segments = self.cuts[start]..self.cuts[*end];
                    problem.memory(chain, segments) <= free[node]
                };
                reach.push((start + 1..count).take_while(fits).last().unwrap_or(start));
            }
        }
        reach
    }

    /// The best stages for a price in seconds for each `-ln(1 - loss)`; the fewest among equals. `None` when none fit.
    ///
    /// With N nodes, S cuts and at most K stages O(C(N, ≤K) · S · N · (K + S)): some 10⁵ steps for 10 nodes, 8 segments
    /// and 4 stages.
    pub(super) fn best(
        &self,
        problem: &Problem,
        chain: &ChainProblem,
        (free, used): (&[u64], &[bool]),
        price: f64,
    ) -> Option<Vec<Stage>> {
        let reach = self.reach(problem, chain, free);
        let cost = |cost: &Cost| cost.seconds + price * cost.surprise;
        let links: Vec<f64> = self.links.iter().map(cost).collect();
        let each = self.cuts.len() * self.cuts.len();
        let stages: Vec<f64> = self
            .stages
            .iter()
            .enumerate()
            .map(|(at, both)| cost(&both[usize::from(used[self.nodes[at / each]])]))
            .collect();
        let mut walk = Walk {
            line: self,
            reach,
            links,
            stages,
            levels: Vec::new(),
        };
        walk.run().map(|stages| walk.told(&stages))
    }
}

/// One run of the dynamic programme.
struct Walk<'a> {
    line: &'a Line,
    reach: Vec<usize>,
    links: Vec<f64>,
    stages: Vec<f64>,
    /// By number of stages, from one on: what each state costs at least, and where its last stage began and the node
    /// before it.
    levels: Vec<Vec<(f64, usize, usize)>>,
}

/// Cuts between which a stage lies, and the number of its node.
type Piece = (usize, usize, usize);

impl Walk<'_> {
    fn at(&self, set: usize, done: usize, last: usize) -> usize {
        let line = self.line;
        (line.ranks[set] * line.cuts.len() + done) * line.nodes.len() + last
    }

    fn run(&mut self) -> Option<Vec<Piece>> {
        let line = self.line;
        let (center, end) = (line.nodes.len(), line.cuts.len() - 1);
        let mut best: Option<(f64, usize, usize, usize)> = None;
        for number in 0..line.parts.1 {
            let level = self.level(number);
            self.levels.push(level);
            if number + 1 < line.parts.0 {
                continue;
            }
            for &set in &line.sets[number + 1] {
                for last in members(set) {
                    let (spent, ..) = self.levels[number][self.at(set, end, last)];
                    let total = spent + self.links[line.link(last, center, end)];
                    // Fewer stages win among equals.
                    if total < best.map_or(f64::INFINITY, |(least, ..)| least) {
                        best = Some((total, number, set, last));
                    }
                }
            }
        }
        let (_, mut number, mut set, mut last) = best?;
        let mut done = end;
        let mut pieces = Vec::new();
        loop {
            let (_, start, before) = self.levels[number][self.at(set, done, last)];
            pieces.push((start, done, last));
            if number == 0 {
                break;
            }
            set &= !(1 << last);
            (number, done, last) = (number - 1, start, before);
        }
        pieces.reverse();
        Some(pieces)
    }

    /// States with one stage more than `number`.
    fn level(&self, number: usize) -> Vec<(f64, usize, usize)> {
        let line = self.line;
        let (nodes, end) = (line.nodes.len(), line.cuts.len() - 1);
        let states = line.sets[number + 1].len() * line.cuts.len() * nodes;
        let mut level = vec![(f64::INFINITY, 0, 0); states];
        // The last stage goes to the end.
        let is_last = number + 1 == line.parts.1;
        for &set in &line.sets[number] {
            for done in 0..end {
                if (done == 0) != (number == 0) {
                    continue;
                }
                for node in 0..nodes {
                    if set >> node & 1 == 1 || !line.allowed[number * nodes + node] {
                        continue;
                    }
                    let (arrive, before) = self.arrival(number, set, done, node);
                    if arrive == f64::INFINITY {
                        continue;
                    }
                    let next = set | 1 << node;
                    let reach = self.reach[node * line.cuts.len() + done];
                    let first = if is_last { end } else { done + 1 };
                    for stop in first..=reach {
                        let total = arrive + self.stages[line.stage(node, done, stop)];
                        let state = &mut level[self.at(next, stop, node)];
                        if total < state.0 {
                            *state = (total, done, before);
                        }
                    }
                }
            }
        }
        level
    }

    /// The least cost to come to a node behind a set, and from which of its members.
    fn arrival(&self, number: usize, set: usize, done: usize, node: usize) -> (f64, usize) {
        let line = self.line;
        let Some(before) = number.checked_sub(1) else {
            return (self.links[line.link(line.nodes.len(), node, 0)], node);
        };
        let mut least = (f64::INFINITY, node);
        for last in members(set) {
            let (spent, ..) = self.levels[before][self.at(set, done, last)];
            let total = spent + self.links[line.link(last, node, done)];
            if total < least.0 {
                least = (total, last);
            }
        }
        least
    }

    fn told(&self, pieces: &[Piece]) -> Vec<Stage> {
        let line = self.line;
        let stages = pieces.iter().map(|&(start, end, node)| Stage {
            segments: line.cuts[start]..line.cuts[end],
            node: line.nodes[node],
        });
        stages.collect()
    }
}

/// The members of a set of nodes, ascending.
fn members(mut set: usize) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let member = set.trailing_zeros() as usize;
        let is_left = set != 0;
        set &= set.wrapping_sub(1);
        is_left.then_some(member)
    })
}
