//! The integer programme of Disabato, Roveri and Alippi (*Distributed deep convolutional neural networks
//! for the internet of things*, IEEE TC 2021): layers to units, least latency under memory limits.
//!
//! Theirs assigns with products of two binaries, which a solver linearises; here each arm's chain is a path
//! through (segment, node), one binary for each edge of it, which is the same programme with a tighter
//! relaxation. What placed networks may do here is added: at most so many pieces, no node twice, nodes and cuts that are
//! allowed. A later stage of a chain has no number in the programme: where one is pinned the greedy answers. Like
//! theirs it knows no queues: rates do not come into it. Solved by `microlp`; this is the only file that
//! names it in this crate.

use std::collections::BTreeMap;

use microlp::{ComparisonOp, LinearExpr, OptimizationDirection, SolveOptions, Variable};

use super::{Greedy, Strategy};
use crate::{
    Problem, Solution, Stage,
    joint::{Places, places, solution},
    problem::{ArmProblem, ChainProblem},
};

/// All arms in one programme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer {
    /// Nodes of the search tree at most; the best found by then is taken.
    pub nodes: u64,
    /// Variables at most: beyond, the programme is not written down and [`Greedy`] answers.
    pub variables: usize,
}

impl Default for Integer {
    fn default() -> Self {
        Self {
            nodes: 2000,
            variables: 20_000,
        }
    }
}

/// Times that it is solved, where the solver's tolerance, some bytes, took more than there is: each time with less of it.
const ATTEMPTS: usize = 4;

/// Bytes that places take of each node.
fn needed(problem: &Problem, places: &Places) -> Vec<u64> {
    let mut needed = vec![0u64; problem.nodes.len()];
    for (arm, branches) in problem.arms.iter().zip(places) {
        for (chain, stages) in arm.chains.iter().zip(branches.iter().flatten()) {
            for stage in stages {
                let bytes = problem.memory(chain, stage.segments.clone());
                needed[stage.node] = needed[stage.node].saturating_add(bytes);
            }
        }
    }
    needed
}

/// The binaries of one chain.
struct Path {
    /// `[from the centre to n]`, then for each further segment `[from][to]`.
    first: Vec<Variable>,
    edges: Vec<Vec<Vec<Variable>>>,
}

impl Integer {
    fn count(problem: &Problem) -> usize {
        let nodes = problem.nodes.len();
        let chains = problem.arms.iter().flat_map(|arm| &arm.chains);
        chains
            .map(|chain| nodes + nodes * nodes * chain.segments.len().saturating_sub(1))
            .sum()
    }

    /// The programme's places, within memory to the byte.
    fn places(self, problem: &Problem) -> Option<Places> {
        let mut spare = vec![0u64; problem.nodes.len()];
        for _ in 0..ATTEMPTS {
            let found = self.solved(problem, &spare)?;
            let needed = needed(problem, &found);
            let nodes = problem.nodes.iter().zip(needed).zip(&mut spare);
            let mut fits = true;
            for ((node, needed), spare) in nodes {
                let over = needed.saturating_sub(node.memory_bytes);
                *spare = spare.saturating_add(over.saturating_mul(4));
                fits &= over == 0;
            }
            if fits {
                return Some(found);
            }
        }
        None
    }

