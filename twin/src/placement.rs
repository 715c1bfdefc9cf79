//! Placement that is proven by simulation.
//!
//! [`Proven`] seeks places by formulas, which cost microseconds: each model at its best beside the others in turn, then
//! steps of all together from there. It has the best of them compared by event simulation on common random numbers,
//! which costs milliseconds and knows what formulas do not: how bursts travel along chains, what full queues turn away.
//! It stops as soon as the comparison is decided.

use std::{collections::BTreeMap, time::Duration};

use splitplace_fleet::{Link, Timestamp};
use splitplace_plan::{
    Annealing, Exact, Greedy, Problem, Responses, Solution, Strategy,
    joint::{Places, places, solution, worth},
};

use crate::{
    Law, Seed,
    arrivals::Process,
    network::{Chain, Loss, Network, Observer, StationSpec, Step, Until, WireSpec, run},
    stats::{Race, RaceSettings, Summary, Verdict},
};

/// How a placement problem is simulated: every node one server in order of coming.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// Jobs that a node holds, waiting and in service.
    pub capacity: usize,
    /// Squared coefficient of variation of service times.
    pub scv: f64,
    /// Requests of one run, all arms together.
    pub requests: u64,
    /// Promise to each arm's requests, in seconds; none when empty.
    pub promise: f64,
}

impl Default for Trial {
    fn default() -> Self {
        Self {
            capacity: 64,
            scv: 0.0,
            requests: 1000,
            promise: f64::INFINITY,
        }
    }
}

/// What a run has shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// Mean seconds of those answered. Of a semantic arm each branch counts as a request.
    pub response: Summary,
    /// Requests lost, over those that came.
    pub loss: f64,
    /// Requests lost or later than promised, over those that came.
    pub violations: f64,
}

impl Shown {
    /// One number to compare by: a lost request counts as one that took this many seconds.
    #[must_use]
    pub fn cost(&self, lost: f64) -> f64 {
        self.response.mean() * (1.0 - self.loss) + lost * self.loss
    }
}

#[derive(Default)]
struct Watch {
    promise: f64,
    response: Summary,
    lost: u64,
    late: u64,
}

impl Observer for Watch {
    fn delivered(&mut self, _: usize, born: Timestamp, now: Timestamp) {
        let seconds = now.since(born).as_secs_f64();
        self.response.add(seconds);
        self.late += u64::from(self.promise < seconds);
    }

    fn lost(&mut self, _: usize, _: usize, _: Timestamp, _: Loss) {
        self.lost += 1;
    }
}

impl Trial {
    /// One run. The same seed gives every placement the same arrivals. Of each model's arms one takes all of its
    /// requests, drawn by the seed. Arms without a place lose all of their requests.
    #[must_use]
    pub fn run(&self, problem: &Problem, places: &Places, seed: Seed) -> Shown {
        let taken = taken(problem, seed);
        let network = self.network(problem, places, &taken);
        let mut watch = Watch {
            promise: self.promise,
            ..Watch::default()
        };
        let placed: f64 = network
            .chains
            .iter()
            .map(|chain| chain.arrivals.rate())
            .sum();
        if placed > 0.0 {
            let until = Until {
                time: Timestamp::MAX,
                arrivals: self.requests,
            };
            run(&network, seed, until, &mut watch);
        }
        let came = (watch.response.count() + watch.lost).max(1) as f64;
        let rates = |all: bool| -> f64 {
            let arms = problem.arms.iter().zip(places).zip(&taken);
            let counted = arms.filter(|((_, place), taken)| **taken && (all || place.is_some()));
            counted
                .map(|((arm, _), _)| arm.arrival_rate * arm.chains.len() as f64)
                .sum()
        };
        let there = if rates(true) > 0.0 {
            rates(false) / rates(true)
        } else {
            1.0
        };
        let share = |count: u64| 1.0 - there + there * count as f64 / came;
        Shown {
            response: watch.response,
            loss: share(watch.lost),
            violations: share(watch.lost + watch.late),
        }
    }

