//! A network to be parted: layers with their seconds on every node, tensors with the ways to send them.

use std::collections::BTreeMap;

use splitplace_graph::{Cut, Graph};

use crate::{Crossing, Way};

/// One operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Seconds of one sample on each node.
    pub seconds: Vec<f64>,
}

/// What one layer, or the outside, hands to others.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The layer that makes it; `None` for what is there from the beginning, on the first node.
    pub producer: Option<usize>,
    /// The layers that need it, ascending.
    pub consumers: Vec<usize>,
    /// How it may be sent; empty when it may not cross a link at all.
    pub ways: Vec<Way>,
    /// Bytes that go back to the first node when another one made it; 0 unless it is an answer.
    pub back: u64,
}

/// Layers in an order in which producers come before consumers, and what flows between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    layers: Vec<Layer>,
    tensors: Vec<Tensor>,
    coding: Vec<f64>,
    /// By layer: what it needs, what it makes.
    inputs: Vec<Vec<usize>>,
    outputs: Vec<Vec<usize>>,
}

/// What some tensors need of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Needed {
    /// It, as a network of its own.
    pub network: Network,
    /// By its layers: their numbers in the whole.
    pub layers: Vec<usize>,
    /// By its tensors: their numbers in the whole.
    pub tensors: Vec<usize>,
}

/// Why layers and tensors are no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Every layer needs a finite time of at least 0 on the same number of nodes, two at least.
    #[error("layer {0} has no time on some node")]
    Seconds(usize),
    /// A tensor's producer must come before its consumers, and all must be layers.
    #[error("tensor {0} is used before it is made, or by no layer that there is")]
    Order(usize),
    /// Bytes and coding times must be finite and not negative.
    #[error("a way to send tensor {0} has no size or no time")]
    Way(usize),
    /// A layer that nothing leads to could run anywhere for nothing.
    #[error("layer {0} needs nothing")]
    Loose(usize),
}

impl Network {
    /// Checks. `coding[node]` is how many times the seconds of a [`Way`] coding takes there.
    /// O(layers · nodes + uses of tensors).
    ///
    /// # Errors
    /// [`NetworkError`] names the first thing that is wrong.
    pub fn new(
        layers: Vec<Layer>,
        tensors: Vec<Tensor>,
        coding: Vec<f64>,
    ) -> Result<Self, NetworkError> {
        let is_time = |seconds: &f64| seconds.is_finite() && *seconds >= 0.0;
        let nodes = coding.len();
        for (number, layer) in layers.iter().enumerate() {
            let is_whole = layer.seconds.len() == nodes && 2 <= nodes;
            if !is_whole || !layer.seconds.iter().all(is_time) || !coding.iter().all(is_time) {
                return Err(NetworkError::Seconds(number));
            }
        }
        let mut inputs = vec![Vec::new(); layers.len()];
        let mut outputs = vec![Vec::new(); layers.len()];
        for (number, tensor) in tensors.iter().enumerate() {
            let first = tensor.producer.map_or(0, |producer| producer + 1);
            let is_made = tensor
                .producer
                .is_none_or(|producer| producer < layers.len());
            let mut ascending = tensor.consumers.windows(2);
            let in_order = tensor.consumers.first().is_none_or(|one| first <= *one)
                && tensor
                    .consumers
                    .last()
                    .is_none_or(|one| *one < layers.len())
                && ascending.all(|pair| pair[0] < pair[1]);
            if !is_made || !in_order {
                return Err(NetworkError::Order(number));
            }
            let mut ways = tensor.ways.iter();
            if !ways.all(|way| is_time(&way.encode) && is_time(&way.decode)) {
                return Err(NetworkError::Way(number));
            }
            if let Some(producer) = tensor.producer {
                outputs[producer].push(number);
            }
            for &consumer in &tensor.consumers {
                inputs[consumer].push(number);
            }
        }
        if let Some(loose) = inputs.iter().position(Vec::is_empty) {
            return Err(NetworkError::Loose(loose));
        }
        Ok(Self {
            layers,
            tensors,
            coding,
            inputs,
            outputs,
        })
    }

