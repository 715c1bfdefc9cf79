//! What the digital twin is told: the system as it shows itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use splitplace_brain::Report;
use splitplace_fleet::{Node, NodeId, Place, Snapshot};
use splitplace_plan::{ArmPlan, ArmProblem, Bounds, ChainProblem, Hop, Plan, Route};
use splitplace_proto::center::{
    ExitStatus, SnapshotArm, SnapshotBounds, SnapshotCandidate, SnapshotChain, SnapshotCrossing,
    SnapshotCuts, SnapshotDemand, SnapshotHop, SnapshotLink, SnapshotModel, SnapshotNode,
    SnapshotNodes, SnapshotPromise, SnapshotResponse, SnapshotRoute, SnapshotSegment, SnapshotWay,
};

use super::{Inner, control::Basis, roll_out, served::Served};
use crate::{
    face::Answer,
    measured::{Measured, Transfers},
    planning::{Candidate, PlanningInput, PlanningSettings, candidates},
};

/// Looks at everything; `None` while the centre is going down.
pub(super) async fn look(inner: &Arc<Inner>) -> Option<SnapshotResponse> {
    let mut look = inner.basis().await.ok()?;
    let inner = Arc::clone(inner);
    // Estimating every segment on every node takes milliseconds.
    let work = move || {
        look.start.learn();
        assemble(&inner, &look)
    };
    tokio::task::spawn_blocking(work).await.ok()
}

fn assemble(inner: &Inner, look: &Basis) -> SnapshotResponse {
    let served: Vec<Arc<Served>> = inner.models.read().values().cloned().collect();
    let (wishes, settings) = (
        roll_out::wishes(inner, &look.start),
        roll_out::settings(inner),
    );
    let found = candidates(&PlanningInput {
        parent: &look.start.parent,
        generation: look.start.parent.generation.next(),
        snapshot: &look.start.snapshot,
        wishes: &wishes,
        measured: &look.start.measured,
        strategy: inner.strategy.as_ref(),
        settings,
        seed: inner.seed,
    });
    let nodes: Vec<&Node> = look.start.snapshot.alive().collect();
    let models = served
        .iter()
        .map(|served| model(inner, look, served, &found, &nodes));
    let (policy, state) = {
        let flow = inner.flow.lock();
        (flow.brain.policy().name(), flow.brain.policy().state())
    };
    let admission = &inner.config.admission;
    let PlanningSettings {
        spread, inertia, ..
    } = settings;
    SnapshotResponse {
        generation: look.start.parent.generation.0,
        policy: policy.to_owned(),
        policy_params: inner.config.policy.params.clone().into_iter().collect(),
        policy_state: state.into_iter().collect(),
        max_in_flight: admission.max_in_flight as u64,
        max_attempts: admission.max_attempts,
        refuse_hopeless: admission.refuse_hopeless,
        queue_limit: inner.config.workers.queue_limit,
        spread,
        inertia,
        strategy: inner.config.planning.strategy.clone(),
        nodes: nodes.iter().map(|node| told(node, look)).collect(),
        links: links(&look.start.snapshot, &nodes, &inner.transfers.lock()),
        models: models.collect(),
    }
}

fn told(node: &Node, look: &Basis) -> SnapshotNode {
    SnapshotNode {
        node: node.id.to_string(),
        cores: node.cores,
        macs_per_second: node.macs_per_second,
        memory_bytes: node.memory_bytes,
        emulated: node.emulated,
        crowding: look.start.measured.crowding(&node.id),
        service_scv: scv(&look.start.parent, &look.start.measured, &node.id),
    }
}

/// Squared coefficient of variation over the fragments that a plan runs on a node, each as likely.
fn scv(plan: &Plan, measured: &Measured, node: &NodeId) -> f64 {
    let fragments = plan.fragments_on(node);
    let known = fragments
        .iter()
        .filter_map(|id| measured.service(*id, node));
    let (mut sum, mut count) = (0.0, 0.0);
    for (mean, variance) in known.filter(|(mean, _)| *mean > 0.0) {
        sum += variance / (mean * mean);
        count += 1.0;
    }
    if count > 0.0 { sum / count } else { 0.0 }
}

