//! Whatever the fleet, a plan holds together, by rules written down once more.

use proptest::{prelude::*, strategy::Strategy};

use super::*;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn fleets() -> impl Strategy<Value = Vec<(f64, u64, u64, u8)>> {
    let node = (10.0..1_000.0f64, 10u64..1_500, 0u64..50, 0u8..8);
    proptest::collection::vec(node, 0..=NAMES.len())
}

fn check(world: &World, output: &PlanningOutput) -> Result<(), TestCaseError> {
    let mut held: BTreeMap<&NodeId, BTreeMap<FragmentId, u64>> = BTreeMap::new();
    for (number, route) in output.plan.routes().enumerate() {
        prop_assert_eq!(route.id.0 as usize, number);
        for hop in &route.hops {
            prop_assert!(world.snapshot.is_alive(&hop.node));
            let on_node = held.entry(&hop.node).or_default();
            on_node.insert(hop.fragment, hop.memory_bytes);
        }
        // What a hop consumes arrives: from the client, or from the hop before.
        let inputs = world.wishes[0].loaded.inputs();
        let mut arriving: Vec<String> = inputs.into_iter().map(|input| input.name).collect();
        for hop in &route.hops {
            let fragment = &output.fragments[&hop.fragment];
            for port in &fragment.inputs {
                prop_assert!(
                    arriving.contains(&port.name),
                    "{} does not arrive",
                    port.name
                );
            }
            for name in &hop.forward {
                let is_made = fragment.outputs.iter().any(|port| port.name == *name);
                prop_assert!(is_made || arriving.contains(name), "{} is not there", name);
            }
            arriving.clone_from(&hop.forward);
        }
        prop_assert_eq!(arriving, ["scores"]);
    }
    for (node, fragments) in held {
        let taken: u64 = fragments.values().sum();
        let has = world.snapshot.nodes[node].memory_bytes;
        prop_assert!(taken <= has, "{} holds {} of {}", node, taken, has);
    }
    for arm in arms(output) {
        let wanted = match arm.kind {
            ArmKind::Whole | ArmKind::Semantic => 1..=1,
            ArmKind::Chain => 2..=world.settings.max_parts,
            ArmKind::Exits | ArmKind::Compressed => 1..=world.settings.max_parts,
        };
        for route in &arm.branches {
            prop_assert!(wanted.contains(&route.hops.len()));
        }
    }
    // Three arms could be; each has a place or a reason.
    let reasons = output.unplaced.get("sample").map_or(0, Vec::len);
    prop_assert_eq!(arms(output).len() + reasons, 3);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_hold_together_on_any_fleet_and_after_any_loss(
        fleet in fleets(),
        lost in 0usize..NAMES.len(),
        measured in proptest::collection::vec((0usize..6, 0.0001..0.1f64, 1_000u64..400_000), 0..4),
    ) {
        let nodes: Vec<_> = NAMES
            .into_iter()
            .zip(&fleet)
            .map(|(name, &(speed, kilobytes, _, _))| (name, speed, kilobytes))
            .collect();
        let mut world = World::new(&nodes);
        for (name, &(_, _, delay, state)) in NAMES.into_iter().zip(&fleet) {
            let link = Link { delay: Duration::from_millis(delay), ..Link::LOCAL };
            world.snapshot.links.set(Place::Center, Place::Node(name.into()), link);
            if state == 0 {
                world.node(name).state = NodeState::Lost;
            }
        }
        let first = world.plan();
        check(&world, &first)?;
        // Some of what runs turns out to be otherwise.
        let running: Vec<_> = first.fragments.keys().copied().collect();
        for (which, seconds, memory) in measured {
            if let Some(&fragment) = running.get(which)
                && let Some(&(node, _, _)) = nodes.get(which)
            {
                world.observe(node, fragment, seconds, Some(memory));
            }
        }
        world.parent = first.plan;
        let second = world.plan();
        check(&world, &second)?;
        world.parent = second.plan;
        if let Some(node) = world.snapshot.nodes.get_mut(NAMES[lost]) {
            node.state = NodeState::Lost;
        }
        check(&world, &world.plan())?;
    }
}
