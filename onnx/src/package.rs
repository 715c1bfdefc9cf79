//! A model package: a folder with several ways to run one network, or a bare ONNX file.
//!
//! `package.toml` names the interface, the variants with their files and hashes; `measured.toml` beside
//! it, when it is there, holds what was measured on them. Both are read whole and checked before anything
//! is believed: unknown keys, paths that leave the folder, files that are not what the manifest says,
//! tables that were measured on other files are refused.
//!
//! Reading order: the types here, `manifest`, `merge`, [`preprocess`], [`crate::tables`], `bare`, `write`.

mod bare;
pub(crate) mod manifest;
mod merge;
pub mod preprocess;
#[cfg(test)]
mod tests;
pub(crate) mod write;

use std::{path::Path, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use splitplace_graph::{Element, Graph};

pub use self::bare::bare_name;
pub use self::merge::{best, confidence};
pub use self::preprocess::{Channels, Layout, PictureLimits, Preprocess, Resize};
use crate::{
    Error, Limits, Result,
    model::read_bounded,
    tables::{self, ExitRecord, Tables},
};

/// A package, its files read and verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Package {
    /// Name under which it is served.
    pub name: String,
    /// Decimal number as text, as the inference protocol has it.
    pub version: String,
    /// For people.
    pub description: String,
    /// Of weights and labels.
    pub licence: String,
    /// What is promised when the client says nothing.
    pub default_sla: Duration,
    /// As the client sends them.
    pub inputs: Vec<TensorSpec>,
    /// As the client gets them.
    pub outputs: Vec<TensorSpec>,
    /// How an encoded picture becomes an input, when clients may send one.
    pub preprocess: Option<Preprocess>,
    /// Ways to run it, at least one.
    pub variants: Vec<Variant>,
    /// What was measured, if anything was.
    pub tables: Option<Tables>,
    /// The manifest as text; empty for a bare ONNX file.
    pub manifest: String,
    /// The tables as text; empty when nothing was measured.
    pub tables_text: String,
    /// Files that the tables name beside the variants' parts.
    pub records: Vec<RecordFile>,
}

/// A file of measurements, by the variant that it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordFile {
    /// Name of the variant.
    pub variant: String,
    /// Its name in the folder.
    pub file: String,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
    /// What it says.
    pub content: Bytes,
}

/// A tensor of the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub element: Element,
    /// Shape; -1 first for the batch.
    pub shape: Vec<i64>,
    /// Names of the classes, for scores.
    pub labels: Vec<String>,
}

/// How a variant runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VariantKind {
    /// One model, which may also run as a chain of fragments.
    Whole,
    /// Parallel branches over class groups.
    Semantic,
}

/// By what a variant was made smaller or faster than the network that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Technique {
    /// Weights and activations in eight bits.
    Int8,
    /// Channels or weights taken away.
    Pruned,
    /// A smaller network that learned from the larger one.
    Student,
    /// A learned encoder and decoder around a narrow cut.
    Bottleneck,
}

impl Technique {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Int8, Self::Pruned, Self::Student, Self::Bottleneck];

    /// Its word in manifests.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Pruned => "pruned",
            Self::Student => "student",
            Self::Bottleneck => "bottleneck",
        }
    }

    /// The technique of that word.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|technique| technique.label() == label)
    }
}

/// How the branches of a semantic variant become one answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Merge {
    /// Each branch gives one log-odds score for each class of its group; they are put in class order.
    LogOdds {
        /// Score of a class whose branch did not answer in time.
        missing_score: f32,
    },
}

/// One way to run the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Its name, unique in the package.
    pub name: String,
    /// How it runs.
    pub kind: VariantKind,
    /// By what it was made smaller or faster, if it was.
    pub technique: Option<Technique>,
    /// For a semantic variant.
    pub merge: Option<Merge>,
    /// One for a whole variant, one for each branch of a semantic one.
    pub parts: Vec<Part>,
    /// Heads that may answer early, in order along the network; the network's end is none of them.
    pub exits: Vec<Exit>,
    /// What was measured, if anything was: the tables' word before the manifest's.
    pub accuracy: Option<Accuracy>,
    /// By what the exits should decide in the place of their thresholds.
    pub exit_policy: Option<String>,
    /// Share of the requests that may be lost for want of room while they do.
    pub loss_target: Option<f64>,
}

