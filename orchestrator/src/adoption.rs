//! Carrying out a plan: every node loads what is new to it before anything is sent there.
//!
//! [`assignments`] says what each node has to hold, as values; [`adopt`] tells them and waits. Switching
//! routes and retiring the generation before is the caller's: make before break.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use splitplace_fleet::{Links, NodeId, Place};
use splitplace_plan::{ArmPlan, FragmentId, Generation, Hop, ModelName, Plan, Route, RouteId};
use splitplace_proto::control::{
    Assignment, ExitSpec, FragmentSpec, FragmentStatus, HopSpec, LinkShape, Peer, RouteSpec,
};

use crate::sessions::Sessions;

/// In fleets of up to so many nodes every node keeps a stream to every other one, so that links are measured before
/// they are used.
pub const MESHED: usize = 8;

/// What an assignment says of a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentFacts {
    /// For people.
    pub label: String,
    /// Size of its ONNX file.
    pub size_bytes: u64,
}

/// What workers have to know of a model's interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// The output that an exit answers in the place of.
    pub answer: String,
    /// How encoded pictures become its input, as in the manifest; empty if it takes none.
    pub preprocess: String,
}

/// Why a plan could not be carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("node {node} cannot take generation {generation}: {reason}")]
pub struct AdoptError {
    /// Which node.
    pub node: NodeId,
    /// The plan.
    pub generation: u64,
    /// What it said, or that it was lost.
    pub reason: String,
    /// Whether it said so itself: trying the same again would end the same way.
    pub is_refusal: bool,
    /// What it, and nodes before it, measured nevertheless.
    pub measured: BTreeMap<NodeId, Vec<FragmentStatus>>,
}

/// The assignment of every node that has a part in the plan.
///
/// `emulated` says how links are slowed; `None` leaves them as they are. `queue_limit` says how many requests may wait
/// for a fragment of an arm. `in_force` is what requests are routed by while the plan is loaded: what nodes hold of
/// plans in between, which some node could not take, they let go of first.
#[must_use]
pub fn assignments(
    plan: &Plan,
    in_force: Generation,
    fragments: &BTreeMap<FragmentId, FragmentFacts>,
    interfaces: &BTreeMap<ModelName, Interface>,
    addresses: &BTreeMap<NodeId, String>,
    emulated: Option<&Links>,
    queue_limit: &dyn Fn(&ModelName, &ArmPlan) -> u32,
) -> BTreeMap<NodeId, Assignment> {
    let limits = limits(plan, queue_limit);
    let models: BTreeMap<RouteId, &Interface> = plan
        .models
        .iter()
        .filter_map(|(name, model)| Some((model, interfaces.get(name)?)))
        .flat_map(|(model, interface)| model.arms.iter().map(move |arm| (arm, interface)))
        .flat_map(|(arm, interface)| arm.branches.iter().map(move |route| (route.id, interface)))
        .collect();
    let mut nodes: BTreeSet<&NodeId> = BTreeSet::new();
    for route in plan.routes() {
        nodes.extend(route.hops.iter().map(|hop| &hop.node));
    }
    nodes
        .into_iter()
        .map(|node| {
            let mine = plan
                .routes()
                .filter(|route| route.hops.iter().any(|h| h.node == *node));
            let mut peers: BTreeSet<&NodeId> = BTreeSet::new();
            let mut routes = Vec::new();
            for route in mine {
                for pair in route.hops.windows(2) {
                    if pair[0].node == *node {
                        peers.insert(&pair[1].node);
                    }
                }
                routes.push(RouteSpec {
                    route: route.id.0,
                    hops: hops(route, models.get(&route.id)),
                });
            }
            if addresses.len() <= MESHED {
                peers.extend(addresses.keys().filter(|peer| *peer != node));
            }
            let from = Place::from(node);
            let shape = |to: Place| emulated.map(|links| shape(links, &from, &to));
            let center = Peer {
                node: String::new(),
                data_address: String::new(),
                shape: shape(Place::Center),
            };
            let others = peers.into_iter().map(|peer| Peer {
                node: peer.to_string(),
                data_address: addresses.get(peer).cloned().unwrap_or_default(),
                shape: shape(Place::from(peer)),
            });
            let specs = plan.fragments_on(node).into_iter().map(|id| {
                let facts = fragments.get(&id);
                FragmentSpec {
                    id: id.0.to_vec().into(),
                    label: facts.map_or_else(|| id.to_string(), |facts| facts.label.clone()),
                    size_bytes: facts.map_or(0, |facts| facts.size_bytes),
                    queue_limit: limits.get(&id).copied().unwrap_or(1),
                    threads: 1,
                }
            });
            let assignment = Assignment {
                generation: plan.generation.0,
                fragments: specs.collect(),
                routes,
                peers: std::iter::once(center).chain(others).collect(),
                in_force: in_force.0,
            };
            (node.clone(), assignment)
        })
        .collect()
}

