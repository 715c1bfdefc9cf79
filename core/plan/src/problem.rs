//! The placement problem in dense numbers, and what a solution says.
//!
//! Nodes are numbered from 0; the number after the last node is the centre. Times are seconds, sizes
//! bytes, everything for one sample.

use std::{collections::BTreeMap, iter, ops::Range};

use splitplace_codec::Codec;

use crate::{
    ArmKind, Beside, Bounds,
    station::{Offered, link_wait},
};

/// One node's capacity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeSpec {
    /// Bytes that fragments may take, what is taken already subtracted.
    pub memory_bytes: u64,
    /// Samples that it computes at the same time.
    pub cores: u32,
    /// How many times as long one takes while all cores are busy as alone; 1 where cores do not get in each other's way.
    pub crowding: f64,
}

/// One segment of a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentSpec {
    /// Bytes of weights: they add up over a fragment.
    pub weight_bytes: u64,
    /// Bytes live while it runs: a fragment needs the largest.
    pub activation_bytes: u64,
    /// Seconds on each node.
    pub service: Vec<f64>,
}

/// One way in which tensors may be coded for a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Way {
    /// How.
    pub codec: Codec,
    /// Bytes on the link.
    pub bytes: u64,
    /// Seconds to encode and to decode at the speed of [`Problem::coding`] 1.
    pub encode: f64,
    /// See [`Way::encode`].
    pub decode: f64,
}

/// What crosses between two segments.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossing {
    /// The ways to code it that are exact enough, first not at all.
    pub ways: Vec<Way>,
    /// Share of requests that get here.
    pub reach: f64,
}

impl From<u64> for Crossing {
    /// So many bytes as they are, for every request.
    fn from(bytes: u64) -> Self {
        let raw = Way {
            codec: Codec::RAW,
            bytes,
            encode: 0.0,
            decode: 0.0,
        };
        Self {
            ways: vec![raw],
            reach: 1.0,
        }
    }
}

impl Crossing {
    /// Bytes as they are.
    #[must_use]
    pub fn raw_bytes(&self) -> u64 {
        self.ways.first().map_or(0, |way| way.bytes)
    }
}

/// What one branch runs: segments and the boundaries around them.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainProblem {
    /// In order. Where exits may answer before a segment, its services are weighted with the share of
    /// requests that get there.
    pub segments: Vec<SegmentSpec>,
    /// What crosses: before the first segment, between, and after the last.
    pub boundaries: Vec<Crossing>,
}

impl ChainProblem {
    /// What crosses when the chain runs on these stages, from `center` through them and back: from where, to where, what.
    pub fn legs<'a>(
        &'a self,
        stages: &'a [Stage],
        center: usize,
    ) -> impl Iterator<Item = (usize, usize, &'a Crossing)> {
        let nodes = stages.iter().map(|stage| stage.node);
        let into = stages
            .iter()
            .map(|stage| &self.boundaries[stage.segments.start]);
        iter::once(center)
            .chain(nodes.clone())
            .zip(nodes.chain([center]))
            .zip(into.chain(self.boundaries.last()))
            .map(|((from, to), crossing)| (from, to, crossing))
    }
}

/// One way to run a model, to be placed.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmProblem {
    /// For explanations.
    pub name: String,
    /// Number of the model that it runs. A request takes one arm of its model: arms of one model wait for what other
    /// models' requests do, and not for each other.
    pub model: usize,
    /// How it runs.
    pub kind: ArmKind,
    /// Fewest and most stages of each chain; `1..=1` for whole and semantic.
    pub parts: (usize, usize),
    /// One for whole and chain, one for each branch of a semantic variant.
    pub chains: Vec<ChainProblem>,
    /// Requests a second that it should carry; 0 for an idle system.
    pub arrival_rate: f64,
    /// Squared coefficient of variation of the gaps between them: 1 for Poisson arrivals, near 0 for a clock's or for a
    /// client's that asks again when it was answered.
    pub arrival_scv: f64,
    /// Where its stages may be.
    pub bounds: Bounds,
}

