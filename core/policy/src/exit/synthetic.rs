//! A made-up network with exits, for tests and for comparing controllers where nothing was measured.
//!
//! Each input has a hardness h, uniform in (0, 1). Exit e has a skill that grows along the network; the
//! chance that it is right is a logistic function of skill less hardness, with some luck of its own, and its
//! confidence is that chance seen through noise. So inputs that are easy are easy at every exit, confidence is
//! informative but not certain, and what one exit says helps to know what the next will say: what controllers of
//! real networks live from.

use std::ops::RangeInclusive;

use rand::{Rng, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use splitplace_queueing::Service;

use super::{ExitError, ExitTable, Records, TableError, real};
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
        let skill = |exit: usize| {
            let far = real(exit) / real(self.exits.max(2) - 1);
            // The share of hardness below the skill is the accuracy.
            self.easy + (self.hard - self.easy) * far.powf(0.7)
        };
        let skills: Vec<f64> = (0..self.exits).map(skill).collect();
        Ok(drawn(&skills, self.inputs, self.seed)?)
    }

    /// The table of these records.
    ///
    /// # Errors
    /// When a time is none, or there are no exits, inputs or bins, or too many.
    pub fn table(&self, bins: usize) -> Result<ExitTable, ExitError> {
        Ok(self.records()?.table(self.stages()?, bins)?)
    }
}

/// Accuracies that an exit of [`accurate`] may have: above luck, and below certainty.
pub const ACCURACIES: RangeInclusive<f64> = 0.15..=0.999;

/// Inputs of a network whose exits, its end the last, have these accuracies when everybody answers there: what is hard
/// is as in [`Synthetic`], the skills are such that the expected share of right answers is what is asked for.
/// O(exits · inputs).
///
/// # Errors
/// When there are no exits or too many, no inputs, or an accuracy is not one of [`ACCURACIES`].
pub fn accurate(accuracies: &[f64], inputs: usize, seed: u64) -> Result<Records, TableError> {
    let what = "the accuracy";
    let wrong = |exit| TableError::Share { exit, bin: 0, what };
    if let Some(exit) = accuracies.iter().position(|one| !ACCURACIES.contains(one)) {
        return Err(wrong(exit));
    }
    if inputs == 0 {
        return Err(TableError::Empty);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // As `drawn` draws them: what is seen of an input comes between.
    let mut made = Vec::with_capacity(inputs);
    for _ in 0..inputs {
        made.push(Input::draw(&mut rng));
        for _ in accuracies {
            Seen::draw(&mut rng);
        }
    }
    let expected = |skill: f64| {
        let chances = made.iter().map(|input| chance(input.depth(skill)));
        chances.sum::<f64>() / real(inputs)
    };
    let skill = |&accuracy: &f64| {
        let (mut low, mut high) = (-2.0, 4.0);
        for _ in 0..50 {
            let middle = f64::midpoint(low, high);
            if expected(middle) < accuracy {
                low = middle;
            } else {
                high = middle;
            }
        }
        f64::midpoint(low, high)
    };
    let skills: Vec<f64> = accuracies.iter().map(skill).collect();
    drawn(&skills, inputs, seed)
}

/// What exits of these skills say of so many inputs.
fn drawn(skills: &[f64], inputs: usize, seed: u64) -> Result<Records, TableError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut records = Records::new(skills.len())?;
    for _ in 0..inputs {
        let made = Input::draw(&mut rng);
        let said = skills.iter().map(|&skill| {
            let depth = made.depth(skill);
            let seen = Seen::draw(&mut rng);
            // Mostly the same luck at every exit: an answer that is right tends to stay right.
            let luck = seen.luck.unwrap_or(made.luck);
            let is_correct = luck < chance(depth);
            let seen = depth + 0.6 * made.show + 0.6 * seen.show;
            #[expect(clippy::cast_possible_truncation, reason = "seven digits of a share")]
            let confidence = (0.1 + 0.9 / (1.0 + (-seen).exp())) as f32;
            (confidence, is_correct)
        });
        let said: Vec<_> = said.collect();
        records.push(&said);
    }
    Ok(records)
}

/// What an input is.
struct Input {
    hardness: f64,
    own: f64,
    luck: f64,
    show: f64,
}

impl Input {
    fn draw(rng: &mut dyn Rng) -> Self {
        let hardness = unit(rng);
        let (own, luck, show) = (bell(rng), unit(rng), bell(rng));
        Self {
            hardness,
            own,
            luck,
            show,
        }
    }

    /// How far it lies on the easy side for this skill; the slope is how sharp the border is.
    fn depth(&self, skill: f64) -> f64 {
        9.0 * (skill - self.hardness) + 0.8 * self.own
    }
}

/// What one exit makes of an input.
struct Seen {
    /// Its own luck, if it has any.
    luck: Option<f64>,
    show: f64,
}

impl Seen {
    fn draw(rng: &mut dyn Rng) -> Self {
        let is_common = unit(rng) < 0.8;
        let luck = (!is_common).then(|| unit(rng));
        let show = bell(rng);
        Self { luck, show }
    }
}

/// Of being right; one of ten classes is right by luck.
fn chance(depth: f64) -> f64 {
    0.1 + 0.9 / (1.0 + (-depth).exp())
}

/// About normal with variance 1: a sum of twelve uniform numbers.
fn bell(rng: &mut dyn Rng) -> f64 {
    (0..12).map(|_| unit(rng)).sum::<f64>() - 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_as_accurate_as_asked_for() {
        let asked = [0.3, 0.75, 0.9, 0.97];
        let records = accurate(&asked, 4_000, 3).unwrap();
        for (exit, accuracy) in asked.into_iter().enumerate() {
            let error = (accuracy * (1.0 - accuracy) / 4_000f64).sqrt();
            let is = records.accuracy(exit);
            assert!((is - accuracy).abs() < 4.0 * error, "{is} for {accuracy}");
        }
        assert!(accurate(&[0.9, 1.0], 100, 3).is_err());
        assert!(accurate(&[0.9], 0, 3).is_err());
    }
}
