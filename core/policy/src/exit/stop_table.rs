//! A table of stop probabilities: what the joint and the distributed controller are at run time.

use super::ExitTable;

/// Stop probabilities by (exit, bin, number present).
#[derive(Clone, Debug, PartialEq)]
pub struct StopTable {
    bins: usize,
    places: usize,
    edges: Vec<Vec<f64>>,
    stop: Vec<f64>,
}

impl StopTable {
    /// A table for that network and station, with the same probability everywhere.
    #[must_use]
    pub fn new(table: &ExitTable, capacity: usize, stop: f64) -> Self {
        let exits = 0..table.exits();
        let bins = exits
            .clone()
            .map(|e| table.bins(e).share.len())
            .max()
            .unwrap_or(1);
        Self {
            bins,
            places: capacity + 1,
            edges: exits.map(|e| table.bins(e).edges.clone()).collect(),
            stop: vec![stop; table.exits() * bins * (capacity + 1)],
        }
    }

    pub(super) fn index(&self, exit: usize, bin: usize, present: usize) -> usize {
        (exit * self.bins + bin) * self.places + present.min(self.places - 1)
    }

    /// Probability of stopping.
    #[must_use]
    pub fn get(&self, exit: usize, bin: usize, present: usize) -> f64 {
        self.stop[self.index(exit, bin, present)]
    }

    /// Sets it.
    pub fn set(&mut self, exit: usize, bin: usize, present: usize, stop: f64) {
        let index = self.index(exit, bin, present);
        self.stop[index] = stop.clamp(0.0, 1.0);
    }

    /// Number of states.
    pub(super) fn len(&self) -> usize {
        self.stop.len()
    }

    /// The probabilities by state.
    pub(super) fn all(&self) -> &[f64] {
        &self.stop
    }

    /// An exit's probabilities by bin and number present, from 0, as far as the exit has bins.
    #[must_use]
    pub fn rows(&self, exit: usize) -> Vec<f64> {
        let bins = self.edges[exit].len() + 1;
        let begin = self.index(exit, 0, 0);
        self.stop[begin..begin + bins * self.places].to_vec()
    }

    /// Inner edges of an exit's bins.
    #[must_use]
    pub fn edges(&self, exit: usize) -> &[f64] {
        &self.edges[exit]
    }

    /// The bin of a confidence. O(log bins).
    #[must_use]
    pub fn bin(&self, exit: usize, confidence: f64) -> usize {
        self.edges[exit].partition_point(|&edge| edge <= confidence)
    }

    /// Probability of stopping with a confidence. O(log bins).
    #[must_use]
    pub fn at(&self, exit: usize, confidence: f64, present: usize) -> f64 {
        let Some(edges) = self.edges.get(exit) else {
            return 1.0;
        };
        let bin = edges.partition_point(|&edge| edge <= confidence);
        self.get(exit, bin, present)
    }

    /// Number of states in which two tables differ.
    #[must_use]
    pub fn distance(&self, other: &Self) -> usize {
        let pairs = self.stop.iter().zip(&other.stop);
        pairs.filter(|(a, b)| (*a - *b).abs() > 1e-12).count()
    }

    /// Between this one (weight 0) and another (weight 1), state by state.
    #[must_use]
    pub(crate) fn between(&self, other: &Self, weight: f64) -> Self {
        let mut mixed = self.clone();
        for (a, b) in mixed.stop.iter_mut().zip(&other.stop) {
            *a += weight * (b - *a);
        }
        mixed
    }
}

/// Mean stop probability by exit and number present, from 1, over the bins as often as they occur: what a
/// person wants to see of a table.
#[must_use]
pub fn picture(stop: &StopTable, table: &ExitTable) -> Vec<Vec<f64>> {
    let of = |exit: usize, present: usize| -> f64 {
        let bins = table.bins(exit);
        let bins = bins.share.iter().enumerate();
        bins.map(|(bin, p)| p * stop.get(exit, bin, present)).sum()
    };
    (0..table.last())
        .map(|exit| (1..stop.places).map(|present| of(exit, present)).collect())
        .collect()
}
