//! Intervals from one long run, and where its beginning ends.

use super::{Estimate, Summary};

/// Batch means in bounded memory: between 32 and 64 batches, whose length doubles when there are too
/// many.
#[derive(Clone, Debug)]
pub struct Batches {
    means: Vec<f64>,
    length: u64,
    sum: f64,
    inside: u64,
}

impl Default for Batches {
    fn default() -> Self {
        Self {
            means: Vec::with_capacity(Self::MOST),
            length: 1,
            sum: 0.0,
            inside: 0,
        }
    }
}

impl Batches {
    /// Most batches.
    pub const MOST: usize = 64;

    /// Takes in the next value of the run.
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.inside += 1;
        if self.inside < self.length {
            return;
        }
        self.means.push(self.sum / self.length as f64);
        (self.sum, self.inside) = (0.0, 0);
        if self.means.len() == Self::MOST {
            let pairs = self.means.chunks_exact(2);
            self.means = pairs.map(|pair| (pair[0] + pair[1]) / 2.0).collect();
            self.length *= 2;
        }
    }

    /// The mean with an interval; what fills no batch does not count. Batches must be much longer than
    /// values depend on each other: see [`correlation`](Self::correlation).
    #[must_use]
    pub fn estimate(&self, confidence: f64) -> Estimate {
        self.means
            .iter()
            .copied()
            .collect::<Summary>()
            .estimate(confidence)
    }

    /// Correlation of neighbouring batches: near 0 (within about 2/√batches) when they are long enough.
    #[must_use]
    pub fn correlation(&self) -> f64 {
        let summary: Summary = self.means.iter().copied().collect();
        if summary.variance() <= 0.0 {
            return 0.0;
        }
        let mean = summary.mean();
        let shared: f64 = self
            .means
            .windows(2)
            .map(|pair| (pair[0] - mean) * (pair[1] - mean))
            .sum();
        shared / (summary.variance() * (self.means.len() - 1) as f64)
    }
}

/// How many of the first values to leave out: the rule MSER-5 (White 1997). Takes the means of fives and
/// cuts where the standard error of the rest is least, at most at the half. O(n).
#[must_use]
pub fn warm_up(values: &[f64]) -> usize {
    let fives: Vec<f64> = values
        .chunks_exact(5)
        .map(|five| five.iter().sum::<f64>() / 5.0)
        .collect();
    let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
    let mut best = (f64::INFINITY, 0);
    for (cut, five) in fives.iter().enumerate().rev() {
        sum += five;
        squares += five * five;
        count += 1.0;
        let is_late = fives.len() < 2 * cut;
        let spread = (squares - sum * sum / count).max(0.0) / (count * count);
        if !is_late && spread <= best.0 {
            best = (spread, cut);
        }
    }
    best.1 * 5
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    /// An autoregressive run with mean 0 and known variance of its mean.
    fn run(seed: u64, count: usize, start: f64) -> Vec<f64> {
        let mut stream = Seed(seed).stream("ar", 0);
        let mut value = start;
        (0..count)
            .map(|_| {
                value = 0.9 * value + stream.unit() - 0.5;
                value
            })
            .collect()
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let mut held = 0;
        for seed in 0..200 {
            let mut batches = Batches::default();
            run(seed, 20_000, 0.0)
                .into_iter()
                .for_each(|value| batches.add(value));
            assert!((32..64).contains(&batches.means.len()));
            held += i32::from(batches.estimate(0.95).holds(0.0));
        }
        // 190 expected; five standard errors of a binomial count are 15.
        assert!((175..=200).contains(&held), "{held}");
    }

    #[test]
    fn short_batches_are_seen_by_their_correlation() {
        let mut long = Batches::default();
        run(1, 60_000, 0.0)
            .into_iter()
            .for_each(|value| long.add(value));
        assert!(long.correlation().abs() < 0.35);
        let mut short = Batches::default();
        run(1, 60, 0.0)
            .into_iter()
            .for_each(|value| short.add(value));
        assert!(short.correlation() > 0.5);
    }

    #[test]
    fn the_transient_is_cut_off() {
        let values = run(2, 5000, 100.0);
        let cut = warm_up(&values);
        assert!((30..400).contains(&cut), "{cut}");
        assert_eq!(warm_up(&[1.0; 100]), 0);
        assert_eq!(warm_up(&[]), 0);
    }
}
