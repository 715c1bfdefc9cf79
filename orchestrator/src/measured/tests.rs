//! Means that forget, and estimates that take the best there is.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use splitplace_fleet::NodeState;
use splitplace_onnx::tables::Machine;
use splitplace_plan::predict::{FEATURES, Features, Predictor};

use super::*;

fn node(name: &str, macs_per_second: f64) -> Node {
    Node {
        id: name.into(),
        state: NodeState::Alive,
        cores: 1,
        macs_per_second,
        memory_bytes: 1 << 30,
        labels: BTreeMap::new(),
        emulated: false,
    }
}

fn id(number: u8) -> FragmentId {
    FragmentId([number; 32])
}

/// So many convolutions of so many 10⁹ multiply-accumulates together.
fn does(gmac: f64, layers: f64) -> Features {
    let mut all = [0.0; FEATURES];
    all[..3].copy_from_slice(&[1.0, layers, gmac]);
    Features(all)
}

/// On a machine of 10¹⁰ multiply-accumulates a second convolutions reach four tenths of it, and a layer takes 3 µs beside.
fn costs() -> Costs {
    let mut coefficients = vec![0.0; FEATURES];
    coefficients[1..3].copy_from_slice(&[3e-6, 0.25]);
    Costs {
        machine: Machine {
            engine: "an engine".into(),
            cores: 1,
            macs_per_second: 1e10,
        },
        samples: 100,
        predictor: Predictor {
            coefficients,
            relative_variance: 0.04,
        },
    }
}

/// Four segments of 1, 2, 3 and 4 million multiply-accumulates; fragments 1 to 4 alone, 9 together.
fn part() -> PartFacts {
    let atoms = (1..=4u8).map(|number| Atom {
        fragment: Some(id(number)),
        features: does(f64::from(number) * 1e-3, 2.0),
        parameter_bytes: u64::from(number) * 1_000,
        activation_bytes: 10_000 * u64::from(5 - number),
    });
    PartFacts {
        atoms: atoms.collect(),
        whole: id(9),
    }
}

fn runs(mean: f64) -> Option<ServiceTime> {
    ServiceTime::new(10, mean, mean * mean / 100.0)
}

fn new() -> Measured {
    Measured::new(MeasuredSettings::default(), costs())
}

fn assert_close(found: f64, wanted: f64) {
    assert!(
        (found - wanted).abs() <= 1e-6 * wanted.abs().max(1e-9),
        "{found} is not {wanted}"
    );
}

#[test]
fn impossible_times_are_not_taken() {
    for (count, mean, variance) in [
        (0, 1.0, 1.0),
        (1, -1.0, 0.0),
        (1, f64::NAN, 0.0),
        (1, 1.0, f64::INFINITY),
        (1, 1e9, 0.0),
        (1, 1.0, -1e-9),
    ] {
        assert_eq!(ServiceTime::new(count, mean, variance), None);
    }
}

#[test]
fn batches_combine_like_the_runs_themselves_and_old_runs_fade() {
    let settings = MeasuredSettings {
        half_life_runs: 10.0,
        ..MeasuredSettings::default()
    };
    let (a, mut measured) = (node("a", 1e9), Measured::new(settings, costs()));
    measured.observe(
        &a,
        id(1),
        Ran::Served,
        ServiceTime::new(1_000, 1.0, 0.0),
        None,
    );
    // After as many further runs as the half life, old and new weigh the same.
    measured.observe(&a, id(1), Ran::Served, ServiceTime::new(10, 3.0, 0.0), None);
    let record = &measured.records()[0];
    assert_close(record.mean_seconds, 2.0);
    // Half at 1, half at 3: the variance is that of a fair coin between the two.
    assert_close(record.variance_seconds2, 1.0);
    measured.observe(
        &a,
        id(1),
        Ran::Served,
        ServiceTime::new(1_000, 3.0, 0.25),
        None,
    );
    let record = &measured.records()[0];
    assert_close(record.mean_seconds, 3.0);
    assert_close(record.variance_seconds2, 0.25);
}

