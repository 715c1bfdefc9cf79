//! Joint control of backlog and confidence: the constrained Markov decision process of a station with exits,
//! solved through its Lagrangian.
//!
//! State at a decision: exit e just computed, confidence bin b, m present (and the phase of the arrivals, which
//! the controller does not see). Stop: a correct answer with calibrated probability, and the next service
//! begins. Go on: the stage to the next exit runs; meanwhile requests arrive, and those that find the station
//! full are lost; confidence moves by the measured transitions. Among all controllers that look at (e, b, m)
//! the one with most accuracy is sought whose loss is at most ε.
//!
//! - *Price.* For a price c per lost request, maximise `E[correct - c · lost]` per service: an ordinary
//!   average-reward process over beginnings of service with a tree of decisions inside each. Policy iteration
//!   needs some five rounds of O(exits · bins · K² + exits · bins² · K) each.
//! - *Bisection.* Loss falls as the price rises. At the critical price two tables are both best, one losing too
//!   much and one too little; mixing them state by state, with the one weight that gives loss ε exactly, is
//!   optimal (complementary slackness). Typically they differ in one state.
//!
//! For Poisson arrivals this is the optimum of the LP in the reference (d.7), without an LP solver; the tests
//! compare the two. For two phases the controller is blind to the phase: values are averaged with
//! P(phase | e, b, m) under the current table, which is the exact gradient but no longer a guarantee; the
//! best round is kept, and the loss of what is returned is exact in any case.

use std::collections::BTreeMap;

use super::{
    At, ExitError, ExitPolicy, ExitTable, Station, StopTable,
    chain::{Chain, solve, stationary},
};

/// Rounds of policy iteration at one price.
const ROUNDS: usize = 24;
/// Halvings of the price, and of the weight of the mixture.
const HALVINGS: usize = 48;
/// Price beyond which the target counts as out of reach.
const DEAR: f64 = 1e7;
/// Loss is met when it is this close to the target, relatively.
const CLOSE: f64 = 1e-9;

/// The joint controller: a table, and what it expects of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Joint {
    table: StopTable,
    name: &'static str,
    /// Price of a lost request, in correct answers.
    pub price: f64,
    /// Accuracy that the model expects.
    pub accuracy: f64,
    /// Loss that the model expects: the target, or less when nothing is gained by losing more, or more when
    /// not even the first exit meets it.
    pub loss: f64,
}

impl Joint {
    /// Solves for a network at a station. Below a second for 11 places, 9 exits, 10 bins.
    ///
    /// # Errors
    /// When the station makes no sense.
    pub fn new(table: &ExitTable, station: &Station) -> Result<Self, ExitError> {
        let model = Model::new(table, station)?;
        let greedy = model.improve(0.0, StopTable::new(table, station.capacity, 0.0));
        let met = |solved: &Solved| solved.loss <= station.target * (1.0 + CLOSE);
        if met(&greedy) {
            return Ok(greedy.controller(0.0));
        }
        let (mut low, mut dear) = (greedy, 1.0);
        let mut low_price = 0.0;
        let mut high = loop {
            let solved = model.improve(dear, low.table.clone());
            if met(&solved) {
                break solved;
            }
            (low, low_price) = (solved, dear);
            dear *= 4.0;
            if dear > DEAR {
                return Ok(model.safest(low, table, station).controller(dear));
            }
        };
        for _ in 0..HALVINGS {
            if low.table.distance(&high.table) <= 1 || dear - low_price <= 1e-12 * dear {
                break;
            }
            let middle = low_price.midpoint(dear);
            // From both sides: for arrivals of two phases the start matters.
            let solved = model.improve(middle, high.table.clone());
            if met(&solved) {
                (high, dear) = (solved, middle);
            } else {
                (low, low_price) = (solved, middle);
            }
        }
        Ok(model.mix(&low, high, station.target).controller(dear))
    }

    /// Its table.
    #[must_use]
    pub const fn table(&self) -> &StopTable {
        &self.table
    }
}

impl ExitPolicy for Joint {
    fn name(&self) -> &'static str {
        self.name
    }

    fn stop(&self, at: &At) -> f64 {
        self.table.at(at.exit, at.confidence, at.present)
    }

    fn explain(&self) -> BTreeMap<String, f64> {
        BTreeMap::from([
            ("price".into(), self.price),
            ("accuracy".into(), self.accuracy),
            ("loss".into(), self.loss),
        ])
    }
}

/// A table and what it achieves.
#[derive(Clone, Debug)]
struct Solved {
    table: StopTable,
    accuracy: f64,
    loss: f64,
}

impl Solved {
    fn controller(self, price: f64) -> Joint {
        Joint {
            table: self.table,
            name: "joint",
            price,
            accuracy: self.accuracy,
            loss: self.loss,
        }
    }
}

/// The decision process. A *level* is all states of one exit: a row for each bin, one after another.
struct Model<'a> {
    network: &'a ExitTable,
    chain: Chain,
    states: usize,
}