fn links(snapshot: &Snapshot, nodes: &[&Node], transfers: &Transfers) -> Vec<SnapshotLink> {
    let mut places: Vec<Place> = nodes.iter().map(|node| Place::from(&node.id)).collect();
    places.push(Place::Center);
    let name = |place: &Place| match place {
        Place::Center => String::new(),
        Place::Node(node) => node.to_string(),
    };
    let mut links = Vec::with_capacity(places.len() * places.len());
    for from in &places {
        for to in places.iter().filter(|to| *to != from) {
            let link = transfers.link(from, to, snapshot.links.get(from, to));
            links.push(SnapshotLink {
                from: name(from),
                to: name(to),
                bytes_per_second: link.rate_bytes_per_second,
                delay_ns: nanos(link.delay),
                jitter_ns: nanos(link.jitter),
            });
        }
    }
    links
}

fn model(
    inner: &Inner,
    look: &Basis,
    served: &Served,
    found: &[Candidate],
    nodes: &[&Node],
) -> SnapshotModel {
    let planned = look.start.parent.models.get(&served.name);
    let arms = planned.map_or(&[][..], |model| &model.arms);
    let own = found.iter().filter(|one| one.model == served.name);
    let seen = served.demand.lock().seen(inner.clock.now());
    SnapshotModel {
        model: served.name.to_string(),
        arms: arms
            .iter()
            .map(|arm| in_force(inner, arm, &look.start.measured))
            .collect(),
        candidates: own.map(|one| candidate(one, nodes)).collect(),
        demand: seen.map(|seen| SnapshotDemand {
            requests_per_second: seen.rate,
            gaps_scv: seen.gaps_scv,
            samples: seen.samples,
            patience_ns: nanos(seen.patience),
            promises: seen
                .promises
                .iter()
                .map(|(sla, share)| SnapshotPromise {
                    sla_ns: nanos(*sla),
                    share: *share,
                })
                .collect(),
            ended: seen.ended,
            loss: seen.loss,
            violations: seen.violations,
            response_seconds: seen.response,
        }),
    }
}

fn in_force(inner: &Inner, arm: &ArmPlan, measured: &Measured) -> SnapshotArm {
    let (codings, profiles) = (inner.codings.lock(), inner.profiles.lock());
    let hop = |hop: &Hop| {
        // Where cores get in each other's way the mean has that in it already: what a sample takes alone is told then.
        let is_crowded = measured.crowding(&hop.node) > 1.0;
        let alone = profiles
            .alone(&hop.node, hop.fragment)
            .filter(|_| is_crowded);
        let ran = measured.service(hop.fragment, &hop.node);
        let ran = alone.or(ran.map(|(mean, _)| mean));
        let ran = ran.and_then(|mean| Duration::try_from_secs_f64(mean).ok());
        SnapshotHop {
            node: hop.node.to_string(),
            fragment: hop.fragment.0.to_vec().into(),
            first_segment: small(hop.segments.start),
            end_segment: small(hop.segments.end),
            memory_bytes: hop.memory_bytes,
            service_ns: nanos(ran.unwrap_or(hop.service)),
            coding_ns: nanos(codings.of(&hop.node, hop.fragment).unwrap_or(hop.coding)),
            bytes_in: hop.bytes_in,
            reach: hop.reach,
            codec: hop.codec.to_string(),
            exits: hop
                .exits
                .iter()
                .map(|exit| ExitStatus {
                    exit: exit.name.clone(),
                    threshold: f64::from(exit.threshold),
                })
                .collect(),
        }
    };
    let route = |route: &Route| SnapshotRoute {
        hops: route.hops.iter().map(hop).collect(),
        bytes_out: route.bytes_out,
    };
    SnapshotArm {
        arm: arm.name.clone(),
        variant: arm.variant.clone(),
        kind: arm.kind.label().to_owned(),
        accuracy: arm.accuracy,
        predicted_ns: nanos(arm.predicted),
        branches: arm.branches.iter().map(route).collect(),
    }
}

/// `nodes` are those that the candidate's places are numbers of.
fn candidate(candidate: &Candidate, nodes: &[&Node]) -> SnapshotCandidate {
    let ArmProblem {
        name,
        kind,
        parts,
        chains,
        arrival_rate,
        arrival_scv,
        bounds: own,
        model: _,
    } = &candidate.problem;
    SnapshotCandidate {
        arm: name.clone(),
        variant: candidate.variant.clone(),
        kind: kind.label().to_owned(),
        accuracy: candidate.accuracy,
        fewest_parts: small(parts.0),
        most_parts: small(parts.1),
        arrival_rate: *arrival_rate,
        arrival_scv: Some(*arrival_scv),
        chains: chains.iter().map(chain).collect(),
        bounds: Some(bounds(own, nodes)),
    }
}

