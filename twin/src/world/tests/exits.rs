//! Exits decide here as they do in the controllers' own simulation, and as workers do.

use std::sync::Arc;

use splitplace_plan::ExitRule;
use splitplace_policy::exit::{
    Records,
    simulate::{self, Inputs, Node as Held, simulate},
    synthetic::Synthetic,
    task::{Followed, SERVED, Task},
};
use splitplace_queueing::{Arrivals, Service};

use super::*;

const EXITS: usize = 4;
/// Milliseconds between exits.
const STAGE: u64 = 20;
const PLACES: u32 = 8;
const TARGET: f64 = 0.02;

fn records() -> Records {
    let made = Synthetic {
        exits: EXITS,
        inputs: 500,
        ..Synthetic::default()
    };
    made.records().unwrap()
}

/// An arm with an exit after each hop but the last, on these nodes.
fn line(nodes: &[&str]) -> Fixed {
    let hops: Vec<_> = nodes.iter().map(|node| (*node, STAGE, 0)).collect();
    let mut fixed = plan(&[(ArmKind::Exits, &[&hops])]);
    let arm = &mut fixed.0.models.get_mut("m").unwrap().arms[0];
    let route = &mut arm.branches[0];
    route.bytes_out = 0;
    for (number, hop) in (1..nodes.len() as u32).zip(&mut route.hops) {
        let name = format!("exit{number}");
        hop.exits = vec![ExitRule {
            number,
            output: name.clone(),
            name,
            threshold: 1.0,
        }];
    }
    fixed
}

/// Requests for that arm alone, Poisson, none of them tried twice; nodes serve in order and links cost nothing.
fn overloaded(nodes: &[&str], policy: Option<&str>, load_times: f64, seconds: u64) -> World {
    let mut one = load(Process::Poisson {
        rate: load_times * 1e3 / (STAGE * EXITS as u64) as f64,
    });
    one.slas = vec![(ms(60_000), 1.0)];
    let mut world = world(nodes, one);
    world.links = Links::new(Link {
        rate_bytes_per_second: f64::INFINITY,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
    });
    for worker in &mut world.workers {
        worker.discipline = Discipline::InOrder;
    }
    world.settings.limits.attempts_max = 1;
    world.settings.refuse_hopeless = false;
    world.warm_up = ms(40_000);
    world.duration = ms(1000 * seconds);
    let exits = Exits {
        records: Arc::new(records()),
        thresholds: [1.01; EXITS - 1].into(),
        control: policy.map(|policy| ExitControl {
            policy: policy.into(),
            target: TARGET,
            places: PLACES,
            audit_share: 0.0,
        }),
    };
    world.exits.insert(("m".into(), "exits".into()), exits);
    world
}

/// Loss and accuracy of the world's runs, each with its standard error.
fn lived(policy: &str, load_times: f64) -> [(f64, f64); 2] {
    let world = overloaded(&["a"], Some(policy), load_times, 300);
    let runs = (0..6).map(|seed| {
        let report = go(&world, "two-context", &line(&["a"; EXITS]), seed);
        conserves(&report);
        (report.total().loss(), report.mean_accuracy())
    });
    let (loss, accuracy): (Vec<f64>, Vec<f64>) = runs.unzip();
    [simulate::summary(&loss), simulate::summary(&accuracy)]
}

/// The same of the controllers' own simulation, for a controller that knows the rate.
fn simulated(policy: &str, load_times: f64) -> [(f64, f64); 2] {
    let records = Arc::new(records());
    let stage = STAGE as f64 / 1e3;
    let nodes = vec![Held {
        stages: vec![Service::constant(stage).unwrap(); EXITS],
        capacity: PLACES as usize,
    }];
    let arrivals = Arrivals::poisson(load_times / (stage * EXITS as f64)).unwrap();
    let task = Task {
        policy: policy.into(),
        records: Arc::clone(&records),
        thresholds: vec![1.01; EXITS - 1],
        nodes,
        arrivals,
        // What a governor keeps in hand.
        target: 0.9 * TARGET,
        bins: 10,
        seed: 0,
    };
    let rules = task.solve().unwrap().rules;
    let runs = (0..6).map(|seed| {
        let mut plan = simulate::Plan::new(&task.nodes, Inputs::Records(&records), arrivals);
        (plan.requests, plan.seed) = (5_000, seed);
        let run = simulate(&plan, &mut Followed(&rules));
        (run.loss(), run.accuracy())
    });
    let (loss, accuracy): (Vec<f64>, Vec<f64>) = runs.unzip();
    [simulate::summary(&loss), simulate::summary(&accuracy)]
}

#[test]
fn a_station_loses_and_errs_as_in_the_controllers_own_simulation() {
    let near = |a: (f64, f64), b: (f64, f64), more: f64| {
        let far = 4.0 * a.1.hypot(b.1) + more;
        assert!((a.0 - b.0).abs() < far, "{a:?} and {b:?}, at most {far}");
    };
    let [all, right] = lived("last-exit", 1.3);
    let [all_there, right_there] = simulated("last-exit", 1.3);
    near(all, all_there, 0.0);
    near(right, right_there, 0.0);
    // The governor has to estimate the rate and follows what is lost.
    let [controlled, hasty] = lived("joint", 1.3);
    let [controlled_there, hasty_there] = simulated("joint", 1.3);
    near(controlled, controlled_there, 0.002);
    near(hasty, hasty_there, 0.005);
    assert!(controlled.0 < 0.15 * all.0, "{controlled:?} of {all:?}");
    assert!(
        hasty.0 < right.0,
        "less loss is paid for: {hasty:?} {right:?}"
    );
}

