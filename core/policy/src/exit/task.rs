//! One solution: from what is known of a line of nodes to the rules that they decide by.
//!
//! Pure and self-contained, so that whoever serves can hand it to a thread and swap the rules when it is done.

use std::sync::Arc;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use splitplace_queueing::{Arrivals, Service};

use super::{
    ExitError, ExitPolicy, ExitTable, FixedExit, Joint, Line, Records, Rule, Station, Thresholds,
    apart::{Apart, Static},
    backlog::backlog,
    data_driven::{LossModel, data_driven},
    fitted_line,
    gaussian::Search,
    on_records,
    rule::Written,
    simulate::{Controller, Inputs, Node, Plan, simulate},
    single,
};

/// Requests of the simulations by which a line's price is found.
const REQUESTS: usize = 4_000;
/// Names that a served network may be controlled by. The bandits learn on the nodes and are not solved.
pub const SERVED: [&str; 10] = [
    "threshold",
    "last-exit",
    "knapsack",
    "queueing-lp",
    "data-driven",
    "backlog-lp",
    "joint",
    "apart",
    "ada-ee",
    "nested",
];

/// What is to be solved.
#[derive(Clone, Debug)]
pub struct Task {
    /// One of [`SERVED`].
    pub policy: String,
    /// What was measured of the network's exits, its end included.
    pub records: Arc<Records>,
    /// Thresholds that hold for `threshold`, and where nothing else can.
    pub thresholds: Vec<f64>,
    /// The nodes in order, with the times between their exits.
    pub nodes: Vec<Node>,
    /// How requests come to the first one.
    pub arrivals: Arrivals,
    /// Share of the arrivals that may be lost anywhere.
    pub target: f64,
    /// Confidences told apart at each exit.
    pub bins: usize,
    /// Of the searches and simulations.
    pub seed: u64,
}

/// The rules, and what they should achieve.
#[derive(Clone, Debug, PartialEq)]
pub struct Solved {
    /// One for each node.
    pub rules: Vec<Rule>,
    /// Share of correct answers that is expected.
    pub accuracy: f64,
    /// Share of lost requests that is expected.
    pub loss: f64,
    /// Why the thresholds hold instead of what was asked for; empty when they do not.
    pub instead: String,
}

impl Task {
    /// The times between all exits.
    fn stages(&self) -> Vec<Service> {
        let nodes = self.nodes.iter();
        nodes.flat_map(|node| node.stages.clone()).collect()
    }

    /// Solves. From milliseconds for a single node to some seconds for a line.
    ///
    /// # Errors
    /// When nodes and network do not fit or a solver failed.
    pub fn solve(&self) -> Result<Solved, ExitError> {
        let table = self.records.table(self.stages(), self.bins)?;
        match self.nodes.as_slice() {
            [node] => self.station(node, &table),
            _ => self.line(&table),
        }
    }

    fn station(&self, node: &Node, table: &ExitTable) -> Result<Solved, ExitError> {
        let station = Station {
            arrivals: self.arrivals,
            capacity: node.capacity,
            target: self.target,
        };
        station.check()?;
        let stages = &node.stages;
        let mut instead = String::new();
        let rule = match self.policy.as_str() {
            "last-exit" => FixedExit::last().rule(table),
            "knapsack" => single::knapsack(table, &station)?.rule(table),
            "queueing-lp" => single::queueing(table, &station)?.rule(table),
            "backlog-lp" => backlog(table, &station)?.rule(table),
            "data-driven" => {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                let (model, search) = (LossModel::Exact, Search::default());
                data_driven(&self.records, table, &station, model, &search, &mut rng)?.rule(table)
            }
            // One node alone is a line without neighbours.
            "joint" | "apart" => Rule {
                name: "joint",
                ..Joint::fitted(&self.records, stages, self.bins, &station)?.rule(table)
            },
            "ada-ee" | "nested" | "threshold" => self.thresholds(table),
            other => {
                instead = format!("there is no exit policy '{other}'");
                self.thresholds(table)
            }
        };
        let exact = on_records(&rule, &self.records, stages, &station)?;
        Ok(Solved {
            rules: vec![rule],
            accuracy: exact.accuracy,
            loss: exact.loss,
            instead,
        })
    }

