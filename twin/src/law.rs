//! Laws of random lengths: service times, times between failures, factors around one.

use std::sync::Arc;

use rand_distr::{Distribution as _, Exp1, Gamma};

use crate::Stream;

/// Why a law cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LawError {
    /// A number that must be finite and not negative.
    #[error("{what} = {value} must be finite and at least 0")]
    Negative {
        /// Which.
        what: &'static str,
        /// As given.
        value: f64,
    },
    /// An empirical law without observations, or with too many.
    #[error("an empirical law needs 1 to {most} observations, not {found}")]
    Observations {
        /// The bound.
        most: usize,
        /// As given.
        found: usize,
    },
}

/// A law of non-negative lengths. Cheap to clone; draws cost 5 to 30 ns.
#[derive(Clone, Debug)]
pub struct Law {
    kind: Kind,
    mean: f64,
    scv: f64,
}

#[derive(Clone, Debug)]
enum Kind {
    Constant,
    Exponential,
    Gamma(Gamma<f64>),
    /// Sorted.
    Empirical(Arc<[f64]>),
}

impl Law {
    /// Most observations of an empirical law.
    pub const OBSERVATIONS: usize = 1 << 20;

    /// Always `value`.
    ///
    /// # Errors
    /// [`LawError::Negative`].
    pub fn constant(value: f64) -> Result<Self, LawError> {
        Ok(Self {
            kind: Kind::Constant,
            mean: positive("value", value)?,
            scv: 0.0,
        })
    }

    /// Exponential with this mean.
    ///
    /// # Errors
    /// [`LawError::Negative`].
    pub fn exponential(mean: f64) -> Result<Self, LawError> {
        Ok(Self {
            kind: Kind::Exponential,
            mean: positive("mean", mean)?,
            scv: 1.0,
        })
    }

    /// Gamma with this mean and squared coefficient of variation (variance over squared mean); constant
    /// for 0.
    ///
    /// # Errors
    /// [`LawError::Negative`].
    pub fn gamma(mean: f64, scv: f64) -> Result<Self, LawError> {
        let (mean, scv) = (positive("mean", mean)?, positive("scv", scv)?);
        // Below, the shape is so large that a draw differs from the mean by less than its rounding.
        let kind = match Gamma::new(1.0 / scv, scv) {
            Ok(gamma) if 1e-12 < scv => Kind::Gamma(gamma),
            Ok(_) | Err(_) => Kind::Constant,
        };
        Ok(Self { kind, mean, scv })
    }

    /// Draws from these observations, interpolated linearly between neighbours.
    ///
    /// # Errors
    /// [`LawError`] for no observation, too many, or one that is negative.
    pub fn empirical(mut observations: Vec<f64>) -> Result<Self, LawError> {
        if observations.is_empty() || Self::OBSERVATIONS < observations.len() {
            return Err(LawError::Observations {
                most: Self::OBSERVATIONS,
                found: observations.len(),
            });
        }
        for &value in &observations {
            positive("observation", value)?;
        }
        observations.sort_by(f64::total_cmp);
        let (mean, second) = moments(&observations);
        let scv = if mean > 0.0 {
            (second / (mean * mean) - 1.0).max(0.0)
        } else {
            0.0
        };
        Ok(Self {
            kind: Kind::Empirical(observations.into()),
            mean,
            scv,
        })
    }

    /// The mean.
    #[must_use]
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// Squared coefficient of variation.
    #[must_use]
    pub const fn scv(&self) -> f64 {
        self.scv
    }

