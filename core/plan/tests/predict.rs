//! Times of segments that were never run: planted coefficients, what can be no better, a node that is followed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use splitplace_plan::predict::{
    Corrected, FEATURES, Features, FitError, Guess, Kind, PER_KIND, Predictor, Sample,
};

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
fn a_node_is_followed_and_a_known_segment_is_known() {
    let guess = |mean: f64| Guess {
        mean,
        variance: 0.09 * mean * mean,
    };
    let mut node = Corrected::new(2.0);
    assert!((node.predict(1, &guess(0.1)).mean - 0.2).abs() < 1e-12);
    // It is four times slower, and segment 2 once more half as long again.
    for _ in 0..60 {
        node.observe(1, &guess(0.1), 0.4);
        node.observe(2, &guess(0.1), 0.6);
    }
    let (one, two) = (node.predict(1, &guess(0.1)), node.predict(2, &guess(0.1)));
    assert!(
        (one.mean - 0.4).abs() < 0.03 && (two.mean - 0.6).abs() < 0.04,
        "{one:?} {two:?}"
    );
    // What never ran is between them, and less sure.
    let never = node.predict(3, &guess(0.1));
    assert!((0.4..0.6).contains(&never.mean), "{never:?}");
    assert!(never.variance / never.mean.powi(2) >= 0.09 - 1e-12);
    // Odd reports neither move it far nor break it.
    let before = node.factor();
    for odd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        node.observe(1, &guess(0.1), odd);
    }
    assert!((node.factor() - before).abs() < 1e-12);
    for segment in 0..5000 {
        node.observe(segment, &guess(0.1), 0.5);
    }
    assert!(node.known() <= Corrected::SEGMENTS);
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
