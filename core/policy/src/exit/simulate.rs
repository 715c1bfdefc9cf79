//! Event simulation of a line of stations with exits, request by request.
//!
//! Each node holds some exits of the network, has a queue of its own and one server, and turns away what finds
//! it full. A request that does not stop at a node's last exit goes on to the next node. One node is the
//! single station of the other modules. Shares no code with the exact evaluation but the table and
//! the trait.

mod line;

use rand::Rng;
use splitplace_queueing::{Arrivals, Service};

pub use self::line::{simulate, simulate_changing};
use super::{At, ExitOutcome, ExitPolicy, ExitTable, Intent, Records, real};

/// A station of the line.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Times between its exits, in order.
    pub stages: Vec<Service>,
    /// Requests that can be present, the one in service included.
    pub capacity: usize,
}

/// What requests are made of.
#[derive(Clone, Copy, Debug)]
pub enum Inputs<'a> {
    /// Bins of a table, drawn one after another; confidences are the middles of the bins.
    Table(&'a ExitTable),
    /// Recorded inputs, drawn with replacement.
    Records(&'a Records),
}

/// A moment of decision on a node of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Which node.
    pub node: usize,
    /// Whether this is the last exit there: going on means to leave for the next node.
    pub is_border: bool,
    /// The exit (counted along the whole network), the confidence, the number present here.
    pub at: At,
    /// Number present at the next node, as it was when last heard of; 0 at the last node.
    pub behind: usize,
}

/// Decides on all nodes of a line.
pub trait Controller {
    /// Service begins on a node with so many present.
    fn begin(&mut self, node: usize, present: usize, rng: &mut dyn Rng) -> Intent;
    /// Whether to answer now. Not asked at the network's last exit.
    fn stop(&mut self, moment: &Moment, rng: &mut dyn Rng) -> bool;
    /// A request was answered on a node.
    fn done(&mut self, node: usize, outcome: &ExitOutcome<'_>) {
        let _ = (node, outcome);
    }
    /// A request came to a node at an instant; `is_lost` when it found no place.
    fn came(&mut self, node: usize, now: f64, is_lost: bool) {
        let _ = (node, now, is_lost);
    }
}

/// An exit policy on each node, which knows of no other.
#[derive(Debug)]
pub struct Alone<'a> {
    /// One for each node.
    pub policies: Vec<&'a mut dyn ExitPolicy>,
    /// Exits before each node's first.
    pub offsets: Vec<usize>,
    /// Whether they learn from what they see.
    pub learns: bool,
}

impl<'a> Alone<'a> {
    /// One policy on one node.
    #[must_use]
    pub fn single(policy: &'a mut dyn ExitPolicy, learns: bool) -> Self {
        Self {
            policies: vec![policy],
            offsets: vec![0],
            learns,
        }
    }
}

impl Controller for Alone<'_> {
    fn begin(&mut self, node: usize, present: usize, rng: &mut dyn Rng) -> Intent {
        self.policies[node].begin(present, rng)
    }

    fn stop(&mut self, moment: &Moment, rng: &mut dyn Rng) -> bool {
        let exit = moment.at.exit - self.offsets[moment.node];
        let at = At { exit, ..moment.at };
        self.policies[moment.node].choose(&at, rng).stop
    }

    fn done(&mut self, node: usize, outcome: &ExitOutcome<'_>) {
        if self.learns {
            let confidences = &outcome.confidences[self.offsets[node]..];
            self.policies[node].learn(&ExitOutcome {
                confidences,
                ..*outcome
            });
        }
    }
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// The line.
    pub nodes: &'a [Node],
    /// What requests are made of.
    pub inputs: Inputs<'a>,
    /// How they arrive.
    pub arrivals: Arrivals,
    /// Arrivals that are counted.
    pub requests: usize,
    /// Arrivals before them that are not.
    pub warm_up: usize,
    /// Share that is audited.
    pub audit: f64,
    /// Responses above this many seconds are late.
    pub deadline: f64,
    /// Seconds until the next node's backlog is heard of.
    pub news: f64,
    /// Whether to count which recorded inputs are seen at which exits.
    pub trace: bool,
    /// Seed of all streams: arrivals, inputs, services and choices have one each, so that two controllers
    /// meet the same requests.
    pub seed: u64,
}

impl<'a> Plan<'a> {
    /// With no audit, no deadline, news at once.
    #[must_use]
    pub fn new(nodes: &'a [Node], inputs: Inputs<'a>, arrivals: Arrivals) -> Self {
        Self {
            nodes,
            inputs,
            arrivals,
            requests: 20_000,
            warm_up: 1_000,
            audit: 0.0,
            deadline: f64::INFINITY,
            news: 0.0,
            trace: false,
            seed: 0,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Arrivals that were counted.
    pub arrivals: usize,
    /// Of them, turned away at each node.
    pub lost: Vec<usize>,
    /// Answered.
    pub served: usize,
    /// Answered correctly.
    pub correct: usize,
    /// Answered, but late.
    pub late: usize,
    /// Answered at each exit.
    pub exits: Vec<usize>,
    /// Seconds from arrival to answer, ascending.
    pub responses: Vec<f32>,
    /// `[input · exits + exit]`: how often an input was seen at an exit, if that was asked for.
    pub reach: Vec<f64>,
}

impl Run {
    /// Share of arrivals that some node turned away.
    #[must_use]
    pub fn loss(&self) -> f64 {
        real(self.lost.iter().sum()) / real(self.arrivals.max(1))
    }

    /// Share of arrivals turned away or late.
    #[must_use]
    pub fn missed(&self) -> f64 {
        let lost: usize = self.lost.iter().sum();
        real(lost + self.late) / real(self.arrivals.max(1))
    }

    /// Share of correct answers among the served.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        real(self.correct) / real(self.served.max(1))
    }

    /// Mean response, in seconds.
    #[must_use]
    pub fn response(&self) -> f64 {
        let total: f64 = self.responses.iter().map(|&r| f64::from(r)).sum();
        total / real(self.served.max(1))
    }

    /// A quantile of the response, in seconds.
    #[must_use]
    pub fn quantile(&self, q: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the length"
        )]
        let at = (q.clamp(0.0, 1.0) * real(self.responses.len())) as usize;
        let last = self.responses.len().saturating_sub(1);
        self.responses
            .get(at.min(last))
            .map_or(0.0, |&r| f64::from(r))
    }

    /// Mean exit, from 0.
    #[must_use]
    pub fn mean_exit(&self) -> f64 {
        let total: f64 = self
            .exits
            .iter()
            .enumerate()
            .map(|(e, &n)| real(e) * real(n))
            .sum();
        total / real(self.served.max(1))
    }
}

/// Mean and standard error of independent runs.
#[must_use]
pub fn summary(values: &[f64]) -> (f64, f64) {
    let n = real(values.len().max(1));
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (mean, f64::INFINITY);
    }
    let square = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
    (mean, (square / (n - 1.0) / n).sqrt())
}
