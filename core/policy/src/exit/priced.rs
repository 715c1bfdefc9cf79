//! The distributed controller: each node decides by its own backlog, the confidence, and the price that the next node
//! asks.
//!
//! One number is common to the line: the price c of a lost request, in correct answers. With it every node solves
//! its own decision process, averaged over time: reward for a correct answer, `-c` for each request that it turns
//! away, and at its border the better of answering now and of sending, which is worth what the next node offers.
//! From the solution each node derives its own offer to the node before:
//!
//! - `place[m]`: the difference of relative values with m + 1 and with m present: all that one more request
//!   brings and all that it displaces, here and behind; `-c` when the node is full;
//! - `worth[b]`: how the confidence that a request comes with changes that.
//!
//! So an offer is K + B numbers, sent when it changes; the number present at the next node, which picks one of
//! them, rides on the stream's acknowledgements and may be stale. Offers and flows are iterated to a fixed point. The
//! price is raised while more than the target is lost and lowered while less is: dual ascent, here by bisection
//! over the model's loss ([`Priced::for_target`]) or over a measured one ([`Priced::tuned`]), at run time by
//! [`Ascent`] from counters.
//!
//! With one node this is the joint controller without its mixture of two tables. With more it is one step of policy
//! improvement over independent stations: a node's process takes the others' offers as constant over its own
//! service and takes what reaches it as the thinned arrivals.

use std::collections::BTreeMap;

use rand::Rng;

use super::{
    ExitError, Intent, StopTable,
    chain::Costs,
    line::{Line, Local, Offer, offer},
    real,
    simulate::{Controller, Moment},
};
use crate::fixed::unit;

/// Sweeps of offers up and flows down the line.
const SWEEPS: usize = 40;
/// Sweeps end when nothing moves by more than this.
const STILL: f64 = 1e-5;
/// Prices between which the target's is sought.
const CHEAP: f64 = 1e-3;
const DEAR: f64 = 1e5;
/// Prices that are looked at between them, and halvings of a step of theirs: to less than a hundredth.
const GRID: usize = 13;
const HALVINGS: usize = 8;

/// How a node decides whether to answer or to send on.
#[derive(Clone, Debug, PartialEq)]
pub struct Border {
    /// Inner edges of the confidences.
    pub edges: Vec<f64>,
    /// Probability of answering, `[bin][number present at the next node]`.
    pub behind: Vec<f64>,
    /// The same while nothing is heard of the next node.
    pub unheard: Vec<f64>,
}

/// The controller of a line.
#[derive(Clone, Debug)]
pub struct Priced {
    nodes: Vec<Local>,
    first: Vec<usize>,
    edges: Vec<Vec<f64>>,
    correct: Vec<Vec<f64>>,
    /// c, in correct answers.
    pub price: f64,
    /// What a request-second costs: `c / T` when answers are due within T, else 0.
    pub delay: f64,
    /// Loss of the whole line that the model expects; usually more than comes true, because what leaves a node
    /// is smoother than Poisson.
    pub loss: f64,
    /// Whether nodes hear how many are present at the next one; without, they take the mean of its offers.
    pub hears: bool,
}

impl Priced {
    /// The controller for a price; answers are due within `deadline` seconds, or never when it is infinite.
    ///
    /// # Errors
    /// When line and network do not fit.
    pub fn new(line: &Line<'_>, price: f64, deadline: f64) -> Result<Self, ExitError> {
        line.check()?;
        Self::from(line, price, deadline, line.begin())
    }

    fn from(
        line: &Line<'_>,
        price: f64,
        deadline: f64,
        mut locals: Vec<Local>,
    ) -> Result<Self, ExitError> {
        let price = price.clamp(0.0, DEAR);
        let delay = if deadline.is_finite() && deadline > 0.0 {
            price / deadline
        } else {
            0.0
        };
        let costs = Costs {
            lost: price,
            present: delay,
            time: 0.0,
        };
        for sweep in 0..SWEEPS {
            let mut next: Option<Offer> = None;
            for node in (0..locals.len()).rev() {
                let (leave, goes) = line.border(node, next.as_ref());
                let local = &mut locals[node];
                let process = line.process(node, local, leave, true)?;
                let solution = process.improve(&costs, local.table.clone());
                if let Some(offer) = offer(&process, &solution, &costs, &local.entry) {
                    local.offer = offer;
                }
                Line::settle(&process, &solution, &goes, local);
                next = Some(local.offer.clone());
            }
            // Smaller steps, in case two nodes take turns.
            let step = if sweep < 10 { 1.0 } else { 0.3 };
            if line.flow(&mut locals, step) < STILL {
                break;
            }
        }
        let exits = 0..line.network.exits();
        let bins = exits.map(|e| line.network.bins(e));
        let (edges, correct) = bins.map(|b| (b.edges.clone(), b.correct.clone())).unzip();
        Ok(Self {
            loss: Line::loss(&locals),
            first: (0..locals.len()).map(|node| line.exits(node).0).collect(),
            nodes: locals,
            edges,
            correct,
            price,
            delay,
            hears: true,
        })
    }

    /// The controller whose loss is `target` by the model.
    ///
    /// # Errors
    /// When line and network do not fit.
    pub fn for_target(line: &Line<'_>, target: f64, deadline: f64) -> Result<Self, ExitError> {
        Self::tuned(line, target, deadline, |priced| priced.loss)
    }

