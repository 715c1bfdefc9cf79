//! How long a segment takes on a node that never ran it.
//!
//! In the manner of Neurosurgeon (Kang et al., ASPLOS 2017): time is linear in what layers of each type do, with
//! coefficients fitted on what was measured. The unit is a *segment*, not a layer, because engines fuse layers and
//! a call has a cost of its own; features of a segment are sums over its layers, so the model is the same. Fitted by
//! non-negative least squares on relative errors: a coefficient is a time per multiply-accumulate or per byte, and
//! none of them can be negative. What remains is kept as a variance.
//!
//! What a fleet has measured moves the coefficients ([`Predictor::refit`]); by how much a node is off is in
//! [`crate::effects`].

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

    /// Of segments that are run as one.
    #[must_use]
    pub fn together<'a>(segments: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = [0.0; FEATURES];
        for segment in segments {
            for (sum, x) in all.iter_mut().zip(segment.0) {
                *sum += x;
            }
        }
        // Called once.
        all[0] = all[0].min(1.0);
        Self(all)
    }

    /// 10⁹ multiply-accumulates.
    #[must_use]
    pub fn gmac(&self) -> f64 {
        let kinds = 0..Kind::ALL.len();
        kinds.map(|kind| self.0[2 + PER_KIND * kind]).sum()
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
        Self::fit_from(samples, None)
    }

    /// Fitted on these samples, every coefficient held to what is known of it as if that might be off by
    /// [`Predictor::DOUBT`] of it (ridge): a few samples move the coefficients a little, many decide, and what they say
    /// nothing of stays. Costs what [`Predictor::fit`] does.
    ///
    /// # Errors
    /// [`FitError::Seconds`].
    pub fn refit(&self, samples: &[Sample]) -> Result<Self, FitError> {
        if samples.is_empty() {
            return Ok(self.clone());
        }
        Self::fit_from(samples, Some(self))
    }

    /// Standard deviation of a known coefficient, as a share of it.
    pub const DOUBT: f64 = 0.5;
    /// As how many samples the known variance counts when it is estimated again.
    const KNOWN: f64 = 20.0;

    fn fit_from(samples: &[Sample], known: Option<&Self>) -> Result<Self, FitError> {
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
        let count = real(samples.len() as u64);
        let known_as = |at: usize| known.and_then(|known| known.coefficients.get(at)).copied();
        let prior = known.map(|known| {
            let strength = known.relative_variance / (Self::DOUBT * Self::DOUBT);
            let known = std::array::from_fn(|at| known_as(at).unwrap_or(0.0) * scale[at]);
            (strength, known)
        });
        let scaled = non_negative(&rows, prior.as_ref());
        let coefficients: Vec<f64> = (0..FEATURES)
            .map(|at| {
                if scale[at] > 0.0 {
                    scaled[at] / scale[at]
                } else {
                    known_as(at).unwrap_or(0.0)
                }
            })
            .collect();
        let used = coefficients.iter().filter(|c| **c > 0.0).count();
        let errors = samples.iter().map(|sample| {
            let error = sample.features.dot(&coefficients) / sample.seconds - 1.0;
            error * error
        });
        let errors = errors.sum::<f64>();
        let relative_variance = match known {
            None => errors / real(samples.len().saturating_sub(used).max(1) as u64),
            Some(known) => (errors + Self::KNOWN * known.relative_variance) / (count + Self::KNOWN),
        };
        Ok(Self {
            coefficients,
            relative_variance,
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
/// step and ends where no coordinate can (Franc, Hlaváč, Navara 2005). With `prior`, `s Σ (x_i / k_i - 1)²` is
/// added for its strength s and what is known, k; what is known to be 0 stays so.
fn non_negative(
    rows: &[[f64; FEATURES]],
    prior: Option<&(f64, [f64; FEATURES])>,
) -> [f64; FEATURES] {
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
    if let Some((strength, known)) = prior {
        for i in 0..FEATURES {
            if known[i] > 0.0 {
                normal[i][i] += strength / (known[i] * known[i]);
                right[i] += strength / known[i];
            } else {
                normal[i][i] = 0.0;
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

/// A whole number as a real one.
#[expect(
    clippy::cast_precision_loss,
    reason = "bytes and multiply-accumulates are far below 2^53"
)]
const fn real(count: u64) -> f64 {
    count as f64
}
