//! By hand where it can be done by hand; laws of conservation where it cannot.

mod exits;

use std::collections::BTreeMap;

use splitplace_fleet::NodeState;
use splitplace_plan::{
    ArmKind, ArmPlan, Exact, FragmentId, Generation, Hop, ModelPlan, Plan, Route, RouteId,
};
use splitplace_policy::by_name;

use super::*;
use crate::{
    Seed,
    planner::{Fixed, Model, Part, Planner, PlannerSettings, Segment, Strategic, Variant},
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(millis: u64) -> Timestamp {
    Timestamp::ZERO + ms(millis)
}

fn worker(name: &str) -> Worker {
    Worker::new(Node {
        id: name.into(),
        state: NodeState::Alive,
        cores: 1,
        macs_per_second: 1e6,
        memory_bytes: 1000,
        labels: BTreeMap::new(),
        emulated: false,
    })
}

fn links() -> Links {
    Links::new(Link {
        rate_bytes_per_second: 1e6,
        delay: ms(1),
        jitter: Duration::ZERO,
    })
}

fn world(names: &[&str], load: Load) -> World {
    World {
        workers: names.iter().map(|name| worker(name)).collect(),
        links: links(),
        loads: vec![load],
        faults: vec![],
        settings: Settings::default(),
        control: Control::default(),
        exits: BTreeMap::new(),
        warm_up: Duration::ZERO,
        duration: ms(10_000),
    }
}

fn load(arrivals: Process) -> Load {
    Load {
        model: "m".into(),
        arrivals,
        slas: vec![(ms(100), 1.0)],
        patience: ms(5000),
        samples: 1,
        feedback: 0.0,
    }
}

/// Its branches, each of hops of (node, ms, bytes in).
type Branches<'a> = &'a [&'a [(&'a str, u64, u64)]];