#[test]
fn what_a_worker_remembers_counts_where_nothing_else_is_known() {
    let (a, mut measured) = (node("a", 1e9), new());
    let kept = ServiceTime::new(500, 0.03, 0.0).unwrap();
    measured.recall(&a, id(1), kept);
    measured.observe(&a, id(1), Ran::Alone, runs(0.01), None);
    // Requests took longer than the runs at loading, as ever.
    let seconds = |measured: &Measured| measured.service(id(1), &a.id).unwrap().0;
    assert!((seconds(&measured) - 0.03).abs() < 1e-3);
    // What was measured since is not overruled.
    let before = seconds(&measured);
    measured.recall(&a, id(1), ServiceTime::new(500, 9.0, 0.0).unwrap());
    assert_eq!(seconds(&measured), before);
}

#[test]
fn what_was_only_measured_is_expected_at_the_pace_of_requests() {
    let (a, b) = (node("a", 1e9), node("b", 1e9));
    let (part, mut measured) = (part(), new());
    for number in 1..=4u8 {
        measured.observe(&a, id(number), Ran::Alone, runs(0.01), None);
    }
    let ask = |measured: &Measured, node: &Node, number: usize| {
        let fragment = Some(id(u8::try_from(number).unwrap() + 1));
        let estimate = measured
            .on(&part, node, &[])
            .service(number..number + 1, fragment);
        estimate.service.as_secs_f64()
    };
    // One odd run says little.
    measured.observe(&a, id(1), Ran::Served, ServiceTime::new(1, 0.1, 0.0), None);
    assert!(
        (0.01..0.05).contains(&ask(&measured, &a, 0)),
        "{}",
        ask(&measured, &a, 0)
    );
    // Many say how it is: requests take twice what was measured.
    measured.observe(
        &a,
        id(1),
        Ran::Served,
        ServiceTime::new(5_000, 0.02, 0.0),
        None,
    );
    assert!((ask(&measured, &a, 0) / 0.02 - 1.0).abs() < 0.02);
    assert!(
        (ask(&measured, &a, 1) / 0.02 - 1.0).abs() < 0.05,
        "{}",
        ask(&measured, &a, 1)
    );
    // Of another node nothing is known but what was measured.
    assert_close(ask(&measured, &b, 0), 0.01);
    assert_close(ask(&measured, &b, 1), 0.01);
    // And so it is after a restart.
    let again = Measured::restore(MeasuredSettings::default(), costs(), &measured.records());
    assert!((ask(&again, &a, 1) / ask(&measured, &a, 1) - 1.0).abs() < 0.05);
    assert_eq!(again.records(), measured.records());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Without forgetting, any division into batches gives the moments of all runs together.
    #[test]
    fn moments_do_not_depend_on_the_batches(
        batches in proptest::collection::vec(proptest::collection::vec(0.001..10.0f64, 1..8), 1..8)
    ) {
        let settings = MeasuredSettings { half_life_runs: 1e12, ..MeasuredSettings::default() };
        let mut measured = Measured::new(settings, costs());
        let moments = |runs: &[f64]| {
            let count = runs.len() as f64;
            let mean = runs.iter().sum::<f64>() / count;
            let variance = runs.iter().map(|run| (run - mean).powi(2)).sum::<f64>() / count;
            (mean, variance)
        };
        for batch in &batches {
            let (mean, variance) = moments(batch);
            let service = ServiceTime::new(batch.len() as u64, mean, variance);
            measured.observe(&node("a", 1e9), id(1), Ran::Served, service, None);
        }
        let (mean, variance) = moments(&batches.concat());
        let record = &measured.records()[0];
        prop_assert!((record.mean_seconds - mean).abs() < 1e-3 * mean);
        prop_assert!((record.variance_seconds2 - variance).abs() < 1e-3 * variance.max(1e-3));
    }
}

