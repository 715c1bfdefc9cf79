//! The published ChainNet systems: read, and simulated by the law that labelled them.
//!
//! ChainNet (Niu, Roveri, Casale, DSN 2024) ships systems of devices and chains with simulated truth.
//! The law behind the labels, found by measurement: Poisson arrivals, constant service, one server a
//! device in order of coming, an integer capacity that counts waiting and in service, loss when full, no
//! network delay. Here it is one [`Network`], so that the twin can be held against a truth that is not
//! its own.
//!
//! Beside the simulation stand faster judges of such systems: formulas ([`Thinned`]), the graph network ([`ChainNet`]),
//! trained here on systems drawn by the same law and labelled by the simulation, and, to compare with, the network that
//! was published with the systems ([`Published`]). All are behind one trait, [`Judge`].

mod batch;
mod boards;
mod draw;
mod graph;
mod judge;
mod layout;
mod messages;
mod published;
mod read;
mod read_out;
mod score;
mod search;
mod shipped;
mod thinned;
mod train;
mod write;

use std::time::Duration;

use splitplace_fleet::Timestamp;

pub use boards::{BOARDS, Board, case};
pub use graph::{ChainNet, Kind, Shape};
pub use judge::{Formulas, Judge, Simulation};
pub use published::Published;
pub use read::{ReadError, Texts, read};
pub use score::{Score, score};
pub use thinned::{AtDevice, Thinned};
pub use train::score_of_formulas;
pub use write::write;

use crate::{
    Law, Seed,
    arrivals::Process,
    network::{Chain, ChainTally, Network, StationSpec, Step, Tally, Until, run},
};

/// One chain of a system, with its truth.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainSpec {
    /// Mean time between arrivals, in the system's unit of time.
    pub interarrival: f64,
    /// Device of each fragment, counted from 0.
    pub path: Vec<usize>,
    /// Service time of each fragment.
    pub services: Vec<f64>,
    /// Truth: sum of the services over the mean response of those delivered.
    pub latency_ratio: f64,
    /// Truth: delivered over arrived.
    pub throughput_ratio: f64,
}

/// One system.
#[derive(Clone, Debug, PartialEq)]
pub struct System {
    /// Jobs that each device holds, waiting and in service.
    pub capacities: Vec<usize>,
    /// The chains that share them.
    pub chains: Vec<ChainSpec>,
}

/// What a simulation says of one chain, in the data's own measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratios {
    /// Sum of the services over the mean response; 1 when nothing was delivered.
    pub latency: f64,
    /// Delivered over arrived.
    pub throughput: f64,
}

impl System {
    /// The system as a network. Units of time are kept as seconds.
    #[must_use]
    pub fn network(&self) -> Network {
        let stations = self
            .capacities
            .iter()
            .map(|&capacity| StationSpec::in_order(capacity));
        let chains = self.chains.iter().map(|chain| Chain {
            arrivals: Process::Poisson {
                rate: 1.0 / chain.interarrival,
            },
            steps: chain
                .path
                .iter()
                .zip(&chain.services)
                .map(|(&station, &service)| Step {
                    over: None,
                    station,
                    // The reader lets no other through.
                    service: Law::constant(service).unwrap_or_else(|_| never()),
                })
                .collect(),
            back: None,
            promise: Duration::ZERO,
        });
        Network {
            stations: stations.collect(),
            wires: Vec::new(),
            chains: chains.collect(),
        }
    }

    /// Simulates `arrivals` jobs, the first twentieth as warm-up. Costs O(arrivals · steps), 0.1 to
    /// 0.2 µs for each.
    #[must_use]
    pub fn simulate(&self, arrivals: u64, seed: Seed) -> Vec<Ratios> {
        let rate: f64 = self
            .chains
            .iter()
            .map(|chain| 1.0 / chain.interarrival)
            .sum();
        let warm_up = Duration::try_from_secs_f64(arrivals as f64 / 20.0 / rate);
        let mut tally = Tally::new(self.chains.len(), warm_up.unwrap_or(Duration::ZERO));
        let until = Until {
            time: Timestamp::MAX,
            arrivals,
        };
        run(&self.network(), seed, until, &mut tally);
        self.chains.iter().zip(&tally.chains).map(ratios).collect()
    }
}

fn never() -> Law {
    unreachable!("a service time that was read is finite and not negative")
}

fn ratios((chain, tally): (&ChainSpec, &ChainTally)) -> Ratios {
    let work: f64 = chain.services.iter().sum();
    let response = tally.response.mean();
    Ratios {
        latency: if response > 0.0 { work / response } else { 1.0 },
        throughput: tally.delivered_share(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(capacity: usize, load: f64) -> System {
        System {
            capacities: vec![capacity],
            chains: vec![ChainSpec {
                interarrival: 1.0 / load,
                path: vec![0],
                services: vec![1.0],
                latency_ratio: 1.0,
                throughput_ratio: 1.0,
            }],
        }
    }

    /// The two cases that the reference worked out by hand: K = 1 loses rho/(1 + rho) and never waits;
    /// K = 2 at rho = .354 loses .0530.
    #[test]
    fn one_device_loses_what_the_formula_says() {
        let full = one(1, 0.5).simulate(400_000, Seed(1))[0];
        assert!((1.0 - full.throughput - 1.0 / 3.0).abs() < 0.004);
        assert!((full.latency - 1.0).abs() < 1e-9);
        let two = one(2, 0.354).simulate(400_000, Seed(1))[0];
        assert!((1.0 - two.throughput - 0.0530).abs() < 0.002, "{two:?}");
    }
}
