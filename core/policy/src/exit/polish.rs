//! A joint table made better on the recorded inputs themselves, without a model of their bins.
//!
//! Which input it is, is hidden from the controller like the phase of the arrivals: it sees the bin and the
//! backlog. So what stopping gains over going on in a state is averaged over the inputs that are there, each
//! followed exactly through the queue:
//!
//! ```text
//! D(e, b, m) = Σ over inputs r in bin b of  P(r at e with m present) · (stop_r(e, m) - go_r(e, m))
//! ```
//!
//! with values under the present table. That is the gradient of accuracy less priced losses. What is known comes
//! from a few thousand inputs, and among a thousand states many look good by luck; so stopping must stand out from the
//! noise of D by [`CAUTION`] standard deviations, or the request goes on. Steps go as far as the exact objective less
//! that caution still grows.

use super::{
    ExitError, Joint, StopTable,
    chain::{Costs, solve},
    evaluate::{Cycle, Evaluation, settle},
    seen::Seen,
};

/// Steps at one price, and prices.
const STEPS: usize = 4;
const PRICES: usize = 5;
/// Standard deviations by which stopping must be better than going on.
const CAUTION: f64 = 1.5;
/// Lengths of a step that are tried.
const LENGTHS: [f64; 3] = [1.0, 0.5, 0.2];
/// What a request is worth more when it waits for one whole service less, in correct answers: just enough to
/// choose the quicker of two tables that are equally accurate.
const PATIENCE: f64 = 1e-4;
/// Halvings for the mixture that meets the target.
const HALVINGS: usize = 12;

/// A table with what it achieves on the records.
#[derive(Clone, Debug)]
struct Tried {
    joint: Joint,
    cycles: Vec<Cycle>,
    law: Vec<f64>,
    /// Accuracy less caution and impatience.
    score: f64,
}

impl Tried {
    fn new(seen: &Seen<'_>, mut joint: Joint, noise: &[f64]) -> Self {
        let cycles = seen.cycles(&joint);
        let (evaluation, law) = settle(&seen.chain, &cycles);
        let Evaluation {
            accuracy,
            loss,
            response,
            ..
        } = evaluation;
        (joint.accuracy, joint.loss) = (accuracy, loss);
        let stops = joint.table().all().iter();
        let caution: f64 = stops.zip(noise).map(|(p, n)| p * n).sum();
        Self {
            score: accuracy - CAUTION * caution - patience(seen) * response,
            joint,
            cycles,
            law,
        }
    }

    fn value(&self, price: f64) -> f64 {
        let lost = self.joint.loss / (1.0 - self.joint.loss).max(f64::MIN_POSITIVE);
        self.score - price * lost
    }
}

/// What a request-second costs.
fn patience(seen: &Seen<'_>) -> f64 {
    let whole: f64 = (0..seen.chain.exits())
        .map(|stage| seen.chain.mean(stage))
        .sum();
    PATIENCE / whole.max(f64::MIN_POSITIVE)
}

/// The best so far on both sides of the target.
#[derive(Default)]
struct Best {
    below: Option<Tried>,
    above: Option<Tried>,
}

impl Best {
    fn keep(&mut self, tried: &Tried, target: f64) {
        if tried.joint.loss <= target * 1.002 {
            if self
                .below
                .as_ref()
                .is_none_or(|best| tried.score > best.score)
            {
                self.below = Some(tried.clone());
            }
        } else if self
            .above
            .as_ref()
            .is_none_or(|best| tried.joint.loss < best.joint.loss)
        {
            self.above = Some(tried.clone());
        }
    }
}

/// The table after some steps, with at most `target` lost on the records as far as that is possible.
///
/// # Errors
/// Never, unless the chain has no steady state.
pub(super) fn polish(seen: &Seen<'_>, joint: Joint, target: f64) -> Result<Joint, ExitError> {
    let mut price = joint.price;
    let mut now = Tried::new(seen, joint, &[]);
    let mut noise = Vec::new();
    let mut best = Best::default();
    for _ in 0..PRICES {
        for _ in 0..STEPS {
            let Some((towards, deviations)) = greedy(seen, &now, price) else {
                break;
            };
            noise = deviations;
            now = Tried::new(seen, now.joint, &noise);
            best.keep(&now, target);
            let value = now.value(price);
            let table = now.joint.table();
            let mut tries = LENGTHS.iter().map(|&length| {
                Tried::new(
                    seen,
                    now.joint.with(table.between(&towards, length)),
                    &noise,
                )
            });
            let Some(next) = tries.find(|tried| tried.value(price) > value + 1e-9) else {
                break;
            };
            now = next;
            best.keep(&now, target);
        }
        let loss = now.joint.loss;
        if loss <= target && price <= 1e-3 {
            break;
        }
        price = (price.max(1e-3) * (loss / target).clamp(0.3, 3.0)).min(1e6);
        now.joint.price = price;
    }
    let chosen = match (best.below, best.above) {
        (Some(below), Some(above)) if above.score > below.score => {
            mix(seen, &below, &above, target, &noise)
        }
        (Some(tried), _) | (None, Some(tried)) => tried,
        (None, None) => now,
    };
    Ok(chosen.joint)
}

