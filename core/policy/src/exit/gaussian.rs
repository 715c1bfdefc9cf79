//! A small Gaussian process, and search for a maximum by its upper confidence bound.
//!
//! Inputs lie in the unit cube. Kernel: Matérn 5/2 with one length for all directions, chosen by the
//! likelihood among a few; values are standardised. Exact by Cholesky, O(n³) once and O(n²) per question: meant
//! for at most a few hundred points. The maintained crates that do this bring several hundred
//! thousand lines of linear algebra with them, for 100 points in a few directions.

use rand::Rng;

use super::real;
use crate::fixed::unit;

/// Lengths that are tried, as shares of the cube's edge.
const LENGTHS: [f64; 5] = [0.1, 0.2, 0.4, 0.8, 1.6];
/// Variance of the noise that keeps the matrix positive, relative to the values'.
const NUGGET: f64 = 1e-6;
/// Points that a process may hold at most.
pub const MAX_POINTS: usize = 512;

/// A posterior over functions on the unit cube.
#[derive(Clone, Debug)]
pub struct Process {
    points: Vec<Vec<f64>>,
    length: f64,
    mean: f64,
    scale: f64,
    /// Lower triangle L, row by row, `K = L Lᵀ`.
    factor: Vec<f64>,
    /// K⁻¹ (y - mean) / scale.
    weights: Vec<f64>,
}

fn kernel(a: &[f64], b: &[f64], length: f64) -> f64 {
    let square: f64 = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum();
    let r = (5.0 * square).sqrt() / length;
    (1.0 + r + r * r / 3.0) * (-r).exp()
}

impl Process {
    /// Fits to values at points; `None` when there are none, too many, or one value is not finite.
    #[must_use]
    pub fn fit(points: &[Vec<f64>], values: &[f64]) -> Option<Self> {
        let n = values.len();
        let fits = n > 0 && n <= MAX_POINTS && points.len() == n;
        if !fits || !values.iter().all(|v| v.is_finite()) {
            return None;
        }
        let mean = values.iter().sum::<f64>() / real(n);
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / real(n);
        let scale = variance.sqrt().max(1e-12);
        let y: Vec<f64> = values.iter().map(|v| (v - mean) / scale).collect();
        let mut best: Option<(f64, Self)> = None;
        for length in LENGTHS {
            let Some(factor) = cholesky(points, length) else {
                continue;
            };
            let z = forward(&factor, &y);
            let log_det: f64 = (0..n).map(|i| factor[i * n + i].ln()).sum();
            let likelihood = -0.5 * z.iter().map(|x| x * x).sum::<f64>() - log_det;
            if best.as_ref().is_none_or(|(most, _)| likelihood > *most) {
                let weights = backward(&factor, &z);
                let process = Self {
                    points: points.to_vec(),
                    length,
                    mean,
                    scale,
                    factor,
                    weights,
                };
                best = Some((likelihood, process));
            }
        }
        best.map(|(_, process)| process)
    }

    /// Mean and standard deviation of the function at a point.
    #[must_use]
    pub fn at(&self, point: &[f64]) -> (f64, f64) {
        let k: Vec<f64> = self
            .points
            .iter()
            .map(|p| kernel(p, point, self.length))
            .collect();
        let mean: f64 = k.iter().zip(&self.weights).map(|(a, b)| a * b).sum();
        let z = forward(&self.factor, &k);
        let variance = (1.0 - z.iter().map(|x| x * x).sum::<f64>()).max(0.0);
        (self.mean + self.scale * mean, self.scale * variance.sqrt())
    }
}

fn cholesky(points: &[Vec<f64>], length: f64) -> Option<Vec<f64>> {
    let n = points.len();
    let mut l = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let noise = if i == j { NUGGET } else { 0.0 };
            let known: f64 = (0..j).map(|k| l[i * n + k] * l[j * n + k]).sum();
            let rest = kernel(&points[i], &points[j], length) + noise - known;
            l[i * n + j] = if i == j {
                if rest <= 0.0 {
                    return None;
                }
                rest.sqrt()
            } else {
                rest / l[j * n + j]
            };
        }
    }
    Some(l)
}

fn forward(l: &[f64], y: &[f64]) -> Vec<f64> {
    let n = y.len();
    let mut z = vec![0.0; n];
    for i in 0..n {
        let known: f64 = (0..i).map(|k| l[i * n + k] * z[k]).sum();
        z[i] = (y[i] - known) / l[i * n + i];
    }
    z
}

fn backward(l: &[f64], z: &[f64]) -> Vec<f64> {
    let n = z.len();
    let mut x = vec![0.0; n];
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|k| l[k * n + i] * x[k]).sum();
        x[i] = (z[i] - known) / l[i * n + i];
    }
    x
}

/// How a search is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Search {
    /// Points drawn at random first.
    pub random: usize,
    /// Points chosen by the confidence bound after them.
    pub guided: usize,
    /// κ: standard deviations above the mean that a point is worth.
    pub kappa: f64,
    /// Points among which each guided one is chosen: half of them anywhere, half near the best.
    pub candidates: usize,
}

impl Default for Search {
    /// The authors' numbers for points and κ.
    fn default() -> Self {
        Self {
            random: 5,
            guided: 100,
            kappa: 2.576,
            candidates: 128,
        }
    }
}

/// A value as the process sees it: penalties far below zero are drawn together, or they alone would set the scale.
fn seen(value: f64) -> f64 {
    if value < 0.0 {
        -0.2 * (-value).ln_1p()
    } else {
        value
    }
}

/// The best point that was found, and its value. `first` are points to begin with.
pub fn maximise(
    dimensions: usize,
    first: &[Vec<f64>],
    search: &Search,
    rng: &mut dyn Rng,
    mut value: impl FnMut(&[f64]) -> f64,
) -> (Vec<f64>, f64) {
    let mut points: Vec<Vec<f64>> = first.to_vec();
    for _ in 0..search.random {
        points.push((0..dimensions).map(|_| unit(rng)).collect());
    }
    points.truncate(MAX_POINTS);
    let mut values: Vec<f64> = points.iter().map(|point| value(point)).collect();
    let best = |values: &[f64]| (0..values.len()).max_by(|&i, &j| values[i].total_cmp(&values[j]));
    for _ in 0..search.guided.min(MAX_POINTS - points.len()) {
        let drawn: Vec<f64> = values.iter().map(|&value| seen(value)).collect();
        let (Some(process), Some(at)) = (Process::fit(&points, &drawn), best(&values)) else {
            break;
        };
        let mut chosen: Option<(f64, Vec<f64>)> = None;
        for candidate in 0..search.candidates.max(1) {
            let point: Vec<f64> = if candidate % 2 == 0 {
                (0..dimensions).map(|_| unit(rng)).collect()
            } else {
                let wide = 0.2 * unit(rng);
                let near = points[at].iter();
                near.map(|x| (x + wide * (2.0 * unit(rng) - 1.0)).clamp(0.0, 1.0))
                    .collect()
            };
            let (mean, deviation) = process.at(&point);
            let bound = mean + search.kappa * deviation;
            if chosen.as_ref().is_none_or(|(most, _)| bound > *most) {
                chosen = Some((bound, point));
            }
        }
        if let Some((_, point)) = chosen {
            values.push(value(&point));
            points.push(point);
        }
    }
    match best(&values) {
        Some(at) => (points.swap_remove(at), values[at]),
        None => (vec![0.5; dimensions], f64::MIN),
    }
}
