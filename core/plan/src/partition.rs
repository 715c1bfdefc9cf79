//! Where to part a network between a device and a server, or along several nodes.
//!
//! A cut is a down-set of layers: it runs on the device, the rest on the server, and what crosses is sent once
//! whatever needs it, each tensor in one of its ways. Every method answers the same [`Question`] ([`Method`]):
//! networks, each with its link, its exits and what is wanted of it, share a server's cores; which exit answers, which
//! layers run where, in which codec does what crosses go, and how many cores has each? A method leaves alone what it
//! does not choose: the most accurate exit, an even share of the cores, device and server only. So every method
//! answers every question, and a method may work within another one: IAO within which Edgent finds exit and cut,
//! within which a minimum cut finds the cut. What they look at, and what that costs, is what [`Method::complexity`]
//! says:
//!
//! | method | looks at | cost |
//! |---|---|---|
//! | [`BruteForce`] | every set of layers, one by one | O(2ⁿ · size); the oracle |
//! | [`Exact`] | every down-set, where there are few | O(down-sets · width · (n / 64 + ways)), for any objective |
//! | [`Neurosurgeon`] | cuts of one tensor, along the trunk | O(n · ways); by [`envelope`] a look-up |
//! | [`Light`] | every down-set, for sums (latency, energy) | one maximum flow over chains |
//! | [`Heavy`] | what some weights of the stages lead to | a grid of maximum flows; within 3 of the best stage |
//! | [`Edgent`] | exit and cut under a deadline | exits · the method within |
//! | [`Iao`], [`Threshold`] | several networks and the server's cores | networks · cores · the method within |
//! | [`Chain`] | several cuts along several nodes | O(down-sets · 2ᵏ · k · width) |
//!
//! The picture's file is a first layer's input ([`Network::with_picture`]), so sending the compressed picture
//! to the server is among the cuts of every method: the empty one.
//!
//! Light and heavy load are one objective here, [`Objective::Loss`]: the least latency whose end-to-end loss
//! stays below a target, device, link and server being stations with few places. Without arrivals that is the
//! latency alone; under load it keeps the busiest stage short.
//!
//! Reading order: [`network`], [`question`], this file, `sending`, [`down_sets`], [`exact`], [`min_cut`], [`envelope`], [`exits`],
//! [`cores`], [`line`](mod@line).

pub mod cores;
pub mod down_sets;
pub mod envelope;
pub mod exact;
pub mod exits;
pub mod line;
pub mod min_cut;
pub mod network;
pub mod neurosurgeon;
pub mod question;
pub mod scene;
mod sending;

pub use cores::{Iao, Threshold};
pub use envelope::{Envelope, Plane, Switch};
pub use exact::{BruteForce, Exact};
pub use exits::{Edgent, Exit};
pub use line::{Chain, Links, Stop};
pub use min_cut::{Heavy, Light};
pub use network::{Layer, Needed, Network, NetworkError, Tensor};
pub use neurosurgeon::{DeviceOnly, Neurosurgeon, ServerOnly};
pub use question::{Part, Question, User};
pub use scene::{Objective, Scene, Stages, Worth};

use self::sending::{Floor, Sending};

/// Names that [`by_name`] knows.
pub const METHODS: [&str; 11] = [
    "device only",
    "server only",
    "Neurosurgeon",
    "DADS light",
    "DADS heavy",
    "exact",
    "brute force",
    "Edgent",
    "IAO",
    "threshold search",
    "chain",
];

/// The method of that name, with what it takes by default; `None` when there is none.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Method>> {
    Some(match name {
        "device only" => Box::new(DeviceOnly),
        "server only" => Box::new(ServerOnly),
        "Neurosurgeon" => Box::new(Neurosurgeon),
        "DADS light" => Box::new(Light),
        "DADS heavy" => Box::new(Heavy::default()),
        "exact" => Box::new(Exact::default()),
        "brute force" => Box::new(BruteForce),
        "Edgent" => Box::new(Edgent::default()),
        "IAO" => Box::new(Iao::default()),
        "threshold search" => Box::new(Threshold::default()),
        "chain" => Box::new(Chain),
        _ => return None,
    })
}

/// A way to part networks. The same question gives the same answer.
pub trait Method: Send + Sync {
    /// Its name in tables.
    fn name(&self) -> &'static str;

    /// How its time is expected to grow, for tables: of n layers and tensors, with what else counts.
    fn complexity(&self) -> &'static str;

    /// How each of the question's networks runs, in their order. Costs what [`Method::complexity`] says for each.
    ///
    /// # Errors
    /// [`Refused`] when a network is not of a kind that it can part, or the question's numbers are none.
    fn solve(&self, question: &Question<'_>) -> Result<Vec<Part>, Refused>;

    /// The best cut that it sees of one network without exits between the first node (the device) and the second
    /// (the server), which has one core.
    ///
    /// # Errors
    /// As [`Method::solve`].
    fn choose(&self, network: &Network, scene: &Scene) -> Result<Choice, Refused> {
        let question = Question {
            users: &[User::new(network, *scene)],
            cores: 1,
        };
        let parts = self.solve(&question)?;
        let part = parts.into_iter().next().ok_or(Refused::Scene)?;
        Ok(part.choice(network.layers().len()))
    }
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
    /// An exit's answer is no tensor of the network, or no layer makes it.
    #[error(
        "exit {0} answers with nothing that the network makes; name a tensor that a layer makes"
    )]
    Exit(usize),
    /// Links and nodes do not belong together, or lead nowhere.
    #[error(
        "a chain needs a link between every two nodes, {0} nodes at most, and a way to where the network ends"
    )]
    Links(usize),
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
        let sendings: Vec<Sending> = crossing
            .iter()
            .map(|&tensor| Sending::new(network, scene, &network.tensors()[tensor].ways))
            .collect();
        let seconds = |layer: usize, node: usize| network.layers()[layer].seconds[node];
        let mut base = Stages {
            delay: if crossing.is_empty() {
                0.0
            } else {
                scene.delay
            },
            ..Stages::default()
        };
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
        base.link = real(back) / scene.rate;
        base.server *= scene.load;
        let tensors: Vec<&Sending> = sendings.iter().collect();
        let mut floor = Floor::new(scene);
        let (ways, stages, worth) = sending::best(scene, base, &tensors, &mut floor, None)?;
        Some(Self {
            first,
            sent: crossing.into_iter().zip(ways).collect(),
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
