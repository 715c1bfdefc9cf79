//! The distributed controller against nodes apart, static thresholds, and the joint controller of one station.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use splitplace_policy::exit::{
    Joint, Line, Priced, Station,
    apart::{Apart, Static},
    fitted_line::fitted,
    gaussian::Search,
    line::{hope, share_of},
    on_table,
    priced::Ascent,
    simulate::{Controller, Inputs, Node, Plan, Run, simulate, summary},
    synthetic::Synthetic,
};
use splitplace_queueing::{Arrivals, Service};

fn nodes(network: &Synthetic, split: &[usize], slower: &[f64], capacity: usize) -> Vec<Node> {
    let stages = network.stages().unwrap();
    let mut at = 0;
    split
        .iter()
        .zip(slower)
        .map(|(&count, &factor)| {
            at += count;
            Node {
                stages: stages[at - count..at]
                    .iter()
                    .map(|s| s.scaled(factor))
                    .collect(),
                capacity,
            }
        })
        .collect()
}

fn runs(plan: &Plan<'_>, controller: &mut dyn Controller, seeds: std::ops::Range<u64>) -> Vec<Run> {
    let of = |seed| {
        let mut plan = plan.clone();
        plan.seed = seed;
        simulate(&plan, controller)
    };
    seeds.map(of).collect()
}

fn mean(runs: &[Run], of: impl Fn(&Run) -> f64) -> (f64, f64) {
    summary(&runs.iter().map(of).collect::<Vec<_>>())
}

#[test]
fn on_one_node_it_is_the_joint_controller() {
    let network = Synthetic {
        exits: 5,
        ..Synthetic::default()
    };
    let table = network.table(8).unwrap();
    let nodes = nodes(&network, &[5], &[1.0], 9);
    for rate in [3.0, 5.0, 8.0] {
        let arrivals = Arrivals::poisson(rate).unwrap();
        let line = Line {
            network: &table,
            nodes: &nodes,
            arrivals,
        };
        let priced = Priced::for_target(&line, 0.01, f64::INFINITY).unwrap();
        let station = Station {
            arrivals,
            capacity: 9,
            target: 0.01,
        };
        let joint = Joint::new(&table, &station).unwrap();
        // The price's table is pure, the joint one mixes two: it may gain the last thousandth.
        let own = Own(priced);
        let got = on_table(&own, &table, &station).unwrap();
        assert!(got.loss <= 0.01 + 1e-9, "{}", got.loss);
        assert!(got.accuracy <= joint.accuracy + 1e-9);
        assert!(
            got.accuracy > joint.accuracy - 3e-3,
            "{} {}",
            got.accuracy,
            joint.accuracy
        );
    }
}

/// A line of one node as an exit policy.
#[derive(Debug)]
struct Own(Priced);

impl splitplace_policy::exit::ExitPolicy for Own {
    fn name(&self) -> &'static str {
        "own"
    }

    fn stop(&self, at: &splitplace_policy::exit::At) -> f64 {
        self.0.table(0).at(at.exit, at.confidence, at.present)
    }

    fn explain(&self) -> std::collections::BTreeMap<String, f64> {
        self.0.explain()
    }
}

#[test]
fn offers_fall_with_backlog_and_rise_with_what_can_still_be_learnt() {
    let network = Synthetic {
        exits: 6,
        ..Synthetic::default()
    };
    let table = network.table(8).unwrap();
    let nodes = nodes(&network, &[2, 2, 2], &[1.0, 2.0, 2.0], 8);
    let line = Line {
        network: &table,
        nodes: &nodes,
        arrivals: Arrivals::poisson(5.0).unwrap(),
    };
    let priced = Priced::new(&line, 5.0, f64::INFINITY).unwrap();
    for node in 1..3 {
        let offer = priced.offer(node);
        assert_eq!(offer.place.len(), 9);
        assert!(
            offer.place.windows(2).all(|w| w[1] <= w[0] + 1e-6),
            "{:?}",
            offer.place
        );
        assert_eq!(offer.place[8], -5.0);
        // What it brings alone is less than one correct answer.
        assert!(
            offer.place[0] < 1.0 && offer.place[0] > 0.0,
            "{:?}",
            offer.place
        );
        let total: f64 = offer.share.iter().sum();
        assert!((total - 1.0).abs() < 1e-9);
        // Confidence helps everywhere, here.
        assert!(offer.worth.last().unwrap() > offer.worth.first().unwrap());
    }
    let dear = Priced::new(&line, 50.0, f64::INFINITY).unwrap();
    assert!(
        dear.loss <= priced.loss + 1e-6,
        "{} {}",
        dear.loss,
        priced.loss
    );
    assert!((hope(&table, 0).len(), table.last()) == (8, 5));
    assert!((share_of(0.01, 1) - 0.01).abs() < 1e-12);
    assert!((1.0 - (1.0 - share_of(0.01, 3)).powi(3) - 0.01).abs() < 1e-12);
}

