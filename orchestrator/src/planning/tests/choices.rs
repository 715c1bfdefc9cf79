//! What is chosen, and why.

use super::*;

#[test]
fn every_arm_gets_a_place() {
    let world = World::new(&[
        ("a", 500.0, 9_000),
        ("b", 300.0, 9_000),
        ("c", 200.0, 9_000),
    ]);
    let output = world.plan();
    let names: Vec<_> = arms(&output).iter().map(|arm| arm.name.as_str()).collect();
    assert_eq!(names, ["base/whole", "semantic", "base/chain"]);
    assert_eq!(output.unplaced, BTreeMap::new());
    let plan = &output.plan;
    assert_eq!(
        (plan.generation, plan.parent),
        (Generation(1), Some(Generation(0)))
    );
    assert_eq!(plan.models["sample"].version, "3");
    let ids: Vec<_> = plan.routes().map(|route| route.id.0).collect();
    assert_eq!(ids, [0, 1, 2, 3]);
    let whole = arm(&output, "base/whole").unwrap();
    assert_eq!((whole.kind, whole.accuracy), (ArmKind::Whole, Some(0.93)));
    assert_eq!(nodes(whole), ["a"]);
    let hop = &whole.branches[0].hops[0];
    assert_eq!((hop.segments.clone(), hop.fragment), (0..1, world.whole()));
    assert_eq!((hop.bytes_in, whole.branches[0].bytes_out), (256, 40));
    assert_eq!(hop.forward, ["scores"]);
    // Two branches of equal size side by side end sooner than one after the other.
    let semantic = arm(&output, "semantic").unwrap();
    assert_eq!((semantic.branches.len(), semantic.nodes().len()), (2, 2));
    assert_eq!(
        arm(&output, "base/chain").unwrap().branches[0].hops.len(),
        2
    );
}

#[test]
fn every_strategy_of_a_name_places_every_arm_the_same_way_twice() {
    let world = World::new(&[
        ("a", 500.0, 9_000),
        ("b", 300.0, 9_000),
        ("c", 200.0, 9_000),
    ]);
    for name in STRATEGIES {
        let strategy = by_name(name).unwrap();
        assert_eq!(strategy.name(), name);
        let plan = || world.plan_with(strategy.as_ref()).unwrap();
        let output = plan();
        assert_eq!(output.plan, plan().plan, "{name}");
        assert_eq!(arms(&output).len(), 3, "{name}: {:?}", output.unplaced);
    }
    assert!(by_name("luck").is_none());
}

#[test]
fn the_same_input_gives_the_same_plan() {
    let nodes = [("a", 500.0, 900), ("b", 500.0, 900), ("c", 500.0, 900)];
    let (one, other) = (World::new(&nodes).plan(), World::new(&nodes).plan());
    assert_eq!(one.plan, other.plan);
    assert_eq!(one.fragments, other.fragments);
    assert_eq!(one.unplaced, other.unplaced);
}

#[test]
fn what_does_not_fit_in_one_piece_is_cut_and_the_arithmetic_is_shown() {
    let roomy = World::new(&[("a", 500.0, 9_000), ("b", 500.0, 9_000)]);
    let whole = arm(&roomy.plan(), "base/whole").unwrap().branches[0].hops[0].memory_bytes;
    let kilobytes = whole / 1_000;
    let mut world = World::new(&[
        ("a", 500.0, kilobytes * 3 / 4),
        ("b", 500.0, kilobytes * 3 / 4),
        ("c", 500.0, kilobytes * 3 / 4),
    ]);
    world.wishes[0].arms.remove(&ArmKind::Semantic);
    let output = world.plan();
    assert_eq!(arms(&output).len(), 1);
    assert!(arm(&output, "base/chain").unwrap().branches[0].hops.len() >= 2);
    let why = &output.unplaced["sample"][0];
    assert!(
        why.contains("base/whole needs") && why.contains("MB"),
        "{why}"
    );
    assert!(
        output
            .plan
            .explanation
            .contains("not placed: base/whole needs")
    );
}

#[test]
fn without_nodes_there_are_no_arms_but_the_model_is_named() {
    let mut world = World::new(&[("a", 500.0, 9_000)]);
    world.node("a").state = NodeState::Leaving;
    let output = world.plan();
    assert_eq!(arms(&output), []);
    assert_eq!(output.unplaced["sample"].len(), 3);
    assert!(
        output.plan.explanation.contains("none is alive"),
        "{}",
        output.plan.explanation
    );
}

