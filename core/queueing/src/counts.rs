//! How many requests arrive during one service.

use crate::{Error, MAX_CAPACITY, Service, real, service::Law};

/// The law of A, the number of Poisson arrivals during one service time, up to a number of places.
///
/// A constant time gives Poisson, a gamma time the negative binomial, a mixture the mixture. Tails are
/// summed from above, never `1 - cumulated`, so that they keep their digits when they are tiny.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    pmf: Vec<f64>,
    above: Vec<f64>,
    excess: Vec<f64>,
}

impl Counts {
    /// Counts of arrivals at `rate` during `service`, for `capacity` places. O(parts · capacity).
    ///
    /// # Errors
    /// When the rate is negative or not finite, or the capacity not in `1..=MAX_CAPACITY`.
    pub fn new(rate: f64, service: &Service, capacity: usize) -> Result<Self, Error> {
        if !(rate.is_finite() && rate >= 0.0) {
            return Err(Error::Rate(rate));
        }
        if capacity == 0 || capacity > MAX_CAPACITY {
            return Err(Error::Capacity(capacity));
        }
        let mut pmf = vec![0.0; capacity + 1];
        let (mut tail, mut excess_end) = (0.0, 0.0);
        let mut own = vec![0.0; capacity + 1];
        for &(weight, law) in service.parts() {
            let mean = (rate * law.mean()).min(f64::MAX);
            let (t, x) = match law {
                Law::Constant { .. } => fill(&Ratio::Poisson { mean }, &mut own),
                Law::Gamma { scv, .. } => {
                    fill(&Ratio::negative_binomial(mean, 1.0 / scv), &mut own)
                }
            };
            for (sum, p) in pmf.iter_mut().zip(&own) {
                *sum += weight * p;
            }
            tail += weight * t;
            excess_end += weight * x;
        }
        // above[k] = P(A > k) for k < capacity; the last is P(A >= capacity).
        let mut above = vec![0.0; capacity];
        above[capacity - 1] = tail;
        for k in (1..capacity).rev() {
            above[k - 1] = above[k] + pmf[k];
        }
        let mut excess = vec![0.0; capacity + 1];
        excess[capacity] = excess_end;
        for c in (0..capacity).rev() {
            excess[c] = (excess[c + 1] + above[c]).min(f64::MAX);
        }
        pmf.truncate(capacity);
        Ok(Self { pmf, above, excess })
    }

    /// P(A = k) for `k < capacity`.
    #[must_use]
    pub fn pmf(&self) -> &[f64] {
        &self.pmf
    }

    /// P(A > k) for `k < capacity`.
    #[must_use]
    pub fn above(&self) -> &[f64] {
        &self.above
    }

    /// E\[(A - c)⁺\] for `c <= capacity`: how many are lost when there is room for `c`.
    #[must_use]
    pub fn excess(&self) -> &[f64] {
        &self.excess
    }
}

/// A law on 0, 1, 2, … by the ratio of neighbours.
enum Ratio {
    Poisson { mean: f64 },
    NegativeBinomial { mean: f64, shape: f64, q: f64 },
}

impl Ratio {
    fn negative_binomial(mean: f64, shape: f64) -> Self {
        let theta = mean / shape;
        // 1 when theta is beyond all bounds.
        let q = if theta.is_finite() {
            theta / (1.0 + theta)
        } else {
            1.0
        };
        Self::NegativeBinomial { mean, shape, q }
    }

    const fn mean(&self) -> f64 {
        match self {
            Self::Poisson { mean } | Self::NegativeBinomial { mean, .. } => *mean,
        }
    }

    /// ln P(A = 0).
    fn ln_zero(&self) -> f64 {
        match self {
            Self::Poisson { mean } => -mean,
            Self::NegativeBinomial { mean, shape, .. } => -shape * (mean / shape).ln_1p(),
        }
    }

    /// P(A = k + 1) / P(A = k).
    fn up(&self, k: usize) -> f64 {
        match self {
            Self::Poisson { mean } => mean / real(k + 1),
            Self::NegativeBinomial { shape, q, .. } => q * ((shape + real(k)) / real(k + 1)),
        }
    }
}

/// Fills P(A = k) for all of `pmf`, whose last index is the capacity c; P(A >= c) and E\[(A - c)⁺\].
fn fill(law: &Ratio, pmf: &mut [f64]) -> (f64, f64) {
    let capacity = pmf.len() - 1;
    let start = law.ln_zero();
    if start > -600.0 {
        pmf[0] = start.exp();
        for k in 0..capacity {
            pmf[k + 1] = pmf[k] * law.up(k);
        }
    } else {
        // From the largest term outwards, because P(A = 0) is below the smallest number.
        let mut ln = start;
        let mut best = (0, start);
        for k in 0..capacity {
            ln += law.up(k).ln();
            if ln > best.1 {
                best = (k + 1, ln);
            }
        }
        let (mode, ln) = best;
        pmf.fill(0.0);
        pmf[mode] = ln.exp();
        for k in mode..capacity {
            pmf[k + 1] = pmf[k] * law.up(k);
        }
        for k in (0..mode).rev() {
            let up = law.up(k);
            pmf[k] = if up > 0.0 { pmf[k + 1] / up } else { 0.0 };
        }
    }
    let below: f64 = pmf[..capacity].iter().sum();
    let complement = || {
        let short: f64 = pmf[..capacity]
            .iter()
            .enumerate()
            .map(|(k, p)| real(capacity - k) * p)
            .sum();
        let tail = (1.0 - below).clamp(0.0, 1.0);
        (tail, (law.mean() - real(capacity) + short).max(0.0))
    };
    if 1.0 - below > 0.01 {
        return complement();
    }
    // A thin tail is summed term by term; it is through after about ten times the capacity.
    let (mut tail, mut excess) = (0.0, 0.0);
    let mut p = pmf[capacity];
    for j in 0..(64 * capacity + 4096) {
        tail += p;
        excess += real(j) * p;
        let up = law.up(capacity + j);
        let next = p * up;
        if up < 1.0 && next * real(j + 1) / (1.0 - up) <= 1e-17 * excess || next == 0.0 {
            return (tail, excess);
        }
        p = next;
    }
    complement()
}
