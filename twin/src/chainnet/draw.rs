//! Systems drawn by the law of the published ones, and labelled by simulation.
//!
//! Found by measurement on the validation set: one to three chains, each as likely; two to six fragments
//! of each, on distinct devices out of ten; devices that nobody uses do not count; capacities of 1 to 50
//! jobs; mean times between arrivals of 0.1 to 10, services of 0 to 2.

use super::{ChainSpec, System};
use crate::{Seed, Stream};

/// Devices that chains choose from.
const DEVICES: usize = 10;

impl System {
    /// System number `number` of a seed, without its truth.
    #[must_use]
    pub fn draw(seed: Seed, number: u64) -> Self {
        let mut stream = seed.stream("system", number);
        let chains: Vec<ChainSpec> = (0..1 + stream.below(3))
            .map(|_| chain(&mut stream))
            .collect();
        let mut used: Vec<usize> = chains.iter().flat_map(|chain| chain.path.clone()).collect();
        used.sort_unstable();
        used.dedup();
        let capacities = used.iter().map(|_| 1 + stream.below(50)).collect();
        let renumber = |chain: ChainSpec| ChainSpec {
            path: chain
                .path
                .iter()
                .filter_map(|device| used.iter().position(|one| one == device))
                .collect(),
            ..chain
        };
        Self {
            capacities,
            chains: chains.into_iter().map(renumber).collect(),
        }
    }

    /// The same system with what so many arrivals show as its truth.
    #[must_use]
    pub fn labelled(mut self, arrivals: u64, seed: Seed) -> Self {
        let found = self.simulate(arrivals, seed);
        for (chain, found) in self.chains.iter_mut().zip(found) {
            chain.latency_ratio = found.latency;
            chain.throughput_ratio = found.throughput;
        }
        self
    }
}

fn chain(stream: &mut Stream) -> ChainSpec {
    let length = 2 + stream.below(5);
    let mut devices: Vec<usize> = (0..DEVICES).collect();
    // The first steps of Fisher and Yates.
    for at in 0..length {
        let other = at + stream.below(DEVICES - at);
        devices.swap(at, other);
    }
    devices.truncate(length);
    ChainSpec {
        interarrival: 0.1 + 9.9 * stream.unit(),
        services: devices
            .iter()
            .map(|_| (2.0 * stream.unit()).max(1e-5))
            .collect(),
        path: devices,
        latency_ratio: 1.0,
        throughput_ratio: 1.0,
    }
}