#[test]
fn only_the_kinds_that_were_asked_for_are_planned() {
    for kind in [ArmKind::Whole, ArmKind::Chain, ArmKind::Semantic] {
        let mut world = World::new(&[("a", 500.0, 9_000), ("b", 300.0, 9_000)]);
        world.wishes[0].arms = BTreeSet::from([kind]);
        let output = world.plan();
        assert_eq!(
            arms(&output).iter().map(|arm| arm.kind).collect::<Vec<_>>(),
            [kind]
        );
    }
    let mut world = World::new(&[("a", 500.0, 9_000)]);
    world.wishes[0].arms = BTreeSet::from([ArmKind::Chain]);
    let output = world.plan();
    assert_eq!(
        output.unplaced["sample"],
        ["base/chain needs two nodes, and one is alive"]
    );
}

#[test]
fn what_was_measured_decides() {
    let mut world = World::new(&[("a", 500.0, 9_000), ("b", 400.0, 9_000)]);
    world.wishes[0].arms.remove(&ArmKind::Chain);
    let told = world.plan().plan.explanation;
    assert_eq!(
        nodes(arm(&world.plan(), "base/whole").unwrap()),
        ["a"],
        "{told}"
    );
    // Stated to be the faster one, and yet.
    let whole = world.whole();
    world.observe("a", whole, 0.050, None);
    world.observe("b", whole, 0.010, None);
    let output = world.plan();
    let whole = arm(&output, "base/whole").unwrap();
    assert_eq!(nodes(whole), ["b"]);
    assert_eq!(whole.branches[0].hops[0].service, Duration::from_millis(10));
    let link = Link::LOCAL.delay;
    assert_eq!(whole.predicted, Duration::from_millis(10) + 2 * link);
    assert!(
        output.plan.explanation.contains("observed"),
        "{}",
        output.plan.explanation
    );
}

#[test]
fn slow_links_are_avoided() {
    let mut world = World::new(&[("far", 500.0, 9_000), ("near", 400.0, 9_000)]);
    world.wishes[0].arms.remove(&ArmKind::Chain);
    let slow = Link {
        delay: Duration::from_millis(200),
        ..Link::LOCAL
    };
    let far = Place::Node("far".into());
    let mut links = Links::default();
    links.set(Place::Center, far.clone(), slow);
    links.set(far, Place::Center, slow);
    world.snapshot.links = links;
    let output = world.plan();
    assert_eq!(nodes(arm(&output, "base/whole").unwrap()), ["near"]);
    assert_eq!(nodes(arm(&output, "semantic").unwrap()), ["near", "near"]);
    // The only other node is too far away to be worth the safety.
    assert!(
        output
            .plan
            .explanation
            .contains("losing near takes every arm"),
        "{}",
        output.plan.explanation
    );
}

#[test]
fn the_loss_of_any_one_node_leaves_an_arm_where_that_is_cheap() {
    // The fast node is best for everything; four others would do.
    let fleet = [
        ("fast", 1_000.0, 9_000),
        ("b", 800.0, 9_000),
        ("c", 800.0, 9_000),
        ("d", 800.0, 9_000),
    ];
    let mut world = World::new(&fleet);
    world.wishes[0].arms.remove(&ArmKind::Semantic);
    world.settings.spread = 0.0;
    let output = world.plan();
    for (node, _, _) in fleet {
        let survives = |arm: &ArmPlan| !nodes(arm).contains(&node);
        assert!(
            arms(&output).iter().any(survives),
            "{node}: {}",
            output.plan.explanation
        );
    }
    world.settings.resilience = 0.0;
    let output = world.plan();
    let told = &output.plan.explanation;
    assert!(
        arms(&output).iter().all(|arm| nodes(arm).contains(&"fast")),
        "{told}"
    );
    assert!(
        output
            .plan
            .explanation
            .contains("losing fast takes every arm")
    );
}

