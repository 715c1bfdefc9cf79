//! What was measured of a package: `measured.toml` beside `package.toml`.
//!
//! Every number was measured with the worker's own engine on held-out data, and belongs to files whose
//! hashes stand beside it: tables of other files are refused. Shares lie in `[0, 1]`, times are seconds on
//! the machine that is described, sizes are bytes of one sample.
//!
//! Reading order: [`Tables`], [`VariantTable`], [`ExitTable`], [`CutTable`], `check`, `write`, [`record`].

mod check;
pub mod record;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::record::ExitRecord;
use crate::package::{Accuracy, NEVER, Package};

/// Name of the file in a package's folder.
pub const FILE: &str = "measured.toml";
/// Largest such file, in bytes.
pub const LIMIT: u64 = 8 << 20;
/// Bins of a confidence histogram, as they are made; other numbers can be read.
pub const BINS: usize = 10;
/// Name of the network's end among exits.
pub const FINAL: &str = "final";

/// All that was measured of a package.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tables {
    /// 1.
    pub format: u32,
    /// On what.
    pub data: DataSet,
    /// Where.
    pub machine: Machine,
    /// In the package's order; a variant that was not measured is missing.
    #[serde(default, rename = "variant")]
    pub variants: Vec<VariantTable>,
}

/// Held-out samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataSet {
    /// For people.
    pub name: String,
    /// SHA-256 of the samples as they were read, in hexadecimal.
    pub sha256: String,
    /// How many.
    pub samples: u64,
}

/// The machine that times were taken on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Engine and version.
    pub engine: String,
    /// Cores that it could use.
    pub cores: u32,
    /// Multiply-accumulates a second of one core on the yardstick of [`crate::speed`], for scale.
    pub macs_per_second: f64,
}

/// Time of one sample on one core.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Mean, in seconds.
    pub mean: f64,
    /// 95th percentile, in seconds.
    pub p95: f64,
}

/// One variant.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VariantTable {
    /// Its name in the package.
    pub name: String,
    /// Fingerprint of all that the numbers depend on, for measuring only what has changed.
    #[serde(default)]
    pub settings: String,
    /// SHA-256 of each of its files, in hexadecimal.
    pub files: BTreeMap<String, String>,
    /// Share of correct answers, when no exit answers early.
    pub top1: f64,
    /// Multiply-accumulates of one sample, all heads and branches together.
    pub macs: u64,
    /// Bytes of its weights, all branches together.
    pub parameter_bytes: u64,
    /// Bytes of its files.
    pub file_bytes: u64,
    /// Memory that the engine takes for it, all branches together, measured.
    pub memory_bytes: u64,
    /// Engine time; of a semantic variant, its slowest branch's.
    pub latency: Latency,
    /// For a semantic variant, by branch: accuracy when that one is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches_missing: Vec<f64>,
    /// For a semantic variant: each branch alone.
    #[serde(default, rename = "branch", skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<BranchTable>,
    /// In order along the network, the end ([`FINAL`]) last; empty without exits.
    #[serde(default, rename = "exit", skip_serializing_if = "Vec::is_empty")]
    pub exits: Vec<ExitTable>,
    /// Thresholds that cost little accuracy, when there are exits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Thresholds>,
    /// What every exit said of every sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// By part, and within one along the network: what crosses a cut.
    #[serde(default, rename = "cut", skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<CutTable>,
}

/// One branch of a semantic variant.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BranchTable {
    /// Its file.
    pub file: String,
    /// Multiply-accumulates of one sample.
    pub macs: u64,
    /// Bytes of its weights.
    pub parameter_bytes: u64,
    /// Memory that the engine takes for it, measured.
    pub memory_bytes: u64,
    /// Engine time.
    pub latency: Latency,
}

/// One exit, or the network's end.
///
/// Confidence is the largest element of the softmax of the scores, after whatever calibration the head
/// has. It is sorted into bins: bin `b` holds `edges[b - 1] <= c < edges[b]`, the first from 0 and the
/// last to 1. Edges are quantiles, so that bins are even where confidences differ.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExitTable {
    /// Its name in the package, or [`FINAL`].
    pub name: String,
    /// The output that holds its scores.
    pub output: String,
    /// Multiply-accumulates of one sample up to it, its own head and those before included.
    pub macs: u64,
    /// Multiply-accumulates of its head alone: what would not be computed without it.
    pub head_macs: u64,
    /// Engine time up to it, its own head and those before included.
    pub latency: Latency,
    /// Share of correct answers if every sample left here.
    pub top1: f64,
    /// Inner edges of the bins, ascending: one fewer than bins.
    pub edges: Vec<f64>,
    /// Share of the samples in each bin; they sum to 1.
    pub share: Vec<f64>,
    /// Share of correct answers among those in each bin; 0 in an empty one.
    pub correct: Vec<f64>,
    /// Row by bin here, column by bin of the next exit: share of the samples here that are there then.
    /// Rows sum to 1; an empty bin has the next exit's shares. Empty at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<Vec<f64>>,
}

