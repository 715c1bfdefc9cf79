//! Chains placed on five small boards of unequal speed, as systems that every judge of queues can judge.
//!
//! A published system says how long a fragment takes wherever it is; here that depends on the board. Speeds are
//! the peaks of the boards' instruction sets by their public specifications; what a network reaches of them
//! cancels out, because loads are drawn as shares of what all boards can do together.

use splitplace_plan::{
    ArmKind, ArmProblem, Bounds, ChainProblem, NodeSpec, Problem, SegmentSpec, joint::Places,
};

use super::{ChainSpec, System};
use crate::Seed;

/// A board.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Board {
    /// What it is called.
    pub name: &'static str,
    /// Cores, 10⁹ cycles a second, multiply-accumulates of a core in a cycle.
    pub peak: (f64, f64, f64),
    /// Megabytes of memory.
    pub memory_mb: f64,
}

impl Board {
    /// Multiply-accumulates a second of all cores together.
    #[must_use]
    pub fn speed(&self) -> f64 {
        let (cores, cycles, each) = self.peak;
        cores * cycles * 1e9 * each
    }

    /// Jobs that it holds, waiting and in service: 20 megabytes each beside 100 for the system.
    #[must_use]
    pub fn capacity(&self) -> usize {
        ((self.memory_mb - 100.0) / 20.0).max(1.0) as usize
    }
}

/// Allwinner H2+: four Cortex-A7, whose vector unit does one single-precision multiply-accumulate a cycle.
const ORANGE_PI_ZERO: Board = Board {
    name: "OrangePi Zero",
    peak: (4.0, 1.2, 1.0),
    memory_mb: 512.0,
};
/// BCM2835: one ARM1176, one multiply-accumulate a cycle at best.
const RASPBERRY_PI_A: Board = Board {
    name: "Raspberry Pi A+",
    peak: (1.0, 0.7, 1.0),
    memory_mb: 256.0,
};
/// BCM2837B0: four Cortex-A53 with vectors of four.
const RASPBERRY_PI_3A: Board = Board {
    name: "Raspberry Pi 3A+",
    peak: (4.0, 1.4, 4.0),
    memory_mb: 512.0,
};

/// The fleet of the case study.
pub const BOARDS: [Board; 5] = [
    ORANGE_PI_ZERO,
    ORANGE_PI_ZERO,
    RASPBERRY_PI_A,
    RASPBERRY_PI_A,
    RASPBERRY_PI_3A,
];

/// Case number `number`: two to four chains of two to four fragments, whose work spans from 5 to 60 million
/// multiply-accumulates; together they ask for 30 to 90 % of what the boards can do.
#[must_use]
pub fn case(seed: Seed, number: u64) -> Problem {
    let mut stream = seed.stream("boards", number);
    let mut draw = |low: f64, high: f64| low * (high / low).powf(stream.unit());
    let count = draw(2.0, 4.99) as usize;
    let mut arms: Vec<ArmProblem> = (0..count)
        .map(|at| {
            let fragments = draw(2.0, 4.99) as usize;
            let segments = (0..fragments).map(|_| {
                let macs = draw(5e6, 60e6);
                SegmentSpec {
                    weight_bytes: 1,
                    activation_bytes: 0,
                    service: BOARDS.iter().map(|board| macs / board.speed()).collect(),
                }
            });
            ArmProblem {
                name: format!("chain {at}"),
                model: at,
                kind: ArmKind::Chain,
                parts: (fragments, fragments),
                chains: vec![ChainProblem {
                    segments: segments.collect(),
                    boundaries: vec![0.into(); fragments + 1],
                }],
                arrival_rate: draw(0.5, 2.0),
                arrival_scv: 1.0,
                bounds: Bounds::default(),
            }
        })
        .collect();
    let able: f64 = BOARDS.iter().map(Board::speed).sum();
    let load = draw(0.3, 0.9);
    let work = |arm: &ArmProblem| -> f64 {
        let segments = arm.chains.iter().flat_map(|chain| &chain.segments);
        arm.arrival_rate
            * segments
                .map(|one| one.service[0] * BOARDS[0].speed())
                .sum::<f64>()
    };
    let all: f64 = arms.iter().map(work).sum();
    arms.iter_mut()
        .for_each(|arm| arm.arrival_rate *= load * able / all);
    Problem {
        nodes: vec![NodeSpec::of(1000); BOARDS.len()],
        links: vec![vec![(f64::INFINITY, 0.0); BOARDS.len() + 1]; BOARDS.len() + 1],
        coding: vec![0.0; BOARDS.len() + 1],
        arms,
        overhead_bytes: 0,
        spread: 0.0,
        places: Problem::PLACES,
        loss_target: Problem::LOSS,
        beside: Vec::new(),
    }
}

