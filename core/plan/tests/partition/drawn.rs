//! Networks and scenes by lot.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use splitplace_codec::Codec;
use splitplace_plan::{
    Way,
    partition::{Layer, Network, Objective, Scene, Tensor},
};

pub(crate) struct Lot(pub(crate) ChaCha8Rng);

impl Lot {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn number(&mut self, below: usize) -> usize {
        self.0.random_range(0..below)
    }

    pub(crate) fn real(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.0.random::<f64>())
    }

    fn ways(&mut self) -> Vec<Way> {
        if self.number(12) == 0 {
            return Vec::new();
        }
        (0..=self.number(3))
            .map(|_| Way {
                codec: Codec::RAW,
                bytes: 1 + self.number(200_000) as u64,
                encode: self.real(1e-5, 1e-2),
                decode: self.real(1e-5, 1e-2),
            })
            .collect()
    }

    /// So many layers on so many nodes; each needs one to three tensors made before it, some make two.
    pub(crate) fn network(&mut self, layers: usize, nodes: usize) -> Network {
        let mut tensors = vec![Tensor {
            producer: None,
            consumers: Vec::new(),
            ways: vec![Way {
                codec: Codec::RAW,
                bytes: 1 + self.number(300_000) as u64,
                encode: 0.0,
                decode: 0.0,
            }],
            back: 0,
        }];
        let mut costs = Vec::new();
        for layer in 0..layers {
            for _ in 0..=self.number(3) {
                // Near ones are more likely: blocks instead of a tangle.
                let back = self.number(4).min(tensors.len() - 1);
                let at = tensors.len() - 1 - back;
                let used: &mut Vec<usize> = &mut tensors[at].consumers;
                if used.last() != Some(&layer) && tensors[at].producer != Some(layer) {
                    tensors[at].consumers.push(layer);
                }
            }
            for _ in 0..=usize::from(self.number(6) == 0) {
                let ways = self.ways();
                tensors.push(Tensor {
                    producer: Some(layer),
                    consumers: Vec::new(),
                    ways,
                    back: 0,
                });
            }
            let seconds = (0..nodes).map(|_| self.real(1e-3, 0.3)).collect();
            costs.push(Layer { seconds });
        }
        for tensor in &mut tensors {
            if tensor.consumers.is_empty() && tensor.producer.is_some() {
                tensor.back = self.number(5000) as u64;
            }
        }
        let coding = (0..nodes).map(|_| self.real(0.3, 3.0)).collect();
        Network::new(costs, tensors, coding).unwrap()
    }

    /// A network in which every layer needs the one before only, and every tensor may cross.
    pub(crate) fn chain(&mut self, layers: usize) -> Network {
        let mut tensors = Vec::new();
        for at in 0..=layers {
            let mut ways = self.ways();
            if ways.is_empty() {
                ways = vec![Way {
                    codec: Codec::RAW,
                    bytes: 1000,
                    encode: 0.0,
                    decode: 0.0,
                }];
            }
            tensors.push(Tensor {
                producer: at.checked_sub(1),
                consumers: (at < layers).then_some(at).into_iter().collect(),
                ways,
                back: if at == layers { 400 } else { 0 },
            });
        }
        let layers = (0..layers).map(|_| {
            let server = self.real(1e-4, 1e-2);
            Layer {
                seconds: vec![server * self.real(2.0, 20.0), server],
            }
        });
        Network::new(layers.collect(), tensors, vec![1.0, 0.2]).unwrap()
    }

    pub(crate) fn scene(&mut self, objective: Objective) -> Scene {
        Scene {
            rate: self.real(1e4, 1e8),
            delay: self.real(1e-4, 0.1),
            load: self.real(0.2, 5.0),
            objective,
        }
    }

    pub(crate) fn objectives(&mut self) -> [Objective; 4] {
        [
            Objective::Latency,
            Objective::Bottleneck,
            Objective::Energy {
                compute: self.real(0.5, 5.0),
                radio: self.real(0.5, 5.0),
            },
            Objective::Loss {
                arrivals: self.real(0.1, 5.0),
                places: 1 + self.number(6),
                scv: [0.0, 0.3, 1.0][self.number(3)],
                most: self.real(1e-3, 0.3),
            },
        ]
    }
}
