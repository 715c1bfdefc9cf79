//! What is known of a network with exits before it serves: times, calibrated accuracies, confidences.

use splitplace_queueing::Service;

/// Exits that a network may have at most, its end included.
pub const MAX_EXITS: usize = 64;
/// Bins of confidence that an exit may have at most.
pub const MAX_BINS: usize = 64;

/// Why a table is none.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum TableError {
    /// Between one and [`MAX_EXITS`] exits, and as many stages.
    #[error(
        "{exits} exits and {stages} stages: both must be the same number from 1 to {MAX_EXITS}"
    )]
    Exits {
        /// As given.
        exits: usize,
        /// As given.
        stages: usize,
    },
    /// Between one and [`MAX_BINS`] bins, one more than edges, and every row as long as there are bins.
    #[error("exit {exit}: edges, shares, accuracies or transitions do not fit each other")]
    Shape {
        /// Which.
        exit: usize,
    },
    /// Shares and rows of transitions sum to 1; edges ascend; everything lies in `[0, 1]`.
    #[error("exit {exit}: {what} of bin {bin} is no share, or they do not sum to 1")]
    Share {
        /// Which exit.
        exit: usize,
        /// Which bin.
        bin: usize,
        /// What of it.
        what: &'static str,
    },
    /// There are no records to make a table from.
    #[error("a table cannot be made from no records")]
    Empty,
}

/// One exit: its confidences in bins. Bin `b` holds `edges[b - 1] <= c < edges[b]`, the first from 0, the
/// last to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExitBins {
    /// Inner edges, ascending.
    pub edges: Vec<f64>,
    /// Share of the inputs in each bin when all of them come here.
    pub share: Vec<f64>,
    /// Calibrated accuracy: P(correct | bin).
    pub correct: Vec<f64>,
    /// P(bin at the next exit | bin here); empty at the last exit.
    pub next: Vec<Vec<f64>>,
}

impl ExitBins {
    /// The bin of a confidence. O(log bins).
    #[must_use]
    pub fn bin(&self, confidence: f64) -> usize {
        self.edges.partition_point(|&edge| edge <= confidence)
    }

    /// A confidence inside the bin: its middle.
    #[must_use]
    pub fn middle(&self, bin: usize) -> f64 {
        let low = if bin == 0 { 0.0 } else { self.edges[bin - 1] };
        let high = self.edges.get(bin).copied().unwrap_or(1.0);
        low.midpoint(high.max(low))
    }
}

/// A network with exits at one station: all that controllers are made from.
#[derive(Clone, Debug, PartialEq)]
pub struct ExitTable {
    stages: Vec<Service>,
    exits: Vec<ExitBins>,
}

impl ExitTable {
    /// `stages[e]` is the time from exit `e - 1` (from the start of service for the first) to exit `e`, its
    /// head included. Rows are normalised.
    ///
    /// # Errors
    /// When something does not fit: see [`TableError`].
    pub fn new(stages: Vec<Service>, mut exits: Vec<ExitBins>) -> Result<Self, TableError> {
        let count = exits.len();
        if count == 0 || count > MAX_EXITS || count != stages.len() {
            let stages = stages.len();
            return Err(TableError::Exits {
                exits: count,
                stages,
            });
        }
        for exit in 0..count {
            let next_bins = exits.get(exit + 1).map_or(0, |next| next.share.len());
            check(&mut exits[exit], exit, next_bins)?;
        }
        Ok(Self { stages, exits })
    }

    /// Number of exits, the end included.
    #[must_use]
    pub fn exits(&self) -> usize {
        self.exits.len()
    }

    /// The last exit.
    #[must_use]
    pub fn last(&self) -> usize {
        self.exits.len() - 1
    }

    /// The time between two exits.
    #[must_use]
    pub fn stage(&self, exit: usize) -> &Service {
        &self.stages[exit]
    }

    /// All of them.
    #[must_use]
    pub fn stages(&self) -> &[Service] {
        &self.stages
    }

    /// The confidences of an exit.
    #[must_use]
    pub fn bins(&self, exit: usize) -> &ExitBins {
        &self.exits[exit]
    }

