//! Which devices a system's fragments should run on: less loss, by whoever judges.

use super::System;
use crate::Seed;

impl System {
    /// Share of all jobs that are lost, going by chains' delivered shares.
    #[must_use]
    pub fn loss(&self, delivered: impl Iterator<Item = f64>) -> f64 {
        let (mut rate, mut lost) = (0.0, 0.0);
        for (chain, delivered) in self.chains.iter().zip(delivered) {
            rate += 1.0 / chain.interarrival;
            lost += (1.0 - delivered) / chain.interarrival;
        }
        if rate > 0.0 { lost / rate } else { 0.0 }
    }

    /// Simulated annealing: a fragment moves to another device, or two fragments of a chain change places;
    /// no chain visits a device twice. `judge` gives the loss of a system. `steps` systems are judged; the
    /// best of them is given back with its loss.
    pub fn improve(
        &self,
        steps: u32,
        seed: Seed,
        judge: &mut dyn FnMut(&Self) -> f64,
    ) -> (Self, f64) {
        let mut stream = seed.stream("search", 0);
        let (mut now, mut loss) = (self.clone(), judge(self));
        let (mut best, mut least) = (now.clone(), loss);
        for step in 0..steps {
            let share = f64::from(step) / f64::from(steps);
            // From a tenth of the loss at the beginning to a ten-thousandth.
            let heat = 0.1 * 1e-3f64.powf(share) * least.max(1e-6);
            let chain = stream.below(now.chains.len());
            let at = stream.below(now.chains[chain].path.len());
            let device = stream.below(now.capacities.len());
            let mut next = now.clone();
            let path = &mut next.chains[chain].path;
            if path[at] == device {
                continue;
            }
            if let Some(other) = path.iter().position(|one| *one == device) {
                path[other] = path[at];
            }
            path[at] = device;
            let new = judge(&next);
            if new <= loss || stream.unit() < ((loss - new) / heat).exp() {
                (now, loss) = (next, new);
                if loss < least {
                    (best, least) = (now.clone(), loss);
                }
            }
        }
        (best, least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chainnet::{ChainSpec, Thinned};

    #[test]
    fn two_busy_chains_are_taken_apart() {
        let chain = |path: Vec<usize>| ChainSpec {
            interarrival: 1.0,
            services: vec![0.9; path.len()],
            path,
            latency_ratio: 1.0,
            throughput_ratio: 1.0,
        };
        // Both on device 0; device 1 stands idle.
        let system = System {
            capacities: vec![10, 10],
            chains: vec![chain(vec![0]), chain(vec![0])],
        };
        let mut judge = |system: &System| {
            let ratios = Thinned::of(system).ratios(system);
            system.loss(ratios.iter().map(|one| one.throughput))
        };
        let before = judge(&system);
        let (better, loss) = system.improve(50, Seed(1), &mut judge);
        assert_ne!(better.chains[0].path, better.chains[1].path);
        assert!(loss < 0.2 * before, "{before} {loss}");
    }
}
