//! ChainNet (Niu, Roveri, Casale, DSN 2024): a graph network over chains, fragments and devices.
//!
//! A state for each chain, fragment and device, and rounds of messages: a recurrent unit runs along each
//! chain over (fragment, device) of its steps and leaves the chain's new state and an output at each step;
//! each fragment takes in its step's output and its device; each device hears from the steps that it hosts
//! by attention. Latency is read off the mean of a chain's fragments, throughput off the chain.
//!
//! [`Kind::Plain`] is fed as published and predicts the ratios as they are. [`Kind::Residual`] is fed what
//! the formulas of [`Thinned`] say of each step as well, and predicts by how much they are wrong, on the
//! scale of log-odds; before training it says what they say.

use std::sync::Arc;

use ndarray::Array2;

use super::{Ratios, System, Thinned};
use crate::{
    Seed,
    net::{Gradients, Matrix, Tape, Var, Weights, WeightsError},
};

/// What the network is fed and what it predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As published.
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

/// Features of a fragment, of a device, of a chain.
const FEATURES: [usize; 3] = [9, 5, 4];
/// Log-odds beyond this are taken for this.
const ODDS: f64 = 7.0;

/// The network.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainNet {
    shape: Shape,
    weights: Weights,
}

/// Numbers of rows.
type Rows = Arc<[usize]>;

/// Several systems as one graph: rows of fragments step by step, so that what a step leaves lies together.
struct Batch {
    features: [Matrix; 3],
    /// By fragment: its device and its chain.
    device: Rows,
    chain: Rows,
    /// By step: its fragments' rows, and the chains that get there.
    steps: Vec<(Rows, Rows)>,
    devices: usize,
    /// What the formulas say, in log-odds: latency and throughput by chain.
    prior: Vec<[f32; 2]>,
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
            layer(&format!("{name}.1"), hidden, hidden);
            layer(&format!("{name}.2"), hidden, hidden);
        }
        for name in ["along", "step", "host"] {
            weights.draw(&format!("{name}.u"), hidden, 3 * hidden, &mut stream);
            weights.zeros(&format!("{name}.c"), 1, 3 * hidden);
        }
        weights.draw("ear.att", 1, 2 * hidden * crate::net::HEADS, &mut stream);
        for name in ["latency", "throughput"] {
            match shape.kind {
                Kind::Plain => weights.draw(&format!("{name}.3.w"), hidden, 1, &mut stream),
                Kind::Residual => weights.zeros(&format!("{name}.3.w"), hidden, 1),
            }
            weights.zeros(&format!("{name}.3.b"), 1, 1);
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
        let mut ratios = self.ratios(&tape, ends, &batch).into_iter();
        let of = |system: &&System| ratios.by_ref().take(system.chains.len()).collect();
        systems.iter().map(of).collect()
    }

    /// The mean loss over some labelled systems, and its gradients.
    #[must_use]
    pub fn learn(&self, systems: &[&System]) -> (f64, Gradients) {
        let batch = Batch::new(systems, self.shape.kind);
        let mut tape = Tape::new(&self.weights);
        let ends = self.forward(&mut tape, &batch);
        let found = self.ratios(&tape, ends, &batch);
        let chains = systems.iter().flat_map(|system| &system.chains);
        let count = found.len() as f64 * 2.0;
        let mut back = ends.map(|end| Array2::zeros(tape.value(end).dim()));
        let mut total = 0.0;
        for (row, (chain, found)) in chains.zip(&found).enumerate() {
            let pairs = [
                (found.latency, chain.latency_ratio),
                (found.throughput, chain.throughput_ratio),
            ];
            for (end, (found, truth)) in pairs.into_iter().enumerate() {
                let (loss, slope) = self.shape.kind.loss(found, truth);
                let inner = match self.shape.kind {
                    Kind::Plain => 1.0,
                    Kind::Residual => (found * (1.0 - found)).max(1e-4),
                };
                total += loss / count;
                back[end][(row, 0)] = (slope * inner / count) as f32;
            }
        }
        let [latency, throughput] = back;
        let gradients = tape.backward(vec![(ends[0], latency), (ends[1], throughput)]);
        (total, gradients)
    }

    fn ratios(&self, tape: &Tape<'_>, ends: [Var; 2], batch: &Batch) -> Vec<Ratios> {
        let [latency, throughput] = ends.map(|end| tape.value(end));
        let read = |row: usize| {
            let raw = [latency[(row, 0)], throughput[(row, 0)]];
            let [latency, throughput] = match self.shape.kind {
                Kind::Plain => raw.map(|value| f64::from(value).clamp(1e-4, 1.0)),
                Kind::Residual => {
                    let prior = batch.prior[row];
                    [0, 1].map(|at| sigmoid(f64::from(prior[at] + raw[at])))
                }
            };
            Ratios {
                latency,
                throughput,
            }
        };
        (0..batch.prior.len()).map(read).collect()
    }

    fn forward(&self, tape: &mut Tape<'_>, batch: &Batch) -> [Var; 2] {
        let names = ["fragment.in", "device.in", "chain.in"];
        let given = [0, 1, 2].map(|at| tape.input(batch.features[at].clone()));
        let [mut fragments, mut devices, mut chains] =
            [0, 1, 2].map(|at| tape.affine(names[at], given[at]));
        for _ in 0..self.shape.rounds {
            let hosts = tape.gather(devices, Arc::clone(&batch.device));
            let steps = tape.beside(fragments, hosts);
            let mut outputs = Vec::with_capacity(batch.steps.len());
            for (rows, there) in &batch.steps {
                let inputs = tape.gather(steps, Arc::clone(rows));
                let states = tape.gather(chains, Arc::clone(there));
                let new = tape.gru("along", inputs, states);
                chains = tape.put(chains, new, Arc::clone(there));
                outputs.push(new);
            }
            let outputs = tape.stack(outputs);
            let said = tape.beside(outputs, fragments);
            let taken = tape.beside(outputs, hosts);
            fragments = tape.gru("step", taken, fragments);
            let heard = tape.attend("ear", said, devices, Arc::clone(&batch.device));
            devices = tape.gru("host", heard, devices);
        }
        debug_assert_eq!(tape.value(devices).nrows(), batch.devices);
        let mean = tape.mean_by(fragments, Arc::clone(&batch.chain), batch.prior.len());
        [("latency", mean), ("throughput", chains)].map(|(name, state)| {
            let mut state = state;
            for layer in 1..=2 {
                let next = tape.affine(&format!("{name}.{layer}"), state);
                state = tape.relu(next);
            }
            tape.affine(&format!("{name}.3"), state)
        })
    }
}