    /// Places for nodes of so much less memory, in the solver's numbers: a byte or so may be missing.
    fn solved(self, problem: &Problem, spare: &[u64]) -> Option<Places> {
        let mut program = microlp::Problem::new(OptimizationDirection::Minimize);
        let mut memory: Vec<Vec<(Variable, f64)>> = vec![Vec::new(); problem.nodes.len()];
        let mut paths: Vec<Vec<Path>> = Vec::new();
        for arm in &problem.arms {
            let chains = arm.chains.iter();
            let own = chains.map(|chain| path(&mut program, problem, arm, chain, &mut memory));
            let own: Vec<Path> = own.collect();
            bound(&mut program, arm, &own);
            paths.push(own);
        }
        for ((node, spare), taken) in problem.nodes.iter().zip(spare).zip(&memory) {
            let expression = sum(taken);
            let megabytes = node.memory_bytes.saturating_sub(*spare) as f64 / 1e6;
            program.add_constraint(expression, ComparisonOp::Le, megabytes);
        }
        let mut options = SolveOptions::default();
        options.node_limit = Some(self.nodes);
        let outcome = program.solve_with(options).ok()?;
        let solved = outcome.solution()?;
        let is_on = |variable: &Variable| solved.var_value(*variable) > 0.5;
        let read = |path: &Path| -> Option<Vec<Stage>> {
            let mut node = path.first.iter().position(is_on)?;
            let mut stages = vec![Stage {
                segments: 0..1,
                node,
            }];
            for edges in &path.edges {
                let next = edges[node].iter().position(is_on)?;
                match stages.last_mut() {
                    Some(stage) if next == node => stage.segments.end += 1,
                    _ => {
                        let start = stages.last().map_or(0, |stage| stage.segments.end);
                        let segments = start..start + 1;
                        stages.push(Stage {
                            segments,
                            node: next,
                        });
                    }
                }
                node = next;
            }
            Some(stages)
        };
        let arms = paths.iter().map(|own| own.iter().map(read).collect());
        let arms: Places = arms.collect();
        let mut pairs = problem.arms.iter().zip(&arms);
        let hold = |(arm, place): (&ArmProblem, &Option<Vec<Vec<Stage>>>)| {
            place.as_ref().is_none_or(|place| arm.bounds.hold(place))
        };
        pairs.all(hold).then_some(arms)
    }
}

/// The terms as the solver wants them: each variable once.
fn sum(terms: &[(Variable, f64)]) -> LinearExpr {
    let mut by: BTreeMap<usize, (Variable, f64)> = BTreeMap::new();
    for &(variable, factor) in terms {
        by.entry(variable.idx()).or_insert((variable, 0.0)).1 += factor;
    }
    by.into_values()
        .filter(|(_, factor)| *factor != 0.0)
        .collect()
}

/// Writes down one chain.
fn path(
    program: &mut microlp::Problem,
    problem: &Problem,
    arm: &ArmProblem,
    chain: &ChainProblem,
    memory: &mut [Vec<(Variable, f64)>],
) -> Path {
    let (nodes, center) = (problem.nodes.len(), problem.center());
    let count = chain.segments.len();
    let back = |segment: usize, node: usize| {
        let last = chain.boundaries.last().filter(|_| segment + 1 == count);
        last.map_or(0.0, |last| problem.transfer(node, center, last))
    };
    // Milliseconds: the solver's tolerances suit numbers near 1.
    let cost = |seconds: f64| {
        if seconds.is_finite() {
            seconds * 1e3
        } else {
            1e9
        }
    };
    let first: Vec<Variable> = (0..nodes)
        .map(|to| {
            let seconds = problem.transfer(center, to, &chain.boundaries[0])
                + chain.segments[0].service[to]
                + back(0, to);
            program.add_binary_var(cost(seconds))
        })
        .collect();
    let mut edges: Vec<Vec<Vec<Variable>>> = Vec::new();
    for segment in 1..count {
        let from = (0..nodes).map(|from| {
            let to = (0..nodes).map(|to| {
                let seconds = problem.transfer(from, to, &chain.boundaries[segment])
                    + chain.segments[segment].service[to]
                    + back(segment, to);
                program.add_binary_var(cost(seconds))
            });
            to.collect()
        });
        edges.push(from.collect());
    }
    let one = |variables: &[Variable]| -> Vec<(Variable, f64)> {
        variables.iter().map(|&variable| (variable, 1.0)).collect()
    };
    let expression = sum(&one(&first));
    program.add_constraint(expression, ComparisonOp::Eq, 1.0);
    // What comes to a node goes on from it.
    for at in 0..edges.len() {
        for node in 0..nodes {
            let mut terms = match at {
                0 => vec![(first[node], 1.0)],
                _ => edges[at - 1].iter().map(|to| (to[node], 1.0)).collect(),
            };
            terms.extend(edges[at][node].iter().map(|&to| (to, -1.0)));
            let expression = sum(&terms);
            program.add_constraint(expression, ComparisonOp::Eq, 0.0);
        }
    }
    // A node is come to once at most, and there are as many pieces as allowed.
    let mut changes = Vec::new();
    for node in 0..nodes {
        let mut comings = vec![(first[node], 1.0)];
        for edge in &edges {
            let from = edge.iter().enumerate().filter(|(from, _)| *from != node);
            let new: Vec<_> = from.map(|(_, to)| (to[node], 1.0)).collect();
            changes.extend(new.iter().copied());
            comings.extend(new);
        }
        // A fragment's fixed bytes and its largest activations, counted where it begins.
        let live = chain
            .segments
            .iter()
            .map(|segment| segment.activation_bytes);
        let fixed = problem
            .overhead_bytes
            .saturating_add(live.max().unwrap_or(0));
        memory[node].extend(comings.iter().map(|&(v, _)| (v, fixed as f64 / 1e6)));
        for (segment, spec) in chain.segments.iter().enumerate() {
            let bytes = spec.weight_bytes as f64 / 1e6;
            match segment {
                0 => memory[node].push((first[node], bytes)),
                _ => memory[node].extend(edges[segment - 1].iter().map(|to| (to[node], bytes))),
            }
        }
        let expression = sum(&comings);
        program.add_constraint(expression, ComparisonOp::Le, 1.0);
    }
    let (fewest, most) = arm.parts;
    for (op, bound) in [
        (ComparisonOp::Ge, fewest.saturating_sub(1)),
        (ComparisonOp::Le, most.saturating_sub(1)),
    ] {
        let expression = sum(&changes);
        program.add_constraint(expression, op, bound as f64);
    }
    Path { first, edges }
}

