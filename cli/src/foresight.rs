//! The twin, asked by the dashboard: a situation of the live system run by the production brain over
//! simulated workers.
//!
//! The plan comes from the live planner; what is simulated is how it runs. What the twin leaves out (the
//! centre's own processor time, other work on the machines) makes it an optimist on a busy machine, which
//! is why the dashboard shows its error beside it.

use std::{collections::BTreeMap, time::Duration};

use splitplace_orchestrator::foresight::{Figure, Forecast, Foresight, ModelForecast, Situation};
use splitplace_policy::by_name;
use splitplace_twin::{
    Law, Seed,
    arrivals::Process,
    planner::Fixed,
    stats::Summary,
    world::{Load, Worker, World, run},
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

#[derive(Default)]
struct Sums {
    offered: Summary,
    answers: Summary,
    response: Summary,
    p95: Summary,
    loss: Summary,
    held: Summary,
    accuracy: Summary,
    arms: BTreeMap<String, u64>,
    answered: u64,
}

fn figure(summary: &Summary) -> Figure {
    let estimate = summary.estimate(CONFIDENCE);
    let half_width = estimate.half_width;
    Figure {
        mean: estimate.mean,
        half_width: half_width.is_finite().then_some(half_width),
    }
}

fn world(situation: &Situation) -> Result<World, String> {
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
    let total: f64 = situation
        .loads
        .iter()
        .map(|seen| seen.rate_per_second)
        .sum();
    let seconds = (REQUESTS / total.max(1e-3)).clamp(SHORTEST, LONGEST);
    let mut settings = splitplace_brain::Settings::default();
    settings.limits.in_flight_max = situation.in_flight_max;
    let world = World {
        workers,
        links: situation.snapshot.links.clone(),
        loads: loads.collect(),
        faults: Vec::new(),
        settings,
        control: splitplace_twin::world::Control::default(),
        warm_up: WARM_UP,
        duration: WARM_UP + Duration::from_secs_f64(seconds),
    };
    let wrong = world.check();
    if wrong.is_empty() {
        Ok(world)
    } else {
        Err(format!("the twin cannot run this: {}", wrong.join("; ")))
    }
}

impl Foresight for Twin {
    fn foresee(&self, situation: &Situation, seed: u64) -> Result<Forecast, String> {
        let world = world(situation)?;
        let planner = Fixed(situation.plan.clone());
        let (name, params) = &situation.policy;
        let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
        let mut nodes: BTreeMap<String, Summary> = BTreeMap::new();
        for number in 0..RUNS {
            let mut policy = by_name(name, params).map_err(|why| why.to_string())?;
            policy.restore(&situation.learnt);
            let report = run(
                &world,
                policy,
                &planner,
                Seed(seed).child("foresight", number),
            );
            let seconds = report.seconds.max(1e-9);
            for (model, seen) in &report.models {
                let sums = sums.entry(model.to_string()).or_default();
                #[expect(clippy::cast_precision_loss, reason = "requests of one run")]
                let (arrived, answered) = (seen.arrived as f64, seen.answered as f64);
                sums.offered.add(arrived / seconds);
                sums.answers.add(answered / seconds);
                sums.loss.add(seen.loss());
                sums.held.add(1.0 - seen.violations());
                if seen.answered > 0 {
                    sums.response.add(seen.response.mean());
                    sums.p95.add(seen.times.seconds(0.95));
                    sums.accuracy.add(seen.accuracy.mean());
                }
                sums.answered += seen.answered;
                for (arm, told) in &seen.arms {
                    *sums.arms.entry(arm.clone()).or_default() += told.answered;
                }
            }
            for node in &report.nodes {
                let busy = nodes.entry(node.node.to_string()).or_default();
                busy.add(node.utilisation);
            }
        }
        let model = |(model, sums): (String, Sums)| {
            #[expect(clippy::cast_precision_loss, reason = "answers of some runs")]
            let share = |count: u64| count as f64 / sums.answered.max(1) as f64;
            let forecast = ModelForecast {
                offered_per_second: sums.offered.mean(),
                answers_per_second: figure(&sums.answers),
                response_seconds: figure(&sums.response),
                p95_seconds: figure(&sums.p95),
                loss: figure(&sums.loss),
                held: figure(&sums.held),
                accuracy: figure(&sums.accuracy),
                arms: sums
                    .arms
                    .into_iter()
                    .map(|(arm, count)| (arm, share(count)))
                    .collect(),
            };
            (model, forecast)
        };
        Ok(Forecast {
            models: sums.into_iter().map(model).collect(),
            nodes: nodes
                .into_iter()
                .map(|(node, busy)| (node, busy.mean()))
                .collect(),
            runs: RUNS,
        })
    }
}
