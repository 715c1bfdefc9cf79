//! How long does it take to place three arms on a small fleet? Expected: some 10^5 steps of a dynamic
//! programme for each order of arms, so about a millisecond for 5 nodes and some 10 for 10 nodes.

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
    }
}

fn placement(c: &mut Criterion) {
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
