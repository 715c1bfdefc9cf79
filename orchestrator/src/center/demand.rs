//! What comes for a model and how it fares, with forgetting: what the twin starts from.
//!
//! Values in, values out. Everything is a sum whose terms halve every [`HALF_LIFE`]; a rate is a sum of
//! ones over the seconds that such a sum remembers.

use std::{collections::BTreeMap, time::Duration};

use splitplace_fleet::Timestamp;

/// After this long a request counts half.
const HALF_LIFE: Duration = Duration::from_secs(30);
/// Promises told apart; the lightest makes room.
const PROMISES: usize = 16;

/// The meter of one model.
#[derive(Clone, Debug, Default)]
pub(super) struct Demand {
    since: Option<Timestamp>,
    at: Timestamp,
    arrived: f64,
    samples: f64,
    bytes: f64,
    pictures: f64,
    patience: f64,
    /// Of the gaps between arrivals: count, sum, sum of squares.
    gaps: [f64; 3],
    last: Option<Timestamp>,
    /// By microseconds, to two digits.
    promises: BTreeMap<u64, f64>,
    ended: f64,
    answered: f64,
    held: f64,
    response: f64,
}

/// What a request carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) samples: u32,
    /// Of all inputs together.
    pub(super) bytes: f64,
    /// Whether they are encoded pictures.
    pub(super) is_pictures: bool,
}

/// What a meter says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// Requests a second.
    pub(super) rate: f64,
    /// Squared coefficient of variation of the gaps; 1 for Poisson arrivals.
    pub(super) gaps_scv: f64,
    /// Gaps by which that is known.
    pub(super) gaps: f64,
    /// Mean samples of a request.
    pub(super) samples: f64,
    /// Mean bytes of a sample, as clients send it.
    pub(super) bytes: f64,
    /// Share of the samples that come as encoded pictures.
    pub(super) pictures: f64,
    /// Mean time that clients wait beyond what was promised.
    pub(super) patience: Duration,
    /// Promises with their shares.
    pub(super) promises: Vec<(Duration, f64)>,
    /// Requests that ended, as far as they are remembered.
    pub(super) ended: f64,
    /// Share of them without an answer.
    pub(super) loss: f64,
    /// Share of them whose promise was not kept.
    pub(super) violations: f64,
    /// Mean seconds to an answer.
    pub(super) response: f64,
}

impl Seen {
    /// Samples a second; what brings none counts as one.
    pub(super) const fn sample_rate(&self) -> f64 {
        self.rate * self.samples.max(1.0)
    }
}

impl Demand {
    /// A request came, whether or not it was let in.
    pub(super) fn arrived(
        &mut self,
        now: Timestamp,
        sent: Sent,
        sla: Duration,
        patience: Duration,
    ) {
        self.fade(now);
        self.since.get_or_insert(now);
        self.arrived += 1.0;
        self.samples += f64::from(sent.samples);
        self.bytes += sent.bytes;
        if sent.is_pictures {
            self.pictures += f64::from(sent.samples);
        }
        self.patience += patience.saturating_sub(sla).as_secs_f64();
        if let Some(last) = self.last.replace(now) {
            let gap = now.since(last).as_secs_f64();
            for (sum, term) in self.gaps.iter_mut().zip([1.0, gap, gap * gap]) {
                *sum += term;
            }
        }
        *self.promises.entry(two_digits(sla)).or_default() += 1.0;
        if PROMISES < self.promises.len() {
            let lightest = self.promises.iter().min_by(|a, b| a.1.total_cmp(b.1));
            if let Some(lightest) = lightest.map(|(sla, _)| *sla) {
                self.promises.remove(&lightest);
            }
        }
    }

    /// A request ended: after how long it was answered, if it was, and whether as promised.
    pub(super) fn ended(&mut self, now: Timestamp, answer: Option<(Duration, bool)>) {
        self.fade(now);
        self.ended += 1.0;
        if let Some((response, held)) = answer {
            self.answered += 1.0;
            self.response += response.as_secs_f64();
            self.held += f64::from(u8::from(held));
        }
    }

