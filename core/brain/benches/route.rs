//! From a request's arrival to the order that sends it, and from its answer to the end: what every
//! request pays for being decided about. The bar is 20 µs for arm and route.
//!
//! Expected: three forecasts over a handful of hops, the policy's comparison, a few small maps; some
//! microseconds, most of it allocation.

use std::{collections::BTreeMap, time::Duration};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use splitplace_brain::{Arrival, Brain, Order, Settings};
use splitplace_fleet::{Node, NodeState, Snapshot, Timestamp};
use splitplace_lifecycle::{Event, RequestId};
use splitplace_plan::{
    ArmKind, ArmPlan, FragmentId, Generation, Hop, ModelName, ModelPlan, Plan, Route, RouteId,
};
use splitplace_policy::by_name;

fn arm(name: &str, kind: ArmKind, first: u32, branches: &[&[&str]]) -> ArmPlan {
    let hop = |node: &&str| Hop {
        memory_bytes: 1 << 20,
        service: Duration::from_millis(4),
        bytes_in: 10_000,
        ..Hop::new((*node).into(), FragmentId([7; 32]), 0..1)
    };
    let route = |(id, nodes): (u32, &&[&str])| Route {
        id: RouteId(id),
        hops: nodes.iter().map(hop).collect(),
        bytes_out: 40,
    };
    ArmPlan {
        name: name.into(),
        variant: "base".into(),
        kind,
        accuracy: Some(0.93),
        predicted: Duration::from_millis(8),
        branches: (first..).zip(branches).map(route).collect(),
    }
}

fn brain() -> Brain {
    let mut snapshot = Snapshot::empty(Timestamp::ZERO);
    for name in ["a", "b", "c", "d", "e"] {
        let node = Node {
            id: name.into(),
            state: NodeState::Alive,
            cores: 1,
            macs_per_second: 1e10,
            memory_bytes: 1 << 30,
            labels: BTreeMap::new(),
            emulated: false,
        };
        snapshot.nodes.insert(node.id.clone(), node);
    }
    let plan = Plan {
        generation: Generation(1),
        models: BTreeMap::from([(
            ModelName::new("m"),
            ModelPlan {
                version: "1".into(),
                arms: vec![
                    arm("whole", ArmKind::Whole, 0, &[&["a"]]),
                    arm("chain", ArmKind::Chain, 1, &[&["b", "c", "d", "e"]]),
                    arm("semantic", ArmKind::Semantic, 2, &[&["d"], &["e"]]),
                ],
            },
        )]),
        ..Plan::default()
    };
    let policy = by_name("two-context", &BTreeMap::new()).expect("a known name");
    let mut brain = Brain::new(Settings::default(), policy, ChaCha8Rng::seed_from_u64(1));
    let _ = brain.observe(Timestamp::ZERO, snapshot);
    let _ = brain.adopt(Timestamp::ZERO, &plan);
    brain
}

fn arrival() -> Arrival {
    Arrival {
        min_accuracy: 0.0,
        model: ModelName::new("m"),
        samples: 1,
        sla: Duration::from_millis(20),
        patience: Duration::from_secs(5),
    }
}

fn route(c: &mut Criterion) {
    let mut brain = brain();
    let mut number = 0;
    c.bench_function("arrive, choose, route; answer, learn, forget", |b| {
        b.iter_batched(
            arrival,
            |arrival| {
                number += 1;
                let now = Timestamp::ZERO + Duration::from_micros(number * 100);
                let request = RequestId(number);
                let orders = brain
                    .arrive(now, request, arrival)
                    .expect("there is an arm");
                for order in orders {
                    if let Order::Send {
                        attempt, branch, ..
                    } = order
                    {
                        let answered = Event::BranchAnswered {
                            request,
                            attempt,
                            branch,
                        };
                        let _ = brain.step(now + Duration::from_millis(5), answered);
                    }
                }
            },
            BatchSize::SmallInput,
        );
    });
    assert_eq!(brain.in_flight(), 0, "every request ended");
}

criterion_group!(benches, route);
criterion_main!(benches);
