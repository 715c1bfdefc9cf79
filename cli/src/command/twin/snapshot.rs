//! What the centre says of itself, as the twin wants it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use splitplace_fleet::{Link, Links, Node, NodeId, NodeState, Place};
use splitplace_plan::{
    ArmKind, ArmPlan, ArmProblem, Bounds, ChainProblem, Crossing, Exact, ExitRule, FragmentId,
    Generation, Hop, ModelName, ModelPlan, Plan, Route, RouteId, SegmentSpec, Way,
};
use splitplace_proto::center::{
    SnapshotArm, SnapshotBounds, SnapshotCandidate, SnapshotChain, SnapshotDemand, SnapshotHop,
    SnapshotModel, SnapshotNode, SnapshotResponse, SnapshotRoute,
};
use splitplace_twin::{
    Law,
    arrivals::Process,
    planner::{Offer, Offered, PlannerSettings},
    strategies,
    what_if::{Observed, Shown},
    world::{Control, Load, Settings, Worker},
};

/// Most nodes that a snapshot may have.
const NODES: usize = 10_000;
/// Gaps between requests that vary less than this count as constant.
const CONSTANT: f64 = 0.2;

/// The live system as the twin runs it. Arrivals are taken for Poisson, or for constant where their gaps
/// hardly vary.
pub(crate) fn observed(told: &SnapshotResponse) -> anyhow::Result<Observed> {
    anyhow::ensure!(
        told.nodes.len() <= NODES,
        "the server says that it has {} nodes; at most {NODES} can be simulated",
        told.nodes.len()
    );
    let mut settings = Settings::default();
    settings.limits.in_flight_max = usize::try_from(told.max_in_flight)?;
    settings.limits.attempts_max = told.max_attempts.max(1);
    settings.refuse_hopeless = told.refuse_hopeless;
    let mut plan = Plan {
        generation: Generation(told.generation),
        ..Plan::default()
    };
    let mut next = 0;
    for model in &told.models {
        let arms = model.arms.iter().map(|one| arm(one, &mut next));
        let arms = arms.collect::<anyhow::Result<_>>()?;
        let version = String::new();
        plan.models
            .insert(ModelName::new(&model.model), ModelPlan { version, arms });
    }
    let workers = told.nodes.iter().map(|node| worker(node, told.queue_limit));
    let planner_settings = PlannerSettings {
        spread: told.spread,
        ..PlannerSettings::default()
    };
    let with_demand = || {
        let models = told.models.iter();
        models.filter_map(|model| Some((ModelName::new(&model.model), model.demand.as_ref()?)))
    };
    Ok(Observed {
        workers: workers.collect::<anyhow::Result<_>>()?,
        links: links(told),
        plan,
        planner: Offered {
            nodes: told
                .nodes
                .iter()
                .map(|node| NodeId::new(&node.node))
                .collect(),
            offers: offers(&told.models, &told.nodes)?,
            strategy: strategies::by_name(&told.strategy)
                .map_or_else(|| Arc::new(Exact) as _, Arc::from),
            settings: planner_settings,
            inertia: told.inertia,
        },
        loads: with_demand()
            .map(|(name, demand)| load(name, demand))
            .collect(),
        shown: with_demand()
            .map(|(name, demand)| (name, shown(demand)))
            .collect(),
        settings,
        control: Control::default(),
        policy: (
            told.policy.clone(),
            told.policy_params.clone().into_iter().collect(),
            told.policy_state.clone().into_iter().collect(),
        ),
    })
}

fn worker(node: &SnapshotNode, queue_limit: u32) -> anyhow::Result<Worker> {
    let service = Law::gamma(1.0, node.service_scv)
        .with_context(|| format!("the service times of {} cannot be", node.node))?;
    Ok(Worker {
        queue_limit: queue_limit.max(1),
        service,
        // An orchestrator of before says nothing.
        crowding: node.crowding.max(1.0),
        ..Worker::new(Node {
            id: NodeId::new(&node.node),
            state: NodeState::Alive,
            cores: node.cores.max(1),
            macs_per_second: node.macs_per_second,
            memory_bytes: node.memory_bytes,
            labels: BTreeMap::new(),
            emulated: node.emulated,
        })
    })
}