#[test]
fn arms_stay_unless_moving_pays() {
    let mut world = World::new(&[
        ("a", 500.0, 9_000),
        ("b", 480.0, 9_000),
        ("c", 460.0, 9_000),
    ]);
    let first = world.plan();
    world.parent = first.plan.clone();
    let places = |output: &PlanningOutput| {
        let arms = arms(output).iter();
        arms.map(|arm| nodes(arm).into_iter().map(str::to_owned).collect())
            .collect::<Vec<Vec<_>>>()
    };
    // A little slower: not worth it.
    world.node("a").macs_per_second = 450e6;
    let second = world.plan();
    assert_eq!(places(&second), places(&first));
    assert!(second.plan.explanation.contains("stay where they are"));
    assert_eq!(second.plan.parent, Some(first.plan.generation));
    // Much slower: worth it.
    world.node("a").macs_per_second = 50e6;
    let third = world.plan();
    assert_ne!(places(&third), places(&first));
    // Gone: no choice.
    world.parent = third.plan.clone();
    let gone = nodes(&arms(&third)[0])[0].to_owned();
    world.node(&gone).state = NodeState::Lost;
    let fourth = world.plan();
    assert!(
        arms(&fourth)
            .iter()
            .all(|arm| !nodes(arm).contains(&gone.as_str()))
    );
    assert_eq!(arms(&fourth).len(), 3);
}

#[test]
fn a_package_that_changed_is_not_kept_in_place() {
    let mut world = World::new(&[("a", 500.0, 9_000), ("b", 480.0, 9_000)]);
    world.parent = world.plan().plan;
    let other = sample(&LoadSettings::default(), &[8, 16, 24, 8]);
    world.wishes = vec![Wish::new(Arc::new(other))];
    let output = world.plan();
    assert!(!output.plan.explanation.contains("stay where they are"));
    for hop in output.plan.routes().flat_map(|route| &route.hops) {
        assert!(output.fragments.contains_key(&hop.fragment));
    }
}

#[test]
fn fragments_that_took_more_memory_than_promised_are_planned_with_it() {
    let mut world = World::new(&[("a", 500.0, 700), ("b", 100.0, 700)]);
    world.wishes[0].arms = BTreeSet::from([ArmKind::Chain]);
    let first = world.plan();
    let hop = arm(&first, "base/chain").unwrap().branches[0].hops[0].clone();
    world.observe(hop.node.as_str(), hop.fragment, 1e-3, Some(710_000));
    let second = world.plan();
    let chain = arm(&second, "base/chain").expect("smaller fragments still fit");
    assert!(
        chain.branches[0]
            .hops
            .iter()
            .all(|other| other.fragment != hop.fragment)
    );
}

#[test]
fn a_rate_spreads_the_work_over_more_stages() {
    let fleet = [("a", 50.0, 9_000), ("b", 50.0, 9_000), ("c", 50.0, 9_000)];
    let mut world = World::new(&fleet);
    world.wishes[0].arms = BTreeSet::from([ArmKind::Chain]);
    let busiest = |output: &PlanningOutput| {
        let hops = &arms(output)[0].branches[0].hops;
        hops.iter().map(|hop| hop.service).max().unwrap()
    };
    let idle = busiest(&world.plan());
    world.wishes[0].load.rate_per_second = 0.9 / idle.as_secs_f64();
    assert!(busiest(&world.plan()) < idle);
}

#[test]
fn the_place_without_the_busiest_node_is_named() {
    let world = World::new(&[
        ("a", 500.0, 9_000),
        ("b", 300.0, 9_000),
        ("c", 200.0, 9_000),
    ]);
    let told = world.plan().plan.explanation;
    assert!(told.starts_with("sample: base/whole on a in "), "{told}");
    assert!(told.contains("without a: on b in "), "{told}");
    // Nothing ran yet: what is predicted may be off.
    assert!(told.contains("(computed, give or take "), "{told}");
    assert!(told.contains("base/chain on "), "{told}");
}

#[test]
fn new_fragments_go_where_they_fit_beside_the_old_ones() {
    let roomy = World::new(&[("a", 500.0, 9_000)]).plan();
    let bytes = arm(&roomy, "base/whole").unwrap().branches[0].hops[0].memory_bytes;
    let room = bytes * 3 / 2 / 1_000;
    let mut world = World::new(&[("a", 500.0, room), ("b", 400.0, room)]);
    world.wishes[0].arms = BTreeSet::from([ArmKind::Whole]);
    world.parent = world.plan().plan;
    assert_eq!(world.parent.fragments_on(&"a".into()).len(), 1);
    let other = sample(&LoadSettings::default(), &[8, 16, 18, 8]);
    let arms = world.wishes[0].arms.clone();
    world.wishes = vec![Wish {
        arms,
        ..Wish::new(Arc::new(other))
    }];
    let output = world.plan();
    assert_eq!(nodes(arm(&output, "base/whole").unwrap()), ["b"]);
    assert_eq!(output.crowded, BTreeMap::new());
    // Nowhere else to go: the node has to let go first, and the plan says so.
    world.node("b").state = NodeState::Lost;
    let output = world.plan();
    assert_eq!(nodes(arm(&output, "base/whole").unwrap()), ["a"]);
    let (needed, has) = output.crowded["a"];
    assert!(needed > has && has == room * 1_000, "{needed} {has}");
    assert!(
        output.plan.explanation.contains("a cannot hold"),
        "{}",
        output.plan.explanation
    );
}

