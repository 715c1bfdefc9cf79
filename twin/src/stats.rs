//! What a simulation may claim, and how surely.
//!
//! - [`Summary`]: count, mean, variance, extremes, without keeping the values.
//! - [`Quantiles`]: a histogram of times with a relative error of at most 1 %.
//! - [`Batches`]: the mean of one long run with an interval, by batch means.
//! - [`Estimate`]: a mean with an interval; over replications, or of paired differences.
//! - [`warm_up`]: where the transient ends, by the rule MSER-5.
//! - [`Race`]: two candidates on common random numbers, stopped when it is decided.

mod batches;
mod quantiles;
mod race;
mod student;

pub use batches::{Batches, warm_up};
pub use quantiles::Quantiles;
pub use race::{Race, RaceSettings, Verdict};
pub use student::student;

/// Count, mean, variance and extremes by Welford's recursion. 40 bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    count: u64,
    mean: f64,
    squares: f64,
    least: f64,
    most: f64,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            count: 0,
            mean: 0.0,
            squares: 0.0,
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
        }
    }
}

impl Summary {
    /// Takes in one value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
        self.least = self.least.min(value);
        self.most = self.most.max(value);
    }

    /// Values taken in.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; 0 for none.
    #[must_use]
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// Their unbiased variance; 0 for fewer than two.
    #[must_use]
    pub fn variance(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        self.squares / (self.count - 1) as f64
    }

    /// The least and the largest; `None` for no value.
    #[must_use]
    pub fn extremes(&self) -> Option<(f64, f64)> {
        (0 < self.count).then_some((self.least, self.most))
    }

    /// The mean with an interval, taking the values for independent and near normal: replications, or
    /// batches that are long enough.
    #[must_use]
    pub fn estimate(&self, confidence: f64) -> Estimate {
        let half_width = if self.count < 2 {
            f64::INFINITY
        } else {
            let error = (self.variance() / self.count as f64).sqrt();
            student(self.count - 1, confidence) * error
        };
        Estimate {
            mean: self.mean,
            half_width,
            confidence,
            count: self.count,
        }
    }
}

impl FromIterator<f64> for Summary {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut summary = Self::default();
        values.into_iter().for_each(|value| summary.add(value));
        summary
    }
}

/// A mean that lies within `mean ± half_width` with this confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The middle.
    pub mean: f64,
    /// Infinite when nothing can be said.
    pub half_width: f64,
    /// As a share, 0.95 for example.
    pub confidence: f64,
    /// Independent values behind it.
    pub count: u64,
}

impl Estimate {
    /// A value that is known exactly.
    #[must_use]
    pub const fn exact(mean: f64) -> Self {
        Self {
            mean,
            half_width: 0.0,
            confidence: 1.0,
            count: 1,
        }
    }

    /// Whether the interval holds this value.
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        (value - self.mean).abs() <= self.half_width
    }

    /// Half the interval over the mean.
    #[must_use]
    pub fn relative(&self) -> f64 {
        if self.half_width == 0.0 {
            return 0.0;
        }
        self.half_width / self.mean.abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_what_the_definition_says() {
        let summary: Summary = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]
            .into_iter()
            .collect();
        assert!((summary.mean() - 5.0).abs() < 1e-12);
        assert!((summary.variance() - 32.0 / 7.0).abs() < 1e-12);
        assert_eq!(summary.extremes(), Some((2.0, 9.0)));
        let estimate = summary.estimate(0.95);
        // t(7) = 2.365 from the tables.
        assert!((estimate.half_width - 2.3646 * (4.0f64 / 7.0).sqrt()).abs() < 1e-3);
        assert!(estimate.holds(6.0) && !estimate.holds(8.0));
        assert!(Summary::default().estimate(0.95).half_width.is_infinite());
        assert_eq!(Summary::default().extremes(), None);
    }
}
