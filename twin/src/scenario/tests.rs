//! The shipped scenarios, and every way to get one wrong.

use super::*;

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
    ] {
        if let Err(error) = Scenario::parse(name, text) {
            panic!("{error}");
        }
    }
}
