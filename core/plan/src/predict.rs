//! How long a segment takes on a node that never ran it.
//!
//! In the manner of Neurosurgeon (Kang et al., ASPLOS 2017): time is linear in what layers of each type do, with
//! coefficients fitted on what was measured. The unit is a *segment*, not a layer, because engines fuse layers and
//! a call has a cost of its own; features of a segment are sums over its layers, so the model is the same. Fitted by
//! non-negative least squares on relative errors: a coefficient is a time per multiply-accumulate or per byte, and
//! none of them can be negative. What remains is kept as a variance.
//!
//! A prediction for a node is corrected by what the node has shown ([`Corrected`]): one factor for all of it, and
//! what is left of each segment that it has run.

use std::collections::BTreeMap;

use splitplace_graph::Graph;

/// What a layer does, as far as its time is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Convolutions over all channels.
    Convolution,
    /// Convolutions of so many groups that a multiply-accumulate is not what costs.
    Depthwise,
    /// Matrix products.
    Product,
    /// Pooling and reductions.
    Pool,
    /// Element by element: activations, sums, normalisation.
    Element,
    /// Moves bytes: concatenation, transposition, padding.
    Move,
    /// Anything else.
    Other,
}

impl Kind {
    /// Every kind, in the order of the features.
    pub const ALL: [Self; 7] = [
        Self::Convolution,
        Self::Depthwise,
        Self::Product,
        Self::Pool,
        Self::Element,
        Self::Move,
        Self::Other,
    ];

    /// Its word in files.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Convolution => "convolution",
            Self::Depthwise => "depthwise",
            Self::Product => "product",
            Self::Pool => "pool",
            Self::Element => "element",
            Self::Move => "move",
            Self::Other => "other",
        }
    }

    /// The kind of a layer. `per_element`: multiply-accumulates for each element that it makes.
    #[must_use]
    pub fn of(operator: &str, per_element: f64) -> Self {
        match operator {
            // 49 is a kernel of 7 x 7 over one channel.
            "Conv" | "ConvTranspose" | "QLinearConv" | "ConvInteger" if per_element < 50.0 => {
                Self::Depthwise
            }
            "Conv" | "ConvTranspose" | "QLinearConv" | "ConvInteger" => Self::Convolution,
            "Gemm" | "MatMul" | "MatMulInteger" | "QLinearMatMul" | "LSTM" | "GRU" => Self::Product,
            "AveragePool" | "MaxPool" | "GlobalAveragePool" | "GlobalMaxPool" | "ReduceMean"
            | "ReduceSum" | "ReduceMax" => Self::Pool,
            "Concat" | "Transpose" | "Pad" | "Slice" | "Split" | "Gather" | "Reshape"
            | "Flatten" | "Squeeze" | "Unsqueeze" | "Expand" => Self::Move,
            "Relu" | "Clip" | "LeakyRelu" | "Sigmoid" | "HardSigmoid" | "HardSwish" | "Tanh"
            | "Add" | "Sub" | "Mul" | "Div" | "BatchNormalization" | "LayerNormalization"
            | "Softmax" | "Erf" | "Sqrt" | "Pow" | "Exp" | "QuantizeLinear"
            | "DequantizeLinear" => Self::Element,
            _ => Self::Other,
        }
    }
}

/// Features of each kind: layers, 10⁹ multiply-accumulates, 10⁶ bytes read and made, 10⁶ bytes of weights.
pub const PER_KIND: usize = 4;
/// Features of a segment: one for being run at all, then those of each kind.
pub const FEATURES: usize = 1 + PER_KIND * Kind::ALL.len();

/// What a segment does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Features(pub [f64; FEATURES]);

impl Features {
    /// Of the layers at these positions, run together. O(layers).
    #[must_use]
    pub fn of(graph: &Graph, layers: impl IntoIterator<Item = usize>) -> Self {
        let mut all = [0.0; FEATURES];
        all[0] = 1.0;
        for position in layers {
            let layer = &graph.layers()[position];
            let made: u64 = layer.outputs.iter().map(|&id| graph.outlet(id).bytes).sum();
            // Four bytes an element: what networks are made of.
            let elements = (real(made) / 4.0).max(1.0);
            let kind = Kind::of(&layer.operator, real(layer.macs) / elements);
            let at = 1 + PER_KIND * kind as usize;
            all[at] += 1.0;
            all[at + 1] += real(layer.macs) / 1e9;
            all[at + 2] += real(layer.activation_bytes) / 1e6;
            all[at + 3] += real(layer.parameter_bytes) / 1e6;
        }
        Self(all)
    }