#[test]
fn every_controller_repeats_bit_for_bit() {
    for policy in SERVED {
        let mut world = overloaded(&["a"], Some(policy), 1.2, 60);
        let key = &("m".into(), "exits".into());
        let exits = world.exits.get_mut(key).unwrap();
        exits.control.as_mut().unwrap().audit_share = 0.05;
        exits.thresholds = [0.8, 0.9, 0.9].into();
        world.loads[0].samples = 2;
        world.loads[0].arrivals = Process::Poisson { rate: 8.0 };
        world.loads[0].feedback = 0.5;
        let run = |seed| go(&world, "two-context", &line(&["a"; EXITS]), seed);
        let (one, same, other) = (run(1), run(1), run(2));
        conserves(&one);
        assert_eq!(format!("{one:?}"), format!("{same:?}"), "{policy}");
        assert_ne!(one.trace, other.trace, "{policy}");
        assert!(one.total().answered > 50, "{policy}");
    }
}

/// One input, of which the second exit is sure and right and the first is neither.
fn certain(world: &mut World, thresholds: [f64; 2]) {
    let mut records = Records::new(3).unwrap();
    records.push(&[(0.4, false), (0.9, true), (1.0, false)]);
    let exits = Exits {
        records: Arc::new(records),
        thresholds: thresholds.into(),
        control: None,
    };
    world.exits.insert(("m".into(), "exits".into()), exits);
}

#[test]
fn thresholds_are_held_against_what_exits_say() {
    let nodes = ["a", "a", "b"];
    for (thresholds, response, right) in [
        ([0.3, 0.0], 0.020, 0.0),
        ([0.5, 0.89], 0.040, 1.0),
        ([0.5, 0.95], 0.060, 0.0),
    ] {
        let mut world = overloaded(&["a", "b"], None, 0.1, 60);
        world.loads[0].arrivals = Process::Constant { rate: 5.0 };
        certain(&mut world, thresholds);
        let report = go(&world, "two-context", &line(&nodes), 1);
        conserves(&report);
        let model = &report.models["m"];
        assert_eq!(model.response.extremes(), Some((response, response)));
        assert_eq!(model.accuracy.extremes(), Some((right, right)));
    }
}

#[test]
fn between_two_exits_on_a_node_nobody_else_is_served() {
    let mut world = overloaded(&["a", "b"], None, 0.1, 60);
    certain(&mut world, [1.0, 1.0]);
    world.warm_up = Duration::ZERO;
    world.workers[0].discipline = Discipline::EarliestDeadline;
    world.loads[0].arrivals = Process::Trace([at(0)].into());
    let mut urgent = load(Process::Trace([at(1)].into()));
    urgent.slas = vec![(ms(100), 1.0)];
    world.loads.push(urgent);
    let report = go(&world, "two-context", &line(&["a", "a", "b"]), 1);
    // 20 + 20 and 20 on the other node; who came at 1 waits until 40.
    let extremes = report.models["m"].response.extremes();
    assert_eq!(extremes, Some((0.060, 0.099)));
}

#[test]
fn a_line_hears_the_node_behind_and_outlives_it() {
    let nodes = ["a", "a", "b", "b"];
    let run = |policy, faults: Vec<(Timestamp, Fault)>| {
        let mut world = overloaded(&["a", "b"], Some(policy), 2.4, 100);
        world.links = links();
        world.faults = faults;
        let report = go(&world, "two-context", &line(&nodes), 1);
        conserves(&report);
        report
    };
    let fixed = run("last-exit", vec![]);
    let priced = run("joint", vec![]);
    let (all, few) = (fixed.total().loss(), priced.total().loss());
    assert!(few < 0.3 * all, "{few} of {all}");
    let broken = vec![
        (at(60_000), Fault::Crash("b".into())),
        (at(70_000), Fault::Rejoin("b".into())),
    ];
    let mended = run("joint", broken);
    assert_eq!(mended.plans.len(), 2, "{:?}", mended.plans);
    // Ten of sixty seconds without a second node, and as good as before and afterwards.
    let loss = mended.total().loss();
    assert!(few < loss && loss < few + 0.25, "{loss} after {few}");
}

#[test]
fn exits_that_do_not_fit_are_named() {
    let mut world = overloaded(&["a"], Some("luck"), 1.0, 60);
    let key = &("m".into(), "exits".into());
    let exits = world.exits.get_mut(key).unwrap();
    exits.thresholds = [0.5].into();
    let control = exits.control.as_mut().unwrap();
    (control.target, control.places, control.audit_share) = (1.0, 65, 2.0);
    let wrong = world.check();
    assert_eq!(wrong.len(), 5, "{wrong:?}");
    assert!(wrong[1].contains("known are threshold"), "{wrong:?}");
}
