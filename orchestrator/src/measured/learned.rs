//! What the fleet's measurements say of fragments, and of nodes, beyond themselves.
//!
//! Predictions start from coefficients that are shipped, for a machine of known speed. What fragments of known layers took
//! tells which nodes are slower than they state, and which predictions are off ([`effects`]); with the former taken out,
//! the coefficients are fitted again. Nothing of it is kept: it follows from the table.

use std::collections::BTreeMap;

use splitplace_fleet::{Node, NodeId};
use splitplace_onnx::Costs;
use splitplace_plan::{
    FragmentId,
    effects::{self, Priors, Run},
    predict::{Features, Guess, Predictor},
};

use super::Measured;

/// Runs that are learned from, at most: what bounds the time that a plan waits for it.
const MOST: usize = 4096;

/// Where predictions come from.
#[derive(Clone, Debug)]
pub(super) struct Learned {
    costs: Costs,
    predictor: Predictor,
    /// Logarithm of what everything takes over predictions.
    common: f64,
    /// The same of a node over its stated speed, and the variance of it.
    nodes: BTreeMap<NodeId, (f64, f64)>,
}

impl Learned {
    pub(super) fn new(costs: Costs) -> Self {
        Self {
            predictor: costs.predictor.clone(),
            costs,
            common: 0.0,
            nodes: BTreeMap::new(),
        }
    }

    /// What a fragment takes on a node where nothing else runs.
    pub(super) fn predict(&self, features: &Features, node: &Node) -> Guess {
        let (slower, variance) = self.node(&node.id);
        let guess = self.predictor.predict(features);
        let factor = self.costs.factor(node.macs_per_second) * (self.common + slower).exp();
        let mean = guess.mean * factor;
        Guess {
            mean,
            variance: guess.variance * factor * factor + variance * mean * mean,
        }
    }

    /// How many times longer things take on `here` than on `there`, beyond what their stated speeds say, and the relative
    /// variance of that (of a logarithm, which is the same where it is small).
    pub(super) fn slower(&self, here: &NodeId, there: &NodeId) -> Guess {
        let (here, there) = (self.node(here), self.node(there));
        Guess {
            mean: (here.0 - there.0).exp(),
            variance: here.1 + there.1,
        }
    }

    fn node(&self, node: &NodeId) -> (f64, f64) {
        let unseen = (0.0, Priors::with(self.predictor.relative_variance).node);
        self.nodes.get(node).copied().unwrap_or(unseen)
    }
}

impl Measured {
    /// Learns from everything that was measured of these fragments what the rest will take. To be called before a
    /// plan is made. O(records · log records + sweeps · runs), for at most 4096 runs.
    pub fn learn(&mut self, described: &[(FragmentId, Features)]) {
        let mut numbers: BTreeMap<&NodeId, usize> = BTreeMap::new();
        let mut segments: BTreeMap<FragmentId, Features> = BTreeMap::new();
        segments.extend(described.iter().copied());
        let mut features = Vec::new();
        let mut runs = Vec::new();
        for (fragment, does) in &segments {
            let entries = self.by_fragment.get(fragment).into_iter().flatten();
            let before = runs.len();
            for (node, entry) in entries.take(MOST - before) {
                let took = if entry.alone.weight > 0.0 {
                    entry.alone.mean
                } else {
                    entry.served.mean / self.pace(node)
                };
                let seconds = took / self.learned.costs.factor(entry.macs_per_second);
                if seconds.is_finite() && seconds > 0.0 {
                    let next = numbers.len();
                    runs.push(Run {
                        segment: features.len(),
                        node: *numbers.entry(node).or_insert(next),
                        seconds,
                    });
                }
            }
            if runs.len() > before {
                features.push(*does);
            }
        }
        let shipped = &self.learned.costs.predictor;
        let (predictor, effects) = effects::learn(shipped, &features, &runs);
        let nodes = numbers
            .into_iter()
            .filter_map(|(node, number)| Some((node.clone(), *effects.nodes.get(number)?)));
        self.learned.nodes = nodes.collect();
        self.learned.common = effects.common;
        self.learned.predictor = predictor;
    }
}
