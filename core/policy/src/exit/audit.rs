//! Accuracy that nobody sees: inferred from calibrated confidence, kept true by an audited share.
//!
//! A share of the requests runs to the last exit whatever the controller says. There the answers of all exits stand
//! beside the last one's. What an exit's calibration promises, agreement with the last exit (or with
//! the truth, when it is told), is compared with what is seen, and a drift is an alarm.

use rand::Rng;

use super::{ExitTable, real};
use crate::fixed::unit;

/// Whether this request is audited: with probability `share`, whatever it is.
pub fn audited(share: f64, rng: &mut dyn Rng) -> bool {
    unit(rng) < share
}

/// The state of one exit's calibration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Watch {
    /// Sum of calibrated accuracies that were promised, and of what came true.
    promised: f64,
    came_true: f64,
    count: f64,
    /// Page's cumulated sums of log likelihood ratios: too confident, too timid.
    over: f64,
    under: f64,
}

/// Drift of the calibration of every exit, by Page's CUSUM of log likelihood ratios.
///
/// Each audited answer is weighed by how much likelier it is under odds of being right that are `odds` times lower, or
/// higher, than promised: `S ← max(0, S + ln(p₁(answer) / p(answer)))`, an alarm above `height`. What one answer says is
/// bounded by ln `odds`, so that one miss of an exit that is nearly always right is no alarm (a standardised surprise
/// of it would be). While promises hold a false alarm of one sum takes e^`height` answers on average at least (Lorden,
/// 1971): 22 000 as set. An exit that is right in a half of what it promises at 98 % is found within some thirty.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    exits: Vec<Watch>,
    /// Factor on the odds that is looked for: less than about its root is no drift.
    pub odds: f64,
    /// Sum at which the alarm is raised.
    pub height: f64,
}

/// Promises are held to be no surer than this: a table is made from some thousand inputs.
const SUREST: f64 = 0.995;

/// An exit whose calibration no longer holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// Which exit.
    pub exit: usize,
    /// Mean promised accuracy, and what came true, since the last reset.
    pub promised: f64,
    /// See there.
    pub came_true: f64,
}

impl Calibration {
    /// A watch over so many exits.
    #[must_use]
    pub fn new(exits: usize) -> Self {
        Self {
            exits: vec![Watch::default(); exits],
            odds: 2.0,
            height: 10.0,
        }
    }

    /// An audited request: by exit its confidence, and whether its answer is the true one (or the last exit's).
    pub fn saw(&mut self, table: &ExitTable, exits: &[(f64, bool)]) {
        let known = self.exits.len().min(table.exits());
        for (exit, &(confidence, is_true)) in exits.iter().enumerate().take(known) {
            let p = table.calibrated(exit, confidence);
            let p = p.clamp(1.0 - SUREST, SUREST);
            let truth = f64::from(u8::from(is_true));
            // ln(p₁ / p) of what was seen, where the odds are `factor` times those of p.
            let ratio = |factor: f64| {
                let scale = 1.0 - p + factor * p;
                (if is_true { factor } else { 1.0 } / scale).ln()
            };
            let watch = &mut self.exits[exit];
            watch.promised += p;
            watch.came_true += truth;
            watch.count += 1.0;
            watch.over = (watch.over + ratio(1.0 / self.odds)).max(0.0);
            watch.under = (watch.under + ratio(self.odds)).max(0.0);
        }
    }

    /// The first exit that raised the alarm.
    #[must_use]
    pub fn drift(&self) -> Option<Drift> {
        let loud = |watch: &Watch| watch.over.max(watch.under) > self.height;
        let exit = self.exits.iter().position(loud)?;
        let watch = self.exits[exit];
        Some(Drift {
            exit,
            promised: watch.promised / watch.count.max(1.0),
            came_true: watch.came_true / watch.count.max(1.0),
        })
    }

    /// Mean difference between promise and truth by exit, for dashboards; 0 before the first audit.
    #[must_use]
    pub fn gaps(&self) -> Vec<f64> {
        let gap = |w: &Watch| (w.promised - w.came_true) / w.count.max(1.0);
        self.exits.iter().map(gap).collect()
    }

    /// Requests audited since the last reset.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.exits.iter().map(|w| w.count).fold(0.0, f64::max)
    }

    /// Begins anew, after a new table was made.
    pub fn reset(&mut self) {
        self.exits.fill(Watch::default());
    }
}

/// A bound on the accuracy of an exit from n audited requests of which k came true: the lower end of
/// Wilson's interval at `z` standard deviations.
#[must_use]
pub fn at_least(k: usize, n: usize, z: f64) -> f64 {
    if n == 0 {
        return 0.0;
    }
    let (n, p) = (real(n), real(k.min(n)) / real(n));
    let z2 = z * z;
    let middle = p + z2 / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    ((middle - half) / (1.0 + z2 / n)).max(0.0)
}
