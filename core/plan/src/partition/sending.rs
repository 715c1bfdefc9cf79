//! In which way each tensor that crosses is sent, and what no choice of ways can be below.
//!
//! Stages add up over tensors, and every objective only grows with each of them. So combinations that are nowhere
//! shorter than another one need not be looked at; and what all stages are at least, each at its own best way, is
//! worth no more than any of them.

use super::{Network, Objective, Scene, Stages, Worth, real, scene::station};
use crate::Way;

/// Combinations that are kept at most after each tensor: beyond, the best by the objective so far, so that a cut of very
/// many tensors in very many ways stays cheap.
const LEFT: usize = 512;

/// What sending one tensor takes.
#[derive(Clone, Debug)]
pub(super) struct Sending {
    /// In each of its ways.
    ways: Vec<Stages>,
    /// At least, at each station on its own; for a sum, in the way with the least sum. Infinite without ways.
    pub(super) least: Stages,
    /// At least, all stations together.
    pub(super) shortest: f64,
}

impl Sending {
    /// Of some ways in a scene. O(ways).
    pub(super) fn new(network: &Network, scene: &Scene, ways: &[Way]) -> Self {
        let coding = network.coding();
        let seconds = |way: &Way| Stages {
            device: way.encode * coding[0],
            link: real(way.bytes) / scene.rate,
            server: way.decode * coding[1] * scene.load,
            delay: 0.0,
        };
        let ways: Vec<Stages> = ways.iter().map(seconds).collect();
        let never = Stages {
            device: f64::INFINITY,
            link: f64::INFINITY,
            server: f64::INFINITY,
            delay: 0.0,
        };
        let cost = |way: &&Stages| scene.worth(way).cost;
        let least = if is_sum(scene) {
            let best = ways.iter().min_by(|a, b| cost(a).total_cmp(&cost(b)));
            best.copied().unwrap_or(never)
        } else {
            ways.iter().fold(never, |least, way| least.least(way))
        };
        let latencies = ways.iter().map(Stages::latency);
        let shortest = latencies.fold(f64::INFINITY, f64::min);
        Self {
            ways,
            least,
            shortest,
        }
    }

    /// The least of its ways by some cost; infinite without ways.
    pub(super) fn least_of(&self, cost: impl Fn(&Stages) -> f64) -> f64 {
        self.ways.iter().map(cost).fold(f64::INFINITY, f64::min)
    }
}

/// Whether the objective is a sum of stages, so that each tensor's best way is part of the best of all.
pub(super) const fn is_sum(scene: &Scene) -> bool {
    matches!(
        scene.objective,
        Objective::Latency | Objective::Energy { .. }
    )
}

/// The number of each tensor's way, the seconds that follow, and their worth.
pub(super) type Sent = (Vec<usize>, Stages, Worth);

/// The best ways to send these tensors, when everything else takes `start`; `None` when one of them has none, or when
/// nothing is better than `known`.
///
/// O(tensors · left² · ways), and no more than [`LEFT`] are left after each tensor.
pub(super) fn best(
    scene: &Scene,
    start: Stages,
    tensors: &[&Sending],
    floor: &mut Floor<'_>,
    known: Option<&Worth>,
) -> Option<Sent> {
    // Each with its number in the trail of ways.
    let mut left: Vec<(Stages, usize)> = vec![(start, 0)];
    let mut trail: Vec<(usize, usize)> = vec![(0, 0)];
    let mut rest: Vec<Stages> = vec![Stages::default()];
    for sending in tensors.iter().rev() {
        let last = rest[rest.len() - 1];
        rest.push(last.plus(&sending.least));
    }
    rest.pop();
    let most = if is_sum(scene) { 1 } else { LEFT };
    for sending in tensors {
        let rest = rest.pop().unwrap_or_default();
        let mut next: Vec<(Stages, usize)> = Vec::new();
        for (stages, at) in &left {
            for (number, way) in sending.ways.iter().enumerate() {
                let stages = stages.plus(way);
                let is_hopeless =
                    known.is_some_and(|known| !floor.may_be_better(&stages.plus(&rest), known));
                if is_hopeless || next.iter().any(|(other, _)| other.covers(&stages)) {
                    continue;
                }
                next.retain(|(other, _)| !stages.covers(other));
                next.push((stages, trail.len()));
                trail.push((*at, number));
            }
        }
        if most < next.len() {
            let cost = |one: &(Stages, usize)| scene.worth(&one.0).cost;
            next.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
            next.truncate(most);
        }
        left = next;
    }
    let mut best: Option<(usize, Stages, Worth)> = None;
    for (stages, at) in left {
        let bar = best.as_ref().map(|(.., worth)| worth).or(known);
        if bar.is_some_and(|bar| !floor.may_be_better(&stages, bar)) {
            continue;
        }
        let worth = scene.worth(&stages);
        if bar.is_none_or(|bar| worth.is_better(bar)) {
            best = Some((at, stages, worth));
        }
    }
    let (mut at, stages, worth) = best?;
    let mut ways = Vec::with_capacity(tensors.len());
    while 0 < at {
        let (before, way) = trail[at];
        ways.push(way);
        at = before;
    }
    ways.reverse();
    Some((ways, stages, worth))
}

