//! Several models on one fleet: what each does to the others.

use super::*;
use crate::catalog::tests::named;

/// Two networks alike, in one piece each, on two nodes of which `a` is a little faster.
fn two() -> World {
    let mut world = World::new(&[("a", 500.0, 9_000), ("b", 450.0, 9_000)]);
    let wish = |name: &str| Wish {
        arms: BTreeSet::from([ArmKind::Whole]),
        ..Wish::new(Arc::new(named(
            name,
            &LoadSettings::default(),
            &[8, 16, 16, 8],
        )))
    };
    world.wishes = vec![wish("one"), wish("other")];
    world
}

/// Has so many requests come for each as keep `a` busy for that share of the time.
fn ask(world: &mut World, load: f64) {
    let output = world.plan();
    let arm = &output.plan.models["one"].arms[0];
    let hop = &arm.branches[0].hops[0];
    assert_eq!(hop.node.as_str(), "a");
    let rate = load / hop.service.as_secs_f64();
    for wish in &mut world.wishes {
        wish.load = Load::of(rate);
    }
}

fn places(output: &PlanningOutput) -> Vec<&str> {
    let arms = output.plan.models.values().flat_map(|model| &model.arms);
    arms.flat_map(nodes).collect()
}

#[test]
fn models_share_the_fastest_node_until_they_get_in_each_others_way() {
    let mut world = two();
    assert_eq!(places(&world.plan()), ["a", "a"]);
    ask(&mut world, 0.7);
    for strategy in STRATEGIES.map(|name| by_name(name).unwrap()) {
        // What does not know of queues, or draws, may do anything.
        if !["integer", "random", "gobi", "daso"].contains(&strategy.name()) {
            let output = world.plan_with(strategy.as_ref()).unwrap();
            let mut found = places(&output);
            found.sort_unstable();
            assert_eq!(found, ["a", "b"], "{}", strategy.name());
        }
    }
}

#[test]
fn one_of_them_moves_when_load_comes_and_none_for_nothing() {
    let mut world = two();
    world.parent = world.plan().plan;
    ask(&mut world, 0.7);
    let apart = world.plan();
    let mut found = places(&apart);
    found.sort_unstable();
    assert_eq!(found, ["a", "b"], "{}", apart.plan.explanation);
    // Where they are now they stay.
    world.parent = apart.plan.clone();
    assert_eq!(places(&world.plan()), places(&apart));
    // The other way round is as good, and no reason to change places.
    let models = &mut world.parent.models;
    let [one, other] = ["one", "other"].map(|name| models[name].arms[0].clone());
    let swap = |into: &ArmPlan, from: &ArmPlan| {
        let mut arm = into.clone();
        let node = &from.branches[0].hops[0].node;
        arm.branches[0].hops[0].node = node.clone();
        arm
    };
    models.get_mut("one").unwrap().arms[0] = swap(&one, &other);
    models.get_mut("other").unwrap().arms[0] = swap(&other, &one);
    let mut swapped = places(&apart);
    swapped.reverse();
    assert_eq!(places(&world.plan()), swapped);
}

#[test]
fn what_an_arm_loses_for_others_is_told() {
    let mut world = two();
    ask(&mut world, 1.2);
    // Neither may leave the node that can carry neither.
    for wish in &mut world.wishes {
        wish.asked.nodes = Some(["a".into()].into());
    }
    let told = world.plan().plan.explanation;
    // 2.4 times what it can do: 58 % find no room.
    assert_eq!(
        told.matches("58 % of them would be lost").count(),
        2,
        "{told}"
    );
}