fn bounds(bounds: &Bounds, nodes: &[&Node]) -> SnapshotBounds {
    let name = |at: &usize| nodes.get(*at).map(|node| node.id.to_string());
    let Bounds {
        nodes: allowed,
        pins,
        cuts,
        apart,
        priority,
        loss,
    } = bounds;
    let pins = pins.iter();
    SnapshotBounds {
        nodes: allowed.as_ref().map(|allowed| SnapshotNodes {
            nodes: allowed.iter().filter_map(name).collect(),
        }),
        pins: pins
            .filter_map(|(number, node)| Some((small(*number), name(node)?)))
            .collect(),
        cuts: cuts.as_ref().map(|cuts| SnapshotCuts {
            segments: cuts.iter().map(|at| small(*at)).collect(),
        }),
        apart: *apart,
        priority: *priority,
        loss: *loss,
    }
}

fn chain(chain: &ChainProblem) -> SnapshotChain {
    let segments = chain.segments.iter().map(|segment| SnapshotSegment {
        weight_bytes: segment.weight_bytes,
        activation_bytes: segment.activation_bytes,
        seconds: segment.service.clone(),
    });
    let crossings = chain.boundaries.iter().map(|crossing| SnapshotCrossing {
        reach: crossing.reach,
        ways: crossing
            .ways
            .iter()
            .map(|way| SnapshotWay {
                codec: way.codec.to_string(),
                bytes: way.bytes,
                encode: way.encode,
                decode: way.decode,
            })
            .collect(),
    });
    SnapshotChain {
        segments: segments.collect(),
        crossings: crossings.collect(),
    }
}

/// Takes in what the links took on the way of one answer. What no hop accounts for, scheduling at the
/// centre, counts with the way back of the slowest branch. `sent` is what the client's tensors took, as they came.
pub(super) fn learn(inner: &Inner, report: &Report, answer: &Answer, samples: u32, sent: usize) {
    let Some(decision) = &report.decision else {
        return;
    };
    if answer.attempts != 1 {
        return;
    }
    let mut spent: BTreeMap<u32, Duration> = BTreeMap::new();
    for hop in &answer.hops {
        *spent.entry(hop.branch).or_default() +=
            hop.transfer + hop.queue + hop.compute + hop.encode + hop.outbox;
    }
    let slowest = spent.iter().max_by_key(|(_, time)| **time);
    let Some((&slowest, &longest)) = slowest else {
        return;
    };
    let rest = report.response.saturating_sub(longest);
    let now = inner.clock.now();
    let mut roads = inner.roads.lock();
    let mut transfers = inner.transfers.lock();
    let mut codings = inner.codings.lock();
    for hop in &answer.hops {
        let Some(route) = decision.arm.branches.get(hop.branch as usize) else {
            continue;
        };
        let at = hop.hop as usize;
        let here = route.hops.get(at).filter(|_| !hop.node.is_empty());
        if let Some(here) = here {
            let seconds = (hop.decode + hop.encode).as_secs_f64() / f64::from(samples.max(1));
            codings.observe(here.node.clone(), here.fragment, seconds);
        }
        let from = match at.checked_sub(1).map(|before| route.hops.get(before)) {
            None => Place::Center,
            Some(Some(before)) => Place::from(&before.node),
            Some(None) => continue,
        };
        let is_back = hop.node.is_empty();
        let (to, bytes) = match route.hops.get(at).filter(|_| !is_back) {
            Some(next) => (Place::from(&next.node), next.bytes_in),
            None => (Place::Center, route.bytes_out),
        };
        if from == to {
            continue;
        }
        let extra = if is_back && hop.branch == slowest {
            rest
        } else {
            Duration::ZERO
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "a tensor is far below 2^53 bytes"
        )]
        let bytes = if at == 0 && !is_back {
            sent as f64
        } else {
            bytes as f64 * f64::from(samples)
        };
        let carried = hop.transfer.as_secs_f64();
        if roads.observe(now, (&from, &to), bytes, carried) {
            transfers.forget(&from, &to);
        }
        let link = roads.link(&from, &to, 0.5);
        let seconds = (hop.transfer + extra).as_secs_f64();
        transfers.observe(from, to, &link, bytes, seconds);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
