//! How long a request is served: mixtures of constant, gamma and measured times.

use crate::{Error, MAX_PARTS, real};

/// Below this squared coefficient of variation a gamma time is taken as constant: the two differ by less
/// than rounding does.
const CONSTANT_SCV: f64 = 1e-10;

/// One part of a mixture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Law {
    /// Always the same time.
    Constant {
        /// Seconds.
        mean: f64,
    },
    /// Gamma with this mean and squared coefficient of variation: exponential at 1, Erlang-k at 1/k.
    Gamma {
        /// Seconds.
        mean: f64,
        /// `Var / mean²`, positive.
        scv: f64,
    },
}

impl Law {
    /// Mean, in seconds.
    #[must_use]
    pub const fn mean(self) -> f64 {
        match self {
            Self::Constant { mean } | Self::Gamma { mean, .. } => mean,
        }
    }

    /// Squared coefficient of variation.
    #[must_use]
    pub const fn scv(self) -> f64 {
        match self {
            Self::Constant { .. } => 0.0,
            Self::Gamma { scv, .. } => scv,
        }
    }

    fn scaled(self, factor: f64) -> Self {
        match self {
            Self::Constant { mean } => Self::Constant {
                mean: mean * factor,
            },
            Self::Gamma { mean, scv } => Self::Gamma {
                mean: mean * factor,
                scv,
            },
        }
    }
}

/// A service time: a mixture of [`Law`]s whose weights sum to 1.
///
/// Early exits of constant cost are a mixture of constants with the exit shares as weights. Times that
/// were measured are a mixture of as many constants.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    parts: Vec<(f64, Law)>,
}

impl Service {
    /// Always `mean` seconds.
    ///
    /// # Errors
    /// When `mean` is negative or not finite.
    pub fn constant(mean: f64) -> Result<Self, Error> {
        Self::gamma(mean, 0.0)
    }

    /// Exponential with this mean in seconds.
    ///
    /// # Errors
    /// When `mean` is negative or not finite.
    pub fn exponential(mean: f64) -> Result<Self, Error> {
        Self::gamma(mean, 1.0)
    }

    /// Gamma with this mean in seconds and squared coefficient of variation; constant below
    /// a variability of 10⁻¹⁰.
    ///
    /// # Errors
    /// When one is negative or not finite.
    pub fn gamma(mean: f64, scv: f64) -> Result<Self, Error> {
        let is_time = |value: f64| value.is_finite() && value >= 0.0;
        if !is_time(mean) {
            return Err(Error::Service(mean));
        }
        if !is_time(scv) {
            return Err(Error::Service(scv));
        }
        let law = if scv < CONSTANT_SCV || mean == 0.0 {
            Law::Constant { mean }
        } else {
            Law::Gamma { mean, scv }
        };
        Ok(Self {
            parts: vec![(1.0, law)],
        })
    }

    /// The times that were measured, in seconds, each as likely as it was seen.
    ///
    /// # Errors
    /// When there are none or more than [`MAX_PARTS`] different ones, or one is no time.
    pub fn empirical(seconds: &[f64]) -> Result<Self, Error> {
        if let Some(&bad) = seconds.iter().find(|s| !(s.is_finite() && **s >= 0.0)) {
            return Err(Error::Service(bad));
        }
        let mut sorted = seconds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mut parts: Vec<(f64, Law)> = Vec::new();
        let share = 1.0 / real(seconds.len().max(1));
        for mean in sorted {
            match parts.last_mut() {
                Some((weight, law)) if law.mean() == mean => *weight += share,
                _ => parts.push((share, Law::Constant { mean })),
            }
        }
        Self::bounded(parts)
    }

    /// Each service time with its weight; weights need not sum to 1.
    ///
    /// # Errors
    /// When a weight is no share, all are zero, or the parts are too many.
    pub fn mix(of: &[(f64, Self)]) -> Result<Self, Error> {
        if let Some((bad, _)) = of.iter().find(|(w, _)| !(w.is_finite() && *w >= 0.0)) {
            return Err(Error::Weight(*bad));
        }
        let largest = of.iter().map(|(weight, _)| *weight).fold(0.0, f64::max);
        if largest == 0.0 && !of.is_empty() {
            return Err(Error::Weight(0.0));
        }
        // Divided by the largest first, so that the sum cannot overflow.
        let total: f64 = of.iter().map(|(weight, _)| weight / largest).sum();
        let parts = of
            .iter()
            .filter(|(weight, _)| *weight > 0.0)
            .flat_map(|(weight, service)| {
                let share = weight / largest / total;
                service.parts.iter().map(move |&(w, law)| (w * share, law))
            })
            .collect();
        Self::bounded(parts)
    }

    fn bounded(parts: Vec<(f64, Law)>) -> Result<Self, Error> {
        if parts.is_empty() || parts.len() > MAX_PARTS {
            return Err(Error::Parts(parts.len()));
        }
        Ok(Self { parts })
    }

    /// The same time in other units or on another node: every part multiplied by `factor`, which is
    /// clamped to `[0, 10¹²]`.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        let factor = if factor.is_nan() { 1.0 } else { factor };
        let factor = factor.clamp(0.0, 1e12);
        let parts = &self.parts;
        Self {
            parts: parts.iter().map(|&(w, l)| (w, l.scaled(factor))).collect(),
        }
    }

    /// Weights and laws.
    #[must_use]
    pub fn parts(&self) -> &[(f64, Law)] {
        &self.parts
    }

    /// E\[S\], in seconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.parts.iter().map(|(w, law)| w * law.mean()).sum()
    }

    /// E\[S²\], in seconds².
    #[must_use]
    pub fn second_moment(&self) -> f64 {
        let square = |law: Law| law.mean() * law.mean() * (1.0 + law.scv());
        self.parts.iter().map(|&(w, law)| w * square(law)).sum()
    }

    /// `s² = Var[S] / E[S]²`; 0 when nothing takes any time.
    #[must_use]
    pub fn scv(&self) -> f64 {
        let mean = self.mean();
        if mean <= 0.0 {
            return 0.0;
        }
        // Around the mean and in its units: no cancellation, no overflow.
        let spread = |law: Law| {
            let m = law.mean() / mean;
            (m - 1.0) * (m - 1.0) + m * m * law.scv()
        };
        let scv: f64 = self.parts.iter().map(|&(w, law)| w * spread(law)).sum();
        scv.min(f64::MAX)
    }
}
