//! Every strategy against every placement there is, and against the rules that all must keep.

#[path = "cases/small.rs"]
mod small;

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use splitplace_plan::{
    Annealing, ArmKind, Exact, Greedy, Integer, Outcome, Random, Responses, Solution, Strategy,
    joint::{Places, lower_bound, places, room, step, worth},
    rules::check,
    standing::Standing,
};

use small::{brute_force, fixed, near, problems};

fn all() -> Vec<Box<dyn Strategy>> {
    vec![
        Box::new(Exact),
        Box::new(Responses::default()),
        Box::new(Greedy),
        Box::new(Random),
        Box::new(Annealing::default()),
        Box::new(Integer::default()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]
    #[test]
    fn every_strategy_keeps_the_rules_and_repeats(problem in problems(4, 0.3)) {
        for strategy in all() {
            let solution = strategy.solve(&problem, 7);
            prop_assert_eq!(check(&problem, &solution), Ok(()), "{}: {:?}", strategy.name(), solution);
            prop_assert_eq!(&solution, &strategy.solve(&problem, 7), "{}", strategy.name());
        }
    }

    #[test]
    fn nobody_beats_the_bound_or_brute_force(problem in problems(3, 0.3)) {
        let least = brute_force(&problem);
        let cost = |strategy: &dyn Strategy| {
            worth(&problem, &places(&strategy.solve(&problem, 3))).cost()
        };
        for strategy in all() {
            let found = cost(&*strategy);
            prop_assert!(least <= found * (1.0 + 1e-9), "{}: {} {}", strategy.name(), found, least);
        }
        if least < 3600.0 {
            prop_assert!(lower_bound(&problem) <= least * (1.0 + 1e-9));
        }
    }

    /// Where nothing queues and memory is no question, the programme and the dynamic programme are the same.
    #[test]
    fn the_integer_programme_agrees_with_exact(problem in problems(3, 0.000_001)) {
        let mut roomy = problem;
        roomy.nodes.iter_mut().for_each(|node| node.memory_bytes = 10_000);
        roomy.arms.truncate(1);
        roomy.arms[0].arrival_rate = 0.0;
        // Later stages have no number in the programme.
        roomy.arms[0].bounds.pins.retain(|stage, _| *stage == 0);
        // Branches on one node share it in Exact's eyes and not in the programme's.
        if roomy.arms[0].kind != ArmKind::Semantic {
            let latency = |solution: Solution| match &solution.arms[0] {
                Outcome::Placed(placed) => placed.latency,
                Outcome::Unplaced(_) => f64::INFINITY,
            };
            let exact = latency(Exact.solve(&roomy, 0));
            let integer = latency(Integer::default().solve(&roomy, 0));
            let is_same = exact == integer || (exact - integer).abs() < 1e-6 * exact;
            prop_assert!(is_same, "{} {}", exact, integer);
        }
    }
}

/// The sums that a search keeps are those that are made anew, whatever was changed before and taken back; and what it
/// finds with them is what it finds by judging every step.
#[test]
fn what_stands_is_worth_what_it_is_worth() {
    for (seed, problem) in (0..).zip(fixed(4, 0.6, 60)) {
        let begin = places(&Random.solve(&problem, seed));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut standing = Standing::new(&problem, begin.clone());
        for number in 0..200 {
            let Some((arm, branches)) = step(&problem, standing.places(), &mut rng) else {
                continue;
            };
            let before = standing.change(arm, Some(branches).filter(|_| number % 17 != 0));
            let (kept, anew) = (standing.worth(), worth(&problem, standing.places()));
            assert_eq!(kept.unplaced, anew.unplaced);
            assert!(
                (kept.overload - anew.overload).abs() < 1e-9,
                "{kept:?} {anew:?}"
            );
            let off = (kept.seconds - anew.seconds).abs();
            assert!(off < 1e-9 * anew.seconds.max(1.0), "{kept:?} {anew:?}");
            assert_eq!(standing.fits(), room(&problem, standing.places()).is_some());
            if number % 3 == 0 {
                standing.change(arm, before);
            }
        }
        let annealing = Annealing {
            steps: 300,
            ..Annealing::default()
        };
        let mut judge = |places: &Places| worth(&problem, places).cost();
        let (_, anew) = annealing.improve(&problem, begin.clone(), &mut judge, seed);
        let (found, kept) = annealing.by_worth(&problem, begin, seed);
        assert!((kept - anew).abs() < 1e-9 * anew.max(1.0), "{kept} {anew}");
        let cost = worth(&problem, &found).cost();
        assert!((kept - cost).abs() < 1e-9 * cost.max(1.0), "{kept} {cost}");
    }
}

/// Nothing promises that annealing finds the best; how often it does on the same sixty small problems is known.
#[test]
fn annealing_mostly_finds_what_brute_force_does() {
    let (near, all) = near(&Annealing::default(), 0.3);
    assert!(all >= 50 && near * 10 >= all * 9, "{near} of {all}");
}

/// It seeks the best of each model, and yet what is best for all together is mostly not far.
#[test]
fn exact_mostly_comes_near_what_is_best_for_all_together() {
    let (near, all) = near(&Exact, 0.3);
    assert!(all >= 50 && near * 10 >= all * 9, "{near} of {all}");
}
