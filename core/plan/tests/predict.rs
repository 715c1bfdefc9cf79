//! Times of segments that were never run: planted coefficients, what can be no better, a node that is followed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use splitplace_plan::predict::{FEATURES, Features, FitError, Kind, PER_KIND, Predictor, Sample};

/// Features that look like layers', by a simple generator.
fn drawn(count: usize) -> Vec<Features> {
    let mut state = 7u64;
    let mut unit = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        f64::from(u32::try_from(state >> 33).unwrap_or(0)) / f64::from(1u32 << 31)
    };
    let one = |unit: &mut dyn FnMut() -> f64| {
        let mut all = [0.0; FEATURES];
        all[0] = 1.0;
        for kind in 0..3 {
            for feature in 0..PER_KIND {
                all[1 + PER_KIND * kind + feature] = unit().powi(3) * 2.0;
            }
        }
        Features(all)
    };
    (0..count).map(|_| one(&mut unit)).collect()
}

#[test]
fn planted_coefficients_are_found_again() {
    let mut planted = vec![0.0; FEATURES];
    for (at, value) in [(0, 2e-5), (2, 0.1), (3, 3e-4), (6, 0.7), (11, 1e-3)] {
        planted[at] = value;
    }
    let sample = |features: Features| Sample {
        seconds: features.dot(&planted),
        features,
    };
    let samples: Vec<Sample> = drawn(200).into_iter().map(sample).collect();
    let fitted = Predictor::fit(&samples).unwrap();
    assert!(
        fitted.relative_variance < 1e-6,
        "{}",
        fitted.relative_variance
    );
    for sample in &samples {
        let guess = fitted.predict(&sample.features).mean;
        assert!((guess / sample.seconds - 1.0).abs() < 1e-2);
    }
}

#[test]
fn nothing_is_negative_and_no_step_makes_the_fit_better() {
    // A time that falls with a feature: the best that is allowed leaves the feature out.
    let samples: Vec<Sample> = drawn(60)
        .into_iter()
        .map(|features| Sample {
            seconds: 1.0 + 0.5 * features.0[2] - 0.2 * features.0[7].min(2.0),
            features,
        })
        .collect();
    let fitted = Predictor::fit(&samples).unwrap();
    assert!(fitted.coefficients.iter().all(|c| *c >= 0.0));
    let sum = |coefficients: &[f64]| -> f64 {
        let error = |s: &Sample| (s.features.dot(coefficients) / s.seconds - 1.0).powi(2);
        samples.iter().map(error).sum()
    };
    let least = sum(&fitted.coefficients);
    for at in 0..FEATURES {
        for step in [1e-4, -1e-4] {
            let mut other = fitted.coefficients.clone();
            other[at] = (other[at] + step).max(0.0);
            assert!(least <= sum(&other) + 1e-9, "{at}");
        }
    }
    assert_eq!(Predictor::fit(&samples[..7]), Err(FitError::Few(7)));
    let mut wrong = samples;
    wrong[3].seconds = 0.0;
    assert_eq!(Predictor::fit(&wrong), Err(FitError::Seconds(3)));
}

#[test]
fn a_fleet_moves_what_is_known_by_as_much_as_it_has_measured() {
    let mut truth = vec![0.0; FEATURES];
    for (at, value) in [(0, 2e-5), (2, 0.1), (3, 3e-4), (6, 0.7), (11, 1e-3)] {
        truth[at] = value;
    }
    let known = Predictor {
        // Everything half of what it is here, and a kind that nobody here has.
        coefficients: (0..FEATURES)
            .map(|at| if at == 28 { 5.0 } else { truth[at] / 2.0 })
            .collect(),
        relative_variance: 0.04,
    };
    let error = |predictor: &Predictor, of: &[Features]| -> f64 {
        let one = |f: &Features| (predictor.predict(f).mean / f.dot(&truth) - 1.0).abs();
        of.iter().map(one).sum::<f64>() / of.len() as f64
    };
    let all = drawn(600);
    let (measured, unseen) = all.split_at(500);
    let sample = |features: &Features| Sample {
        seconds: features.dot(&truth),
        features: *features,
    };
    assert_eq!(known.refit(&[]).as_ref(), Ok(&known));
    let mut before = error(&known, unseen);
    assert!((before - 0.5).abs() < 1e-9);
    for count in [3, 20, 100, 500] {
        let samples: Vec<Sample> = measured[..count].iter().map(sample).collect();
        let refitted = known.refit(&samples).unwrap();
        let now = error(&refitted, unseen);
        assert!(now < before, "{count}: {now} {before}");
        assert!((refitted.coefficients[28] - 5.0).abs() < 1e-12);
        before = now;
    }
    assert!(before < 0.05, "{before}");
}

#[test]
fn layers_are_told_apart_by_what_they_do() {
    assert_eq!(Kind::of("Conv", 9.0), Kind::Depthwise);
    assert_eq!(Kind::of("Conv", 576.0), Kind::Convolution);
    assert_eq!(Kind::of("Gemm", 1280.0), Kind::Product);
    assert_eq!(Kind::of("Clip", 0.0), Kind::Element);
    assert_eq!(Kind::of("Whatever", 0.0), Kind::Other);
    for (number, kind) in Kind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, number);
    }
}
