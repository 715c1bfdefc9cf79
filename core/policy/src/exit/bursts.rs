//! Bursts in a record of arrivals: two Poisson rates that take turns, if that explains the record better than one.
//!
//! Counts in bins of equal length are taken as a hidden Markov chain with two states, fitted by expectation and
//! maximisation (Baum and Welch). Two states are believed when the gain in likelihood is worth their three more
//! parameters (Schwarz's criterion) with room to spare.

use splitplace_queueing::{Arrivals, Error};

use super::real;

/// Bins that are looked at: the last ones. Fewer than [`FEW`] say nothing.
const BINS: usize = 2_000;
const FEW: usize = 150;
/// Arrivals in a bin on average.
const PER_BIN: f64 = 2.0;
/// Rounds of the fit.
const ROUNDS: usize = 25;
/// Bursts that must have ended, as expected by the fit: one that goes on may be a step.
const ENDED: f64 = 3.0;
/// Gain in log-likelihood over one rate, in units of Schwarz's penalty, from which on two are believed.
const WORTH: f64 = 2.0;

/// Two rates that take turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    /// Requests a second: calm, burst.
    pub rates: [f64; 2],
    /// Mean seconds of a calm, of a burst.
    pub stays: [f64; 2],
}

impl Bursts {
    /// Share of the time that is burst.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.stays[1] / (self.stays[0] + self.stays[1])
    }

    /// Requests a second over all.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let share = self.share();
        self.rates[0] * (1.0 - share) + self.rates[1] * share
    }

    /// As arrivals with a mean rate that is known better than from this fit.
    ///
    /// # Errors
    /// When these are no bursts.
    pub fn arrivals(&self, rate: f64) -> Result<Arrivals, Error> {
        let share = self.share();
        // Calm must not be below nothing.
        let factor = (self.rates[1] / self.rate()).min(0.999 / share);
        Arrivals::bursty(rate, factor, share, self.stays[1])
    }

    /// Whether two fits are alike: neither height nor length of the bursts differs by more than `share`.
    #[must_use]
    pub fn is_like(&self, other: &Self, share: f64) -> bool {
        let height = |of: &Self| of.rates[1] / of.rate();
        let same = |a: f64, b: f64| (a / b).ln().abs() <= (1.0 + share).ln();
        same(height(self), height(other))
            && same(self.stays[1], other.stays[1])
            && same(self.share(), other.share())
    }

    /// Fits them to instants, ascending; `None` when one rate explains them. O(bins · rounds).
    #[must_use]
    pub fn fit(instants: &[f64]) -> Option<Self> {
        let (first, last) = (*instants.first()?, *instants.last()?);
        let width = PER_BIN * (last - first) / real(instants.len());
        if width <= 0.0 || !width.is_finite() {
            return None;
        }
        let bins = ((last - first) / width).floor();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of bins, bounded by that of the instants"
        )]
        let bins = (bins as usize).min(BINS);
        if bins < FEW {
            return None;
        }
        let from = last - width * real(bins);
        let mut counts = vec![0.0; bins];
        for at in instants.iter().filter(|&&at| at >= from) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a number of bins, bounded by that of the instants"
            )]
            let bin = ((at - from) / width) as usize;
            counts[bin.min(bins - 1)] += 1.0;
        }
        let mean = counts.iter().sum::<f64>() / real(bins);
        let one: f64 = counts.iter().map(|&count| likelihood(count, mean)).sum();
        let chain = Hidden::fit(&counts, mean);
        let penalty = 1.5 * real(bins).ln();
        if chain.likelihood - one < WORTH * penalty || chain.ended < ENDED {
            return None;
        }
        let [leave_calm, leave_burst] = chain.leave;
        Some(Self {
            rates: chain.rates.map(|rate| rate / width),
            stays: [width / leave_calm, width / leave_burst],
        })
    }
}

/// Logarithm of a Poisson probability without the factorial, which is common to all.
fn likelihood(count: f64, mean: f64) -> f64 {
    count * mean.max(1e-9).ln() - mean
}

/// Two states with a rate each, and the probabilities of leaving them.
struct Hidden {
    rates: [f64; 2],
    leave: [f64; 2],
    likelihood: f64,
    /// Expected number of bursts that ended.
    ended: f64,
}

