//! Places whose worth is kept while single arms move: what a search by formulas takes its steps on.
//!
//! The value is [`worth`](crate::joint::worth)'s, for O(stages of the arm + stages on the nodes that it leaves and enters +
//! nodes + arms) instead of all stages anew, and without allocation but for the arm's own stages. Sums of a node are
//! made from what lies on it, never by taking off what left, so nothing drifts.

use crate::{
    Problem, Stage,
    joint::{Places, Worth, service, weights, without_waits},
    station::{Busy, Offered},
};

/// What one stage is to its node.
#[derive(Clone, Copy, Debug)]
struct Work {
    arm: usize,
    model: usize,
    /// While the arm is the one that is taken, and the share that others have to expect.
    offered: Offered,
    share: f64,
    /// Seconds that it waits here for itself and for others.
    wait: f64,
    /// Weight of those that wait here, of arms of one branch; those of several are judged by the slowest.
    waiting: f64,
    bytes: u64,
}

#[derive(Clone, Debug, Default)]
struct OnNode {
    works: Vec<Work>,
    overload: f64,
    /// Seconds of all that wait, by their weights.
    waits: f64,
    bytes: u64,
}

impl OnNode {
    /// O(works²), which are few; where every arm is of its own model, O(works).
    fn sum(&mut self, problem: &Problem, node: usize) {
        let (mut overload, mut waits, mut bytes) = (0.0f64, 0.0, 0u64);
        let spec = &problem.nodes[node];
        let is_common =
            problem.beside.is_empty() && self.works.iter().all(|work| work.share >= 1.0);
        let common = is_common.then(|| {
            let works = self.works.iter();
            spec.busy(works.fold(Offered::default(), |all, work| all + work.offered))
        });
        for at in 0..self.works.len() {
            let Work { arm, model, .. } = self.works[at];
            let met = || spec.busy(self.meets(problem, node, arm, model));
            let busy: Busy = common.unwrap_or_else(met);
            let work = &mut self.works[at];
            work.wait = busy.wait;
            overload = overload.max(busy.overload);
            waits += busy.wait * work.waiting;
            bytes = bytes.saturating_add(work.bytes);
        }
        (self.overload, self.waits, self.bytes) = (overload, waits, bytes);
    }

    /// What comes to the node while requests of a model take that arm.
    fn meets(&self, problem: &Problem, node: usize, arm: usize, model: usize) -> Offered {
        let mut all = problem.on_node_beside(model, node);
        for work in &self.works {
            if work.arm == arm {
                all += work.offered;
            } else if work.model != model {
                all += work.offered.times(work.share);
            }
        }
        all
    }

    fn wait_of(&self, arm: usize) -> f64 {
        let mut works = self.works.iter();
        works
            .find(|work| work.arm == arm)
            .map_or(0.0, |work| work.wait)
    }
}

/// Places, and what follows from them.
#[derive(Clone, Debug)]
pub struct Standing<'p> {
    problem: &'p Problem,
    places: Places,
    nodes: Vec<OnNode>,
    /// By arm: its share, its weight, and the seconds of each branch without waits.
    shares: Vec<f64>,
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
            shares: problem.shares(),
            weights: weights(problem),
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
                self.nodes[stage.node].works.push(Work {
                    arm,
                    model: spec.model,
                    offered: Offered::by(spec, service(chain, stage)),
                    share: self.shares[arm],
                    wait: 0.0,
                    waiting: if is_single { self.weights[arm] } else { 0.0 },
                    bytes: problem.memory(chain, stage.segments.clone()),
                });
                self.touched.push(stage.node);
            }
        }
        for &node in &self.touched {
            self.nodes[node].sum(problem, node);
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
            overload += node.overload;
            total += node.waits;
        }
        let mut unplaced = 0;
        let arms = self.places.iter().zip(&self.fixed).zip(&self.weights);
        for (number, ((place, fixed), weight)) in arms.enumerate() {
            let Some(branches) = place else {
                unplaced += 1;
                continue;
            };
            weights += weight;
            total += weight
                * match fixed[..] {
                    [single] => single,
                    _ => self.slowest(number, fixed, branches),
                };
        }
        Worth {
            unplaced,
            overload,
            seconds: if weights > 0.0 { total / weights } else { 0.0 },
        }
    }

    fn slowest(&self, arm: usize, fixed: &[f64], branches: &[Vec<Stage>]) -> f64 {
        let waits = |stages: &[Stage]| -> f64 {
            let waits = stages
                .iter()
                .map(|stage| self.nodes[stage.node].wait_of(arm));
            waits.sum()
        };
        let branches = fixed.iter().zip(branches);
        let seconds = branches.map(|(fixed, stages)| fixed + waits(stages));
        seconds.fold(0.0, f64::max)
    }
}