/// Everything that a placement depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Capacity of each node.
    pub nodes: Vec<NodeSpec>,
    /// `links[from][to]` as (bytes a second, delay in seconds); the last row and column is the centre.
    pub links: Vec<Vec<(f64, f64)>>,
    /// How many times the seconds of a [`Way`] coding takes in each place; the last is the centre.
    pub coding: Vec<f64>,
    /// What is to be placed, as far as memory allows.
    pub arms: Vec<ArmProblem>,
    /// Bytes that every fragment takes beside weights and activations.
    pub overhead_bytes: u64,
    /// How much slower a node counts that another arm uses already, as a share: it spreads arms over
    /// the fleet, so that the loss of one node leaves another arm, unless that costs more than this.
    pub spread: f64,
    /// Samples that may wait for a stage; one that comes then is lost.
    pub places: usize,
    /// Share of an arm's samples that may be lost on the way where that can be kept: of the places that keep it the
    /// quickest is sought, and where none does the one that loses least.
    pub loss_target: f64,
    /// By model: what runs and crosses beside its arms that is not placed here; empty where there is nothing else.
    pub beside: Vec<Beside>,
}

/// One fragment on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Segments that it covers.
    pub segments: Range<usize>,
    /// Where.
    pub node: usize,
}

/// A placed arm.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The stages of each branch, in order.
    pub branches: Vec<Vec<Stage>>,
    /// Expected response of one sample, in seconds.
    pub latency: f64,
    /// Busiest stage, in seconds: its inverse is the arm's rate.
    pub bottleneck: f64,
}

/// What became of an arm.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It has its places.
    Placed(Placed),
    /// It does not fit; the arithmetic in words.
    Unplaced(String),
}

/// What became of each arm, in the problem's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// One for each arm.
    pub arms: Vec<Outcome>,
}

impl Problem {
    /// [`Problem::places`] where nothing else is known.
    pub const PLACES: usize = 512;
    /// [`Problem::loss_target`] where nothing else is known.
    pub const LOSS: f64 = 0.01;

    /// The same without load: every arm finds its place, also where it could not keep up.
    #[must_use]
    pub fn idle(&self) -> Self {
        let mut idle = self.clone();
        idle.arms.iter_mut().for_each(|arm| arm.arrival_rate = 0.0);
        idle
    }

