//! Controllers that learn, and what keeps them true: regret, audits, drift, when to solve again.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use splitplace_policy::exit::{
    AdaEe, AdaEeSettings, At, ExitOutcome, ExitPolicy, Intent, Nested, NestedSettings, Records,
    audit::{self, Calibration},
    draw::exponential,
    may_stop,
    observe::{Basis, Moved, RateWindow, StageTimes, Tolerance, needs_resolve},
    synthetic::Synthetic,
};
use splitplace_queueing::{Arrivals, Service};

fn two_exits() -> (Records, splitplace_policy::exit::ExitTable) {
    let network = Synthetic {
        exits: 2,
        inputs: 3000,
        ..Synthetic::default()
    };
    (network.records().unwrap(), network.table(10).unwrap())
}

/// Gain of going on over the first confidence, less the overhead.
fn gain(records: &Records, input: usize, overhead: f64) -> f64 {
    (records.confidence(input, 1) - records.confidence(input, 0)).max(0.0) - overhead
}

/// Mean reward of the best fixed threshold of AdaEE's grid.
fn best_fixed(records: &Records, overhead: f64, arms: usize) -> f64 {
    let mean = |threshold: f64| -> f64 {
        let went = (0..records.len()).filter(|&i| records.confidence(i, 0) < threshold);
        went.map(|i| gain(records, i, overhead)).sum::<f64>() / records.len() as f64
    };
    let arms = 0..arms;
    arms.clone()
        .map(|a| mean(a as f64 / (arms.len() - 1) as f64))
        .fold(f64::MIN, f64::max)
}

/// Regret after so many requests against the best fixed threshold; not against a per-input oracle, which
/// no threshold can follow.
fn regret(policy: &mut dyn ExitPolicy, records: &Records, overhead: f64, requests: usize) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let best = best_fixed(records, overhead, 21);
    let mut got = 0.0;
    for _ in 0..requests {
        let input = usize::try_from(rng.next_u64() % records.len() as u64).unwrap();
        let intent = policy.begin(1, &mut rng);
        let confidence = records.confidence(input, 0);
        let at = At {
            exit: 0,
            confidence,
            present: 1,
            intent,
        };
        let mut confidences = vec![confidence];
        if !policy.choose(&at, &mut rng).stop {
            confidences.push(records.confidence(input, 1));
            got += gain(records, input, overhead);
        }
        policy.learn(&ExitOutcome {
            intent,
            present: 1,
            confidences: &confidences,
            audited: false,
        });
    }
    best * requests as f64 - got
}

#[test]
fn nested_feedback_regrets_less_than_a_bandit_over_thresholds() {
    let (records, table) = two_exits();
    for overhead in [0.05, 0.15, 0.3] {
        let ucb = AdaEeSettings {
            overhead,
            ..AdaEeSettings::default()
        };
        let wide = regret(&mut AdaEe::new(&table, ucb), &records, overhead, 10_000);
        let nested = NestedSettings {
            overhead,
            ..NestedSettings::default()
        };
        let nested = regret(&mut Nested::new(&table, nested), &records, overhead, 10_000);
        assert!(
            nested < 0.5 * wide,
            "overhead {overhead}: {nested} and {wide}"
        );
        assert!(nested < 100.0, "{nested}");
    }
}

#[test]
fn ada_ee_finds_the_best_threshold_in_the_end() {
    let (records, table) = two_exits();
    let settings = AdaEeSettings {
        overhead: 0.15,
        width: 0.1,
        arms: 21,
    };
    let mut bandit = AdaEe::new(&table, settings);
    let early = regret(&mut bandit, &records, 0.15, 5_000);
    let late = regret(&mut bandit, &records, 0.15, 5_000);
    assert!(late < early, "{late} after {early}");
    let mean = |threshold: f64| -> f64 {
        let went = (0..records.len()).filter(|&i| records.confidence(i, 0) < threshold);
        went.map(|i| gain(&records, i, 0.15)).sum::<f64>() / records.len() as f64
    };
    assert!(mean(bandit.best()) > best_fixed(&records, 0.15, 21) - 0.005);
}

#[test]
fn an_audited_share_keeps_a_blind_bandit_seeing() {
    let (_, table) = two_exits();
    let settings = NestedSettings {
        overhead: 0.2,
        half_life: 200.0,
        ..NestedSettings::default()
    };
    let mut bandit = Nested::new(&table, settings);
    let see = |bandit: &mut Nested, confidences: &[f64]| {
        bandit.learn(&ExitOutcome {
            intent: Intent::default(),
            present: 1,
            confidences,
            audited: confidences.len() == 2,
        });
    };
    // Going on gains nothing, until the world changes; without audits it would never be seen.
    (0..2000).for_each(|_| see(&mut bandit, &[0.5, 0.5]));
    assert!(bandit.advantage(0, 0.5) <= 0.0);
    (0..3000).for_each(|i| see(&mut bandit, if i % 10 == 0 { &[0.5, 0.95] } else { &[0.5] }));
    assert!(bandit.advantage(0, 0.5) > 0.0);
}

