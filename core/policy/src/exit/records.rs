//! What every exit said of every input that was measured, and tables made from it.

use splitplace_queueing::Service;

use super::{
    govern::spread,
    real,
    table::{ExitBins, ExitTable, MAX_BINS, MAX_EXITS, TableError},
};

/// Weight, in inputs, with which a bin's transitions are drawn towards those of all bins: a bin of few inputs
/// says little.
const PRIOR: f64 = 2.0;

/// Weight that an input has at an exit which it never reaches.
const FLOOR: f64 = 1e-3;

/// Confidence and correctness of every exit for every input.
#[derive(Clone, Debug, PartialEq)]
pub struct Records {
    exits: usize,
    confidence: Vec<f32>,
    correct: Vec<bool>,
}

impl Records {
    /// No input yet, of a network with so many exits.
    ///
    /// # Errors
    /// When they are none or more than [`MAX_EXITS`].
    pub fn new(exits: usize) -> Result<Self, TableError> {
        if exits == 0 || exits > MAX_EXITS {
            return Err(TableError::Exits {
                exits,
                stages: exits,
            });
        }
        Ok(Self {
            exits,
            confidence: Vec::new(),
            correct: Vec::new(),
        })
    }

    /// Adds an input: by exit its confidence in `[0, 1]` and whether the answer there is correct. Missing
    /// exits count as wrong with confidence 0; more than there are exits are left out.
    pub fn push(&mut self, input: &[(f32, bool)]) {
        for exit in 0..self.exits {
            let (confidence, is_correct) = input.get(exit).copied().unwrap_or((0.0, false));
            let confidence = if confidence.is_nan() { 0.0 } else { confidence };
            self.confidence.push(confidence.clamp(0.0, 1.0));
            self.correct.push(is_correct);
        }
    }

    /// Number of exits.
    #[must_use]
    pub const fn exits(&self) -> usize {
        self.exits
    }