    /// By arm: the share of its model's requests that others have to expect there. Nobody knows beforehand who decides how,
    /// so each arm of a model is taken to be as likely. O(arms log arms).
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        let mut counts: BTreeMap<usize, u32> = BTreeMap::new();
        for arm in &self.arms {
            *counts.entry(arm.model).or_default() += 1;
        }
        let arms = self.arms.iter();
        arms.map(|arm| 1.0 / f64::from(counts[&arm.model]))
            .collect()
    }

    /// Takes in what each model's arms meet besides.
    pub(crate) fn meet(&mut self, others: &[Beside]) {
        if self.beside.len() < others.len() {
            self.beside.resize_with(others.len(), Beside::default);
        }
        for (beside, others) in self.beside.iter_mut().zip(others) {
            beside.add(others, 1.0);
        }
    }

    /// What comes to a node beside a model's arms.
    pub(crate) fn on_node_beside(&self, model: usize, node: usize) -> Offered {
        let beside = self.beside.get(model);
        beside.map_or_else(Offered::default, |beside| beside.node(node))
    }

    /// What comes to a link beside a model's arms.
    pub(crate) fn on_link_beside(&self, model: usize, from: usize, to: usize) -> Offered {
        let beside = self.beside.get(model);
        beside.map_or_else(Offered::default, |beside| beside.link(from, to))
    }

    /// The centre's number.
    #[must_use]
    pub fn center(&self) -> usize {
        self.nodes.len()
    }

    /// Expected seconds from one place to another in the best way while nothing else is on the link; nothing within a
    /// place.
    #[must_use]
    pub fn transfer(&self, from: usize, to: usize, crossing: &Crossing) -> f64 {
        let seconds = |way: &Way| self.seconds(&|_| Offered::default(), from, to, way);
        let best = crossing.ways.iter().map(seconds);
        crossing.reach * best.fold(f64::INFINITY, f64::min)
    }

    /// The way that is fastest between two places for so many samples a second; the first among equals.
    ///
    /// # Panics
    /// When the crossing has no way.
    #[must_use]
    pub fn best_way<'c>(
        &self,
        arm: &ArmProblem,
        from: usize,
        to: usize,
        crossing: &'c Crossing,
    ) -> &'c Way {
        let offered = |busy: f64| self.to_link(arm, crossing, from, to, busy);
        let seconds = |way: &Way| self.seconds(&offered, from, to, way);
        let ways = crossing.ways.iter();
        let best = ways.min_by(|a, b| seconds(a).total_cmp(&seconds(b)));
        best.expect("a crossing has at least one way")
    }

    /// What comes to a link, of an arm whose samples keep it busy for so many seconds and of everything beside it.
    pub(crate) fn to_link(
        &self,
        arm: &ArmProblem,
        crossing: &Crossing,
        from: usize,
        to: usize,
        busy: f64,
    ) -> Offered {
        Offered::by(arm, busy).times(crossing.reach) + self.on_link_beside(arm.model, from, to)
    }

    /// Seconds to code, to wait for the link and to move, with what comes to the link where a sample keeps it busy for so
    /// long; within a place nothing.
    pub(crate) fn seconds(
        &self,
        offered: &dyn Fn(f64) -> Offered,
        from: usize,
        to: usize,
        way: &Way,
    ) -> f64 {
        if from == to {
            return 0.0;
        }
        let (_, delay) = self.links[from][to];
        let busy = self.on_link(from, to, way);
        let wait = link_wait(offered(busy), self.places);
        delay + busy + wait + way.encode * self.coding[from] + way.decode * self.coding[to]
    }

    /// Seconds that one sample keeps a link busy.
    pub(crate) fn on_link(&self, from: usize, to: usize, way: &Way) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a tensor is far below 2^53 bytes"
        )]
        let bytes = way.bytes as f64;
        bytes / self.links[from][to].0
    }

    /// Expected seconds of one sample through an arm on these stages, waiting included; services of branches on one
    /// node add up.
    #[must_use]
    pub fn latency(&self, arm: &ArmProblem, branches: &[Vec<Stage>]) -> f64 {
        crate::strategy::cost(self, arm, branches).0
    }

    /// What an arm's samples wait for links at its rate on these stages, of the branch that waits longest, and the share
    /// of them that is lost on links.
    #[must_use]
    pub fn on_links(&self, arm: &ArmProblem, branches: &[Vec<Stage>]) -> (f64, f64) {
        let (mut longest, mut kept) = (0.0f64, 1.0);
        for (chain, stages) in arm.chains.iter().zip(branches) {
            let mut wait = 0.0;
            for (from, to, crossing) in chain.legs(stages, self.center()) {
                let sojourn = self.carry(arm, from, to, crossing);
                wait += sojourn.seconds - self.transfer(from, to, crossing);
                kept *= 1.0 - sojourn.loss;
            }
            longest = longest.max(wait);
        }
        (longest, 1.0 - kept)
    }

    /// Share of an arm's samples that may be lost.
    #[must_use]
    pub fn may_lose(&self, arm: &ArmProblem) -> f64 {
        arm.bounds.loss.unwrap_or(self.loss_target)
    }

    /// Expected share of an arm's samples that find a queue full on these stages, at the arm's own rate: as if the
    /// stations were independent, which overstates it behind other stations.
    #[must_use]
    pub fn loss(&self, arm: &ArmProblem, branches: &[Vec<Stage>]) -> f64 {
        -(-crate::strategy::lossiness(self, arm, branches)).exp_m1()
    }

    /// Bytes that a fragment of these segments takes.
    #[must_use]
    pub fn memory(&self, chain: &ChainProblem, segments: Range<usize>) -> u64 {
        let segments = &chain.segments[segments];
        let weights = segments
            .iter()
            .fold(0u64, |n, s| n.saturating_add(s.weight_bytes));
        let live = segments
            .iter()
            .map(|s| s.activation_bytes)
            .max()
            .unwrap_or(0);
        self.overhead_bytes
            .saturating_add(weights)
            .saturating_add(live)
    }
}