/// The threshold that no confidence reaches: an exit that has it never answers.
pub const NEVER: f32 = 1.01;

/// A head that may answer before the network's end.
///
/// Its scores have the type and, for one sample, the shape of the package's only output. Its confidence
/// is the largest element of their softmax.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// Its name, unique in the variant; `final` is the network's end.
    pub name: String,
    /// The output of the variant's ONNX file that holds its scores.
    pub output: String,
    /// Smallest confidence at which it answers, above 0 and at most [`NEVER`]. The manifest's word; where
    /// the manifest leaves it open, what `measured.toml` recommends for each exit; else [`NEVER`].
    pub threshold: f32,
}

/// One ONNX file.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its name in the folder.
    pub file: String,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
    /// Its content, external data not resolved.
    pub content: Bytes,
    /// For a branch: the classes that its scores belong to.
    pub classes: Vec<u32>,
}

/// A measured share of correct answers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Accuracy {
    /// Share in `[0, 1]`.
    pub top1: f64,
    /// Number of samples.
    pub samples: u64,
    /// Name of the data set.
    pub dataset: String,
    /// Hash of its image file, in hexadecimal.
    #[serde(default)]
    pub dataset_sha256: String,
}

/// Name of the manifest in a package's folder.
pub const MANIFEST_FILE: &str = "package.toml";
/// Largest manifest, in bytes.
const MANIFEST_LIMIT: u64 = 1 << 20;
/// Most variants, and most parts and exits of one.
const PARTS_LIMIT: usize = 64;

