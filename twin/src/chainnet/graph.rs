//! ChainNet (Niu, Roveri, Casale, DSN 2024): a graph network over chains, fragments and devices.
//!
//! A state for each chain, fragment and device, and rounds of messages: a recurrent unit runs along each
//! chain over (fragment, device) of its steps and leaves the chain's new state and an output at each step;
//! each fragment takes in its step's output and its device; each device hears from the steps that it hosts
//! by attention.
//!
//! [`Kind::Plain`] knows what is published of a system and nothing of queueing theory. The published network reads
//! latency off the mean of a chain's fragments and throughput off the chain; this one says of each fragment how long
//! jobs wait there and how many are lost, and a chain is composed of its fragments (`read_out`): what a job meets is
//! then in the shape of the answer, and need not be learnt. [`Kind::Residual`] is fed what the formulas of
//! [`super::Thinned`] say of each step as well, is read as published, and predicts by how much they are wrong, on the
//! scale of log-odds; before training it says what they say.

use std::sync::Arc;

use super::{
    Ratios, System,
    batch::{Batch, FEATURES},
    messages::{States, read_off, rounds},
    read_out::{columns, ratios, slopes},
};
use crate::{
    Seed,
    net::{Gradients, Tape, Var, Weights, WeightsError},
};

/// What the network is fed and what it predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Learns from the systems alone.
    Plain,
    /// What is left of the formulas' error.
    Residual,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Residual];

    /// The word for it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Residual => "residual",
        }
    }
}

/// How large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// See [`Kind`].
    pub kind: Kind,
    /// Columns of every state.
    pub hidden: usize,
    /// Rounds of messages.
    pub rounds: usize,
}

/// The network.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainNet {
    shape: Shape,
    weights: Weights,
}

impl ChainNet {
    /// A network that knows nothing yet.
    #[must_use]
    pub fn new(shape: Shape, seed: Seed) -> Self {
        let Shape {
            hidden, rounds: _, ..
        } = shape;
        let mut stream = seed.stream("weights", 0);
        let mut weights = Weights::default();
        let mut layer = |name: &str, inputs: usize, outputs: usize| {
            weights.draw(&format!("{name}.w"), inputs, outputs, &mut stream);
            weights.zeros(&format!("{name}.b"), 1, outputs);
        };
        for (name, features) in ["fragment", "device", "chain"].into_iter().zip(FEATURES) {
            layer(&format!("{name}.in"), features, hidden);
        }
        layer("ear.of", 2 * hidden, 2 * hidden * crate::net::HEADS);
        layer("ear.to", hidden, 2 * hidden * crate::net::HEADS);
        for (name, inputs) in [("along", 2), ("step", 2), ("host", 2)] {
            layer(name, inputs * hidden, 3 * hidden);
        }
        for name in ["latency", "throughput"] {
            let inputs = match shape.kind {
                Kind::Plain => 2 * hidden,
                Kind::Residual => hidden,
            };
            layer(&format!("{name}.1"), inputs, hidden);
            layer(&format!("{name}.2"), hidden, hidden);
        }
        for name in ["along", "step", "host"] {
            weights.draw(&format!("{name}.u"), hidden, 3 * hidden, &mut stream);
            weights.zeros(&format!("{name}.c"), 1, 3 * hidden);
        }
        weights.draw("ear.att", 1, 2 * hidden * crate::net::HEADS, &mut stream);
        for (name, columns) in ["latency", "throughput"]
            .into_iter()
            .zip(columns(shape.kind))
        {
            match shape.kind {
                Kind::Plain => weights.draw(&format!("{name}.3.w"), hidden, columns, &mut stream),
                Kind::Residual => weights.zeros(&format!("{name}.3.w"), hidden, columns),
            }
            weights.zeros(&format!("{name}.3.b"), 1, columns);
        }
        Self { shape, weights }
    }

    /// A trained one.
    ///
    /// # Errors
    /// When these are not the weights of such a network.
    pub fn with(shape: Shape, weights: Weights) -> Result<Self, WeightsError> {
        weights.check(&Self::new(shape, Seed(0)).weights)?;
        Ok(Self { shape, weights })
    }

    /// How large it is.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Its weights.
    #[must_use]
    pub const fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Its weights, for whoever trains it.
    pub const fn weights_mut(&mut self) -> &mut Weights {
        &mut self.weights
    }

