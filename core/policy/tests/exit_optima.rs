//! Exit controllers against optima that are known: closed forms, linear programs, each other.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use splitplace_policy::exit::{
    ExitBins, ExitPolicy, ExitTable, FixedExit, Joint, Records, Station, Thresholds,
    backlog::backlog,
    chain::{Chain, stationary},
    data_driven::{self, LossModel},
    gaussian::{self, Search},
    on_records, on_table,
    program::{Program, Sense},
    single,
    synthetic::Synthetic,
    trace_on_records,
};
use splitplace_queueing::{Arrivals, Service, exact};

fn station(rate: f64, capacity: usize, target: f64) -> Station {
    Station {
        arrivals: Arrivals::poisson(rate).unwrap(),
        capacity,
        target,
    }
}

#[track_caller]
fn near(got: f64, want: f64, wrong: f64) {
    assert!((got - want).abs() <= wrong, "{got} instead of {want}");
}

/// A network of one bin: confidence says nothing.
fn blind(times: &[f64], accuracies: &[f64]) -> ExitTable {
    let mut before = 0.0;
    let stages = times.iter().map(|&t| {
        let stage = Service::constant(t - before).unwrap();
        before = t;
        stage
    });
    let last = accuracies.len() - 1;
    let bins = accuracies.iter().enumerate().map(|(e, &a)| ExitBins {
        edges: vec![],
        share: vec![1.0],
        correct: vec![a],
        next: if e == last { vec![] } else { vec![vec![1.0]] },
    });
    ExitTable::new(stages.collect(), bins.collect()).unwrap()
}

/// The whole decision process as a linear program: visits to (present, exit, bin) that stop or go on, and
/// beginnings by number present.
fn joint_program(table: &ExitTable, station: &Station) -> Program {
    let chain = Chain::new(table.stages(), station).unwrap();
    let (places, last) = (station.capacity, table.last());
    let mut program = Program::default();
    let variable = |gain: f64, program: &mut Program| {
        program.gains.push(gain);
        program.gains.len() - 1
    };
    let begin: Vec<usize> = (0..places).map(|_| variable(0.0, &mut program)).collect();
    // [exit][bin][present]: stop, go.
    let mut act = Vec::new();
    for exit in 0..=last {
        let bins = table.bins(exit);
        let mut of_exit = Vec::new();
        for &accuracy in &bins.correct {
            let states = (0..=places).map(|_| {
                (
                    variable(accuracy, &mut program),
                    variable(0.0, &mut program),
                )
            });
            of_exit.push(states.collect::<Vec<_>>());
        }
        act.push(of_exit);
    }
    let after = |stage: usize, present: usize| {
        let mut row = vec![0.0; chain.width()];
        row[present] = 1.0;
        let mut to = vec![0.0; chain.width()];
        let passage = chain.advance(stage, &row, &mut to);
        (to, passage.lost)
    };
    let mut lost = Vec::new();
    for exit in 0..=last {
        let bins = table.bins(exit).share.len();
        for bin in 0..bins {
            for present in 1..=places {
                let (stop, go) = act[exit][bin][present];
                let mut row = vec![(stop, -1.0), (go, -1.0)];
                for from in 1..=places {
                    let (to, _) = after(exit, from);
                    if exit == 0 {
                        row.push((begin[from - 1], to[present] * table.bins(0).share[bin]));
                    } else {
                        for (b, shares) in table.bins(exit - 1).next.iter().enumerate() {
                            row.push((act[exit - 1][b][from].1, to[present] * shares[bin]));
                        }
                    }
                }
                program.row(row, Sense::Equal, 0.0);
                if exit == last {
                    program.row(vec![(go, 1.0)], Sense::Equal, 0.0);
                } else {
                    lost.push((go, after(exit + 1, present).1));
                }
            }
            let (stop, go) = act[exit][bin][0];
            program.row(vec![(stop, 1.0), (go, 1.0)], Sense::Equal, 0.0);
        }
    }
    for present in 1..=places {
        lost.push((begin[present - 1], after(0, present).1));
        // One of these balances follows from the others.
        if present == 2 {
            continue;
        }
        let mut row = vec![(begin[present - 1], -1.0)];
        for of_exit in &act {
            for of_bin in of_exit {
                if present < places {
                    row.push((of_bin[present + 1].0, 1.0));
                }
                if present == 1 {
                    row.push((of_bin[1].0, 1.0));
                }
            }
        }
        program.row(row, Sense::Equal, 0.0);
    }
    program.row(
        begin.iter().map(|&var| (var, 1.0)).collect(),
        Sense::Equal,
        1.0,
    );
    program.row(lost, Sense::AtMost, station.lost_per_served());
    program
}

