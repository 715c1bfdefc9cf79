//! From what the network leaves in its rows to ratios of chains, and back to slopes.
//!
//! The plain network says two things of each fragment: how long a job waits there, as a share of what a full queue
//! would make it wait, and which share of jobs is lost there, in log-odds. Chains are composed of them as jobs meet
//! them: waits add up, shares let through multiply. The residual network says of each chain by how much the formulas
//! are wrong, in log-odds.

use ndarray::Array2;

use super::{Kind, Ratios, batch::Batch};
use crate::net::Matrix;

/// Least ratio that is said.
const LEAST: f64 = 1e-5;

/// Columns of what the last layers say: of delay, of loss.
pub(super) const fn columns(kind: Kind) -> [usize; 2] {
    match kind {
        Kind::Plain => [2, 1],
        Kind::Residual => [1, 1],
    }
}

/// The ratios of the chains as they lie in the batch.
pub(super) fn ratios(kind: Kind, batch: &Batch, [delay, loss]: [&Matrix; 2]) -> Vec<Ratios> {
    match kind {
        Kind::Plain => {
            let mut all = vec![(1.0, 1.0); batch.prior.len()];
            for (row, &chain) in batch.layout.chain.iter().enumerate() {
                let (response, through): &mut (f64, f64) = &mut all[chain];
                *response += wait(batch, delay, row);
                *through *= sigmoid(-f64::from(loss[(row, 0)]));
            }
            let ratios = all.into_iter().map(|(response, through)| Ratios {
                latency: 1.0 / response,
                throughput: through.max(LEAST),
            });
            ratios.collect()
        }
        Kind::Residual => {
            let read = |(row, prior): (usize, &[f32; 2])| {
                let [latency, throughput] = [delay, loss].map(|end| end[(row, 0)]);
                Ratios {
                    latency: sigmoid(f64::from(prior[0] + latency)),
                    throughput: sigmoid(f64::from(prior[1] + throughput)),
                }
            };
            batch.prior.iter().enumerate().map(read).collect()
        }
    }
}

/// What slopes of the chains' ratios, latency and throughput, are of what the last layers said.
pub(super) fn slopes(
    kind: Kind,
    batch: &Batch,
    [delay, loss]: [&Matrix; 2],
    found: &[Ratios],
    of_ratios: &[[f64; 2]],
) -> [Matrix; 2] {
    let mut back = [delay, loss].map(|end| Array2::zeros(end.dim()));
    match kind {
        Kind::Plain => {
            for (row, &chain) in batch.layout.chain.iter().enumerate() {
                let (ratios, slopes) = (found[chain], of_ratios[chain]);
                let d = -slopes[0] * ratios.latency * ratios.latency * wait(batch, delay, row);
                let level = sigmoid(-f64::from(delay[(row, 0)]));
                back[0][(row, 0)] = (d * level) as f32;
                back[0][(row, 1)] = d as f32;
                let lost = sigmoid(f64::from(loss[(row, 0)]));
                back[1][(row, 0)] = (-slopes[1] * ratios.throughput * lost) as f32;
            }
        }
        Kind::Residual => {
            for (row, (ratios, slopes)) in found.iter().zip(of_ratios).enumerate() {
                let bend = |ratio: f64| (ratio * (1.0 - ratio)).max(1e-4);
                back[0][(row, 0)] = (slopes[0] * bend(ratios.latency)) as f32;
                back[1][(row, 0)] = (slopes[1] * bend(ratios.throughput)) as f32;
            }
        }
    }
    back
}

/// The wait at a fragment over its chain's work: that of a full queue, times a share of it and a correction.
fn wait(batch: &Batch, delay: &Matrix, row: usize) -> f64 {
    let (share, more) = (f64::from(delay[(row, 0)]), f64::from(delay[(row, 1)]));
    f64::from(batch.longest[row]) * sigmoid(share) * more.clamp(-8.0, 8.0).exp()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
