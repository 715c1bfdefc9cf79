//! The exact strategy against every placement there is.

use proptest::prelude::{ProptestConfig, Strategy as _, prop_assert, prop_assert_eq, proptest};

use super::{Strategy as _, *};
use crate::{
    Bounds,
    problem::{ChainProblem, NodeSpec, SegmentSpec},
};

fn problem(nodes: usize) -> impl proptest::strategy::Strategy<Value = Problem> {
    let chain = proptest::collection::vec(
        (
            1u64..40,
            0u64..10,
            proptest::collection::vec(0.1f64..5.0, nodes),
            0u64..1000,
        ),
        1..5,
    )
    .prop_map(|draws| ChainProblem {
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
    let links = proptest::collection::vec(
        proptest::collection::vec((50.0f64..5000.0, 0.0f64..1.0), nodes + 1),
        nodes + 1,
    );
    let memory = proptest::collection::vec(1u64..120, nodes);
    let arm = (
        0usize..3,
        proptest::collection::vec(chain, 2..3),
        0.0f64..0.1,
    );
    let bounds = bounds(nodes);
    (memory, links, arm, bounds).prop_map(
        |(memory, links, (kind, chains, arrival_rate), bounds)| {
            let (kind, parts, chains) = match kind {
                0 => (ArmKind::Whole, (1, 1), chains[..1].to_vec()),
                1 => (ArmKind::Chain, (2, 3), chains[..1].to_vec()),
                _ => (ArmKind::Semantic, (1, 1), chains),
            };
            Problem {
                nodes: memory.into_iter().map(NodeSpec::of).collect(),
                coding: vec![1.0; links.len()],
                links,
                arms: vec![ArmProblem {
                    name: "a".into(),
                    model: 0,
                    kind,
                    parts,
                    chains,
                    arrival_rate,
                    arrival_scv: 1.0,
                    bounds,
                }],
                overhead_bytes: 2,
                spread: 0.0,
                places: Problem::PLACES,
                loss_target: Problem::LOSS,
                beside: Vec::new(),
            }
        },
    )
}

/// Mostly none, else a few: a node left out, the second stage pinned, some cuts only, branches apart.
fn bounds(nodes: usize) -> impl proptest::strategy::Strategy<Value = Bounds> {
    let cuts = proptest::option::weighted(0.3, proptest::collection::btree_set(1usize..5, 1..4));
    let numbers = (0..2 * nodes, 0..2 * nodes, proptest::bool::ANY, cuts);
    numbers.prop_map(move |(out, pin, apart, cuts)| Bounds {
        nodes: (out < nodes).then(|| (0..nodes).filter(|node| *node != out).collect()),
        pins: (pin < nodes).then_some((1, pin)).into_iter().collect(),
        cuts,
        apart,
        priority: 0,
        loss: None,
    })
}

/// Whether a placement keeps what the bounds say, in other words than theirs.
fn keeps(bounds: &Bounds, branches: &[Vec<Stage>]) -> bool {
    let line: Vec<usize> = branches.iter().flatten().map(|stage| stage.node).collect();
    let allowed = |node: &usize| bounds.nodes.as_ref().is_none_or(|all| all.contains(node));
    let mut distinct = line.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let starts = branches.iter().flatten().map(|stage| stage.segments.start);
    let mut inner = starts.filter(|start| *start > 0);
    let may = |cut: usize| bounds.cuts.as_ref().is_none_or(|cuts| cuts.contains(&cut));
    inner.all(may)
        && line.iter().all(allowed)
        && (line.len() < 2 || bounds.pins.get(&1).is_none_or(|pin| line[1] == *pin))
        && (!bounds.apart || distinct.len() == line.len())
}

/// Every split of `count` segments into stages on the given sequence lengths, with every node.
fn all_chains(count: usize, nodes: usize, parts: (usize, usize)) -> Vec<Vec<Stage>> {
    fn go(
        start: usize,
        count: usize,
        nodes: usize,
        most: usize,
        stages: &mut Vec<Stage>,
        all: &mut Vec<Vec<Stage>>,
    ) {
        if start == count {
            all.push(stages.clone());
            return;
        }
        if stages.len() == most {
            return;
        }
        for end in start + 1..=count {
            for node in 0..nodes {
                if stages.iter().all(|stage| stage.node != node) {
                    stages.push(Stage {
                        segments: start..end,
                        node,
                    });
                    go(end, count, nodes, most, stages, all);
                    stages.pop();
                }
            }
        }
    }
    let mut all = Vec::new();
    go(0, count, nodes, parts.1, &mut Vec::new(), &mut all);
    all.retain(|stages| parts.0 <= stages.len());
    all
}

/// Every placement that fits and keeps the bounds.
fn everything(problem: &Problem) -> Vec<Vec<Vec<Stage>>> {
    let arm = &problem.arms[0];
    let nodes = problem.nodes.len();
    let mut choices: Vec<Vec<Vec<Stage>>> = vec![vec![]];
    for chain in &arm.chains {
        let ways = all_chains(chain.segments.len(), nodes, arm.parts);
        choices = choices
            .iter()
            .flat_map(|before| {
                ways.iter().map(|way| {
                    let mut more = before.clone();
                    more.push(way.clone());
                    more
                })
            })
            .collect();
    }
    choices.retain(|branches| {
        let mut taken = vec![0u64; nodes];
        for (chain, stages) in arm.chains.iter().zip(branches) {
            for stage in stages {
                taken[stage.node] += problem.memory(chain, stage.segments.clone());
            }
        }
        let fits = taken
            .iter()
            .zip(&problem.nodes)
            .all(|(taken, node)| *taken <= node.memory_bytes);
        fits && keeps(&arm.bounds, branches)
    });
    choices
}

/// The least latency there is, by trying everything; infinite when nothing fits.
fn brute_force(problem: &Problem) -> f64 {
    let all = everything(problem);
    let latencies = all
        .iter()
        .map(|branches| slowest(problem, &problem.arms[0], branches, &|_| 1.0));
    latencies.fold(f64::INFINITY, f64::min)
}

/// Whether a point is worth less than all others, by a good deal, at some price of its second number.
fn is_corner(at: (f64, f64), points: &[(f64, f64)]) -> bool {
    // Prices at which it is better than each of the others: an interval.
    let (mut low, mut high) = (0.0f64, 1e6f64);
    for other in points.iter().filter(|other| **other != at) {
        let (later, more) = (other.0 - at.0, other.1 - at.1);
        if more > 1e-9 {
            low = low.max(-later / more);
        } else if more < -1e-9 {
            high = high.min(-later / more);
        } else if later <= 0.0 {
            return false;
        }
    }
    low * (1.0 + 1e-3) + 1e-6 < high
}

fn latency(problem: &Problem) -> f64 {
    match &Exact.solve(problem, 0).arms[0] {
        Outcome::Placed(placed) => placed.latency,
        Outcome::Unplaced(_) => f64::INFINITY,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nothing_is_quicker_than_exact_where_losses_do_not_matter(problem in problem(4)) {
        let problem = Problem { loss_target: 1.0, ..problem };
        let (found, best) = (latency(&problem), brute_force(&problem));
        prop_assert!(found == best || (found - best).abs() < 1e-9 * best, "{} {}", found, best);
    }

    /// Of the placements that keep the bound on losses exact finds one, the quickest of all where that is among them; where
    /// there is none, the one that loses least.
    #[test]
    fn losses_are_kept_below_the_bound_where_that_can_be(problem in problem(4), places in 0usize..6, rate in 0.05f64..1.0) {
        let mut problem = Problem { places, loss_target: 0.05, ..problem };
        problem.arms[0].arrival_rate = rate;
        let arm = &problem.arms[0];
        let all = everything(&problem);
        let Outcome::Placed(placed) = &Exact.solve(&problem, 0).arms[0] else {
            prop_assert!(all.is_empty());
            return Ok(());
        };
        let loss = problem.loss(arm, &placed.branches);
        let least = all.iter().map(|one| problem.loss(arm, one)).fold(1.0, f64::min);
        let keeping = all.iter().filter(|one| problem.loss(arm, one) <= problem.loss_target);
        let quickest = keeping.map(|one| problem.latency(arm, one)).fold(f64::INFINITY, f64::min);
        if quickest.is_finite() {
            prop_assert!(loss <= problem.loss_target, "{} of {}", loss, least);
            prop_assert!(quickest <= placed.latency * (1.0 + 1e-9));
            let free = brute_force(&problem);
            if quickest <= free * (1.0 + 1e-9) {
                prop_assert!(placed.latency <= free * (1.0 + 1e-9), "{} {}", placed.latency, free);
            }
        } else {
            prop_assert!(loss <= least + 1e-5, "{} {}", loss, least);
        }
    }

    /// No corner of the hull of (seconds, losses) that keeps the bound is quicker than what is found.
    #[test]
    fn no_corner_that_keeps_the_bound_is_quicker(problem in problem(4), places in 1usize..8, rate in 0.02f64..0.4, most in 0.01f64..0.1) {
        let mut problem = Problem { places, loss_target: most, ..problem };
        problem.arms[0].arrival_rate = rate;
        // Far nodes behind wide links: else a node that loses much is slow too, and nothing lies between.
        for link in problem.links.iter_mut().flatten() {
            *link = (link.0 * 1e3, link.1 * 40.0);
        }
        let arm = &problem.arms[0];
        let Outcome::Placed(placed) = &Exact.solve(&problem, 0).arms[0] else {
            return Ok(());
        };
        let all = everything(&problem);
        let point = |one: &Vec<Vec<Stage>>| (problem.latency(arm, one), lossiness(&problem, arm, one));
        let points: Vec<(f64, f64)> = all.iter().map(point).collect();
        for (one, at) in all.iter().zip(&points) {
            let is_quicker = at.0 < placed.latency * (1.0 - 1e-6) && problem.loss(arm, one) <= most;
            prop_assert!(!is_quicker || !is_corner(*at, &points), "{:?} {}", at, placed.latency);
        }
    }

    #[test]
    fn more_memory_or_speed_or_bandwidth_never_hurts(problem in problem(4), which in 0usize..4) {
        let problem = Problem { loss_target: 1.0, ..problem };
        let before = latency(&problem);
        let mut richer = problem.clone();
        richer.nodes[which].memory_bytes += 50;
        prop_assert!(latency(&richer) <= before * (1.0 + 1e-9));
        let mut faster = problem.clone();
        for segment in faster.arms[0].chains.iter_mut().flat_map(|chain| &mut chain.segments) {
            segment.service[which] *= 0.5;
        }
        prop_assert!(latency(&faster) <= before * (1.0 + 1e-9));
        let mut wider = problem;
        for link in &mut wider.links[which] {
            link.0 *= 2.0;
        }
        prop_assert!(latency(&wider) <= before * (1.0 + 1e-9));
    }

    /// What is remembered from order to order changes nothing: each order anew finds the same, and none beats the solution.
    #[test]
    fn orders_tried_together_are_those_tried_alone(a in problem(4), b in problem(4), c in problem(4), spread in 0.0f64..0.2, rate in 0.0f64..0.6) {
        let mut all = Problem { spread, ..a };
        all.arms.extend(b.arms);
        all.arms.extend(c.arms);
        all.arms.iter_mut().for_each(|arm| arm.arrival_rate = rate);
        let mut together = Planner::new(&all, Exact::NODES);
        let (every, room) = (Vec::from_iter(0..all.arms.len()), Room::new(&all));
        for order in orders(&all, &every) {
            let known = together.in_order(&room, &order);
            let anew = Planner::new(&all, Exact::NODES).in_order(&room, &order);
            let places = |found: &[Option<Rc<Found>>]| -> Vec<_> {
                found.iter().map(|one| one.as_ref().map(|one| one.placed.clone())).collect()
            };
            prop_assert_eq!(places(&known), places(&anew));
            let solved = Exact.solve(&all, 0).arms;
            let placed = solved.iter().filter(|one| matches!(one, Outcome::Placed(_))).count();
            prop_assert!(known.iter().flatten().count() <= placed);
        }
    }

    #[test]
    fn memory_is_never_exceeded_by_several_arms(a in problem(4), b in problem(4), c in problem(4), models in 1usize..4) {
        let mut all = a;
        all.arms.extend(b.arms);
        all.arms.extend(c.arms);
        for (number, arm) in all.arms.iter_mut().enumerate() {
            arm.model = number % models;
        }
        let solution = Exact.solve(&all, 0);
        prop_assert_eq!(&solution, &Exact.solve(&all, 0));
        let mut taken = [0u64; 4];
        for (arm, outcome) in all.arms.iter().zip(&solution.arms) {
            let Outcome::Placed(placed) = outcome else { continue };
            for (chain, stages) in arm.chains.iter().zip(&placed.branches) {
                prop_assert_eq!(stages[0].segments.start, 0);
                prop_assert_eq!(stages[stages.len() - 1].segments.end, chain.segments.len());
                for pair in stages.windows(2) {
                    prop_assert_eq!(pair[0].segments.end, pair[1].segments.start);
                }
                for stage in stages {
                    taken[stage.node] += all.memory(chain, stage.segments.clone());
                }
            }
        }
        for (taken, node) in taken.iter().zip(&all.nodes) {
            prop_assert!(*taken <= node.memory_bytes);
        }
    }
}

#[test]
fn what_does_not_fit_is_explained_with_numbers() {
    let segment = SegmentSpec {
        weight_bytes: 3_000_000,
        activation_bytes: 0,
        service: vec![1.0],
    };
    let arm = ArmProblem {
        name: "base/whole".into(),
        model: 0,
        kind: ArmKind::Whole,
        parts: (1, 1),
        chains: vec![ChainProblem {
            segments: vec![segment],
            boundaries: vec![1.into(), 1.into()],
        }],
        arrival_rate: 0.0,
        arrival_scv: 1.0,
        bounds: Bounds::default(),
    };
    let problem = Problem {
        nodes: vec![NodeSpec::of(1_000_000)],
        links: vec![vec![(1e6, 0.0); 2]; 2],
        coding: vec![1.0; 2],
        arms: vec![arm],
        overhead_bytes: 0,
        spread: 0.0,
        places: Problem::PLACES,
        loss_target: Problem::LOSS,
        beside: Vec::new(),
    };
    let Outcome::Unplaced(why) = &Exact.solve(&problem, 0).arms[0] else {
        panic!("it fits")
    };
    assert!(
        why.contains("needs 3.0 MB in one piece") && why.contains("largest 1.0 MB"),
        "{why}"
    );
}

#[test]
fn the_quickest_place_is_left_when_it_loses_too_much_and_taken_when_nothing_keeps_up() {
    let chain = ChainProblem {
        segments: vec![SegmentSpec {
            weight_bytes: 10,
            activation_bytes: 0,
            service: vec![0.1, 0.05],
        }],
        boundaries: vec![1.into(), 1.into()],
    };
    // The faster node is far away.
    let mut links = vec![vec![(1e6, 0.001); 3]; 3];
    links[2][1].1 = 2.0;
    let mut problem = Problem {
        nodes: vec![NodeSpec::of(100); 2],
        links,
        coding: vec![1.0; 3],
        arms: vec![ArmProblem {
            name: "base".into(),
            model: 0,
            kind: ArmKind::Whole,
            parts: (1, 1),
            chains: vec![chain],
            arrival_rate: 5.0,
            arrival_scv: 1.0,
            bounds: Bounds::default(),
        }],
        overhead_bytes: 0,
        spread: 0.0,
        places: Problem::PLACES,
        loss_target: Problem::LOSS,
        beside: Vec::new(),
    };
    problem.places = 10;
    let chosen = |problem: &Problem| match &Exact.solve(problem, 0).arms[0] {
        Outcome::Placed(placed) => placed.branches[0][0].node,
        Outcome::Unplaced(why) => panic!("{why}"),
    };
    assert_eq!(chosen(&problem), 0);
    // One request takes a tenth of a second there, and eleven a second come.
    problem.arms[0].arrival_rate = 11.0;
    assert_eq!(chosen(&problem), 1);
    problem.arms[0].bounds.loss = Some(0.2);
    assert_eq!(chosen(&problem), 0);
    problem.arms[0].bounds.loss = None;
    // More than either can do: the one that loses less.
    problem.arms[0].arrival_rate = 40.0;
    assert_eq!(chosen(&problem), 1);
    let Outcome::Placed(placed) = &Exact.solve(&problem, 0).arms[0] else {
        panic!("it has a place");
    };
    let loss = problem.loss(&problem.arms[0], &placed.branches);
    assert!((loss - 0.5).abs() < 0.01, "{loss}");
}

/// The quickest of three nodes loses too much and the one that loses least is far away: the one between is found.
#[test]
fn between_the_quickest_and_the_one_that_loses_least_the_quickest_that_keeps_the_bound_is_found() {
    let chain = ChainProblem {
        segments: vec![SegmentSpec {
            weight_bytes: 10,
            activation_bytes: 0,
            service: vec![0.1, 0.08, 0.05],
        }],
        boundaries: vec![1.into(), 1.into()],
    };
    let mut links = vec![vec![(1e6, 0.001); 4]; 4];
    links[3][1].1 = 1.5;
    links[3][2].1 = 3.0;
    let problem = Problem {
        nodes: vec![NodeSpec::of(100); 3],
        links,
        coding: vec![1.0; 4],
        arms: vec![ArmProblem {
            name: "base".into(),
            model: 0,
            kind: ArmKind::Whole,
            parts: (1, 1),
            chains: vec![chain],
            arrival_rate: 11.0,
            arrival_scv: 1.0,
            bounds: Bounds::default(),
        }],
        overhead_bytes: 0,
        spread: 0.0,
        places: 10,
        loss_target: 0.05,
        beside: Vec::new(),
    };
    let Outcome::Placed(placed) = &Exact.solve(&problem, 0).arms[0] else {
        panic!("it fits");
    };
    assert_eq!(placed.branches[0][0].node, 1);
}

/// Two equal arms and two nodes, of which one is a little faster and cannot carry both.
#[test]
fn models_keep_out_of_each_others_way_and_arms_of_one_model_do_not() {
    let arm = |model: usize| ArmProblem {
        name: format!("arm of {model}"),
        model,
        kind: ArmKind::Whole,
        parts: (1, 1),
        chains: vec![ChainProblem {
            segments: vec![SegmentSpec {
                weight_bytes: 10,
                activation_bytes: 0,
                service: vec![0.010, 0.012],
            }],
            boundaries: vec![0.into(), 0.into()],
        }],
        arrival_rate: 60.0,
        arrival_scv: 1.0,
        bounds: Bounds::default(),
    };
    let problem = |models: &[usize], rate: f64| Problem {
        nodes: vec![NodeSpec::of(100); 2],
        links: vec![vec![(1e9, 0.001); 3]; 3],
        coding: vec![0.0; 3],
        arms: models
            .iter()
            .map(|&model| ArmProblem {
                arrival_rate: rate,
                ..arm(model)
            })
            .collect(),
        overhead_bytes: 0,
        spread: 0.0,
        places: Problem::PLACES,
        loss_target: Problem::LOSS,
        beside: Vec::new(),
    };
    let nodes = |problem: &Problem| -> Vec<usize> {
        let outcomes = Exact.solve(problem, 0).arms;
        let node = |outcome: &Outcome| match outcome {
            Outcome::Placed(placed) => placed.branches[0][0].node,
            Outcome::Unplaced(why) => panic!("{why}"),
        };
        outcomes.iter().map(node).collect()
    };
    // A request of the one model takes one of them.
    assert_eq!(nodes(&problem(&[0, 0], 60.0)), [0, 0]);
    assert_eq!(nodes(&problem(&[0, 1], 0.0)), [0, 0]);
    let mut apart = nodes(&problem(&[0, 1], 60.0));
    apart.sort_unstable();
    assert_eq!(apart, [0, 1]);
    // What is expected is what each meets there: M/D/1 by Pollaczek and Khinchine, and a millisecond each way.
    let shared = problem(&[0, 1], 20.0);
    let [Outcome::Placed(one), Outcome::Placed(other)] = &Exact.solve(&shared, 0).arms[..] else {
        panic!("both fit");
    };
    assert_eq!((one.branches[0][0].node, other.branches[0][0].node), (0, 0));
    let expected = 0.012 + 0.4 * 0.010 / (2.0 * 0.6);
    assert!((one.latency - expected).abs() < 1e-9, "{one:?}");
    assert!((other.latency - expected).abs() < 1e-9, "{other:?}");
}

#[test]
fn who_has_priority_is_given_memory_first() {
    let arm = |name: &str, service: f64, priority: i32| ArmProblem {
        name: name.into(),
        model: 0,
        kind: ArmKind::Whole,
        parts: (1, 1),
        chains: vec![ChainProblem {
            segments: vec![SegmentSpec {
                weight_bytes: 10,
                activation_bytes: 0,
                service: vec![service],
            }],
            boundaries: vec![1.into(), 1.into()],
        }],
        arrival_rate: 0.0,
        arrival_scv: 1.0,
        bounds: Bounds {
            priority,
            ..Bounds::default()
        },
    };
    let mut problem = Problem {
        nodes: vec![NodeSpec::of(15)],
        links: vec![vec![(1e6, 0.001); 2]; 2],
        coding: vec![1.0; 2],
        arms: vec![arm("quick", 0.1, 0), arm("slow", 0.9, 0)],
        overhead_bytes: 0,
        spread: 0.0,
        places: Problem::PLACES,
        loss_target: Problem::LOSS,
        beside: Vec::new(),
    };
    let placed = |problem: &Problem| -> Vec<bool> {
        let outcomes = Exact.solve(problem, 0).arms;
        let is_placed = |outcome: &Outcome| matches!(outcome, Outcome::Placed(_));
        outcomes.iter().map(is_placed).collect()
    };
    assert_eq!(placed(&problem), [true, false]);
    problem.arms[1].bounds.priority = 1;
    assert_eq!(placed(&problem), [false, true]);
    // The same when there are too many arms for every order.
    let extra = (0..Exact::ORDERS).map(|_| arm("more", 0.1, -1));
    problem.arms.extend(extra);
    assert_eq!(placed(&problem)[..3], [false, true, false]);
}