/// One table, followed forwards.
struct Run {
    accuracy: f64,
    loss: f64,
    /// Reward and loss in the service that begins in each state, and moves between beginnings.
    correct: Vec<f64>,
    lost: Vec<f64>,
    moves: Vec<f64>,
    law: Vec<f64>,
}

impl<'a> Model<'a> {
    fn new(network: &'a ExitTable, station: &Station) -> Result<Self, ExitError> {
        let chain = Chain::new(network.stages(), station)?;
        let states = chain.capacity() * chain.phases();
        Ok(Self {
            network,
            chain,
            states,
        })
    }

    /// Share of bin `to` at an exit for a request that was in bin `from` at the one before.
    fn share(&self, exit: usize, from: usize, to: usize) -> f64 {
        if exit == 0 {
            self.network.bins(0).share[to]
        } else {
            self.network.bins(exit - 1).next[from][to]
        }
    }

    /// Levels just after each exit is computed, before anything stops, from one measure over beginnings.
    /// Calls `level` with the exit and its rows, which it leaves as what goes on; the number lost is returned.
    fn forwards(&self, start: &[f64], mut level: impl FnMut(usize, &mut [f64])) -> f64 {
        let width = self.chain.width();
        let mut rows = start.to_vec();
        let mut lost = 0.0;
        let mut moved = vec![0.0; width];
        for exit in 0..self.network.exits() {
            let bins = self.network.bins(exit).share.len();
            let mut next = vec![0.0; bins * width];
            for (from, row) in rows.chunks(width).enumerate() {
                if row.iter().all(|mass| *mass <= 0.0) {
                    continue;
                }
                moved.fill(0.0);
                lost += self.chain.advance(exit, row, &mut moved).lost;
                for (to, row) in next.chunks_mut(width).enumerate() {
                    let p = self.share(exit, from, to);
                    row.iter_mut().zip(&moved).for_each(|(x, m)| *x += p * m);
                }
            }
            level(exit, &mut next);
            rows = next;
        }
        lost
    }

    fn run(&self, table: &StopTable) -> Run {
        let (width, phases) = (self.chain.width(), self.chain.phases());
        let mut run = Run {
            accuracy: 0.0,
            loss: 0.0,
            correct: vec![0.0; self.states],
            lost: vec![0.0; self.states],
            moves: vec![0.0; self.states * self.states],
            law: Vec::new(),
        };
        let mut left = vec![0.0; width];
        for state in 0..self.states {
            let mut start = vec![0.0; width];
            start[state + phases] = 1.0;
            let mut starts = vec![0.0; width];
            let mut correct = 0.0;
            run.lost[state] = self.forwards(&start, |exit, level| {
                left.fill(0.0);
                for (bin, row) in level.chunks_mut(width).enumerate() {
                    let accuracy = self.network.bins(exit).correct[bin];
                    for (at, mass) in row.iter_mut().enumerate() {
                        let stopped = *mass * self.stops(table, exit, bin, at / phases);
                        left[at] += stopped;
                        correct += stopped * accuracy;
                        *mass -= stopped;
                    }
                }
                self.chain.depart(&left, &mut starts);
            });
            run.correct[state] = correct;
            let moves = &mut run.moves[state * self.states..(state + 1) * self.states];
            moves.copy_from_slice(&starts[phases..]);
        }
        run.law = stationary(run.moves.clone(), self.states);
        let mean = |of: &[f64]| -> f64 { of.iter().zip(&run.law).map(|(x, p)| x * p).sum() };
        run.accuracy = mean(&run.correct);
        let lost = mean(&run.lost);
        run.loss = lost / (1.0 + lost);
        run
    }

    fn stops(&self, table: &StopTable, exit: usize, bin: usize, present: usize) -> f64 {
        if exit == self.network.last() {
            1.0
        } else {
            table.get(exit, bin, present)
        }
    }

    /// Policy iteration at a price; the best round.
    fn improve(&self, price: f64, from: StopTable) -> Solved {
        let mut table = from;
        let mut best: Option<(f64, Solved)> = None;
        for _ in 0..ROUNDS {
            let run = self.run(&table);
            let lost = run.loss / (1.0 - run.loss).max(f64::MIN_POSITIVE);
            let gain = run.accuracy - price * lost;
            let is_better = best.as_ref().is_none_or(|(most, _)| gain > *most + 1e-13);
            if is_better {
                let solved = Solved {
                    table: table.clone(),
                    accuracy: run.accuracy,
                    loss: run.loss,
                };
                best = Some((gain, solved));
            } else if self.chain.phases() == 1 {
                break;
            }
            let Some(values) = self.values(&run, price, gain) else {
                break;
            };
            let better = self.greedy(&values, price, &table, &run);
            if better == table {
                break;
            }
            table = better;
        }
        match best {
            Some((_, solved)) => solved,
            None => Solved {
                table,
                accuracy: 0.0,
                loss: 1.0,
            },
        }
    }