/// Nodes and cuts that are not allowed are not taken; branches that are to be apart share no node.
fn bound(program: &mut microlp::Problem, arm: &ArmProblem, paths: &[Path]) {
    let bounds = &arm.bounds;
    let is_barred = |node: usize| {
        bounds
            .nodes
            .as_ref()
            .is_some_and(|all| !all.contains(&node))
    };
    let mut barred = Vec::new();
    for (branch, path) in paths.iter().enumerate() {
        for (node, first) in path.first.iter().enumerate() {
            if !bounds.allow(branch, node) {
                barred.push((*first, 1.0));
            }
        }
        for (edges, cut) in path.edges.iter().zip(1..) {
            for (from, edges) in edges.iter().enumerate() {
                let to = edges.iter().enumerate();
                let barred_to =
                    to.filter(|(to, _)| is_barred(*to) || (from != *to && !bounds.may_cut(cut)));
                barred.extend(barred_to.map(|(_, edge)| (*edge, 1.0)));
            }
        }
    }
    if !barred.is_empty() {
        program.add_constraint(sum(&barred), ComparisonOp::Le, 0.0);
    }
    if bounds.apart && paths.len() > 1 {
        for node in 0..paths[0].first.len() {
            let all: Vec<_> = paths.iter().map(|path| (path.first[node], 1.0)).collect();
            program.add_constraint(sum(&all), ComparisonOp::Le, 1.0);
        }
    }
}

impl Strategy for Integer {
    fn name(&self) -> &'static str {
        "integer"
    }

    /// Where the programme has no solution, is too large or was not solved within its bound, the greedy
    /// places.
    fn solve(&self, problem: &Problem, seed: u64) -> Solution {
        let is_small = Self::count(problem) <= self.variables;
        let is_there = !problem.nodes.is_empty();
        let found = Some(()).filter(|()| is_small && is_there);
        let found = found.and_then(|()| self.places(problem));
        let found = found.unwrap_or_else(|| places(&Greedy.solve(problem, seed)));
        solution(problem, found, &|arm| {
            format!("{}: no place was found", arm.name)
        })
    }
}
