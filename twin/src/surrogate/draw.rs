//! Placements drawn by a law, and labelled by running them.
//!
//! Two to twenty nodes of 0.5 to 4 GMAC/s on links of 20 to 1000 Mbit/s and 0.1 to 5 ms; requests uncut, cut by
//! layers into two to four pieces, or by classes into two to five; 5 to 90 % of what the fleet could do. Half of the
//! placements are random, as the published networks' were; the others are greedy ones and those a few random
//! steps away, because it is near good placements that a surrogate has to tell them apart.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use splitplace_brain::Settings;
use splitplace_fleet::{Link, Links, Node, NodeId, NodeState, Place, Snapshot, Timestamp};
use splitplace_plan::{
    ArmKind, ArmProblem, Bounds, ChainProblem, Generation, ModelName, NodeSpec, Plan, Problem,
    SegmentSpec, Solution, Strategy,
    joint::{Places, places, room, solution, step},
};
use splitplace_policy::by_name;

use super::{Awareness, Example, Said, Scene};
use crate::{
    Seed, Stream,
    arrivals::Process,
    network::Discipline,
    planner::{Offer, Offered, Planner as _, PlannerSettings},
    world::{Control, Load, Worker, World, run},
};

/// The law's version: data of another one is of other placements.
pub const LAW: u32 = 1;
/// Frames that may wait for one fragment.
const QUEUE: u32 = 32;
/// Segments of a request that is not cut by classes.
const SEGMENTS: usize = 8;

/// A placement to be learnt from.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// What is placed.
    pub problem: Problem,
    /// Where.
    pub places: Places,
}

/// What a run has shown of one kind of request: mean seconds, where there were answers, and the share lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// Mean seconds to the answer.
    pub response: Option<f64>,
    /// Share without an answer.
    pub loss: f64,
}

/// Number `number` of a seed.
#[must_use]
pub fn draw(seed: Seed, number: u64) -> Drawn {
    let mut stream = seed.stream("placement", number);
    let problem = problem(&mut stream);
    let own = seed.child("places", number).0;
    let how = stream.below(4);
    let mut places = match how {
        0 | 1 => places(&splitplace_plan::Random.solve(&problem, own)),
        _ => places(&splitplace_plan::Greedy.solve(&problem, own)),
    };
    let steps = if how == 3 { 1 + stream.below(6) } else { 0 };
    for _ in 0..steps {
        if let Some((arm, branches)) = step(&problem, &places, &mut stream) {
            let before = places[arm].replace(branches);
            if room(&problem, &places).is_none() {
                places[arm] = before;
            }
        }
    }
    Drawn { problem, places }
}

fn problem(stream: &mut Stream) -> Problem {
    let mut draw = |low: f64, high: f64| low * (high / low).powf(stream.unit());
    let nodes = draw(2.0, 20.99) as usize;
    let speeds: Vec<f64> = (0..nodes).map(|_| draw(0.5e9, 4e9)).collect();
    let link = (draw(20e6, 1e9) / 8.0, draw(1e-4, 5e-3));
    let requests = (draw(0.3, 1.5) * nodes as f64).ceil().max(1.0) as usize;
    let load = draw(0.05, 0.9);
    let mut arms: Vec<ArmProblem> = (0..requests)
        .map(|number| {
            let kind = [ArmKind::Whole, ArmKind::Chain, ArmKind::Semantic]
                [(draw(1.0, 8.0).log2()) as usize % 3];
            let pieces = match kind {
                ArmKind::Semantic => draw(2.0, 5.99) as usize,
                _ => 1,
            };
            let parts = match kind {
                ArmKind::Chain => draw(2.0, 4.99) as usize,
                _ => 1,
            }
            .min(nodes);
            let segments = if kind == ArmKind::Chain { SEGMENTS } else { 1 };
            let input = draw(1e3, 150e3) as u64;
            let chains = (0..pieces).map(|_| {
                let work: Vec<f64> = (0..segments)
                    .map(|_| draw(1e6, 30e6) * (SEGMENTS / segments) as f64 / pieces as f64)
                    .collect();
                ChainProblem {
                    segments: work
                        .iter()
                        .map(|macs| SegmentSpec {
                            weight_bytes: 100_000,
                            activation_bytes: 50_000,
                            service: speeds.iter().map(|speed| macs / speed).collect(),
                        })
                        .collect(),
                    boundaries: (0..=segments)
                        .map(|at| match at {
                            0 => input.into(),
                            _ if at == segments => 400.into(),
                            _ => (draw(1e3, 200e3) as u64).into(),
                        })
                        .collect(),
                }
            });
            ArmProblem {
                name: format!("request-{number}"),
                model: number,
                kind,
                parts: (parts, parts),
                chains: chains.collect(),
                arrival_rate: draw(0.3, 3.0),
                arrival_scv: 1.0,
                bounds: Bounds::default(),
            }
        })
        .collect();
    // Rates so that the fleet is as busy as drawn when all work is spread by speed.
    let able: f64 = speeds.iter().sum();
    let wanted = |arm: &ArmProblem| {
        let segments = arm.chains.iter().flat_map(|chain| &chain.segments);
        arm.arrival_rate * segments.map(|one| one.service[0] * speeds[0]).sum::<f64>()
    };
    let all: f64 = arms.iter().map(wanted).sum();
    arms.iter_mut()
        .for_each(|arm| arm.arrival_rate *= load * able / all);
    Problem {
        nodes: vec![NodeSpec::of(20_000_000); nodes],
        links: vec![vec![link; nodes + 1]; nodes + 1],
        coding: vec![0.0; nodes + 1],
        arms,
        overhead_bytes: 0,
        spread: 0.0,
        places: Problem::PLACES,
        loss_target: Problem::LOSS,
        beside: Vec::new(),
    }
}