    /// The controller whose measured loss, or share of missed deadlines, is at most `target`: the cheapest price of a
    /// logarithmic grid, then bisection down to the grid's next cheaper one. When none is, the cheapest price whose loss
    /// is hardly more than the least on the grid.
    ///
    /// Loss mostly falls as the price rises, but not always: where a request at the next node costs more than it can
    /// bring, two nodes may take turns at sending everything and nothing, and their tables are those of the last turn.
    /// So neither end of the prices is taken to be the best of them.
    ///
    /// # Errors
    /// When line and network do not fit.
    pub fn tuned(
        line: &Line<'_>,
        target: f64,
        deadline: f64,
        mut measure: impl FnMut(&Self) -> f64,
    ) -> Result<Self, ExitError> {
        let step = (DEAR / CHEAP).ln() / real(GRID - 1);
        let mut grid = Vec::with_capacity(GRID);
        for number in 0..GRID {
            let at = CHEAP.ln() + step * real(number);
            let priced = Self::new(line, at.exp(), deadline)?;
            let loss = measure(&priced);
            grid.push((at, priced, loss));
            if loss <= target {
                break;
            }
        }
        let least = grid.iter().map(|one| one.2).fold(f64::INFINITY, f64::min);
        let target = target.max(least * 1.005);
        let reached = grid.iter().position(|one| one.2 <= target);
        let (mut high, mut best, _) = grid.swap_remove(reached.unwrap_or(0));
        if high <= CHEAP.ln() {
            return Ok(best);
        }
        let mut low = high - step;
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            let priced = Self::new(line, middle.exp(), deadline)?;
            if measure(&priced) <= target {
                (best, high) = (priced, middle);
            } else {
                low = middle;
            }
        }
        Ok(best)
    }

    /// What a node offers to the one before it.
    #[must_use]
    pub fn offer(&self, node: usize) -> &Offer {
        &self.nodes[node].offer
    }

    /// A node's table, by exits of the whole network.
    #[must_use]
    pub fn table(&self, node: usize) -> &StopTable {
        &self.nodes[node].table
    }

    /// Number of nodes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: a line has a node.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node's first exit, counted along the network.
    #[must_use]
    pub fn first_exit(&self, node: usize) -> usize {
        self.first[node]
    }

    /// Whether answering at a border is worth no less than the next node's offer, for a bin and a number present
    /// there; `None` takes the mean over that number.
    fn is_answered(&self, exit: usize, bin: usize, next: &Offer, behind: Option<usize>) -> bool {
        let value = match behind {
            Some(behind) => next.value(bin, behind),
            None => {
                let shares = next.share.iter().enumerate();
                shares
                    .map(|(present, p)| p * next.value(bin, present))
                    .sum()
            }
        };
        self.correct[exit][bin] >= value
    }

    /// A node's decision at its last exit, when that is this one and another node follows.
    #[must_use]
    pub fn border(&self, node: usize, exit: usize) -> Option<Border> {
        let next = &self.nodes.get(node + 1)?.offer;
        if exit + 1 != self.first[node + 1] {
            return None;
        }
        let bins = 0..=self.edges[exit].len();
        let stop = |bin, behind| f64::from(u8::from(self.is_answered(exit, bin, next, behind)));
        let levels = next.place.len();
        Some(Border {
            edges: self.edges[exit].clone(),
            behind: bins
                .clone()
                .flat_map(|bin| (0..levels).map(move |behind| stop(bin, Some(behind))))
                .collect(),
            unheard: bins.map(|bin| stop(bin, None)).collect(),
        })
    }

    /// Probability of answering at a moment.
    #[must_use]
    pub fn stop(&self, moment: &Moment) -> f64 {
        let at = &moment.at;
        if !moment.is_border {
            return self.nodes[moment.node]
                .table
                .at(at.exit, at.confidence, at.present);
        }
        let Some(next) = self.nodes.get(moment.node + 1) else {
            return 1.0;
        };
        let bin = self.edges[at.exit].partition_point(|&edge| edge <= at.confidence);
        let behind = self.hears.then_some(moment.behind);
        f64::from(u8::from(self.is_answered(
            at.exit,
            bin,
            &next.offer,
            behind,
        )))
    }

    /// What it believes, as named numbers for people.
    #[must_use]
    pub fn explain(&self) -> BTreeMap<String, f64> {
        let mut numbers = BTreeMap::from([
            ("price".into(), self.price),
            ("delay-price".into(), self.delay),
            ("loss".into(), self.loss),
        ]);
        for (node, local) in self.nodes.iter().enumerate() {
            numbers.insert(format!("reach-{node}"), local.reach);
            numbers.insert(format!("loss-{node}"), local.loss);
            numbers.insert(format!("first-exit-{node}"), real(self.first[node]));
            for (present, value) in local.offer.place.iter().enumerate() {
                numbers.insert(format!("offer-{node}-at-{present}"), *value);
            }
        }
        numbers
    }
}

impl Controller for Priced {
    fn begin(&mut self, _: usize, _: usize, _: &mut dyn Rng) -> Intent {
        Intent::default()
    }

    fn stop(&mut self, moment: &Moment, rng: &mut dyn Rng) -> bool {
        let p = Self::stop(self, moment);
        p >= 1.0 || p > 0.0 && unit(rng) < p
    }
}

/// The price by dual ascent from counters: `ln c` moves by `step · (lost / arrivals - ε) / ε`, at most by 1 at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ascent {
    /// c now.
    pub price: f64,
    /// ε.
    pub target: f64,
    /// How far `ln c` moves when the loss is off by the target.
    pub step: f64,
}

impl Ascent {
    /// Takes in one interval; whether the price moved by more than a tenth, so that tables should be made anew.
    pub fn observe(&mut self, arrivals: usize, lost: usize) -> bool {
        if arrivals == 0 || self.target <= 0.0 {
            return false;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of an interval")]
        let loss = lost as f64 / arrivals as f64;
        let change = (self.step * (loss - self.target) / self.target).clamp(-1.0, 1.0);
        self.price = (self.price * change.exp()).clamp(CHEAP, DEAR);
        change.abs() > 0.1
    }
}