    fn line(&self, table: &ExitTable) -> Result<Solved, ExitError> {
        let line = Line {
            network: table,
            nodes: &self.nodes,
            arrivals: self.arrivals,
        };
        line.check()?;
        let mut plan = Plan::new(&self.nodes, Inputs::Records(&self.records), self.arrivals);
        plan.requests = REQUESTS;
        plan.warm_up = REQUESTS / 10;
        plan.seed = self.seed;
        let mut instead = String::new();
        let (rules, run) = match self.policy.as_str() {
            "joint" => {
                let mut priced = fitted_line::fitted(&self.records, self.bins, &plan, self.target)?;
                (priced.rules(table), simulate(&plan, &mut priced))
            }
            "apart" => {
                let mut apart = Apart::new(&line, self.target)?;
                (apart.rules(table, &line), simulate(&plan, &mut apart))
            }
            "data-driven" => {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                let search = Search::default();
                let measure = |found: &mut Static| {
                    let run = simulate(&plan, found);
                    (run.accuracy(), run.loss())
                };
                let mut found =
                    Static::found(&self.records, self.target, &search, &mut rng, measure);
                let rule = Thresholds::new(found.0.clone())
                    .named("data-driven")
                    .rule(table);
                (split(&rule, &line), simulate(&plan, &mut found))
            }
            policy => {
                let last = "last-exit" == policy;
                if !["threshold", "last-exit", "ada-ee", "nested"].contains(&policy) {
                    instead = format!(
                        "'{policy}' decides for one node, and the exits lie on {}",
                        self.nodes.len()
                    );
                }
                let (rule, of) = if last {
                    (FixedExit::last().rule(table), vec![1.01; table.last()])
                } else {
                    (self.thresholds(table), self.thresholds.clone())
                };
                (split(&rule, &line), simulate(&plan, &mut Static(of)))
            }
        };
        Ok(Solved {
            rules,
            accuracy: run.accuracy(),
            loss: run.loss(),
            instead,
        })
    }

    fn thresholds(&self, table: &ExitTable) -> Rule {
        Thresholds::new(self.thresholds.clone()).rule(table)
    }
}

/// A rule for the whole network as one for each node.
fn split(rule: &Rule, line: &Line<'_>) -> Vec<Rule> {
    let of = |node: usize| {
        let (first, last) = line.exits(node);
        let mine = rule.exits.iter().skip(first).take(last + 1 - first);
        Rule {
            first,
            exits: mine.cloned().collect(),
            ..rule.clone()
        }
    };
    (0..line.nodes.len()).map(of).collect()
}

/// The rules as a controller of a simulated line: what the nodes will do.
#[derive(Clone, Debug)]
pub struct Followed<'r>(pub &'r [Rule]);

impl Controller for Followed<'_> {
    fn begin(&mut self, node: usize, present: usize, rng: &mut dyn rand::Rng) -> super::Intent {
        ExitPolicy::begin(&self.0[node], present, rng)
    }

    fn stop(&mut self, moment: &super::simulate::Moment, rng: &mut dyn rand::Rng) -> bool {
        let behind = moment.is_border.then_some(moment.behind);
        let p = self.0[moment.node].stop(&moment.at, behind);
        super::ExitChoice::drawn(p, rng).stop
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::synthetic::Synthetic;

    fn task(policy: &str, nodes: usize, load: f64) -> Task {
        let made = Synthetic {
            inputs: 800,
            ..Synthetic::default()
        };
        let stages = made.stages().unwrap();
        let time: f64 = stages.iter().map(Service::mean).sum();
        let busiest = time / nodes as f64;
        let share = stages.len() / nodes;
        Task {
            policy: policy.into(),
            records: Arc::new(made.records().unwrap()),
            thresholds: vec![0.8; stages.len() - 1],
            nodes: stages
                .chunks(share)
                .map(|stages| Node {
                    stages: stages.to_vec(),
                    capacity: 8,
                })
                .collect(),
            arrivals: Arrivals::poisson(load / busiest).unwrap(),
            target: 0.01,
            bins: 6,
            seed: 3,
        }
    }

    #[test]
    fn every_policy_that_is_served_has_rules_for_one_node() {
        for policy in SERVED {
            let task = task(policy, 1, 1.5);
            let solved = task.solve().unwrap();
            assert_eq!((solved.rules.len(), solved.instead.as_str()), (1, ""));
            let rule = solved.rules[0].clone().checked().unwrap();
            assert_eq!((rule.first, rule.exits.len()), (0, 8));
            if policy == "joint" {
                assert!(solved.loss <= task.target * 1.01, "{}", solved.loss);
            }
        }
        let other = task("fastest", 1, 0.5).solve().unwrap();
        assert!(other.instead.contains("fastest"));
    }

    #[test]
    fn rules_of_a_line_achieve_what_their_controller_does() {
        for policy in ["joint", "apart", "data-driven", "threshold", "last-exit"] {
            let task = task(policy, 3, 0.9);
            let solved = task.solve().unwrap();
            assert_eq!(solved.rules.len(), 3);
            assert_eq!(
                solved
                    .rules
                    .iter()
                    .map(|rule| rule.first)
                    .collect::<Vec<_>>(),
                [0, 3, 6]
            );
            assert!(solved.rules.iter().all(|r| r.clone().checked().is_some()));
            let records = &task.records;
            let mut plan = Plan::new(&task.nodes, Inputs::Records(records), task.arrivals);
            (plan.requests, plan.warm_up, plan.seed) = (REQUESTS, REQUESTS / 10, task.seed);
            let run = simulate(&plan, &mut Followed(&solved.rules));
            // The same requests: only decisions that are drawn may fall otherwise.
            assert!((run.accuracy() - solved.accuracy).abs() < 0.005, "{policy}");
            assert!((run.loss() - solved.loss).abs() < 0.002, "{policy}");
        }
        let solved = task("knapsack", 3, 0.9).solve().unwrap();
        assert!(
            solved.instead.contains("for one node"),
            "{}",
            solved.instead
        );
    }
}
