//! The twin, asked by the dashboard: a situation of the live system run by the production brain over
//! simulated workers.
//!
//! The plan comes from the live planner; what is simulated is how it runs. What the twin leaves out (the
//! centre's own processor time, other work on the machines) makes it an optimist on a busy machine, which
//! is why the dashboard shows its error beside it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use splitplace_orchestrator::foresight::{Figure, Forecast, Foresight, ModelForecast, Situation};
use splitplace_plan::Exact;
use splitplace_twin::{
    Law, Seed,
    arrivals::Process,
    planner::{Offered, PlannerSettings},
    scenario::ModelOutcome,
    stats::Summary,
    what_if::{Effort, Observed, as_it_is},
    world::{Control, Load, Settings, Worker},
};

/// Runs of a situation.
const RUNS: u64 = 5;
/// Requests that a run should have, within the limits of its length.
const REQUESTS: f64 = 1500.0;
const SHORTEST: f64 = 10.0;
const LONGEST: f64 = 60.0;
/// Before anything counts.
const WARM_UP: Duration = Duration::from_secs(2);
/// Confidence of the intervals.
const CONFIDENCE: f64 = 0.95;

/// Who is asked.
#[derive(Debug)]
pub(crate) struct Twin;

fn figure(summary: &Summary) -> Figure {
    let estimate = summary.estimate(CONFIDENCE);
    let half_width = estimate.half_width;
    Figure {
        mean: estimate.mean,
        half_width: half_width.is_finite().then_some(half_width),
    }
}

/// The situation as the twin's questions have it. The plan is the live planner's, so that nothing is offered
/// that could be planned instead.
fn observed(situation: &Situation) -> Result<Observed, String> {
    let workers = situation.snapshot.alive().map(|node| {
        let mut worker = Worker::new(node.clone());
        worker.queue_limit = situation.queue_limit;
        let scv = situation.variation.get(&node.id).copied().unwrap_or(0.0);
        let pace = situation.pace.get(&node.id).copied().unwrap_or(1.0);
        // A worker spends it twice for each frame: towards the queue and towards the link.
        worker.overhead = situation.overhead / 2;
        worker.service = Law::gamma(pace, scv.clamp(0.0, 25.0)).map_err(|why| why.to_string())?;
        Ok(worker)
    });
    let workers: Vec<Worker> = workers.collect::<Result<_, String>>()?;
    let loads = situation.loads.iter().map(|seen| Load {
        model: seen.model.clone(),
        arrivals: Process::Poisson {
            rate: seen.rate_per_second,
        },
        slas: seen.slas.clone(),
        patience: seen.patience,
        samples: seen.samples,
        feedback: 0.0,
    });
    let mut settings = Settings::default();
    settings.limits.in_flight_max = situation.in_flight_max;
    let (name, params) = situation.policy.clone();
    Ok(Observed {
        workers,
        links: situation.snapshot.links.clone(),
        plan: situation.plan.clone(),
        planner: Offered {
            nodes: Vec::new(),
            offers: Vec::new(),
            strategy: Arc::new(Exact),
            settings: PlannerSettings::default(),
            inertia: 0.0,
        },
        loads: loads.collect(),
        shown: BTreeMap::new(),
        settings,
        control: Control::default(),
        policy: (name, params, situation.learnt.clone()),
    })
}

fn model(outcome: &ModelOutcome) -> ModelForecast {
    ModelForecast {
        offered_per_second: outcome.offered.mean(),
        answers_per_second: figure(&outcome.throughput),
        response_seconds: figure(&outcome.mean),
        p95_seconds: figure(&outcome.p95),
        loss: figure(&outcome.loss),
        held: kept(&outcome.violations),
        accuracy: figure(&outcome.accuracy),
        arms: outcome
            .arms
            .iter()
            .map(|(arm, told)| (arm.clone(), told.share.mean()))
            .collect(),
    }
}

/// Promises kept, from those that were not.
fn kept(missed: &Summary) -> Figure {
    let missed = figure(missed);
    Figure {
        mean: 1.0 - missed.mean,
        ..missed
    }
}

impl Foresight for Twin {
    fn foresee(&self, situation: &Situation, seed: u64) -> Result<Forecast, String> {
        let rates = situation.loads.iter().map(|seen| seen.rate_per_second);
        let total: f64 = rates.sum();
        let seconds = (REQUESTS / total.max(1e-3)).clamp(SHORTEST, LONGEST);
        let effort = Effort {
            measured: Duration::from_secs_f64(seconds),
            warm_up: WARM_UP,
            runs: RUNS,
        };
        let side = as_it_is(&observed(situation)?, effort, Seed(seed))
            .map_err(|why| format!("the twin cannot run this: {why}"))?;
        let outcome = side.outcome;
        Ok(Forecast {
            models: outcome
                .models
                .iter()
                .map(|(name, told)| (name.to_string(), model(told)))
                .collect(),
            nodes: outcome
                .nodes
                .iter()
                .map(|(node, busy)| (node.clone(), busy.mean()))
                .collect(),
            runs: RUNS,
        })
    }
}
