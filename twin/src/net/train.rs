//! Training: epochs over labelled examples in a drawn order, resumable after each.
//!
//! A step's examples are parted in the same halves whatever the machine, each learnt from on a thread of its own, and
//! their gradients added in order: as many cores as there are help, and change no bit.

use std::{panic::resume_unwind, thread};

use super::{Adam, AdamSettings, Gradients, Matrix, Weights, WeightsError};
use crate::Seed;

/// A network that can be trained.
pub trait Learner: Sync {
    /// What it learns from.
    type Example: Sync;

    /// Its weights.
    fn weights(&self) -> &Weights;

    /// Its weights, to be changed.
    fn weights_mut(&mut self) -> &mut Weights;

    /// The mean loss over some examples, and its gradients.
    fn learn(&self, examples: &[&Self::Example]) -> (f64, Gradients);
}

/// What may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Times that every example is seen.
    pub epochs: u32,
    /// Examples of one step.
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
pub struct Trainer<L> {
    /// As it is now.
    pub net: L,
    adam: Adam,
    training: Training,
    epoch: u32,
}

/// What an epoch has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Counted from 1.
    pub number: u32,
    /// Mean loss over the examples that it saw.
    pub loss: f64,
}

impl<L: Learner> Trainer<L> {
    /// From the beginning.
    #[must_use]
    pub fn new(net: L, training: Training) -> Self {
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

    /// One more epoch. `step` is told after each batch how many were seen.
    pub fn epoch_over(&mut self, examples: &[L::Example], mut step: impl FnMut(u64)) -> Epoch {
        let mut order: Vec<usize> = (0..examples.len()).collect();
        let mut stream = self.training.seed.stream("order", self.epoch.into());
        for at in (1..order.len()).rev() {
            order.swap(at, stream.below(at + 1));
        }
        let batch = self.training.batch.max(1);
        let steps = examples.len().div_ceil(batch);
        let all = (steps as f64 * f64::from(self.training.epochs)).max(1.0);
        let (mut loss, mut seen) = (0.0, 0usize);
        for (number, chosen) in order.chunks(batch).enumerate() {
            let chosen: Vec<&L::Example> = chosen.iter().map(|&at| &examples[at]).collect();
            let (mean, gradients) = in_halves(&self.net, &chosen);
            let at = f64::from(self.epoch) * steps as f64 + number as f64;
            let rate = self.rate(at, all, steps as f64 / 10.0);
            self.adam.step(self.net.weights_mut(), &gradients, rate);
            loss += mean * chosen.len() as f64;
            seen += chosen.len();
            step(seen as u64);
        }
        self.epoch += 1;
        Epoch {
            number: self.epoch,
            loss: loss / examples.len().max(1) as f64,
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

/// The mean loss over some examples and the weights' gradients.
fn in_halves<L: Learner>(net: &L, examples: &[&L::Example]) -> (f64, Vec<Matrix>) {
    let (first, second) = examples.split_at(examples.len().div_ceil(2));
    if second.is_empty() {
        let (mean, gradients) = net.learn(first);
        return (mean, gradients.weights);
    }
    let ((one, gradients), (other, more)) = thread::scope(|scope| {
        let second = scope.spawn(|| net.learn(second));
        let first = net.learn(first);
        let second = second.join();
        (first, second.unwrap_or_else(|panic| resume_unwind(panic)))
    });
    let share = second.len() as f64 / examples.len() as f64;
    let mut sum = gradients.weights;
    for (sum, more) in sum.iter_mut().zip(&more.weights) {
        sum.zip_mut_with(more, |sum, more| {
            *sum = *sum * (1.0 - share) as f32 + more * share as f32;
        });
    }
    (one * (1.0 - share) + other * share, sum)
}
