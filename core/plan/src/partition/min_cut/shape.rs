//! A network as places and arcs, made once for all weights.
//!
//! A chain, that is layers of which each needs nothing but what the one before it makes for nobody else, can only be
//! cut at one place. With given weights one place within is the best, whatever else is cut; so a chain of any length is
//! two places of the flow, its head and its tail. InceptionV3's two hundred layers are some sixty chains.

use super::{Weights, flow::Flow};
use crate::partition::{Network, Scene, Stages, real, sending::Sending};

/// What an arc's capacity is made of.
#[derive(Clone, Copy, Debug)]
enum Price {
    /// A chain on the server.
    There(usize),
    /// A chain on the device.
    Here(usize),
    /// A chain cut within.
    Within(usize),
    /// A tensor sent.
    Sent(usize),
    /// Never.
    Never,
}

/// Layers one behind the other, with the tensors between them.
#[derive(Clone, Debug, Default)]
struct Chain {
    layers: Vec<usize>,
    between: Vec<usize>,
}

/// A network's chains, and a flow through them.
pub(super) struct Shape {
    chains: Vec<Chain>,
    /// By layer: what it takes on the device, and what it takes on the server, its answers' way back included.
    layers: Vec<(f64, Stages)>,
    sendings: Vec<Sending>,
    prices: Vec<Price>,
    flow: Flow,
    /// By chain: its head's place and its tail's, the same for one layer.
    places: Vec<(usize, usize)>,
    /// The flow's source and sink.
    ends: (usize, usize),
}

impl Shape {
    /// O(size).
    pub(super) fn new(network: &Network, scene: &Scene) -> Self {
        let chains = chains(network);
        let mut at = vec![0; network.layers().len()];
        let mut places = Vec::with_capacity(chains.len());
        let mut count = 2;
        for (number, chain) in chains.iter().enumerate() {
            chain.layers.iter().for_each(|&layer| at[layer] = number);
            let tail = count + usize::from(!chain.between.is_empty());
            places.push((count, tail));
            count = tail + 1;
        }
        let (device, server) = (0, 1);
        let mut arcs = Vec::new();
        for (number, &(head, tail)) in places.iter().enumerate() {
            arcs.push(((device, head), Price::There(number)));
            arcs.push(((tail, server), Price::Here(number)));
            if head != tail {
                arcs.push(((head, tail), Price::Within(number)));
                arcs.push(((tail, head), Price::Never));
            }
        }
        let mut is_within = vec![false; network.tensors().len()];
        let between = chains.iter().flat_map(|chain| &chain.between);
        between.for_each(|&tensor| is_within[tensor] = true);
        for (number, tensor) in network.tensors().iter().enumerate() {
            if is_within[number] || tensor.consumers.is_empty() {
                continue;
            }
            let from = tensor.producer.map(|producer| places[at[producer]].1);
            let heads = tensor.consumers.iter().map(|&one| places[at[one]].0);
            let heads: Vec<usize> = heads.collect();
            let sent = Price::Sent(number);
            if let [head] = heads[..] {
                arcs.push(((from.unwrap_or(device), head), sent));
            } else {
                arcs.push(((from.unwrap_or(device), count), sent));
                let uses = heads.iter().map(|&head| ((count, head), Price::Never));
                arcs.extend(uses);
                count += 1;
            }
            if let Some(from) = from {
                arcs.extend(heads.iter().map(|&head| ((head, from), Price::Never)));
            }
        }
        let (arcs, prices): (Vec<_>, Vec<_>) = arcs.into_iter().unzip();
        let tensors = network.tensors().iter();
        Self {
            layers: layers(network, scene),
            sendings: tensors
                .map(|tensor| Sending::new(network, scene, &tensor.ways))
                .collect(),
            chains,
            prices,
            flow: Flow::new(count, &arcs),
            places,
            ends: (device, server),
        }
    }

