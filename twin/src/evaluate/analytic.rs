//! By formulas: every node an M/G/1/K station, what leaves one is Poisson again, thinned by what was
//! lost.
//!
//! Exact for one node with one core; an upper estimate of the loss behind others, because departures are
//! smoother than Poisson; a lower one of the response of a fan-out, whose slowest branch is taken at its
//! mean. Admission, retries and partial answers are not in it. Screening is what it is for.

use std::collections::BTreeMap;

use splitplace_fleet::{NodeId, Place};
use splitplace_plan::{ArmKind, ArmPlan, Hop, Plan, Route};
use splitplace_queueing::{MAX_CAPACITY, Service, exact, qna};

use super::{Evaluation, Evaluator};
use crate::{
    Seed,
    stats::Estimate,
    world::{Load, Worker, World},
};

/// Thinned exact M/G/1/K, to a fixed point.
#[derive(Clone, Copy, Debug, Default)]
pub struct Analytic {
    /// The kind of arm that takes all requests, as the fixed policies do: the fastest of it, else the
    /// fastest of all. With none, every arm of a model takes as many.
    pub kind: Option<ArmKind>,
}

/// Iterations at most.
const ITERATIONS: u64 = 200;

/// The requests of one model that one arm takes.
pub(super) struct Flow<'a> {
    pub(super) load: &'a Load,
    pub(super) arm: &'a ArmPlan,
    /// Of them, a second.
    pub(super) rate: f64,
}

#[derive(Clone, Copy, Default)]
struct Station {
    loss: f64,
    wait: f64,
    busy: f64,
}

/// Who takes what comes. `kind` is [`Analytic::kind`].
pub(super) fn flows<'a>(world: &'a World, plan: &'a Plan, kind: Option<ArmKind>) -> Vec<Flow<'a>> {
    let mut flows = Vec::new();
    for load in &world.loads {
        let Some(model) = plan
            .models
            .get(&load.model)
            .filter(|model| !model.arms.is_empty())
        else {
            continue;
        };
        let rate = load.arrivals.rate();
        let fastest = |kind: Option<ArmKind>| {
            let arms = model.arms.iter();
            arms.filter(|arm| kind.is_none_or(|kind| arm.kind == kind))
                .min_by_key(|arm| arm.predicted)
        };
        match kind {
            Some(kind) => {
                let arm = fastest(Some(kind)).or_else(|| fastest(None));
                flows.extend(arm.map(|arm| Flow { load, arm, rate }));
            }
            None => {
                let rate = rate / model.arms.len() as f64;
                flows.extend(model.arms.iter().map(|arm| Flow { load, arm, rate }));
            }
        }
    }
    flows
}

/// Work for one node: rate, seconds, and the queue's bound for each fragment.
#[derive(Default)]
struct Work {
    parts: Vec<(f64, f64)>,
    fragments: std::collections::BTreeSet<splitplace_plan::FragmentId>,
}

/// Samples that a worker of so many fragments holds, waiting and in service.
pub(super) fn capacity(worker: &Worker, fragments: usize) -> usize {
    fragments.max(1) * worker.queue_limit as usize + worker.node.cores.max(1) as usize
}

impl Work {
    fn station(&self, worker: &Worker) -> Station {
        let cores = f64::from(worker.node.cores.max(1));
        let rate: f64 = self.parts.iter().map(|(rate, _)| rate).sum();
        let capacity = capacity(worker, self.fragments.len()).min(MAX_CAPACITY);
        let scv = worker.service.scv();
        let parts: Result<Vec<_>, splitplace_queueing::Error> = self
            .parts
            .iter()
            .map(|(rate, seconds)| Ok((*rate, Service::gamma(seconds / cores, scv)?)))
            .collect();
        let solved = parts.and_then(|parts| {
            let service = Service::mix(&parts)?;
            Ok((exact::solve(rate, &service, capacity)?, service.mean()))
        });
        match solved {
            Ok((station, mean)) => Station {
                loss: station.loss,
                wait: (station.response - mean).max(0.0),
                busy: station.rho * (1.0 - station.loss),
            },
            // Nothing comes, or numbers beyond sense: an idle station, or a lost cause.
            Err(_) if rate > 0.0 => Station {
                loss: 1.0,
                wait: 0.0,
                busy: 1.0,
            },
            Err(_) => Station::default(),
        }
    }
}