/// Gives back what it was made with.
struct Given(Solution);

impl Strategy for Given {
    fn name(&self) -> &'static str {
        "given"
    }

    fn solve(&self, _: &Problem, _: u64) -> Solution {
        self.0.clone()
    }
}

impl Drawn {
    /// The placement as a world of its own, every kind of request a model with one arm, and its plan.
    #[must_use]
    pub fn world(&self, requests: u64) -> (World, Plan) {
        let name = |number: usize| NodeId::new(&format!("n{number}"));
        let place = |number: usize| {
            if number < self.problem.nodes.len() {
                Place::Node(name(number))
            } else {
                Place::Center
            }
        };
        let mut links = Links::default();
        for (from, row) in self.problem.links.iter().enumerate() {
            for (to, (rate, delay)) in row.iter().enumerate() {
                let link = Link {
                    rate_bytes_per_second: *rate,
                    delay: seconds(*delay),
                    jitter: Duration::ZERO,
                };
                links.set(place(from), place(to), link);
            }
        }
        let node = |number: usize| Node {
            id: name(number),
            state: NodeState::Alive,
            cores: 1,
            macs_per_second: 1e9,
            memory_bytes: self.problem.nodes[number].memory_bytes,
            labels: BTreeMap::new(),
            emulated: false,
        };
        let workers = (0..self.problem.nodes.len()).map(|number| Worker {
            discipline: Discipline::InOrder,
            queue_limit: QUEUE,
            ..Worker::new(node(number))
        });
        let total: f64 = self.problem.arms.iter().map(|arm| arm.arrival_rate).sum();
        let length = seconds(requests as f64 / total.max(1e-9));
        let patience = Duration::from_secs(3600);
        let loads = self.problem.arms.iter().map(|arm| Load {
            model: ModelName::new(&arm.name),
            arrivals: Process::Poisson {
                rate: arm.arrival_rate,
            },
            slas: vec![(patience, 1.0)],
            patience,
            samples: 1,
            feedback: 0.0,
        });
        let mut settings = Settings {
            refuse_hopeless: false,
            ..Settings::default()
        };
        settings.limits.in_flight_max = 1_000_000;
        settings.limits.attempts_max = 1;
        let world = World {
            workers: workers.collect(),
            links,
            loads: loads.collect(),
            faults: Vec::new(),
            settings,
            control: Control::default(),
            exits: BTreeMap::new(),
            warm_up: length / 5,
            duration: length + length / 5,
        };
        let plan = self.plan(&world);
        (world, plan)
    }

    fn plan(&self, world: &World) -> Plan {
        let mut snapshot = Snapshot::empty(Timestamp::ZERO);
        snapshot.links = world.links.clone();
        let nodes = world.workers.iter().map(|worker| worker.node.clone());
        snapshot.nodes = nodes.map(|node| (node.id.clone(), node)).collect();
        let offers = self.problem.arms.iter().map(|arm| Offer {
            model: ModelName::new(&arm.name),
            variant: arm.name.clone(),
            accuracy: None,
            problem: arm.clone(),
        });
        // Every one with its place, also where it could not keep up.
        let idle = self.problem.idle();
        let given = solution(&idle, self.places.clone(), &|arm| arm.name.clone());
        let offered = Offered {
            nodes: world
                .workers
                .iter()
                .map(|worker| worker.node.id.clone())
                .collect(),
            offers: offers.collect(),
            strategy: Arc::new(Given(given)),
            settings: PlannerSettings {
                overhead_bytes: self.problem.overhead_bytes,
                spread: 0.0,
                ..PlannerSettings::default()
            },
            inertia: 0.0,
        };
        offered.plan(&snapshot, &Plan::default(), Generation(1))
    }

