//! Places whose worth is kept while single arms move: what a search by formulas takes its steps on.
//!
//! The value is [`worth`](crate::joint::worth)'s, for O(stages of the arm + stages on the nodes that it leaves and enters +
//! nodes + arms) instead of all stages anew, and without allocation but for the arm's own stages. Sums of a node are
//! made from what lies on it, never by taking off what left, so nothing drifts.

use crate::{
    ChainProblem, NodeSpec, Problem, Stage,
    joint::{Places, Worth, service, weight, without_waits},
    problem::ArmProblem,
    station::{Busy, Offered},
};

/// What one stage is to its node.
#[derive(Clone, Copy, Debug)]
struct Work {
    arm: usize,
    offered: Offered,
    /// Weight of those that wait here, of arms of one branch; those of several are judged by the slowest.
    waiting: f64,
    bytes: u64,
}

#[derive(Clone, Debug, Default)]
struct OnNode {
    works: Vec<Work>,
    busy: Busy,
    waiting: f64,
    bytes: u64,
}

impl OnNode {
    fn sum(&mut self, spec: &NodeSpec) {
        let (mut offered, mut waiting, mut bytes) = (Offered::default(), 0.0, 0u64);
        for work in &self.works {
            offered += work.offered;
            waiting += work.waiting;
            bytes = bytes.saturating_add(work.bytes);
        }
        self.busy = spec.busy(offered);
        (self.waiting, self.bytes) = (waiting, bytes);
    }
}

/// Places, and what follows from them.
#[derive(Clone, Debug)]
pub struct Standing<'p> {
    problem: &'p Problem,
    places: Places,
    nodes: Vec<OnNode>,
    /// By arm: its weight, and the seconds of each branch without waits.
    weights: Vec<f64>,
    fixed: Vec<Vec<f64>>,
    /// Nodes that the arm at hand leaves or enters.
    touched: Vec<usize>,
}

impl<'p> Standing<'p> {
    /// Of these places; whether they fit or not. O(stages + arms²).
    #[must_use]
    pub fn new(problem: &'p Problem, places: Places) -> Self {
        let arms = problem.arms.len();
        let mut standing = Self {
            problem,
            nodes: vec![OnNode::default(); problem.nodes.len()],
            weights: problem
                .arms
                .iter()
                .map(|arm| weight(problem, arm))
                .collect(),
            fixed: vec![Vec::new(); arms],
            places: vec![None; arms],
            touched: Vec::new(),
        };
        for (arm, place) in places.into_iter().enumerate() {
            standing.change(arm, place);
        }
        standing
    }

    /// What they are.
    #[must_use]
    pub const fn places(&self) -> &Places {
        &self.places
    }

    /// The places alone.
    #[must_use]
    pub fn into_places(self) -> Places {
        self.places
    }

    /// Gives an arm other branches, or none; returns those that it had.
    ///
    /// # Panics
    /// When there is no such arm, node or segment.
    pub fn change(
        &mut self,
        arm: usize,
        branches: Option<Vec<Vec<Stage>>>,
    ) -> Option<Vec<Vec<Stage>>> {
        self.touched.clear();
        let old = std::mem::replace(&mut self.places[arm], branches);
        for stage in old.iter().flatten().flatten() {
            self.nodes[stage.node].works.retain(|work| work.arm != arm);
            self.touched.push(stage.node);
        }
        let (problem, spec) = (self.problem, &self.problem.arms[arm]);
        let fixed = &mut self.fixed[arm];
        fixed.clear();
        let branches = self.places[arm].as_deref().unwrap_or_default();
        let is_single = branches.len() == 1;
        for (chain, stages) in spec.chains.iter().zip(branches) {
            fixed.push(without_waits(problem, spec, chain, stages));
            for stage in stages {
                let waiting = if is_single { self.weights[arm] } else { 0.0 };
                let work = work(problem, spec, chain, stage, (arm, waiting));
                self.nodes[stage.node].works.push(work);
                self.touched.push(stage.node);
            }
        }
        for &node in &self.touched {
            self.nodes[node].sum(&problem.nodes[node]);
        }
        old
    }

    /// Whether every node's memory holds what is on it. O(nodes).
    #[must_use]
    pub fn fits(&self) -> bool {
        let nodes = self.problem.nodes.iter().zip(&self.nodes);
        nodes.fold(true, |fits, (spec, on)| {
            fits & (on.bytes <= spec.memory_bytes)
        })
    }

    /// What they are worth. O(nodes + arms + stages of arms of several branches).
    #[must_use]
    pub fn worth(&self) -> Worth {
        let (mut overload, mut total, mut weights) = (0.0, 0.0, 0.0);
        for node in &self.nodes {
            overload += node.busy.overload;
            total += node.busy.wait * node.waiting;
        }
        let mut unplaced = 0;
        for ((place, fixed), weight) in self.places.iter().zip(&self.fixed).zip(&self.weights) {
            let Some(branches) = place else {
                unplaced += 1;
                continue;
            };
            weights += weight;
            total += weight
                * match fixed[..] {
                    [single] => single,
                    _ => self.slowest(fixed, branches),
                };
        }
        Worth {
            unplaced,
            overload,
            seconds: if weights > 0.0 { total / weights } else { 0.0 },
        }
    }

    fn slowest(&self, fixed: &[f64], branches: &[Vec<Stage>]) -> f64 {
        let waits = |stages: &[Stage]| -> f64 {
            let waits = stages.iter().map(|stage| self.nodes[stage.node].busy.wait);
            waits.sum()
        };
        let branches = fixed.iter().zip(branches);
        let seconds = branches.map(|(fixed, stages)| fixed + waits(stages));
        seconds.fold(0.0, f64::max)
    }
}

fn work(
    problem: &Problem,
    spec: &ArmProblem,
    chain: &ChainProblem,
    stage: &Stage,
    (arm, waiting): (usize, f64),
) -> Work {
    let seconds = service(chain, stage);
    Work {
        arm,
        offered: Offered::by(spec, seconds),
        waiting,
        bytes: problem.memory(chain, stage.segments.clone()),
    }
}
