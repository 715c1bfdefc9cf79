//! Small problems drawn at random, with bounds, and how near a strategy comes to the best of all placements of them.

use proptest::{prelude::Strategy as _, strategy::ValueTree as _, test_runner::TestRunner};
use splitplace_plan::{
    ArmKind, ArmProblem, Bounds, BruteForce, ChainProblem, NodeSpec, Problem, SegmentSpec,
    Strategy,
    joint::{places, worth},
};

/// Mostly none, else a few: a node left out, the first or second stage pinned, one cut only, branches apart.
fn bounds(nodes: usize) -> impl proptest::strategy::Strategy<Value = Bounds> {
    let (out, pin) = (0..3 * nodes, 0..3 * nodes);
    (out, pin, 0usize..2, 1usize..9, proptest::bool::ANY).prop_map(
        move |(out, pin, stage, cut, apart)| Bounds {
            nodes: (out < nodes).then(|| (0..nodes).filter(|node| *node != out).collect()),
            pins: (pin < nodes).then_some((stage, pin)).into_iter().collect(),
            cuts: (cut < 3).then(|| [cut].into()),
            apart,
            ..Bounds::default()
        },
    )
}

/// One to three arms of two or three segments on so many nodes, each with up to `rate` requests a second.
pub(crate) fn problems(
    nodes: usize,
    rate: f64,
) -> impl proptest::strategy::Strategy<Value = Problem> {
    let segment = (
        1u64..30,
        0u64..10,
        proptest::collection::vec(0.1f64..2.0, nodes),
        0u64..1000,
    );
    let chain = proptest::collection::vec(segment, 2..4).prop_map(|draws| ChainProblem {
        boundaries: draws
            .iter()
            .map(|d| d.3.into())
            .chain([10.into()])
            .collect(),
        segments: draws
            .into_iter()
            .map(|(weight_bytes, activation_bytes, service, _)| SegmentSpec {
                weight_bytes,
                activation_bytes,
                service,
            })
            .collect(),
    });
    let arm = (
        0usize..3,
        proptest::collection::vec(chain, 2..3),
        0.0..rate,
        bounds(nodes),
    );
    let links = proptest::collection::vec(
        proptest::collection::vec((50.0f64..5000.0, 0.0f64..1.0), nodes + 1),
        nodes + 1,
    );
    let memory = proptest::collection::vec(20u64..120, nodes);
    let arms = proptest::collection::vec(arm, 1..4);
    // Two arms in three are of one model.
    let models = proptest::collection::vec(0usize..3, 3);
    (memory, links, arms, models).prop_map(|(memory, links, arms, models)| Problem {
        nodes: memory.into_iter().map(NodeSpec::of).collect(),
        coding: vec![1.0; links.len()],
        links,
        arms: arms
            .into_iter()
            .zip(models)
            .map(|((kind, chains, arrival_rate, bounds), model)| {
                let (kind, parts, count) = match kind {
                    0 => (ArmKind::Whole, (1, 1), 1),
                    1 => (ArmKind::Chain, (2, 3), 1),
                    _ => (ArmKind::Semantic, (1, 1), 2),
                };
                ArmProblem {
                    name: "a".into(),
                    model,
                    kind,
                    parts,
                    chains: chains[..count].to_vec(),
                    arrival_rate,
                    arrival_scv: 1.0,
                    bounds,
                }
            })
            .collect(),
        overhead_bytes: 2,
        spread: 0.0,
        places: Problem::PLACES,
        loss_target: Problem::LOSS,
        beside: Vec::new(),
    })
}

/// The least cost there is, of places of all arms or of as many as fit.
pub(crate) fn brute_force(problem: &Problem) -> f64 {
    let best = BruteForce { most: 20_000_000 }.best(problem);
    best.expect("the problems are small").0
}

/// The same problems each time.
pub(crate) fn fixed(nodes: usize, rate: f64, count: usize) -> Vec<Problem> {
    let mut runner = TestRunner::deterministic();
    let mut drawn = || {
        problems(nodes, rate)
            .new_tree(&mut runner)
            .expect("it can be drawn")
    };
    (0..count).map(|_| drawn().current()).collect()
}

/// Of sixty small problems: those in which a strategy comes within a tenth of the best, and of how many: those in which
/// it places as much as can be.
pub(crate) fn near(strategy: &dyn Strategy, rate: f64) -> (usize, usize) {
    let (mut near, mut all) = (0, 0);
    for problem in fixed(3, rate, 60) {
        let least = brute_force(&problem);
        let found = worth(&problem, &places(&strategy.solve(&problem, 3))).cost();
        // Where not all arms have a place it may be that two must move at once to make room for a third.
        if found - least < 3600.0 {
            all += 1;
            near += usize::from(found <= least * 1.1 + 1e-9);
        }
    }
    (near, all)
}
