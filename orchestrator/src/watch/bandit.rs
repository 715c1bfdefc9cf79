//! What decisions were worth, by model, context and arm: the bandit seen from outside.
//!
//! Policies keep what they need in forms of their own. What is kept here is the same for all of them:
//! how often an arm was taken in a context, how often to learn about it, with which probability, and the
//! reward that came of it, `(held + accuracy) / 2` with the validated accuracy, as in the SplitPlace paper.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{OTHER, RequestView};

/// Rows that are told apart.
pub const ROWS: usize = 512;
/// 95 % of a normal distribution.
const Z: f64 = 1.96;

type Key = (String, String, String);

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    count: u64,
    explored: u64,
    mean: f64,
    /// Sum of squared distances from the mean (Welford).
    squares: f64,
    propensity: f64,
    held: u64,
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The model.
    pub model: String,
    /// The policy's word for the context.
    pub context: String,
    /// The arm.
    pub arm: String,
    /// Times taken.
    pub count: u64,
    /// Of these, to learn about it.
    pub explored: u64,
    /// Share of promises kept.
    pub held: f64,
    /// Mean reward.
    pub reward: f64,
    /// Half the 95 % interval of the mean reward; absent below two decisions.
    pub confidence: Option<f64>,
    /// Mean probability with which it was taken, when it was.
    pub propensity: f64,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Bandit {
    cells: BTreeMap<Key, Cell>,
}

impl Bandit {
    /// Takes in one ended request that an arm was chosen for. O(log rows).
    pub fn learn(&mut self, request: &RequestView) {
        let (held, accuracy) = (f64::from(u8::from(request.held)), request.accuracy);
        let answered = request.ending == "answered";
        let reward = (held + if answered { accuracy } else { 0.0 }) / 2.0;
        let mut key = (
            request.model.clone(),
            request.context.clone(),
            request.arm.clone(),
        );
        if !self.cells.contains_key(&key) && ROWS <= self.cells.len() {
            key = (OTHER.into(), OTHER.into(), OTHER.into());
        }
        let cell = self.cells.entry(key).or_default();
        cell.count += 1;
        cell.held += u64::from(request.held);
        cell.explored += u64::from(request.reason == "explored");
        #[expect(clippy::cast_precision_loss, reason = "a count of decisions")]
        let n = cell.count as f64;
        let before = reward - cell.mean;
        cell.mean += before / n;
        cell.squares += before * (reward - cell.mean);
        cell.propensity += (request.propensity - cell.propensity) / n;
    }

    /// The rows, by model, context and arm.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let row = |((model, context, arm), cell): (&Key, &Cell)| {
            #[expect(clippy::cast_precision_loss, reason = "a count of decisions")]
            let (n, held) = (cell.count as f64, cell.held as f64);
            let interval = || Z * (cell.squares / (n - 1.0) / n).sqrt();
            Row {
                model: model.clone(),
                context: context.clone(),
                arm: arm.clone(),
                count: cell.count,
                explored: cell.explored,
                held: held / n,
                reward: cell.mean,
                confidence: (1 < cell.count).then(interval),
                propensity: cell.propensity,
            }
        };
        self.cells.iter().map(row).collect()
    }
}
