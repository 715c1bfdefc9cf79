//! What a cut is judged by: the link, the server's load, arrivals, and what is wanted.

use splitplace_queueing::{Service, exact};

use super::{Network, real};

/// What is wanted of a cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// The least seconds of one sample in an idle system.
    Latency,
    /// The shortest busiest stage: the highest rate.
    Bottleneck,
    /// The least joules of the device.
    Energy {
        /// Watts while it computes.
        compute: f64,
        /// Watts while it sends or receives.
        radio: f64,
    },
    /// The least mean response whose loss stays below a target; where none does, the least loss.
    ///
    /// Device, link and server are M/G/1/K stations. Each is taken to be offered all that arrives, which counts
    /// what an earlier one has turned away once too often: an upper estimate, within the loss itself. So
    /// response and loss only grow with any stage, and a cut that is longer in every stage is never better.
    Loss {
        /// Poisson arrivals a second.
        arrivals: f64,
        /// Places of each station, the one in service included.
        places: usize,
        /// Squared coefficient of variation of service times.
        scv: f64,
        /// Largest share of requests that may be lost end to end.
        most: f64,
    },
}

/// Where a network is parted: everything but the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scene {
    /// Bytes a second from device to server, and back.
    pub rate: f64,
    /// Seconds that any use of the server costs beside bytes, both ways together.
    pub delay: f64,
    /// How many times as long everything takes on the server as in the network's numbers.
    pub load: f64,
    /// What is wanted.
    pub objective: Objective,
}

/// Seconds of one sample at each station.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stages {
    /// Computing and encoding on the device.
    pub device: f64,
    /// Bytes on the link, both ways.
    pub link: f64,
    /// Decoding and computing on the server.
    pub server: f64,
    /// Delay that is no work for anybody.
    pub delay: f64,
}

impl Stages {
    /// Seconds from arrival to answer in an idle system.
    #[must_use]
    pub fn latency(&self) -> f64 {
        self.device + self.link + self.server + self.delay
    }

    /// Seconds of the busiest station.
    #[must_use]
    pub fn bottleneck(&self) -> f64 {
        self.device.max(self.link).max(self.server)
    }

    /// Whether it is nowhere longer, so that no objective can prefer the other.
    fn covers(&self, other: &Self) -> bool {
        self.device <= other.device && self.link <= other.link && self.server <= other.server
    }
}

/// What a cut is worth; less is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worth {
    /// Loss beyond what may be; 0 for objectives without a target.
    pub excess: f64,
    /// Seconds or joules.
    pub cost: f64,
}

impl Worth {
    /// Whether this is strictly less.
    #[must_use]
    pub fn is_better(&self, other: &Self) -> bool {
        let order = self.excess.total_cmp(&other.excess);
        order.then(self.cost.total_cmp(&other.cost)).is_lt()
    }
}

/// What is sent and how, the seconds that follow, and their worth.
pub(crate) type Sent = (Vec<(usize, usize)>, Stages, Worth);

impl Scene {
    /// Combinations of ways that are kept at most while a cut is judged.
    pub const LEFT: usize = 512;

