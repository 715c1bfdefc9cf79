//! Rules that follow what is seen, on a simulated line: what the target is worth when rates, bursts and losses have to
//! be learnt while it runs. The governor is the one that serves; only the line is simulated.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use rand::Rng;
use splitplace_policy::exit::{
    ExitError, Intent, Records, Rule,
    apart::Static,
    govern::{Assumed, Governor, GovernorSettings},
    simulate::{Controller, Inputs, Moment, Node, Plan, simulate, simulate_changing},
    synthetic::Synthetic,
    task::{Followed, Solved},
};
use splitplace_queueing::{Arrivals, Service};

/// Seconds between two looks, and from a solution to its rules on the nodes.
const LOOK: f64 = 0.1;
const DELAY: f64 = 0.4;

/// A network like a small picture classifier with four exits before its end; the first one after so many
/// seconds of 0.118.
fn network(first: f64) -> Synthetic {
    Synthetic {
        exits: 5,
        first,
        last: 0.118,
        easy: 0.79,
        hard: 0.87,
        jitter: 0.05,
        inputs: 1_500,
        seed: 3,
    }
}

/// The governor's rules in force on a line.
struct Governed {
    governor: Governor,
    rules: Vec<Rule>,
    pending: Option<(f64, Result<Solved, ExitError>)>,
    looked: f64,
    /// By request that came: when, and whether it was lost then or later.
    came: Vec<f64>,
    lost: Vec<f64>,
}

impl Governed {
    fn new(policy: &str, records: &Records, nodes: &[Node]) -> Self {
        let settings = GovernorSettings {
            policy: policy.into(),
            places: nodes[0].capacity,
            thresholds: vec![0.9; records.exits() - 1],
            ..GovernorSettings::default()
        };
        let assumed = nodes.iter().map(|node| Assumed {
            stages: node.stages.iter().map(Service::mean).collect(),
            servers: 1,
        });
        let mut governor = Governor::new(settings, records, assumed.collect()).unwrap();
        for (number, node) in nodes.iter().enumerate() {
            for (stage, service) in node.stages.iter().enumerate() {
                governor.took(
                    number,
                    stage,
                    500,
                    service.mean(),
                    service.scv() * service.mean().powi(2),
                );
            }
        }
        let solved = governor.due(0.0).unwrap().solve();
        assert!(governor.done(solved));
        Self {
            rules: governor.rules().to_vec(),
            governor,
            pending: None,
            looked: 0.0,
            came: Vec::new(),
            lost: Vec::new(),
        }
    }

    fn look(&mut self, now: f64) {
        if let Some((_, solved)) = self.pending.take_if(|(at, _)| *at <= now)
            && self.governor.done(solved)
        {
            self.rules = self.governor.rules().to_vec();
        }
        if now >= self.looked + LOOK {
            self.looked = now;
            if let Some(task) = self.governor.due(now) {
                self.pending = Some((now + DELAY, task.solve()));
            }
        }
    }

    /// Share lost of what came between two instants.
    fn loss(&self, from: f64, to: f64) -> f64 {
        let within = |all: &[f64]| all.iter().filter(|&&at| from <= at && at < to).count();
        within(&self.lost) as f64 / within(&self.came).max(1) as f64
    }
}

impl Controller for Governed {
    fn begin(&mut self, node: usize, present: usize, rng: &mut dyn Rng) -> Intent {
        Followed(&self.rules).begin(node, present, rng)
    }

    fn stop(&mut self, moment: &Moment, rng: &mut dyn Rng) -> bool {
        Followed(&self.rules).stop(moment, rng)
    }

    fn came(&mut self, node: usize, now: f64, is_lost: bool) {
        if node == 0 {
            self.look(now);
            self.governor.arrived(now);
            self.came.push(now);
        }
        if is_lost {
            self.governor.lost();
            self.lost.push(now);
        }
    }
}

/// Nodes that hold the exits in order, so many each, all with so many places.
fn nodes(split: &[usize], first: f64, places: usize) -> Vec<Node> {
    let stages = network(first).stages().unwrap();
    let mut at = 0;
    split
        .iter()
        .map(|count| {
            at += count;
            Node {
                stages: stages[at - count..at].to_vec(),
                capacity: places,
            }
        })
        .collect()
}

/// Seconds that the whole network takes on its busiest node.
fn busiest(nodes: &[Node]) -> f64 {
    let work = |node: &Node| node.stages.iter().map(Service::mean).sum::<f64>();
    nodes.iter().map(work).fold(0.0, f64::max)
}