/// One arm for each kind.
fn plan(arms: &[(ArmKind, Branches<'_>)]) -> Fixed {
    let mut next = 0;
    let mut fragment = 0;
    let arms = arms.iter().map(|(kind, branches)| ArmPlan {
        name: kind.label().into(),
        variant: kind.label().into(),
        kind: *kind,
        accuracy: Some(0.9),
        predicted: Duration::ZERO,
        branches: branches
            .iter()
            .map(|hops| {
                next += 1;
                let hops = hops
                    .iter()
                    .zip(0..)
                    .map(|((node, service, bytes_in), place)| {
                        fragment += 1;
                        let id = FragmentId([fragment; 32]);
                        Hop {
                            memory_bytes: 10,
                            service: ms(*service),
                            bytes_in: *bytes_in,
                            ..Hop::new((*node).into(), id, place..place + 1)
                        }
                    });
                Route {
                    id: RouteId(next),
                    hops: hops.collect(),
                    bytes_out: 1000,
                }
            })
            .collect(),
    });
    let arms = arms.collect();
    let version = "1".into();
    Fixed(Plan {
        generation: Generation(1),
        models: BTreeMap::from([("m".into(), ModelPlan { version, arms })]),
        ..Plan::default()
    })
}

fn go(world: &World, policy: &str, planner: &dyn Planner, seed: u64) -> Report {
    let policy = by_name(policy, &BTreeMap::new()).unwrap();
    run(world, policy, planner, Seed(seed))
}

/// Whoever came has ended, and was counted once.
#[track_caller]
fn conserves(report: &Report) {
    let total = report.total();
    let refused = total.not_ready + total.hopeless + total.overloaded;
    assert_eq!(
        total.arrived,
        refused + total.answered + total.expired + total.failed,
        "{total:?}"
    );
    assert_eq!(report.counts.arrived, report.counts.ended());
}

#[test]
fn a_quiet_chain_takes_the_sum_of_its_services_and_transfers() {
    let world = world(&["a", "b", "c"], load(Process::Constant { rate: 5.0 }));
    let chain: &[&[_]] = &[&[("a", 10, 2000), ("b", 20, 3000), ("c", 5, 4000)]];
    let report = go(&world, "layer", &plan(&[(ArmKind::Chain, chain)]), 1);
    conserves(&report);
    let model = &report.models["m"];
    // Four transfers: 2, 3, 4 and 1 ms at the rate, and 1 ms each of delay.
    assert_eq!(model.response.extremes(), Some((0.049, 0.049)));
    assert_eq!((model.arrived, model.answered, model.held), (49, 49, 49));
    assert_eq!(model.arms["chain"].answered, 49);
    // The forecast knows the same links and services.
    assert!((model.arms["chain"].forecast.mean() - 1.0).abs() < 1e-6);
    assert!(
        (report.nodes[1].utilisation - 0.1).abs() < 0.005,
        "{:?}",
        report.nodes
    );
}

#[test]
fn overhead_and_a_shared_uplink_cost_what_they_say() {
    let mut world = world(&["a", "b"], load(Process::Constant { rate: 5.0 }));
    let chain: &[&[_]] = &[&[("a", 10, 0), ("b", 20, 3000)]];
    let fixed = plan(&[(ArmKind::Chain, chain)]);
    for worker in &mut world.workers {
        worker.overhead = ms(1);
    }
    world.workers[0].uplink = 0.5e6;
    let report = go(&world, "layer", &fixed, 1);
    // 30 of services, 1 + 4 + 2 on links, 6 on the uplink before them, and four overheads.
    assert_eq!(report.models["m"].response.extremes(), Some((0.047, 0.047)));
}

#[test]
fn the_earliest_deadline_is_first_and_what_has_expired_is_not_computed() {
    let times = [0, 1, 2].map(at);
    let mut one = load(Process::Trace([times[0], times[1]].into()));
    one.slas = vec![(ms(1000), 1.0)];
    let mut urgent = load(Process::Trace([times[2]].into()));
    urgent.slas = vec![(ms(90), 1.0)];
    urgent.patience = Duration::ZERO;
    let mut world = world(&["a"], one);
    world.loads.push(urgent);
    world.settings.refuse_hopeless = false;
    let whole: &[&[_]] = &[&[("a", 40, 0)]];
    let fixed = plan(&[(ArmKind::Whole, whole)]);
    let report = go(&world, "whole", &fixed, 1);
    conserves(&report);
    // 0 to 40, then the urgent one to 80, then the other: with 3 ms of links 43, 81, 122.
    let response = &report.models["m"].response;
    assert_eq!(
        (response.count(), response.extremes()),
        (3, Some((0.043, 0.122)))
    );
    assert!((response.mean() - 0.082).abs() < 1e-9);
    world.loads[1].slas = vec![(ms(30), 1.0)];
    let report = go(&world, "whole", &fixed, 1);
    conserves(&report);
    assert_eq!(
        (report.models["m"].expired, report.nodes[0].expired),
        (1, 1)
    );
    assert_eq!(report.nodes[0].computed, 2);
}

#[test]
fn cores_that_are_busy_together_take_longer() {
    let mut world = world(&["a"], load(Process::Trace([at(0), at(1)].into())));
    let fixed = plan(&[(ArmKind::Whole, &[&[("a", 40, 0)]])]);
    world.workers[0].node.cores = 3;
    let apart = go(&world, "whole", &fixed, 1);
    assert_eq!(apart.models["m"].response.extremes(), Some((0.043, 0.043)));
    // With all three busy twice as long; beside one other core, half of that more.
    world.workers[0].crowding = 2.0;
    let report = go(&world, "whole", &fixed, 1);
    conserves(&report);
    assert_eq!(report.models["m"].response.extremes(), Some((0.043, 0.063)));
}

#[test]
fn a_full_queue_refuses_and_another_arm_is_tried() {
    let times: Vec<Timestamp> = (0..8).map(at).collect();
    let mut world = world(&["a", "b"], load(Process::Trace(times.into())));
    world.workers[0].queue_limit = 1;
    let arms: &[(ArmKind, &[&[_]])] = &[
        (ArmKind::Whole, &[&[("a", 50, 0)]]),
        (ArmKind::Semantic, &[&[("b", 1, 0)]]),
    ];
    let report = go(&world, "whole", &plan(arms), 1);
    conserves(&report);
    let model = &report.models["m"];
    assert_eq!((model.answered, report.nodes[0].refused), (8, 6));
    assert_eq!(
        (
            model.arms["whole"].answered,
            model.arms["semantic"].answered
        ),
        (2, 6)
    );
    assert_eq!(report.counts.retried, 6);
}

#[test]
fn a_branch_that_misses_the_deadline_is_left_out() {
    let mut world = world(&["a", "b"], load(Process::Constant { rate: 1.0 }));
    let arms: &[(ArmKind, &[&[_]])] = &[(ArmKind::Semantic, &[&[("a", 20, 0)], &[("b", 30, 0)]])];
    let report = go(&world, "semantic", &plan(arms), 1);
    assert_eq!(report.models["m"].response.extremes(), Some((0.033, 0.033)));
    world.faults.push((at(5500), Fault::Slow("b".into(), 20.0)));
    let report = go(&world, "semantic", &plan(arms), 1);
    conserves(&report);
    let arm = &report.models["m"].arms["semantic"];
    assert_eq!((arm.answered, arm.partial, arm.held), (9, 4, 9));
    assert_eq!(arm.response.extremes(), Some((0.033, 0.1)));
    assert!((arm.accuracy.mean() - (5.0 * 0.9 + 4.0 * 0.45) / 9.0).abs() < 1e-9);
}

#[test]
fn exits_answer_the_share_that_the_plan_expects() {
    let mut world = world(&["a", "b"], load(Process::Constant { rate: 20.0 }));
    world.duration = ms(100_000);
    let chain: &[&[_]] = &[&[("a", 10, 0), ("b", 20, 0)]];
    let mut fixed = plan(&[(ArmKind::Chain, chain)]);
    let arm = &mut fixed.0.models.get_mut("m").unwrap().arms[0];
    arm.kind = ArmKind::Exits;
    arm.branches[0].hops[1].reach = 0.3;
    arm.branches[0].hops[1].coding = ms(2);
    let report = go(&world, "two-context", &fixed, 1);
    conserves(&report);
    // 1 + 10 + 2 ms where the exit answers, 1 + 22 more where it does not.
    let response = &report.models["m"].response;
    assert_eq!(response.extremes(), Some((0.013, 0.036)));
    let share = report.nodes[1].computed as f64 / response.count() as f64;
    assert!(
        (share - 0.3).abs() < 5.0 * (0.21f64 / 2000.0).sqrt(),
        "{share}"
    );
    // The forecast is the mean.
    let forecast = report.models["m"].arms["chain"].forecast.mean();
    assert!(
        forecast > 1.0 && (response.mean() - 0.0199).abs() < 0.0013,
        "{response:?}"
    );
}

fn strategic() -> Strategic {
    let part = |macs: &[f64]| Part {
        segments: macs
            .iter()
            .map(|&macs| Segment {
                macs,
                weight_bytes: 200,
                activation_bytes: 10,
            })
            .collect(),
        crossing_bytes: vec![1000; macs.len() + 1],
        codings: Vec::new(),
    };
    let variant = |name: &str, parts, is_semantic| Variant {
        is_compressed: false,
        exits: Vec::new(),
        exits_accuracy: None,
        name: name.into(),
        accuracy: Some(if is_semantic { 0.85 } else { 0.9 }),
        parts,
        is_semantic,
    };
    Strategic {
        models: vec![Model {
            name: "m".into(),
            variants: vec![
                variant("base", vec![part(&[3000.0, 4000.0, 5000.0])], false),
                variant("semantic", vec![part(&[4000.0]), part(&[4000.0])], true),
            ],
            site: None,
            rate_per_second: 0.0,
        }],
        strategy: Box::new(Exact),
        settings: PlannerSettings::default(),
    }
}

#[test]
fn a_node_that_dies_takes_no_request_with_it() {
    for fault in [Fault::Crash, Fault::Silence] {
        let mut world = world(&["a", "b", "c", "d"], load(Process::Poisson { rate: 60.0 }));
        for (number, node) in ["a", "b", "c"].into_iter().enumerate() {
            let start = 1000 + 2500 * number as u64;
            world.faults.push((at(start), fault(node.into())));
            world
                .faults
                .push((at(start + 1500), Fault::Rejoin(node.into())));
        }
        for policy in ["layer", "semantic", "two-context"] {
            let report = go(&world, policy, &strategic(), 3);
            conserves(&report);
            let total = report.total();
            assert!(total.arrived > 500);
            assert_eq!(total.answered, total.arrived, "{policy} {total:?}");
            assert_eq!(report.plans.len(), 6, "{:?}", report.plans);
            assert!(report.counts.retried > 0);
            let slowest = report.plans.iter().map(|plan| plan.took).max();
            assert!(slowest < Some(ms(400)), "{:?}", report.plans);
        }
    }
}

#[test]
fn plans_change_even_where_both_do_not_fit_at_once() {
    let mut world = world(&["a", "b"], load(Process::Poisson { rate: 20.0 }));
    // 630 of the whole and 420 of the semantic branches, in 2 × 640: no room for a second plan beside.
    world
        .workers
        .iter_mut()
        .for_each(|worker| worker.node.memory_bytes = 640);
    world.faults.push((at(2000), Fault::Crash("a".into())));
    world.faults.push((at(4000), Fault::Rejoin("a".into())));
    let report = go(&world, "two-context", &strategic(), 5);
    conserves(&report);
    assert_eq!(report.total().answered, report.total().arrived);
    assert_eq!(report.plans.len(), 2);
}

#[test]
fn without_a_node_requests_wait_for_one_and_then_give_up() {
    let mut one = load(Process::Constant { rate: 10.0 });
    one.patience = ms(400);
    let mut world = world(&["a"], one);
    world.faults.push((at(5000), Fault::Crash("a".into())));
    let whole: &[&[_]] = &[&[("a", 10, 0)]];
    let report = go(&world, "whole", &plan(&[(ArmKind::Whole, whole)]), 1);
    conserves(&report);
    let model = &report.models["m"];
    assert!(model.expired > 40 && model.answered >= 49, "{model:?}");
}

#[test]
fn everything_at_once_conserves_and_repeats_bit_for_bit() {
    let run = |seed: u64| {
        let mut one = load(Process::Poisson { rate: 150.0 });
        one.slas = vec![(ms(15), 0.5), (ms(80), 0.5)];
        one.patience = ms(300);
        one.feedback = 0.3;
        let mut world = world(&["a", "b", "c", "d"], one);
        world.warm_up = ms(500);
        let jittery = Link {
            rate_bytes_per_second: 1e6,
            delay: ms(1),
            jitter: ms(1),
        };
        world.links = Links::new(jittery);
        world.workers[1].discipline = Discipline::Sharing;
        world.workers[2].discipline = Discipline::InOrder;
        for worker in &mut world.workers {
            worker.service = Law::gamma(1.1, 0.3).unwrap();
            worker.queue_limit = 3;
            worker.watts = [1.0, 2.0].into();
        }
        world.faults = vec![
            (at(2000), Fault::Crash("b".into())),
            (at(2050), Fault::Silence("c".into())),
            (at(3000), Fault::Rejoin("b".into())),
            (at(3100), Fault::Rejoin("c".into())),
            (at(3120), Fault::Rejoin("d".into())),
            (at(5000), Fault::Slow("a".into(), 5.0)),
            (
                at(6000),
                Fault::Link(Place::Center, Place::Node("a".into()), jittery),
            ),
        ];
        let report = go(&world, "two-context", &strategic(), seed);
        conserves(&report);
        assert!(report.joules() > 0.0);
        report
    };
    let (one, same, other) = (run(1), run(1), run(2));
    assert_eq!(one.trace, same.trace);
    assert_eq!(format!("{one:?}"), format!("{same:?}"));
    assert_ne!(one.trace, other.trace);
}

#[test]
fn mistakes_are_named() {
    let mut world = world(&["a", "a"], load(Process::Poisson { rate: -1.0 }));
    world.loads[0].slas.clear();
    world.faults.push((at(1), Fault::Crash("z".into())));
    world.warm_up = world.duration;
    assert_eq!(world.check().len(), 5);
}