#[test]
fn the_joint_controller_is_the_optimum_of_its_linear_program() {
    for (exits, bins, places, rate) in [
        (2, 2, 3, 6.0),
        (3, 4, 5, 5.0),
        (4, 3, 6, 4.0),
        (3, 5, 4, 9.0),
    ] {
        let network = Synthetic {
            exits,
            ..Synthetic::default()
        };
        let table = network.table(bins).unwrap();
        let station = station(rate, places, 0.02);
        let (_, optimum) = joint_program(&table, &station).solve().unwrap();
        let joint = Joint::new(&table, &station).unwrap();
        near(joint.accuracy, optimum, 1e-7);
        assert!(joint.loss <= 0.02 * (1.0 + 1e-9));
        let exact = on_table(&joint, &table, &station).unwrap();
        near(exact.accuracy, joint.accuracy, 1e-9);
        near(exact.loss, joint.loss, 1e-9);
    }
}

#[test]
fn one_place_has_a_closed_form() {
    // K = 1 is Erlang's station: the loss allows a mean time of ε / (λ (1 - ε)), and the best accuracy for a mean
    // time lies on the hull.
    let table = blind(&[0.1, 0.2, 0.4], &[0.6, 0.75, 0.9]);
    for (rate, target) in [(0.5, 0.07), (1.0, 0.2), (2.0, 0.25)] {
        let time: f64 = target / (rate * (1.0 - target));
        let hull = if time < 0.2 {
            0.6 + (time - 0.1) / 0.1 * 0.15
        } else {
            (0.75 + (time - 0.2) / 0.2 * 0.15_f64).min(0.9)
        };
        let station = station(rate, 1, target);
        let planned = backlog(&table, &station).unwrap();
        near(
            on_table(&planned, &table, &station).unwrap().accuracy,
            hull,
            1e-9,
        );
        let joint = Joint::new(&table, &station).unwrap();
        near(joint.accuracy, hull, 1e-8);
    }
}

#[test]
fn one_exit_is_a_plain_queue() {
    let table = blind(&[0.25], &[0.8]);
    for policy in [
        &FixedExit::last() as &dyn ExitPolicy,
        &Thresholds::new(vec![0.5]),
    ] {
        for (rate, capacity) in [(2.0, 3), (4.0, 11), (8.0, 5)] {
            let evaluation = on_table(policy, &table, &station(rate, capacity, 0.01)).unwrap();
            let service = Service::constant(0.25).unwrap();
            let plain = exact::solve(rate, &service, capacity).unwrap();
            near(evaluation.loss, plain.loss, 1e-12);
            near(evaluation.response, plain.response, 1e-12);
            near(evaluation.accuracy, 0.8, 1e-12);
        }
    }
}

#[test]
fn a_mixture_of_exits_is_a_mixture_of_services() {
    let table = Synthetic::default().table(4).unwrap();
    let station = station(4.0, 7, 0.02);
    let planned = single::queueing(&table, &station).unwrap();
    let intents = planned.intents(1);
    let parts = intents
        .of()
        .iter()
        .map(|&(exit, p)| (p, table.cumulative(usize::from(exit.0))));
    let service = Service::mix(&parts.collect::<Vec<_>>()).unwrap();
    let plain = exact::solve(4.0, &service, 7).unwrap();
    let evaluation = on_table(&planned, &table, &station).unwrap();
    near(evaluation.loss, plain.loss, 1e-9);
    near(evaluation.response, plain.response, 1e-9);
    near(evaluation.service, service.mean(), 1e-9);
}

