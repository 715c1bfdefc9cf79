//! By formulas: every device an M/G/1/K station that serves a mix of constant times, what leaves one is
//! Poisson again, thinned by what was lost there.

use splitplace_queueing::{Service, exact};

use super::{Ratios, System};

/// One fragment's view of its device.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AtDevice {
    /// Jobs of the chain that come here, over those that came to the chain.
    pub reach: f64,
    /// Share of jobs that find no room.
    pub loss: f64,
    /// Mean wait before service.
    pub wait: f64,
    /// Offered load of the whole device.
    pub load: f64,
}

/// The fixed point: by chain, by fragment.
#[derive(Clone, Debug, PartialEq)]
pub struct Thinned {
    /// By chain and fragment.
    pub chains: Vec<Vec<AtDevice>>,
}

/// Iterations at most; losses that move less than this end them.
const ITERATIONS: usize = 30;
const ENOUGH: f64 = 1e-4;

impl Thinned {
    /// Solves a system. Costs O(iterations · devices · K²), some 10 to 500 µs.
    #[must_use]
    pub fn of(system: &System) -> Self {
        let devices = system.capacities.len();
        let mut losses = vec![0.0; devices];
        let mut waits = vec![0.0; devices];
        let mut loads = vec![0.0; devices];
        // A device to which the same comes as the time before is not solved again: most of them, for most lose nothing.
        let mut known: Vec<Vec<(f64, f64)>> = vec![Vec::new(); devices];
        let mut solved = vec![(0.0, 0.0, 0.0); devices];
        for _ in 0..ITERATIONS {
            let mut parts: Vec<Vec<(f64, f64)>> = vec![Vec::new(); devices];
            for chain in &system.chains {
                let mut rate = 1.0 / chain.interarrival;
                for (&device, &service) in chain.path.iter().zip(&chain.services) {
                    parts[device].push((rate, service));
                    rate *= 1.0 - losses[device];
                }
            }
            let mut moved = 0.0f64;
            for (device, parts) in parts.into_iter().enumerate() {
                if known[device] != parts {
                    solved[device] = station(&parts, system.capacities[device]);
                    known[device] = parts;
                }
                let (loss, wait, load) = solved[device];
                // Half way only: losses upstream and downstream of each other would swing.
                let next = f64::midpoint(losses[device], loss);
                moved = moved.max((loss - losses[device]).abs());
                losses[device] = if moved < ENOUGH { loss } else { next };
                waits[device] = wait;
                loads[device] = load;
            }
            if moved < ENOUGH {
                break;
            }
        }
        let chains = system.chains.iter().map(|chain| {
            let mut reach = 1.0;
            let steps = chain.path.iter().map(|&device| {
                let at = AtDevice {
                    reach,
                    loss: losses[device],
                    wait: waits[device],
                    load: loads[device],
                };
                reach *= 1.0 - losses[device];
                at
            });
            steps.collect()
        });
        Self {
            chains: chains.collect(),
        }
    }

    /// What it says of each chain of the system that it was made of.
    #[must_use]
    pub fn ratios(&self, system: &System) -> Vec<Ratios> {
        let pairs = system.chains.iter().zip(&self.chains);
        pairs
            .map(|(chain, steps)| {
                let work: f64 = chain.services.iter().sum();
                let waits: f64 = steps.iter().map(|step| step.wait).sum();
                Ratios {
                    latency: work / (work + waits).max(f64::MIN_POSITIVE),
                    throughput: steps.iter().map(|step| 1.0 - step.loss).product(),
                }
            })
            .collect()
    }
}

/// Loss, mean wait and offered load of a device.
fn station(parts: &[(f64, f64)], capacity: usize) -> (f64, f64, f64) {
    let rate: f64 = parts.iter().map(|(rate, _)| rate).sum();
    let mixed: Result<Vec<_>, splitplace_queueing::Error> = parts
        .iter()
        .filter(|(rate, _)| *rate > 0.0)
        .map(|&(rate, seconds)| Ok((rate, Service::constant(seconds)?)))
        .collect();
    let solved = mixed.and_then(|parts| {
        let service = Service::mix(&parts)?;
        Ok((exact::solve(rate, &service, capacity)?, service.mean()))
    });
    match solved {
        Ok((station, mean)) => (
            station.loss,
            (station.response - mean).max(0.0),
            station.rho,
        ),
        Err(_) => (0.0, 0.0, 0.0),
    }
}