    /// Number of inputs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.confidence.len() / self.exits
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.confidence.is_empty()
    }

    /// Confidence of an exit on an input.
    #[must_use]
    pub fn confidence(&self, input: usize, exit: usize) -> f64 {
        f64::from(self.confidence[input * self.exits + exit])
    }

    /// Whether the exit's answer on that input is correct.
    #[must_use]
    pub fn is_correct(&self, input: usize, exit: usize) -> bool {
        self.correct[input * self.exits + exit]
    }

    /// Inputs for which `keep` of their number is true.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(usize) -> bool) -> Self {
        let of = |input: usize| input * self.exits..(input + 1) * self.exits;
        let kept: Vec<usize> = (0..self.len()).filter(|&input| keep(input)).collect();
        let kept = || kept.iter().copied();
        Self {
            exits: self.exits,
            confidence: kept()
                .flat_map(|i| self.confidence[of(i)].iter().copied())
                .collect(),
            correct: kept()
                .flat_map(|i| self.correct[of(i)].iter().copied())
                .collect(),
        }
    }

    /// The same inputs, correct where an exit is as right or as wrong as the network's end: what audits can see. Two
    /// different wrong answers count as the same.
    #[must_use]
    pub fn agreeing(&self) -> Self {
        let last = self.exits - 1;
        let same = |(at, &right): (usize, &bool)| right == self.is_correct(at / self.exits, last);
        Self {
            correct: self.correct.iter().enumerate().map(same).collect(),
            ..self.clone()
        }
    }

    /// The same inputs, of whose right answers only these shares (by exit) are believed, evenly spread.
    #[must_use]
    pub fn trusting(&self, shares: &[f64]) -> Self {
        let mut seen = vec![0; self.exits];
        let mut believed = |(at, &right): (usize, &bool)| {
            let exit = at % self.exits;
            let number = seen[exit];
            seen[exit] += usize::from(right);
            right && spread(number, shares.get(exit).copied().unwrap_or(1.0).min(1.0))
        };
        Self {
            correct: self.correct.iter().enumerate().map(&mut believed).collect(),
            ..self.clone()
        }
    }

    /// Share of correct answers at an exit.
    #[must_use]
    pub fn accuracy(&self, exit: usize) -> f64 {
        let correct = (0..self.len())
            .filter(|&i| self.is_correct(i, exit))
            .count();
        real(correct) / real(self.len().max(1))
    }

    /// Confidences of an exit, ascending.
    #[must_use]
    pub fn sorted(&self, exit: usize) -> Vec<f64> {
        let mut all: Vec<f64> = (0..self.len()).map(|i| self.confidence(i, exit)).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    /// The table of these inputs, with `bins` bins of equal share at each exit (fewer where many confidences
    /// are equal). Accuracies are made to grow with confidence (pooling adjacent violators), transitions are
    /// smoothed. O(inputs · exits · log inputs).
    ///
    /// # Errors
    /// When there are no inputs, no bins or too many, or not as many stages as exits.
    pub fn table(&self, stages: Vec<Service>, bins: usize) -> Result<ExitTable, TableError> {
        self.table_of(stages, bins, None, 0.0)
    }

    /// The table of the inputs that *reach* each exit: `weights[input · exits + exit]` says how often an input is
    /// seen at an exit. A controller that stops what is easy changes what later exits see, and with it
    /// what their confidence means; edges of bins stay those of all inputs. Exits that nothing reaches are as
    /// in [`table`](Self::table).
    ///
    /// # Errors
    /// As [`table`](Self::table); weights that do not fit or are none count as 1.
    pub fn table_given(
        &self,
        stages: Vec<Service>,
        bins: usize,
        weights: &[f64],
    ) -> Result<ExitTable, TableError> {
        let is_weight = |w: &f64| w.is_finite() && *w >= 0.0;
        let fits = weights.len() == self.confidence.len() && weights.iter().all(is_weight);
        self.table_of(stages, bins, fits.then_some(weights), 0.0)
    }

    /// [`table_given`](Self::table_given), with the accuracies of all exits but the last lowered by `caution` standard
    /// errors of their difference to the last exit's on the same inputs. A controller picks from hundreds of
    /// states those where stopping looks good, and some look good by luck.
    ///
    /// # Errors
    /// As [`table`](Self::table).
    pub fn cautious_table(
        &self,
        stages: Vec<Service>,
        bins: usize,
        weights: &[f64],
        caution: f64,
    ) -> Result<ExitTable, TableError> {
        let is_weight = |w: &f64| w.is_finite() && *w >= 0.0;
        let fits = weights.len() == self.confidence.len() && weights.iter().all(is_weight);
        self.table_of(stages, bins, fits.then_some(weights), caution)
    }

    fn table_of(
        &self,
        stages: Vec<Service>,
        bins: usize,
        weights: Option<&[f64]>,
        caution: f64,
    ) -> Result<ExitTable, TableError> {
        if self.is_empty() {
            return Err(TableError::Empty);
        }
        if bins == 0 || bins > MAX_BINS {
            return Err(TableError::Shape { exit: 0 });
        }
        let mut exits: Vec<ExitBins> = (0..self.exits)
            .map(|exit| {
                let sorted = self.sorted(exit);
                let quantile = |b: usize| sorted[b * sorted.len() / bins];
                let mut edges: Vec<f64> = (1..bins).map(quantile).collect();
                edges.dedup();
                edges.retain(|&edge| edge > sorted[0]);
                ExitBins {
                    edges,
                    ..ExitBins::default()
                }
            })
            .collect();
        for exit in 0..self.exits {
            let width = exits[exit].edges.len() + 1;
            let total: f64 = (0..self.len()).map(|i| self.weight(weights, i, exit)).sum();
            // Mean weight 1, and every input a little, so that no bin is empty that has inputs.
            let scale = if total > 0.0 {
                real(self.len()) / total
            } else {
                0.0
            };
            let floor = if total > 0.0 { FLOOR } else { 1.0 };
            let weigh = |input: usize| floor + scale * self.weight(weights, input, exit);
            let (mut seen, mut right) = (vec![0.0; width], vec![0.0; width]);
            for input in 0..self.len() {
                let bin = exits[exit].bin(self.confidence(input, exit));
                seen[bin] += weigh(input);
                right[bin] += weigh(input) * f64::from(u8::from(self.is_correct(input, exit)));
            }
            let all: f64 = seen.iter().sum();
            exits[exit].correct = rising(&right, &seen);
            if caution > 0.0 {
                self.lower(exit, caution, &weigh, &mut exits[exit]);
            }
            exits[exit].share = seen.iter().map(|n| n / all).collect();
            if exit + 1 == self.exits {
                continue;
            }
            let next = exits[exit + 1].edges.len() + 1;
            let mut moves = vec![vec![0.0; next]; width];
            let mut mean = vec![0.0; next];
            for input in 0..self.len() {
                let from = exits[exit].bin(self.confidence(input, exit));
                let to = exits[exit + 1].bin(self.confidence(input, exit + 1));
                moves[from][to] += weigh(input);
                mean[to] += weigh(input) / all;
            }
            for (row, n) in moves.iter_mut().zip(&seen) {
                for (p, share) in row.iter_mut().zip(&mean) {
                    *p = (*p + PRIOR * share) / (n + PRIOR);
                }
            }
            exits[exit].next = moves;
        }
        ExitTable::new(stages, exits)
    }

    /// Lowers accuracies by standard errors of the difference to the last exit, and makes them grow again.
    fn lower(&self, exit: usize, caution: f64, weigh: &dyn Fn(usize) -> f64, bins: &mut ExitBins) {
        let width = bins.correct.len();
        let mut sums = vec![(0.0, 0.0, 0.0, 0.0); width];
        for input in 0..self.len() {
            let right = |exit| f64::from(u8::from(self.is_correct(input, exit)));
            let difference = right(exit) - right(self.exits - 1);
            let weight = weigh(input);
            let (n, squares, sum, square) = &mut sums[bins.bin(self.confidence(input, exit))];
            *n += weight;
            *squares += weight * weight;
            *sum += weight * difference;
            *square += weight * difference * difference;
        }
        let mut least = 0.0;
        for (accuracy, (n, squares, sum, square)) in bins.correct.iter_mut().zip(sums) {
            if n > 0.0 {
                let variance = (square / n - (sum / n) * (sum / n)).max(0.0);
                // Inputs that count unequally count as fewer.
                let error = (variance * squares).sqrt() / n;
                least = (*accuracy - caution * error).clamp(least, 1.0_f64.max(least));
            }
            *accuracy = least;
        }
    }

    fn weight(&self, weights: Option<&[f64]>, input: usize, exit: usize) -> f64 {
        weights.map_or(1.0, |weights| weights[input * self.exits + exit])
    }
}

/// The nearest accuracies that never fall from bin to bin (pool adjacent violators).
fn rising(right: &[f64], seen: &[f64]) -> Vec<f64> {
    // Blocks of (right, seen, bins).
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    for (&right, &seen) in right.iter().zip(seen) {
        blocks.push((right, seen, 1));
        while let [.., a, b] = blocks[..] {
            if a.0 * b.1 < b.0 * a.1 || a.1 > 0.0 && b.1 > 0.0 && a.0 * b.1 == b.0 * a.1 {
                break;
            }
            blocks.truncate(blocks.len() - 2);
            blocks.push((a.0 + b.0, a.1 + b.1, a.2 + b.2));
        }
    }
    let of = |(right, seen, count): (f64, f64, usize)| {
        let accuracy = if seen > 0.0 { right / seen } else { 0.0 };
        std::iter::repeat_n(accuracy.clamp(0.0, 1.0), count)
    };
    blocks.into_iter().flat_map(of).collect()
}