    /// Runs it: some `requests` of all kinds together, after a fifth of that as warm-up. 5 to 20 µs each.
    ///
    /// # Panics
    /// Never: the policy is one of ours.
    #[must_use]
    pub fn label(&self, requests: u64, seed: Seed) -> Vec<Label> {
        let (world, plan) = self.world(requests);
        let policy = by_name("random", &BTreeMap::new()).expect("it is ours");
        let report = run(&world, policy, &crate::planner::Fixed(plan), seed);
        let told = self.problem.arms.iter().map(|arm| {
            let seen = report.models.get(&ModelName::new(&arm.name));
            seen.map_or(
                Label {
                    response: None,
                    loss: 1.0,
                },
                |seen| Label {
                    response: (0 < seen.answered).then(|| seen.response.mean()),
                    loss: seen.loss(),
                },
            )
        });
        told.collect()
    }

    /// As an example; `labels` by arm. Nothing when no arm has a place, or nothing was answered.
    #[must_use]
    pub fn example(&self, labels: &[Label], awareness: Awareness) -> Option<Example> {
        let (scene, nodes) = Scene::of(&self.problem, &self.places);
        let there = labels
            .iter()
            .zip(&self.places)
            .filter(|(_, place)| place.is_some());
        let truth: Vec<Option<Said>> = there
            .map(|(label, _)| {
                let response = label.response?;
                Some(Said {
                    response,
                    loss: label.loss,
                })
            })
            .collect();
        truth
            .iter()
            .any(Option::is_some)
            .then(|| Example::new(&scene, &nodes, truth, awareness))
    }
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitplace_plan::lint::lint;

    #[test]
    fn every_draw_has_a_sound_plan_and_repeats() {
        for number in 0..60 {
            let drawn = draw(Seed(4), number);
            let (world, plan) = drawn.world(100);
            assert_eq!(world.check(), Vec::<String>::new());
            let placed = drawn.places.iter().filter(|place| place.is_some()).count();
            let arms: usize = plan.models.values().map(|model| model.arms.len()).sum();
            assert_eq!(arms, placed, "{number}: {}", plan.explanation);
            let mut snapshot = Snapshot::empty(Timestamp::ZERO);
            snapshot.links = world.links.clone();
            let nodes = world.workers.iter().map(|worker| worker.node.clone());
            snapshot.nodes = nodes.map(|node| (node.id.clone(), node)).collect();
            assert_eq!(lint(&plan, &snapshot), []);
            assert_eq!(draw(Seed(4), number).places, drawn.places);
        }
    }

    /// One node and one request that is not cut: M/D/1 by Pollaczek and Khinchine, and the links.
    #[test]
    fn a_label_is_what_queueing_says() {
        let mut stream = Seed(1).stream("placement", 0);
        let mut drawn = Drawn {
            problem: problem(&mut stream),
            places: Vec::new(),
        };
        let service = 0.004;
        drawn.problem.arms.truncate(1);
        let arm = &mut drawn.problem.arms[0];
        (arm.kind, arm.parts, arm.arrival_rate) = (ArmKind::Whole, (1, 1), 150.0);
        arm.chains.truncate(1);
        let nodes = drawn.problem.nodes.len();
        arm.chains[0] = ChainProblem {
            segments: vec![SegmentSpec {
                weight_bytes: 1,
                activation_bytes: 1,
                service: vec![service; nodes],
            }],
            boundaries: vec![0.into(), 0.into()],
        };
        drawn.places = places(&splitplace_plan::Greedy.solve(&drawn.problem, 0));
        let label = drawn.label(60_000, Seed(2))[0];
        let load = 150.0 * service;
        let wait = load * service / 2.0 / (1.0 - load);
        let delay = drawn.problem.links[0][nodes].1;
        let expected = 2.0 * delay + service + wait;
        let found = label.response.unwrap();
        assert!((found / expected - 1.0).abs() < 0.03, "{found} {expected}");
        assert!(label.loss < 1e-3);
    }
}
