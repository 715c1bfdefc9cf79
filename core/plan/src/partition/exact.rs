//! Enumeration: the oracle, and the exact method for narrow networks.

use super::{
    Choice, Method, Network, Objective, Part, Question, Refused, Scene, Stages, Worth, better,
    down_sets::DownSets,
    real,
    sending::{self, Floor, Sending},
};

/// Tries every set of layers. O(2ⁿ · size): for tests and for networks of up to [`BruteForce::LAYERS`] layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct BruteForce;

impl BruteForce {
    /// Layers of a network at most.
    pub const LAYERS: usize = 20;
}

impl Method for BruteForce {
    fn name(&self) -> &'static str {
        "brute force"
    }

    fn complexity(&self) -> &'static str {
        "O(2ⁿ n)"
    }

    fn solve(&self, question: &Question<'_>) -> Result<Vec<Part>, Refused> {
        question.cut(every)
    }
}

fn every(network: &Network, scene: &Scene) -> Result<Choice, Refused> {
    let count = network.layers().len();
    if BruteForce::LAYERS < count {
        return Err(Refused::Wide(1 << BruteForce::LAYERS));
    }
    if !scene.is_sound() {
        return Err(Refused::Scene);
    }
    let mut best = None;
    for set in 0u32..1 << count {
        let first = (0..count).map(|layer| set >> layer & 1 == 1).collect();
        if let Some(choice) = Choice::at(network, scene, first) {
            best = better(best, choice);
        }
    }
    best.ok_or(Refused::Scene)
}

/// Looks at every down-set of a network that has no more than `most`: exact for every objective.
///
/// Each is looked at once, O(down-sets · width), for what it takes at least: its layers, and each tensor that crosses at
/// its shortest at each station. For sums that is what it takes. For the other objectives the ways to send are tried from
/// the most promising down-set on, O(width · left² · ways) each, until no other one can be better; under load a table of
/// some thousand queueing formulas tells that.
#[derive(Clone, Copy, Debug)]
pub struct Exact {
    /// Down-sets at most.
    pub most: usize,
}

impl Default for Exact {
    fn default() -> Self {
        Self {
            most: DownSets::MOST,
        }
    }
}

impl Exact {
    /// The best of these down-sets.
    fn among(network: &Network, sets: &DownSets, scene: &Scene) -> Result<Choice, Refused> {
        if !scene.is_sound() {
            return Err(Refused::Scene);
        }
        let tensors = network.tensors().iter();
        let sendings: Vec<Sending> = tensors
            .map(|tensor| Sending::new(network, scene, &tensor.ways))
            .collect();
        let mut floor = Floor::new(scene);
        let starts = starts(network, sets, scene);
        let mut open = Vec::with_capacity(starts.len());
        for (number, start) in starts.iter().enumerate() {
            let (mut least, mut latency) = (*start, start.latency());
            for &tensor in sets.crossing(number) {
                least = least.plus(&sendings[tensor].least);
                latency += sendings[tensor].shortest;
            }
            if !latency.is_finite() {
                continue;
            }
            let mut worth = floor.worth(&least);
            if let Objective::Loss { .. } = scene.objective {
                // Not every station is at its shortest at once, and a queue only makes it longer.
                worth.cost = worth.cost.max(latency);
            }
            open.push((worth, number));
        }
        let by_worth = |a: &(Worth, usize), b: &(Worth, usize)| {
            let (a, b) = ((a.0.excess, a.0.cost, a.1), (b.0.excess, b.0.cost, b.1));
            let order = a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1));
            order.then(a.2.cmp(&b.2))
        };
        let mut best: Option<(usize, Worth)> = None;
        let mut look = |number: usize, best: &mut Option<(usize, Worth)>| {
            let crossing = sets.crossing(number).iter();
            let crossing: Vec<&Sending> = crossing.map(|&tensor| &sendings[tensor]).collect();
            let known = best.as_ref().map(|(_, worth)| worth);
            let found = sending::best(scene, starts[number], &crossing, &mut floor, known);
            if let Some((.., worth)) = found {
                *best = Some((number, worth));
            }
        };
        // The most promising one first: few others are left to be put in order then.
        if let Some(&(_, number)) = open.iter().min_by(|a, b| by_worth(a, b)) {
            look(number, &mut best);
        }
        let can_be = |worth: &Worth, best: &Option<(usize, Worth)>| {
            let known = best.as_ref();
            known.is_none_or(|(_, known)| sending::may_be_better(worth, known))
        };
        open.retain(|(worth, _)| can_be(worth, &best));
        open.sort_by(by_worth);
        for (worth, number) in open {
            if !can_be(&worth, &best) {
                break;
            }
            look(number, &mut best);
        }
        let (number, _) = best.ok_or(Refused::Scene)?;
        // Once more from the layers themselves, so that no dust is left in the numbers.
        let first = sets.first(number, network.layers().len());
        Choice::at(network, scene, first).ok_or(Refused::Scene)
    }
}

/// What each down-set takes before anything is sent to the server.
fn starts(network: &Network, sets: &DownSets, scene: &Scene) -> Vec<Stages> {
    let seconds = |layer: usize, node: usize| network.layers()[layer].seconds[node];
    let total: f64 = (0..network.layers().len())
        .map(|layer| seconds(layer, 1))
        .sum();
    // By number: on the device, and what the server has to run.
    let mut runs: Vec<(f64, f64)> = Vec::with_capacity(sets.count());
    for number in 0..sets.count() {
        let run = sets.from(number).first().map_or((0.0, total), |step| {
            let &(from, layer) = step;
            let (device, server) = runs[from];
            let server: f64 = server - seconds(layer, 1);
            (device + seconds(layer, 0), server.max(0.0))
        });
        runs.push(run);
    }
    // Sums that were taken apart again leave some dust behind the last layer.
    if let Some((_, server)) = runs.last_mut() {
        *server = if sets.count() == 1 { *server } else { 0.0 };
    }
    let start = |(number, (device, server)): (usize, (f64, f64))| Stages {
        device,
        link: real(sets.back(number)) / scene.rate,
        server: server * scene.load,
        delay: if sets.crossing(number).is_empty() {
            0.0
        } else {
            scene.delay
        },
    };
    runs.into_iter().enumerate().map(start).collect()
}

impl Method for Exact {
    fn name(&self) -> &'static str {
        "exact"
    }

    fn complexity(&self) -> &'static str {
        "O(down-sets · width · (n / 64 + ways))"
    }

    fn solve(&self, question: &Question<'_>) -> Result<Vec<Part>, Refused> {
        question.cut(|network, scene| {
            let sets = DownSets::new(network, self.most)?;
            Self::among(network, &sets, scene)
        })
    }
}
