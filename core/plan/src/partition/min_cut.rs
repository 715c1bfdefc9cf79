//! DADS (Hu et al., "Dynamic adaptive DNN surgery for inference acceleration on the edge", INFOCOM 2019): cuts
//! by maximum flow.
//!
//! Arcs, for device seconds `a`, server seconds `b` and the least cost of sending a tensor `t`:
//!
//! ```text
//! device -> layer   b        cut when the layer runs on the server
//! layer  -> server  a        cut when it runs on the device
//! layer  -> tensor  t        cut, once, when any consumer is on the other side
//! tensor -> layer   never
//! layer  -> layer   never, from each consumer back to its producer
//! ```
//!
//! The last kind is missing in the paper; without it a cut may send a tensor from the server back to the device
//! for nothing. The inputs are pinned to the device, so that running everything on the server pays for the
//! upload. The delay of using the server at all is no arc: the least cut is compared with device-only instead,
//! which is the same, because that is the only cut without it.

mod flow;

use self::flow::Flow;
use super::{Choice, Method, Network, Objective, Part, Question, Refused, Scene, better, real};

/// Weights of the stages in a sum.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Weights {
    device: f64,
    link: f64,
    server: f64,
}

/// The cut whose sum of stages is least, exact for [`Objective::Latency`] and [`Objective::Energy`]; for the other
/// objectives the same cut as for latency, judged by them. O(V² E) for V layers and tensors and E uses of them,
/// and far below in practice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Light;

impl Method for Light {
    fn name(&self) -> &'static str {
        "DADS light"
    }

    fn complexity(&self) -> &'static str {
        "O(n² m), one flow over m uses"
    }

    fn solve(&self, question: &Question<'_>) -> Result<Vec<Part>, Refused> {
        question.cut(lightest)
    }
}

fn lightest(network: &Network, scene: &Scene) -> Result<Choice, Refused> {
    let weights = match scene.objective {
        Objective::Energy { compute, radio } => Weights {
            device: compute,
            link: radio,
            server: 0.0,
        },
        _ => Weights {
            device: 1.0,
            link: 1.0,
            server: 1.0,
        },
    };
    if !scene.is_sound() {
        return Err(Refused::Scene);
    }
    let all = vec![true; network.layers().len()];
    let best = better(None, least(network, scene, weights)?);
    let best = Choice::at(network, scene, all).map_or(best.clone(), |all| better(best, all));
    best.ok_or(Refused::Scene)
}

/// Short busiest stages by weighted sums: the least cuts for a grid of weights of device and server against the
/// link, around the best of which the grid is drawn closer. The best of all of them by the scene's objective, the
/// light cut among them.
///
/// With all weights 1 the busiest stage is at most three times the shortest possible: it is at most the sum, and the
/// least sum is at most three times any busiest stage. `rounds · side²` maximum flows.
#[derive(Clone, Copy, Debug)]
pub struct Heavy {
    /// Weights tried of each stage in a round, at least 2.
    pub side: usize,
    /// Rounds, each with a grid of a quarter of the width before.
    pub rounds: usize,
}

impl Default for Heavy {
    /// Forty-nine weights, three times: from one stage at a thousandth of the link's weight to a thousandfold.
    fn default() -> Self {
        Self { side: 7, rounds: 3 }
    }
}

impl Method for Heavy {
    fn name(&self) -> &'static str {
        "DADS heavy"
    }

    fn complexity(&self) -> &'static str {
        "rounds · side² · DADS light"
    }

    fn solve(&self, question: &Question<'_>) -> Result<Vec<Part>, Refused> {
        question.cut(|network, scene| self.shortest(network, scene))
    }
}

impl Heavy {
    fn shortest(&self, network: &Network, scene: &Scene) -> Result<Choice, Refused> {
        let light = lightest(network, scene)?;
        let (mut at, mut reach) = ((0.0f64, 0.0f64), 3.0f64);
        let mut best = light;
        for _ in 0..self.rounds {
            let center = at;
            for device in grid(center.0, reach, self.side) {
                for server in grid(center.1, reach, self.side) {
                    let weights = Weights {
                        device: 10f64.powf(device),
                        link: 1.0,
                        server: 10f64.powf(server),
                    };
                    let choice = least(network, scene, weights)?;
                    if choice.worth.is_better(&best.worth) {
                        (best, at) = (choice, (device, server));
                    }
                }
            }
            reach /= 4.0;
        }
        Ok(best)
    }
}

/// Numbers evenly around one.
fn grid(center: f64, reach: f64, side: usize) -> impl Iterator<Item = f64> {
    let steps = side.max(2);
    let step = 2.0 * reach / real(steps as u64 - 1);
    (0..steps).map(move |number| center - reach + step * real(number as u64))
}

/// The cut with the least weighted sum of stages, delays left out; in its best ways by the scene's objective.
fn least(network: &Network, scene: &Scene, weights: Weights) -> Result<Choice, Refused> {
    // The largest is 1, so that nothing grows out of the flow's units.
    let largest = weights.device.max(weights.link).max(weights.server);
    let scale = if largest > 0.0 { 1.0 / largest } else { 1.0 };
    let weights = Weights {
        device: weights.device * scale,
        link: weights.link * scale,
        server: weights.server * scale,
    };
    let (layers, tensors) = (network.layers().len(), network.tensors().len());
    let (device, server) = (layers + tensors, layers + tensors + 1);
    let mut flow = Flow::new(layers + tensors + 2);
    let (encode, decode) = (network.coding()[0], network.coding()[1]);
    for (number, layer) in network.layers().iter().enumerate() {
        let made = network.outputs(number).iter();
        let back = made.fold(0u64, |sum, &t| {
            sum.saturating_add(network.tensors()[t].back)
        });
        let there =
            layer.seconds[1] * scene.load * weights.server + real(back) / scene.rate * weights.link;
        flow.arc(device, number, there);
        flow.arc(number, server, layer.seconds[0] * weights.device);
    }
    for (number, tensor) in network.tensors().iter().enumerate() {
        if tensor.consumers.is_empty() {
            continue;
        }
        let sum = |way: &crate::Way| {
            way.encode * encode * weights.device
                + real(way.bytes) / scene.rate * weights.link
                + way.decode * decode * scene.load * weights.server
        };
        let least = tensor.ways.iter().map(sum).fold(f64::INFINITY, f64::min);
        let from = tensor.producer.unwrap_or(device);
        flow.arc(from, layers + number, least);
        for &consumer in &tensor.consumers {
            flow.arc(layers + number, consumer, f64::INFINITY);
            if let Some(producer) = tensor.producer {
                flow.arc(consumer, producer, f64::INFINITY);
            }
        }
    }
    let near = flow.near(device, server);
    Choice::at(network, scene, near[..layers].to_vec()).ok_or(Refused::Scene)
}