    /// The same law with another mean. An empirical law is stretched.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        let kind = match &self.kind {
            Kind::Empirical(sorted) => {
                Kind::Empirical(sorted.iter().map(|value| value * factor).collect())
            }
            kind => kind.clone(),
        };
        Self {
            kind,
            mean: self.mean * factor,
            scv: self.scv,
        }
    }

    /// Whether every draw is the mean, so that no stream is needed.
    #[must_use]
    pub const fn is_constant(&self) -> bool {
        matches!(self.kind, Kind::Constant)
    }

    /// One draw.
    #[inline]
    pub fn draw(&self, stream: &mut Stream) -> f64 {
        match &self.kind {
            Kind::Constant => self.mean,
            Kind::Exponential => {
                let unit: f64 = Exp1.sample(stream);
                self.mean * unit
            }
            Kind::Gamma(gamma) => self.mean * gamma.sample(stream),
            Kind::Empirical(sorted) => {
                let place = stream.unit() * (sorted.len() - 1) as f64;
                let below = place as usize;
                let share = place - below as f64;
                let above = sorted.get(below + 1).unwrap_or(&sorted[below]);
                sorted[below] + share * (above - sorted[below])
            }
        }
    }
}

/// Mean and second moment of a law that is uniform between neighbours of a sorted list.
fn moments(sorted: &[f64]) -> (f64, f64) {
    let [only] = sorted else {
        let gaps = (sorted.len() - 1) as f64;
        return sorted.windows(2).fold((0.0, 0.0), |(first, second), pair| {
            let (a, b) = (pair[0], pair[1]);
            let square = (a * a + a * b + b * b) / 3.0;
            (first + (a + b) / 2.0 / gaps, second + square / gaps)
        });
    };
    (*only, only * only)
}

const fn positive(what: &'static str, value: f64) -> Result<f64, LawError> {
    if value.is_finite() && 0.0 <= value {
        Ok(value)
    } else {
        Err(LawError::Negative { what, value })
    }
}

/// Seconds as whole nanoseconds, rounded; what is too long lasts for ever.
#[must_use]
pub fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    /// Mean and variance of 10^5 draws against what the law says, within five standard errors (those of
    /// the variance bounded by a fourth moment of at most 40 variances squared).
    fn agrees(law: &Law) {
        let mut stream = Seed(11).stream("law", 0);
        let count = 100_000;
        let draws: Vec<f64> = (0..count).map(|_| law.draw(&mut stream)).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(count);
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(count);
        let expected = law.scv() * law.mean() * law.mean();
        let error = (expected / f64::from(count)).sqrt();
        assert!(
            (mean - law.mean()).abs() <= 5.0 * error + 1e-12,
            "{law:?} {mean}"
        );
        let error = expected * (40.0 / f64::from(count)).sqrt();
        assert!(
            (variance - expected).abs() <= 5.0 * error + 1e-12,
            "{law:?} {variance}"
        );
    }

    #[test]
    fn draws_have_the_moments_of_their_law() {
        agrees(&Law::constant(0.3).unwrap());
        agrees(&Law::exponential(2.0).unwrap());
        agrees(&Law::gamma(0.5, 0.25).unwrap());
        agrees(&Law::gamma(0.5, 4.0).unwrap());
        agrees(&Law::empirical(vec![3.0, 1.0, 2.0, 9.0]).unwrap());
        agrees(&Law::empirical(vec![3.0]).unwrap());
        agrees(&Law::gamma(0.5, 0.0).unwrap().scaled(3.0));
        agrees(&Law::empirical(vec![3.0, 1.0]).unwrap().scaled(0.1));
    }

    #[test]
    fn impossible_laws_are_refused() {
        assert!(Law::constant(-1.0).is_err());
        assert!(Law::exponential(f64::NAN).is_err());
        assert!(Law::gamma(1.0, f64::INFINITY).is_err());
        assert!(Law::empirical(vec![]).is_err());
        assert!(Law::empirical(vec![1.0, -1.0]).is_err());
    }

    #[test]
    fn nanoseconds_are_rounded_and_saturate() {
        assert_eq!(nanos(1.5e-9), 2);
        assert_eq!(nanos(f64::INFINITY), u64::MAX);
        assert_eq!(nanos(-1.0), 0);
    }
}
