//! How requests arrive: Poisson, or Poisson whose rate switches between two values.

use crate::Error;

/// An arrival process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// Independent arrivals at one rate.
    Poisson {
        /// Requests a second.
        rate: f64,
    },
    /// A Markov-modulated Poisson process with two phases: bursts and lulls of exponential length.
    Switching {
        /// Requests a second in each phase.
        rates: [f64; 2],
        /// How often a second each phase is left for the other.
        leave: [f64; 2],
    },
}

impl Arrivals {
    /// Poisson at `rate` per second.
    ///
    /// # Errors
    /// When the rate is negative or not finite.
    pub fn poisson(rate: f64) -> Result<Self, Error> {
        let arrivals = Self::Poisson { rate };
        arrivals.check()?;
        Ok(arrivals)
    }

    /// Bursts at `burst` times the mean rate for a `share` of the time, each `dwell` seconds long on average;
    /// the lulls between them have what is left of the mean `rate`.
    ///
    /// # Errors
    /// When `burst · share > 1`, so that lulls would need a negative rate, or a number makes no sense.
    pub fn bursty(rate: f64, burst: f64, share: f64, dwell: f64) -> Result<Self, Error> {
        if !(share > 0.0 && share < 1.0) {
            return Err(Error::Weight(share));
        }
        if !(dwell > 0.0 && dwell.is_finite()) {
            return Err(Error::Service(dwell));
        }
        let lull = rate * (1.0 - burst * share) / (1.0 - share);
        let arrivals = Self::Switching {
            rates: [lull, rate * burst],
            leave: [share / (1.0 - share) / dwell, 1.0 / dwell],
        };
        arrivals.check()?;
        Ok(arrivals)
    }

    /// Whether every number is a rate, and both phases can be left.
    ///
    /// # Errors
    /// The first that is none.
    pub fn check(&self) -> Result<(), Error> {
        let is_rate = |rate: f64| rate.is_finite() && (0.0..1e12).contains(&rate);
        match *self {
            Self::Poisson { rate } if is_rate(rate) => Ok(()),
            Self::Poisson { rate } => Err(Error::Rate(rate)),
            Self::Switching { rates, leave } => {
                let bad_leave = leave.into_iter().find(|&r| !is_rate(r) || r <= 0.0);
                let bad = rates.into_iter().find(|&r| !is_rate(r)).or(bad_leave);
                bad.map_or(Ok(()), |rate| Err(Error::Rate(rate)))
            }
        }
    }

    /// Number of phases.
    #[must_use]
    pub const fn phases(&self) -> usize {
        match self {
            Self::Poisson { .. } => 1,
            Self::Switching { .. } => 2,
        }
    }

    /// Share of the time in each phase; the second is 0 for Poisson.
    #[must_use]
    pub fn share(&self) -> [f64; 2] {
        match self {
            Self::Poisson { .. } => [1.0, 0.0],
            Self::Switching { leave: [a, b], .. } => [b / (a + b), a / (a + b)],
        }
    }

    /// Rate in each phase.
    #[must_use]
    pub const fn rates(&self) -> [f64; 2] {
        match self {
            Self::Poisson { rate } => [*rate, *rate],
            Self::Switching { rates, .. } => *rates,
        }
    }

    /// How often each phase is left.
    #[must_use]
    pub const fn leave(&self) -> [f64; 2] {
        match self {
            Self::Poisson { .. } => [0.0, 0.0],
            Self::Switching { leave, .. } => *leave,
        }
    }

    /// Mean rate, in requests a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let (share, rates) = (self.share(), self.rates());
        share[0] * rates[0] + share[1] * rates[1]
    }

    /// The same process at `factor` times the speed in requests; how long phases last stays.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        match *self {
            Self::Poisson { rate } => Self::Poisson {
                rate: rate * factor,
            },
            Self::Switching {
                rates: [a, b],
                leave,
            } => Self::Switching {
                rates: [a * factor, b * factor],
                leave,
            },
        }
    }

    /// Limit of `Var / mean` of the number of arrivals in a long time; 1 for Poisson.
    /// `1 + 2 (r_1 - r_2)² q_1 q_2 / ((q_1 + q_2)² (r_1 q_2 + r_2 q_1))`.
    #[must_use]
    pub fn dispersion(&self) -> f64 {
        match *self {
            Self::Poisson { .. } => 1.0,
            Self::Switching {
                rates: [a, b],
                leave: [p, q],
            } => {
                let flow = a * q + b * p;
                if flow <= 0.0 {
                    return 1.0;
                }
                1.0 + 2.0 * (a - b) * (a - b) * p * q / ((p + q) * (p + q) * flow)
            }
        }
    }

    /// From a phase, the mean time until the next arrival, in seconds, and the chance that it comes in each
    /// phase. The largest number there is when nothing ever arrives.
    #[must_use]
    pub fn next(&self, phase: usize) -> (f64, [f64; 2]) {
        match *self {
            Self::Poisson { rate } if rate > 0.0 => (1.0 / rate, [1.0, 0.0]),
            Self::Poisson { .. } => (f64::MAX, [1.0, 0.0]),
            Self::Switching { rates, leave } => {
                let (i, j) = (phase.min(1), 1 - phase.min(1));
                let (out_i, out_j) = (rates[i] + leave[i], rates[j] + leave[j]);
                // Share of visits to i (to j) that end by switching.
                let (s_i, s_j) = (leave[i] / out_i, leave[j] / out_j);
                let round = 1.0 - s_i * s_j;
                if round <= 0.0 {
                    return (f64::MAX, [0.5, 0.5]);
                }
                let here = (1.0 - s_i) / round;
                let time = (1.0 / out_i + s_i / out_j) / round;
                let mut share = [0.0; 2];
                share[i] = here;
                share[j] = 1.0 - here;
                (time.min(f64::MAX), share)
            }
        }
    }
}
