//! The same numbers under the names of Triton, for boards and autoscalers that know those.
//!
//! Triton's counters end in no `_total`, and its times are microseconds; so these are written as what the
//! format calls gauges, whatever they count. Read at each scrape from what the inference API's statistics
//! say, so that both always agree.

use std::{fmt, sync::Weak};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::MetricType,
    metrics::gauge::ConstGauge,
    registry::Registry,
};

use super::Inner;
use crate::{
    face::ModelTallies,
    watch::{Loss, MODELS},
};

/// What one model's numbers are made from.
#[derive(Clone, Debug, Default)]
struct Seen {
    model: String,
    version: String,
    tallies: ModelTallies,
    /// In the order of [`Loss::ALL`].
    lost: [u64; Loss::ALL.len()],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Model {
    model: String,
    version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    model: String,
    version: String,
    reason: &'static str,
}

/// Triton's word for a loss.
const fn reason(loss: Loss) -> &'static str {
    match loss {
        Loss::NotReady | Loss::Hopeless | Loss::Overloaded => "REJECTED",
        Loss::Cancelled => "CANCELED",
        Loss::Broken => "BACKEND",
        Loss::Expired | Loss::Unreachable => "OTHER",
    }
}

/// Every word, also those that nothing counts under yet.
const REASONS: [&str; 4] = ["REJECTED", "CANCELED", "BACKEND", "OTHER"];

enum Source {
    Center(Weak<Inner>),
    /// One model whose labels stand for themselves.
    Example,
}

pub(super) struct Triton(Source);

impl fmt::Debug for Triton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Triton").finish_non_exhaustive()
    }
}

impl Triton {
    pub(super) const fn new(center: Weak<Inner>) -> Self {
        Self(Source::Center(center))
    }

    fn seen(&self) -> Vec<Seen> {
        let Source::Center(center) = &self.0 else {
            return vec![Seen {
                model: "MODEL".into(),
                version: "VERSION".into(),
                ..Seen::default()
            }];
        };
        let Some(center) = center.upgrade() else {
            return Vec::new();
        };
        let served: Vec<_> = center.models.read().values().cloned().collect();
        let book = center.watching.book.lock();
        let seen = served.iter().take(MODELS).map(|served| Seen {
            model: served.name.to_string(),
            version: served.loaded.version().to_owned(),
            tallies: served.facts(true).tallies,
            lost: book
                .seen(served.name.as_str())
                .map(|seen| *seen.lost())
                .unwrap_or_default(),
        });
        seen.collect()
    }
}

/// Registers the names with labels that stand for themselves.
pub(super) fn reference(registry: &mut Registry) {
    registry.register_collector(Box::new(Triton(Source::Example)));
}

type Number = (&'static str, &'static str, fn(&ModelTallies) -> u64);

const NUMBERS: [Number; 8] = [
    ("nv_inference_request_success", "Requests answered", |of| {
        of.success.count
    }),
    ("nv_inference_count", "Samples answered", |of| of.samples),
    (
        "nv_inference_exec_count",
        "Requests answered: each is a batch of its own",
        |of| of.success.count,
    ),
    (
        "nv_inference_request_duration_us",
        "Microseconds of answered requests",
        |of| of.success.nanos / 1000,
    ),
    (
        "nv_inference_queue_duration_us",
        "Microseconds of waiting in workers",
        |of| of.queue.nanos / 1000,
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Microseconds on links",
        |of| of.compute_input.nanos / 1000,
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Microseconds of computing",
        |of| of.compute_infer.nanos / 1000,
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Microseconds of encoding",
        |of| of.compute_output.nanos / 1000,
    ),
];

impl Collector for Triton {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let seen = self.seen();
        if seen.is_empty() {
            return Ok(());
        }
        let number = |count: u64| ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        for (name, help, of) in NUMBERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for one in &seen {
                let labels = Model {
                    model: one.model.clone(),
                    version: one.version.clone(),
                };
                number(of(&one.tallies)).encode(family.encode_family(&labels)?)?;
            }
        }
        let (name, help) = ("nv_inference_request_failure", "Requests without an answer");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for one in &seen {
            for word in REASONS {
                let lost = Loss::ALL.into_iter().zip(one.lost);
                let count = lost.filter(|(loss, _)| reason(*loss) == word);
                let labels = Failed {
                    model: one.model.clone(),
                    version: one.version.clone(),
                    reason: word,
                };
                let count = number(count.map(|(_, count)| count).sum());
                count.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_triton() {
        let mut registry = Registry::default();
        reference(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "nv_inference_request_success{model=\"MODEL\",version=\"VERSION\"} 0",
            "nv_inference_request_failure{model=\"MODEL\",version=\"VERSION\",reason=\"REJECTED\"} 0",
            "nv_inference_queue_duration_us{model=\"MODEL\",version=\"VERSION\"} 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
