//! The shipped scenarios, and every way to get one wrong.

use super::*;

const EXITS: &str = include_str!("../../../tests/scenarios/exits.toml");

/// The example of the module's documentation, without its slashes.
fn example() -> String {
    let source = include_str!("../scenario.rs");
    let lines = source
        .lines()
        .skip_while(|line| !line.starts_with("//! ```toml"))
        .skip(1);
    let lines = lines.take_while(|line| !line.starts_with("//! ```"));
    lines
        .map(|line| line.trim_start_matches("//!").trim_start())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_documented_example_runs_and_repeats() {
    let scenario = Scenario::parse("example", &example()).unwrap();
    assert_eq!(scenario.world.workers.len(), 2);
    let mut outcome = Outcome::default();
    for number in 0..3 {
        let report = scenario.replicate(number);
        assert_eq!(report.trace, scenario.replicate(number).trace);
        outcome.add(&report);
    }
    let digits = &outcome.models["digits"];
    assert!((digits.throughput.mean() - 40.0).abs() < 3.0, "{digits:?}");
    assert!(digits.loss.mean() == 0.0 && digits.p95.mean() > digits.p50.mean());
    assert_eq!(outcome.runs(), 3);
    let shares: f64 = digits.arms.values().map(|arm| arm.share.mean()).sum();
    assert!((shares - 1.0).abs() < 1e-9);
    assert!(outcome.evaluation(0.95).latency.half_width.is_finite());
}

#[test]
fn copies_are_worlds_of_their_own() {
    let text = format!(
        "copies = 3\n{}",
        example().replace("duration-s = 30", "duration-s = 6")
    );
    let scenario = Scenario::parse("copies", &text).unwrap();
    assert_eq!(scenario.world.workers.len(), 6);
    assert_eq!(scenario.world.loads.len(), 3);
    let mut outcome = Outcome::default();
    outcome.add(&scenario.replicate(0));
    assert_eq!(outcome.models.len(), 1);
    assert!((outcome.models["digits"].throughput.mean() - 120.0).abs() < 40.0);
    assert_eq!(outcome.models["digits"].loss.mean(), 0.0);
}

#[test]
fn every_mistake_is_named() {
    let told = |from: &str, to: &str| {
        let text = example();
        assert!(text.contains(from), "{from}");
        match Scenario::parse("x", &text.replace(from, to)) {
            Ok(_) => panic!("{to} was taken"),
            Err(error) => error.to_string(),
        }
    };
    let cases = [
        ("gmacs = 2.0", "gmacs = -2.0", "gmacs"),
        ("gmacs = 2.0", "gmacs = 2.0\ncores = 0", "cores"),
        ("rate-mbit = 100", "rate-mbit = 0", "rate-mbit"),
        ("from = \"center\"", "from = \"nowhere\"", "names no node"),
        ("rate = 40", "", "one of rate"),
        ("rate = 40", "rate = nan", "rate"),
        (
            "crossing-kb = [3.1, 21.6, 0.04]",
            "crossing-kb = [3.1]",
            "need 3 sizes",
        ),
        ("model = \"digits\"", "model = \"letters\"", "letters"),
        ("name = \"two-context\"", "name = \"magic\"", "magic"),
        ("warm-up-s = 5", "warm-up-s = 50", "warm-up"),
        ("accuracy = 0.97", "accuracy = 97", "share"),
        (
            "sla-ms = [[30, 0.5], [150, 0.5]]",
            "sla-ms = []",
            "promised",
        ),
        ("count = 2", "count = 2000000", "more than"),
        ("duration-s = 30", "duration-m = 30", "duration-m"),
        ("[[load]]", "[[fault]]\nat-s = 1\n[[load]]", "one of crash"),
        (
            "[[load]]",
            "[[fault]]\nat-s = 1\ncrash = \"z\"\n[[load]]",
            "no node",
        ),
    ];
    for (from, to, expected) in cases {
        let told = told(from, to);
        assert!(told.contains(expected), "{told} / {expected}");
    }
}

#[test]
fn the_shipped_scenarios_can_be_used() {
    for (name, text) in [
        ("attic", include_str!("../../../tests/scenarios/attic.toml")),
        ("split", include_str!("../../../tests/scenarios/split.toml")),
        ("city", include_str!("../../../tests/scenarios/city.toml")),
        ("exits", EXITS),
    ] {
        if let Err(error) = Scenario::parse(name, text) {
            panic!("{error}");
        }
    }
}

#[test]
fn exits_and_codings_of_a_file_are_those_of_its_world() {
    let scenario = Scenario::parse("exits", EXITS).unwrap();
    let model = &scenario.planner.models[0];
    let variant = &model.variants[0];
    assert_eq!(
        (variant.exits.len(), variant.parts[0].codings.len()),
        (2, 2)
    );
    let exits = &scenario.world.exits[&(model.name.clone(), "base".into())];
    let records = &exits.records;
    for (exit, accuracy) in [0.72, 0.86, 0.95].into_iter().enumerate() {
        assert!((records.accuracy(exit) - accuracy).abs() < 0.03, "{exit}");
    }
    // Thresholds let the shares leave that the file says.
    let first = |input: &usize| exits.thresholds[0] <= records.confidence(*input, 0);
    let second = |input: &usize| exits.thresholds[1] <= records.confidence(*input, 1);
    let share = |count: usize| count as f64 / records.len() as f64;
    let at_first = share((0..records.len()).filter(first).count());
    let rest = (0..records.len()).filter(|input| !first(input));
    let at_second = share(rest.filter(second).count());
    assert!((at_first - 0.35).abs() < 1e-3 && (at_second - 0.3).abs() < 1e-3);
    let right = variant.exits_accuracy.unwrap();
    assert!(0.86 < right && right <= 0.96, "{right}");
    let control = exits.control.as_ref().unwrap();
    assert_eq!((&*control.policy, control.places), ("joint", 8));
}

#[test]
fn a_controller_of_a_file_loses_less_than_its_thresholds() {
    let short = EXITS
        .replace("duration-s = 180", "duration-s = 60")
        .replace("warm-up-s = 30", "warm-up-s = 20")
        .replace("phases = [[20, 20], [90, 6]]", "rate = 70");
    let run = |text: &str| {
        let scenario = Scenario::parse("exits", text).unwrap();
        let report = scenario.replicate(0);
        assert_eq!(report.trace, scenario.replicate(0).trace);
        (report.total().loss(), report.mean_accuracy())
    };
    let of_policy = |policy: &str| {
        let text = short.replace(
            "exit-policy = \"joint\"",
            &format!("exit-policy = \"{policy}\""),
        );
        run(&text)
    };
    let (joint, thresholds) = (of_policy("joint"), of_policy("threshold"));
    assert!(
        joint.0 < 0.05 && 0.1 < thresholds.0,
        "{joint:?} {thresholds:?}"
    );
    assert!(joint.1 < thresholds.1, "{joint:?} {thresholds:?}");
}

#[test]
fn every_mistake_about_exits_codings_and_strategies_is_named() {
    let cases = [
        (
            "strategy = \"exact\"",
            "strategy = \"luck\"",
            "known are exact",
        ),
        (
            "arms = [\"exits\"]",
            "arms = [\"exit\"]",
            "exits, compressed",
        ),
        ("\"joint\"", "\"hope\"", "known are threshold"),
        ("loss-target = 0.02", "loss-target = 2", "loss target of 2"),
        ("exit-places = 8", "exit-places = 100", "100 places"),
        (
            "exit-policy = \"joint\"",
            "audit-share = 0",
            "an exit-policy's",
        ),
        (
            "accuracy = 0.95",
            "semantic = true\naccuracy = 0.95",
            "not of a semantic",
        ),
        ("leave = 0.35", "leave = 1.5", "is no share"),
        ("leave = 0.35", "leave = 0.9", "more than all"),
        ("behind = 2, leave", "behind = 1, leave", "in order"),
        ("behind = 2, leave", "behind = 3, leave", "of 3 segments"),
        ("accuracy = 0.86", "accuracy = 1.0", "must lie in"),
        ("codec = \"u8\"", "codec = \"u9\"", "u9"),
        ("behind = 1, codec", "behind = 3, codec", "behind = 3"),
        ("kb = 45", "kb = -1", "codings: kb"),
        ("encode-mmacs = 0.4", "encode-macs = 0.4", "encode-macs"),
    ];
    for (from, to, expected) in cases {
        assert!(EXITS.contains(from), "{from}");
        let told = match Scenario::parse("x", &EXITS.replacen(from, to, 1)) {
            Ok(_) => panic!("{to} was taken"),
            Err(error) => error.to_string(),
        };
        assert!(told.contains(expected), "{told} / {expected}");
    }
}
