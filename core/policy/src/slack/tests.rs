//! What is learnt, against counting; what is chosen, against cases that can be worked out.

use std::time::Duration;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use splitplace_plan::ArmKind;

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn arm(name: &str, kind: ArmKind, accuracy: f64, predicted_ms: u64) -> ArmView<'_> {
    ArmView {
        name,
        kind,
        accuracy,
        predicted: ms(predicted_ms),
    }
}

fn context(slack_ms: u64) -> Context<'static> {
    Context {
        model: "m",
        sla: ms(slack_ms),
        slack: ms(slack_ms),
    }
}

fn outcome(arm: &str, predicted_ms: u64, response_ms: Option<u64>) -> Outcome<'_> {
    Outcome {
        model: "m",
        arm,
        context: "loose",
        kind: ArmKind::Chain,
        sla: ms(50),
        predicted: ms(predicted_ms),
        response: response_ms.map(ms),
        accuracy: 0.9,
    }
}

fn chosen(policy: &Slack, slack_ms: u64, arms: &[ArmView<'_>]) -> Choice {
    policy.choose(&context(slack_ms), arms, &mut ChaCha8Rng::seed_from_u64(1))
}

fn arms() -> [ArmView<'static>; 3] {
    [
        arm("base/chain", ArmKind::Chain, 0.93, 40),
        arm("semantic", ArmKind::Semantic, 0.92, 20),
        arm("int8", ArmKind::Compressed, 0.90, 10),
    ]
}

#[test]
fn the_most_accurate_arm_that_keeps_the_promise_is_taken() {
    let policy = Slack::new(SlackSettings {
        c: 0.0,
        ..SlackSettings::default()
    });
    for (slack, best) in [(400, 0), (38, 1), (15, 2)] {
        assert_eq!(
            chosen(&policy, slack, &arms()).arm,
            best,
            "within {slack} ms"
        );
    }
    // Nobody can keep it: whoever is done first keeps the fewest waiting.
    let late = chosen(&policy, 1, &arms());
    assert_eq!((late.arm, late.reason), (2, Reason::Fallback));
    assert_eq!(chosen(&policy, 38, &arms()).context, "tight");
    assert_eq!(chosen(&policy, 400, &arms()).context, "loose");
}

#[test]
fn an_arm_that_is_slower_than_its_forecast_loses_what_it_cannot_keep() {
    // Without curiosity, so that only what is believed counts.
    let mut policy = Slack::new(SlackSettings {
        c: 0.0,
        ..SlackSettings::default()
    });
    assert_eq!(chosen(&policy, 90, &arms()).arm, 0);
    for _ in 0..50 {
        policy.learn(&outcome("base/chain", 40, Some(100)));
    }
    assert_eq!(chosen(&policy, 90, &arms()).arm, 1);
    assert_eq!(
        chosen(&policy, 400, &arms()).arm,
        0,
        "with time enough it is still the best"
    );
    // And is believed again when it has recovered.
    for _ in 0..1000 {
        policy.learn(&outcome("base/chain", 40, Some(38)));
    }
    assert_eq!(chosen(&policy, 90, &arms()).arm, 0);
}

#[test]
fn the_chance_of_keeping_a_promise_is_the_share_that_kept_it() {
    let settings = SlackSettings {
        prior: 1e-6,
        forget: 0.0,
        ..SlackSettings::default()
    };
    let mut policy = Slack::new(settings);
    // Half of the answers take half of the forecast, a quarter twice, a quarter never comes.
    for k in 0..4000 {
        let response = match k % 4 {
            0 | 1 => Some(51),
            2 => Some(201),
            _ => None,
        };
        policy.learn(&outcome("a", 100, response));
    }
    let belief = policy.belief("m", "a").expect("it was learnt");
    for (ratio, share) in [
        (0.4, 0.0),
        (0.7, 0.5),
        (1.0, 0.5),
        (1.9, 0.5),
        (2.6, 0.75),
        (1e9, 0.75),
    ] {
        assert!(
            (belief.below(ratio, &settings) - share).abs() < 1e-6,
            "{ratio}"
        );
    }
}

#[test]
fn truths_move_the_accuracy_and_with_it_the_choice() {
    let mut policy = Slack::new(SlackSettings {
        c: 0.0,
        ..SlackSettings::default()
    });
    for _ in 0..600 {
        let before = outcome("base/chain", 40, Some(40));
        policy.learn(&before);
        policy.revise(
            &before,
            &Outcome {
                accuracy: 0.5,
                ..before.clone()
            },
        );
    }
    assert_eq!(chosen(&policy, 400, &arms()).arm, 1);
}

#[test]
fn nothing_is_tried_that_could_break_a_promise() {
    let mut policy = Slack::new(SlackSettings {
        c: 10.0,
        ..SlackSettings::default()
    });
    for _ in 0..200 {
        policy.learn(&outcome("int8", 10, Some(10)));
    }
    // The others were never tried, but here only the small one is fast enough with a margin.
    let choice = chosen(&policy, 21, &arms());
    assert_eq!((choice.arm, choice.reason), (2, Reason::Best));
    let choice = chosen(&policy, 1000, &arms());
    assert_ne!(choice.arm, 2);
}

#[test]
fn a_saved_state_comes_back_exactly() {
    let mut policy = Slack::new(SlackSettings::default());
    for k in 0..100 {
        let before = outcome(
            ["base/chain", "semantic"][k % 2],
            40,
            (k % 7 > 0).then_some(k as u64),
        );
        policy.learn(&before);
        policy.revise(
            &before,
            &Outcome {
                accuracy: 1.0,
                ..before.clone()
            },
        );
    }
    let mut other = Slack::new(SlackSettings::default());
    other.restore(&policy.state());
    assert_eq!(other, policy);
    other.restore(&BTreeMap::from([
        ("nonsense".into(), 1.0),
        ("m:a:99".into(), f64::NAN),
    ]));
    assert_eq!(other, policy);
}

#[test]
fn against_a_table_of_arms_it_comes_close_to_who_knows_them() {
    // Arms whose responses are exponential around unlike means, forecasts that are off by a factor, and
    // promises drawn anew each time: the regret against the best arm for each promise must vanish.
    let truth = [(0.93, 60.0), (0.92, 25.0), (0.90, 8.0)];
    let arms = arms();
    let mut policy = Slack::new(SlackSettings::default());
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut unit = move || {
        let bits = (rng.next_u64() >> 11) as f64;
        bits / (1u64 << 53) as f64
    };
    let value = |arm: usize, slack: f64| {
        let (accuracy, mean) = truth[arm];
        (1.0 - (-slack / mean).exp() + accuracy) / 2.0
    };
    let mut regret = [0.0, 0.0];
    for round in 0..4000 {
        let slack = 5.0 + 200.0 * unit();
        let mut choosing = ChaCha8Rng::seed_from_u64(round);
        let asked = Context {
            model: "m",
            sla: Duration::from_secs_f64(slack / 1e3),
            slack: Duration::from_secs_f64(slack / 1e3),
        };
        let arm = policy.choose(&asked, &arms, &mut choosing).arm;
        let best = (0..3).map(|arm| value(arm, slack)).fold(0.0, f64::max);
        regret[usize::from(round >= 2000)] += (best - value(arm, slack)) / 2000.0;
        let response = -truth[arm].1 * (1.0 - unit()).ln();
        policy.learn(&Outcome {
            model: "m",
            arm: arms[arm].name,
            context: "loose",
            kind: arms[arm].kind,
            sla: asked.sla,
            predicted: arms[arm].predicted,
            response: Some(Duration::from_secs_f64(response / 1e3)),
            accuracy: arms[arm].accuracy,
        });
    }
    assert!(regret[1] < 0.01, "{regret:?}");
    assert!(regret[1] <= regret[0] + 0.002, "{regret:?}");
}