impl System {
    /// The chains of a problem where they are placed; a unit of time is the mean service. Nodes without work are
    /// left out, as in the published systems, and so are arms without a place. `None` when nothing is placed.
    #[must_use]
    pub fn of_places(problem: &Problem, places: &Places, capacities: &[usize]) -> Option<Self> {
        let there = problem.arms.iter().zip(places);
        let there = there.filter_map(|(arm, place)| Some((arm, place.as_ref()?)));
        let mut chains = Vec::new();
        for (arm, branches) in there {
            for (chain, stages) in arm.chains.iter().zip(branches) {
                let service = |stage: &splitplace_plan::Stage| {
                    let segments = &chain.segments[stage.segments.clone()];
                    segments
                        .iter()
                        .map(|one| one.service[stage.node])
                        .sum::<f64>()
                };
                chains.push(ChainSpec {
                    interarrival: 1.0 / arm.arrival_rate,
                    path: stages.iter().map(|stage| stage.node).collect(),
                    services: stages.iter().map(service).collect(),
                    latency_ratio: 1.0,
                    throughput_ratio: 1.0,
                });
            }
        }
        let services = || chains.iter().flat_map(|chain| &chain.services);
        let unit = services().sum::<f64>() / services().count().max(1) as f64;
        if unit <= 0.0 {
            return None;
        }
        let mut used: Vec<usize> = chains.iter().flat_map(|chain| chain.path.clone()).collect();
        used.sort_unstable();
        used.dedup();
        for chain in &mut chains {
            chain.interarrival /= unit;
            chain.services.iter_mut().for_each(|one| *one /= unit);
            let places = chain
                .path
                .iter()
                .filter_map(|node| used.binary_search(node).ok());
            chain.path = places.collect();
        }
        Some(Self {
            capacities: used.iter().map(|&node| capacities[node]).collect(),
            chains,
        })
    }
}

#[cfg(test)]
mod tests {
    use splitplace_plan::{Random, Strategy as _, joint::places};

    use super::*;
    use crate::placement::Trial;

    /// The same placement judged as a published system and as a placement problem.
    #[test]
    fn a_placed_case_loses_as_much_by_either_simulation() {
        let capacities = BOARDS.map(|board| board.capacity());
        let mut compared = 0;
        for number in 0..8 {
            let problem = case(Seed(3), number);
            let placed = places(&Random.solve(&problem.idle(), number));
            assert!(placed.iter().all(Option::is_some));
            // One capacity for all, because a trial knows no other.
            let same = [12; BOARDS.len()];
            let system = System::of_places(&problem, &placed, &same).unwrap();
            let found = system.simulate(200_000, Seed(1));
            let as_system = system.loss(found.iter().map(|one| one.throughput));
            let trial = Trial {
                capacity: 12,
                requests: 200_000,
                ..Trial::default()
            };
            let as_trial = trial.run(&problem, &placed, Seed(2)).loss;
            assert!(
                (as_system - as_trial).abs() < 0.01,
                "{as_system} {as_trial}"
            );
            compared += u32::from(as_system > 0.01);
        }
        assert!(compared >= 3, "{compared}");
        assert_eq!(capacities, [20, 20, 7, 7, 20]);
    }
}