    /// What is known now; `None` before the first request and when the last is long forgotten.
    pub(super) fn seen(&self, now: Timestamp) -> Option<Seen> {
        let mut faded = self.clone();
        faded.fade(now);
        let seconds = now.since(faded.since?).as_secs_f64();
        let half_life = HALF_LIFE.as_secs_f64();
        // What a sum remembers of the time since the first request.
        let remembered =
            half_life / std::f64::consts::LN_2 * (1.0 - 0.5f64.powf(seconds / half_life));
        if faded.arrived < 0.5 || remembered < 0.5 {
            return None;
        }
        let [count, sum, squares] = faded.gaps;
        let mean = sum / count.max(f64::MIN_POSITIVE);
        let total: f64 = faded.promises.values().sum();
        let share = |part: f64, of: f64| if of > 0.0 { part / of } else { 0.0 };
        Some(Seen {
            rate: faded.arrived / remembered,
            gaps: count,
            gaps_scv: if 2.0 <= count && mean > 0.0 {
                (squares / count / (mean * mean) - 1.0).max(0.0)
            } else {
                1.0
            },
            samples: share(faded.samples, faded.arrived),
            bytes: share(faded.bytes, faded.samples),
            pictures: share(faded.pictures, faded.samples),
            patience: Duration::try_from_secs_f64(share(faded.patience, faded.arrived))
                .unwrap_or(Duration::ZERO),
            promises: faded
                .promises
                .iter()
                .map(|(&us, weight)| (Duration::from_micros(us), weight / total))
                .collect(),
            ended: faded.ended,
            loss: 1.0 - share(faded.answered, faded.ended.max(f64::MIN_POSITIVE)),
            violations: 1.0 - share(faded.held, faded.ended.max(f64::MIN_POSITIVE)),
            response: share(faded.response, faded.answered),
        })
    }

    fn fade(&mut self, now: Timestamp) {
        let seconds = now.since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let factor = 0.5f64.powf(seconds / HALF_LIFE.as_secs_f64());
        let sums = [
            &mut self.arrived,
            &mut self.samples,
            &mut self.bytes,
            &mut self.pictures,
            &mut self.patience,
            &mut self.ended,
            &mut self.answered,
            &mut self.held,
            &mut self.response,
        ];
        let sums = sums.into_iter().chain(&mut self.gaps);
        sums.chain(self.promises.values_mut())
            .for_each(|sum| *sum *= factor);
    }
}

fn two_digits(time: Duration) -> u64 {
    let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let mut unit = 1;
    while us / unit >= 100 {
        unit *= 10;
    }
    us / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs_f64(seconds)
    }

    /// Requests at even gaps.
    fn even(demand: &mut Demand, from: f64, to: f64, rate: f64) {
        let mut now = from;
        while now < to {
            let sla = Duration::from_millis(100);
            let sent = Sent {
                samples: 2,
                bytes: 3000.0,
                is_pictures: rate > 10.0,
            };
            demand.arrived(at(now), sent, sla, sla * 3);
            demand.ended(at(now), Some((Duration::from_millis(40), true)));
            now += 1.0 / rate;
        }
    }

    #[test]
    fn rates_are_right_from_the_start_and_change_with_the_load() {
        let mut demand = Demand::default();
        assert_eq!(demand.seen(at(5.0)), None);
        even(&mut demand, 10.0, 12.0, 20.0);
        let seen = demand.seen(at(12.0)).unwrap();
        assert!((seen.rate - 20.0).abs() < 1.0, "{seen:?}");
        assert!((seen.pictures - 1.0).abs() < 1e-9, "{seen:?}");
        even(&mut demand, 12.0, 200.0, 5.0);
        let seen = demand.seen(at(200.0)).unwrap();
        assert!((seen.rate - 5.0).abs() < 0.5, "{seen:?}");
        assert!(seen.gaps_scv < 0.1);
        assert_eq!(seen.promises, [(Duration::from_millis(100), 1.0)]);
        assert_eq!(seen.patience, Duration::from_millis(200));
        assert!((seen.samples - 2.0).abs() < 1e-9);
        assert!((seen.bytes - 1500.0).abs() < 1e-6);
        // The pictures came before, and are forgotten by now.
        assert!(seen.pictures < 0.1, "{seen:?}");
        assert!((seen.response - 0.04).abs() < 1e-9);
        assert!(seen.loss.abs() < 1e-9);
        // Ten half-lives later nothing of five a second is left.
        assert_eq!(demand.seen(at(560.0)), None);
    }

    #[test]
    fn what_is_lost_or_late_is_counted_and_promises_are_bounded() {
        let mut demand = Demand::default();
        for n in 0..400u64 {
            let now = at(n as f64 / 10.0);
            let sla = Duration::from_micros(1000 + 977 * (n % 40));
            let sent = Sent {
                samples: 1,
                bytes: 10.0,
                is_pictures: false,
            };
            demand.arrived(now, sent, sla, sla);
            let answer = (n % 4 != 0).then_some((Duration::from_millis(5), n % 4 == 1));
            demand.ended(now, answer);
        }
        let seen = demand.seen(at(40.0)).unwrap();
        assert!((seen.loss - 0.25).abs() < 0.02, "{seen:?}");
        assert!((seen.violations - 0.75).abs() < 0.02, "{seen:?}");
        assert!(seen.promises.len() <= PROMISES);
        let shares: f64 = seen.promises.iter().map(|(_, share)| share).sum();
        assert!((shares - 1.0).abs() < 1e-9);
    }
}