#[test]
fn it_meets_the_target_and_is_not_beaten_by_nodes_apart_or_static_thresholds() {
    let network = Synthetic {
        exits: 6,
        inputs: 6000,
        ..Synthetic::default()
    };
    let records = network.records().unwrap();
    // Made from one half, tried on the other.
    let known = records.filter(|input| input % 2 == 0);
    let fresh = records.filter(|input| input % 2 == 1);
    let table = known.table(network.stages().unwrap(), 10).unwrap();
    let nodes = nodes(&network, &[2, 2, 2], &[1.0, 1.5, 1.5], 8);
    let bursty = Arrivals::bursty(4.0, 2.0, 0.2, 5.0).unwrap();
    for arrivals in [Arrivals::poisson(6.0).unwrap(), bursty] {
        let mut plan = Plan::new(&nodes, Inputs::Records(&known), arrivals);
        plan.requests = 6_000;
        plan.seed = 1000;
        let mut priced = fitted(&known, 10, &plan, 0.009).unwrap();
        let line = Line {
            network: &table,
            nodes: &nodes,
            arrivals,
        };
        let mut apart = Apart::new(&line, 0.009).unwrap();
        let search = Search {
            guided: 30,
            ..Search::default()
        };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut fixed = Static::found(&known, 0.009, &search, &mut rng, |setting| {
            let runs = runs(&plan, setting, 1000..1002);
            (mean(&runs, Run::accuracy).0, mean(&runs, Run::loss).0)
        });
        plan.inputs = Inputs::Records(&fresh);
        plan.requests = 15_000;
        let judge = |controller: &mut dyn Controller| {
            let runs = runs(&plan, controller, 0..10);
            (mean(&runs, Run::accuracy), mean(&runs, Run::loss))
        };
        let ((accuracy, error), (loss, loss_error)) = judge(&mut priced);
        assert!(loss < 0.012 + 3.0 * loss_error, "{loss} ± {loss_error}");
        let others = [
            ("apart", &mut apart as &mut dyn Controller),
            ("static", &mut fixed),
        ];
        for (name, other) in others {
            let ((a, e), (l, le)) = judge(other);
            let is_met = l <= 0.01 + 3.0 * le;
            let noise = 3.0 * (e * e + error * error).sqrt();
            assert!(
                !is_met || accuracy >= a - noise,
                "{name}: {a} and {accuracy}"
            );
        }
    }
}

#[test]
fn deadlines_can_be_the_target() {
    let network = Synthetic {
        exits: 4,
        inputs: 1000,
        ..Synthetic::default()
    };
    let records = network.records().unwrap();
    let table = network.table(6).unwrap();
    let nodes = nodes(&network, &[2, 2], &[1.0, 1.0], 12);
    let arrivals = Arrivals::poisson(5.0).unwrap();
    let line = Line {
        network: &table,
        nodes: &nodes,
        arrivals,
    };
    let mut plan = Plan::new(&nodes, Inputs::Records(&records), arrivals);
    plan.requests = 10_000;
    plan.deadline = 1.0;
    let missed = |priced: &Priced| mean(&runs(&plan, &mut priced.clone(), 0..3), Run::missed).0;
    let careless = missed(&Priced::new(&line, 0.0, 1.0).unwrap());
    let tuned = Priced::tuned(&line, 0.02, 1.0, missed).unwrap();
    let met = missed(&tuned);
    assert!(met <= 0.02 && careless > 0.05, "{met} {careless}");
}

#[test]
fn the_price_follows_the_counters() {
    let mut ascent = Ascent {
        price: 2.0,
        target: 0.01,
        step: 0.2,
    };
    assert!(ascent.observe(1000, 60));
    assert!((ascent.price - 2.0 * 1.0_f64.exp()).abs() < 1e-9);
    let dear = ascent.price;
    assert!(!ascent.observe(1000, 8));
    assert!(ascent.price < dear);
    assert!(!ascent.observe(0, 0));
    // A stage that takes no time at all is no trouble either.
    let none = Service::constant(0.0).unwrap();
    assert_eq!(none.mean(), 0.0);
}