impl Hidden {
    fn fit(counts: &[f64], mean: f64) -> Self {
        let mut chain = Self {
            rates: [0.6 * mean, 2.0 * mean],
            leave: [0.03, 0.1],
            likelihood: f64::NEG_INFINITY,
            ended: 0.0,
        };
        for _ in 0..ROUNDS {
            chain.round(counts);
        }
        chain
    }

    /// One step of expectation and maximisation; the likelihood is that before it.
    fn round(&mut self, counts: &[f64]) {
        let step = |from: usize, to: usize| {
            if from == to {
                1.0 - self.leave[from]
            } else {
                self.leave[from]
            }
        };
        let n = counts.len();
        let total: f64 = self.leave.iter().sum();
        let (mut forward, mut emit) = (vec![[0.0; 2]; n], vec![[0.0; 2]; n]);
        let mut before = [self.leave[1] / total, self.leave[0] / total];
        let mut all = 0.0;
        let mut scales = vec![0.0; n];
        for t in 0..n {
            let logs = self.rates.map(|rate| likelihood(counts[t], rate));
            let most = logs[0].max(logs[1]);
            emit[t] = logs.map(|log| (log - most).exp());
            let mut here = [before[0] * emit[t][0], before[1] * emit[t][1]];
            let scale = here[0] + here[1];
            here = here.map(|p| p / scale);
            all += scale.ln() + most;
            scales[t] = scale;
            forward[t] = here;
            before = [0, 1].map(|to| here[0] * step(0, to) + here[1] * step(1, to));
        }
        let mut backward = [1.0; 2];
        let (mut time, mut seen) = ([0.0; 2], [0.0; 2]);
        let (mut left, mut stayed) = ([0.0; 2], [0.0; 2]);
        for t in (0..n).rev() {
            for state in 0..2 {
                let here = forward[t][state] * backward[state];
                time[state] += here;
                seen[state] += here * counts[t];
            }
            if t == 0 {
                break;
            }
            for from in 0..2 {
                for to in 0..2 {
                    let flow = forward[t - 1][from] * step(from, to) * emit[t][to] * backward[to]
                        / scales[t];
                    if from == to {
                        stayed[from] += flow;
                    } else {
                        left[from] += flow;
                    }
                }
            }
            let next = backward;
            backward = [0, 1].map(|from| {
                [0, 1]
                    .map(|to| step(from, to) * emit[t][to] * next[to])
                    .iter()
                    .sum::<f64>()
                    / scales[t]
            });
        }
        for state in 0..2 {
            self.rates[state] = seen[state] / time[state].max(1e-9);
            let all = left[state] + stayed[state];
            self.leave[state] = (left[state] / all.max(1e-9)).clamp(1e-5, 0.9);
        }
        self.likelihood = all;
        self.ended = left[1];
        if self.rates[0] > self.rates[1] {
            self.rates.swap(0, 1);
            self.leave.swap(0, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Arrivals of two rates that take turns.
    fn arrive(rates: [f64; 2], stays: [f64; 2], until: f64, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut gap = |rate: f64| -(-rng.random::<f64>()).ln_1p() / rate;
        let (mut now, mut phase, mut all) = (0.0, 0, Vec::new());
        let mut ends = gap(1.0 / stays[0]);
        while now < until {
            let next = now + gap(rates[phase]);
            if next > ends {
                now = ends;
                phase = 1 - phase;
                ends = now + gap(1.0 / stays[phase]);
            } else {
                now = next;
                all.push(now);
            }
        }
        all
    }

    #[test]
    fn bursts_are_found_as_they_are() {
        for seed in 0..5 {
            let all = arrive([20.0, 80.0], [3.2, 0.8], 120.0, seed);
            let found = Bursts::fit(&all).unwrap();
            let near = |a: f64, b: f64| (a / b).ln().abs() < 0.5;
            assert!(
                near(found.rates[0], 20.0) && near(found.rates[1], 80.0),
                "{found:?}"
            );
            assert!(near(found.stays[1], 0.8), "{found:?}");
            let arrivals = found.arrivals(32.0).unwrap();
            assert!((arrivals.rate() - 32.0).abs() < 1e-9);
        }
    }

    #[test]
    fn one_rate_is_no_burst() {
        for seed in 0..20 {
            let all = arrive([30.0, 30.0], [1.0, 1.0], 100.0, seed);
            assert_eq!(Bursts::fit(&all), None, "{seed}");
        }
        assert_eq!(Bursts::fit(&[]), None);
        assert_eq!(Bursts::fit(&[1.0; 500]), None);
    }
}
