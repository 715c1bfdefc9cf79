//! The exact answers against an event simulation that shares nothing with them but the laws.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::VecDeque;

use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use splitplace_queueing::{Arrivals, Service, exact, tandem};

fn exponential(rng: &mut impl Rng, mean: f64) -> f64 {
    -mean * (1.0 - rng.random::<f64>()).ln()
}

/// Arrival instants of a process, one after another.
struct Source {
    arrivals: Arrivals,
    phase: usize,
    now: f64,
}

impl Source {
    fn next(&mut self, rng: &mut impl Rng) -> f64 {
        loop {
            let (rate, leave) = (
                self.arrivals.rates()[self.phase],
                self.arrivals.leave()[self.phase],
            );
            self.now += exponential(rng, 1.0 / (rate + leave));
            if rng.random::<f64>() * (rate + leave) < rate {
                return self.now;
            }
            self.phase = 1 - self.phase;
        }
    }
}

/// One station: departures of the served, by arrival instants. `(lost, mean response)` and departures.
fn station(
    arrivals: &[f64],
    capacity: usize,
    mut service: impl FnMut() -> f64,
) -> (f64, f64, Vec<f64>) {
    let mut present: VecDeque<f64> = VecDeque::new();
    let (mut lost, mut time, mut last) = (0.0, 0.0, 0.0_f64);
    let mut departures = Vec::new();
    for &at in arrivals {
        while present.front().is_some_and(|&leaves| leaves <= at) {
            present.pop_front();
        }
        if present.len() == capacity {
            lost += 1.0;
            continue;
        }
        last = last.max(at) + service();
        time += last - at;
        present.push_back(last);
        departures.push(last);
    }
    let served = f64::from(u32::try_from(departures.len()).unwrap());
    let all = f64::from(u32::try_from(arrivals.len()).unwrap());
    (lost / all, time / served, departures)
}

/// Mean and standard error of independent runs.
fn summary(values: &[f64]) -> (f64, f64) {
    let n = f64::from(u32::try_from(values.len()).unwrap());
    let mean = values.iter().sum::<f64>() / n;
    let var = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (var / n).sqrt())
}

#[track_caller]
fn agrees(what: &str, exact: f64, runs: &[f64]) {
    let (mean, error) = summary(runs);
    assert!(
        (mean - exact).abs() < 3.5 * error,
        "{what}: exact {exact}, simulated {mean} ± {error}"
    );
    assert!(
        error < 0.1 * exact,
        "{what}: ± {error} says nothing about {exact}"
    );
}

fn instants(arrivals: Arrivals, count: usize, rng: &mut impl Rng) -> Vec<f64> {
    let mut source = Source {
        arrivals,
        phase: 0,
        now: 0.0,
    };
    (0..count).map(|_| source.next(rng)).collect()
}

const RUNS: usize = 20;
const REQUESTS: usize = 20_000;

#[test]
fn loss_and_response_of_mixtures() {
    let constant = |s| Service::constant(s).unwrap();
    let exits = Service::mix(&[
        (0.5, constant(0.4)),
        (0.3, constant(1.0)),
        (0.2, constant(2.5)),
    ]);
    let exits = exits.unwrap();
    let erlang = Service::gamma(1.0, 0.25).unwrap();
    let hyper = Service::mix(&[
        (0.9, Service::exponential(0.5).unwrap()),
        (0.1, Service::exponential(5.5).unwrap()),
    ]);
    let hyper = hyper.unwrap();
    for (seed, (rate, service, capacity)) in (1..).zip([
        (0.8, &exits, 5),
        (0.8, &exits, 10),
        (1.3, &exits, 10),
        (0.8, &erlang, 5),
        (1.0, &erlang, 10),
        (0.6, &hyper, 8),
    ]) {
        let (mut losses, mut responses) = (Vec::new(), Vec::new());
        for run in 0..RUNS {
            let mut rng = ChaCha8Rng::seed_from_u64(seed * 1000 + run as u64);
            let arrivals = instants(Arrivals::Poisson { rate }, REQUESTS, &mut rng);
            let (loss, response, _) = station(&arrivals, capacity, || match seed {
                1..=3 => match rng.random::<f64>() {
                    u if u < 0.5 => 0.4,
                    u if u < 0.8 => 1.0,
                    _ => 2.5,
                },
                4 | 5 => (0..4).map(|_| exponential(&mut rng, 0.25)).sum(),
                _ if rng.random::<f64>() < 0.9 => exponential(&mut rng, 0.5),
                _ => exponential(&mut rng, 5.5),
            });
            losses.push(loss);
            responses.push(response);
        }
        let solved = exact::solve(rate, service, capacity).unwrap();
        let what = format!("case {seed}: rate {rate}, K {capacity}");
        agrees(&format!("{what}: loss"), solved.loss, &losses);
        agrees(&format!("{what}: response"), solved.response, &responses);
    }
}

#[test]
fn thinning_is_above_what_tandems_lose() {
    // Section i: constant service of the same time behind itself loses nothing; thinning says otherwise, and
    // is on the safe side in both cases.
    for (seed, first, second, at_stage_two) in [(1, 1.0, 1.0, false), (2, 0.7, 1.0, true)] {
        let (mut ends, mut seconds) = (Vec::new(), Vec::new());
        for run in 0..RUNS {
            let mut rng = ChaCha8Rng::seed_from_u64(seed * 77 + run as u64);
            let arrivals = instants(Arrivals::Poisson { rate: 0.9 }, REQUESTS, &mut rng);
            let (one, _, passed) = station(&arrivals, 5, || first);
            let (two, _, _) = station(&passed, 5, || second);
            ends.push(1.0 - (1.0 - one) * (1.0 - two));
            seconds.push(two);
        }
        let stations = [first, second].map(|s| (Service::constant(s).unwrap(), 5));
        let thinned = tandem::thinned(0.9, &stations).unwrap();
        let (mean, error) = summary(&ends);
        assert!(thinned.loss > mean + 3.0 * error);
        assert_eq!(seconds.iter().any(|&loss| loss > 0.0), at_stage_two);
    }
}