/// Between a table that keeps to the target and one that does not.
fn mix(seen: &Seen<'_>, below: &Tried, above: &Tried, target: f64, noise: &[f64]) -> Tried {
    let (mut safe, mut risky) = (0.0, 1.0);
    let mut best = Tried::new(seen, below.joint.clone(), noise);
    for _ in 0..HALVINGS {
        let weight = f64::midpoint(safe, risky);
        let table = below.joint.table().between(above.joint.table(), weight);
        let tried = Tried::new(seen, below.joint.with(table), noise);
        if tried.joint.loss <= target {
            safe = weight;
            if tried.score > best.score {
                best = tried;
            }
        } else {
            risky = weight;
        }
    }
    best
}

/// The table that stops where D is positive beyond its noise and goes on elsewhere, and the noise.
fn greedy(seen: &Seen<'_>, now: &Tried, price: f64) -> Option<(StopTable, Vec<f64>)> {
    let (chain, records) = (&seen.chain, seen.records);
    let (width, phases) = (chain.width(), chain.phases());
    let last = records.exits() - 1;
    let starts = values(seen, now, price)?;
    let mut leaving = vec![0.0; width];
    chain.departing(&starts, 0.0, &mut leaving);
    let costs = Costs {
        lost: price,
        present: patience(seen),
        time: 0.0,
    };
    let mut begin = vec![0.0; width];
    begin[phases..].copy_from_slice(&now.law);
    let mut first = vec![0.0; width];
    chain.advance(0, &begin, &mut first);
    let table = now.joint.table();
    let mut sums = vec![(0.0, 0.0); table.len()];
    let mut stops = Vec::new();
    let mut masses = vec![vec![0.0; width]; last + 1];
    let (mut value, mut go) = (vec![0.0; width], vec![0.0; width]);
    for input in 0..records.len() {
        seen.stops(&now.joint, input, super::Intent::default(), &mut stops);
        let stop = |exit: usize, at: usize| stops[exit * (chain.capacity() + 1) + at / phases];
        // Forwards: who is there.
        masses[0].copy_from_slice(&first);
        for exit in 1..=last {
            let (before, after) = masses.split_at_mut(exit);
            let mut goes = before[exit - 1].clone();
            goes.iter_mut()
                .enumerate()
                .for_each(|(at, x)| *x *= 1.0 - stop(exit - 1, at));
            after[0].fill(0.0);
            chain.advance(exit, &goes, &mut after[0]);
        }
        // Backwards: what it is worth.
        let right = |exit: usize| f64::from(u8::from(records.is_correct(input, exit)));
        value
            .iter_mut()
            .zip(&leaving)
            .for_each(|(v, l)| *v = right(last) + l);
        for exit in (0..last).rev() {
            chain.expect(exit + 1, &costs, &value, &mut go);
            let bin = table.bin(exit, records.confidence(input, exit));
            for present in 1..=chain.capacity() {
                let mut gain = 0.0;
                for at in chain.at(present, 0)..chain.at(present + 1, 0) {
                    let stopped = right(exit) + leaving[at];
                    gain += masses[exit][at] * (stopped - go[at]);
                    let p = stop(exit, at);
                    value[at] = p * stopped + (1.0 - p) * go[at];
                }
                let (sum, square) = &mut sums[table.index(exit, bin, present)];
                *sum += gain;
                *square += gain * gain;
            }
        }
    }
    let mut towards = table.clone();
    for exit in 0..last {
        for bin in 0..=table.edges(exit).len() {
            for present in 1..=chain.capacity() {
                let (sum, square): (f64, f64) = sums[table.index(exit, bin, present)];
                // Where nobody comes, nothing is known: it stays as it is.
                if square > 0.0 {
                    let stop = sum > CAUTION * square.sqrt();
                    towards.set(exit, bin, present, if stop { 1.0 } else { 0.0 });
                }
            }
        }
    }
    let noise = sums.iter().map(|(_, square)| square.sqrt()).collect();
    Some((towards, noise))
}

/// Relative values of beginning a service, as a row.
fn values(seen: &Seen<'_>, now: &Tried, price: f64) -> Option<Vec<f64>> {
    let phases = seen.chain.phases();
    let (n, patience) = (now.cycles.len(), patience(seen));
    let mut a = vec![0.0; n * n];
    let mut b = Vec::with_capacity(n);
    for (state, cycle) in now.cycles.iter().enumerate() {
        for (to, p) in cycle.starts[phases..].iter().enumerate() {
            a[state * n + to] = -p;
        }
        a[state * n + state] += 1.0;
        a[state * n] = 1.0;
        b.push(cycle.correct - price * cycle.lost - patience * cycle.area);
    }
    let mut h = solve(a, b)?;
    h[0] = 0.0;
    let mut starts = vec![0.0; seen.chain.width()];
    starts[phases..].copy_from_slice(&h);
    Some(starts)
}