    /// The sum of features by coefficients.
    #[must_use]
    pub fn dot(&self, coefficients: &[f64]) -> f64 {
        self.0.iter().zip(coefficients).map(|(x, c)| x * c).sum()
    }
}

/// A segment that was run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// What it does.
    pub features: Features,
    /// Mean seconds of one sample.
    pub seconds: f64,
}

/// A predicted time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    /// Seconds.
    pub mean: f64,
    /// Squared seconds: how far off predictions of other segments were.
    pub variance: f64,
}

/// Seconds from features.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictor {
    /// Seconds for one unit of each feature, none negative.
    pub coefficients: Vec<f64>,
    /// Mean squared relative error on what it was fitted on, by degrees of freedom.
    pub relative_variance: f64,
}

/// Why nothing can be fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// A handful of segments says nothing about types of layers.
    #[error("{0} measured segments are too few to fit; at least {FEWEST} are needed")]
    Few(usize),
    /// A time is a finite number above 0.
    #[error("segment {0} was measured to take no time")]
    Seconds(usize),
}

/// Fewest samples.
pub const FEWEST: usize = 8;

impl Predictor {
    /// Fits `min Σ (x_i c / t_i - 1)²` for `c >= 0`. O(samples · features² + sweeps · features²).
    ///
    /// # Errors
    /// [`FitError`].
    pub fn fit(samples: &[Sample]) -> Result<Self, FitError> {
        if samples.len() < FEWEST {
            return Err(FitError::Few(samples.len()));
        }
        let is_time = |sample: &Sample| sample.seconds.is_finite() && sample.seconds > 0.0;
        if let Some(wrong) = samples.iter().position(|sample| !is_time(sample)) {
            return Err(FitError::Seconds(wrong));
        }
        // Columns of equal length, so that one tolerance fits all.
        let mut rows: Vec<[f64; FEATURES]> = samples
            .iter()
            .map(|sample| sample.features.0.map(|x| x / sample.seconds))
            .collect();
        let mut scale = [0.0f64; FEATURES];
        for row in &rows {
            for (scale, x) in scale.iter_mut().zip(row) {
                *scale += x * x;
            }
        }
        let scale = scale.map(f64::sqrt);
        for row in &mut rows {
            for (x, scale) in row.iter_mut().zip(scale) {
                *x = if scale > 0.0 { *x / scale } else { 0.0 };
            }
        }
        let scaled = non_negative(&rows);
        let coefficients: Vec<f64> = scaled
            .iter()
            .zip(scale)
            .map(|(c, scale)| if scale > 0.0 { c / scale } else { 0.0 })
            .collect();
        let used = coefficients.iter().filter(|c| **c > 0.0).count();
        let free = samples.len().saturating_sub(used).max(1);
        let errors = samples.iter().map(|sample| {
            let error = sample.features.dot(&coefficients) / sample.seconds - 1.0;
            error * error
        });
        Ok(Self {
            relative_variance: errors.sum::<f64>() / real(free as u64),
            coefficients,
        })
    }

    /// The time of a segment with these features. O(features).
    #[must_use]
    pub fn predict(&self, features: &Features) -> Guess {
        let mean = features.dot(&self.coefficients);
        Guess {
            mean,
            variance: self.relative_variance * mean * mean,
        }
    }
}