impl Kind {
    /// A loss and its slope. The plain network's is the square, as published. The other's is a smoothed
    /// absolute error in units of the truth, which is what it is judged by.
    fn loss(self, found: f64, truth: f64) -> (f64, f64) {
        let error = found - truth;
        match self {
            Self::Plain => (error * error, 2.0 * error),
            Self::Residual => {
                let unit = truth + 0.03;
                let bend = 0.01;
                let scaled = error / unit;
                let root = (scaled * scaled + bend * bend).sqrt();
                (root - bend, scaled / root / unit)
            }
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn odds(share: f64) -> f64 {
    let share = share.clamp(1e-6, 1.0 - 1e-6);
    (share / (1.0 - share)).ln().clamp(-ODDS, ODDS)
}

impl Batch {
    fn new(systems: &[&System], kind: Kind) -> Self {
        let (mut fragments, mut devices, mut chains) = (Vec::new(), Vec::new(), Vec::new());
        // (step, chain, device), to be put in order of the steps.
        let mut rows: Vec<(usize, usize, usize)> = Vec::new();
        let mut prior = Vec::new();
        for system in systems {
            let (first_device, first_chain) = (devices.len(), chains.len());
            let thinned = match kind {
                Kind::Plain => None,
                Kind::Residual => Some(Thinned::of(system)),
            };
            let known = thinned.as_ref();
            devices.extend(device_features(system, known));
            for (at, chain) in system.chains.iter().enumerate() {
                let steps = known.map(|known| &known.chains[at]);
                for (step, &device) in chain.path.iter().enumerate() {
                    rows.push((step, first_chain + at, first_device + device));
                    let known = steps.map(|steps| steps[step]);
                    fragments.push(fragment_features(system, at, step, known));
                }
            }
            let said = known.map(|known| known.ratios(system));
            for at in 0..system.chains.len() {
                let said = said.as_ref().map(|said| said[at]);
                let ratios = said.map_or([0.0; 2], |one| {
                    [one.latency, one.throughput].map(|ratio| odds(ratio) as f32)
                });
                prior.push(ratios);
                let [latency, throughput] = ratios.map(|odds| odds / 4.0);
                let work: f64 = system.chains[at].services.iter().sum();
                let ours = f64::from(u8::from(kind == Kind::Residual));
                let load = (work / system.chains[at].interarrival).ln() / 3.0 * ours;
                chains.push([1.0, latency, throughput, load as f32]);
            }
        }
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&row| rows[row]);
        let sorted: Vec<_> = order.iter().map(|&row| rows[row]).collect();
        let mut steps = Vec::new();
        let mut from = 0;
        while from < sorted.len() {
            let step = sorted[from].0;
            let until = from + sorted[from..].partition_point(|row| row.0 == step);
            let there = sorted[from..until].iter().map(|row| row.1).collect();
            steps.push(((from..until).collect(), there));
            from = until;
        }
        Self {
            device: sorted.iter().map(|row| row.2).collect(),
            chain: sorted.iter().map(|row| row.1).collect(),
            steps,
            devices: devices.len(),
            prior,
            features: [
                matrix(order.iter().map(|&row| fragments[row])),
                matrix(devices.into_iter()),
                matrix(chains.into_iter()),
            ],
        }
    }
}

fn matrix<const N: usize>(rows: impl Iterator<Item = [f32; N]>) -> Matrix {
    let rows: Vec<[f32; N]> = rows.collect();
    Array2::from(rows)
}

/// As published: fragments hosted over capacity. For the residual: load, loss and wait besides.
fn device_features(system: &System, known: Option<&Thinned>) -> Vec<[f32; FEATURES[1]]> {
    let mut features = vec![[0.0; FEATURES[1]]; system.capacities.len()];
    for (at, chain) in system.chains.iter().enumerate() {
        for (step, &device) in chain.path.iter().enumerate() {
            let capacity = system.capacities[device] as f64;
            let own = &mut features[device];
            own[0] += (1.0 / capacity) as f32;
            if let Some(known) = known {
                let seen = known.chains[at][step];
                own[1] = (capacity.ln() / 2.0) as f32;
                own[2] = log(seen.load);
                own[3] = (odds(seen.loss) / 4.0) as f32;
                own[4] = (seen.wait + 1.0).ln() as f32;
            }
        }
    }
    features
}

/// As published: offered load of the step, its share of the device's services, 1 over capacity. For the
/// residual besides: its load where it is not thinned, reach, loss, the ratio that it alone would have, and
/// how much longer than this an earlier step of the chain served: behind a slower server nobody queues.
fn fragment_features(
    system: &System,
    chain: usize,
    step: usize,
    known: Option<super::AtDevice>,
) -> [f32; FEATURES[0]] {
    let spec = &system.chains[chain];
    let (device, service) = (spec.path[step], spec.services[step]);
    let hosted = system.chains.iter().flat_map(|one| {
        let steps = one.path.iter().zip(&one.services);
        steps
            .filter(move |(host, _)| **host == device)
            .map(|(_, service)| *service)
    });
    let hosted: f64 = hosted.sum();
    let load = service / spec.interarrival;
    let share = service / hosted.max(f64::MIN_POSITIVE);
    let room = 1.0 / system.capacities[device] as f64;
    let Some(known) = known else {
        return [load, share, room, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0].map(|value| value as f32);
    };
    let longest = spec.services[..step].iter().copied().fold(0.0, f64::max);
    [
        log(load),
        share as f32,
        room as f32,
        log(load * known.reach),
        known.reach as f32,
        (odds(known.loss) / 4.0) as f32,
        (service / (service + known.wait).max(f64::MIN_POSITIVE)) as f32,
        log(longest / service.max(1e-6)),
        f32::from(u8::from(service <= longest)),
    ]
}

fn log(value: f64) -> f32 {
    (value.max(1e-3).ln() / 3.0) as f32
}
