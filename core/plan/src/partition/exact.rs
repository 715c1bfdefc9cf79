//! Enumeration: the oracle, and the exact method for narrow networks.

use super::{
    Choice, Method, Network, Part, Question, Refused, Scene, Stages, better, down_sets::DownSets,
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
/// O(down-sets · (width + ways²)), and for [`Objective::Loss`](super::Objective::Loss) one queueing formula for each that
/// is nowhere longer than another.
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
        let count = network.layers().len();
        let total: f64 = network.layers().iter().map(|layer| layer.seconds[1]).sum();
        let mut bases: Vec<Stages> = Vec::with_capacity(sets.sets().len());
        let mut best: Option<(usize, super::scene::Sent)> = None;
        for (number, set) in sets.sets().iter().enumerate() {
            let base = match set.from.first() {
                None => Stages {
                    server: total,
                    ..Stages::default()
                },
                Some(&(from, layer)) => {
                    let (before, seconds) = (&bases[from], &network.layers()[layer].seconds);
                    Stages {
                        device: before.device + seconds[0],
                        server: (before.server - seconds[1]).max(0.0),
                        ..*before
                    }
                }
            };
            bases.push(base);
            // Sums that were taken apart again leave some dust behind the last layer.
            let base = Stages {
                server: if number + 1 == sets.sets().len() {
                    0.0
                } else {
                    base.server
                },
                ..base
            };
            if let Some((_, (_, _, worth))) = &best
                && !scene.may_be_better(&base, set.crossing.is_empty(), worth)
            {
                continue;
            }
            let Some(sent) = scene.best(network, base, &set.crossing, set.back) else {
                continue;
            };
            let is_better = best
                .as_ref()
                .is_none_or(|(_, (_, _, known))| sent.2.is_better(known));
            if is_better {
                best = Some((number, sent));
            }
        }
        let (number, _) = best.ok_or(Refused::Scene)?;
        // Once more from the layers themselves, so that no dust is left in the numbers.
        Choice::at(network, scene, sets.first(number, count)).ok_or(Refused::Scene)
    }
}

impl Method for Exact {
    fn name(&self) -> &'static str {
        "exact"
    }

    fn complexity(&self) -> &'static str {
        "O(down-sets · width · n / 64)"
    }

    fn solve(&self, question: &Question<'_>) -> Result<Vec<Part>, Refused> {
        question.cut(|network, scene| {
            let sets = DownSets::new(network, self.most)?;
            Self::among(network, &sets, scene)
        })
    }
}