    /// The problem as queues: a station for each node, a wire for each pair that is used.
    fn network(&self, problem: &Problem, places: &Places, taken: &[bool]) -> Network {
        let mut network = Network {
            stations: vec![StationSpec::in_order(self.capacity.max(1)); problem.nodes.len()],
            ..Network::default()
        };
        let mut wires = BTreeMap::new();
        let arms = problem.arms.iter().zip(places).zip(taken);
        for ((arm, place), _) in arms.filter(|(_, taken)| **taken) {
            let Some(branches) = place else { continue };
            for (chain, stages) in arm.chains.iter().zip(branches) {
                let mut from = problem.center();
                let mut over = |from: usize, to: usize, bytes: u64, network: &mut Network| {
                    if from == to {
                        return None;
                    }
                    let wire = *wires.entry((from, to)).or_insert_with(|| {
                        let (rate, delay) = problem.links[from][to];
                        let link = Link {
                            rate_bytes_per_second: rate,
                            delay: duration(delay),
                            jitter: Duration::ZERO,
                        };
                        let outages = Vec::new();
                        network.wires.push(WireSpec { link, outages });
                        network.wires.len() - 1
                    });
                    Some((wire, bytes))
                };
                let mut steps = Vec::with_capacity(stages.len());
                for stage in stages {
                    let crossing = &chain.boundaries[stage.segments.start];
                    let bytes = problem.best_way(arm, from, stage.node, crossing).bytes;
                    let segments = &chain.segments[stage.segments.clone()];
                    let seconds: f64 = segments.iter().map(|one| one.service[stage.node]).sum();
                    steps.push(Step {
                        over: over(from, stage.node, bytes, &mut network),
                        station: stage.node,
                        service: Law::gamma(seconds, self.scv).unwrap_or_else(|_| forever()),
                    });
                    from = stage.node;
                }
                let bytes = chain.boundaries.last().map_or(0, |last| last.raw_bytes());
                let back = over(from, problem.center(), bytes, &mut network);
                network.chains.push(Chain {
                    arrivals: Process::Poisson {
                        rate: arm.arrival_rate,
                    },
                    steps,
                    back,
                    promise: Duration::ZERO,
                });
            }
        }
        network
    }
}

/// By arm: whether it is the one of its model that takes the requests. Nothing is drawn of models with one arm.
fn taken(problem: &Problem, seed: Seed) -> Vec<bool> {
    let mut of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (number, arm) in problem.arms.iter().enumerate() {
        of.entry(arm.model).or_default().push(number);
    }
    let mut taken = vec![false; problem.arms.len()];
    for (model, arms) in of {
        let unit = match arms.len() {
            1 => 0.0,
            _ => seed.stream("taken", model as u64).unit(),
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "below the number of arms"
        )]
        let at = (unit * arms.len() as f64) as usize;
        taken[arms[at.min(arms.len() - 1)]] = true;
    }
    taken
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// A service that never ends: a node that cannot run it.
fn forever() -> Law {
    Law::constant(1e9).expect("it is finite")
}

/// Ours: candidates screened by formulas, finalists compared by simulation on common random numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proven {
    /// Steps of each search at least; more is better, at any number there is an answer.
    pub steps: u32,
    /// And for each arm: a larger problem has more to move.
    pub steps_an_arm: u32,
    /// Searches, each from another seed.
    pub searches: u64,
    /// Candidates that are simulated.
    pub finalists: usize,
    /// How they are; of larger problems at least [`REQUESTS_AN_ARM`] requests for each arm.
    pub trial: Trial,
    /// Pairs of runs of a comparison at most.
    pub pairs: u64,
}

impl Default for Proven {
    fn default() -> Self {
        Self {
            steps: 2000,
            steps_an_arm: 250,
            searches: 1,
            finalists: 3,
            trial: Trial {
                requests: 500,
                ..Trial::default()
            },
            pairs: 8,
        }
    }
}

/// Requests of an arm in a run: fewer do not show what its queues do.
pub const REQUESTS_AN_ARM: u64 = 20;

/// Times the least cost by formulas at which no simulation is needed to know better.
const HOPELESS: f64 = 2.0;

/// Arms and nodes up to which the exact programme for single arms is among the candidates.
const EXACT: (usize, usize) = (2, 6);

impl Proven {
    /// Candidates, best by formulas first, none twice.
    fn candidates(&self, problem: &Problem, seed: u64) -> Vec<(f64, Places)> {
        let responses = Responses::default().solve(problem, seed);
        let mut all = vec![places(&Greedy.solve(problem, seed)), places(&responses)];
        if problem.arms.len() <= EXACT.0 && problem.nodes.len() <= EXACT.1 {
            all.push(places(&Exact.solve(problem, seed)));
        }
        let cost = |places: &Places| worth(problem, places).cost();
        let begin = all
            .iter()
            .min_by(|a, b| cost(a).total_cmp(&cost(b)))
            .cloned();
        let arms = u32::try_from(problem.arms.len()).unwrap_or(u32::MAX);
        let annealing = Annealing {
            steps: self.steps.max(self.steps_an_arm.saturating_mul(arms)),
            ..Annealing::default()
        };
        for search in 0..self.searches {
            if let Some(begin) = begin.clone() {
                let own = Seed(seed).child("search", search).0;
                all.push(annealing.by_worth(problem, begin, own).0);
            }
        }
        let mut judged: Vec<(f64, Places)> = all.into_iter().map(|one| (cost(&one), one)).collect();
        judged.sort_by(|a, b| a.0.total_cmp(&b.0));
        judged.dedup_by(|a, b| a.1 == b.1);
        judged.truncate(self.finalists.max(1));
        let least = judged.first().map_or(0.0, |(cost, _)| *cost);
        judged.retain(|(cost, _)| *cost <= HOPELESS * least);
        judged
    }
}

