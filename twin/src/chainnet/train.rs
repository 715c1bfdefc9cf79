//! Training a [`ChainNet`]: epochs over labelled systems in a drawn order, resumable after each.

use super::{ChainNet, Score, System, score};
use crate::{
    Seed,
    net::{Adam, AdamSettings, Weights, WeightsError},
};

/// What may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Times that every system is seen.
    pub epochs: u32,
    /// Systems of one step.
    pub batch: usize,
    /// Largest step; it rises over the first epoch's tenth and falls along a cosine to a hundredth.
    pub rate: f64,
    /// Of the order.
    pub seed: Seed,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            epochs: 20,
            batch: 32,
            rate: 2e-3,
            seed: Seed(1),
        }
    }
}

/// A training under way.
#[derive(Clone, Debug)]
pub struct Trainer {
    /// As it is now.
    pub net: ChainNet,
    adam: Adam,
    training: Training,
    epoch: u32,
}

/// What an epoch has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Counted from 1.
    pub number: u32,
    /// Mean loss over the systems that it saw.
    pub loss: f64,
}

impl Trainer {
    /// From the beginning.
    #[must_use]
    pub fn new(net: ChainNet, training: Training) -> Self {
        Self {
            adam: Adam::new(net.weights(), AdamSettings::default()),
            net,
            training,
            epoch: 0,
        }
    }

    /// Epochs done.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether there is nothing left to do.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.training.epochs <= self.epoch
    }

    /// One more epoch. `step` is told after each batch how many systems were seen.
    pub fn epoch_over(&mut self, systems: &[System], mut step: impl FnMut(u64)) -> Epoch {
        let mut order: Vec<usize> = (0..systems.len()).collect();
        let mut stream = self.training.seed.stream("order", self.epoch.into());
        for at in (1..order.len()).rev() {
            order.swap(at, stream.below(at + 1));
        }
        let batch = self.training.batch.max(1);
        let steps = systems.len().div_ceil(batch);
        let all = (steps as f64 * f64::from(self.training.epochs)).max(1.0);
        let (mut loss, mut seen) = (0.0, 0usize);
        for (number, chosen) in order.chunks(batch).enumerate() {
            let chosen: Vec<&System> = chosen.iter().map(|&at| &systems[at]).collect();
            let (mean, gradients) = self.net.learn(&chosen);
            let at = f64::from(self.epoch) * steps as f64 + number as f64;
            let rate = self.rate(at, all, steps as f64 / 10.0);
            self.adam
                .step(self.net.weights_mut(), &gradients.weights, rate);
            loss += mean * chosen.len() as f64;
            seen += chosen.len();
            step(seen as u64);
        }
        self.epoch += 1;
        Epoch {
            number: self.epoch,
            loss: loss / systems.len().max(1) as f64,
        }
    }

    fn rate(&self, at: f64, all: f64, warm: f64) -> f32 {
        let rise = ((at + 1.0) / warm.max(1.0)).min(1.0);
        let fall = 0.01 + 0.99 * f64::midpoint(1.0, (std::f64::consts::PI * at / all).cos());
        (self.training.rate * rise * fall) as f32
    }

    /// Everything that it takes to go on: the epochs done, the weights, the optimiser's state.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        let (means, squares, steps) = self.adam.state();
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&steps.to_le_bytes());
        for all in [
            self.net.weights().clone(),
            self.net.weights().with_values(means),
            self.net.weights().with_values(squares),
        ] {
            let part = all.to_bytes();
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(&part);
        }
        bytes
    }

    /// Goes on where a checkpoint was made, with the same choices.
    ///
    /// # Errors
    /// When it is no checkpoint of such a network.
    pub fn resume(mut self, bytes: &[u8]) -> Result<Self, WeightsError> {
        let wrong = WeightsError::Format("this is no checkpoint of such a training");
        let mut rest = bytes;
        let mut take = |count: usize| -> Result<&[u8], WeightsError> {
            let (head, tail) = rest.split_at_checked(count).ok_or(wrong.clone())?;
            rest = tail;
            Ok(head)
        };
        let four = |bytes: &[u8]| -> [u8; 4] { bytes.try_into().unwrap_or_default() };
        let epoch = u32::from_le_bytes(four(take(4)?));
        let steps = i32::from_le_bytes(four(take(4)?));
        let mut parts = Vec::new();
        for _ in 0..3 {
            let length = take(8)?.try_into().map(u64::from_le_bytes);
            let length = length.ok().and_then(|length| usize::try_from(length).ok());
            let part = take(length.ok_or(wrong.clone())?)?;
            let part = Weights::from_bytes(part)?;
            part.check(self.net.weights())?;
            parts.push(part);
        }
        let [weights, means, squares] =
            <[Weights; 3]>::try_from(parts).map_err(|_| wrong.clone())?;
        let fits = self
            .adam
            .restore(means.all().to_vec(), squares.all().to_vec(), steps);
        if !fits {
            return Err(wrong);
        }
        *self.net.weights_mut() = weights;
        self.epoch = epoch;
        Ok(self)
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
    use crate::chainnet::{Kind, Shape};

    fn systems() -> Vec<System> {
        let drawn = (0..24).map(|number| System::draw(Seed(5), number));
        drawn.map(|system| system.labelled(3000, Seed(6))).collect()
    }

    fn trainer(kind: Kind, epochs: u32) -> Trainer {
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
