//! Ours on the small problems of `core/plan`'s tests, bounds among them, against every placement there is.

#[path = "../../core/plan/tests/cases/small.rs"]
mod small;

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use splitplace_plan::{
    Annealing, ArmKind, ArmProblem, Bounds, ChainProblem, NodeSpec, Problem, SegmentSpec,
    Strategy as _,
    joint::{places, worth},
    rules::check,
};
use splitplace_twin::{
    Seed,
    placement::{Proven, Trial},
};

use small::{brute_force, near, problems};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]
    #[test]
    fn it_keeps_the_rules_repeats_and_is_not_below_the_best(problem in problems(3, 0.4)) {
        let solution = Proven::default().solve(&problem, 7);
        prop_assert_eq!(check(&problem, &solution), Ok(()), "{:?}", solution);
        prop_assert_eq!(&solution, &Proven::default().solve(&problem, 7));
        let (found, least) = (worth(&problem, &places(&solution)).cost(), brute_force(&problem));
        prop_assert!(least <= found * (1.0 + 1e-9), "{} {}", found, least);
    }
}

/// The finalists are compared by simulation, which now and then likes another one than the formulas do that brute force
/// goes by: it is not to cost more than that.
#[test]
fn it_finds_what_brute_force_does_as_often_as_annealing() {
    let (ours, all) = near(&Proven::default(), 0.3);
    let (annealing, _) = near(&Annealing::default(), 0.3);
    assert!(
        all >= 50 && annealing <= ours,
        "{ours} and {annealing} of {all}"
    );
}

/// Eight models of six segments on twelve unequal nodes that they keep three quarters busy.
fn crowded(number: usize) -> Problem {
    const NODES: usize = 12;
    let draw = |at: usize, of: usize| ((at * 37 + number * 11) % of) as f64;
    let speed = |node: usize| 1.0 + draw(node * 5 + 3, 7);
    let able: f64 = (0..NODES).map(speed).sum();
    let work = |model: usize, segment: usize| 0.01 * (1.0 + draw(model * 13 + segment * 7, 5));
    let all: f64 = (0..8 * 6).map(|at| work(at / 6, at % 6)).sum();
    let arm = |model: usize| ArmProblem {
        name: format!("model {model}"),
        model,
        kind: ArmKind::Compressed,
        parts: (1, 4),
        chains: vec![ChainProblem {
            segments: (0..6)
                .map(|segment| SegmentSpec {
                    weight_bytes: 1,
                    activation_bytes: 0,
                    service: (0..NODES)
                        .map(|node| work(model, segment) / speed(node))
                        .collect(),
                })
                .collect(),
            boundaries: vec![10_000.into(); 7],
        }],
        arrival_rate: 0.75 * able / all,
        arrival_scv: 1.0,
        bounds: Bounds::default(),
    };
    Problem {
        nodes: vec![NodeSpec::of(100); NODES],
        links: vec![vec![(1e7, 0.001); NODES + 1]; NODES + 1],
        coding: vec![0.0; NODES + 1],
        arms: (0..8).map(arm).collect(),
        overhead_bytes: 0,
        spread: 0.0,
        places: Problem::PLACES,
        loss_target: Problem::LOSS,
        beside: Vec::new(),
    }
}

/// Anytime: its only budget are its steps. With one there is an answer that keeps every rule, and on problems that are
/// the same each time more of them are no worse, by the formulas that it searches by and by a simulation of thirty times
/// the requests that it has its finalists compared by.
#[test]
fn one_step_has_an_answer_and_more_are_no_worse() {
    let judge = Trial {
        requests: 15_000,
        ..Trial::default()
    };
    let with = |steps: u32| {
        let ours = Proven {
            steps,
            steps_an_arm: 0,
            ..Proven::default()
        };
        let (mut expected, mut simulated) = (0.0, 0.0);
        for problem in (0..6).map(crowded) {
            let solution = ours.solve(&problem, 1);
            assert_eq!(check(&problem, &solution), Ok(()), "{steps}");
            let places = places(&solution);
            expected += worth(&problem, &places).cost().ln();
            simulated += judge.run(&problem, &places, Seed(9)).cost(100.0).ln();
        }
        (expected, simulated)
    };
    let [one, some, many] = [1, 100, 2000].map(with);
    println!("{one:?} {some:?} {many:?}");
    assert!(
        many.0 < one.0 && some.0 <= one.0 && many.0 <= some.0,
        "{one:?} {some:?} {many:?}"
    );
    // Half a per cent on average: what its own short simulations cannot tell apart.
    let slack = 6.0 * 5e-3;
    assert!(
        many.1 < one.1 && some.1 <= one.1 + slack && many.1 <= some.1 + slack,
        "{one:?} {some:?} {many:?}"
    );
}