#[test]
fn the_best_knowledge_is_used() {
    let (fast, slow) = (node("fast", 2e9), node("slow", 1e9));
    let (part, mut measured) = (part(), new());
    let ask = |measured: &Measured, node: &Node, range: Range<usize>, fragment| {
        let estimate = measured.on(&part, node, &[]).service(range, fragment);
        (estimate.service.as_secs_f64(), estimate.source)
    };
    use std::ops::Range;

    // Nothing ran: 3 million MACs at 40 % of 1e9 a second, and 4 layers at a tenth of the reference
    // speed.
    let (seconds, source) = ask(&measured, &slow, 0..2, Some(id(50)));
    assert_eq!(source, Source::Computed);
    assert_close(seconds, 3e6 / 4e8 + 4.0 * 30e-6);
    let (twice, _) = ask(&measured, &fast, 0..2, Some(id(50)));
    assert_close(twice, seconds / 2.0);

    // Segments ran on one node: summed there, scaled elsewhere.
    for number in 1..=4u8 {
        measured.observe(
            &fast,
            id(number),
            Ran::Served,
            runs(0.001 * f64::from(number)),
            None,
        );
    }
    let (seconds, source) = ask(&measured, &fast, 1..3, Some(id(50)));
    assert_eq!(source, Source::Profiled);
    assert_close(seconds, 0.005);
    assert_close(ask(&measured, &slow, 1..3, None).0, 0.010);

    // The whole ran beside them, 20 % faster than its pieces: so will other ranges.
    measured.observe(&fast, id(9), Ran::Served, runs(0.008), None);
    assert_close(ask(&measured, &fast, 1..3, None).0, 0.004);
    assert_close(ask(&measured, &fast, 1..2, Some(id(2))).0, 0.002);

    // The fragment itself ran elsewhere, then here.
    measured.observe(&fast, id(50), Ran::Served, runs(0.003), None);
    let (seconds, source) = ask(&measured, &slow, 1..3, Some(id(50)));
    assert_eq!(source, Source::Scaled);
    assert_close(seconds, 0.006);
    measured.observe(&slow, id(50), Ran::Served, runs(0.020), None);
    let (seconds, source) = ask(&measured, &slow, 1..3, Some(id(50)));
    assert_eq!(source, Source::Observed);
    assert_close(seconds, 0.020);
    let spread = measured
        .on(&part, &slow, &[])
        .service(1..3, Some(id(50)))
        .deviation;
    assert_close(spread.as_secs_f64(), 0.002);
}

#[test]
fn what_runs_on_a_node_says_how_that_node_runs_the_rest() {
    let (fast, slow) = (node("fast", 2e9), node("slow", 1e9));
    let (part, mut measured) = (part(), new());
    for number in 1..=4u8 {
        measured.observe(&fast, id(number), Ran::Served, runs(0.001), None);
    }
    // Segments 0 and 1 together take three times what they should on the slow node: it is busy with
    // something else.
    measured.observe(&slow, id(60), Ran::Served, runs(0.012), None);
    let ran = [(0..2, id(60))];
    let on = measured.on(&part, &slow, &ran);
    assert_close(on.service(2..4, None).service.as_secs_f64(), 0.012);
    assert_close(on.share_of(2), 0.006);
    let elsewhere = measured.on(&part, &fast, &ran);
    assert_close(elsewhere.service(2..4, None).service.as_secs_f64(), 0.002);
}