/// Answers something else than it was asked.
struct Wrong(fn(&Problem) -> Solution);

impl Strategy for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn solve(&self, problem: &Problem, _seed: u64) -> Solution {
        (self.0)(problem)
    }
}

fn everything_on(node: usize, problem: &Problem) -> Solution {
    let arms = problem.arms.iter().map(|arm| {
        let branches = arm.chains.iter().map(|chain| {
            vec![Stage {
                segments: 0..chain.segments.len(),
                node,
            }]
        });
        Outcome::Placed(Placed {
            branches: branches.collect(),
            latency: 1.0,
            bottleneck: 1.0,
        })
    });
    Solution {
        arms: arms.collect(),
    }
}

#[test]
fn a_strategy_that_answers_nonsense_is_refused() {
    let mut world = World::new(&[("a", 500.0, 9_000), ("b", 500.0, 10)]);
    world.wishes[0].arms = BTreeSet::from([ArmKind::Whole]);
    let none = |_: &Problem| Solution { arms: vec![] };
    let beyond = |problem: &Problem| everything_on(2, problem);
    for wrong in [Wrong(none), Wrong(beyond)] {
        let refused = world.plan_with(&wrong);
        assert!(
            matches!(refused, Err(PlanningError::Nonsense { .. })),
            "{refused:?}"
        );
    }
    // Whole where there is no room: what was placed against the arithmetic loses its place.
    let output = world
        .plan_with(&Wrong(|problem| everything_on(1, problem)))
        .unwrap();
    assert_eq!(arms(&output), []);
    assert!(output.unplaced["sample"][0].contains("would fill b"));
}

#[test]
fn a_plan_that_does_not_lint_is_not_handed_out() {
    let mut world = World::new(&[("a", 500.0, 9_000), ("b", 500.0, 9_000)]);
    world.wishes[0].arms = BTreeSet::from([ArmKind::Chain]);
    // Both halves on one node.
    let twice = |problem: &Problem| {
        let count = problem.arms[0].chains[0].segments.len();
        let stages = [0..1, 1..count].map(|segments| Stage { segments, node: 0 });
        let placed = Placed {
            branches: vec![stages.to_vec()],
            latency: 1.0,
            bottleneck: 1.0,
        };
        Solution {
            arms: vec![Outcome::Placed(placed)],
        }
    };
    let refused = world.plan_with(&Wrong(twice));
    assert!(
        matches!(&refused, Err(PlanningError::Unsound { findings, .. })
            if matches!(findings[..], [Finding::Twice { .. }])),
        "{refused:?}"
    );
    // A generation that does not move on.
    world.parent.generation = Generation(u64::MAX);
    let stale = plan(&PlanningInput {
        parent: &world.parent,
        generation: Generation(3),
        snapshot: &world.snapshot,
        wishes: &world.wishes,
        measured: &world.measured,
        strategy: &Exact,
        settings: world.settings,
        seed: 7,
    });
    assert!(
        matches!(stale, Err(PlanningError::Unsound { .. })),
        "{stale:?}"
    );
}

/// A slow node beside the centre and a fast one behind an uplink.
fn uplink(mbit: f64) -> World {
    let mut world = World::new(&[("device", 20.0, 9_000), ("server", 400.0, 9_000)]);
    world.wishes[0].arms = BTreeSet::from([ArmKind::Chain]);
    let link = Link {
        rate_bytes_per_second: mbit * 125_000.0,
        delay: Duration::from_millis(2),
        jitter: Duration::ZERO,
    };
    let (device, server) = (Place::Node("device".into()), Place::Node("server".into()));
    for near in [Place::Center, device] {
        world.snapshot.links.set(near.clone(), server.clone(), link);
        world.snapshot.links.set(server.clone(), near, link);
    }
    world
}

