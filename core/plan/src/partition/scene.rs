//! What a cut is judged by: the link, the server's load, arrivals, and what is wanted.

use splitplace_queueing::{Service, exact};

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

    /// Both, one after the other; a delay once.
    pub(super) fn plus(&self, other: &Self) -> Self {
        Self {
            device: self.device + other.device,
            link: self.link + other.link,
            server: self.server + other.server,
            delay: self.delay.max(other.delay),
        }
    }

    /// The shorter of both at each station.
    pub(super) const fn least(&self, other: &Self) -> Self {
        Self {
            device: self.device.min(other.device),
            link: self.link.min(other.link),
            server: self.server.min(other.server),
            delay: self.delay.min(other.delay),
        }
    }

    /// Whether it is nowhere longer, so that no objective can prefer the other.
    pub(super) fn covers(&self, other: &Self) -> bool {
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

impl Scene {
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
}

fn queued(stations: &[f64], delay: f64, arrivals: f64, places: usize, scv: f64) -> (f64, f64) {
    let (mut kept, mut response) = (1.0, delay);
    for &seconds in stations {
        if seconds > 0.0 {
            let (loss, own) = station(seconds, arrivals, places, scv);
            kept *= 1.0 - loss;
            response += own;
        }
    }
    (1.0 - kept, response)
}

/// Loss and response of one station; everything is lost where there is no such station.
pub(super) fn station(seconds: f64, arrivals: f64, places: usize, scv: f64) -> (f64, f64) {
    let station =
        Service::gamma(seconds, scv).and_then(|service| exact::solve(arrivals, &service, places));
    station.map_or((1.0, f64::INFINITY), |station| {
        (station.loss, station.response)
    })
}
