//! Formulas and simulation must agree where the formulas are exact.

use std::{collections::BTreeMap, time::Duration};

use splitplace_fleet::{Link, Links, Node, NodeState};
use splitplace_plan::{
    ArmKind, ArmPlan, FragmentId, Generation, Hop, ModelPlan, Plan, Route, RouteId,
};

use super::*;
use crate::{
    Law,
    arrivals::Process,
    chainnet::{ChainNet, Kind},
    world::{Control, Load, Worker},
};

fn world(nodes: u32, rate: f64, scv: f64, queue_limit: u32) -> World {
    let worker = |number: u32| Worker {
        queue_limit,
        service: Law::gamma(1.0, scv).unwrap(),
        watts: [1.0, 3.0].into(),
        ..Worker::new(Node {
            id: number.to_string()[..].into(),
            state: NodeState::Alive,
            cores: 1,
            macs_per_second: 1e6,
            memory_bytes: 1000,
            labels: BTreeMap::new(),
            emulated: false,
        })
    };
    World {
        workers: (0..nodes).map(worker).collect(),
        links: Links::new(Link {
            rate_bytes_per_second: f64::INFINITY,
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
        }),
        loads: vec![Load {
            model: "m".into(),
            arrivals: Process::Poisson { rate },
            slas: vec![(Duration::from_secs(100), 1.0)],
            patience: Duration::from_secs(100),
            samples: 1,
            feedback: 0.0,
        }],
        faults: vec![],
        settings: splitplace_brain::Settings {
            limits: splitplace_lifecycle::Limits {
                // A full queue is a loss, as in the formula.
                attempts_max: 1,
                ..splitplace_lifecycle::Limits::default()
            },
            ..splitplace_brain::Settings::default()
        },
        control: Control::default(),
        exits: BTreeMap::new(),
        warm_up: Duration::from_secs(5),
        duration: Duration::from_secs(85),
    }
}

/// One chain over the first nodes, 10 ms on each.
fn plan(nodes: u32) -> Plan {
    let hop = |number: u32| {
        let place = number as usize;
        let fragment = FragmentId([number as u8; 32]);
        Hop {
            memory_bytes: 1,
            service: Duration::from_millis(10),
            ..Hop::new(number.to_string()[..].into(), fragment, place..place + 1)
        }
    };
    let kind = if nodes == 1 {
        ArmKind::Whole
    } else {
        ArmKind::Chain
    };
    let arm = ArmPlan {
        name: "only".into(),
        variant: "only".into(),
        kind,
        accuracy: Some(0.9),
        predicted: Duration::ZERO,
        branches: vec![Route {
            id: RouteId(0),
            hops: (0..nodes).map(hop).collect(),
            bytes_out: 0,
        }],
    };
    let version = "1".into();
    Plan {
        generation: Generation(1),
        models: BTreeMap::from([(
            "m".into(),
            ModelPlan {
                version,
                arms: vec![arm],
            },
        )]),
        ..Plan::default()
    }
}

fn simulated(relative: f64) -> Simulated {
    let precision = Precision {
        confidence: 0.99,
        relative,
        least: 5,
        most: 12,
    };
    Simulated::new("whole", BTreeMap::new(), precision).unwrap()
}

#[test]
fn one_node_is_what_the_formula_says() {
    for (rate, scv, limit) in [(80.0, 0.0, 4), (60.0, 0.5, 9), (120.0, 1.0, 3)] {
        let world = world(1, rate, scv, limit);
        let exact = Analytic::default().evaluate(&world, &plan(1), Seed(1));
        let found = simulated(0.001).evaluate(&world, &plan(1), Seed(1));
        let case = format!("{rate} {scv} {limit}\n{exact:?}\n{found:?}");
        assert!(found.latency.holds(exact.latency.mean), "{case}");
        assert!(found.loss.holds(exact.loss.mean), "{case}");
        assert!(found.throughput.holds(exact.throughput.mean), "{case}");
        assert!(
            (found.watts.mean / exact.watts.mean - 1.0).abs() < 0.02,
            "{case}"
        );
        assert!((found.accuracy.mean - 0.9).abs() < 1e-9);
        assert!(exact.violations.is_none() && exact.latency.half_width.is_infinite());
    }
}