#[test]
fn each_controller_that_sees_more_achieves_more() {
    let table = Synthetic::default().table(10).unwrap();
    for rate in [2.5, 3.0, 4.0, 5.0, 6.0, 8.0] {
        let station = station(rate, 11, 0.01);
        let of = |policy: &dyn ExitPolicy| on_table(policy, &table, &station).unwrap();
        let queueing = of(&single::queueing(&table, &station).unwrap());
        let knapsack = of(&single::knapsack(&table, &station).unwrap());
        let planned = of(&backlog(&table, &station).unwrap());
        let joint = of(&Joint::new(&table, &station).unwrap());
        // The solver's own tolerance shows in the fifth digit of the loss.
        assert!(planned.loss <= 0.01 * (1.0 + 1e-4), "{planned:?}");
        assert!(joint.loss <= 0.01 * (1.0 + 1e-6), "{joint:?}");
        assert!(joint.accuracy >= planned.accuracy - 1e-5);
        for other in [&queueing, &knapsack] {
            if other.loss <= 0.01 {
                assert!(
                    planned.accuracy >= other.accuracy - 1e-5,
                    "{planned:?} {other:?}"
                );
            }
        }
        for exit in 0..table.exits() {
            let fixed = of(&FixedExit::new(exit));
            assert!(fixed.loss > 0.01 || planned.accuracy >= fixed.accuracy - 1e-5);
        }
    }
}

#[test]
fn without_load_the_last_exit_and_without_hope_the_first() {
    let table = Synthetic::default().table(10).unwrap();
    let idle = station(0.01, 11, 0.01);
    let joint = Joint::new(&table, &idle).unwrap();
    let last = on_table(&FixedExit::last(), &table, &idle).unwrap();
    // Stopping early where the last exit is no better costs nothing, so it may be better than the last.
    assert!(joint.accuracy >= last.accuracy - 1e-9);
    let drowned = station(200.0, 11, 0.01);
    let joint = Joint::new(&table, &drowned).unwrap();
    let first = on_table(&FixedExit::new(0), &table, &drowned).unwrap();
    // Hardly more than must be lost.
    assert!(joint.loss > 0.9 && joint.loss <= first.loss * 1.003);
    assert!(joint.accuracy >= first.accuracy);
}

#[test]
fn bursts_are_met_with_the_target_too() {
    let network = Synthetic::default();
    let table = network.table(8).unwrap();
    for rate in [1.5, 2.5, 4.0] {
        let bursty = Station {
            arrivals: Arrivals::bursty(rate, 2.5, 0.2, 8.0).unwrap(),
            capacity: 11,
            target: 0.01,
        };
        let joint = Joint::new(&table, &bursty).unwrap();
        let exact = on_table(&joint, &table, &bursty).unwrap();
        near(exact.loss, joint.loss, 1e-9);
        assert!(exact.loss <= 0.01 * (1.0 + 1e-6), "{}", exact.loss);
        // A controller made for Poisson arrivals of the mean rate loses more than it was told to.
        let calm = Joint::new(&table, &station(rate, 11, 0.01)).unwrap();
        let calm = on_table(&calm, &table, &bursty).unwrap();
        assert!(calm.loss <= 0.01 || calm.accuracy >= exact.accuracy);
        // Of those that do not see confidence none is better.
        let last = on_table(&FixedExit::last(), &table, &bursty).unwrap();
        assert!(last.loss > 0.01 || exact.accuracy >= last.accuracy - 1e-9);
    }
}

#[test]
fn the_hull_leaves_out_what_no_mixture_wants() {
    let table = blind(&[0.1, 0.2, 0.3, 0.4, 0.5], &[0.6, 0.62, 0.8, 0.79, 0.9]);
    assert_eq!(single::hull(&table), [0, 2, 4]);
    // 4 places, λ = 10: with 2 present there are 0.2 s for 2 requests; with 4 none at all.
    let planned = single::knapsack(&table, &station(10.0, 4, 0.01)).unwrap();
    near(planned.intents(2).mean(), 0.0, 1e-12);
    near(planned.intents(4).mean(), 0.0, 1e-12);
    // λ = 4: 0.75 s for one, 0.25 s each for two: exits 0 and 2 with weights ¼ and ¾.
    let planned = single::knapsack(&table, &station(4.0, 4, 0.01)).unwrap();
    near(planned.intents(1).mean(), 4.0, 1e-12);
    near(planned.intents(2).mean(), 1.5, 1e-9);
}