    /// The layers on the device under the cut with the least weighted sum of stages, delays left out; the fewest where
    /// several are. O(size) and a flow.
    pub(super) fn least(&mut self, weights: Weights) -> Vec<bool> {
        let sent: Vec<f64> = self
            .sendings
            .iter()
            .map(|sending| sending.least_of(|stages| weights.sum(stages)))
            .collect();
        let here = |layer: usize| self.layers[layer].0 * weights.device;
        let there = |layer: usize| weights.sum(&self.layers[layer].1);
        // By chain: all on the server, all on the device; the best cut within, and how many layers are before it.
        let sums: Vec<(f64, f64, (f64, usize))> = self
            .chains
            .iter()
            .map(|chain| {
                let layers = chain.layers.iter();
                let (all_there, all_here) = layers.fold((0.0, 0.0), |(b, a), &layer| {
                    (b + there(layer), a + here(layer))
                });
                let (mut before, mut behind) = (0.0, all_there);
                let mut within = (f64::INFINITY, 0);
                for (place, (&layer, &tensor)) in
                    chain.layers.iter().zip(&chain.between).enumerate()
                {
                    before += here(layer);
                    behind -= there(layer);
                    let sum = before + sent[tensor] + behind.max(0.0);
                    if sum < within.0 {
                        within = (sum, place + 1);
                    }
                }
                (all_there, all_here, within)
            })
            .collect();
        let capacities = self.prices.iter().map(|price| match *price {
            Price::There(chain) => sums[chain].0,
            Price::Here(chain) => sums[chain].1,
            Price::Within(chain) => sums[chain].2.0,
            Price::Sent(tensor) => sent[tensor],
            Price::Never => f64::INFINITY,
        });
        let is_near = self.flow.near(self.ends.0, self.ends.1, capacities);
        let mut first = vec![false; self.layers.len()];
        for ((chain, &(head, tail)), sums) in self.chains.iter().zip(&self.places).zip(&sums) {
            let count = match (is_near(head), is_near(tail)) {
                (_, true) => chain.layers.len(),
                (true, false) => sums.2.1,
                (false, false) => 0,
            };
            chain.layers[..count]
                .iter()
                .for_each(|&layer| first[layer] = true);
        }
        first
    }
}

fn layers(network: &Network, scene: &Scene) -> Vec<(f64, Stages)> {
    let all = network.layers().iter().enumerate();
    all.map(|(number, layer)| {
        let made = network.outputs(number).iter();
        let back = made.map(|&tensor| network.tensors()[tensor].back);
        let there = Stages {
            link: real(back.fold(0, u64::saturating_add)) / scene.rate,
            server: layer.seconds[1] * scene.load,
            ..Stages::default()
        };
        (layer.seconds[0], there)
    })
    .collect()
}

/// Every layer in one chain, each as long as can be.
fn chains(network: &Network) -> Vec<Chain> {
    let count = network.layers().len();
    // The layer behind, and the tensor between.
    let next = |layer: usize| {
        let mut used = network.outputs(layer).iter().copied();
        let mut used = used
            .by_ref()
            .filter(|&t| !network.tensors()[t].consumers.is_empty());
        let (tensor, None) = (used.next()?, used.next()) else {
            return None;
        };
        let &[one] = &network.tensors()[tensor].consumers[..] else {
            return None;
        };
        (network.inputs(one) == [tensor]).then_some((one, tensor))
    };
    let mut chains: Vec<Chain> = Vec::new();
    let mut is_behind = vec![false; count];
    for start in 0..count {
        if is_behind[start] {
            continue;
        }
        let mut chain = Chain {
            layers: vec![start],
            between: Vec::new(),
        };
        let mut last = start;
        while let Some((layer, tensor)) = next(last) {
            is_behind[layer] = true;
            chain.layers.push(layer);
            chain.between.push(tensor);
            last = layer;
        }
        chains.push(chain);
    }
    chains
}
