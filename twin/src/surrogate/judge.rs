//! The surrogates as evaluators of plans.

use splitplace_plan::Plan;

use super::{Awareness, Scene, Surrogate};
use crate::{
    Seed,
    evaluate::{Evaluation, Evaluator},
    stats::Estimate,
    world::World,
};

/// Of the intervals.
const CONFIDENCE: f64 = 0.95;

impl Evaluator for Surrogate {
    fn name(&self) -> &'static str {
        self.awareness().label()
    }

    /// Response and loss as the network says, their intervals from its errors on held-out placements: half of
    /// them are about 1.96 such errors wide. Watts and accuracy follow from the plan itself.
    /// One pass of the network: some 20 µs for ten pieces.
    fn evaluate(&self, world: &World, plan: &Plan, _: Seed) -> Evaluation {
        let (scene, nodes, arms) = Scene::of_plan(world, plan);
        let said = self.says(&scene, &nodes);
        let [of_response, of_loss] = self.error();
        let estimate = |mean: f64, half_width: f64| Estimate {
            mean,
            half_width,
            confidence: CONFIDENCE,
            count: 0,
        };
        let offered: f64 = world.loads.iter().map(|load| load.arrivals.rate()).sum();
        let placed: f64 = scene.rates.iter().sum();
        // Models without an arm lose everything.
        let there = if offered > 0.0 {
            (placed / offered).min(1.0)
        } else {
            1.0
        };
        let loss = 1.0 - there * (1.0 - said.loss);
        let by_share = |of: &dyn Fn(usize) -> f64| -> f64 {
            scene
                .shares()
                .iter()
                .enumerate()
                .map(|(request, share)| share * of(request))
                .sum()
        };
        let unknown = world.settings.accuracy_unknown;
        let accuracy = by_share(&|request| arms[request].accuracy.unwrap_or(unknown));
        let mut busy = vec![0.0; world.workers.len()];
        for (piece, &node) in scene.pieces.iter().zip(&nodes) {
            busy[node] += piece.rate * piece.service[node];
        }
        let watts = world.workers.iter().zip(&busy).map(|(worker, busy)| {
            let ends = worker.watts.first().zip(worker.watts.last());
            ends.map_or(0.0, |(idle, full)| idle + busy.min(1.0) * (full - idle))
        });
        Evaluation {
            latency: estimate(said.response, 1.96 * of_response * said.response),
            throughput: estimate(offered * (1.0 - loss), 1.96 * of_loss * offered),
            loss: estimate(loss, 1.96 * of_loss),
            violations: None,
            accuracy: estimate(accuracy, f64::INFINITY),
            watts: estimate(watts.sum(), f64::INFINITY),
            spent: 1,
        }
    }
}

impl Surrogate {
    /// The shipped decision-aware network.
    ///
    /// # Panics
    /// When the files that come with the crate were changed; a test holds them whole.
    #[must_use]
    pub fn daso() -> Self {
        Self::shipped(Awareness::Aware).expect("the shipped weights are whole")
    }

    /// The shipped decision-unaware network.
    ///
    /// # Panics
    /// As [`Surrogate::daso`].
    #[must_use]
    pub fn gobi() -> Self {
        Self::shipped(Awareness::Unaware).expect("the shipped weights are whole")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evaluate::Simulated,
        surrogate::{Drawn, draw},
    };

    fn held_out(awareness: Awareness) -> Vec<super::super::Example> {
        let drawn = (0..120).map(|number| (number, draw(Seed(990), number)));
        let examples = drawn.filter_map(|(number, drawn): (u64, Drawn)| {
            let labels = drawn.label(800, Seed(991).child("label", number));
            drawn.example(&labels, awareness)
        });
        examples.collect()
    }

    /// On placements that neither was trained on: what is shipped knows more than the mean, and the split
    /// decision is worth something.
    #[test]
    fn what_is_shipped_predicts_unseen_placements_and_awareness_helps() {
        let errors = Awareness::ALL.map(|awareness| {
            let examples = held_out(awareness);
            let shipped = Surrogate::shipped(awareness).unwrap().score(&examples)[0];
            let ignorant = Surrogate::new(awareness, Seed(1)).score(&examples)[0];
            assert!(
                shipped < 0.7 * ignorant,
                "{awareness:?}: {shipped} {ignorant}"
            );
            shipped
        });
        assert!(errors[1] < 0.8 * errors[0], "{errors:?}");
    }

    /// Against the simulation of the same plan.
    #[test]
    fn an_evaluation_is_near_the_simulation_within_its_interval() {
        let daso = Surrogate::daso();
        let mut within = 0;
        for number in 0..20 {
            let (world, plan) = draw(Seed(992), number).world(1500);
            let judged = daso.evaluate(&world, &plan, Seed(1));
            let simulated = Simulated::new(
                "random",
                std::collections::BTreeMap::new(),
                crate::evaluate::Precision {
                    most: 3,
                    ..Default::default()
                },
            )
            .unwrap();
            let truth = simulated.evaluate(&world, &plan, Seed(1)).latency.mean;
            within += u32::from((judged.latency.mean - truth).abs() <= judged.latency.half_width);
        }
        assert!(within >= 14, "{within} of 20");
    }
}
