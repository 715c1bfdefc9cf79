//! The trait of exit controllers, and what goes in and out of them.

use std::{collections::BTreeMap, fmt};

use rand::Rng;
use splitplace_queueing::Arrivals;

use crate::fixed::unit;

/// Places that a controlled station may have at most, the one in service included.
pub const MAX_PLACES: usize = 64;

/// A station that a controller is made for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Station {
    /// How requests arrive.
    pub arrivals: Arrivals,
    /// K: requests that can be present, the one in service included; `1..=MAX_PLACES`.
    pub capacity: usize,
    /// ε: share of the arrivals that may be turned away.
    pub target: f64,
}

/// Why a controller could not be made or judged.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ExitError {
    /// The station makes no sense.
    #[error(transparent)]
    Queue(#[from] splitplace_queueing::Error),
    /// The table makes no sense.
    #[error(transparent)]
    Table(#[from] super::TableError),
    /// More places than [`MAX_PLACES`].
    #[error("{0} places are more than {MAX_PLACES}")]
    Places(usize),
    /// A target is a share in `(0, 1)`.
    #[error("a loss target of {0} is not between 0 and 1")]
    Target(f64),
    /// The linear program has no solution, or the solver failed.
    #[error("the linear program could not be solved")]
    Program,
}

impl Station {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// When a rate, the number of places or the target is none.
    pub fn check(&self) -> Result<(), ExitError> {
        self.arrivals.check()?;
        if self.capacity == 0 {
            return Err(splitplace_queueing::Error::Capacity(0).into());
        }
        if self.capacity > MAX_PLACES {
            return Err(ExitError::Places(self.capacity));
        }
        if !(self.target > 0.0 && self.target < 1.0) {
            return Err(ExitError::Target(self.target));
        }
        Ok(())
    }

    /// Requests lost per request served when the loss is the target: `ε / (1 - ε)`.
    #[must_use]
    pub fn lost_per_served(&self) -> f64 {
        self.target / (1.0 - self.target)
    }
}

/// What a controller fixed when service began. What the number means is its own affair: an exit, an arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intent(pub u16);

/// What a controller may fix when service begins, each with its probability. At most
/// [`Intents::MAX`]; they sum to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Intents {
    of: [(Intent, f64); Self::MAX],
    len: usize,
}

impl Intents {
    /// Most that a controller may mix.
    pub const MAX: usize = 4;

    /// Always this one.
    #[must_use]
    pub const fn one(intent: Intent) -> Self {
        let mut of = [(Intent(0), 0.0); Self::MAX];
        of[0] = (intent, 1.0);
        Self { of, len: 1 }
    }

    /// The exits with their weights: the largest [`Intents::MAX`], normalised. The first exit when all are 0.
    #[must_use]
    pub fn exits(weights: &[f64]) -> Self {
        let exits = (0..u16::MAX).map(Intent);
        Self::of_pairs(&exits.zip(weights.iter().copied()).collect::<Vec<_>>())
    }

    /// Intents with their weights, likewise.
    #[must_use]
    pub fn of_pairs(weights: &[(Intent, f64)]) -> Self {
        let mut ranked = weights.to_vec();
        ranked.retain(|(_, w)| *w > 1e-12 && w.is_finite());
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(Self::MAX);
        let total: f64 = ranked.iter().map(|(_, w)| w).sum();
        if ranked.is_empty() {
            return Self::one(Intent(0));
        }
        let mut of = [(Intent(0), 0.0); Self::MAX];
        for (slot, &(intent, weight)) in of.iter_mut().zip(&ranked) {
            *slot = (intent, weight / total);
        }
        let len = ranked.len();
        Self { of, len }
    }

    /// The intents and their probabilities.
    #[must_use]
    pub fn of(&self) -> &[(Intent, f64)] {
        &self.of[..self.len]
    }

    /// Mean of the exits that are intended.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.of().iter().map(|(i, p)| f64::from(i.0) * p).sum()
    }
}

/// A moment of decision: an exit has just been computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct At {
    /// Which exit, from 0.
    pub exit: usize,
    /// Its calibrated confidence in `[0, 1]`.
    pub confidence: f64,
    /// Requests present now, this one included, `1..=K`.
    pub present: usize,
    /// What was fixed when service began.
    pub intent: Intent,
}

/// Why a request stops or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// The controller says so with certainty.
    Certain,
    /// The controller leaves it to chance.
    Drawn,
    /// Nothing lies behind the last exit.
    Last,
    /// Stopping here would be less accurate than was asked for.
    Floor,
    /// The request goes on to the last exit so that calibration is checked.
    Audit,
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certain => "certain",
            Self::Drawn => "drawn",
            Self::Last => "last",
            Self::Floor => "floor",
            Self::Audit => "audit",
        })
    }
}

/// A decision with its why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExitChoice {
    /// Answer here, or go on to the next exit.
    pub stop: bool,
    /// Probability with which this was decided, in `(0, 1]`.
    pub propensity: f64,
    /// Why.
    pub reason: ExitReason,
}

impl ExitChoice {
    /// Answers with probability `p`.
    pub fn drawn(p: f64, rng: &mut dyn Rng) -> Self {
        if p >= 1.0 || p <= 0.0 {
            return Self {
                stop: p >= 1.0,
                propensity: 1.0,
                reason: ExitReason::Certain,
            };
        }
        let stop = unit(rng) < p;
        Self {
            stop,
            propensity: if stop { p } else { 1.0 - p },
            reason: ExitReason::Drawn,
        }
    }
}

/// How a served request turned out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExitOutcome<'a> {
    /// What was fixed when its service began.
    pub intent: Intent,
    /// Requests present when its service began, this one included.
    pub present: usize,
    /// Confidences of the exits that were computed, in order; the last one answered.
    pub confidences: &'a [f64],
    /// Whether it went to the last exit for the sake of calibration.
    pub audited: bool,
}

/// Decides after each exit whether to answer. Pure: one state, one probability; the same seed, the same
/// choices.
pub trait ExitPolicy: Send + Sync + fmt::Debug {
    /// Its name in configuration and tables.
    fn name(&self) -> &'static str;

    /// What is fixed when a service begins with so many present, this one included. O(1).
    fn intents(&self, present: usize) -> Intents {
        let _ = present;
        Intents::one(Intent(u16::MAX))
    }

    /// Probability of answering here. Never asked at the last exit. O(log bins), no allocation.
    fn stop(&self, at: &At) -> f64;

    /// Takes in one outcome.
    fn learn(&mut self, outcome: &ExitOutcome<'_>) {
        let _ = outcome;
    }

    /// What it believes, as named numbers for people.
    fn explain(&self) -> BTreeMap<String, f64>;

    /// Draws what is fixed when service begins.
    fn begin(&self, present: usize, rng: &mut dyn Rng) -> Intent {
        let intents = self.intents(present);
        if let [(intent, _)] = intents.of() {
            return *intent;
        }
        let mut left = unit(rng);
        for &(intent, p) in intents.of() {
            if left < p {
                return intent;
            }
            left -= p;
        }
        intents.of()[0].0
    }

    /// Decides whether to answer here.
    fn choose(&self, at: &At, rng: &mut dyn Rng) -> ExitChoice {
        ExitChoice::drawn(self.stop(at), rng)
    }
}
