//! Early exits, compressed variants and codecs as the planner places them.

use std::path::Path;

use splitplace_codec::Codec;
use splitplace_onnx::{Limits, Package, Value, engine};
use splitplace_plan::Hop;

use super::*;

/// The rich package on these nodes, with links of that many bytes a second between them.
fn world(nodes: &[(&str, f64, u64)], rate: f64) -> World {
    let mut world = World::new(nodes);
    world.wishes = vec![Wish::new(Arc::new(rich()))];
    world.snapshot.links = Links::new(Link {
        rate_bytes_per_second: rate,
        delay: Duration::from_micros(100),
        jitter: Duration::ZERO,
    });
    world
}

fn arm<'a>(output: &'a PlanningOutput, name: &str) -> &'a ArmPlan {
    let arms = &output.plan.models["rich"].arms;
    let found = arms.iter().find(|arm| arm.name == name);
    found.unwrap_or_else(|| panic!("{name}: {:?}", output.unplaced))
}

/// Nodes too small for the whole network.
const SMALL: [(&str, f64, u64); 3] = [("a", 50.0, 130), ("b", 50.0, 130), ("c", 50.0, 130)];

#[test]
fn every_way_to_run_a_network_is_an_arm() {
    let output = world(&[("a", 50.0, 9_000), ("b", 50.0, 9_000)], 1e9).plan();
    let arms = &output.plan.models["rich"].arms;
    let names: Vec<_> = arms
        .iter()
        .map(|arm| (arm.name.as_str(), arm.kind, arm.accuracy))
        .collect();
    assert_eq!(
        names,
        [
            ("base/whole", ArmKind::Whole, Some(0.93)),
            ("base/chain", ArmKind::Chain, Some(0.93)),
            // What was measured for these thresholds.
            ("base/exits", ArmKind::Exits, Some(0.926)),
            ("student", ArmKind::Compressed, Some(0.90)),
        ]
    );
}

