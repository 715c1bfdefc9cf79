//! The published ChainNet with the weights that its authors trained, for comparison.
//!
//! Niu, Roveri, Casale (DSN 2024): 64 columns, eight rounds of messages, 179 714 weights. It shares its rounds with our
//! networks (`messages`) and differs in what it is fed, five slots of which devices, fragments and chains each use
//! their own, and in how it is read: latency off the mean of a chain's fragments, throughput off the chain, neither
//! held within 0 and 1.

use std::sync::Arc;

use ndarray::Array2;

use super::{
    Ratios, System,
    layout::{Layout, matrix},
    messages::{States, read_off, rounds},
};
use crate::net::{HEADS, Matrix, StateDict, StateDictError, Tape, Weights};

/// Columns of every state.
const HIDDEN: usize = 64;
/// Rounds of messages.
const ROUNDS: usize = 8;
/// Slots for facts, of devices, fragments and chains together.
const SLOTS: usize = 5;

/// Layers by our name and theirs, with inputs and outputs.
const LAYERS: [(&str, &str, usize, usize); 11] = [
    ("device.in", "initmapping_device", SLOTS, HIDDEN),
    ("fragment.in", "initmapping_fragment", SLOTS, HIDDEN),
    ("chain.in", "initmapping_service", SLOTS, HIDDEN),
    ("ear.of", "lin_source", 2 * HIDDEN, 2 * HIDDEN * HEADS),
    ("ear.to", "lin_target", HIDDEN, 2 * HIDDEN * HEADS),
    ("latency.1", "latency_mlp.0", HIDDEN, HIDDEN),
    ("latency.2", "latency_mlp.3", HIDDEN, HIDDEN),
    ("latency.3", "latency_mlp.6", HIDDEN, 1),
    ("throughput.1", "throughput_mlp.0", HIDDEN, HIDDEN),
    ("throughput.2", "throughput_mlp.3", HIDDEN, HIDDEN),
    ("throughput.3", "throughput_mlp.6", HIDDEN, 1),
];
/// Recurrent units by our name and theirs, and what follows the names of the latter's weights. Each takes two states
/// for input; r, z and n lie side by side as they do here.
const UNITS: [(&str, &str, &str); 3] = [
    ("along", "phiC", "_l0"),
    ("step", "phiF", ""),
    ("host", "phiD", ""),
];

/// The network.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    weights: Weights,
}

impl Published {
    /// From the file that was published with the systems, `model.pth`, or one that was trained by the same program.
    ///
    /// # Errors
    /// [`StateDictError`] where the file cannot be read, or holds another network.
    pub fn read(bytes: &[u8]) -> Result<Self, StateDictError> {
        let mut dict = StateDict::open(bytes)?;
        let mut weights = Weights::default();
        // PyTorch's layers take `W xᵀ`, ours `x W`.
        let mut layer = |weight: &str, bias: &str, inputs: usize, outputs: usize| {
            let turned = table(outputs, inputs, dict.tensor(weight, &[outputs, inputs])?);
            let bias = table(1, outputs, dict.tensor(bias, &[outputs])?);
            Ok::<_, StateDictError>((turned.t().as_standard_layout().into_owned(), bias))
        };
        for (own, theirs, inputs, outputs) in LAYERS {
            let (weight, bias) = (format!("{theirs}.weight"), format!("{theirs}.bias"));
            let (w, b) = layer(&weight, &bias, inputs, outputs)?;
            weights.add(&format!("{own}.w"), w);
            weights.add(&format!("{own}.b"), b);
        }
        for (own, theirs, end) in UNITS {
            let name = |part: &str, of: &str| format!("{theirs}.{part}_{of}{end}");
            for (of, inputs, [w, b]) in [("ih", 2 * HIDDEN, ["w", "b"]), ("hh", HIDDEN, ["u", "c"])]
            {
                let (matrix, bias) =
                    layer(&name("weight", of), &name("bias", of), inputs, 3 * HIDDEN)?;
                weights.add(&format!("{own}.{w}"), matrix);
                weights.add(&format!("{own}.{b}"), bias);
            }
        }
        let att = dict.tensor("att", &[1, HEADS, 2 * HIDDEN])?;
        weights.add("ear.att", table(1, 2 * HIDDEN * HEADS, att));
        // What is added to every message goes on through the host's inputs, so it is part of their bias.
        let added = table(1, 2 * HIDDEN, dict.tensor("bias", &[2 * HIDDEN])?);
        let more = added.dot(&weights.all()[weights.number("host.w")]);
        let bias = weights.number("host.b");
        weights.all_mut()[bias] += &more;
        Ok(Self { weights })
    }

