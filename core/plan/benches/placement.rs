//! How long does `exact` take to place arms on a fleet? Expected: some 10^5 steps of a dynamic programme of a few
//! nanoseconds for each arm that finds another room than in the orders before, and for each price of a loss that is tried:
//! one under light load, two where nothing keeps up, a handful between. So below a millisecond for 5 nodes, some for 10
//! nodes, and for fleets that are too many arms for every order the sum over the arms; where several models have something
//! to do, up to eight times that for each model. The bar is 20 ms for ten fragments on ten nodes and a second for a
//! hundred on fifty; on ten nodes it is kept while the fleet keeps up, and not at three times what it can do.

use criterion::{Criterion, criterion_group, criterion_main};
use splitplace_plan::{
    ArmKind, ArmProblem, Bounds, ChainProblem, Exact, NodeSpec, Problem, SegmentSpec, Strategy,
};

fn problem(nodes: usize, segments: usize) -> Problem {
    let chain = |share: f64| ChainProblem {
        segments: (0..segments)
            .map(|k| SegmentSpec {
                weight_bytes: 100_000 + 10_000 * k as u64,
                activation_bytes: 50_000,
                service: (0..nodes)
                    .map(|n| share * 0.001 * (1.0 + n as f64 * 0.3))
                    .collect(),
            })
            .collect(),
        boundaries: (0..=segments)
            .map(|k| (30_000 - 1000 * k as u64).into())
            .collect(),
    };
    let arm = |name: &str, kind, parts, chains| ArmProblem {
        name: name.into(),
        model: 0,
        kind,
        parts,
        chains,
        arrival_rate: 10.0,
        arrival_scv: 1.0,
        bounds: Bounds::default(),
    };
    Problem {
        nodes: vec![NodeSpec::of(4_000_000); nodes],
        links: vec![vec![(1e7, 0.001); nodes + 1]; nodes + 1],
        coding: vec![1.0; nodes + 1],
        arms: vec![
            arm("whole", ArmKind::Whole, (1, 1), vec![chain(1.0)]),
            arm("chain", ArmKind::Chain, (2, 4), vec![chain(1.0)]),
            arm(
                "semantic",
                ArmKind::Semantic,
                (1, 1),
                vec![chain(0.3), chain(0.3)],
            ),
        ],
        overhead_bytes: 10_000,
        spread: 0.05,
        places: Problem::PLACES,
        loss_target: Problem::LOSS,
        beside: Vec::new(),
    }
}

/// Unequal nodes on equal links, as many models as half of them, each in two to four pieces, that ask for `load` times
/// what the nodes can do together.
fn fleet(nodes: usize, load: f64) -> Problem {
    let speeds: Vec<f64> = (0..nodes).map(|n| 1.0 + (n * 7 % 10) as f64).collect();
    let works: Vec<f64> = (0..nodes / 2)
        .map(|arm| 0.02 * (1.0 + (arm * 3 % 5) as f64))
        .collect();
    let rate = load * speeds.iter().sum::<f64>() / (8.0 * works.iter().sum::<f64>());
    let mut problem = problem(nodes, 8);
    let arm = |(number, work): (usize, &f64)| {
        let mut arm = ArmProblem {
            name: format!("model {number}"),
            model: number,
            kind: ArmKind::Chain,
            parts: (2, 4),
            arrival_rate: rate,
            ..problem.arms[1].clone()
        };
        for (at, segment) in arm.chains[0].segments.iter_mut().enumerate() {
            let work = work * (1.0 + (at * 5 % 8) as f64 / 8.0);
            segment.service = speeds.iter().map(|speed| work / speed).collect();
        }
        arm
    };
    problem.arms = works.iter().enumerate().map(arm).collect();
    problem.nodes = vec![NodeSpec::of(12_000_000); nodes];
    problem
}

fn placement(c: &mut Criterion) {
    for nodes in [10, 50] {
        for load in [0.0, 0.5, 3.0] {
            let problem = fleet(nodes, load);
            let name = format!("place {} models on {nodes} nodes at load {load}", nodes / 2);
            c.bench_function(&name, |b| b.iter(|| Exact.solve(&problem, 0)));
        }
    }
    for (nodes, segments) in [(5, 12), (5, 24), (10, 12)] {
        let problem = problem(nodes, segments);
        c.bench_function(
            &format!("place 3 arms of {segments} segments on {nodes} nodes"),
            |b| {
                b.iter(|| Exact.solve(&problem, 0));
            },
        );
    }
}

criterion_group!(benches, placement);
criterion_main!(benches);