impl Package {
    /// Opens a folder with `package.toml`, or a bare `.onnx` file.
    ///
    /// # Errors
    /// [`Error::Package`] says what is wrong with the manifest, its files or its tables.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        Self::open_with(path, limits, true)
    }

    /// As [`open`](Self::open), but whatever was measured is left aside: for measuring it anew.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_unmeasured(path: &Path, limits: &Limits) -> Result<Self> {
        Self::open_with(path, limits, false)
    }

    fn open_with(path: &Path, limits: &Limits, with_tables: bool) -> Result<Self> {
        if !path.is_dir() {
            return bare::open(path, limits);
        }
        let read = |file: &str, limit: u64| {
            let file = path.join(file);
            read_bounded(&file, limit).map_err(|source| Error::Io {
                verb: "read",
                path: file,
                source,
            })
        };
        let text = |file: &str, limit: u64| {
            String::from_utf8(read(file, limit)?).map_err(|_| Error::Package {
                path: path.to_owned(),
                reason: format!("{file} is not UTF-8"),
            })
        };
        let manifest = text(MANIFEST_FILE, MANIFEST_LIMIT)?;
        let measured = match with_tables && path.join(tables::FILE).exists() {
            true => text(tables::FILE, tables::LIMIT)?,
            false => String::new(),
        };
        Self::from_parts(path, &manifest, &measured, |file| {
            read(file, limits.model_bytes).map(Bytes::from)
        })
    }

    /// Reads a manifest and its tables (empty text: none), whose files come from `content`: the
    /// variants' parts, and what the tables name besides. [`files`](Self::files) lists the same.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_parts(
        path: &Path,
        manifest: &str,
        measured: &str,
        content: impl Fn(&str) -> Result<Bytes>,
    ) -> Result<Self> {
        let wrong = |reason: String| Error::Package {
            path: path.to_owned(),
            reason,
        };
        let raw: manifest::Manifest =
            toml::from_str(manifest).map_err(|error| wrong(format!("package.toml: {error}")))?;
        if raw.format != 1 {
            return Err(wrong(format!(
                "its format is {}, this version reads 1",
                raw.format
            )));
        }
        manifest::check_name(&raw.package.name).map_err(wrong)?;
        if raw.package.version.parse::<u64>().is_err() {
            return Err(wrong(format!(
                "version \"{}\" is no number",
                raw.package.version
            )));
        }
        let (name, version) = (raw.package.name.clone(), raw.package.version.clone());
        let (description, licence) = (raw.package.description.clone(), raw.package.licence.clone());
        let contents = manifest::read(raw, &content, &wrong)?;
        let open = contents.open;
        let mut package = Self {
            name,
            version,
            description,
            licence,
            default_sla: contents.default_sla,
            inputs: contents.inputs,
            outputs: contents.outputs,
            preprocess: contents.preprocess,
            variants: contents.variants,
            tables: None,
            manifest: manifest.to_owned(),
            tables_text: String::new(),
            records: Vec::new(),
        };
        if !measured.is_empty() {
            let of = |reason: String| wrong(format!("{}: {reason}", tables::FILE));
            let tables = Tables::from_text(measured).map_err(of)?;
            tables.check_against(&package).map_err(of)?;
            for (variant, record) in tables.records() {
                let bytes = content(&record.file)?;
                let sha256: [u8; 32] = Sha256::digest(&bytes).into();
                if manifest::parse_hash(&record.sha256) != Some(sha256) {
                    return Err(of(format!(
                        "file '{}' is not the one that was written with it; run `splitplace model \
                         measure` again",
                        record.file
                    )));
                }
                package.records.push(RecordFile {
                    variant: variant.to_owned(),
                    file: record.file.clone(),
                    sha256,
                    content: bytes,
                });
            }
            tables.apply(&mut package, &open);
            package.tables = Some(tables);
            measured.clone_into(&mut package.tables_text);
        }
        Ok(package)
    }

    /// Every file that belongs to it beside its two texts, with SHA-256 and content.
    pub fn files(&self) -> impl Iterator<Item = (&str, [u8; 32], &Bytes)> {
        let parts = self.variants.iter().flat_map(|variant| &variant.parts);
        let parts = parts.map(|part| (part.file.as_str(), part.sha256, &part.content));
        let records = self.records.iter();
        parts.chain(records.map(|record| (record.file.as_str(), record.sha256, &record.content)))
    }

    /// What each exit of a variant said of each measured sample, if that was kept.
    ///
    /// # Errors
    /// [`Error::Package`] when the file is damaged.
    pub fn exit_record(&self, variant: &str) -> Result<Option<ExitRecord>> {
        let record = self.records.iter().find(|record| record.variant == variant);
        let Some(record) = record else {
            return Ok(None);
        };
        ExitRecord::from_bytes(&record.content)
            .map(Some)
            .map_err(|reason| Error::Package {
                path: record.file.clone().into(),
                reason,
            })
    }

    /// Whether a variant's exits are what they have to be in the graph of its part: outputs of it, of the
    /// type and shape of the package's only output, one behind the other.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn check_exits(&self, variant: &Variant, graph: &Graph) -> std::result::Result<(), String> {
        let mut before = 0;
        for exit in &variant.exits {
            let found = graph.outputs().iter().map(|&id| graph.outlet(id));
            let outlet = found
                .into_iter()
                .find(|outlet| outlet.name == exit.output)
                .ok_or_else(|| format!("exit '{}' has no output '{}'", exit.name, exit.output))?;
            let Some(scores) = self.outputs.first() else {
                return Err("exits need an output".into());
            };
            let shape = scores.sample_shape();
            if (outlet.element, &outlet.shape) != (scores.element, &shape) {
                return Err(format!(
                    "exit '{}' gives {} {:?} for one sample, where the package promises {} {shape:?}",
                    exit.name, outlet.element, outlet.shape, scores.element
                ));
            }
            let place = outlet.producer.map_or(0, |producer| producer + 1);
            if place <= before {
                return Err(format!(
                    "exit '{}' does not lie behind the exit before it",
                    exit.name
                ));
            }
            before = place;
        }
        Ok(())
    }
}

impl TensorSpec {
    /// Shape of one sample, 1 for the batch.
    #[must_use]
    pub fn sample_shape(&self) -> Vec<u64> {
        let dims = self.shape.iter();
        dims.map(|&dim| u64::try_from(dim).unwrap_or(1)).collect()
    }
}
