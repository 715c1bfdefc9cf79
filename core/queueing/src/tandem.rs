//! Stations one after another, each of which turns away what finds it full.

use crate::{Error, Service, exact};

/// A chain of stations.
#[derive(Clone, Debug, PartialEq)]
pub struct Tandem {
    /// Loss of each station, as a share of what reaches it.
    pub losses: Vec<f64>,
    /// `1 - Π (1 - L_i)`: share of all requests that some station turned away.
    pub loss: f64,
    /// Mean time from arrival to the last departure, of those that were never turned away, in seconds.
    pub response: f64,
}

/// Loss of a chain by thinning: what leaves a station is taken as Poisson at the rate that was let in,
/// `λ_{i+1} = λ_i (1 - L_i)`, and each station as exact M/G/1/K. O(Σ K²).
///
/// An upper estimate of the loss when arrivals are Poisson and service is not more variable than
/// exponential, because departures are then smoother than Poisson: 8 % too high for exponential service, up to
/// threefold for constant service (where a station that is not slower than the one before it loses
/// nothing at all). No bound for bursty arrivals.
///
/// # Errors
/// When the rate is no rate or a capacity not in `1..=MAX_CAPACITY`.
pub fn thinned(rate: f64, stations: &[(Service, usize)]) -> Result<Tandem, Error> {
    let mut passing = rate;
    let mut losses = Vec::with_capacity(stations.len());
    let (mut kept, mut response) = (1.0, 0.0);
    for (service, capacity) in stations {
        let station = exact::solve(passing, service, *capacity)?;
        passing *= 1.0 - station.loss;
        kept *= 1.0 - station.loss;
        response += station.response;
        losses.push(station.loss);
    }
    if stations.is_empty() {
        exact::loss(rate, &Service::constant(0.0)?, 1)?;
    }
    // For tiny losses the product has no digits left; their sum has.
    let sum: f64 = losses.iter().sum();
    Ok(Tandem {
        loss: if sum < 1e-8 { sum } else { 1.0 - kept },
        losses,
        response,
    })
}
