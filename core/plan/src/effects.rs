//! What nodes, and segments, take over what is predicted for them.
//!
//! `ln(measured / predicted) = common + node + segment + noise`, each of the three drawn from a normal law around 0: a
//! crossed model of random effects, whose mode is a ridge regression (Henderson, Biometrics 1975). Priors keep apart what
//! data alone cannot: a segment that ran on one node only says a little of both. Runs that are far off count the less,
//! so that one that was interrupted does not make a node slow.

use crate::predict::{Features, Predictor, Sample};

/// What was seen of a segment on a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// The caller's number of the node, from 0 without gaps.
    pub node: usize,
    /// The caller's number of the segment, from 0 without gaps.
    pub segment: usize,
    /// Natural logarithm of what it took over what was predicted.
    pub log: f64,
}

/// Variances of logarithms, before anything is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Priors {
    /// Of all predictions together.
    pub common: f64,
    /// Of a node over its yardstick.
    pub node: f64,
    /// Of a segment over its prediction.
    pub segment: f64,
    /// Of one measurement.
    pub noise: f64,
}

impl Priors {
    /// Predictions may be off by half as a whole, yardsticks by a quarter, a measurement by a tenth; `segment` is what the
    /// predictor says of itself.
    #[must_use]
    pub const fn with(segment: f64) -> Self {
        Self {
            common: 0.25,
            node: 0.06,
            segment: segment.max(1e-4),
            noise: 0.01,
        }
    }
}

/// Logarithms of factors on predicted times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// On all of them.
    pub common: f64,
    /// On those of a node, with the variance that is left.
    pub nodes: Vec<(f64, f64)>,
    /// On those of a segment.
    pub segments: Vec<f64>,
}

/// Logarithms beyond this are no measurement: a factor of a hundred.
const MOST: f64 = 4.6;
/// Residuals of more standard deviations than this count less than those of so many.
const ODD: f64 = 3.0;
/// Sweeps over all effects at most, and the step below which they have settled.
const SWEEPS: usize = 2000;
const SETTLED: f64 = 1e-9;

/// The effects that explain best what was seen. Coordinate descent, reweighted after each sweep: O(sweeps · seen), some
/// hundred sweeps in most cases.
#[must_use]
pub fn fit(seen: &[Seen], priors: &Priors) -> Effects {
    let count = |of: fn(&Seen) -> usize| seen.iter().map(of).max().map_or(0, |most| most + 1);
    let mut nodes = vec![0.0; count(|one| one.node)];
    let mut segments = vec![0.0; count(|one| one.segment)];
    let logs: Vec<f64> = seen.iter().map(|one| one.log.clamp(-MOST, MOST)).collect();
    let mut common = 0.0;
    let mut weights = vec![1.0f64; seen.len()];
    let odd = ODD * (priors.noise + priors.segment).sqrt();
    for _ in 0..SWEEPS {
        let mut moved = 0.0f64;
        // Ridge: the mean of what is left, with noise over prior more values of 0.
        let mut sums = [(0.0, priors.noise / priors.common)];
        for (at, one) in seen.iter().enumerate() {
            sums[0].0 += weights[at] * (logs[at] - nodes[one.node] - segments[one.segment]);
            sums[0].1 += weights[at];
        }
        step(std::slice::from_mut(&mut common), &sums, &mut moved);

        let mut sums = vec![(0.0, priors.noise / priors.node); nodes.len()];
        for (at, one) in seen.iter().enumerate() {
            sums[one.node].0 += weights[at] * (logs[at] - common - segments[one.segment]);
            sums[one.node].1 += weights[at];
        }
        step(&mut nodes, &sums, &mut moved);

        let mut sums = vec![(0.0, priors.noise / priors.segment); segments.len()];
        for (at, one) in seen.iter().enumerate() {
            sums[one.segment].0 += weights[at] * (logs[at] - common - nodes[one.node]);
            sums[one.segment].1 += weights[at];
        }
        step(&mut segments, &sums, &mut moved);

        for (at, one) in seen.iter().enumerate() {
            // What the segment took on is part of what is odd, or the only run of a segment would never be.
            let left = (logs[at] - common - nodes[one.node]).abs();
            weights[at] = (odd / left.max(odd)).powi(2);
        }
        if moved < SETTLED {
            break;
        }
    }
    let mut runs = vec![0.0; nodes.len()];
    for (at, one) in seen.iter().enumerate() {
        runs[one.node] += weights[at];
    }
    let left = |runs: f64| 1.0 / (1.0 / priors.node + runs / (priors.segment + priors.noise));
    let nodes = nodes.into_iter().zip(runs);
    Effects {
        common,
        nodes: nodes.map(|(node, runs)| (node, left(runs))).collect(),
        segments,
    }
}

/// A segment that ran on a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// Which, among those whose features are known.
    pub segment: usize,
    /// The caller's number of the node, from 0 without gaps.
    pub node: usize,
    /// Seconds, above 0, as it would take on the machine that the predictor is for if stated speeds were all.
    pub seconds: f64,
}

/// What runs say of the rest: how far off nodes and predictions are, and, with the nodes' part taken out, other
/// coefficients; the effects are those that are left with them. O(sweeps · runs + runs · features²).
///
/// # Panics
/// When a run is of a segment without features.
#[must_use]
pub fn learn(known: &Predictor, features: &[Features], runs: &[Run]) -> (Predictor, Effects) {
    let before = over(known, features, runs);
    // One sample for each segment: the geometric mean over the nodes that ran it.
    let mut logs = vec![(0.0, 0.0f64); features.len()];
    for run in runs {
        let (sum, count) = &mut logs[run.segment];
        *sum += run.seconds.ln() - before.nodes[run.node].0;
        *count += 1.0;
    }
    let each = features.iter().zip(logs);
    let each = each.filter(|(_, (_, count))| *count > 0.0);
    let samples = each.map(|(features, (sum, count))| Sample {
        features: *features,
        seconds: f64::exp(sum / count),
    });
    let samples: Vec<Sample> = samples.collect();
    let predictor = known.refit(&samples).unwrap_or_else(|_| known.clone());
    let effects = over(&predictor, features, runs);
    (predictor, effects)
}

/// By how much runs are off their predictions.
fn over(predictor: &Predictor, features: &[Features], runs: &[Run]) -> Effects {
    let seen = runs.iter().map(|run| Seen {
        node: run.node,
        segment: run.segment,
        log: (run.seconds / predictor.predict(&features[run.segment]).mean.max(1e-9)).ln(),
    });
    fit(
        &seen.collect::<Vec<_>>(),
        &Priors::with(predictor.relative_variance),
    )
}

fn step(effects: &mut [f64], sums: &[(f64, f64)], moved: &mut f64) {
    for (effect, (sum, weight)) in effects.iter_mut().zip(sums) {
        let next = sum / weight;
        *moved = moved.max((next - *effect).abs());
        *effect = next;
    }
}
