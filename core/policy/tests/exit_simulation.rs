//! Exact evaluation against event simulation, for every kind of controller, Poisson and bursts, tables and
//! records; and what the simulation says of queues that are known.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use splitplace_policy::exit::{
    AdaEe, AdaEeSettings, Evaluation, ExitPolicy, FixedExit, Joint, Station, Thresholds,
    backlog::backlog,
    on_records, on_table,
    simulate::{Alone, Inputs, Node, Plan, Run, simulate, simulate_changing, summary},
    single,
    synthetic::Synthetic,
};
use splitplace_queueing::{Arrivals, Service, exact};

const RUNS: u64 = 16;

fn runs(policy: &mut dyn ExitPolicy, plan: &Plan<'_>) -> Vec<Run> {
    let of = |seed| {
        let mut plan = plan.clone();
        plan.seed = seed;
        simulate(&plan, &mut Alone::single(policy, false))
    };
    (0..RUNS).map(of).collect()
}

#[track_caller]
fn agrees(what: &str, exact: f64, runs: &[Run], of: impl Fn(&Run) -> f64) {
    let (mean, error) = summary(&runs.iter().map(of).collect::<Vec<_>>());
    // 80 comparisons: 3.5 standard errors of 16 runs are passed by chance once in a few hundred.
    // What comes less than once in all runs together may not be seen at all.
    let rare = 3.0 / (16.0 * 15_000.0);
    assert!(
        (mean - exact).abs() <= 3.5 * error + rare,
        "{what}: {exact} and {mean} ± {error}"
    );
}

#[track_caller]
fn all_agree(what: &str, exact: &Evaluation, runs: &[Run]) {
    agrees(
        &format!("{what}: accuracy"),
        exact.accuracy,
        runs,
        Run::accuracy,
    );
    agrees(&format!("{what}: loss"), exact.loss, runs, Run::loss);
    agrees(
        &format!("{what}: response"),
        exact.response,
        runs,
        Run::response,
    );
    agrees(
        &format!("{what}: exit"),
        exact.mean_exit(),
        runs,
        Run::mean_exit,
    );
}

#[test]
fn exact_and_simulated_are_the_same() {
    let network = Synthetic {
        exits: 5,
        jitter: 0.05,
        inputs: 600,
        ..Synthetic::default()
    };
    let records = network.records().unwrap();
    let table = network.table(6).unwrap();
    let nodes = [Node {
        stages: table.stages().to_vec(),
        capacity: 8,
    }];
    for (name, arrivals) in [
        ("poisson", Arrivals::poisson(5.0).unwrap()),
        ("bursty", Arrivals::bursty(3.5, 2.5, 0.2, 3.0).unwrap()),
    ] {
        let station = Station {
            arrivals,
            capacity: 8,
            target: 0.01,
        };
        let mut policies: Vec<Box<dyn ExitPolicy>> = vec![
            Box::new(FixedExit::last()),
            Box::new(Thresholds::new(vec![0.9, 0.8, 0.7, 0.6])),
            Box::new(single::knapsack(&table, &station).unwrap()),
            Box::new(single::queueing(&table, &station).unwrap()),
            Box::new(backlog(&table, &station).unwrap()),
            Box::new(AdaEe::new(&table, AdaEeSettings::default())),
            Box::new(Joint::new(&table, &station).unwrap()),
        ];
        for policy in &mut policies {
            let what = format!("{} {name}", policy.name());
            let exact = on_table(policy.as_ref(), &table, &station).unwrap();
            let mut plan = Plan::new(&nodes, Inputs::Table(&table), arrivals);
            plan.requests = 15_000;
            all_agree(
                &format!("{what}, table"),
                &exact,
                &runs(policy.as_mut(), &plan),
            );
            let exact = on_records(policy.as_ref(), &records, table.stages(), &station).unwrap();
            plan.inputs = Inputs::Records(&records);
            all_agree(
                &format!("{what}, records"),
                &exact,
                &runs(policy.as_mut(), &plan),
            );
        }
    }
}

#[test]
fn the_simulation_knows_plain_queues() {
    let service = Service::gamma(0.2, 0.4).unwrap();
    let network = Synthetic {
        exits: 1,
        inputs: 50,
        ..Synthetic::default()
    };
    let records = network.records().unwrap();
    let nodes = [Node {
        stages: vec![service.clone()],
        capacity: 6,
    }];
    let mut plan = Plan::new(
        &nodes,
        Inputs::Records(&records),
        Arrivals::poisson(4.5).unwrap(),
    );
    plan.requests = 30_000;
    let exact = exact::solve(4.5, &service, 6).unwrap();
    let all = runs(&mut FixedExit::last(), &plan);
    agrees("loss", exact.loss, &all, Run::loss);
    agrees("response", exact.response, &all, Run::response);
    for run in &all {
        assert_eq!(run.served + run.lost[0], run.arrivals);
        assert!(run.responses.is_sorted());
    }
}

#[test]
fn a_constant_stage_behind_a_slower_one_loses_nothing() {
    let network = Synthetic {
        exits: 2,
        inputs: 100,
        ..Synthetic::default()
    };
    let records = network.records().unwrap();
    let node = |mean| Node {
        stages: vec![Service::constant(mean).unwrap()],
        capacity: 3,
    };
    for (first, second, loses) in [(0.2, 0.2, false), (0.2, 0.1, false), (0.1, 0.2, true)] {
        let nodes = [node(first), node(second)];
        let arrivals = Arrivals::poisson(5.0).unwrap();
        let plan = Plan::new(&nodes, Inputs::Records(&records), arrivals);
        let mut never = [FixedExit::last(), FixedExit::last()];
        let [a, b] = &mut never;
        let mut alone = Alone {
            policies: vec![a, b],
            offsets: vec![0, 1],
            learns: false,
        };
        let run = simulate(&plan, &mut alone);
        assert_eq!(run.lost[1] > 0, loses);
        assert_eq!(run.exits, [0, run.served]);
    }
}

#[test]
fn the_same_seed_is_the_same_run_and_arrivals_can_change() {
    let network = Synthetic {
        exits: 3,
        inputs: 100,
        ..Synthetic::default()
    };
    let records = network.records().unwrap();
    let nodes = [Node {
        stages: network.stages().unwrap(),
        capacity: 5,
    }];
    let slow = Arrivals::poisson(1.0).unwrap();
    let mut plan = Plan::new(&nodes, Inputs::Records(&records), slow);
    plan.requests = 3000;
    plan.warm_up = 0;
    let run = |changes: &[(f64, Arrivals)]| {
        let mut policy = Thresholds::new(vec![0.8, 0.8]);
        simulate_changing(&plan, changes, &mut Alone::single(&mut policy, false))
    };
    assert_eq!(run(&[]), run(&[]));
    let fast = Arrivals::poisson(12.0).unwrap();
    let stepped = run(&[(50.0, fast)]);
    assert!(stepped.loss() > run(&[]).loss() + 0.2);
}