#[test]
fn behind_others_the_formula_is_the_upper_estimate() {
    let world = world(3, 90.0, 0.0, 4);
    let exact = Analytic::default().evaluate(&world, &plan(3), Seed(1));
    let found = simulated(0.01).evaluate(&world, &plan(3), Seed(1));
    assert!(exact.loss.mean > found.loss.mean + found.loss.half_width);
    assert!(found.loss.mean > 0.05, "{found:?}");
}

#[test]
fn a_plan_without_an_arm_loses_everything() {
    let mut none = plan(1);
    none.models
        .values_mut()
        .for_each(|model| model.arms.clear());
    let world = world(1, 50.0, 0.0, 4);
    for evaluator in [&Analytic::default() as &dyn Evaluator, &simulated(0.5)] {
        let worth = evaluator.evaluate(&world, &none, Seed(1));
        assert_eq!(
            (worth.loss.mean, worth.throughput.mean),
            (1.0, 0.0),
            "{}",
            evaluator.name()
        );
    }
    assert!(Simulated::new("magic", BTreeMap::new(), Precision::default()).is_err());
}

/// The same seed gives both plans the same draws: the difference is known far better than either.
#[test]
fn common_random_numbers_sharpen_differences() {
    let world = world(2, 60.0, 1.0, 400);
    let slower = {
        let mut plan = plan(1);
        let arm = &mut plan.models.get_mut("m").unwrap().arms[0];
        arm.branches[0].hops[0].service = Duration::from_micros(10_100);
        plan
    };
    let simulated = simulated(0.1);
    let mut race = crate::stats::Race::new(crate::stats::RaceSettings::default());
    let (mut first, mut second) = (
        crate::stats::Summary::default(),
        crate::stats::Summary::default(),
    );
    for number in 0..8 {
        let response = |plan: &Plan| {
            simulated
                .replicate(&world, plan, Seed(5), number)
                .mean_response()
        };
        let (one, other) = (response(&plan(1)), response(&slower));
        first.add(one);
        second.add(other);
        race.add(one, other);
    }
    assert_eq!(race.verdict(), crate::stats::Verdict::First);
    let apart = first.variance() + second.variance();
    let paired = race.difference(0.95).half_width.powi(2);
    assert!(paired * 20.0 < apart, "{paired} {apart}");
}

/// Loads and queues as the network has seen them, services of constant length: the plain one is as near as it is to its
/// own systems, in other units of time.
#[test]
fn chainnet_judges_plans_as_it_does_systems() {
    let network = ChainNet::shipped(Kind::Plain).unwrap();
    for (nodes, rate, limit) in [(2, 70.0, 12), (3, 90.0, 9), (4, 120.0, 20)] {
        let world = world(nodes, rate, 0.0, limit);
        let said = network.evaluate(&world, &plan(nodes), Seed(1));
        let found = simulated(0.01).evaluate(&world, &plan(nodes), Seed(1));
        let case = format!("{nodes} {rate} {limit}\n{said:?}\n{found:?}");
        assert!(
            (said.latency.mean / found.latency.mean - 1.0).abs() < 0.1,
            "{case}"
        );
        assert!((said.loss.mean - found.loss.mean).abs() < 0.02, "{case}");
        assert!(
            (said.throughput.mean / found.throughput.mean - 1.0).abs() < 0.05,
            "{case}"
        );
        assert!((said.accuracy.mean - 0.9).abs() < 1e-9, "{case}");
        // 1 W and 2 more for the share of the time that a node works: offered, lost samples among it.
        let busy = (rate * 0.01).min(1.0);
        assert!(
            (said.watts.mean - f64::from(nodes) * (1.0 + 2.0 * busy)).abs() < 1e-9,
            "{case}"
        );
        assert!(said.latency.half_width.is_infinite(), "{case}");
    }
    // What has no arm, or one on a node that there is not, answers nothing.
    let world = world(2, 70.0, 0.0, 12);
    for plan in [Plan::default(), plan(3)] {
        let said = network.evaluate(&world, &plan, Seed(1));
        assert!((said.loss.mean - 1.0).abs() < 1e-9 && said.throughput.mean.abs() < 1e-9);
    }
}