/// By fragment: requests that may wait for it, the most that one of its arms allows.
fn limits(plan: &Plan, of: &dyn Fn(&ModelName, &ArmPlan) -> u32) -> BTreeMap<FragmentId, u32> {
    let mut limits: BTreeMap<FragmentId, u32> = BTreeMap::new();
    for (name, model) in &plan.models {
        for arm in &model.arms {
            let limit = of(name, arm);
            for hop in arm.branches.iter().flat_map(|route| &route.hops) {
                let most = limits.entry(hop.fragment).or_insert(limit);
                *most = limit.max(*most);
            }
        }
    }
    limits
}

/// A route's hops as the workers are told.
fn hops(route: &Route, interface: Option<&&Interface>) -> Vec<HopSpec> {
    let spec = |(place, hop): (usize, &Hop)| {
        let exits = hop.exits.iter().map(|exit| ExitSpec {
            number: exit.number,
            output: exit.output.clone(),
            answer: interface.map_or_else(String::new, |it| it.answer.clone()),
            threshold: exit.threshold,
        });
        let first = interface.filter(|_| place == 0);
        HopSpec {
            node: hop.node.to_string(),
            fragment: hop.fragment.0.to_vec().into(),
            forward: hop.forward.clone(),
            codec: hop.codec.id().into(),
            exits: exits.collect(),
            preprocess: first.map_or_else(String::new, |it| it.preprocess.clone()),
        }
    };
    route.hops.iter().enumerate().map(spec).collect()
}

/// How one link is slowed, for whoever sends over it.
#[must_use]
pub fn shape(links: &Links, from: &Place, to: &Place) -> LinkShape {
    let link = links.get(from, to);
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    LinkShape {
        rate_bytes_per_second: if link.rate_bytes_per_second.is_finite() {
            link.rate_bytes_per_second
        } else {
            0.0
        },
        delay_us: micros(link.delay),
        jitter_us: micros(link.jitter),
    }
}

/// Has every node load its part, and waits until all have. What was measured comes back.
///
/// # Errors
/// The first node that refuses, is lost or takes longer than `timeout`. Nodes that have loaded keep
/// what they loaded until a later generation is retired.
pub async fn adopt(
    sessions: &Sessions,
    assignments: BTreeMap<NodeId, Assignment>,
    timeout: Duration,
) -> Result<BTreeMap<NodeId, Vec<FragmentStatus>>, AdoptError> {
    let until = tokio::time::Instant::now() + timeout;
    let mut waiting = Vec::new();
    for (node, assignment) in assignments {
        let generation = assignment.generation;
        match sessions.assign(&node, assignment) {
            Ok(answer) => waiting.push((node, generation, answer)),
            Err(gone) => {
                return Err(AdoptError {
                    node,
                    generation,
                    reason: gone.to_string(),
                    is_refusal: false,
                    measured: BTreeMap::new(),
                });
            }
        }
    }
    let mut loaded = BTreeMap::new();
    let mut first = None;
    // All are heard, also after a failure: what they measured makes the next plan a better one.
    for (node, generation, answer) in waiting {
        let (reason, is_refusal) = match tokio::time::timeout_at(until, answer).await {
            Ok(Ok(Ok(statuses))) => {
                loaded.insert(node, statuses);
                continue;
            }
            Ok(Ok(Err(refused))) => {
                loaded.insert(node.clone(), refused.measured);
                (refused.reason, true)
            }
            Ok(Err(_)) => ("it was lost while it was loading".into(), false),
            Err(_) => (format!("it did not load within {timeout:?}"), false),
        };
        first.get_or_insert((node, generation, reason, is_refusal));
    }
    match first {
        None => Ok(loaded),
        Some((node, generation, reason, is_refusal)) => Err(AdoptError {
            node,
            generation,
            reason,
            is_refusal,
            measured: loaded,
        }),
    }
}
