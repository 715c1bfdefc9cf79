//! By ChainNet: a plan as chains of fragments over devices, read by the graph network.
//!
//! Its law is narrower than the world: one server a device, constant services, Poisson arrivals, no links. So a node's
//! cores are one server that is as many times as fast, what links take is added by formulas, requests that leave at an
//! exit count as that share of a service, and a fan-out's branches are chains of their own, all of which must arrive.
//! Systems beyond the law that it learnt by (three chains of six fragments on ten devices, 50 places a device) are
//! judged for what they are, by a network that has not seen such. Admission and retries are not in it.

use std::collections::{BTreeMap, BTreeSet};

use splitplace_fleet::NodeId;
use splitplace_plan::{FragmentId, Hop, Plan};

use super::{
    Evaluation, Evaluator,
    analytic::{Flow, along, capacity, flows, seconds, summarise},
};
use crate::{
    Seed,
    chainnet::{ChainNet, ChainSpec, Kind, Ratios, System},
    world::{Worker, World},
};

/// Flows as a system: a chain for each route, in order, on the devices that any of them uses; and which nodes these are.
fn system<'a>(
    flows: &[Flow<'a>],
    workers: &BTreeMap<&NodeId, &Worker>,
) -> (Vec<&'a NodeId>, System) {
    let routes = flows.iter().flat_map(|flow| &flow.arm.branches);
    let mut held: BTreeMap<&NodeId, BTreeSet<FragmentId>> = BTreeMap::new();
    for hop in routes.flat_map(|route| &route.hops) {
        held.entry(&hop.node).or_default().insert(hop.fragment);
    }
    let mut chains = Vec::new();
    for flow in flows {
        for route in &flow.arm.branches {
            let (mut path, mut services) = (Vec::new(), Vec::<f64>::new());
            for hop in &route.hops {
                let (Some(worker), Some(device)) = (
                    workers.get(&hop.node),
                    held.keys().position(|node| **node == hop.node),
                ) else {
                    continue;
                };
                let cores = f64::from(worker.node.cores.max(1));
                let service = hop.reach * seconds(hop, flow.load, worker) / cores;
                match services.last_mut() {
                    // Pieces that lie together are one.
                    Some(last) if path.last() == Some(&device) => *last += service,
                    _ => {
                        path.push(device);
                        services.push(service);
                    }
                }
            }
            chains.push(ChainSpec {
                interarrival: 1.0 / flow.rate,
                path,
                services,
                latency_ratio: 1.0,
                throughput_ratio: 1.0,
            });
        }
    }
    let capacities = held.iter();
    let system = System {
        capacities: capacities
            .map(|(node, fragments)| capacity(workers[*node], fragments.len()))
            .collect(),
        chains,
    };
    (held.into_keys().collect(), system)
}

impl Evaluator for ChainNet {
    fn name(&self) -> &'static str {
        match self.shape().kind {
            Kind::Plain => "chainnet",
            Kind::Residual => "chainnet-residual",
        }
    }

    /// Every arm of a model takes as many requests. One pass of the network: some 0.1 ms. Its error outside its own law
    /// is not known, and its intervals say so.
    fn evaluate(&self, world: &World, plan: &Plan, _: Seed) -> Evaluation {
        let workers: BTreeMap<&NodeId, &Worker> = world
            .workers
            .iter()
            .map(|worker| (&worker.node.id, worker))
            .collect();
        let mut flows = flows(world, plan, None);
        // An arm on a node that there is not answers nothing, as if it were not there.
        flows.retain(|flow| {
            let mut routes = flow.arm.branches.iter();
            let is_there = |hop: &Hop| workers.contains_key(&hop.node);
            flow.rate > 0.0
                && !flow.arm.branches.is_empty()
                && routes.all(|route| !route.hops.is_empty() && route.hops.iter().all(is_there))
        });
        let (nodes, system) = system(&flows, &workers);
        let said = if flows.is_empty() {
            Vec::new()
        } else {
            self.predict(&[&system]).remove(0)
        };
        let mut chains = system.chains.iter().zip(&said);
        let judged = flows.iter().map(|flow| {
            let mut kept = 1.0;
            let mut slowest = 0.0_f64;
            for (route, (chain, ratios)) in flow.arm.branches.iter().zip(&mut chains) {
                let Ratios {
                    latency,
                    throughput,
                } = ratios;
                let work: f64 = chain.services.iter().sum();
                let waits = work / latency.max(f64::MIN_POSITIVE) - work;
                kept *= throughput;
                slowest = slowest.max(along(world, flow, route, &workers, &|_| 0.0) + waits);
            }
            (kept, slowest)
        });
        let judged: Vec<_> = judged.collect();
        let mut busy = vec![0.0; nodes.len()];
        for chain in &system.chains {
            for (device, service) in chain.path.iter().zip(&chain.services) {
                busy[*device] += service / chain.interarrival;
            }
        }
        let busy = |node: &NodeId| {
            let at = nodes.iter().position(|one| *one == node);
            at.map_or(0.0, |at| busy[at])
        };
        summarise(world, &flows, &judged, &busy, 1)
    }
}
