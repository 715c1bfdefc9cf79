//! Several runs of a scenario together, with intervals.

use std::collections::BTreeMap;

use splitplace_plan::ModelName;

use crate::{
    evaluate::{Evaluation, Replications},
    stats::{Estimate, Summary},
    world::{ModelReport, Report},
};

/// Answers by one arm, over the runs.
#[derive(Clone, Debug, Default)]
pub struct ArmOutcome {
    /// Share of the model's answers.
    pub share: Summary,
    /// Mean seconds to the answer.
    pub response: Summary,
    /// Share of its answers within the promise.
    pub held: Summary,
    /// Share of right answers.
    pub accuracy: Summary,
    /// Forecast over what it took.
    pub forecast: Summary,
    /// Share of its answers without some branch.
    pub partial: Summary,
}

/// One model, over the runs: a value for each run.
#[derive(Clone, Debug, Default)]
pub struct ModelOutcome {
    /// Requests a second that came.
    pub offered: Summary,
    /// Answers a second.
    pub throughput: Summary,
    /// Mean seconds to the answer.
    pub mean: Summary,
    /// Quantiles of it.
    pub p50: Summary,
    /// See [`p50`](Self::p50).
    pub p95: Summary,
    /// See [`p50`](Self::p50).
    pub p99: Summary,
    /// Share of the requests without an answer.
    pub loss: Summary,
    /// Of these, not let in.
    pub refused: Summary,
    /// Share of the requests whose promise was not kept.
    pub violations: Summary,
    /// Share of right answers, over answers.
    pub accuracy: Summary,
    /// By name of the arm.
    pub arms: BTreeMap<String, ArmOutcome>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// By model; of a world of copies, all copies of a model under one name.
    pub models: BTreeMap<ModelName, ModelOutcome>,
    /// Watts of all nodes.
    pub watts: Summary,
    /// Utilisation by node, at most [`Outcome::NODES`] of them.
    pub nodes: BTreeMap<String, Summary>,
    /// Plans after the first.
    pub plans: Summary,
    /// Attempts after a request's first, a second.
    pub retried: Summary,
    /// Events of all runs.
    pub events: u64,
    /// Requests of all runs.
    pub requests: u64,
    /// Trace hash of each run.
    pub traces: Vec<u64>,
    total: Replications,
}

impl Outcome {
    /// Nodes whose utilisation is kept.
    pub const NODES: usize = 64;

    /// Takes in one run.
    pub fn add(&mut self, report: &Report) {
        let mut grouped: BTreeMap<ModelName, Vec<&ModelReport>> = BTreeMap::new();
        for (name, model) in &report.models {
            let own = name.as_str().split('@').next().unwrap_or("");
            grouped.entry(ModelName::new(own)).or_default().push(model);
        }
        for (name, models) in grouped {
            self.models
                .entry(name)
                .or_default()
                .add(&models, report.seconds);
        }
        let seconds = (report.ended.as_nanos() as f64 / 1e9).max(1e-9);
        self.watts.add(report.joules() / seconds);
        self.plans.add(report.plans.len() as f64);
        self.retried.add(report.counts.retried as f64 / seconds);
        for node in report.nodes.iter().take(Self::NODES) {
            self.nodes
                .entry(node.node.to_string())
                .or_default()
                .add(node.utilisation);
        }
        self.events += report.events;
        self.requests += report
            .models
            .values()
            .map(|model| model.arrived)
            .sum::<u64>();
        self.traces.push(report.trace);
        self.total.add(report);
    }

    /// Runs taken in.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.watts.count()
    }

    /// Over all models.
    #[must_use]
    pub fn evaluation(&self, confidence: f64) -> Evaluation {
        self.total.evaluation(confidence)
    }

    /// Whether the total latency is known to within this share of itself.
    #[must_use]
    pub fn is_precise(&self, relative: f64, confidence: f64) -> bool {
        let latency: Estimate = self.total.evaluation(confidence).latency;
        latency.relative() <= relative
    }
}

impl ModelOutcome {
    fn add(&mut self, models: &[&ModelReport], seconds: f64) {
        let mut total = ModelReport::default();
        let (mut response, mut accuracy) = (Mean::default(), Mean::default());
        let mut arms: BTreeMap<&str, [Mean; 5]> = BTreeMap::new();
        for model in models {
            total.merge_counts(model);
            response.add(model.response.mean(), model.answered);
            accuracy.add(model.accuracy.mean(), model.answered);
            for (name, arm) in &model.arms {
                let count = arm.answered;
                let share = |part: u64| part as f64 / count.max(1) as f64;
                let means = arms.entry(name).or_default();
                means[0].add(arm.response.mean(), count);
                means[1].add(share(arm.held), count);
                means[2].add(arm.accuracy.mean(), count);
                means[3].add(arm.forecast.mean(), count);
                means[4].add(share(arm.partial), count);
            }
        }
        self.offered.add(total.arrived as f64 / seconds);
        self.throughput.add(total.answered as f64 / seconds);
        self.loss.add(total.loss());
        let refused = total.not_ready + total.hopeless + total.overloaded;
        self.refused
            .add(refused as f64 / total.arrived.max(1) as f64);
        self.violations.add(total.violations());
        if 0 < total.answered {
            self.mean.add(response.mean());
            self.accuracy.add(accuracy.mean());
            self.p50.add(total.times.seconds(0.5));
            self.p95.add(total.times.seconds(0.95));
            self.p99.add(total.times.seconds(0.99));
        }
        for (name, means) in arms {
            let arm = self.arms.entry(name.to_owned()).or_default();
            arm.share
                .add(means[0].weight / total.answered.max(1) as f64);
            arm.response.add(means[0].mean());
            arm.held.add(means[1].mean());
            arm.accuracy.add(means[2].mean());
            arm.forecast.add(means[3].mean());
            arm.partial.add(means[4].mean());
        }
    }
}

/// A weighted mean.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn add(&mut self, mean: f64, count: u64) {
        self.sum += mean * count as f64;
        self.weight += count as f64;
    }

    fn mean(self) -> f64 {
        if self.weight > 0.0 {
            self.sum / self.weight
        } else {
            0.0
        }
    }
}
