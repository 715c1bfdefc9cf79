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

use splitplace_queueing::Service;

use super::{
    At, ExitError, ExitPolicy, ExitTable, Records, Station, StopTable,
    chain::{Chain, Costs},
    polish::polish,
    process::{Process, Solution},
    real,
    seen::{Seen, trace_on_records},
};

/// Halvings of the price, and of the weight of the mixture.
const HALVINGS: usize = 48;
/// Rounds of making a table from what a controller reaches, and a controller from the table.
const FITS: usize = 8;
/// Price beyond which the target counts as out of reach.
const DEAR: f64 = 1e7;
/// What may be lost beyond the least that is possible when the target is out of reach, relatively.
const HARDLY: f64 = 2e-3;
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
                let least = model.safest(low, table, station);
                let reach = Station {
                    target: (least.loss * (1.0 + HARDLY)).min(0.999_999),
                    ..*station
                };
                // The most accurate table that loses hardly more than must be lost.
                return if reach.target > station.target * (1.0 + HARDLY) {
                    Self::new(table, &reach)
                } else {
                    Ok(least.controller(dear))
                };
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

    /// Solves for recorded inputs. A table of bins is no Markov chain of real inputs: what is hard at one exit
    /// is hard at the next, and what a controller stops early is missing later, so that confidence there means
    /// less than over all inputs. So the table is made from what reaches each exit under the controller, the
    /// controller from the table, and both again; the target of the model is moved until the loss that is
    /// exact for the records is the one asked for. The best round is then improved on the records
    /// themselves (`polish`). Accuracy and loss are those on the records.
    ///
    /// # Errors
    /// When the station makes no sense, there are no inputs or not as many stages as exits.
    pub fn fitted(
        records: &Records,
        stages: &[Service],
        bins: usize,
        station: &Station,
    ) -> Result<Self, ExitError> {
        station.check()?;
        let mut weights: Vec<f64> = vec![1.0; records.len() * records.exits()];
        let mut aim = station.target;
        let mut best: Option<Self> = None;
        for _ in 0..FITS {
            let table = records.table_given(stages.to_vec(), bins, &weights)?;
            let model = Station {
                target: aim,
                ..*station
            };
            let mut joint = Self::new(&table, &model)?;
            let (exact, trace) = trace_on_records(&joint, records, stages, station)?;
            // Halfway from what was seen before: two controllers may take turns.
            for (now, seen) in weights.iter_mut().zip(&trace.reach) {
                *now = f64::midpoint(*now, *seen * real(records.len()));
            }
            (joint.accuracy, joint.loss) = (exact.accuracy, exact.loss);
            let spare = exact.loss <= station.target * 0.99 && aim >= 0.5;
            if exact.loss > 0.0 && !spare {
                aim = (aim * (station.target / exact.loss).clamp(0.5, 2.0)).clamp(1e-6, 0.5);
            }
            let excess = |joint: &Self| (joint.loss / station.target - 1.002).max(0.0);
            let is_better = best.as_ref().is_none_or(|best| {
                let (now, before) = (excess(&joint), excess(best));
                now < before || now <= before && joint.accuracy > best.accuracy
            });
            if is_better {
                best = Some(joint);
            }
        }
        let best = best.ok_or(ExitError::Program)?;
        polish(&Seen::new(records, stages, station)?, best, station.target)
    }

    /// The same with another table.
    pub(super) fn with(&self, table: StopTable) -> Self {
        Self {
            table,
            ..self.clone()
        }
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

/// The process of one station, with prices on losses.
struct Model<'a>(Process<'a>);

impl<'a> Model<'a> {
    fn new(network: &'a ExitTable, station: &Station) -> Result<Self, ExitError> {
        Ok(Self(Process {
            network,
            chain: Chain::new(network.stages(), station)?,
            first: 0,
            last: network.last(),
            entry: network.bins(0).share.clone(),
            leave: network.bins(network.last()).correct.clone(),
            timed: false,
        }))
    }

    fn solved(&self, table: StopTable) -> Solved {
        let run = self.0.run(&table);
        Solved {
            table,
            accuracy: run.mean(&run.reward),
            loss: run.loss(),
        }
    }

    fn improve(&self, price: f64, from: StopTable) -> Solved {
        let costs = Costs {
            lost: price,
            ..Costs::default()
        };
        let Solution { table, run, .. } = self.0.improve(&costs, from);
        Solved {
            table,
            accuracy: run.mean(&run.reward),
            loss: run.loss(),
        }
    }

    /// The mixture of two tables with exactly the target loss: `low` loses more, `high` at most that.
    fn mix(&self, low: &Solved, high: Solved, target: f64) -> Solved {
        let (mut safe, mut risky) = (0.0, 1.0);
        let mut best = high.clone();
        for _ in 0..HALVINGS {
            let weight = safe + (risky - safe) / 2.0;
            let table = high.table.between(&low.table, weight);
            let solved = self.solved(table);
            if solved.loss <= target {
                safe = weight;
                let is_met = solved.loss >= target * (1.0 - CLOSE);
                if solved.accuracy >= best.accuracy {
                    best = solved;
                }
                if is_met {
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
        let first = self.solved(StopTable::new(table, station.capacity, 1.0));
        if first.loss < dear.loss { first } else { dear }
    }
}
