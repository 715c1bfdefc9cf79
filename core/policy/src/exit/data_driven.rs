//! Thresholds for every exit found on recorded inputs (Casale and Roveri's data-driven policy): replay, predict
//! the loss, search.

use rand::Rng;
use splitplace_queueing::{Service, exact, two_moment};

use super::{
    ExitError, ExitTable, Records, Station, Thresholds,
    gaussian::{Search, maximise},
    real,
};

/// What losing more than the target costs, in accuracy per loss (the authors' number).
const PENALTY: f64 = 100.0;

/// How the loss of a mixture of exits is predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LossModel {
    /// The two-moment formula, as the source does.
    TwoMoment,
    /// Exact M/G/1/K of the mixture.
    #[default]
    Exact,
}

/// What thresholds lead to on records.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// Share of correct answers.
    pub accuracy: f64,
    /// Share that leaves at each exit.
    pub exits: Vec<f64>,
}

/// Sends every recorded input through the thresholds. O(inputs · exits).
#[must_use]
pub fn replay(records: &Records, thresholds: &[f64]) -> Replay {
    let last = records.exits() - 1;
    let mut exits = vec![0.0; records.exits()];
    let mut correct = 0.0;
    let share = 1.0 / real(records.len().max(1));
    for input in 0..records.len() {
        let reached = |exit: usize| {
            let threshold = thresholds.get(exit);
            threshold.is_some_and(|&t| records.confidence(input, exit) >= t)
        };
        let exit = (0..last).find(|&exit| reached(exit)).unwrap_or(last);
        exits[exit] += share;
        correct += share * f64::from(u8::from(records.is_correct(input, exit)));
    }
    Replay {
        accuracy: correct,
        exits,
    }
}

/// The loss of a station whose requests leave at the exits with these shares, Poisson arrivals assumed.
///
/// # Errors
/// When the station makes no sense.
pub fn predicted_loss(
    shares: &[f64],
    table: &ExitTable,
    station: &Station,
    model: LossModel,
) -> Result<f64, ExitError> {
    let parts = shares.iter().enumerate().filter(|(_, p)| **p > 0.0);
    let parts: Vec<_> = parts
        .map(|(exit, &p)| (p, table.cumulative(exit)))
        .collect();
    let service = Service::mix(&parts)?;
    let rate = station.arrivals.rate();
    Ok(match model {
        LossModel::TwoMoment => {
            two_moment::loss(rate * service.mean(), service.scv(), station.capacity)
        }
        LossModel::Exact => exact::loss(rate, &service, station.capacity)?,
    })
}

/// Thresholds for which `accuracy - 100 · max(0, loss - target)` is largest, by Bayesian optimisation over
/// quantiles of each exit's confidence (where confidences differ, not where they do not).
/// The search begins with a few equal quantiles, from "first exit" to "never early", beside its random points.
///
/// # Errors
/// When the station makes no sense or there are no records.
pub fn data_driven(
    records: &Records,
    table: &ExitTable,
    station: &Station,
    model: LossModel,
    search: &Search,
    rng: &mut dyn Rng,
) -> Result<Thresholds, ExitError> {
    station.check()?;
    if records.is_empty() || records.exits() != table.exits() {
        return Err(super::TableError::Empty.into());
    }
    let sorted: Vec<Vec<f64>> = (0..table.last()).map(|exit| records.sorted(exit)).collect();
    let thresholds = |point: &[f64]| -> Vec<f64> {
        point
            .iter()
            .zip(&sorted)
            .map(|(&u, sorted)| quantile(sorted, u))
            .collect()
    };
    if table.last() == 0 {
        return Ok(Thresholds::new(Vec::new()).named("data-driven"));
    }
    // From "first exit" to "never early", and a few in between.
    let levels = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
    let first: Vec<Vec<f64>> = levels.iter().map(|&u| vec![u; table.last()]).collect();
    let (point, _) = maximise(table.last(), &first, search, rng, |point| {
        let replayed = replay(records, &thresholds(point));
        let loss = predicted_loss(&replayed.exits, table, station, model).unwrap_or(1.0);
        replayed.accuracy - PENALTY * (loss - station.target).max(0.0)
    });
    Ok(Thresholds::new(thresholds(&point)).named("data-driven"))
}

/// The confidence below which a share `u` lies: everything passes at 0, nothing at 1.
#[must_use]
pub fn quantile(sorted: &[f64], u: f64) -> f64 {
    if u <= 0.0 {
        return 0.0;
    }
    if u >= 1.0 || sorted.is_empty() {
        return 1.01;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "below the length"
    )]
    let at = (u * real(sorted.len())) as usize;
    sorted[at.min(sorted.len() - 1)]
}