#[test]
fn hope_is_for_what_has_hardly_run_and_fades_with_every_run() {
    let node = node("attic", 1e9);
    let (part, mut measured) = (part(), new());
    for number in 1..=4u8 {
        measured.observe(&node, id(number), Ran::Alone, runs(0.001), None);
    }
    let cut = [(0..2, id(60)), (1..4, id(61))];
    let ask = |measured: &Measured, segments: std::ops::Range<usize>, fragment| {
        let on = measured.on(&part, &node, &cut);
        on.service(segments, fragment).service.as_secs_f64()
    };
    let hoped = |measured: &Measured, segments: std::ops::Range<usize>, fragment| {
        let hopeful = measured.clone().hopeful();
        ask(&hopeful, segments.clone(), fragment) / ask(measured, segments, fragment)
    };
    // It never ran: half as long again would be nothing odd, nor would the reverse.
    assert_close(hoped(&measured, 0..2, Some(id(60))), 1.0 / 1.5);
    let mut before = 0.0;
    for count in [5, 20, 80, 320] {
        let service = ServiceTime::new(count, 0.002, 0.0);
        measured.observe(&node, id(60), Ran::Served, service, None);
        let (own, other) = (
            hoped(&measured, 0..2, Some(id(60))),
            hoped(&measured, 1..4, Some(id(61))),
        );
        assert!(before < own && own < 1.0, "{before} {own}");
        // What it took there says as much of its neighbours.
        assert_close(own, other);
        before = own;
    }
    assert!(0.9 < before, "{before}");
}

#[test]
fn what_hardly_takes_any_time_says_little_of_how_a_node_fares_with_the_rest() {
    let node = node("attic", 1e9);
    let mut measured = new();
    let run = |measured: &mut Measured, number: u8, ran: Ran, seconds: f64| {
        let service = ServiceTime::new(1_000, seconds, 0.0);
        measured.observe(&node, id(number), ran, service, None);
    };
    run(&mut measured, 1, Ran::Alone, 70e-6);
    run(&mut measured, 1, Ran::Served, 35e-6);
    assert!(
        (0.9..1.0).contains(&measured.pace(&node.id)),
        "{}",
        measured.pace(&node.id)
    );
    run(&mut measured, 2, Ran::Alone, 0.02);
    run(&mut measured, 2, Ran::Served, 0.04);
    assert!(
        (1.8..2.0).contains(&measured.pace(&node.id)),
        "{}",
        measured.pace(&node.id)
    );
}

/// What ten fragments do, and their names.
fn described() -> Vec<(FragmentId, Features)> {
    let one = |number: u8| (id(number), does(f64::from(number) * 1e-3, 2.0));
    (1..=10).map(one).collect()
}

/// What a fragment takes by the coefficients alone.
fn by_the_book(features: &Features, node: &Node) -> f64 {
    costs().predictor.predict(features).mean * 1e10 / node.macs_per_second
}

#[test]
fn a_node_slower_than_it_states_is_expected_to_be_so_with_what_it_never_ran() {
    let (honest, boaster, new_one) = (node("honest", 1e9), node("boaster", 1e9), node("new", 5e8));
    let (described, mut measured) = (described(), new());
    let take =
        |measured: &mut Measured, node: &Node, numbers: std::ops::Range<usize>, times: f64| {
            for (fragment, features) in &described[numbers] {
                let seconds = times * by_the_book(features, node);
                measured.observe(node, *fragment, Ran::Alone, runs(seconds), None);
            }
        };
    take(&mut measured, &honest, 0..8, 1.0);
    take(&mut measured, &boaster, 0..6, 2.0);
    let part = PartFacts {
        atoms: described
            .iter()
            .map(|(fragment, features)| Atom {
                fragment: Some(*fragment),
                features: *features,
                parameter_bytes: 0,
                activation_bytes: 0,
            })
            .collect(),
        whole: id(99),
    };
    let ask = |measured: &Measured, node: &Node, number: usize| {
        let estimate = measured
            .on(&part, node, &[])
            .service(number..number + 1, part.atoms[number].fragment);
        let book = by_the_book(&described[number].1, node);
        (estimate.service.as_secs_f64() / book, estimate.source)
    };
    // Before anything is learned a node is what it states.
    assert_close(ask(&measured, &boaster, 7).0, 1.0);
    measured.learn(&described);
    let (times, source) = ask(&measured, &boaster, 7);
    assert_eq!(source, Source::Scaled);
    assert!((1.7..=2.05).contains(&times), "{times}");
    // What ran nowhere too.
    let ((slow, source), (fast, _)) = (ask(&measured, &boaster, 9), ask(&measured, &honest, 9));
    assert_eq!(source, Source::Computed);
    assert!((1.7..=2.05).contains(&(slow / fast)), "{slow} {fast}");
    // Of a node that ran nothing only the speed is known: it is between the two.
    let (times, _) = ask(&measured, &new_one, 9);
    assert!(fast < times && times < slow, "{fast} {times} {slow}");
    let wide = measured.on(&part, &new_one, &[]).service(9..10, None);
    let narrow = measured.on(&part, &honest, &[]).service(9..10, None);
    let relative = |one: Estimate| one.deviation.as_secs_f64() / one.service.as_secs_f64();
    assert!(relative(wide) > relative(narrow));
    // What a node was seen to take is not touched.
    assert_close(ask(&measured, &boaster, 3).0, 2.0);
    // The same table teaches the same.
    let records = measured.records();
    let mut again = Measured::restore(MeasuredSettings::default(), costs(), &records);
    again.learn(&described);
    assert_close(ask(&again, &boaster, 9).0, slow);
}

