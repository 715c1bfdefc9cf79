//! Random numbers for simulations: service times, instants of arrival.

use rand::Rng;
use splitplace_queueing::{Arrivals, Service, service::Law};

use crate::fixed::unit;

/// Exponential with this mean.
pub fn exponential(mean: f64, rng: &mut dyn Rng) -> f64 {
    -mean * (1.0 - unit(rng)).ln()
}

/// Standard normal, by Marsaglia's polar method.
fn normal(rng: &mut dyn Rng) -> f64 {
    loop {
        let (x, y) = (2.0 * unit(rng) - 1.0, 2.0 * unit(rng) - 1.0);
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            return x * (-2.0 * square.ln() / square).sqrt();
        }
    }
}

/// Gamma of this shape with mean 1, by Marsaglia and Tsang 2000.
fn gamma(shape: f64, rng: &mut dyn Rng) -> f64 {
    if shape < 1.0 {
        // A larger shape, thinned by a power of a uniform number.
        let boost = (1.0 - unit(rng)).powf(1.0 / shape);
        return gamma(shape + 1.0, rng) * (shape + 1.0) / shape * boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - unit(rng)).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v / shape;
        }
    }
}

/// A service time, in seconds. Nothing is drawn for a constant one.
pub fn service(service: &Service, rng: &mut dyn Rng) -> f64 {
    let parts = service.parts();
    let mut part = parts[parts.len() - 1].1;
    if parts.len() > 1 {
        let mut left = unit(rng);
        for &(weight, law) in parts {
            if left < weight {
                part = law;
                break;
            }
            left -= weight;
        }
    }
    match part {
        Law::Constant { mean } => mean,
        Law::Gamma { mean, scv } => mean * gamma(1.0 / scv, rng),
    }
}

/// Instants of arrival, one after another.
#[derive(Clone, Debug)]
pub struct Source {
    arrivals: Arrivals,
    phase: usize,
    now: f64,
}

impl Source {
    /// Begins at instant 0, in a phase as the long run has them.
    #[must_use]
    pub fn new(arrivals: Arrivals, rng: &mut dyn Rng) -> Self {
        let phase = usize::from(unit(rng) >= arrivals.share()[0]);
        Self {
            arrivals,
            phase,
            now: 0.0,
        }
    }

    /// Other arrivals from now on; the phase is kept where there is one.
    pub fn change(&mut self, arrivals: Arrivals, now: f64) {
        self.phase = self.phase.min(arrivals.phases() - 1);
        self.arrivals = arrivals;
        self.now = now;
    }

    /// The next instant; infinity when nothing arrives any more.
    pub fn next(&mut self, rng: &mut dyn Rng) -> f64 {
        if self.arrivals.rate() <= 0.0 {
            return f64::INFINITY;
        }
        loop {
            let rate = self.arrivals.rates()[self.phase];
            let leave = self.arrivals.leave()[self.phase];
            self.now += exponential(1.0 / (rate + leave), rng);
            if leave == 0.0 || unit(rng) * (rate + leave) < rate {
                return self.now;
            }
            self.phase = 1 - self.phase;
        }
    }
}