#[test]
fn a_picture_that_is_small_goes_to_the_strong_node_in_one_piece_and_a_tensor_does_not() {
    let mut world = uplink(0.5);
    world.wishes[0].arms = BTreeSet::from([ArmKind::Whole, ArmKind::Chain]);
    let incoming = |bytes, decode_macs| Incoming {
        bytes,
        pictures: 1.0,
        decode_macs,
    };
    let whole = |world: &World| {
        let output = world.plan();
        let explanation = output.plan.explanation.clone();
        (arm(&output, "base/whole").unwrap().clone(), explanation)
    };
    // The tensor takes longer on this uplink than the slow node for everything.
    world.wishes[0].input = Some(incoming(40_000, 0.0));
    let (slow, told) = whole(&world);
    assert_eq!(nodes(&slow), ["device"], "{told}");
    world.wishes[0].input = Some(incoming(90, 0.0));
    let (quick, told) = whole(&world);
    assert_eq!(nodes(&quick), ["server"], "{told}");
    assert_eq!(quick.branches[0].hops[0].bytes_in, 90);
    assert!(
        told.contains("the compressed picture (90 bytes) goes to server and nothing is cut"),
        "{told}"
    );
    // What decoding takes is counted where it is done.
    let decode = 4e6;
    world.wishes[0].input = Some(incoming(90, decode));
    let (decoded, _) = whole(&world);
    let more = decoded.predicted - quick.predicted;
    assert!(
        (more.as_secs_f64() - decode / 400e6).abs() < 1e-6,
        "{more:?}"
    );
}

#[test]
fn an_arm_that_no_place_keeps_up_with_has_one_and_says_what_it_loses() {
    let mut world = uplink(50.0);
    world.wishes[0].arms = BTreeSet::from([ArmKind::Whole]);
    let idle = arm(&world.plan(), "base/whole").unwrap().branches[0].hops[0].service;
    world.wishes[0].load.rate_per_second = 2.0 / idle.as_secs_f64();
    let output = world.plan();
    assert_eq!(nodes(arm(&output, "base/whole").unwrap()), ["server"]);
    let told = &output.plan.explanation;
    assert!(told.contains("50 % of them would be lost"), "{told}");
    // The same work on four cores.
    world.node("server").cores = 4;
    let told = world.plan().plan.explanation;
    assert!(!told.contains("would be lost"), "{told}");
}

/// The same world without a plan, with the chain cut there and its first fragment on that node.
fn pinned(world: &World, cut: usize, first: &str) -> World {
    let mut pinned = World {
        parent: Plan::default(),
        snapshot: world.snapshot.clone(),
        wishes: world.wishes.clone(),
        measured: world.measured.clone(),
        settings: world.settings,
    };
    let pin = ArmPin {
        cuts: Some(BTreeSet::from([cut])),
        nodes: BTreeMap::from([(0, first.into())]),
    };
    pinned.wishes[0].pins = BTreeMap::from([("base/chain".to_owned(), pin)]);
    pinned
}

/// Latencies of every chain of two fragments, by brute force over what the planner says of each.
fn forced(world: &World, segments: usize) -> BTreeMap<(usize, bool), Duration> {
    let mut all = BTreeMap::new();
    for cut in 1..segments {
        for is_device_first in [true, false] {
            let first = if is_device_first { "device" } else { "server" };
            let output = pinned(world, cut, first).plan();
            let planned = arm(&output, "base/chain").unwrap();
            assert_eq!(planned.branches[0].hops[0].segments, 0..cut);
            assert_eq!(nodes(planned)[0], first);
            all.insert((cut, is_device_first), planned.predicted);
        }
    }
    all
}

#[test]
fn pins_hold_and_the_runner_up_is_the_best_of_the_rest() {
    for mbit in [0.5, 4.0, 50.0] {
        let mut world = uplink(mbit);
        let segments = world.wishes[0].loaded.variants()[0].parts[0].segments();
        let all = forced(&world, segments);
        let output = world.plan();
        let chosen = arm(&output, "base/chain").unwrap().clone();
        let hops = &chosen.branches[0].hops;
        let key = (hops[0].segments.end, hops[0].node == "device".into());
        assert_eq!(all[&key], chosen.predicted);
        let best = all.values().min().unwrap();
        assert_eq!(chosen.predicted, *best, "at {mbit} Mbit/s: {all:?}");
        let second = all.iter().filter(|(other, _)| **other != key);
        let second = second.map(|(_, time)| time).min().unwrap();
        world.parent = output.plan;
        let told = why(&world.input(&Exact));
        let told = &told[&("sample".into(), "base/chain".to_owned())];
        let seconds = |time: &Duration| time.as_secs_f64();
        assert!(
            (told.chosen.seconds - seconds(best)).abs() < 1e-6,
            "{told:?}"
        );
        let runner_up = told.runner_up.as_ref().unwrap();
        assert!(
            (runner_up.seconds - seconds(second)).abs() < 1e-6,
            "{told:?} {all:?}"
        );
    }
}