impl Strategy for Proven {
    fn name(&self) -> &'static str {
        "proven"
    }

    /// Costs `searches · steps` steps of O(nodes + arms) and at most `finalists · pairs` simulations.
    fn solve(&self, problem: &Problem, seed: u64) -> Solution {
        let finalists = self.candidates(problem, seed);
        let is_idle = problem.arms.iter().all(|arm| arm.arrival_rate <= 0.0);
        let mut finalists = finalists.into_iter();
        let (cost, mut best) = finalists.next().unwrap_or_default();
        let trial = Trial {
            requests: (self.trial.requests).max(REQUESTS_AN_ARM * problem.arms.len() as u64),
            ..self.trial
        };
        // A lost request is as bad as one of ten times the expected response.
        let lost = 10.0 * cost.min(1.0);
        let run = |places: &Places, pair: usize| {
            let seed = Seed(seed).child("pair", pair as u64);
            trial.run(problem, places, seed).cost(lost)
        };
        // What the best has cost in each run: whoever comes is held against the same.
        let mut shown: Vec<f64> = Vec::new();
        // Where nothing queues the formulas are right, and what runs besides is not simulated.
        let is_simulated = !is_idle && problem.beside.is_empty();
        for (_, other) in finalists.filter(|_| is_simulated) {
            let settings = RaceSettings {
                error: 0.05,
                indifference: 1e-3 * cost.min(1.0),
                first: 4,
                most: self.pairs.max(4),
            };
            let mut race = Race::new(settings);
            let mut others = Vec::new();
            for pair in 0.. {
                if shown.len() == pair {
                    shown.push(run(&best, pair));
                }
                others.push(run(&other, pair));
                if race.add(shown[pair], others[pair]) != Verdict::Open {
                    break;
                }
            }
            if race.verdict() == Verdict::Second {
                best = other;
                shown = others;
            }
        }
        solution(problem, best, &|arm| {
            format!("{}: no place was found that its memory fits", arm.name)
        })
    }
}

#[cfg(test)]
mod tests {
    use splitplace_plan::{ArmKind, ArmProblem, ChainProblem, NodeSpec, SegmentSpec};

    use super::*;

    /// Two arms of one segment and two nodes, one of them a little faster; both arms there overload it.
    fn problem(rate: f64) -> Problem {
        let arm = |name: &str| ArmProblem {
            name: name.into(),
            model: usize::from(name == "b"),
            kind: ArmKind::Whole,
            parts: (1, 1),
            chains: vec![ChainProblem {
                segments: vec![SegmentSpec {
                    weight_bytes: 10,
                    activation_bytes: 0,
                    service: vec![0.010, 0.012],
                }],
                boundaries: vec![0.into(), 0.into()],
            }],
            arrival_rate: rate,
            arrival_scv: 1.0,
            bounds: splitplace_plan::Bounds::default(),
        };
        Problem {
            nodes: vec![NodeSpec::of(100); 2],
            links: vec![vec![(f64::INFINITY, 0.001); 3]; 3],
            coding: vec![0.0; 3],
            arms: vec![arm("a"), arm("b")],
            overhead_bytes: 0,
            spread: 0.0,
            places: Problem::PLACES,
            loss_target: Problem::LOSS,
            beside: Vec::new(),
        }
    }

    #[test]
    fn busy_arms_are_kept_apart_and_idle_ones_share_the_fast_node() {
        let nodes = |rate: f64| -> Vec<usize> {
            let solution = Proven::default().solve(&problem(rate), 1);
            let placed = places(&solution).into_iter().flatten();
            placed.map(|branches| branches[0][0].node).collect()
        };
        assert_eq!(nodes(0.0), [0, 0]);
        let mut busy = nodes(60.0);
        busy.sort_unstable();
        assert_eq!(busy, [0, 1]);
        let problem = problem(60.0);
        let again = || Proven::default().solve(&problem, 5);
        assert_eq!(again(), again());
        let told = Proven::default().explain(&problem, &again());
        assert!(told.contains("nothing can be below 12.000 ms"), "{told}");
    }

    /// One node, Poisson arrivals, constant service: M/D/1 waits `ρ s / 2 (1 - ρ)`.
    #[test]
    fn a_trial_agrees_with_pollaczek_and_khinchine() {
        let mut one = problem(60.0);
        one.arms.truncate(1);
        let trial = Trial {
            requests: 400_000,
            capacity: 10_000,
            ..Trial::default()
        };
        let places = places(&Exact.solve(&one, 0));
        let shown = trial.run(&one, &places, Seed(1));
        let formula = worth(&one, &places).seconds;
        assert!(
            (shown.response.mean() / formula - 1.0).abs() < 0.01,
            "{shown:?} {formula}"
        );
        assert!(shown.loss.abs() < 1e-9);
        let nowhere = trial.run(&one, &vec![None], Seed(1));
        assert!((nowhere.loss - 1.0).abs() < 1e-9);
    }
}
