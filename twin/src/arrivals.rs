//! When requests come.

use std::sync::Arc;

use rand_distr::{Distribution as _, Exp1};
use splitplace_fleet::Timestamp;

use crate::{Stream, law::nanos};

/// A phase of a Markov-modulated Poisson process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phase {
    /// Requests a second in it.
    pub rate: f64,
    /// Mean length in seconds; lengths are exponential.
    pub mean_seconds: f64,
}

/// A process of arrivals.
#[derive(Clone, Debug, PartialEq)]
pub enum Process {
    /// Independent exponential gaps.
    Poisson {
        /// Requests a second.
        rate: f64,
    },
    /// Gaps all alike.
    Constant {
        /// Requests a second.
        rate: f64,
    },
    /// Poisson within a phase; after each phase any other one, all as likely.
    Modulated(Arc<[Phase]>),
    /// As recorded, in order.
    Trace(Arc<[Timestamp]>),
}

impl Process {
    /// Requests a second in the long run; of a trace, its count over its length.
    #[must_use]
    pub fn rate(&self) -> f64 {
        match self {
            Self::Poisson { rate } | Self::Constant { rate } => *rate,
            Self::Modulated(phases) => {
                let length: f64 = phases.iter().map(|phase| phase.mean_seconds).sum();
                let count: f64 = phases
                    .iter()
                    .map(|phase| phase.rate * phase.mean_seconds)
                    .sum();
                count / length
            }
            Self::Trace(times) => {
                let last = times.last().map_or(0, |at| at.as_nanos());
                times.len() as f64 / (last as f64 / 1e9)
            }
        }
    }

    /// The same process at `factor` times its speed.
    #[must_use]
    pub fn faster(&self, factor: f64) -> Self {
        match self {
            Self::Poisson { rate } => Self::Poisson {
                rate: rate * factor,
            },
            Self::Constant { rate } => Self::Constant {
                rate: rate * factor,
            },
            Self::Modulated(phases) => {
                let phases = phases.iter().map(|phase| Phase {
                    rate: phase.rate * factor,
                    ..*phase
                });
                Self::Modulated(phases.collect())
            }
            Self::Trace(times) => {
                let sooner = |at: &Timestamp| {
                    Timestamp::from_nanos((at.as_nanos() as f64 / factor).round() as u64)
                };
                Self::Trace(times.iter().map(sooner).collect())
            }
        }
    }

    /// What is wrong with it; nothing when it can be used.
    #[must_use]
    pub fn check(&self) -> Option<String> {
        let is_rate = |rate: f64| rate.is_finite() && 0.0 <= rate;
        match self {
            Self::Poisson { rate } | Self::Constant { rate } => (!is_rate(*rate))
                .then(|| format!("a rate of {rate} a second must be finite and at least 0")),
            Self::Modulated(phases) => {
                let is_wrong = |phase: &Phase| {
                    !is_rate(phase.rate)
                        || !is_rate(phase.mean_seconds)
                        || phase.mean_seconds == 0.0
                };
                (phases.len() < 2 || phases.iter().any(is_wrong))
                    .then(|| "a modulated process needs two phases with lengths above 0".into())
            }
            Self::Trace(times) => {
                (!times.is_sorted()).then(|| "the times of a trace must not go back".into())
            }
        }
    }
}

/// Arrivals drawn from a process; without end except for a trace.
#[derive(Clone, Debug)]
pub struct Arrivals {
    process: Process,
    stream: Stream,
    at: u64,
    count: usize,
    phase: usize,
    phase_ends: u64,
}

impl Arrivals {
    /// From time 0 on.
    #[must_use]
    pub fn new(process: Process, mut stream: Stream) -> Self {
        let (mut phase, mut phase_ends) = (0, 0);
        if let Process::Modulated(phases) = &process {
            // As if it had run for ever: a phase by its share of the time.
            let total: f64 = phases.iter().map(|phase| phase.mean_seconds).sum();
            let mut left = stream.unit() * total;
            phase = phases
                .iter()
                .position(|phase| {
                    left -= phase.mean_seconds;
                    left < 0.0
                })
                .unwrap_or(0);
            phase_ends = exponential(phases[phase].mean_seconds, &mut stream);
        }
        Self {
            process,
            stream,
            at: 0,
            count: 0,
            phase,
            phase_ends,
        }
    }
}

fn exponential(mean_seconds: f64, stream: &mut Stream) -> u64 {
    let unit: f64 = Exp1.sample(stream);
    nanos(unit * mean_seconds)
}

impl Iterator for Arrivals {
    type Item = Timestamp;

