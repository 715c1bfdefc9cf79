//! A made-up network with exits, for tests and for comparing controllers where nothing was measured.
//!
//! Each input has a hardness h, uniform in (0, 1). Exit e has a skill that grows along the network; the
//! chance that it is right is a logistic function of skill less hardness, with some luck of its own, and its
//! confidence is that chance seen through noise. So inputs that are easy are easy at every exit, confidence is
//! informative but not certain, and what one exit says helps to know what the next will say: what controllers of
//! real networks live from.

use rand::{Rng, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use splitplace_queueing::Service;

use super::{ExitError, ExitTable, Records, real};
use crate::fixed::unit;

/// How the network is made up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Synthetic {
    /// Exits, the end included.
    pub exits: usize,
    /// Seconds to the first exit.
    pub first: f64,
    /// Seconds to the last exit.
    pub last: f64,
    /// Accuracy of the first exit, about.
    pub easy: f64,
    /// Accuracy of the last exit, about.
    pub hard: f64,
    /// Squared coefficient of variation of each stage's time; 0 for constant.
    pub jitter: f64,
    /// Inputs that are recorded.
    pub inputs: usize,
    /// Seed.
    pub seed: u64,
}

impl Default for Synthetic {
    /// The nine exits of the reference's profile: 60 to 360 ms, 55 to 93 %.
    fn default() -> Self {
        Self {
            exits: 9,
            first: 0.06,
            last: 0.36,
            easy: 0.55,
            hard: 0.93,
            jitter: 0.0,
            inputs: 4000,
            seed: 1,
        }
    }
}

impl Synthetic {
    /// The times of the stages: evenly long after the first.
    ///
    /// # Errors
    /// When a time is none.
    pub fn stages(&self) -> Result<Vec<Service>, ExitError> {
        let between = (self.last - self.first) / real(self.exits.max(2) - 1);
        let mean = |e: usize| if e == 0 { self.first } else { between };
        let stages = (0..self.exits).map(|e| Service::gamma(mean(e), self.jitter));
        Ok(stages.collect::<Result<_, _>>()?)
    }

    /// What each exit says of each input.
    ///
    /// # Errors
    /// When there are no exits or too many.
    pub fn records(&self) -> Result<Records, ExitError> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut records = Records::new(self.exits)?;
        for _ in 0..self.inputs {
            let hardness = unit(&mut rng);
            let (own, luck, show) = (bell(&mut rng), unit(&mut rng), bell(&mut rng));
            let mut input = Vec::with_capacity(self.exits);
            for exit in 0..self.exits {
                let far = real(exit) / real(self.exits.max(2) - 1);
                let accuracy = self.easy + (self.hard - self.easy) * far.powf(0.7);
                // The share of hardness below the skill is the accuracy; the slope is how sharp the border is.
                let depth = 9.0 * (accuracy - hardness) + 0.8 * own;
                let chance = 1.0 / (1.0 + (-depth).exp());
                let chance = 0.1 + 0.9 * chance;
                // Mostly the same luck at every exit: an answer that is right tends to stay right.
                let is_correct = if unit(&mut rng) < 0.8 {
                    luck
                } else {
                    unit(&mut rng)
                } < chance;
                let seen = depth + 0.6 * show + 0.6 * bell(&mut rng);
                #[expect(clippy::cast_possible_truncation, reason = "seven digits of a share")]
                let confidence = (0.1 + 0.9 / (1.0 + (-seen).exp())) as f32;
                input.push((confidence, is_correct));
            }
            records.push(&input);
        }
        Ok(records)
    }

    /// The table of these records.
    ///
    /// # Errors
    /// When a time is none, or there are no exits, inputs or bins, or too many.
    pub fn table(&self, bins: usize) -> Result<ExitTable, ExitError> {
        Ok(self.records()?.table(self.stages()?, bins)?)
    }
}

/// About normal with variance 1: a sum of twelve uniform numbers.
fn bell(rng: &mut dyn Rng) -> f64 {
    (0..12).map(|_| unit(rng)).sum::<f64>() - 6.0
}