/// Thresholds chosen on the measured samples, without regard to load.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Most accuracy that they may cost against the network's end, two standard errors to spare.
    pub tolerance: f64,
    /// The same for every exit.
    pub common: Setting,
    /// One for each exit.
    pub each: Setting,
}

/// Thresholds and what they lead to.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Smallest confidence at which each exit answers, the end left out; 1.01 for never.
    pub thresholds: Vec<f32>,
    /// Share of correct answers.
    pub top1: f64,
    /// Mean multiply-accumulates as a share of those of the whole, all heads included.
    pub macs_share: f64,
    /// Share of the samples that leave at each exit, the end last.
    pub leave: Vec<f64>,
    /// Accuracy when thresholds are chosen on one half of the samples and tried on the other, mean of both
    /// ways: what to expect of new samples.
    pub held_out_top1: f64,
    /// Share of multiply-accumulates, tried in the same way.
    pub held_out_macs_share: f64,
}

/// A file of measurements.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its name in the folder.
    pub file: String,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

/// What crosses one boundary between segments.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CutTable {
    /// Number of the part; 0 for a whole variant.
    #[serde(default)]
    pub part: u32,
    /// Number of layers, in the graph's canonical order, before the boundary; 0 is the input.
    pub position: u64,
    /// Names of the tensors that later layers need.
    pub tensors: Vec<String>,
    /// Bytes of them, as they are.
    pub raw_bytes: u64,
    /// Multiply-accumulates before the boundary.
    pub macs_before: u64,
    /// Samples that the codecs were measured on.
    pub samples: u64,
    /// Accuracy on the same samples without any codec, to compare with.
    pub top1: f64,
    /// By name of the codec.
    #[serde(default, rename = "codec")]
    pub codecs: Vec<CodecTable>,
}

/// One codec at one cut.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CodecTable {
    /// Its name; `picture` at the input is the picture's own file instead of the tensor.
    pub name: String,
    /// Bytes of one sample on the link, mean.
    pub bytes: f64,
    /// The same, 95th percentile.
    pub bytes_p95: u64,
    /// Share of correct answers of the variant when this cut's tensors went through the codec: first half,
    /// encode, decode, second half.
    pub top1: f64,
    /// Time to encode one sample, mean, in seconds.
    pub encode: f64,
    /// Time to decode one sample, mean, in seconds.
    pub decode: f64,
}

impl Tables {
    /// The table of that variant.
    #[must_use]
    pub fn variant(&self, name: &str) -> Option<&VariantTable> {
        self.variants.iter().find(|variant| variant.name == name)
    }

    /// By variant: the file that says what each exit said.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&str, &Record)> {
        self.variants.iter().filter_map(|variant| {
            let record = variant.record.as_ref()?;
            Some((variant.name.as_str(), record))
        })
    }

    /// Gives the package's variants the measured accuracy, and the exits named in `open` the recommended
    /// thresholds.
    pub(crate) fn apply(&self, package: &mut Package, open: &BTreeMap<String, Vec<usize>>) {
        for variant in &mut package.variants {
            let Some(table) = self.variant(&variant.name) else {
                continue;
            };
            variant.accuracy = Some(Accuracy {
                top1: table.top1,
                samples: self.data.samples,
                dataset: self.data.name.clone(),
                dataset_sha256: self.data.sha256.clone(),
            });
            let Some(thresholds) = &table.thresholds else {
                continue;
            };
            for &at in open.get(&variant.name).into_iter().flatten() {
                let threshold = thresholds.each.thresholds.get(at);
                if let (Some(exit), Some(&threshold)) = (variant.exits.get_mut(at), threshold) {
                    exit.threshold = threshold.min(NEVER);
                }
            }
        }
    }
}

impl VariantTable {
    /// The cut of a part at a position.
    #[must_use]
    pub fn cut(&self, part: usize, position: usize) -> Option<&CutTable> {
        let is_it = |cut: &&CutTable| (cut.part as usize, cut.position) == (part, position as u64);
        self.cuts.iter().find(is_it)
    }
}

impl CutTable {
    /// The codec of that name.
    #[must_use]
    pub fn codec(&self, name: &str) -> Option<&CodecTable> {
        self.codecs.iter().find(|codec| codec.name == name)
    }
}

impl ExitTable {
    /// The bin of a confidence.
    #[must_use]
    pub fn bin(&self, confidence: f64) -> usize {
        self.edges.partition_point(|&edge| edge <= confidence)
    }
}