impl Evaluator for Analytic {
    fn name(&self) -> &'static str {
        "analytic"
    }

    /// Costs O(iterations · (hops + nodes · K²)); some iterations.
    fn evaluate(&self, world: &World, plan: &Plan, _: Seed) -> Evaluation {
        let flows = flows(world, plan, self.kind);
        let workers: BTreeMap<&NodeId, &Worker> = world
            .workers
            .iter()
            .map(|worker| (&worker.node.id, worker))
            .collect();
        let mut stations: BTreeMap<&NodeId, Station> = BTreeMap::new();
        let mut spent = 0;
        loop {
            spent += 1;
            let mut works: BTreeMap<&NodeId, Work> = BTreeMap::new();
            for flow in &flows {
                for route in &flow.arm.branches {
                    let mut rate = flow.rate;
                    for hop in &route.hops {
                        if let Some(worker) = workers.get(&hop.node) {
                            let work = works.entry(&hop.node).or_default();
                            work.parts
                                .push((rate * hop.reach, seconds(hop, flow.load, worker)));
                            work.fragments.insert(hop.fragment);
                        }
                        rate *= 1.0 - stations.get(&hop.node).map_or(0.0, |one| one.loss);
                    }
                }
            }
            let mut change = 0.0_f64;
            for (node, work) in &works {
                let Some(worker) = workers.get(*node) else {
                    continue;
                };
                let now = work.station(worker);
                let before = stations.insert(node, now).unwrap_or_default();
                change = change
                    .max((now.loss - before.loss).abs())
                    .max((now.wait - before.wait).abs());
            }
            if change < 1e-9 || ITERATIONS <= spent {
                break;
            }
        }
        let judged = flows.iter().map(|flow| {
            let mut kept = 1.0;
            let mut slowest = 0.0_f64;
            for route in &flow.arm.branches {
                for hop in &route.hops {
                    kept *= 1.0 - stations.get(&hop.node).map_or(0.0, |station| station.loss);
                }
                let wait = |node: &NodeId| stations.get(node).map_or(0.0, |station| station.wait);
                slowest = slowest.max(along(world, flow, route, &workers, &wait));
            }
            (kept, slowest)
        });
        let judged: Vec<_> = judged.collect();
        let busy = |node: &NodeId| stations.get(node).map_or(0.0, |station| station.busy);
        summarise(world, &flows, &judged, &busy, spent)
    }
}

/// Seconds that one request of a load takes of a worker.
pub(super) fn seconds(hop: &Hop, load: &Load, worker: &Worker) -> f64 {
    (hop.service + hop.coding).as_secs_f64() * f64::from(load.samples) * worker.service.mean()
}

/// What is known of each flow, the share answered and the seconds to its answer, as an evaluation of unknown error;
/// `busy` is the share of a node's cores that work.
pub(super) fn summarise(
    world: &World,
    flows: &[Flow<'_>],
    judged: &[(f64, f64)],
    busy: &dyn Fn(&NodeId) -> f64,
    spent: u64,
) -> Evaluation {
    let (mut answered, mut latency, mut accuracy) = (0.0, 0.0, 0.0);
    for (flow, (kept, seconds)) in flows.iter().zip(judged) {
        let rate = flow.rate * kept;
        answered += rate;
        latency += rate * seconds;
        let known = flow.arm.accuracy.unwrap_or(world.settings.accuracy_unknown);
        accuracy += rate * known;
    }
    let offered: f64 = world.loads.iter().map(|load| load.arrivals.rate()).sum();
    let watts = world.workers.iter().map(|worker| {
        let busy = busy(&worker.node.id);
        let ends = worker.watts.first().zip(worker.watts.last());
        ends.map_or(0.0, |(idle, full)| idle + busy.min(1.0) * (full - idle))
    });
    let unsure = |mean: f64| Estimate {
        mean,
        half_width: f64::INFINITY,
        confidence: 0.95,
        count: 0,
    };
    Evaluation {
        latency: unsure(latency / answered.max(f64::MIN_POSITIVE)),
        throughput: unsure(answered),
        loss: unsure(if offered > 0.0 {
            1.0 - answered / offered
        } else {
            0.0
        }),
        violations: None,
        accuracy: unsure(accuracy / answered.max(f64::MIN_POSITIVE)),
        watts: unsure(watts.sum()),
        spent,
    }
}

/// Mean seconds along a route: services, waits on nodes, transfers and the wait for each link.
pub(super) fn along(
    world: &World,
    flow: &Flow<'_>,
    route: &Route,
    workers: &BTreeMap<&NodeId, &Worker>,
    wait: &dyn Fn(&NodeId) -> f64,
) -> f64 {
    let mut from = Place::Center;
    let mut total = 0.0;
    let hops = route
        .hops
        .iter()
        .map(|hop| (Place::from(&hop.node), hop.bytes_in, Some(hop)));
    let ends = hops.chain([(Place::Center, route.bytes_out, None)]);
    for (to, bytes, hop) in ends {
        if from != to {
            let link = world.links.get(&from, &to);
            let sending = bytes as f64 * f64::from(flow.load.samples) / link.rate_bytes_per_second;
            let wait = qna::wait(flow.rate * sending, sending, 1.0, 0.0);
            let reach = hop.map_or(1.0, |hop| hop.reach);
            total += reach * (link.delay.as_secs_f64() + sending + wait);
        }
        if let Some(hop) = hop
            && let Some(worker) = workers.get(&hop.node)
        {
            let own = seconds(hop, flow.load, worker) + 2.0 * worker.overhead.as_secs_f64();
            total += hop.reach * (own + wait(&hop.node));
        }
        from = to;
    }
    total
}