#[test]
fn what_lies_behind_an_exit_is_a_fragment_of_its_own_and_counts_with_who_gets_there() {
    let output = world(&[("a", 50.0, 9_000)], 1e9).plan();
    let exits = arm(&output, "base/exits");
    let hops = &exits.branches[0].hops;
    let told: Vec<_> = hops
        .iter()
        .map(|hop| {
            hop.exits
                .iter()
                .map(|exit| (exit.number, exit.threshold))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(told, [vec![(1, 0.8)], vec![(2, 0.9)], vec![]]);
    let reach: Vec<_> = hops
        .iter()
        .map(|hop| (hop.reach * 1e3).round() as u32)
        .collect();
    assert_eq!(reach, [1000, 600, 300]);
    assert!(exits.predicted < arm(&output, "base/whole").predicted);
    // Scores of exits go nowhere but to whoever answers.
    for hop in hops {
        assert!(
            hop.forward.iter().all(|name| !name.starts_with("exit")),
            "{:?}",
            hop.forward
        );
    }
}

#[test]
fn exits_and_the_end_give_what_the_whole_network_gives() {
    let output = world(&[("a", 50.0, 9_000)], 1e9).plan();
    let image: Vec<u8> = (0..64)
        .flat_map(|k| (k as f32 / 64.0).to_le_bytes())
        .collect();
    let image = Value {
        name: "image".into(),
        element: splitplace_graph::Element::F32,
        shape: vec![1, 1, 8, 8],
        chunks: vec![image.into()],
    };
    let run = |hop: &Hop, values: &[Value]| {
        let fragment = &output.fragments[&hop.fragment];
        let prepared = engine::prepare("a hop", fragment.onnx.clone(), &Limits::default()).unwrap();
        prepared.run(values).unwrap()
    };
    let whole = run(
        &arm(&output, "base/whole").branches[0].hops[0],
        std::slice::from_ref(&image),
    );
    let mut values = vec![image];
    let mut seen = Vec::new();
    for hop in &arm(&output, "base/exits").branches[0].hops {
        let made = run(hop, &values);
        seen.extend(
            made.iter()
                .filter(|value| value.name.starts_with("exit"))
                .cloned(),
        );
        values = made
            .into_iter()
            .filter(|value| hop.forward.contains(&value.name))
            .collect();
    }
    seen.extend(values);
    for value in seen {
        let same = whole.iter().find(|other| other.name == value.name).unwrap();
        assert_eq!(
            same.chunks.concat(),
            value.chunks.concat(),
            "{}",
            value.name
        );
    }
}

#[test]
fn a_slow_link_is_coded_and_a_fast_one_is_not() {
    let codecs = |rate: f64| -> Vec<(Codec, u64)> {
        let mut world = world(&SMALL, rate);
        world.wishes[0].arms = BTreeSet::from([ArmKind::Chain]);
        let output = world.plan();
        let hops = &arm(&output, "base/chain").branches[0].hops;
        assert!(hops.len() >= 2, "{hops:?}");
        hops.iter().map(|hop| (hop.codec, hop.bytes_in)).collect()
    };
    let slow = codecs(1e5);
    let u8_rans: Codec = "u8-rans".parse().unwrap();
    let (last, before) = slow.split_last().unwrap();
    assert!(
        before.iter().any(|(codec, _)| *codec == u8_rans),
        "{slow:?}"
    );
    // Four bits would be faster still, and cost too much.
    assert!(
        before
            .iter()
            .all(|(codec, _)| *codec == u8_rans || *codec == Codec::RAW)
    );
    assert_eq!(last.0, Codec::RAW, "nobody decodes on the way back");
    // The bytes are those that cross.
    assert!(
        slow.iter()
            .skip(1)
            .any(|(_, bytes)| *bytes == 8 * 64 * 4 / 8 || *bytes == 16 * 64 * 4 / 8)
    );
    let fast = codecs(1e10);
    assert!(
        fast.iter().all(|(codec, _)| *codec == Codec::RAW),
        "{fast:?}"
    );
}

#[test]
fn a_budget_of_nothing_codes_nothing_that_costs() {
    let mut world = world(&SMALL, 1e5);
    world.settings.codec_cost = 0.0;
    world.wishes[0].arms = BTreeSet::from([ArmKind::Chain]);
    let output = world.plan();
    let hops = &arm(&output, "base/chain").branches[0].hops;
    assert!(hops.iter().all(|hop| hop.codec == Codec::RAW));
}

#[test]
fn the_parents_places_are_kept_through_exits() {
    let mut world = world(&[("a", 50.0, 9_000), ("b", 50.0, 9_000)], 1e9);
    let first = world.plan();
    let before = arm(&first, "base/exits").clone();
    world.parent = first.plan;
    let second = world.plan();
    let after = arm(&second, "base/exits");
    let places = |arm: &ArmPlan| -> Vec<_> {
        let hops = arm.branches[0].hops.iter();
        hops.map(|hop| (hop.node.clone(), hop.fragment, hop.exits.clone()))
            .collect()
    };
    assert_eq!(places(&before), places(after));
}

/// The fastest way to run one variant of the shipped package on two nodes that are too small for a whole
/// network, with a slow link between them.
fn on_a_slow_link(variant: &str, kind: ArmKind) -> ArmPlan {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages/fashion-mnist");
    let mut package = Package::open(&folder, &Limits::default()).unwrap();
    package.variants.retain(|other| other.name == variant);
    let loaded = Loaded::open(package, &LoadSettings::default()).unwrap();
    let mut world = world(&[("a", 2_000.0, 2_000), ("b", 2_000.0, 3_600)], 1e5);
    world.wishes = vec![Wish::new(Arc::new(loaded))];
    world.wishes[0].arms = BTreeSet::from([kind]);
    let output = world.plan();
    let [arm] = &output.plan.models["fashion-mnist"].arms[..] else {
        panic!("{:?}", output.unplaced)
    };
    arm.clone()
}

#[test]
fn a_learned_bottleneck_is_cut_at_its_code() {
    let narrow = on_a_slow_link("bottleneck", ArmKind::Compressed);
    let hops = &narrow.branches[0].hops;
    assert_eq!(hops.len(), 2, "{hops:?}");
    assert_ne!(hops[0].codec, Codec::RAW);
    // 8 planes of 7 x 7 numbers, a byte each at most, and a head.
    assert!(hops[1].bytes_in <= 8 * 7 * 7 + 20, "{hops:?}");
    // Nothing else that crosses is as small, not even with codecs.
    let plain = on_a_slow_link("base", ArmKind::Chain);
    assert!(2 * hops[1].bytes_in < plain.branches[0].hops[1].bytes_in);
    assert!(narrow.predicted < plain.predicted);
}