/// `min ‖A x - 1‖²` over `x >= 0`, by coordinate descent on the normal equations, which decreases the sum with every
/// step and ends where no coordinate can (Franc, Hlaváč, Navara 2005).
fn non_negative(rows: &[[f64; FEATURES]]) -> [f64; FEATURES] {
    /// Sweeps over all coordinates at most.
    const SWEEPS: usize = 20_000;
    let mut normal = [[0.0; FEATURES]; FEATURES];
    let mut right = [0.0; FEATURES];
    for row in rows {
        for i in 0..FEATURES {
            right[i] += row[i];
            for j in 0..FEATURES {
                normal[i][j] += row[i] * row[j];
            }
        }
    }
    let mut x = [0.0; FEATURES];
    for _ in 0..SWEEPS {
        let mut moved = 0.0f64;
        for i in 0..FEATURES {
            if normal[i][i] <= 0.0 {
                continue;
            }
            let slope: f64 = normal[i].iter().zip(x).map(|(a, x)| a * x).sum::<f64>() - right[i];
            let next = (x[i] - slope / normal[i][i]).max(0.0);
            moved = moved.max((next - x[i]).abs());
            x[i] = next;
        }
        if moved < 1e-12 {
            break;
        }
    }
    x
}

/// A predictor as one node needs it.
///
/// The node's factor is a mean of logarithms of measured over predicted times, the latest with weight
/// [`Corrected::LATEST`]; so a node that grows slower is followed in some ten reports, and one odd report moves
/// little. A segment that was run before keeps what the factor leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Corrected {
    /// Logarithm of how many times longer everything takes here.
    factor: f64,
    /// Mean square of what the factor left.
    left: f64,
    seen: u32,
    /// By the caller's number of a segment: logarithm of what is left of it.
    residuals: BTreeMap<u64, f64>,
}

impl Corrected {
    /// Weight of the latest report, once there are some.
    pub const LATEST: f64 = 0.2;
    /// Segments of which is kept what is left; beyond, the one with the lowest number is forgotten.
    pub const SEGMENTS: usize = 4096;
    /// A report is taken to be off by at most so many times.
    const MOST: f64 = 1000.0;

    /// A node that is expected to take `factor` times what the predictor was fitted on: the ratio of yardsticks.
    #[must_use]
    pub fn new(factor: f64) -> Self {
        let factor = factor.clamp(1.0 / Self::MOST, Self::MOST);
        Self {
            factor: factor.ln(),
            left: 0.0,
            seen: 0,
            residuals: BTreeMap::new(),
        }
    }

    /// Takes in that a segment took `seconds`. What is no time, or was not predicted, is left out. O(log segments).
    pub fn observe(&mut self, segment: u64, guess: &Guess, seconds: f64) {
        let ratio = seconds / guess.mean;
        if !ratio.is_finite() || ratio <= 0.0 {
            return;
        }
        let log = ratio.clamp(1.0 / Self::MOST, Self::MOST).ln();
        self.seen = self.seen.saturating_add(1);
        // The first reports count alike.
        let weight = Self::LATEST.max(1.0 / f64::from(self.seen));
        let before = log - self.factor;
        self.factor += weight * before;
        if self.seen > 1 {
            self.left += weight * (before * before - self.left);
        }
        let residual = self.residuals.entry(segment).or_insert(log - self.factor);
        *residual += Self::LATEST * (log - self.factor - *residual);
        if Self::SEGMENTS < self.residuals.len() {
            self.residuals.pop_first();
        }
    }

    /// The time of a segment here. O(log segments).
    #[must_use]
    pub fn predict(&self, segment: u64, guess: &Guess) -> Guess {
        let residual = self.residuals.get(&segment);
        let mean = guess.mean * (self.factor + residual.copied().unwrap_or(0.0)).exp();
        let relative = guess.variance / (guess.mean * guess.mean).max(f64::MIN_POSITIVE);
        // Of a segment that has run only the noise of reports is left.
        let relative = match residual {
            Some(_) => self.left.min(relative),
            None => self.left.max(relative),
        };
        Guess {
            mean,
            variance: relative * mean * mean,
        }
    }

    /// Number of segments of which is known what the factor leaves.
    #[must_use]
    pub fn known(&self) -> usize {
        self.residuals.len()
    }

    /// How many times longer than predicted the node takes.
    #[must_use]
    pub fn factor(&self) -> f64 {
        self.factor.exp()
    }
}

/// A whole number as a real one.
#[expect(
    clippy::cast_precision_loss,
    reason = "bytes and multiply-accumulates are far below 2^53"
)]
const fn real(count: u64) -> f64 {
    count as f64
}