    /// Calibrated accuracy of an answer at `exit` with this confidence.
    #[must_use]
    pub fn calibrated(&self, exit: usize, confidence: f64) -> f64 {
        let bins = &self.exits[exit];
        bins.correct[bins.bin(confidence)]
    }

    /// Accuracy if every input left at this exit.
    #[must_use]
    pub fn accuracy(&self, exit: usize) -> f64 {
        let bins = &self.exits[exit];
        bins.share
            .iter()
            .zip(&bins.correct)
            .map(|(p, a)| p * a)
            .sum()
    }

    /// Mean time from the start of service to this exit, in seconds.
    #[must_use]
    pub fn mean(&self, exit: usize) -> f64 {
        self.stages[..=exit].iter().map(Service::mean).sum()
    }

    /// Second moment of that time, in seconds²; stages are independent.
    #[must_use]
    pub fn second_moment(&self, exit: usize) -> f64 {
        let stages = &self.stages[..=exit];
        let variance: f64 = stages.iter().map(|s| s.scv() * s.mean() * s.mean()).sum();
        variance + self.mean(exit).powi(2)
    }

    /// The time to this exit as a gamma law with its two moments; constant when every stage is.
    #[must_use]
    pub fn cumulative(&self, exit: usize) -> Service {
        let mean = self.mean(exit);
        let scv = if mean > 0.0 {
            (self.second_moment(exit) / (mean * mean) - 1.0).max(0.0)
        } else {
            0.0
        };
        Service::gamma(mean, scv).unwrap_or_else(|_| self.stages[exit].clone())
    }

    /// The same network on a node that takes `factor` times as long.
    #[must_use]
    pub fn slower(&self, factor: f64) -> Self {
        Self {
            stages: self
                .stages
                .iter()
                .map(|stage| stage.scaled(factor))
                .collect(),
            exits: self.exits.clone(),
        }
    }

    /// The same network with other stage times.
    ///
    /// # Errors
    /// When there are not as many as exits.
    pub fn with_stages(&self, stages: Vec<Service>) -> Result<Self, TableError> {
        if stages.len() != self.exits.len() {
            return Err(TableError::Exits {
                exits: self.exits.len(),
                stages: stages.len(),
            });
        }
        Ok(Self {
            stages,
            exits: self.exits.clone(),
        })
    }
}

fn check(bins: &mut ExitBins, exit: usize, next_bins: usize) -> Result<(), TableError> {
    let count = bins.share.len();
    let rows_fit = if next_bins == 0 {
        bins.next.is_empty()
    } else {
        bins.next.len() == count && bins.next.iter().all(|row| row.len() == next_bins)
    };
    let is_shape = (1..=MAX_BINS).contains(&count)
        && bins.edges.len() + 1 == count
        && bins.correct.len() == count
        && rows_fit;
    if !is_shape {
        return Err(TableError::Shape { exit });
    }
    let share = |bin, what| TableError::Share { exit, bin, what };
    let is_share = |x: &f64| (0.0..=1.0).contains(x);
    if let Some(bin) = bins.correct.iter().position(|x| !is_share(x)) {
        return Err(share(bin, "the accuracy"));
    }
    let mut before = 0.0;
    for (bin, &edge) in bins.edges.iter().enumerate() {
        // Equal edges make an empty bin, which does no harm.
        if !is_share(&edge) || edge < before {
            return Err(share(bin, "an edge"));
        }
        before = edge;
    }
    normalise(&mut bins.share).map_err(|bin| share(bin, "the share"))?;
    for (bin, row) in bins.next.iter_mut().enumerate() {
        normalise(row).map_err(|_| share(bin, "the row"))?;
    }
    Ok(())
}

/// Makes shares sum to 1 exactly; the first that is none, or 0 when they are off by more than a thousandth.
fn normalise(shares: &mut [f64]) -> Result<(), usize> {
    if let Some(bad) = shares.iter().position(|x| !(x.is_finite() && *x >= 0.0)) {
        return Err(bad);
    }
    let total: f64 = shares.iter().sum();
    if (total - 1.0).abs() > 1e-3 {
        return Err(0);
    }
    shares.iter_mut().for_each(|x| *x /= total);
    Ok(())
}