fn links(told: &SnapshotResponse) -> Links {
    let place = |name: &str| match name {
        "" => Place::Center,
        node => Place::Node(NodeId::new(node)),
    };
    let mut links = Links::default();
    for link in &told.links {
        let is_rate = link.bytes_per_second > 0.0;
        let known = Link {
            rate_bytes_per_second: if is_rate {
                link.bytes_per_second
            } else {
                f64::INFINITY
            },
            delay: Duration::from_nanos(link.delay_ns),
            jitter: Duration::from_nanos(link.jitter_ns),
        };
        links.set(place(&link.from), place(&link.to), known);
    }
    links
}

fn load(model: ModelName, demand: &SnapshotDemand) -> Load {
    let rate = demand.requests_per_second;
    let promises = demand.promises.iter();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a mean of counts that fit"
    )]
    let samples = demand.samples.round().max(1.0) as u32;
    Load {
        model,
        arrivals: if demand.gaps_scv < CONSTANT {
            Process::Constant { rate }
        } else {
            Process::Poisson { rate }
        },
        slas: promises
            .map(|one| (Duration::from_nanos(one.sla_ns), one.share))
            .collect(),
        patience: Duration::from_nanos(demand.patience_ns),
        samples,
        feedback: 0.0,
    }
}

const fn shown(demand: &SnapshotDemand) -> Shown {
    Shown {
        response: demand.response_seconds,
        loss: demand.loss,
        violations: demand.violations,
        weight: demand.ended,
    }
}

fn kind(label: &str) -> anyhow::Result<ArmKind> {
    ArmKind::from_label(label)
        .ok_or_else(|| anyhow!("the server speaks of a way to run called {label:?}; is it newer?"))
}

fn arm(arm: &SnapshotArm, next: &mut u32) -> anyhow::Result<ArmPlan> {
    let mut branches = Vec::with_capacity(arm.branches.len());
    for branch in &arm.branches {
        branches.push(route(branch, RouteId(*next))?);
        *next += 1;
    }
    Ok(ArmPlan {
        name: arm.arm.clone(),
        variant: arm.variant.clone(),
        kind: kind(&arm.kind)?,
        accuracy: arm.accuracy,
        predicted: Duration::from_nanos(arm.predicted_ns),
        branches,
    })
}

fn route(route: &SnapshotRoute, id: RouteId) -> anyhow::Result<Route> {
    let hops = route.hops.iter().map(hop);
    Ok(Route {
        id,
        hops: hops.collect::<anyhow::Result<_>>()?,
        bytes_out: route.bytes_out,
    })
}

fn hop(hop: &SnapshotHop) -> anyhow::Result<Hop> {
    let id = FragmentId::from_slice(&hop.fragment)
        .context("the server names a fragment that is no SHA-256")?;
    let segments = hop.first_segment as usize..hop.end_segment as usize;
    let exits = (1..).zip(&hop.exits).map(|(number, exit)| {
        #[expect(clippy::cast_possible_truncation, reason = "it was one of 32 bits")]
        let threshold = exit.threshold as f32;
        ExitRule {
            number,
            name: exit.exit.clone(),
            output: exit.exit.clone(),
            threshold,
        }
    });
    Ok(Hop {
        memory_bytes: hop.memory_bytes,
        service: Duration::from_nanos(hop.service_ns),
        bytes_in: hop.bytes_in,
        reach: hop.reach,
        codec: hop.codec.parse()?,
        coding: Duration::from_nanos(hop.coding_ns),
        exits: exits.collect(),
        ..Hop::new(NodeId::new(&hop.node), id, segments)
    })
}

/// In the order in which places are sought: kind by kind over all models.
fn offers(models: &[SnapshotModel], nodes: &[SnapshotNode]) -> anyhow::Result<Vec<Offer>> {
    let mut offers = Vec::new();
    for kind in [
        ArmKind::Whole,
        ArmKind::Semantic,
        ArmKind::Chain,
        ArmKind::Exits,
        ArmKind::Compressed,
    ] {
        for model in models {
            let of_kind = |one: &&SnapshotCandidate| one.kind == kind.label();
            for one in model.candidates.iter().filter(of_kind) {
                let chains = one.chains.iter().map(|one| chain(one, nodes.len()));
                offers.push(Offer {
                    model: ModelName::new(&model.model),
                    variant: one.variant.clone(),
                    accuracy: one.accuracy,
                    problem: ArmProblem {
                        name: one.arm.clone(),
                        model: 0,
                        kind,
                        parts: (one.fewest_parts as usize, one.most_parts as usize),
                        chains: chains.collect::<anyhow::Result<_>>()?,
                        arrival_rate: one.arrival_rate,
                        arrival_scv: one.arrival_scv.unwrap_or(1.0),
                        bounds: one
                            .bounds
                            .as_ref()
                            .map_or_else(Bounds::default, |own| bounds(own, nodes)),
                    },
                });
            }
        }
    }
    Ok(offers)
}