    fn next(&mut self) -> Option<Timestamp> {
        match &self.process {
            Process::Poisson { rate } if 0.0 < *rate => {
                let gap = exponential(1.0 / rate, &mut self.stream);
                self.at = self.at.saturating_add(gap);
            }
            Process::Constant { rate } if 0.0 < *rate => {
                // From the start each time, so that rounding does not add up.
                self.at = nanos((self.count + 1) as f64 / rate);
            }
            Process::Poisson { .. } | Process::Constant { .. } => return None,
            Process::Modulated(phases) => loop {
                let phase = phases[self.phase];
                let gap = if 0.0 < phase.rate {
                    exponential(1.0 / phase.rate, &mut self.stream)
                } else {
                    u64::MAX
                };
                let next = self.at.saturating_add(gap);
                if next < self.phase_ends {
                    self.at = next;
                    break;
                }
                // Without memory: what was drawn beyond the phase is drawn anew in the next.
                self.at = self.phase_ends;
                let other = self.stream.below(phases.len() - 1);
                self.phase = (self.phase + 1 + other) % phases.len();
                let length = exponential(phases[self.phase].mean_seconds, &mut self.stream);
                self.phase_ends = self.at.saturating_add(length.max(1));
                if self.at == u64::MAX {
                    return None;
                }
            },
            Process::Trace(times) => self.at = times.get(self.count)?.as_nanos(),
        }
        self.count += 1;
        Some(Timestamp::from_nanos(self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    fn arrivals(process: Process) -> Arrivals {
        Arrivals::new(process, Seed(5).stream("arrivals", 0))
    }

    /// Count and dispersion (variance over mean) of the counts of windows of this many seconds.
    fn counts(process: Process, windows: usize, seconds: f64) -> (f64, f64) {
        let mut counts = vec![0.0; windows];
        for at in arrivals(process) {
            let window = (at.as_nanos() as f64 / 1e9 / seconds) as usize;
            match counts.get_mut(window) {
                Some(count) => *count += 1.0,
                None => break,
            }
        }
        let mean = counts.iter().sum::<f64>() / windows as f64;
        let variance = counts.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / windows as f64;
        (mean / seconds, variance / mean)
    }

    #[test]
    fn a_poisson_process_has_its_rate_and_a_dispersion_of_one() {
        let (rate, dispersion) = counts(Process::Poisson { rate: 50.0 }, 20_000, 1.0);
        assert!(
            (rate - 50.0).abs() < 5.0 * (50.0f64 / 20_000.0).sqrt(),
            "{rate}"
        );
        assert!(
            (dispersion - 1.0).abs() < 5.0 * (2.0f64 / 20_000.0).sqrt(),
            "{dispersion}"
        );
    }

    #[test]
    fn a_modulated_process_is_burstier_by_what_theory_says() {
        let phases = [
            Phase {
                rate: 10.0,
                mean_seconds: 0.1,
            },
            Phase {
                rate: 200.0,
                mean_seconds: 0.1,
            },
        ];
        let process = Process::Modulated(phases.into());
        assert!((process.rate() - 105.0).abs() < 1e-9);
        // Windows far longer than the phases: the dispersion of an MMPP(2) tends to
        // 1 + 2 s1 s2 (r1 - r2)^2 / ((s1 + s2)^2 (r1 s2 + r2 s1)), where s1 and s2 are the rates of
        // leaving the phases (Fischer & Meier-Hellstern 1993); here s1 = s2 = 10.
        let (rate, dispersion) = counts(process, 4000, 10.0);
        let expected = 1.0 + 190.0f64.powi(2) / (2.0 * 10.0 * 210.0);
        assert!((rate / 105.0 - 1.0).abs() < 0.02, "{rate}");
        assert!(
            (dispersion / expected - 1.0).abs() < 0.12,
            "{dispersion} {expected}"
        );
    }

    #[test]
    fn constant_gaps_do_not_drift_and_traces_are_as_given() {
        let third = arrivals(Process::Constant { rate: 3.0 }).nth(2_999_999);
        assert_eq!(third, Some(Timestamp::from_nanos(1_000_000_000_000_000)));
        let times: Arc<[Timestamp]> = [5, 5, 9].map(Timestamp::from_nanos).into();
        let all: Vec<_> = arrivals(Process::Trace(Arc::clone(&times))).collect();
        assert_eq!(all[..], times[..]);
        let faster = Process::Trace(times).faster(0.5);
        assert_eq!(arrivals(faster).last(), Some(Timestamp::from_nanos(18)));
        assert_eq!(arrivals(Process::Poisson { rate: 0.0 }).next(), None);
    }

    #[test]
    fn impossible_processes_are_named() {
        assert!(Process::Poisson { rate: f64::NAN }.check().is_some());
        assert!(Process::Modulated(Arc::new([])).check().is_some());
        let back: Arc<[Timestamp]> = [5, 4].map(Timestamp::from_nanos).into();
        assert!(Process::Trace(back).check().is_some());
        assert!(Process::Constant { rate: 1.0 }.check().is_none());
    }
}