/// A line under a policy, with arrivals that may change at an instant.
fn run(
    policy: &str,
    nodes: &[Node],
    arrivals: Arrivals,
    change: Option<(f64, Arrivals)>,
    (until, seed): (f64, u64),
) -> (Governed, f64) {
    let first = nodes[0].stages[0].mean();
    let records = network(first).records().unwrap();
    let mut governed = Governed::new(policy, &records, nodes);
    let mut plan = Plan::new(nodes, Inputs::Records(&records), arrivals);
    let after = change.map_or(arrivals.rate(), |(_, later)| later.rate());
    plan.requests = (until * arrivals.rate().max(after)) as usize;
    plan.warm_up = 0;
    plan.seed = seed;
    let changes: Vec<(f64, Arrivals)> = change.into_iter().collect();
    let accuracy = simulate_changing(&plan, &changes, &mut governed).accuracy();
    (governed, accuracy)
}

/// Mean share lost once it had so many seconds to learn in.
fn settled(policy: &str, nodes: &[Node], arrivals: Arrivals, seeds: u64) -> (f64, f64) {
    let (learning, until) = (150.0, 350.0);
    let (mut lost, mut right) = (0.0, 0.0);
    for seed in 0..seeds {
        let (governed, accuracy) = run(policy, nodes, arrivals, None, (until, seed));
        lost += governed.loss(learning, until) / seeds as f64;
        right += accuracy / seeds as f64;
    }
    (lost, right)
}

/// Two and a half times the mean rate for a fifth of the time, twenty service times long.
fn bursty(rate: f64, service: f64) -> Arrivals {
    Arrivals::bursty(rate, 2.5, 0.2, 20.0 * service).unwrap()
}

#[test]
fn the_target_is_kept_where_everything_has_to_be_learnt() {
    let nodes = nodes(&[5], 0.028, 11);
    let service = busiest(&nodes);
    for (load, is_bursty) in [(1.5, false), (1.0, true), (1.5, true)] {
        let rate = load / service;
        let arrivals = if is_bursty {
            bursty(rate, service)
        } else {
            Arrivals::poisson(rate).unwrap()
        };
        let (lost, _) = settled("joint", &nodes, arrivals, 2);
        assert!(lost < 0.013, "{lost} at load {load}, {arrivals:?}");
    }
}

#[test]
fn ten_seconds_after_a_step_of_the_rate_little_is_lost_and_it_is_not_taken_for_a_burst() {
    let nodes = nodes(&[5], 0.028, 11);
    let service = busiest(&nodes);
    for seed in 0..4 {
        let calm = Arrivals::poisson(0.5 / service).unwrap();
        let rush = Arrivals::poisson(3.0 / service).unwrap();
        let (governed, _) = run("joint", &nodes, calm, Some((30.0, rush)), (90.0, seed));
        let at_once = governed.loss(30.0, 33.0);
        let later = governed.loss(40.0, 90.0);
        assert!(at_once > 0.1, "nothing was to be learnt: {at_once}");
        assert!(later < 0.02, "{later}");
    }
}

#[test]
fn on_a_line_under_bursts_joint_is_as_safe_as_apart_and_more_often_right() {
    let nodes = nodes(&[2, 2, 1], 0.014, 11);
    let service = busiest(&nodes);
    let arrivals = bursty(1.0 / service, service);
    let (lost, right) = settled("joint", &nodes, arrivals, 2);
    let (_, apart) = settled("apart", &nodes, arrivals, 2);
    assert!(lost < 0.012, "{lost}");
    assert!(right > apart, "{right} {apart}");
}

#[test]
fn where_the_target_is_out_of_reach_hardly_more_is_lost_than_must_be() {
    let nodes = nodes(&[2, 2, 1], 0.028, 11);
    let service = busiest(&nodes);
    let arrivals = bursty(1.0 / service, service);
    let records = network(0.028).records().unwrap();
    let mut plan = Plan::new(&nodes, Inputs::Records(&records), arrivals);
    plan.requests = 20_000;
    let least = simulate(&plan, &mut Static(vec![0.0; records.exits() - 1])).loss();
    assert!(least > 0.05, "{least} is no overload");
    let (lost, _) = settled("joint", &nodes, arrivals, 2);
    assert!(lost < 1.2 * least + 0.01, "{lost} instead of {least}");
}
