//! Every down-set of a network's layers, when there are not too many.
//!
//! A network of chains and blocks has few: between two cuts of one tensor as many as its branches' lengths plus
//! one, multiplied. InceptionV3 has some ten thousand, a transformer a few hundred.
//!
//! They are listed by size: each set with one more layer that has all that it needs. A set is known again by the
//! exclusive or of its layers' keys, and by its bits, so that no two are taken for one. All of them lie in a few
//! vectors, for a list of ten thousand small ones costs more than what is in them.

use std::{collections::HashMap, ops::Range};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{Network, Refused};

/// Down-sets by number, smaller ones first: number 0 is empty, the last has all layers.
#[derive(Clone, Debug)]
pub struct DownSets {
    /// Words of a set.
    words: usize,
    /// Bit `l` of a set's word `l / 64` is layer `l`.
    bits: Vec<u64>,
    from: Lists<(usize, usize)>,
    crossing: Lists<usize>,
    back: Vec<u64>,
}

/// Lists one behind the other.
#[derive(Clone, Debug)]
struct Lists<T> {
    all: Vec<T>,
    ends: Vec<usize>,
}

impl<T> Lists<T> {
    const fn new() -> Self {
        Self {
            all: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Ends the list that has been pushed to `all`.
    fn end(&mut self) {
        self.ends.push(self.all.len());
    }

    fn range(&self, number: usize) -> Range<usize> {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[number]
    }

    fn get(&self, number: usize) -> &[T] {
        &self.all[self.range(number)]
    }
}

impl DownSets {
    /// Down-sets that are listed at most.
    pub const MOST: usize = 200_000;

    /// Lists them all. O(down-sets · width · (layers / 64 + width)).
    ///
    /// # Errors
    /// [`Refused::Wide`] when there are more than `most`.
    pub fn new(network: &Network, most: usize) -> Result<Self, Refused> {
        let shape = Shape::new(network);
        let mut sets = Self {
            words: shape.words,
            bits: vec![0; shape.words],
            from: Lists::new(),
            crossing: Lists::new(),
            back: Vec::new(),
        };
        sets.crossing.all = network.crossing(&vec![false; shape.follow.len()]);
        sets.crossing.end();
        sets.from.end();
        let made = network.tensors().iter().filter(|t| t.producer.is_some());
        sets.back
            .push(made.fold(0, |sum, tensor| sum.saturating_add(tensor.back)));
        let mut keys = vec![0u64];
        // What may be added to each set of the present size.
        let mut ready = Lists::new();
        ready.all = (0..shape.follow.len())
            .filter(|&layer| shape.is_ready(layer, sets.bits(0)))
            .collect();
        ready.end();
        let mut known: HashMap<u64, usize> = HashMap::new();
        // Steps to the sets of the next size: to which one, from where, by which layer.
        let mut steps: Vec<(usize, (usize, usize))> = Vec::new();
        let mut first = 0;
        while first < sets.count() {
            let last = sets.count();
            known.clear();
            steps.clear();
            let mut next_ready = Lists::new();
            for at in first..last {
                for &layer in ready.get(at - first) {
                    let mut key = keys[at] ^ shape.keys[layer];
                    let number = loop {
                        match known.get(&key) {
                            Some(&number) if sets.is_grown(number, at, layer) => break number,
                            // Another set with this key: the next one is tried.
                            Some(_) => key = key.wrapping_add(1),
                            None => {
                                if sets.count() == most {
                                    return Err(Refused::Wide(most));
                                }
                                let number = sets.grow(network, &shape, at, layer);
                                known.insert(key, number);
                                keys.push(keys[at] ^ shape.keys[layer]);
                                let bits = sets.bits(number);
                                let rest = ready.get(at - first).iter().copied();
                                next_ready.all.extend(rest.filter(|&one| one != layer));
                                let follow = shape.follow[layer].iter().copied();
                                let follow = follow.filter(|&one| shape.is_ready(one, bits));
                                next_ready.all.extend(follow);
                                next_ready.end();
                                break number;
                            }
                        }
                    };
                    steps.push((number, (at, layer)));
                }
            }
            // Steps to one set come from several: stable, so that each set's are in the order of where they come from.
            steps.sort_by_key(|(to, _)| *to);
            let mut rest = steps.iter().peekable();
            for number in last..sets.count() {
                while let Some((_, step)) = rest.next_if(|(to, _)| *to == number) {
                    sets.from.all.push(*step);
                }
                sets.from.end();
            }
            (first, ready) = (last, next_ready);
        }
        Ok(sets)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.back.len()
    }

    /// The smaller sets by one layer, with the layer: each is a way to get to this one.
    #[must_use]
    pub fn from(&self, number: usize) -> &[(usize, usize)] {
        self.from.get(number)
    }

    /// Tensors that cross behind one, ascending.
    #[must_use]
    pub fn crossing(&self, number: usize) -> &[usize] {
        self.crossing.get(number)
    }

    /// Bytes of answers that are made behind one.
    #[must_use]
    pub fn back(&self, number: usize) -> u64 {
        self.back[number]
    }

    /// One of them, as a set of so many layers.
    #[must_use]
    pub fn first(&self, number: usize, layers: usize) -> Vec<bool> {
        debug_assert!(layers <= 64 * self.words);
        let bits = self.bits(number);
        (0..layers).map(|layer| has(bits, layer)).collect()
    }

    fn bits(&self, number: usize) -> &[u64] {
        &self.bits[number * self.words..(number + 1) * self.words]
    }

    /// Whether one of them is another with one more layer.
    fn is_grown(&self, number: usize, from: usize, layer: usize) -> bool {
        let words = self.bits(number).iter().zip(self.bits(from)).enumerate();
        let mut pairs = words.map(|(word, (new, old))| {
            let added = if word == layer / 64 {
                1 << (layer % 64)
            } else {
                0
            };
            *new == old | added
        });
        pairs.all(|is_same| is_same)
    }

    /// Lists a set with one more layer; its number.
    fn grow(&mut self, network: &Network, shape: &Shape, from: usize, layer: usize) -> usize {
        let number = self.count();
        let old = from * self.words..(from + 1) * self.words;
        self.bits.extend_from_within(old);
        self.bits[number * self.words + layer / 64] |= 1 << (layer % 64);
        let bits = &self.bits[number * self.words..];
        let is_needed = |tensor: usize| shape.is_needed(tensor, bits);
        let made = network.outputs(layer);
        let mut back = self.back[from];
        let begin = self.crossing.all.len();
        for at in self.crossing.range(from) {
            let tensor = self.crossing.all[at];
            // Only what the layer needs may be needed no longer.
            if !network.inputs(layer).contains(&tensor) || is_needed(tensor) {
                self.crossing.all.push(tensor);
            }
        }
        for &tensor in made {
            if is_needed(tensor) {
                self.crossing.all.push(tensor);
            }
            back -= network.tensors()[tensor].back.min(back);
        }
        self.crossing.all[begin..].sort_unstable();
        self.crossing.end();
        self.back.push(back);
        number
    }
}

/// What is asked of a network again and again while its down-sets are listed.
struct Shape {
    words: usize,
    /// By layer: the layers that it waits for, as a set; those that wait for it; its key.
    waits: Vec<u64>,
    follow: Vec<Vec<usize>>,
    keys: Vec<u64>,
    /// By tensor: who needs it, as a set.
    consumers: Vec<u64>,
}

impl Shape {
    fn new(network: &Network) -> Self {
        let count = network.layers().len();
        let words = count.div_ceil(64).max(1);
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut waits = vec![0u64; count * words];
        let mut follow = vec![Vec::new(); count];
        for layer in 0..count {
            for needed in network.before(layer) {
                let word = &mut waits[layer * words + needed / 64];
                if *word >> (needed % 64) & 1 == 0 {
                    *word |= 1 << (needed % 64);
                    follow[needed].push(layer);
                }
            }
        }
        let mut consumers = vec![0u64; network.tensors().len() * words];
        for (number, tensor) in network.tensors().iter().enumerate() {
            for &consumer in &tensor.consumers {
                consumers[number * words + consumer / 64] |= 1 << (consumer % 64);
            }
        }
        Self {
            words,
            waits,
            follow,
            keys: (0..count).map(|_| rng.next_u64()).collect(),
            consumers,
        }
    }

    /// Whether a set has all that a layer waits for.
    fn is_ready(&self, layer: usize, bits: &[u64]) -> bool {
        let waits = &self.waits[layer * self.words..(layer + 1) * self.words];
        waits.iter().zip(bits).all(|(waits, has)| waits & !has == 0)
    }

    /// Whether a layer beyond a set needs a tensor.
    fn is_needed(&self, tensor: usize, bits: &[u64]) -> bool {
        let consumers = &self.consumers[tensor * self.words..(tensor + 1) * self.words];
        let mut pairs = consumers.iter().zip(bits);
        pairs.any(|(consumers, has)| consumers & !has != 0)
    }
}

fn has(bits: &[u64], layer: usize) -> bool {
    bits[layer / 64] >> (layer % 64) & 1 == 1
}