#[test]
fn what_the_runner_up_loses_by_is_told_at_the_load_as_it_is() {
    let key = ("sample".into(), "base/chain".to_owned());
    let mut world = uplink(4.0);
    let segments = world.wishes[0].loaded.variants()[0].parts[0].segments();
    let idle = arm(&world.plan(), "base/chain").unwrap().clone();
    let hops = idle.branches[0].hops.iter();
    let busiest = hops.map(|hop| hop.service.as_secs_f64());
    let load = &mut world.wishes[0].load;
    load.rate_per_second = 0.6 / busiest.fold(0.0, f64::max);
    load.headroom = 1.2;
    world.parent = world.plan().plan;
    let told = why(&world.input(&Exact)).remove(&key).unwrap();
    let runner_up = told.runner_up.unwrap();
    // The runner-up in force: what is expected of it then is what it is said to take now.
    let mut ways = (1..segments).flat_map(|cut| ["device", "server"].map(|first| (cut, first)));
    let in_force = ways.find_map(|(cut, first)| {
        let mut other = pinned(&world, cut, first);
        other.parent = other.plan().plan;
        let told = why(&other.input(&Exact)).remove(&key).unwrap();
        (told.chosen.way == runner_up.way).then_some(told)
    });
    let in_force = in_force.unwrap();
    assert!((runner_up.seconds - in_force.expected).abs() < 1e-9);
    // With headroom it waits longer: the two are told apart.
    assert!(in_force.chosen.seconds > 1.01 * in_force.expected);
}

#[test]
fn the_rates_at_which_the_choice_changes_are_where_it_does() {
    let mut world = uplink(50.0);
    let output = world.plan();
    world.parent = output.plan;
    let told = why(&world.input(&Exact));
    let told = &told[&("sample".into(), "base/chain".to_owned())];
    assert!(!told.switches.is_empty(), "{told:?}");
    for switch in &told.switches {
        let way = |rate: f64| {
            let mut other = uplink(50.0);
            let mut link = other.snapshot.links.get(&switch.from, &switch.to);
            link.rate_bytes_per_second = rate;
            let (from, to) = (switch.from.clone(), switch.to.clone());
            other.snapshot.links.set(from, to, link);
            let output = other.plan();
            let chosen = arm(&output, "base/chain").unwrap();
            splitplace_plan::described(chosen)
        };
        // The last halving leaves less than a hundredth.
        let back = if switch.at < switch.now { 1.01 } else { 0.99 };
        assert_eq!(way(switch.at), switch.becomes, "{switch:?}");
        assert_ne!(way(switch.at * back), switch.becomes, "{switch:?}");
    }
}

#[test]
fn only_the_arm_that_gains_moves() {
    // Two models, each on a node of its own; one of the nodes becomes slow.
    let mut world = World::new(&[
        ("a", 500.0, 9_000),
        ("b", 300.0, 9_000),
        ("c", 290.0, 9_000),
    ]);
    world.wishes[0].arms = BTreeSet::from([ArmKind::Whole, ArmKind::Chain]);
    world.settings.resilience = 1.0;
    let first = world.plan();
    world.parent = first.plan.clone();
    let whole = arm(&first, "base/whole").unwrap().clone();
    assert_eq!(nodes(&whole), ["a"]);
    // The link to b becomes slow: the chain has to go elsewhere, the whole stays.
    let slow = Link {
        rate_bytes_per_second: 1e4,
        delay: Duration::from_millis(200),
        jitter: Duration::ZERO,
    };
    for other in [
        Place::Center,
        Place::Node("a".into()),
        Place::Node("c".into()),
    ] {
        world
            .snapshot
            .links
            .set(other.clone(), Place::Node("b".into()), slow);
        world
            .snapshot
            .links
            .set(Place::Node("b".into()), other, slow);
    }
    let second = world.plan();
    let changes = splitplace_plan::diff(&first.plan, &second.plan).changes;
    let moved: Vec<&str> = changes.iter().map(|change| &change.arm[..]).collect();
    assert_eq!(moved, ["base/chain"]);
}