    /// A graph whose layer `l` takes `seconds(l)` on each node and whose outlet `o` crosses in the ways
    /// `ways(o)`; its outputs go back to the first node as they are.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn of(
        graph: &Graph,
        coding: Vec<f64>,
        seconds: impl Fn(usize) -> Vec<f64>,
        ways: impl Fn(usize) -> Vec<Way>,
    ) -> Result<Self, NetworkError> {
        let layers = (0..graph.layers().len()).map(|layer| Layer {
            seconds: seconds(layer),
        });
        let tensors = graph.outlets().iter().enumerate();
        let tensors = tensors.map(|(number, outlet)| Tensor {
            producer: outlet.producer,
            consumers: outlet.consumers.clone(),
            ways: ways(number),
            back: if outlet.is_output { outlet.bytes } else { 0 },
        });
        Self::new(layers.collect(), tensors.collect(), coding)
    }

    /// The same with a picture's file at the beginning: a first layer makes the input tensor `input` from
    /// `bytes` that the first node has. So sending the picture is the cut before everything, and decoding it
    /// on the first node is work like any other. Every layer's number is one higher than before.
    ///
    /// # Errors
    /// As [`Network::new`]; [`NetworkError::Order`] when `input` is no input.
    pub fn with_picture(
        &self,
        input: usize,
        bytes: u64,
        decode: Vec<f64>,
    ) -> Result<Self, NetworkError> {
        let is_input = |tensor: &Tensor| tensor.producer.is_none();
        if !self.tensors.get(input).is_some_and(is_input) {
            return Err(NetworkError::Order(input));
        }
        let mut layers = vec![Layer { seconds: decode }];
        layers.extend(self.layers.iter().cloned());
        let mut tensors = self.tensors.clone();
        for tensor in &mut tensors {
            tensor.producer = tensor.producer.map(|producer| producer + 1);
            tensor.consumers.iter_mut().for_each(|one| *one += 1);
        }
        tensors[input].producer = Some(0);
        tensors.push(Tensor {
            producer: None,
            consumers: vec![0],
            ways: Crossing::from(bytes).ways,
            back: 0,
        });
        Self::new(layers, tensors, self.coding.clone())
    }

    /// The layers that these tensors need, and only those, with answers at these tensors: what runs when a
    /// request leaves at an exit. O(size).
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn up_to(&self, answers: &BTreeMap<usize, u64>) -> Result<Needed, NetworkError> {
        let mut needed = vec![false; self.layers.len()];
        let mut open: Vec<usize> = answers.keys().copied().collect();
        while let Some(tensor) = open.pop() {
            let producer = self.tensors.get(tensor).and_then(|one| one.producer);
            if let Some(producer) = producer.filter(|&producer| !needed[producer]) {
                needed[producer] = true;
                open.extend(&self.inputs[producer]);
            }
        }
        let kept: Vec<usize> = (0..needed.len()).filter(|&layer| needed[layer]).collect();
        let number = |layer: usize| kept.binary_search(&layer).ok();
        let (mut numbers, mut tensors) = (Vec::new(), Vec::new());
        for (at, tensor) in self.tensors.iter().enumerate() {
            let producer = tensor.producer.map(number);
            if producer == Some(None) {
                continue;
            }
            numbers.push(at);
            tensors.push(Tensor {
                producer: producer.flatten(),
                consumers: tensor.consumers.iter().filter_map(|&c| number(c)).collect(),
                ways: tensor.ways.clone(),
                back: answers.get(&at).copied().unwrap_or(0),
            });
        }
        let layers = kept.iter().map(|&layer| self.layers[layer].clone());
        Ok(Needed {
            network: Self::new(layers.collect(), tensors, self.coding.clone())?,
            layers: kept,
            tensors: numbers,
        })
    }

    /// The same where everything takes `times` as long on one node, coding included. O(size).
    ///
    /// # Errors
    /// [`NetworkError`], when that is no time.
    pub fn slowed(&self, node: usize, times: f64) -> Result<Self, NetworkError> {
        let (mut layers, mut coding) = (self.layers.clone(), self.coding.clone());
        for layer in &mut layers {
            layer.seconds[node] *= times;
        }
        coding[node] *= times;
        Self::new(layers, self.tensors.clone(), coding)
    }

    /// The layers, in order.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The tensors.
    #[must_use]
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// How many times the seconds of a way coding takes on each node.
    #[must_use]
    pub fn coding(&self) -> &[f64] {
        &self.coding
    }

    /// Number of nodes.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.coding.len()
    }

    /// What a layer needs.
    #[must_use]
    pub fn inputs(&self, layer: usize) -> &[usize] {
        &self.inputs[layer]
    }

    /// What a layer makes.
    #[must_use]
    pub fn outputs(&self, layer: usize) -> &[usize] {
        &self.outputs[layer]
    }

    /// The layers that a layer waits for, with repetition.
    pub fn before(&self, layer: usize) -> impl Iterator<Item = usize> {
        let inputs = self.inputs[layer].iter();
        inputs.filter_map(|&tensor| self.tensors[tensor].producer)
    }

    /// Whether a set of layers holds all that its layers need: whether it can run first. O(uses).
    #[must_use]
    pub fn is_down_set(&self, first: &[bool]) -> bool {
        first.len() == self.layers.len()
            && (0..first.len())
                .filter(|&layer| first[layer])
                .all(|layer| self.before(layer).all(|needed| first[needed]))
    }

    /// What crosses from a down-set to the rest, ascending. O(uses).
    #[must_use]
    pub fn crossing(&self, first: &[bool]) -> Vec<usize> {
        let is_here = |tensor: &Tensor| tensor.producer.is_none_or(|producer| first[producer]);
        let crosses =
            |tensor: &Tensor| is_here(tensor) && tensor.consumers.iter().any(|&one| !first[one]);
        (0..self.tensors.len())
            .filter(|&tensor| crosses(&self.tensors[tensor]))
            .collect()
    }

    /// The lengths of the prefixes of the order behind which one tensor crosses that may, the empty prefix and
    /// all layers included: the cuts of a layer-wise split. O(uses).
    #[must_use]
    pub fn trunk(&self) -> Vec<usize> {
        let count = self.layers.len();
        let mut change = vec![0isize; count + 2];
        let mut barred = vec![0isize; count + 2];
        for tensor in &self.tensors {
            let from = tensor.producer.map_or(0, |producer| producer + 1);
            if let Some(&last) = tensor.consumers.last() {
                let bar = isize::from(tensor.ways.is_empty());
                change[from] += 1;
                change[last + 1] -= 1;
                barred[from] += bar;
                barred[last + 1] -= bar;
            }
        }
        let (mut live, mut stuck) = (0, 0);
        let mut positions = Vec::new();
        for position in 0..=count {
            live += change[position];
            stuck += barred[position];
            let is_end = position == count;
            let is_cut = stuck == 0 && (live == 1 || position == 0);
            if is_end || is_cut {
                positions.push(position);
            }
        }
        positions
    }
}

/// The layers of a graph that run first under a cut, as a set.
#[must_use]
pub fn first_of(graph: &Graph, cut: &Cut) -> Vec<bool> {
    let mut first = vec![false; graph.layers().len()];
    for &layer in &cut.before {
        first[layer] = true;
    }
    first
}