#[test]
fn found_thresholds_are_nearly_as_good_as_a_grid() {
    let network = Synthetic {
        exits: 3,
        inputs: 1500,
        ..Synthetic::default()
    };
    let records = network.records().unwrap();
    let table = network.table(10).unwrap();
    let station = station(4.0, 11, 0.01);
    let value = |thresholds: &[f64]| {
        let replay = data_driven::replay(&records, thresholds);
        let loss =
            data_driven::predicted_loss(&replay.exits, &table, &station, LossModel::Exact).unwrap();
        replay.accuracy - 100.0 * (loss - 0.01).max(0.0)
    };
    let sorted = [records.sorted(0), records.sorted(1)];
    let mut best = f64::MIN;
    for i in 0..=20 {
        for j in 0..=20 {
            let of =
                |exit: usize, at: i32| data_driven::quantile(&sorted[exit], f64::from(at) / 20.0);
            best = best.max(value(&[of(0, i), of(1, j)]));
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let search = Search::default();
    let found = data_driven::data_driven(
        &records,
        &table,
        &station,
        LossModel::Exact,
        &search,
        &mut rng,
    );
    assert!(value(found.unwrap().of()) >= best - 0.004);
}

#[test]
fn a_gaussian_process_goes_through_its_points_and_doubts_elsewhere() {
    let points: Vec<Vec<f64>> = (0..6).map(|i| vec![f64::from(i) / 5.0]).collect();
    let f = |x: f64| (4.0 * x).sin() + x;
    let values: Vec<f64> = points.iter().map(|p| f(p[0])).collect();
    let process = gaussian::Process::fit(&points, &values).unwrap();
    for (point, value) in points.iter().zip(&values) {
        let (mean, deviation) = process.at(point);
        near(mean, *value, 1e-3);
        assert!(deviation < 0.01);
    }
    let (mean, deviation) = process.at(&[0.5]);
    near(mean, f(0.5), 0.05);
    assert!(deviation > 0.0 && (mean - f(0.5)).abs() < 3.0 * deviation + 1e-3);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let search = Search {
        guided: 40,
        ..Search::default()
    };
    let (best, value) = gaussian::maximise(2, &[], &search, &mut rng, |x| {
        -(x[0] - 0.3).powi(2) - (x[1] - 0.8).powi(2)
    });
    assert!(value > -1e-3, "{best:?}");
}

#[test]
fn records_and_their_table_say_the_same_of_what_needs_no_history() {
    let network = Synthetic {
        inputs: 1000,
        ..Synthetic::default()
    };
    let records = network.records().unwrap();
    let table = network.table(10).unwrap();
    let station = station(4.0, 11, 0.01);
    for exit in [0, 4, 8] {
        near(table.accuracy(exit), records.accuracy(exit), 1e-9);
        let fixed = FixedExit::new(exit);
        let by_table = on_table(&fixed, &table, &station).unwrap();
        let by_records = on_records(&fixed, &records, table.stages(), &station).unwrap();
        near(by_table.loss, by_records.loss, 1e-9);
        near(by_table.response, by_records.response, 1e-9);
        near(by_table.accuracy, by_records.accuracy, 1e-9);
    }
    // Accuracies grow with confidence, and smoothed rows are laws.
    for exit in 0..table.exits() {
        let bins = table.bins(exit);
        assert!(bins.correct.is_sorted());
        for row in &bins.next {
            near(row.iter().sum(), 1.0, 1e-9);
        }
    }
}

#[test]
fn tables_that_make_no_sense_are_refused() {
    let bins = |share: Vec<f64>| ExitBins {
        edges: vec![0.5],
        share,
        correct: vec![0.4, 0.9],
        next: vec![],
    };
    let stage = || Service::constant(0.1).unwrap();
    assert!(ExitTable::new(vec![stage()], vec![bins(vec![0.5, 0.5])]).is_ok());
    assert!(ExitTable::new(vec![stage()], vec![bins(vec![0.5, 0.6])]).is_err());
    assert!(ExitTable::new(vec![stage()], vec![bins(vec![1.0])]).is_err());
    assert!(ExitTable::new(vec![stage()], vec![bins(vec![f64::NAN, 1.0])]).is_err());
    assert!(ExitTable::new(vec![], vec![]).is_err());
    assert!(ExitTable::new(vec![stage()], vec![bins(vec![0.5, 0.5]); 2]).is_err());
    assert!(
        Records::new(2)
            .unwrap()
            .table(vec![stage(), stage()], 4)
            .is_err()
    );
    let table = blind(&[0.1], &[0.5]);
    assert!(Joint::new(&table, &station(1.0, 0, 0.01)).is_err());
    assert!(Joint::new(&table, &station(1.0, 65, 0.01)).is_err());
    assert!(Joint::new(&table, &station(1.0, 5, 0.0)).is_err());
    assert!(Joint::new(&table, &station(0.0, 5, 0.1)).is_ok());
}

#[test]
fn a_chain_keeps_its_law() {
    // A birth-death chain: π_i ∝ 2^-i; and one whose last state is never left.
    let birth_death = vec![
        0.5, 0.5, 0.0, //
        1.0, 0.0, 0.0, //
        0.0, 1.0, 0.0,
    ];
    let law = stationary(birth_death, 3);
    near(law[0], 2.0 / 3.0, 1e-12);
    near(law[1], 1.0 / 3.0, 1e-12);
    near(law[2], 0.0, 1e-12);
    let trap = vec![
        0.5, 0.5, 0.0, //
        0.3, 0.3, 0.4, //
        0.0, 0.0, 1.0,
    ];
    assert_eq!(stationary(trap, 3), [0.0, 0.0, 1.0]);
}

#[test]
fn on_real_inputs_the_target_is_met_and_thresholds_do_no_better() {
    let network = Synthetic {
        exits: 5,
        inputs: 4000,
        ..Synthetic::default()
    };
    let records = network.records().unwrap();
    let stages = network.stages().unwrap();
    let known = records.filter(|input| input % 2 == 0);
    let fresh = records.filter(|input| input % 2 == 1);
    for rate in [2.0, 4.0, 7.0] {
        let station = station(rate, 11, 0.01);
        let joint = Joint::fitted(&known, &stages, 10, &station).unwrap();
        // On the inputs that it was made from the loss is met; its own numbers are the exact ones.
        let exact = on_records(&joint, &known, &stages, &station).unwrap();
        near(exact.accuracy, joint.accuracy, 1e-12);
        near(exact.loss, joint.loss, 1e-12);
        assert!(exact.loss <= 0.01 * 1.003, "{}", exact.loss);
        // On others it is nearly met, and none that loses no more is clearly better.
        let (exact, trace) = trace_on_records(&joint, &fresh, &stages, &station).unwrap();
        assert!(exact.loss < 0.014, "{}", exact.loss);
        let n = f64::from(u32::try_from(fresh.len()).unwrap());
        let mean: f64 = trace.correct.iter().sum::<f64>() / n;
        near(mean, exact.accuracy, 1e-9);
        near(trace.reach.iter().step_by(5).sum(), 1.0, 1e-9);
        let mut others: Vec<Box<dyn ExitPolicy>> = vec![Box::new(FixedExit::last())];
        for level in 1..20 {
            others.push(Box::new(Thresholds::new(vec![f64::from(level) / 20.0; 4])));
        }
        for other in others {
            let (judged, own) =
                trace_on_records(other.as_ref(), &fresh, &stages, &station).unwrap();
            let differences = trace.correct.iter().zip(&own.correct).map(|(a, b)| a - b);
            let square: f64 = differences.map(|d| d * d).sum();
            let noise = 3.0 * square.sqrt() / n;
            let is_met = judged.loss <= exact.loss.max(0.01);
            assert!(
                !is_met || judged.accuracy <= exact.accuracy + noise,
                "rate {rate}: {other:?} {} {}",
                judged.accuracy,
                exact.accuracy
            );
        }
    }
}