    /// What it says of each chain of some systems, by system.
    #[must_use]
    pub fn predict(&self, systems: &[&System]) -> Vec<Vec<Ratios>> {
        let batch = Batch::new(systems, self.shape.kind);
        let mut tape = Tape::new(&self.weights);
        let ends = self.forward(&mut tape, &batch);
        let found = ratios(self.shape.kind, &batch, ends.map(|end| tape.value(end)));
        batch.layout.by_system(systems, &found)
    }

    /// The mean loss over some labelled systems, and its gradients.
    #[must_use]
    pub fn learn(&self, systems: &[&System]) -> (f64, Gradients) {
        let batch = Batch::new(systems, self.shape.kind);
        let mut tape = Tape::new(&self.weights);
        let ends = self.forward(&mut tape, &batch);
        let said = ends.map(|end| tape.value(end));
        let found = ratios(self.shape.kind, &batch, said);
        let count = found.len() as f64 * 2.0;
        let mut of_ratios = vec![[0.0; 2]; found.len()];
        let mut total = 0.0;
        let mut places = batch.layout.places.iter();
        for system in systems {
            let own: Vec<usize> = places.by_ref().take(system.chains.len()).copied().collect();
            let rate: f64 = system
                .chains
                .iter()
                .map(|chain| 1.0 / chain.interarrival)
                .sum();
            let mut system_error = 0.0;
            for (&place, chain) in own.iter().zip(&system.chains) {
                let Ratios {
                    latency,
                    throughput,
                } = found[place];
                let truth = [chain.latency_ratio, chain.throughput_ratio];
                for (at, found) in [latency, throughput].into_iter().enumerate() {
                    let unit = truth[at] + UNIT;
                    let (loss, slope) = bent((found - truth[at]) / unit, BEND);
                    total += loss / count;
                    of_ratios[place][at] = slope / unit / count;
                }
                system_error += (throughput - truth[1]) / chain.interarrival / rate;
            }
            let (loss, slope) = bent(system_error, SYSTEM_BEND);
            let weight = SYSTEM_WEIGHT / systems.len() as f64;
            total += weight * loss;
            for (&place, chain) in own.iter().zip(&system.chains) {
                of_ratios[place][1] += weight * slope / chain.interarrival / rate;
            }
        }
        let back = slopes(self.shape.kind, &batch, said, &found, &of_ratios);
        let gradients = tape.backward(ends.into_iter().zip(back).collect());
        (total, gradients)
    }

    fn forward(&self, tape: &mut Tape<'_>, batch: &Batch) -> [Var; 2] {
        let names = ["fragment.in", "device.in", "chain.in"];
        let given = [0, 1, 2].map(|at| tape.input(batch.features[at].clone()));
        let [fragments, devices, chains] = [0, 1, 2].map(|at| tape.affine(names[at], given[at]));
        let states = States {
            fragments,
            devices,
            chains,
        };
        let layout = &batch.layout;
        let states = rounds(tape, layout, states, self.shape.rounds);
        let [latency, throughput] = match self.shape.kind {
            Kind::Plain => {
                let hosts = tape.gather(states.devices, Arc::clone(&layout.device));
                [tape.beside(states.fragments, hosts); 2]
            }
            Kind::Residual => {
                let chain = Arc::clone(&layout.chain);
                let mean = tape.mean_by(states.fragments, chain, batch.prior.len());
                [mean, states.chains]
            }
        };
        [
            read_off(tape, "latency", latency),
            read_off(tape, "throughput", throughput),
        ]
    }
}

/// What a network is judged by is what it learns from: the mean of the ratios' relative errors, and the absolute error
/// of a system's loss with this weight, which is near a tenth of it.
const SYSTEM_WEIGHT: f64 = 2.0;
/// Added to a true ratio before it is a unit: what is lost almost wholly would else count for all others.
const UNIT: f64 = 0.03;
/// Errors below these count by their squares.
const BEND: f64 = 0.01;
const SYSTEM_BEND: f64 = 0.002;

/// The absolute value, bent at 0, and its slope.
fn bent(error: f64, bend: f64) -> (f64, f64) {
    let root = error.hypot(bend);
    (root - bend, error / root)
}
