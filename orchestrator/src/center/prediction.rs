//! How wrong predictions have been: the brain's forecast of every answer, and the twin's of the whole.
//!
//! A forecast's error is its distance from what the answer took, over that; what is told is the mean with
//! forgetting, one answer in [`FORGET`] counting anew. Labels are bounded by whoever calls.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use super::metrics::Arm;

/// Answers that the running error remembers, about.
const FORGET: f64 = 100.0;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Model {
    model: String,
}

/// A mean with forgetting, exact for the first answers.
#[derive(Clone, Copy, Debug, Default)]
struct Running {
    mean: f64,
    count: f64,
}

impl Running {
    fn add(&mut self, value: f64) -> f64 {
        self.count = (self.count + 1.0).min(FORGET);
        self.mean += (value - self.mean) / self.count;
        self.mean
    }
}

/// The running errors.
#[derive(Clone, Debug, Default)]
pub(super) struct Predictions {
    forecast: Family<Arm, Gauge<f64, AtomicU64>>,
    twin: Family<Model, Gauge<f64, AtomicU64>>,
    running: Arc<Mutex<HashMap<Arm, Running>>>,
}

impl Predictions {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let predictions = Self::default();
        registry.register(
            "forecast_error_ratio",
            "How far the response of answers was from its forecast, over the response; mean with forgetting",
            predictions.forecast.clone(),
        );
        registry.register(
            "twin_error_ratio",
            "Mean response that the twin last predicted of the present load, less what was seen, over that",
            predictions.twin.clone(),
        );
        predictions
    }

    /// An answer of an arm.
    pub(super) fn answered(&self, of: &Arm, forecast: Duration, response: Duration) {
        if forecast.is_zero() || response.is_zero() {
            return;
        }
        let error = forecast.abs_diff(response).as_secs_f64() / response.as_secs_f64();
        let mut running = self.running.lock();
        let mean = match running.get_mut(of) {
            Some(known) => known.add(error),
            None => running.entry(of.clone()).or_default().add(error),
        };
        drop(running);
        self.forecast.get_or_create(of).set(mean);
    }

    /// A comparison of the twin: its error, signed.
    pub(super) fn compared(&self, model: &str, error: f64) {
        let model = model.to_owned();
        self.twin.get_or_create(&Model { model }).set(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_error_follows_what_becomes_of_forecasts() {
        let mut registry = Registry::default();
        let predictions = Predictions::register(&mut registry);
        let of = Arm {
            model: "m".into(),
            arm: "a".into(),
        };
        let told = || predictions.forecast.get_or_create(&of).get();
        let ms = Duration::from_millis;
        predictions.answered(&of, ms(12), ms(10));
        assert!((told() - 0.2).abs() < 1e-9);
        predictions.answered(&of, ms(6), ms(10));
        assert!((told() - 0.3).abs() < 1e-9);
        for _ in 0..2000 {
            predictions.answered(&of, ms(10), ms(10));
        }
        assert!(told() < 1e-3);
        // Nothing to compare with.
        predictions.answered(&of, Duration::ZERO, ms(10));
        assert!(told() < 1e-3);
        predictions.compared("m", -0.25);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("twin_error_ratio{model=\"m\"} -0.25"),
            "{text}"
        );
    }
}