    /// What it says of each chain of some systems, by system. Costs O(rounds · (fragments + devices) · hidden²): some
    /// 9 million multiplications and additions for a system of two chains of four.
    #[must_use]
    pub fn predict(&self, systems: &[&System]) -> Vec<Vec<Ratios>> {
        let layout = Layout::of(systems);
        let mut tape = Tape::new(&self.weights);
        let mut state = |name: &str, facts: Matrix| {
            let given = tape.input(facts);
            tape.affine(name, given)
        };
        let fragments: Vec<_> = systems
            .iter()
            .flat_map(|system| fragments(system))
            .collect();
        let states = States {
            fragments: state(
                "fragment.in",
                matrix(layout.fragments_as_they_lie(&fragments)),
            ),
            devices: state(
                "device.in",
                matrix(systems.iter().flat_map(|system| devices(system))),
            ),
            chains: state(
                "chain.in",
                matrix(layout.places.iter().map(|_| [0.0, 0.0, 0.0, 0.0, 1.0])),
            ),
        };
        let states = rounds(&mut tape, &layout, states, ROUNDS);
        let (chain, chains) = (Arc::clone(&layout.chain), layout.places.len());
        let mean = tape.mean_by(states.fragments, chain, chains);
        let latency = read_off(&mut tape, "latency", mean);
        let throughput = read_off(&mut tape, "throughput", states.chains);
        let [latency, throughput] = [latency, throughput].map(|end| tape.value(end));
        let ratios = latency
            .iter()
            .zip(throughput)
            .map(|(latency, throughput)| Ratios {
                latency: f64::from(*latency),
                throughput: f64::from(*throughput),
            });
        layout.by_system(systems, &ratios.collect::<Vec<_>>())
    }
}

/// Numbers as rows and columns. There are as many as were asked for.
fn table(rows: usize, columns: usize, numbers: Vec<f32>) -> Matrix {
    Array2::from_shape_vec((rows, columns), numbers).unwrap_or_default()
}

/// Fragments hosted over capacity, in the first slot.
fn devices(system: &System) -> impl Iterator<Item = [f32; SLOTS]> {
    let mut hosted = vec![0.0; system.capacities.len()];
    let visited = system.chains.iter().flat_map(|chain| &chain.path);
    visited.for_each(|&device| hosted[device] += 1.0);
    let shares = hosted.into_iter().zip(&system.capacities);
    shares.map(|(hosted, capacity)| [(hosted / *capacity as f64) as f32, 0.0, 0.0, 0.0, 0.0])
}

/// In the middle slots: offered load of the step, its share of the services of its device, and 1 over the capacity.
fn fragments(system: &System) -> impl Iterator<Item = [f32; SLOTS]> {
    let mut together = vec![0.0; system.capacities.len()];
    for chain in &system.chains {
        for (&device, service) in chain.path.iter().zip(&chain.services) {
            together[device] += service;
        }
    }
    system.chains.iter().flat_map(move |chain| {
        let facts = |(&device, service): (&usize, &f64)| {
            let load = service / chain.interarrival;
            let share = service / f64::max(together[device], f64::MIN_POSITIVE);
            let room = 1.0 / system.capacities[device] as f64;
            [0.0, load as f32, share as f32, room as f32, 0.0]
        };
        let steps = chain.path.iter().zip(&chain.services);
        steps.map(facts).collect::<Vec<_>>()
    })
}