#[test]
fn a_fleet_that_takes_longer_than_the_book_says_moves_the_book() {
    let (a, mut measured) = (node("a", 1e9), new());
    let all: Vec<(FragmentId, Features)> = (1..=200u8)
        .map(|number| {
            (
                id(number),
                does(f64::from(number) * 1e-4, f64::from(number % 7 + 1)),
            )
        })
        .collect();
    let part = PartFacts {
        atoms: vec![Atom {
            fragment: None,
            features: does(0.01, 3.0),
            parameter_bytes: 0,
            activation_bytes: 0,
        }],
        whole: id(0),
    };
    for (count, most) in [(1, 1.0), (10, 0.3), (200, 0.05)] {
        for (fragment, features) in &all[..count] {
            let seconds = 3.0 * by_the_book(features, &a);
            measured.observe(&a, *fragment, Ran::Alone, runs(seconds), None);
        }
        measured.learn(&all);
        let on = measured.on(&part, &a, &[]);
        let times =
            on.service(0..1, None).service.as_secs_f64() / by_the_book(&does(0.01, 3.0), &a);
        assert!((times - 3.0).abs() < most, "{count}: {times}");
    }
}

#[test]
fn a_part_measured_in_half_is_computed_where_it_was_not() {
    let (a, part, mut measured) = (node("a", 1e9), part(), new());
    measured.observe(&a, id(1), Ran::Served, runs(0.5), None);
    let on = measured.on(&part, &a, &[]);
    assert_eq!(on.service(0..1, None).source, Source::Profiled);
    let both = on.service(0..2, None);
    assert_eq!(both.source, Source::Computed);
    assert!(both.service > Duration::from_millis(500), "{both:?}");
}

#[test]
fn among_other_nodes_the_one_of_nearest_speed_is_scaled_from() {
    let (part, mut measured) = (part(), new());
    measured.observe(&node("near", 1.1e9), id(50), Ran::Served, runs(1.1), None);
    measured.observe(&node("far", 1e10), id(50), Ran::Served, runs(7.0), None);
    let here = node("here", 1e9);
    let seconds = measured
        .on(&part, &here, &[])
        .service(0..2, Some(id(50)))
        .service;
    assert_close(seconds.as_secs_f64(), 1.21);
}

#[test]
fn a_node_that_comes_back_slower_has_its_old_runs_scaled() {
    let (part, mut measured) = (part(), new());
    measured.observe(&node("a", 2e9), id(50), Ran::Served, runs(1.0), None);
    let slower = node("a", 1e9);
    let seconds = measured
        .on(&part, &slower, &[])
        .service(0..2, Some(id(50)))
        .service;
    assert_close(seconds.as_secs_f64(), 2.0);
    measured.observe(&slower, id(50), Ran::Served, None, Some(7));
    assert_close(measured.records()[0].mean_seconds, 2.0);
}