/// What stages that are nowhere shorter than some are worth at least. Under load that is read off a table: loss and
/// response only grow with a station's seconds, so those of the next shorter entry are below.
#[derive(Debug)]
pub(super) struct Floor<'a> {
    scene: &'a Scene,
    /// Entries of an octave as a power of two.
    grain: u32,
    /// Loss and response, once they were needed.
    entries: Vec<Option<(f64, f64)>>,
}

/// Shortest seconds in the table, as a power of two: below, a station costs its seconds; and the octaves from there,
/// up to some hours.
const SHORTEST: i32 = -24;
const OCTAVES: usize = 40;

impl<'a> Floor<'a> {
    pub(super) fn new(scene: &'a Scene) -> Self {
        // An entry costs the square of the places: with many of them, fewer entries.
        let grain = match scene.objective {
            Objective::Loss { places, .. } => 6 - (places / 16).max(1).ilog2().min(4),
            _ => 0,
        };
        Self {
            scene,
            grain,
            entries: Vec::new(),
        }
    }

    /// The least that such stages can be worth. O(1), and a station's formula the first time that it is near.
    pub(super) fn worth(&mut self, least: &Stages) -> Worth {
        let Objective::Loss {
            arrivals,
            places,
            scv,
            most,
        } = self.scene.objective
        else {
            return self.scene.worth(least);
        };
        let (mut kept, mut response) = (1.0, least.delay);
        for seconds in [least.device, least.link, least.server] {
            let (loss, own) = match self.entry(seconds) {
                Some((at, shorter)) => {
                    *self.entries[at].get_or_insert_with(|| station(shorter, arrivals, places, scv))
                }
                None => (0.0, 0.0),
            };
            kept *= 1.0 - loss;
            response += own.max(seconds);
        }
        Worth {
            excess: (1.0 - kept - most).max(0.0),
            cost: response,
        }
    }

    /// Whether something nowhere shorter than `least` can be better than `known`, a grain left for sums that were added
    /// in another order.
    pub(super) fn may_be_better(&mut self, least: &Stages, known: &Worth) -> bool {
        may_be_better(&self.worth(least), known)
    }

    /// The entry below, and its seconds.
    fn entry(&mut self, seconds: f64) -> Option<(usize, f64)> {
        // The exponent and the first bits behind the point are the number of the entry.
        let shift = 52 - self.grain;
        let zero = 2f64.powi(SHORTEST).to_bits() >> shift;
        let at = (seconds * (1.0 - 1e-9)).to_bits() >> shift;
        let at = usize::try_from(at.checked_sub(zero)?).ok()?;
        let at = at.min((OCTAVES << self.grain) - 1);
        if self.entries.len() <= at {
            self.entries.resize(at + 1, None);
        }
        Some((at, f64::from_bits((at as u64 + zero) << shift)))
    }
}

/// Whether something worth `floor` at least can be better than `known`.
pub(super) fn may_be_better(floor: &Worth, known: &Worth) -> bool {
    let (excess, cost) = ((floor.excess - 1e-12).max(0.0), floor.cost * (1.0 - 1e-9));
    excess < known.excess || (excess <= known.excess && cost < known.cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the places, the load and how busy stations are: what is nowhere shorter is never worth less than the table
    /// says, and what lies just above an entry is worth hardly more.
    #[test]
    fn the_floor_is_below_and_near() {
        for places in [1, 10, 40, 200] {
            for arrivals in [0.0, 0.5, 3.0, 40.0] {
                let scene = Scene {
                    rate: 1e6,
                    delay: 0.01,
                    load: 1.0,
                    objective: Objective::Loss {
                        arrivals,
                        places,
                        scv: 0.3,
                        most: 0.01,
                    },
                };
                let mut floor = Floor::new(&scene);
                for step in 0..60 {
                    let device = 1e-9 * 1.5f64.powi(step);
                    let stages = Stages {
                        device,
                        link: 0.07,
                        server: device / 3.0,
                        delay: 0.01,
                    };
                    let (least, truth) = (floor.worth(&stages), scene.worth(&stages));
                    assert!(least.excess <= truth.excess + 1e-12, "{least:?} {truth:?}");
                    assert!(
                        least.cost <= truth.cost * (1.0 + 1e-12),
                        "{least:?} {truth:?}"
                    );
                    // With very many places entries are few.
                    assert!(40 < places || truth.cost < 2.0 * least.cost);
                    let longer = Stages {
                        link: 0.2,
                        ..stages
                    };
                    assert!(floor.may_be_better(&stages, &scene.worth(&longer)));
                }
                let known = scene.worth(&Stages::default());
                let busy = Stages {
                    device: 5.0,
                    ..Stages::default()
                };
                assert!(!floor.may_be_better(&busy, &known));
            }
        }
    }
}