#[test]
fn true_calibration_is_quiet_and_a_shift_is_loud() {
    let (records, table) = two_exits();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut alarms = 0;
    for _ in 0..20 {
        let mut watch = Calibration::new(2);
        for _ in 0..500 {
            let i = usize::try_from(rng.next_u64() % records.len() as u64).unwrap();
            let exits = [0, 1].map(|e| (records.confidence(i, e), records.is_correct(i, e)));
            watch.saw(&table, &exits);
        }
        alarms += usize::from(watch.drift().is_some());
        assert!(watch.gaps().iter().all(|gap| gap.abs() < 0.1));
    }
    assert!(alarms <= 1, "{alarms} false alarms in 10 000 audits");
    // Confidence stays, truth becomes a coin: the alarm names the exit within a hundred audits.
    let mut watch = Calibration::new(2);
    let mut seen = 0;
    while watch.drift().is_none() {
        let i = usize::try_from(rng.next_u64() % records.len() as u64).unwrap();
        let coin = rng.next_u64() % 2 == 0;
        let exits = [
            (records.confidence(i, 0), records.is_correct(i, 0)),
            (records.confidence(i, 1), coin),
        ];
        watch.saw(&table, &exits);
        seen += 1;
        assert!(seen < 100);
    }
    let drift = watch.drift().unwrap();
    assert_eq!(drift.exit, 1);
    assert!(drift.promised > drift.came_true);
    watch.reset();
    assert!(watch.drift().is_none() && watch.count() == 0.0);
}

#[test]
fn a_few_misses_of_an_exit_that_is_nearly_always_right_are_no_drift() {
    // One exit, sure of everything, right in 98 of a hundred.
    let mut records = Records::new(2).unwrap();
    (0..3000).for_each(|i| records.push(&[(0.99, i % 50 != 0), (0.99, true)]));
    let ones = vec![Service::constant(1.0).unwrap(); 2];
    let table = records.table(ones, 4).unwrap();
    let audits = |right: f64, most: u32, rng: &mut ChaCha8Rng| {
        let mut watch = Calibration::new(1);
        let mut count = 0;
        while watch.drift().is_none() && count < most {
            let is_right = rng.random::<f64>() < right;
            watch.saw(&table, &[(0.99, is_right)]);
            count += 1;
        }
        count
    };
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let quiet: u32 = (0..30).map(|_| audits(0.98, 5_000, &mut rng)).sum();
    assert!(quiet > 30 * 4_000, "{quiet}");
    let mut found: Vec<u32> = (0..30).map(|_| audits(0.8, 5_000, &mut rng)).collect();
    found.sort_unstable();
    assert!((10..150).contains(&found[15]), "{found:?}");
}

#[test]
fn a_share_is_audited() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let audits = (0..20_000)
        .filter(|_| audit::audited(0.02, &mut rng))
        .count();
    assert!((320..480).contains(&audits), "{audits}");
    assert!(!audit::audited(0.0, &mut rng));
    assert!((audit::at_least(90, 100, 1.96) - 0.8256).abs() < 1e-3);
    assert_eq!(audit::at_least(0, 0, 1.96), 0.0);
}

#[test]
fn haste_has_a_bound() {
    let (_, table) = two_exits();
    let sure = table.bins(0).correct.iter().copied().fold(0.0, f64::max);
    assert!(may_stop(&table, 0, 1.0, sure));
    assert!(!may_stop(&table, 0, 0.0, sure));
    assert!(may_stop(&table, 1, 0.0, 1.0));
}

#[test]
fn rates_are_followed_and_small_changes_left_alone() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut window = RateWindow::new(5.0);
    assert_eq!(window.rate(0.0), None);
    let mut now = 0.0;
    let mut run = |window: &mut RateWindow, rate: f64, until: f64| {
        while now < until {
            now += exponential(1.0 / rate, &mut rng);
            window.arrived(now);
        }
        window.rate(now).unwrap()
    };
    let (rate, error) = run(&mut window, 20.0, 60.0);
    assert!((rate / 20.0 - 1.0).abs() < 4.0 * error, "{rate} ± {error}");
    // Three times the rate is seen in full after the window's length.
    let (rate, error) = run(&mut window, 60.0, 65.0);
    assert!((rate / 60.0 - 1.0).abs() < 4.0 * error, "{rate} ± {error}");
    // A lull lowers it although nothing arrives.
    let (quiet, _) = window.rate(now + 4.0).unwrap();
    assert!(quiet < 0.5 * rate);
    assert_eq!(window.rate(now + 100.0), None);

    let (_, table) = two_exits();
    let basis = Basis::of(&table, &Arrivals::poisson(10.0).unwrap());
    let with = |change: &dyn Fn(&mut Basis)| {
        let mut now = basis.clone();
        change(&mut now);
        now
    };
    let tolerance = Tolerance::default();
    let moved = |now: &Basis, error: f64| needs_resolve(&basis, now, error, &tolerance);
    assert_eq!(moved(&basis, 0.0), None);
    assert_eq!(moved(&with(&|b| b.rate = 10.9), 0.0), None);
    assert_eq!(moved(&with(&|b| b.rate = 11.1), 0.0), Some(Moved::Rate));
    // Within two standard errors it may be chance.
    assert_eq!(moved(&with(&|b| b.rate = 11.1), 0.1), None);
    assert_eq!(
        moved(&with(&|b| b.stages[1] *= 1.2), 0.0),
        Some(Moved::Service)
    );
    let shifted = with(&|b| b.accuracy[1] -= 0.03);
    assert_eq!(moved(&shifted, 0.0), Some(Moved::Confidence { exit: 1 }));
}

#[test]
fn stage_times_become_a_law() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut times = StageTimes::new(2000.0);
    (0..20_000).for_each(|_| times.took(exponential(0.3, &mut rng)));
    times.took(f64::NAN);
    let service = times.service().unwrap();
    assert!((service.mean() - 0.3).abs() < 0.03, "{}", service.mean());
    assert!((service.scv() - 1.0).abs() < 0.2, "{}", service.scv());
}
