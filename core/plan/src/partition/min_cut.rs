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
//! which is the same, because that is the only cut without it. Layers in a chain are two places of the flow together
//! (`shape`), so that it has as many as the network has branches.

mod flow;
mod shape;

use std::collections::BTreeSet;

use self::shape::Shape;
use super::{
    Choice, Method, Network, Objective, Part, Question, Refused, Scene, Stages, better, real,
};

/// Weights of the stages in a sum.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Weights {
    device: f64,
    link: f64,
    server: f64,
}

impl Weights {
    /// Stages under these weights, delays left out.
    fn sum(&self, stages: &Stages) -> f64 {
        stages.device * self.device + stages.link * self.link + stages.server * self.server
    }

    /// The same with 1 for the largest, so that nothing grows out of the flow's units.
    fn scaled(self) -> Self {
        let largest = self.device.max(self.link).max(self.server);
        let scale = if largest > 0.0 { 1.0 / largest } else { 1.0 };
        Self {
            device: self.device * scale,
            link: self.link * scale,
            server: self.server * scale,
        }
    }
}

/// The cut whose sum of stages is least, exact for [`Objective::Latency`] and [`Objective::Energy`]; for the other
/// objectives the same cut as for latency, judged by them. O(size), and a flow of O(V² E) for V chains of layers and
/// tensors and E uses of them, which takes far less in practice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Light;

impl Method for Light {
    fn name(&self) -> &'static str {
        "DADS light"
    }

    fn complexity(&self) -> &'static str {
        "O(n² m), one flow over n chains and m uses"
    }

    fn solve(&self, question: &Question<'_>) -> Result<Vec<Part>, Refused> {
        question.cut(|network, scene| lightest(network, scene, &mut shape(network, scene)?))
    }
}

/// The weights whose sum a scene asks for.
fn light(scene: &Scene) -> Weights {
    match scene.objective {
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
    }
}

fn lightest(network: &Network, scene: &Scene, shape: &mut Shape) -> Result<Choice, Refused> {
    let all = vec![true; network.layers().len()];
    let least = Choice::at(network, scene, shape.least(light(scene).scaled()));
    let best = better(None, least.ok_or(Refused::Scene)?);
    let best = Choice::at(network, scene, all).map_or(best.clone(), |all| better(best, all));
    best.ok_or(Refused::Scene)
}

/// What the flows of a scene have in common.
fn shape(network: &Network, scene: &Scene) -> Result<Shape, Refused> {
    if !scene.is_sound() {
        return Err(Refused::Scene);
    }
    Ok(Shape::new(network, scene))
}

/// Short busiest stages by weighted sums: the least cuts for a grid of weights of device and server against the
/// link, around the best of which the grid is drawn closer. The best of all of them by the scene's objective, the
/// light cut among them.
///
/// With all weights 1 the busiest stage is at most three times the shortest possible: it is at most the sum, and the
/// least sum is at most three times any busiest stage. `rounds · side²` maximum flows over the same places and arcs; each
/// cut that they lead to is judged once.
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
        let mut shape = shape(network, scene)?;
        let light = lightest(network, scene, &mut shape)?;
        // Neighbouring weights mostly lead to the same cut, which is judged once.
        let mut known = BTreeSet::from([light.first.clone()]);
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
                    let first = shape.least(weights.scaled());
                    if known.contains(&first) {
                        continue;
                    }
                    known.insert(first.clone());
                    let choice = Choice::at(network, scene, first).ok_or(Refused::Scene)?;
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