    /// Relative values h of beginning a service in each state: `h = r - gain + P h`, `h[0] = 0`.
    fn values(&self, run: &Run, price: f64, gain: f64) -> Option<Vec<f64>> {
        let n = self.states;
        let mut a: Vec<f64> = run.moves.iter().map(|p| -p).collect();
        let mut b = Vec::with_capacity(n);
        for state in 0..n {
            a[state * n + state] += 1.0;
            // h[0] is 0, so its column stands for the gain.
            a[state * n] = 1.0;
            b.push(run.correct[state] - price * run.lost[state]);
        }
        let mut h = solve(a, b)?;
        debug_assert!((h[0] - gain).abs() < 1e-6 * (1.0 + gain.abs()));
        h[0] = 0.0;
        Some(h)
    }

    /// The table that is best when later services have the given values.
    fn greedy(&self, values: &[f64], price: f64, now: &StopTable, run: &Run) -> StopTable {
        let (width, phases) = (self.chain.width(), self.chain.phases());
        let mut better = now.clone();
        let mut starts = vec![0.0; width];
        starts[phases..].copy_from_slice(values);
        let mut leaving = vec![0.0; width];
        self.chain.departing(&starts, 0.0, &mut leaving);
        let weights = (phases > 1).then(|| self.weights(now, run));
        // Values of the level behind the exit at hand, before the stage to it.
        let mut behind: Vec<f64> = Vec::new();
        for exit in (0..self.network.exits()).rev() {
            let bins = self.network.bins(exit);
            let mut level = vec![0.0; bins.share.len() * width];
            for (bin, row) in level.chunks_mut(width).enumerate() {
                for present in 1..=self.chain.capacity() {
                    let states = self.chain.at(present, 0)..self.chain.at(present + 1, 0);
                    let stop = |at: usize| bins.correct[bin] + leaving[at];
                    if behind.is_empty() {
                        states.for_each(|at| row[at] = stop(at));
                        continue;
                    }
                    let go = |at: usize| behind[bin * width + at];
                    let weigh =
                        |at: usize| weights.as_ref().map_or(1.0, |w| w[exit][bin * width + at]);
                    let edge: f64 = states
                        .clone()
                        .map(|at| weigh(at) * (stop(at) - go(at)))
                        .sum();
                    let p = if edge >= 0.0 { 1.0 } else { 0.0 };
                    better.set(exit, bin, present, p);
                    states.for_each(|at| row[at] = if edge >= 0.0 { stop(at) } else { go(at) });
                }
            }
            if exit == 0 {
                break;
            }
            // Over the stage to this exit, from each bin of the one before.
            let before = self.network.bins(exit - 1).share.len();
            behind = vec![0.0; before * width];
            let mut mixed = vec![0.0; width];
            for from in 0..before {
                mixed.fill(0.0);
                for (to, row) in level.chunks(width).enumerate() {
                    let p = self.share(exit, from, to);
                    mixed.iter_mut().zip(row).for_each(|(x, v)| *x += p * v);
                }
                let slot = &mut behind[from * width..(from + 1) * width];
                self.chain.expect(exit, price, &mixed, slot);
            }
        }
        better
    }

    /// How often each state is visited under a table, by exit; where never, the long-run share of the phases.
    fn weights(&self, table: &StopTable, run: &Run) -> Vec<Vec<f64>> {
        let (width, phases) = (self.chain.width(), self.chain.phases());
        let mut start = vec![0.0; width];
        start[phases..].copy_from_slice(&run.law);
        let share: Vec<f64> = (0..phases)
            .map(|i| run.law.iter().skip(i).step_by(phases).sum())
            .collect();
        let mut weights = Vec::with_capacity(self.network.exits());
        self.forwards(&start, |exit, level| {
            let mut seen = level.to_vec();
            for masses in seen.chunks_mut(phases) {
                if masses.iter().sum::<f64>() < 1e-14 {
                    masses.copy_from_slice(&share);
                }
            }
            weights.push(seen);
            for (bin, row) in level.chunks_mut(width).enumerate() {
                for (at, mass) in row.iter_mut().enumerate() {
                    *mass *= 1.0 - self.stops(table, exit, bin, at / phases);
                }
            }
        });
        weights
    }

    /// The mixture of two tables with exactly the target loss: `low` loses more, `high` at most that.
    fn mix(&self, low: &Solved, high: Solved, target: f64) -> Solved {
        let (mut safe, mut risky) = (0.0, 1.0);
        let mut best = high.clone();
        for _ in 0..HALVINGS {
            let weight = safe + (risky - safe) / 2.0;
            let table = high.table.between(&low.table, weight);
            let run = self.run(&table);
            if run.loss <= target {
                safe = weight;
                if run.accuracy >= best.accuracy {
                    best = Solved {
                        table,
                        accuracy: run.accuracy,
                        loss: run.loss,
                    };
                }
                if run.loss >= target * (1.0 - CLOSE) {
                    break;
                }
            } else {
                risky = weight;
            }
        }
        best
    }

    /// When no price meets the target: whichever loses less, the dearest table or the first exit.
    fn safest(&self, dear: Solved, table: &ExitTable, station: &Station) -> Solved {
        let first = StopTable::new(table, station.capacity, 1.0);
        let run = self.run(&first);
        if run.loss < dear.loss {
            Solved {
                table: first,
                accuracy: run.accuracy,
                loss: run.loss,
            }
        } else {
            dear
        }
    }
}