/// Names as places in the list of nodes; those of nodes that are not in it bind nothing.
fn bounds(told: &SnapshotBounds, nodes: &[SnapshotNode]) -> Bounds {
    let find = |name: &String| nodes.iter().position(|node| node.node == *name);
    let pins = told.pins.iter();
    Bounds {
        nodes: told
            .nodes
            .as_ref()
            .map(|allowed| allowed.nodes.iter().filter_map(find).collect()),
        pins: pins
            .filter_map(|(number, node)| Some((*number as usize, find(node)?)))
            .collect(),
        cuts: told
            .cuts
            .as_ref()
            .map(|cuts| cuts.segments.iter().map(|at| *at as usize).collect()),
        apart: told.apart,
        priority: told.priority,
        loss: told.loss,
    }
}

fn chain(chain: &SnapshotChain, nodes: usize) -> anyhow::Result<ChainProblem> {
    let is_whole = chain.crossings.len() == chain.segments.len() + 1
        && chain.segments.iter().all(|one| one.seconds.len() == nodes)
        && chain.crossings.iter().all(|one| !one.ways.is_empty());
    anyhow::ensure!(is_whole, "the server's snapshot is not whole");
    let segments = chain.segments.iter().map(|segment| SegmentSpec {
        weight_bytes: segment.weight_bytes,
        activation_bytes: segment.activation_bytes,
        service: segment.seconds.clone(),
    });
    let mut boundaries = Vec::with_capacity(chain.crossings.len());
    for crossing in &chain.crossings {
        let mut ways = Vec::with_capacity(crossing.ways.len());
        for way in &crossing.ways {
            ways.push(Way {
                codec: way.codec.parse()?,
                bytes: way.bytes,
                encode: way.encode,
                decode: way.decode,
            });
        }
        let reach = crossing.reach;
        boundaries.push(Crossing { ways, reach });
    }
    Ok(ChainProblem {
        segments: segments.collect(),
        boundaries,
    })
}

#[cfg(test)]
mod tests {
    use splitplace_proto::center::{
        SnapshotCrossing, SnapshotCuts, SnapshotNodes, SnapshotSegment, SnapshotWay,
    };

    use super::*;

    fn nodes(names: &[&str]) -> Vec<SnapshotNode> {
        let node = |name: &&str| SnapshotNode {
            node: (*name).to_owned(),
            ..SnapshotNode::default()
        };
        names.iter().map(node).collect()
    }

    fn model(bounds: Option<SnapshotBounds>) -> SnapshotModel {
        let crossing = SnapshotCrossing {
            reach: 1.0,
            ways: vec![SnapshotWay {
                codec: "raw".into(),
                ..SnapshotWay::default()
            }],
        };
        SnapshotModel {
            model: "m".into(),
            candidates: vec![SnapshotCandidate {
                arm: "base/chain".into(),
                kind: "chain".into(),
                fewest_parts: 2,
                most_parts: 2,
                chains: vec![SnapshotChain {
                    segments: vec![
                        SnapshotSegment {
                            seconds: vec![1.0; 3],
                            ..SnapshotSegment::default()
                        };
                        2
                    ],
                    crossings: vec![crossing; 3],
                }],
                bounds,
                ..SnapshotCandidate::default()
            }],
            ..SnapshotModel::default()
        }
    }

    #[test]
    fn bounds_are_those_that_the_server_tells() {
        let told = SnapshotBounds {
            nodes: Some(SnapshotNodes {
                nodes: vec!["c".into(), "a".into(), "gone".into()],
            }),
            pins: [(0, "c".to_owned()), (1, "gone".to_owned())].into(),
            cuts: Some(SnapshotCuts { segments: vec![1] }),
            apart: true,
            priority: -3,
            loss: Some(0.02),
        };
        let nodes = nodes(&["a", "b", "c"]);
        let found = offers(&[model(Some(told))], &nodes).expect("it is whole");
        assert_eq!(
            found[0].problem.bounds,
            Bounds {
                nodes: Some([0, 2].into()),
                pins: [(0, 2)].into(),
                cuts: Some([1].into()),
                apart: true,
                priority: -3,
                loss: Some(0.02),
            }
        );
        // An orchestrator of before tells none.
        let found = offers(&[model(None)], &nodes).expect("it is whole");
        assert_eq!(found[0].problem.bounds, Bounds::default());
    }
}
