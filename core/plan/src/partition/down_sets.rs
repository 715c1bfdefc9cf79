//! Every down-set of a network's layers, when there are not too many.
//!
//! A network of chains and blocks has few: between two cuts of one tensor as many as its branches' lengths plus
//! one, multiplied. InceptionV3 has some ten thousand, a transformer a few hundred.

use std::collections::HashMap;

use super::{Network, Refused};

/// Down-sets, smaller ones first: number 0 is empty, the last has all layers.
#[derive(Clone, Debug)]
pub struct DownSets {
    sets: Vec<DownSet>,
    words: usize,
}

/// One down-set.
#[derive(Clone, Debug)]
pub struct DownSet {
    /// Bit `l` of word `l / 64` is layer `l`.
    bits: Box<[u64]>,
    /// Smaller sets by one layer, with the layer: each is a way to get here.
    pub from: Vec<(usize, usize)>,
    /// Tensors that cross behind it, ascending.
    pub crossing: Vec<usize>,
    /// Bytes of answers that are made behind it.
    pub back: u64,
}

impl DownSet {
    /// Whether a layer is in it.
    #[must_use]
    pub fn has(&self, layer: usize) -> bool {
        self.bits[layer / 64] >> (layer % 64) & 1 == 1
    }
}

impl DownSets {
    /// Down-sets that are listed at most.
    pub const MOST: usize = 200_000;

    /// Lists them all. O(down-sets · width · layers / 64).
    ///
    /// # Errors
    /// [`Refused::Wide`] when there are more than `most`.
    pub fn new(network: &Network, most: usize) -> Result<Self, Refused> {
        let count = network.layers().len();
        let words = count.div_ceil(64).max(1);
        let mut waits = vec![Vec::new(); count];
        for (layer, list) in waits.iter_mut().enumerate() {
            list.extend(network.before(layer));
            list.sort_unstable();
            list.dedup();
        }
        let mut follow = vec![Vec::new(); count];
        for (layer, list) in waits.iter().enumerate() {
            list.iter()
                .for_each(|&needed: &usize| follow[needed].push(layer));
        }
        let start = DownSet {
            bits: vec![0; words].into(),
            from: Vec::new(),
            crossing: network.crossing(&vec![false; count]),
            back: network.tensors().iter().fold(0, |sum, tensor| {
                let back = tensor.producer.map_or(0, |_| tensor.back);
                sum.saturating_add(back)
            }),
        };
        let roots = (0..count).filter(|&layer| waits[layer].is_empty());
        // What may be added to a set of the present size, by set.
        let mut ready: Vec<Vec<usize>> = vec![roots.collect()];
        let mut sets = vec![start];
        let mut first = 0;
        while first < sets.len() {
            let last = sets.len();
            let mut known: HashMap<Box<[u64]>, usize> = HashMap::new();
            let mut next_ready = Vec::new();
            for at in first..last {
                for &layer in &ready[at - first] {
                    let mut bits = sets[at].bits.clone();
                    bits[layer / 64] |= 1 << (layer % 64);
                    if let Some(&number) = known.get(&bits) {
                        let set: &mut DownSet = &mut sets[number];
                        set.from.push((at, layer));
                        continue;
                    }
                    if sets.len() == most {
                        return Err(Refused::Wide(most));
                    }
                    known.insert(bits.clone(), sets.len());
                    let grown = grow(network, &sets[at], bits, (at, layer));
                    let is_ready = |&one: &usize| waits[one].iter().all(|&w| grown.has(w));
                    let mut free: Vec<usize> = ready[at - first].clone();
                    free.retain(|&one| one != layer);
                    free.extend(follow[layer].iter().copied().filter(is_ready));
                    next_ready.push(free);
                    sets.push(grown);
                }
            }
            (first, ready) = (last, next_ready);
        }
        Ok(Self { sets, words })
    }

    /// All of them.
    #[must_use]
    pub fn sets(&self) -> &[DownSet] {
        &self.sets
    }

    /// One of them, as a set of layers.
    #[must_use]
    pub fn first(&self, number: usize, layers: usize) -> Vec<bool> {
        debug_assert!(layers <= 64 * self.words);
        (0..layers)
            .map(|layer| self.sets[number].has(layer))
            .collect()
    }
}

/// A set with one more layer.
fn grow(network: &Network, set: &DownSet, bits: Box<[u64]>, from: (usize, usize)) -> DownSet {
    let (_, layer) = from;
    let mut grown = DownSet {
        bits,
        from: vec![from],
        crossing: Vec::with_capacity(set.crossing.len() + 1),
        back: set.back,
    };
    let is_needed = |tensor: usize, set: &DownSet| {
        let mut consumers = network.tensors()[tensor].consumers.iter();
        consumers.any(|&consumer| !set.has(consumer))
    };
    let kept = set.crossing.iter().copied();
    let kept = kept.filter(|&tensor| is_needed(tensor, &grown));
    let mut crossing: Vec<usize> = kept.collect();
    for &tensor in network.outputs(layer) {
        if is_needed(tensor, &grown) {
            crossing.push(tensor);
        }
        grown.back -= network.tensors()[tensor].back.min(grown.back);
    }
    crossing.sort_unstable();
    grown.crossing = crossing;
    grown
}