#[test]
fn a_node_without_speed_is_slow_for_ever_but_does_not_panic() {
    let (part, measured) = (part(), new());
    for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let node = node("a", speed);
        let estimate = measured.on(&part, &node, &[]).service(0..4, None);
        assert!(
            estimate.service <= Duration::from_secs(86_401),
            "{estimate:?}"
        );
        if speed.is_nan() || speed <= 0.0 {
            assert!(
                estimate.service > Duration::from_secs(3_600),
                "{speed}: {estimate:?}"
            );
        }
    }
}

#[test]
fn memory_is_measured_here_or_the_most_elsewhere_or_computed() {
    let (a, b, part) = (node("a", 1e9), node("b", 1e9), part());
    let mut measured = new();
    // Weights of 5000 bytes and a quarter, the largest activations of the two segments twice, the base,
    // and a tenth more, because it was not measured.
    let computed = (6_250 + 2 * 30_000 + (128 << 10)) * 11 / 10;
    assert_eq!(
        measured.on(&part, &a, &[]).memory(1..3, Some(id(50))),
        (computed, Source::Computed)
    );
    // The whole took half of what would be computed for it, and so will what is cut from it.
    let whole = 12_500 + 2 * 40_000 + (128 << 10);
    measured.observe(&b, id(9), Ran::Served, None, Some(whole / 2));
    let (bytes, source) = measured.on(&part, &a, &[]).memory(1..3, Some(id(50)));
    assert_eq!(
        (bytes.abs_diff(computed / 2) <= 1, source),
        (true, Source::Profiled)
    );
    let on = measured.on(&part, &a, &[]);
    let ((first, live), (second, less)) = (on.memory_of(1), on.memory_of(2));
    assert!(
        (first + second + live.max(less)).abs_diff(bytes) <= 4,
        "{first} {second} {live}"
    );
    measured.observe(&b, id(50), Ran::Served, None, Some(70_000));
    measured.observe(&node("c", 1e9), id(50), Ran::Served, None, Some(90_000));
    assert_eq!(
        measured.on(&part, &a, &[]).memory(1..3, Some(id(50))),
        (90_000, Source::Scaled)
    );
    assert_eq!(
        measured.on(&part, &b, &[]).memory(1..3, Some(id(50))),
        (70_000, Source::Observed)
    );
    // Memory alone says nothing about time.
    assert!(!measured.knows(&id(50)));
    let service = measured.on(&part, &b, &[]).service(1..3, Some(id(50)));
    assert_eq!(service.source, Source::Computed);
}

#[test]
fn what_changed_is_told_once_and_what_is_restored_is_the_same() {
    let (a, b) = (node("a", 1e9), node("b", 2e9));
    let mut measured = new();
    measured.observe(&a, id(1), Ran::Served, runs(0.1), Some(5));
    measured.observe(&b, id(2), Ran::Served, runs(0.2), None);
    measured.observe(&b, id(2), Ran::Served, None, None);
    assert_eq!(measured.take_changed(), measured.records());
    assert_eq!(measured.take_changed(), []);
    measured.observe(&a, id(1), Ran::Served, runs(0.3), None);
    assert_eq!(measured.take_changed().len(), 1);
    let restored = Measured::restore(*measured.settings(), costs(), &measured.records());
    assert_eq!(restored.records(), measured.records());
    assert!(restored.knows(&id(1)) && !restored.knows(&id(7)));
}

#[test]
fn records_are_bounded_and_the_one_untouched_for_longest_goes() {
    let settings = MeasuredSettings {
        records: 2,
        ..MeasuredSettings::default()
    };
    let (a, mut measured) = (node("a", 1e9), Measured::new(settings, costs()));
    for number in [1, 2, 1, 3] {
        measured.observe(&a, id(number), Ran::Served, runs(0.1), None);
    }
    assert_eq!(measured.len(), 2);
    assert!(measured.knows(&id(1)) && !measured.knows(&id(2)) && measured.knows(&id(3)));
    // What is gone is not written either.
    assert_eq!(measured.take_changed().len(), 2);
}