    /// Whether its numbers are numbers.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let all = match self.objective {
            Objective::Latency | Objective::Bottleneck => [0.0; 3],
            Objective::Energy { compute, radio } => [compute, radio, 0.0],
            Objective::Loss {
                arrivals,
                places,
                scv,
                most,
            } => {
                if !(1..=splitplace_queueing::MAX_CAPACITY).contains(&places) {
                    return false;
                }
                [arrivals, scv, most]
            }
        };
        let mut all = all.into_iter().chain([self.delay, self.load]);
        all.all(|number| number.is_finite() && number >= 0.0)
            && self.rate.is_finite()
            && self.rate > 0.0
    }

    /// What stages are worth. O(places²) for [`Objective::Loss`], else O(1).
    #[must_use]
    pub fn worth(&self, stages: &Stages) -> Worth {
        let stations = [stages.device, stages.link, stages.server];
        self.worth_along(&stations, stages.delay)
    }

    /// What stations in a row are worth: node, link, node, and so on. The device's are the first two.
    pub(crate) fn worth_along(&self, stations: &[f64], delay: f64) -> Worth {
        let cost = |cost| Worth { excess: 0.0, cost };
        match self.objective {
            Objective::Latency => cost(stations.iter().sum::<f64>() + delay),
            Objective::Bottleneck => cost(stations.iter().copied().fold(0.0, f64::max)),
            Objective::Energy { compute, radio } => {
                let station = |at: usize| stations.get(at).copied().unwrap_or(0.0);
                cost(station(0) * compute + station(1) * radio)
            }
            Objective::Loss { most, .. } => {
                let (loss, response) = self.queued_along(stations, delay);
                Worth {
                    excess: (loss - most).max(0.0),
                    cost: response,
                }
            }
        }
    }

    /// End-to-end loss and mean response under the objective's arrivals; no loss and the latency without.
    #[must_use]
    pub fn queued(&self, stages: &Stages) -> (f64, f64) {
        let stations = [stages.device, stages.link, stages.server];
        self.queued_along(&stations, stages.delay)
    }

    /// The same of stations in a row.
    pub(crate) fn queued_along(&self, stations: &[f64], delay: f64) -> (f64, f64) {
        match self.objective {
            Objective::Loss {
                arrivals,
                places,
                scv,
                ..
            } => queued(stations, delay, arrivals, places, scv),
            _ => (0.0, stations.iter().sum::<f64>() + delay),
        }
    }

    /// Whether stages that are nowhere shorter than `base` could be better than `known`: a quick look before the
    /// ways to send are tried.
    pub(crate) fn may_be_better(&self, base: &Stages, is_device_only: bool, known: &Worth) -> bool {
        let least = Stages {
            server: base.server * self.load,
            delay: if is_device_only { 0.0 } else { self.delay },
            ..*base
        };
        // A queue only makes it longer.
        let floor = match self.objective {
            Objective::Loss { .. } => Worth {
                excess: 0.0,
                cost: least.latency(),
            },
            _ => self.worth(&least),
        };
        // A grain of room for sums that were added in another order.
        floor.cost * (1.0 - 1e-9) < known.cost || known.excess > 0.0
    }

    /// The best way to send `crossing`, when `base` is what the layers take: each tensor in one of its ways.
    /// `None` when one of them has none.
    ///
    /// Stages add up over tensors, and every objective only grows with each; so combinations that are nowhere
    /// shorter than another one are dropped on the way, and the best of all is among what is left.
    /// O(tensors · left² · ways), and no more than [`Self::LEFT`] are left after each tensor: beyond, the best by
    /// the objective so far, so that a cut of very many tensors in very many ways stays cheap.
    pub(crate) fn best(
        &self,
        network: &Network,
        base: Stages,
        crossing: &[usize],
        back: u64,
    ) -> Option<Sent> {
        let (encode, decode) = (network.coding()[0], network.coding()[1]);
        let start = Stages {
            link: real(back) / self.rate,
            server: base.server * self.load,
            delay: if crossing.is_empty() { 0.0 } else { self.delay },
            ..base
        };
        let mut left: Vec<(Stages, Vec<usize>)> = vec![(start, Vec::new())];
        let is_sum = matches!(
            self.objective,
            Objective::Latency | Objective::Energy { .. }
        );
        for &tensor in crossing {
            let ways = &network.tensors()[tensor].ways;
            let mut next: Vec<(Stages, Vec<usize>)> = Vec::new();
            for (stages, chosen) in &left {
                for (number, way) in ways.iter().enumerate() {
                    let stages = Stages {
                        device: stages.device + way.encode * encode,
                        link: stages.link + real(way.bytes) / self.rate,
                        server: stages.server + way.decode * decode * self.load,
                        ..*stages
                    };
                    if next.iter().any(|(known, _)| known.covers(&stages)) {
                        continue;
                    }
                    next.retain(|(known, _)| !stages.covers(known));
                    let mut longer = chosen.clone();
                    longer.push(number);
                    next.push((stages, longer));
                }
            }
            // For a sum each tensor's best way is part of the best of all.
            let most = if is_sum { 1 } else { Self::LEFT };
            if most < next.len() {
                let cost = |one: &(Stages, Vec<usize>)| self.worth(&one.0).cost;
                next.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
                next.truncate(most);
            }
            left = next;
        }
        let mut best: Option<Sent> = None;
        for (stages, chosen) in left {
            let worth = self.worth(&stages);
            let is_better = best
                .as_ref()
                .is_none_or(|(_, _, known)| worth.is_better(known));
            if is_better {
                let sent = crossing.iter().copied().zip(chosen).collect();
                best = Some((sent, stages, worth));
            }
        }
        best
    }
}

fn queued(stations: &[f64], delay: f64, arrivals: f64, places: usize, scv: f64) -> (f64, f64) {
    let (mut kept, mut response) = (1.0, delay);
    for &seconds in stations {
        if seconds <= 0.0 {
            continue;
        }
        let station = Service::gamma(seconds, scv)
            .and_then(|service| exact::solve(arrivals, &service, places));
        let Ok(station) = station else {
            return (1.0, f64::INFINITY);
        };
        kept *= 1.0 - station.loss;
        response += station.response;
    }
    (1.0 - kept, response)
}
