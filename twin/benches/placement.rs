//! How long does it take to decide where fragments go? Wanted: 10 fragments on 10 nodes within 20 ms, 100 on
//! 50 nodes within a second, on one core. Expected: best responses of some 0.1 ms for each model and turn, a search of
//! 2 000 to 5 000 steps at 1 to 2 µs, and some tens of simulations of 500 requests at 0.2 ms; some 6 and some 25 ms.

use criterion::{Criterion, criterion_group, criterion_main};
use splitplace_plan::{
    Annealing, ArmKind, ArmProblem, ChainProblem, NodeSpec, Problem, SegmentSpec, Strategy,
};
use splitplace_twin::placement::Proven;

/// Models of five fragments each.
fn problem(arms: usize, nodes: usize) -> Problem {
    let speed = |node: usize| 1.0 + 0.37 * (node % 7) as f64;
    let arm = |number: usize| ArmProblem {
        name: format!("model {number}"),
        model: number,
        kind: ArmKind::Chain,
        parts: (5, 5),
        chains: vec![ChainProblem {
            segments: (0..10)
                .map(|k| SegmentSpec {
                    weight_bytes: 100_000 + 10_000 * k as u64,
                    activation_bytes: 50_000,
                    service: (0..nodes)
                        .map(|node| 0.002 * speed(node) * (1.0 + 0.1 * ((k + number) % 5) as f64))
                        .collect(),
                })
                .collect(),
            boundaries: (0..=10)
                .map(|k| (30_000 - 1000 * k as u64).into())
                .collect(),
        }],
        arrival_rate: 20.0,
        arrival_scv: 1.0,
        bounds: splitplace_plan::Bounds::default(),
    };
    Problem {
        nodes: vec![NodeSpec::of(4_000_000); nodes],
        links: vec![vec![(1e7, 0.001); nodes + 1]; nodes + 1],
        coding: vec![0.0; nodes + 1],
        arms: (0..arms).map(arm).collect(),
        overhead_bytes: 10_000,
        spread: 0.0,
        places: Problem::PLACES,
        loss_target: Problem::LOSS,
        beside: Vec::new(),
    }
}

fn placement(c: &mut Criterion) {
    let strategies: [Box<dyn Strategy>; 2] =
        [Box::new(Annealing::default()), Box::new(Proven::default())];
    for strategy in strategies {
        for (arms, nodes) in [(2, 10), (20, 50)] {
            let problem = problem(arms, nodes);
            let name = format!(
                "{}: {} fragments on {nodes} nodes",
                strategy.name(),
                arms * 5
            );
            c.bench_function(&name, |b| b.iter(|| strategy.solve(&problem, 1)));
        }
    }
}

criterion_group!(benches, placement);
criterion_main!(benches);
