//! Neurosurgeon (Kang et al., ASPLOS 2017): one cut along the trunk, for latency or for energy; and the two cuts
//! that everything is compared with.

use super::{
    Choice, Envelope, Method, Network, Objective, Part, Plane, Question, Refused, Scene, better,
    real,
};

/// Everything on the device.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceOnly;

impl Method for DeviceOnly {
    fn name(&self) -> &'static str {
        "device only"
    }

    fn complexity(&self) -> &'static str {
        "O(n)"
    }

    fn solve(&self, question: &Question<'_>) -> Result<Vec<Part>, Refused> {
        question.cut(|network, scene| one(network, scene, network.layers().len()))
    }
}

/// Everything on the server, whatever the input has to be sent as.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerOnly;

impl Method for ServerOnly {
    fn name(&self) -> &'static str {
        "server only"
    }

    fn complexity(&self) -> &'static str {
        "O(n)"
    }

    fn solve(&self, question: &Question<'_>) -> Result<Vec<Part>, Refused> {
        question.cut(|network, scene| one(network, scene, 0))
    }
}

fn one(network: &Network, scene: &Scene, position: usize) -> Result<Choice, Refused> {
    if !scene.is_sound() {
        return Err(Refused::Scene);
    }
    Choice::at(network, scene, prefix(network, position)).ok_or(Refused::Scene)
}

fn prefix(network: &Network, position: usize) -> Vec<bool> {
    (0..network.layers().len())
        .map(|layer| layer < position)
        .collect()
}

/// The best of the cuts of one tensor along the trunk, each in its best way, and the two ends.
/// O(positions · size); for many scenes [`Neurosurgeon::table`] first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Neurosurgeon;

impl Method for Neurosurgeon {
    fn name(&self) -> &'static str {
        "Neurosurgeon"
    }

    fn complexity(&self) -> &'static str {
        "O(cuts of the trunk · n)"
    }

    fn solve(&self, question: &Question<'_>) -> Result<Vec<Part>, Refused> {
        question.cut(along)
    }
}

fn along(network: &Network, scene: &Scene) -> Result<Choice, Refused> {
    if !scene.is_sound() {
        return Err(Refused::Scene);
    }
    let mut best = None;
    for position in network.trunk() {
        if let Some(choice) = Choice::at(network, scene, prefix(network, position)) {
            best = better(best, choice);
        }
    }
    best.ok_or(Refused::Scene)
}

/// One of the trunk's cuts with one way to send what crosses.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Layers of the order that run on the device.
    pub position: usize,
    /// What crosses, with the number of the way.
    pub sent: Vec<(usize, usize)>,
}

/// Every candidate of the trunk as a plane, with the envelope over them.
#[derive(Clone, Debug)]
pub struct Table {
    /// By plane.
    pub candidates: Vec<Candidate>,
    /// Which one is best where.
    pub envelope: Envelope,
}

impl Table {
    /// The candidate that is best at a rate and a load. O(log n).
    #[must_use]
    pub fn choose(&self, rate: f64, load: f64) -> Option<&Candidate> {
        let number = self.envelope.choose(rate, load)?;
        self.candidates.get(number)
    }
}

impl Neurosurgeon {
    /// The choices of all rates from `slowest` on and of these loads, with the scene's delay and its objective
    /// ([`Objective::Energy`], or latency for all others): O(n²) once for n cuts and ways.
    #[must_use]
    pub fn table(network: &Network, scene: &Scene, slowest: f64, loads: (f64, f64)) -> Table {
        let (compute, radio, there) = match scene.objective {
            Objective::Energy { compute, radio } => (compute, radio, 0.0),
            _ => (1.0, 1.0, 1.0),
        };
        let (encode, decode) = (network.coding()[0], network.coding()[1]);
        let total = |node: usize, layers: std::ops::Range<usize>| -> f64 {
            let layers = &network.layers()[layers];
            layers.iter().map(|layer| layer.seconds[node]).sum()
        };
        let count = network.layers().len();
        let mut candidates = Vec::new();
        let mut planes = Vec::new();
        for position in network.trunk() {
            let first = prefix(network, position);
            let crossing = network.crossing(&first);
            let back = network
                .tensors()
                .iter()
                .filter(|tensor| tensor.producer.is_some_and(|producer| position <= producer));
            let back: u64 = back.fold(0, |sum, tensor| sum.saturating_add(tensor.back));
            let delay = if position < count {
                scene.delay * there
            } else {
                0.0
            };
            let start = Plane {
                fixed: total(0, 0..position) * compute + delay,
                work: total(1, position..count) * there,
                bytes: real(back) * radio,
            };
            // The input of a network may be several tensors: every combination of their ways.
            let mut open = vec![(start, Vec::new())];
            for &tensor in &crossing {
                let ways = &network.tensors()[tensor].ways;
                open = open
                    .iter()
                    .flat_map(|(plane, sent)| {
                        ways.iter().enumerate().map(move |(number, way)| {
                            let longer = Plane {
                                fixed: plane.fixed + way.encode * encode * compute,
                                work: plane.work + way.decode * decode * there,
                                bytes: plane.bytes + real(way.bytes) * radio,
                            };
                            let mut sent: Vec<(usize, usize)> = sent.clone();
                            sent.push((tensor, number));
                            (longer, sent)
                        })
                    })
                    .take(Self::COMBINATIONS)
                    .collect();
            }
            for (plane, sent) in open {
                planes.push(plane);
                candidates.push(Candidate { position, sent });
            }
        }
        Table {
            envelope: Envelope::new(&planes, slowest, loads),
            candidates,
        }
    }

    /// Combinations of ways that are looked at where several tensors cross.
    pub const COMBINATIONS: usize = 4096;
}
