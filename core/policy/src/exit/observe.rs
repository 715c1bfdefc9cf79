//! What a station learns of its arrivals and service times, and when a controller must be made anew.
//!
//! The edge feeds instants and durations in; the decision to solve again is pure, the swap is the edge's.

use splitplace_queueing::{Arrivals, Error, Service};

use super::{ExitTable, real};

/// Arrivals that a window of the rate holds at most.
const WINDOW: usize = 256;

/// The arrival rate over a sliding window: the last so many arrivals, but no older than so many seconds.
///
/// The estimate is n arrivals over the time they span up to now, so that a lull lowers it without an arrival.
#[derive(Clone, Debug, PartialEq)]
pub struct RateWindow {
    instants: std::collections::VecDeque<f64>,
    most: usize,
    seconds: f64,
}

impl RateWindow {
    /// A window of so many seconds.
    #[must_use]
    pub fn new(seconds: f64) -> Self {
        Self::sized(WINDOW, seconds)
    }

    /// A window of at most so many arrivals and seconds.
    #[must_use]
    pub fn sized(arrivals: usize, seconds: f64) -> Self {
        Self {
            instants: std::collections::VecDeque::with_capacity(arrivals + 1),
            most: arrivals,
            seconds,
        }
    }

    /// The instants that are not too old, in order.
    pub fn fresh(&self, now: f64) -> impl Iterator<Item = f64> {
        let instants = self.instants.iter().copied();
        instants.filter(move |&at| at >= now - self.seconds)
    }

    /// A request arrived at an instant, in seconds, whether it found a place or not.
    pub fn arrived(&mut self, at: f64) {
        self.instants.push_back(at);
        if self.instants.len() > self.most {
            self.instants.pop_front();
        }
    }

    /// Requests a second now, and the relative standard error of that number; `None` before the second arrival
    /// of the window.
    #[must_use]
    pub fn rate(&self, now: f64) -> Option<(f64, f64)> {
        let count = self.fresh(now).count();
        let first = self.fresh(now).next()?;
        // When the window's age bounds it, all of its length was watched.
        let span = if count < self.instants.len() {
            self.seconds
        } else {
            now - first
        };
        let n = if count < self.instants.len() {
            count
        } else {
            count - 1
        };
        if n == 0 || span <= 0.0 {
            return None;
        }
        Some((real(n) / span, 1.0 / real(n).sqrt()))
    }
}

/// Mean and variability of the time of one stage; old times fade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StageTimes {
    mean: f64,
    square: f64,
    weight: f64,
    keep: f64,
}

impl StageTimes {
    /// Times of which the last `memory` or so count.
    #[must_use]
    pub fn new(memory: f64) -> Self {
        Self {
            mean: 0.0,
            square: 0.0,
            weight: 0.0,
            keep: 1.0 - 1.0 / memory.max(1.0),
        }
    }

    /// A stage took so many seconds.
    pub fn took(&mut self, seconds: f64) {
        if !(seconds.is_finite() && seconds >= 0.0) {
            return;
        }
        self.weight = self.weight * self.keep + 1.0;
        self.mean += (seconds - self.mean) / self.weight;
        self.square += (seconds * seconds - self.square) / self.weight;
    }

    /// So many runs of a stage had this mean (seconds) and variance. One step of forgetting for each, as if they had
    /// been told one by one.
    pub fn took_many(&mut self, count: u64, mean: f64, variance: f64) {
        if count == 0 || !(mean.is_finite() && mean >= 0.0 && variance.is_finite()) {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of runs")]
        let n = count as f64;
        let kept = self.keep.powf(n);
        // What n new runs weigh after each has faded once for every later one.
        let fresh = if self.keep < 1.0 {
            (1.0 - kept) / (1.0 - self.keep)
        } else {
            n
        };
        self.weight = self.weight * kept + fresh;
        let share = fresh / self.weight;
        self.mean += share * (mean - self.mean);
        self.square += share * (mean * mean + variance.max(0.0) - self.square);
    }

    /// How many times it was taken, the old ones counting less.
    #[must_use]
    pub const fn weight(&self) -> f64 {
        self.weight
    }

    /// Mean, in seconds.
    #[must_use]
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// As a gamma law of these two moments.
    ///
    /// # Errors
    /// Never for times that were taken in here.
    pub fn service(&self) -> Result<Service, Error> {
        let square = self.mean * self.mean;
        let scv = if square > 0.0 {
            (self.square / square - 1.0).max(0.0)
        } else {
            0.0
        };
        Service::gamma(self.mean, scv)
    }
}

/// What a controller was made for.
#[derive(Clone, Debug, PartialEq)]
pub struct Basis {
    /// Requests a second.
    pub rate: f64,
    /// Mean seconds of each stage.
    pub stages: Vec<f64>,
    /// Mean calibrated accuracy of each exit.
    pub accuracy: Vec<f64>,
}

impl Basis {
    /// What a table and arrivals say.
    #[must_use]
    pub fn of(table: &ExitTable, arrivals: &Arrivals) -> Self {
        Self {
            rate: arrivals.rate(),
            stages: table.stages().iter().map(Service::mean).collect(),
            accuracy: (0..table.exits()).map(|e| table.accuracy(e)).collect(),
        }
    }
}

/// How far the world may move before a controller is made anew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Relative change of the rate. A tenth more load is a tenth less time for each request.
    pub rate: f64,
    /// Relative change of the whole service time.
    pub service: f64,
    /// Absolute change of the mean calibrated accuracy of an exit.
    pub accuracy: f64,
    /// Changes of the rate smaller than so many of its standard errors are noise.
    pub errors: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            rate: 0.1,
            service: 0.05,
            accuracy: 0.02,
            errors: 2.0,
        }
    }
}

/// What moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The arrival rate.
    Rate,
    /// Height or length of the bursts in the arrivals.
    Bursts,
    /// The service time.
    Service,
    /// The confidences of an exit.
    Confidence {
        /// Which.
        exit: usize,
    },
}

/// Whether a controller made for `basis` must be made anew for `now`, and why; `rate_error` is the relative standard
/// error of the rate now.
#[must_use]
pub fn needs_resolve(
    basis: &Basis,
    now: &Basis,
    rate_error: f64,
    tolerance: &Tolerance,
) -> Option<Moved> {
    let relative = |a: f64, b: f64| (b - a).abs() / a.abs().max(f64::MIN_POSITIVE);
    let noise = tolerance.errors * rate_error * now.rate / basis.rate.max(f64::MIN_POSITIVE);
    if relative(basis.rate, now.rate) > tolerance.rate.max(noise) {
        return Some(Moved::Rate);
    }
    let total = |of: &Basis| -> f64 { of.stages.iter().sum() };
    if relative(total(basis), total(now)) > tolerance.service {
        return Some(Moved::Service);
    }
    let pairs = basis.accuracy.iter().zip(&now.accuracy);
    let moved = pairs
        .enumerate()
        .find(|(_, (a, b))| (**a - **b).abs() > tolerance.accuracy);
    moved.map(|(exit, _)| Moved::Confidence { exit })
}
