//! M/G/1/K without approximation.
//!
//! Seen at departures, the number left behind is a Markov chain. Balancing the flow across each level
//! gives its law by sums of positive terms only (π_j = P(j left behind), A = arrivals in one service):
//!
//! ```text
//! π_{j+1} = ( π_0 P(A > j) + Σ_{i=1..j} π_i P(A > j + 1 - i) ) / P(A = 0),   j = 0 .. K-2
//! ```
//!
//! and the loss per served request is `l = Σ_n π_n E[(max(n, 1) + A - K)⁺]`, so `L = l / (1 + l)`. That form
//! keeps its digits for any loss that a number can hold, where `1 - 1 / (π_0 + ρ)` has none left below 10⁻¹².
//! Source: Gross & Harris, *Fundamentals of Queueing Theory*, on M/G/1/K; Niu & Cooper 1993 for the
//! transform-free argument.

use crate::{Counts, Error, Service, real};

/// P(A = 0) below which the station is taken as never empty.
const NEVER: f64 = 1e-290;

/// An M/G/1/K station in its steady state.
#[derive(Clone, Debug, PartialEq)]
pub struct Station {
    /// Offered load `λ E[S]`.
    pub rho: f64,
    /// L: share of arrivals that find no place.
    pub loss: f64,
    /// P(n requests present) at any time, `n = 0..=K`; by PASTA also what an arrival finds.
    pub occupancy: Vec<f64>,
    /// Mean number present.
    pub present: f64,
    /// Mean time from arrival to departure of those that were let in, in seconds, by Little:
    /// `present / (λ (1 - L))`. `E[S]` when nothing arrives.
    pub response: f64,
}

/// The share of arrivals lost. Exact for Poisson arrivals at `rate` per second and service times that are
/// independent of each other and of the arrivals. O(K²) after the counts of arrivals.
///
/// # Errors
/// When the rate is no rate or the capacity not in `1..=MAX_CAPACITY`.
pub fn loss(rate: f64, service: &Service, capacity: usize) -> Result<f64, Error> {
    let counts = Counts::new(rate, service, capacity)?;
    Ok(embedded(&counts, capacity).1)
}

/// Loss, occupancy and mean response; as [`loss`].
///
/// # Errors
/// As [`loss`].
pub fn solve(rate: f64, service: &Service, capacity: usize) -> Result<Station, Error> {
    let counts = Counts::new(rate, service, capacity)?;
    let (left, loss) = embedded(&counts, capacity);
    let rho = (rate * service.mean()).min(f64::MAX);
    // p_n = π_n / (π_0 + ρ), and π_0 + ρ = 1 / (1 - L).
    let mut occupancy: Vec<f64> = left.iter().map(|p| p * (1.0 - loss)).collect();
    occupancy.push(loss);
    let present: f64 = occupancy.iter().enumerate().map(|(n, p)| real(n) * p).sum();
    let let_in = rate * (1.0 - loss);
    let response = if let_in > 0.0 && rho > 1e-12 {
        (present / let_in).min(f64::MAX)
    } else {
        service.mean()
    };
    Ok(Station {
        rho,
        loss,
        occupancy,
        present,
        response,
    })
}

/// The law of the number left behind at departures, and the loss.
fn embedded(counts: &Counts, capacity: usize) -> (Vec<f64>, f64) {
    let (none, above) = (counts.pmf()[0], counts.above());
    let mut left = vec![0.0; capacity];
    if none < NEVER {
        left[capacity - 1] = 1.0;
    } else {
        left[0] = 1.0;
        for j in 0..capacity - 1 {
            let sum: f64 = left[1..=j]
                .iter()
                .zip(above[1..=j].iter().rev())
                .map(|(p, t)| p * t)
                .sum();
            let next = (left[0] * above[j] + sum) / none;
            left[j + 1] = next;
            if next > 1e100 {
                // In two steps: 1 / next may be below the smallest number.
                left[..=j + 1].iter_mut().for_each(|p| *p /= next);
            }
        }
        let total: f64 = left.iter().sum();
        left.iter_mut().for_each(|p| *p /= total);
    }
    let excess = counts.excess();
    let lost: f64 = left
        .iter()
        .enumerate()
        .map(|(n, p)| {
            if *p > 0.0 {
                p * excess[capacity - n.max(1)]
            } else {
                0.0
            }
        })
        .sum();
    let loss = if lost.is_finite() {
        lost / (1.0 + lost)
    } else {
        1.0
    };
    (left, loss)
}

/// The smallest capacity whose exact loss is at most `target`, when one of at most `limit` places does it.
/// O(limit · capacity²): each capacity is tried, by bisection over the loss, which falls with capacity.
///
/// # Errors
/// As [`loss`], with `limit` as capacity.
pub fn capacity_for(
    target: f64,
    rate: f64,
    service: &Service,
    limit: usize,
) -> Result<Option<usize>, Error> {
    if loss(rate, service, limit)? > target {
        return Ok(None);
    }
    let (mut fails, mut meets) = (0, limit);
    while meets - fails > 1 {
        let middle = fails.midpoint(meets);
        if loss(rate, service, middle)? > target {
            fails = middle;
        } else {
            meets = middle;
        }
    }
    Ok(Some(meets))
}
