//! Training a [`ChainNet`]: how far it is from the truth, and where it begins.

use super::{ChainNet, Score, System, score};
use crate::net::{Gradients, Learner, Weights};

impl Learner for ChainNet {
    type Example = System;

    fn weights(&self) -> &Weights {
        self.weights()
    }

    fn weights_mut(&mut self) -> &mut Weights {
        self.weights_mut()
    }

    fn learn(&self, systems: &[&System]) -> (f64, Gradients) {
        self.learn(systems)
    }
}

impl ChainNet {
    /// How far it is from the truth of labelled systems.
    #[must_use]
    pub fn score(&self, systems: &[System]) -> Score {
        let mut all = Score::default();
        for chunk in systems.chunks(64) {
            let chunk: Vec<&System> = chunk.iter().collect();
            for (system, found) in chunk.iter().zip(self.predict(&chunk)) {
                all.add(system, &found);
            }
        }
        all
    }
}

/// How far the formulas are.
#[must_use]
pub fn score_of_formulas(systems: &[System]) -> Score {
    let found: Vec<_> = systems
        .iter()
        .map(|system| super::Thinned::of(system).ratios(system))
        .collect();
    score(systems.iter().zip(found.iter().map(Vec::as_slice)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Seed,
        chainnet::{Kind, Shape},
        net::{Trainer, Training},
    };

    fn systems() -> Vec<System> {
        let drawn = (0..24).map(|number| System::draw(Seed(5), number));
        drawn.map(|system| system.labelled(3000, Seed(6))).collect()
    }

    fn trainer(kind: Kind, epochs: u32) -> Trainer<ChainNet> {
        let shape = Shape {
            kind,
            hidden: 8,
            rounds: 2,
        };
        let training = Training {
            epochs,
            batch: 8,
            ..Training::default()
        };
        Trainer::new(ChainNet::new(shape, Seed(1)), training)
    }

    #[test]
    fn training_lessens_the_loss_and_the_residual_begins_at_the_formulas() {
        let systems = systems();
        let formulas = score_of_formulas(&systems);
        for kind in Kind::ALL {
            let mut trainer = trainer(kind, 30);
            if kind == Kind::Residual {
                let begin = trainer.net.score(&systems);
                let difference = begin.throughput.mean() - formulas.throughput.mean();
                assert!(difference.abs() < 2e-3, "{begin:?} {formulas:?}");
            }
            let first = trainer.epoch_over(&systems, |_| {}).loss;
            let mut last = first;
            while !trainer.is_done() {
                last = trainer.epoch_over(&systems, |_| {}).loss;
            }
            assert!(last < 0.7 * first, "{kind:?}: {first} {last}");
        }
    }

    #[test]
    fn a_training_that_was_broken_off_ends_the_same() {
        let systems = systems();
        let mut straight = trainer(Kind::Residual, 3);
        let mut broken = trainer(Kind::Residual, 3);
        broken.epoch_over(&systems, |_| {});
        let checkpoint = broken.checkpoint();
        let mut resumed = trainer(Kind::Residual, 3).resume(&checkpoint).unwrap();
        assert_eq!(resumed.epoch(), 1);
        for trainer in [&mut straight, &mut resumed] {
            while !trainer.is_done() {
                trainer.epoch_over(&systems, |_| {});
            }
        }
        assert_eq!(straight.net, resumed.net);
        let wrong = trainer(Kind::Plain, 3).resume(&checkpoint[..checkpoint.len() - 1]);
        assert!(wrong.is_err());
    }

    /// The whole way: features, rounds, how chains are composed, the loss.
    #[test]
    fn derivatives_of_the_loss_agree_with_differences() {
        let systems = systems();
        let chosen: Vec<&System> = systems.iter().take(6).collect();
        for kind in Kind::ALL {
            let mut trainer = trainer(kind, 2);
            trainer.epoch_over(&systems, |_| {});
            let (_, gradients) = trainer.net.learn(&chosen);
            let step = 4e-3;
            let (mut compared, mut wrong) = (0, Vec::new());
            for number in 0..gradients.weights.len() {
                let columns = gradients.weights[number].ncols();
                for at in (0..gradients.weights[number].len()).step_by(5) {
                    let place = (at / columns, at % columns);
                    let mut moved = |by: f32| {
                        trainer.net.weights_mut().all_mut()[number][place] += by;
                        let loss = trainer.net.learn(&chosen).0;
                        trainer.net.weights_mut().all_mut()[number][place] -= by;
                        loss
                    };
                    let difference = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
                    let found = f64::from(gradients.weights[number][place]);
                    compared += 1;
                    if (found - difference).abs() > 2e-4 + 0.05 * difference.abs() {
                        wrong.push((number, place, found, difference));
                    }
                }
            }
            assert!(
                wrong.len() * 50 <= compared,
                "{kind:?} {compared}: {wrong:?}"
            );
        }
    }

    #[test]
    fn systems_are_drawn_by_the_law() {
        for number in 0..200 {
            let system = System::draw(Seed(9), number);
            assert!((1..=3).contains(&system.chains.len()));
            let mut used = vec![false; system.capacities.len()];
            for chain in &system.chains {
                assert!((2..=6).contains(&chain.path.len()));
                let mut path = chain.path.clone();
                path.sort_unstable();
                path.dedup();
                assert_eq!(path.len(), chain.path.len(), "no device twice");
                chain.path.iter().for_each(|&device| used[device] = true);
                assert!((0.1..=10.0).contains(&chain.interarrival));
            }
            assert!(used.iter().all(|used| *used), "every device is used");
            assert!(system.capacities.iter().all(|one| (1..=50).contains(one)));
        }
        assert_eq!(System::draw(Seed(9), 3), System::draw(Seed(9), 3));
    }
}
