//! How long does it take to plan the demo's fleet: five unequal nodes, the Fashion-MNIST package, its
//! three arms, once its fragments are cut? The bar is 10 ms.
//!
//! Expected: the strategy solves six orders of three arms, most of it the dynamic programme of the
//! chain (some 10⁵ steps each); moving an arm and naming the next best places solve one arm at a time,
//! another order's worth or two. A few milliseconds, then, and all of it in the strategy.

use std::{path::Path, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use splitplace_fleet::{Link, Links, Node, NodeState, Place, Snapshot, Timestamp};
use splitplace_onnx::{Costs, Package};
use splitplace_orchestrator::{
    catalog::{LoadSettings, Loaded, profile_plan},
    measured::{Measured, MeasuredSettings, Ran, ServiceTime},
    planning::{PlanningInput, PlanningSettings, Wish, plan},
};
use splitplace_plan::{Exact, Generation, Plan};

/// Name, share of a machine that does 10¹⁰ multiply-accumulates a second, megabytes, and milliseconds
/// from the centre.
const NODES: [(&str, f64, u64, u64); 5] = [
    ("edge-1", 0.30, 64, 2),
    ("edge-2", 0.20, 48, 2),
    ("edge-3", 0.10, 32, 5),
    ("edge-4", 0.10, 24, 5),
    ("cloud", 1.00, 512, 20),
];

fn fleet() -> Snapshot {
    let mut snapshot = Snapshot::empty(Timestamp::ZERO);
    let mut links = Links::new(Link {
        rate_bytes_per_second: 12.5e6,
        delay: std::time::Duration::from_millis(2),
        ..Link::LOCAL
    });
    for (name, share, megabytes, millis) in NODES {
        let node = Node {
            id: name.into(),
            state: NodeState::Alive,
            cores: 1,
            macs_per_second: share * 1e10,
            memory_bytes: megabytes << 20,
            labels: [].into(),
            emulated: true,
        };
        let link = Link {
            delay: std::time::Duration::from_millis(millis),
            ..links.get(&Place::Center, &Place::from(&node.id))
        };
        links.set(Place::Center, Place::from(&node.id), link);
        links.set(Place::from(&node.id), Place::Center, link);
        snapshot.nodes.insert(node.id.clone(), node);
    }
    snapshot.links = links;
    snapshot
}

fn planning(c: &mut Criterion) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages/fashion-mnist");
    let settings = LoadSettings::default();
    let package = Package::open(&folder, &settings.limits).expect("the package is shipped");
    let loaded = Arc::new(Loaded::open(package, &settings).expect("the package is sound"));
    let snapshot = fleet();
    let mut measured = Measured::new(
        MeasuredSettings::default(),
        Costs::shipped().expect("the shipped coefficients are sound"),
    );
    let profiled = profile_plan(&loaded, &measured).expect("fragments can be cut");
    for (number, profiled) in profiled.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "made-up times")]
        let seconds = profiled.fragment.macs as f64 / 4e9 + 1e-6 * (number + 10) as f64;
        let service = ServiceTime::new(20, seconds, 0.0);
        let node = &snapshot.nodes["cloud"];
        measured.observe(
            node,
            profiled.fragment.id,
            Ran::Alone,
            service,
            Some(4 << 20),
        );
    }
    let wishes = [Wish::new(loaded)];
    let mut input = PlanningInput {
        parent: &Plan::default(),
        generation: Generation(1),
        snapshot: &snapshot,
        wishes: &wishes,
        measured: &measured,
        strategy: &Exact,
        settings: PlanningSettings::default(),
        seed: 0,
    };
    let first = plan(&input).expect("the demo's fleet can be planned");
    println!("{}", first.plan.explanation);
    c.bench_function("plan the demo's fleet, new", |b| b.iter(|| plan(&input)));
    input.parent = &first.plan;
    input.generation = Generation(2);
    c.bench_function("plan the demo's fleet, again", |b| b.iter(|| plan(&input)));
    let mut broken = snapshot.clone();
    if let Some(node) = broken.nodes.get_mut("edge-1") {
        node.state = NodeState::Lost;
    }
    input.snapshot = &broken;
    c.bench_function("plan the demo's fleet, a node lost", |b| {
        b.iter(|| plan(&input));
    });
}

criterion_group!(benches, planning);
criterion_main!(benches);
