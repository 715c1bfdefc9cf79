//! Where to part a network between a device and a server, or along several nodes.
//!
//! A cut is a down-set of layers: it runs on the device, the rest on the server, and what crosses is sent once
//! whatever needs it, each tensor in one of its ways. Every method answers the same question ([`Method`]):
//! which cut is worth most in a [`Scene`] by its [`Objective`]. They differ in which cuts they look at, and in
//! what that costs:
//!
//! | method | cuts | cost |
//! |---|---|---|
//! | [`BruteForce`] | every down-set, one by one | O(2ⁿ · size); the oracle |
//! | [`Exact`] | every down-set, where there are few | O(down-sets · width), for any objective |
//! | [`Neurosurgeon`] | one tensor, along the trunk | O(n · ways); by [`envelope`] a look-up |
//! | [`Light`] | every down-set, for sums (latency, energy) | one maximum flow |
//! | [`Heavy`] | what some weights of the stages lead to | a grid of maximum flows; within 3 of the best stage |
//! | [`exits`] | exit and cut under a deadline | exits · the method |
//! | [`cores`] | several networks and the server's cores | O(networks · cores · log) |
//! | [`line`](mod@line) | several cuts along several nodes | O(down-sets · 2ᵏ · k · width) |
//!
//! The picture's file is a first layer's input ([`Network::with_picture`]), so sending the compressed picture
//! to the server is among the cuts of every method: the empty one.
//!
//! Light and heavy load are one objective here, [`Objective::Loss`]: the least latency whose end-to-end loss
//! stays below a target, device, link and server being stations with few places. Without arrivals that is the
//! latency alone; under load it keeps the busiest stage short.
//!
//! Reading order: [`network`], this file, [`down_sets`], [`exact`], [`min_cut`], [`envelope`], [`exits`], [`cores`],
//! [`line`](mod@line).

pub mod cores;
pub mod down_sets;
pub mod envelope;
pub mod exact;
pub mod exits;
pub mod line;
pub mod min_cut;
pub mod network;
pub mod neurosurgeon;
pub mod scene;

pub use envelope::{Envelope, Plane, Switch};
pub use exact::{BruteForce, Exact};
pub use min_cut::{Heavy, Light};
pub use network::{Layer, Network, NetworkError, Tensor};
pub use neurosurgeon::{DeviceOnly, Neurosurgeon, ServerOnly};
pub use scene::{Objective, Scene, Stages, Worth};

/// A way to part networks. The same network and scene give the same choice.
pub trait Method: Send + Sync {
    /// Its name in tables.
    fn name(&self) -> &'static str;

    /// The best cut that it sees between the first node (the device) and the second (the server).
    ///
    /// # Errors
    /// [`Refused`] when the network is not of a kind that it can part.
    fn choose(&self, network: &Network, scene: &Scene) -> Result<Choice, Refused>;
}

/// Why a method does not part a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has more cuts than may be looked at.
    #[error("the network has more than {0} cuts; a minimum cut needs no list of them")]
    Wide(usize),
    /// A number of the scene is none.
    #[error(
        "the scene's rates, delays, loads and targets must be finite and not negative, its rate positive"
    )]
    Scene,
}

/// A cut with its codecs, and what it is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// By layer: whether it runs on the device.
    pub first: Vec<bool>,
    /// What crosses, with the number of the way that it is sent in.
    pub sent: Vec<(usize, usize)>,
    /// Seconds of each stage.
    pub stages: Stages,
    /// By the scene's objective.
    pub worth: Worth,
}

impl Choice {
    /// The best way to send what crosses behind `first`; `None` when that is no down-set, or something may not
    /// cross. O(size + ways²).
    #[must_use]
    pub fn at(network: &Network, scene: &Scene, first: Vec<bool>) -> Option<Self> {
        if !network.is_down_set(&first) {
            return None;
        }
        let crossing = network.crossing(&first);
        let seconds = |layer: usize, node: usize| network.layers()[layer].seconds[node];
        let mut base = Stages::default();
        for (layer, &is_first) in first.iter().enumerate() {
            if is_first {
                base.device += seconds(layer, 0);
            } else {
                base.server += seconds(layer, 1);
            }
        }
        let back = network
            .tensors()
            .iter()
            .filter(|tensor| tensor.producer.is_some_and(|producer| !first[producer]));
        let back = back.fold(0, |sum: u64, tensor| sum.saturating_add(tensor.back));
        let (sent, stages, worth) = scene.best(network, base, &crossing, back)?;
        Some(Self {
            first,
            sent,
            stages,
            worth,
        })
    }

    /// Whether everything runs on the device.
    #[must_use]
    pub fn is_device_only(&self) -> bool {
        self.first.iter().all(|first| *first)
    }

    /// Whether everything runs on the server: what there is from the beginning is sent.
    #[must_use]
    pub fn is_server_only(&self) -> bool {
        !self.first.iter().any(|first| *first)
    }

    /// Bytes that cross, in the ways chosen.
    #[must_use]
    pub fn bytes(&self, network: &Network) -> u64 {
        let bytes = |&(tensor, way): &(usize, usize)| network.tensors()[tensor].ways[way].bytes;
        self.sent.iter().map(bytes).fold(0, u64::saturating_add)
    }
}

/// The better of two; the earlier among equals.
pub(crate) fn better(best: Option<Choice>, other: Choice) -> Option<Choice> {
    match best {
        Some(best) if !other.worth.is_better(&best.worth) => Some(best),
        _ => Some(other),
    }
}

/// A whole number as a real one.
#[expect(
    clippy::cast_precision_loss,
    reason = "tensors are far below 2^53 bytes"
)]
pub(crate) const fn real(bytes: u64) -> f64 {
    bytes as f64
}
