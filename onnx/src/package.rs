//! A model package: a folder with several ways to run one network, or a bare ONNX file.
//!
//! `package.toml` names the interface, the variants with their files and hashes, and what was
//! measured. It is read whole and checked before anything is believed: unknown keys, paths that leave
//! the folder, files that are not what the manifest says are refused.

use std::{
    collections::BTreeSet,
    path::{Component, Path},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use splitplace_graph::Element;

use crate::{
    Error, Limits, Model, Result,
    model::read_bounded,
    shapes::{self, onnx_element},
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
    /// Ways to run it, at least one.
    pub variants: Vec<Variant>,
    /// The manifest as text; empty for a bare ONNX file.
    pub manifest: String,
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
    /// For a semantic variant.
    pub merge: Option<Merge>,
    /// One for a whole variant, one for each branch of a semantic one.
    pub parts: Vec<Part>,
    /// What was measured, if anything was.
    pub accuracy: Option<Accuracy>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    package: Head,
    #[serde(default)]
    input: Vec<Port>,
    #[serde(default)]
    output: Vec<Port>,
    #[serde(default)]
    variant: Vec<RawVariant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    name: String,
    version: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    licence: String,
    default_sla_ms: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Port {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    labels: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVariant {
    name: String,
    kind: String,
    merge: Option<String>,
    missing_score: Option<f32>,
    #[serde(default)]
    part: Vec<RawPart>,
    accuracy: Option<Accuracy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPart {
    file: String,
    sha256: String,
    #[serde(default)]
    classes: Vec<u32>,
}

/// Largest manifest, in bytes.
const MANIFEST_LIMIT: u64 = 1 << 20;
/// Most variants and most parts of one.
const PARTS_LIMIT: usize = 64;

impl Package {
    /// Opens a folder with `package.toml`, or a bare `.onnx` file.
    ///
    /// # Errors
    /// [`Error::Package`] says what is wrong with the manifest or its files.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        if path.is_dir() {
            let manifest = path.join("package.toml");
            let text = read_bounded(&manifest, MANIFEST_LIMIT).map_err(|source| Error::Io {
                verb: "read",
                path: manifest,
                source,
            })?;
            let text = String::from_utf8(text).map_err(|_| Error::Package {
                path: path.to_owned(),
                reason: "package.toml is not UTF-8".into(),
            })?;
            Self::from_parts(path, &text, |file| {
                let file = path.join(file);
                read_bounded(&file, limits.model_bytes)
                    .map(Bytes::from)
                    .map_err(|source| Error::Io {
                        verb: "read",
                        path: file,
                        source,
                    })
            })
        } else {
            Self::bare(path, limits)
        }
    }

    /// Reads a manifest whose files come from `content`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_parts(
        path: &Path,
        manifest: &str,
        content: impl Fn(&str) -> Result<Bytes>,
    ) -> Result<Self> {
        let wrong = |reason: String| Error::Package {
            path: path.to_owned(),
            reason,
        };
        let raw: Manifest =
            toml::from_str(manifest).map_err(|error| wrong(format!("package.toml: {error}")))?;
        if raw.format != 1 {
            return Err(wrong(format!(
                "its format is {}, this version reads 1",
                raw.format
            )));
        }
        check_name(&raw.package.name).map_err(wrong)?;
        if raw.package.version.parse::<u64>().is_err() {
            return Err(wrong(format!(
                "version \"{}\" is no number",
                raw.package.version
            )));
        }
        let sla = raw.package.default_sla_ms / 1e3;
        let default_sla = Duration::try_from_secs_f64(sla)
            .ok()
            .filter(|sla| !sla.is_zero() && *sla <= Duration::from_secs(86_400))
            .ok_or_else(|| wrong("default_sla_ms must be above 0 and at most a day".into()))?;
        let ports = |ports: Vec<Port>| {
            ports
                .into_iter()
                .map(|port| tensor_spec(port).map_err(wrong))
                .collect::<Result<Vec<_>>>()
        };
        let (inputs, outputs) = (ports(raw.input)?, ports(raw.output)?);
        if inputs.is_empty() || outputs.is_empty() {
            return Err(wrong(
                "it needs at least one [[input]] and one [[output]]".into(),
            ));
        }
        if raw.variant.is_empty() || PARTS_LIMIT < raw.variant.len() {
            return Err(wrong(format!(
                "it needs between 1 and {PARTS_LIMIT} [[variant]]s"
            )));
        }
        let mut names = BTreeSet::new();
        let mut variants = Vec::new();
        for variant in raw.variant {
            if !names.insert(variant.name.clone()) {
                return Err(wrong(format!("variant '{}' is there twice", variant.name)));
            }
            check_name(&variant.name).map_err(wrong)?;
            variants.push(read_variant(variant, &outputs, &content, &wrong)?);
        }
        Ok(Self {
            name: raw.package.name,
            version: raw.package.version,
            description: raw.package.description,
            licence: raw.package.licence,
            default_sla,
            inputs,
            outputs,
            variants,
            manifest: manifest.to_owned(),
        })
    }

    /// A bare ONNX file as a package with one variant, `base`.
    fn bare(path: &Path, limits: &Limits) -> Result<Self> {
        let model = Model::open(path, limits)?;
        let name: String = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().to_lowercase())
            .unwrap_or_default()
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "._-".contains(c) {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        check_name(&name).map_err(|reason| Error::Package {
            path: path.to_owned(),
            reason,
        })?;
        let inferred = shapes::infer(&model, limits)?;
        let spec = |name: &str, element: Element, dims: &[u64], is_batched: bool| TensorSpec {
            name: name.to_owned(),
            element,
            shape: dims
                .iter()
                .enumerate()
                .map(|(axis, &dim)| match axis == 0 && is_batched {
                    true => -1,
                    false => i64::try_from(dim).unwrap_or(i64::MAX),
                })
                .collect(),
            labels: Vec::new(),
        };
        let wrong = |name: &str| Error::Package {
            path: path.to_owned(),
            reason: format!("the type of '{name}' is not supported"),
        };
        let mut inputs = Vec::new();
        for input in &model.inputs {
            let element = onnx_element(input.data_type).ok_or_else(|| wrong(&input.name))?;
            inputs.push(spec(&input.name, element, &input.shape, model.is_batched));
        }
        let mut outputs = Vec::new();
        for output in &model.outputs {
            let shape = inferred.get(output).ok_or_else(|| wrong(output))?;
            outputs.push(spec(output, shape.element, &shape.dims, shape.is_batched));
        }
        // External data is inside now: what is served is the whole.
        let content: Bytes = prost::Message::encode_to_vec(&model.proto).into();
        let part = Part {
            file: path
                .file_name()
                .map(|name| name.to_string_lossy().into())
                .unwrap_or_default(),
            sha256: Sha256::digest(&content).into(),
            content,
            classes: Vec::new(),
        };
        Ok(Self {
            name,
            version: "1".into(),
            description: format!("imported from {}", part.file),
            licence: String::new(),
            default_sla: Duration::from_secs(1),
            inputs,
            outputs,
            variants: vec![Variant {
                name: "base".into(),
                kind: VariantKind::Whole,
                merge: None,
                parts: vec![part],
                accuracy: None,
            }],
            manifest: String::new(),
        })
    }
}

fn read_variant(
    raw: RawVariant,
    outputs: &[TensorSpec],
    content: &impl Fn(&str) -> Result<Bytes>,
    wrong: &impl Fn(String) -> Error,
) -> Result<Variant> {
    let of = |reason: String| wrong(format!("variant '{}': {reason}", raw.name));
    let kind = match raw.kind.as_str() {
        "whole" => VariantKind::Whole,
        "semantic" => VariantKind::Semantic,
        other => {
            return Err(of(format!(
                "kind \"{other}\" is unknown; known are whole, semantic"
            )));
        }
    };
    let merge = match (kind, raw.merge.as_deref()) {
        (VariantKind::Whole, None) => None,
        (VariantKind::Whole, Some(_)) => {
            return Err(of("a whole variant has nothing to merge".into()));
        }
        (VariantKind::Semantic, Some("log-odds")) => {
            let missing_score = raw.missing_score.unwrap_or(-4.0);
            if !missing_score.is_finite() {
                return Err(of("missing_score must be finite".into()));
            }
            Some(Merge::LogOdds { missing_score })
        }
        (VariantKind::Semantic, other) => {
            return Err(of(format!(
                "merge {other:?} is unknown; known is \"log-odds\""
            )));
        }
    };
    let count = raw.part.len();
    if count == 0 || PARTS_LIMIT < count || (kind == VariantKind::Whole && count != 1) {
        return Err(of(format!(
            "it has {count} parts; whole needs 1, semantic 1 to {PARTS_LIMIT}"
        )));
    }
    if kind == VariantKind::Semantic {
        let classes = match outputs {
            [only] => only.shape.last().copied().unwrap_or(0),
            _ => return Err(of("a semantic variant needs exactly one output".into())),
        };
        let mut seen = BTreeSet::new();
        for &class in raw.part.iter().flat_map(|part| &part.classes) {
            if classes <= i64::from(class) || !seen.insert(class) {
                return Err(of(format!(
                    "class {class} is there twice or beyond {classes}"
                )));
            }
        }
        if i64::try_from(seen.len()) != Ok(classes) {
            return Err(of(format!(
                "its branches name {} of {classes} classes",
                seen.len()
            )));
        }
    }
    let mut parts = Vec::new();
    for part in raw.part {
        let stays = !part.file.is_empty()
            && Path::new(&part.file)
                .components()
                .all(|c| matches!(c, Component::Normal(_)));
        if !stays {
            return Err(of(format!("file '{}' lies outside the package", part.file)));
        }
        let named = parse_hash(&part.sha256).ok_or_else(|| {
            of(format!(
                "sha256 of '{}' is not 64 hexadecimal digits",
                part.file
            ))
        })?;
        let bytes = content(&part.file)?;
        let found: [u8; 32] = Sha256::digest(&bytes).into();
        if found != named {
            return Err(of(format!(
                "file '{}' is not the one that was measured (its hash differs from the manifest); \
                 restore it, or measure the package anew",
                part.file
            )));
        }
        parts.push(Part {
            file: part.file,
            sha256: found,
            content: bytes,
            classes: part.classes,
        });
    }
    if let Some(accuracy) = &raw.accuracy
        && !(0.0..=1.0).contains(&accuracy.top1)
    {
        return Err(of("accuracy.top1 must lie between 0 and 1".into()));
    }
    Ok(Variant {
        name: raw.name.clone(),
        kind,
        merge,
        parts,
        accuracy: raw.accuracy.clone(),
    })
}

fn tensor_spec(port: Port) -> std::result::Result<TensorSpec, String> {
    let element = Element::from_label(&port.datatype).ok_or_else(|| {
        format!(
            "datatype \"{}\" of '{}' is unknown",
            port.datatype, port.name
        )
    })?;
    let is_sound = port
        .shape
        .iter()
        .enumerate()
        .all(|(axis, &dim)| 0 < dim || (axis == 0 && dim == -1));
    if !is_sound {
        return Err(format!(
            "shape {:?} of '{}' may have -1 first only",
            port.shape, port.name
        ));
    }
    Ok(TensorSpec {
        name: port.name,
        element,
        shape: port.shape,
        labels: port.labels,
    })
}

fn check_name(name: &str) -> std::result::Result<(), String> {
    let first = name
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c));
    if first && rest && name.len() <= 63 {
        Ok(())
    } else {
        Err(format!(
            "\"{name}\" is no name: lower-case letters, digits, '.', '_' and '-', at most 63, \
             beginning with a letter or digit"
        ))
    }
}

fn parse_hash(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}
