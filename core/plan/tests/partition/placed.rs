//! The planner's own dynamic programme against the methods here, where both answer the same question.

use splitplace_plan::{
    ArmKind, ArmProblem, Bounds, ChainProblem, Crossing, Exact as Planner, NodeSpec, Outcome,
    Placed, Problem, SegmentSpec, Strategy as _,
    partition::{
        BruteForce, Chain, Exact, Layer, Links, Method, Network, Objective, Question, Scene, User,
    },
};

use crate::{drawn::Lot, several::links};

const CASES: u64 = 400;

/// A chain of layers as the planner is asked: the device is node 0 and the centre lies beside it, so that what comes is
/// there and answers go back there. What was computed elsewhere does not come back to the device to go on, as in the methods.
fn problem(network: &Network, links: &Links) -> Problem {
    let nodes = network.nodes();
    let link = |from: usize, to: usize| match (from % nodes, to % nodes) {
        (from, to) if from == to => (f64::INFINITY, 0.0),
        (from, 0) if to < nodes => (1e-9, links.pairs[from][0].1),
        (from, to) => links.pairs[from][to],
    };
    let row = |from: usize| (0..=nodes).map(|to| link(from, to)).collect();
    let segment = |layer: &Layer| SegmentSpec {
        weight_bytes: 1,
        activation_bytes: 1,
        service: layer.seconds.clone(),
    };
    let layers = network.layers();
    let between = network.tensors()[..layers.len()].iter();
    let between = between.map(|tensor| Crossing {
        ways: tensor.ways.clone(),
        reach: 1.0,
    });
    let answer = Crossing::from(network.tensors()[layers.len()].back);
    let coding = network.coding();
    Problem {
        nodes: vec![NodeSpec::of(1 << 30); nodes],
        links: (0..=nodes).map(row).collect(),
        coding: [coding, &coding[..1]].concat(),
        arms: vec![ArmProblem {
            name: "chain".into(),
            model: 0,
            kind: ArmKind::Chain,
            parts: (1, nodes),
            chains: vec![ChainProblem {
                segments: layers.iter().map(segment).collect(),
                boundaries: between.chain([answer]).collect(),
            }],
            arrival_rate: 0.0,
            arrival_scv: 1.0,
            bounds: Bounds::default(),
        }],
        overhead_bytes: 0,
        spread: 0.0,
        places: Problem::PLACES,
        loss_target: Problem::LOSS,
        beside: Vec::new(),
    }
}

fn placed(problem: &Problem) -> Placed {
    match Planner.solve(problem, 0).arms.remove(0) {
        Outcome::Placed(placed) => placed,
        Outcome::Unplaced(why) => panic!("{why}"),
    }
}

/// Nodes in order, with how many layers each runs.
fn shares(placed: &Placed) -> Vec<(usize, usize)> {
    let stages = placed.branches[0].iter();
    stages.map(|s| (s.node, s.segments.len())).collect()
}

/// A chain of layers on so many nodes; tensors may be coded, or cross as they are.
fn chain(lot: &mut Lot, nodes: usize) -> Network {
    let layers = 1 + lot.number(9);
    let drawn = lot.chain(layers);
    let mut seconds = |layer: &Layer| Layer {
        seconds: [&layer.seconds[..], &vec![lot.real(1e-4, 0.1); nodes - 2]].concat(),
    };
    let layers = drawn.layers().iter().map(&mut seconds).collect();
    let mut tensors = drawn.tensors().to_vec();
    for tensor in &mut tensors {
        let raw = Crossing::from(1 + lot.number(300_000) as u64);
        tensor.ways.splice(0..0, raw.ways);
    }
    let coding = (0..nodes).map(|_| lot.real(0.1, 3.0)).collect();
    Network::new(layers, tensors, coding).unwrap()
}

#[test]
fn an_idle_chain_is_placed_as_the_methods_cut_it() {
    let mut cut = [0; 4];
    for case in 0..CASES {
        let mut lot = Lot::new(9000 + case);
        let nodes = 2 + usize::from(case % 2 == 1);
        let network = chain(&mut lot, nodes);
        let scene = Scene {
            load: 1.0,
            ..lot.scene(Objective::Latency)
        };
        let mut links = links(&mut lot, nodes);
        // So the methods have it: the delay of using the server is that of both ways.
        links.pairs[0][1] = (scene.rate, scene.delay);
        links.pairs[1][0] = (scene.rate, 0.0);
        let placed = placed(&problem(&network, &links));

        let two: [&dyn Method; 3] = [&Chain, &Exact::default(), &BruteForce];
        for method in &two[..if nodes == 2 { 3 } else { 1 }] {
            let user = User {
                links: Some(&links),
                ..User::new(&network, scene)
            };
            let question = Question {
                users: &[user],
                cores: 1,
            };
            let part = method.solve(&question).unwrap().remove(0);
            let name = format!("case {case}, {}: {part:?} {placed:?}", method.name());
            let least = part.latency();
            assert!((placed.latency - least).abs() <= 1e-9 * least, "{name}");
            let stops = part.stops.iter().map(|s| (s.node, s.layers.len()));
            let stops: Vec<_> = stops.filter(|(_, layers)| *layers > 0).collect();
            assert_eq!(shares(&placed), stops, "{name}");
        }
        cut[shares(&placed).len()] += 1;
    }
    // Whole, cut once and cut twice, each often enough to say something.
    assert!(cut[1..].iter().all(|many| *many > 10), "{cut:?}");
}
