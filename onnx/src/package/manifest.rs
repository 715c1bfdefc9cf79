//! Reading `package.toml`: its keys as they are written, and what they have to fulfil.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
    time::Duration,
};

use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use splitplace_graph::Element;

use super::{
    Accuracy, Exit, Merge, NEVER, PARTS_LIMIT, Part, Preprocess, Technique, TensorSpec, Variant,
    VariantKind,
};
use crate::{Error, Result};

type Said<T> = std::result::Result<T, String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) package: Head,
    #[serde(default)]
    input: Vec<Port>,
    #[serde(default)]
    output: Vec<Port>,
    preprocess: Option<Preprocess>,
    #[serde(default)]
    variant: Vec<RawVariant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) name: String,
    pub(super) version: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) licence: String,
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
    technique: Option<String>,
    merge: Option<String>,
    missing_score: Option<f32>,
    #[serde(default)]
    part: Vec<RawPart>,
    #[serde(default)]
    exit: Vec<RawExit>,
    accuracy: Option<Accuracy>,
    exit_policy: Option<String>,
    loss_target: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPart {
    file: String,
    sha256: String,
    #[serde(default)]
    classes: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExit {
    name: String,
    output: String,
    threshold: Option<f32>,
}

/// What a manifest says, checked, its files read.
pub(super) struct Contents {
    pub(super) default_sla: Duration,
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) outputs: Vec<TensorSpec>,
    pub(super) preprocess: Option<Preprocess>,
    pub(super) variants: Vec<Variant>,
    /// By variant: the exits, by position, whose threshold the manifest leaves open.
    pub(super) open: BTreeMap<String, Vec<usize>>,
}

/// Checks everything but the head's texts; `wrong` makes an error of a reason.
pub(super) fn read(
    raw: Manifest,
    content: &impl Fn(&str) -> Result<Bytes>,
    wrong: &impl Fn(String) -> Error,
) -> Result<Contents> {
    let sla = raw.package.default_sla_ms / 1e3;
    let default_sla = Duration::try_from_secs_f64(sla)
        .ok()
        .filter(|sla| !sla.is_zero() && *sla <= Duration::from_secs(86_400))
        .ok_or_else(|| wrong("default_sla_ms must be above 0 and at most a day".into()))?;
    let ports = |ports: Vec<Port>| {
        let specs = ports
            .into_iter()
            .map(|port| tensor_spec(port).map_err(wrong));
        specs.collect::<Result<Vec<_>>>()
    };
    let (inputs, outputs) = (ports(raw.input)?, ports(raw.output)?);
    if inputs.is_empty() || outputs.is_empty() {
        return Err(wrong(
            "it needs at least one [[input]] and one [[output]]".into(),
        ));
    }
    if let Some(preprocess) = &raw.preprocess {
        preprocess
            .check(&inputs)
            .map_err(|reason| wrong(format!("[preprocess]: {reason}")))?;
    }
    if raw.variant.is_empty() || PARTS_LIMIT < raw.variant.len() {
        return Err(wrong(format!(
            "it needs between 1 and {PARTS_LIMIT} [[variant]]s"
        )));
    }
    let mut names = BTreeSet::new();
    let mut variants = Vec::new();
    let mut open = BTreeMap::new();
    for variant in raw.variant {
        if !names.insert(variant.name.clone()) {
            return Err(wrong(format!("variant '{}' is there twice", variant.name)));
        }
        check_name(&variant.name).map_err(wrong)?;
        let left = (0..variant.exit.len()).filter(|&at| variant.exit[at].threshold.is_none());
        open.insert(variant.name.clone(), left.collect());
        variants.push(read_variant(variant, &outputs, content, wrong)?);
    }
    Ok(Contents {
        default_sla,
        inputs,
        outputs,
        preprocess: raw.preprocess,
        variants,
        open,
    })
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
    let technique = match raw.technique.as_deref() {
        None => None,
        Some(label) => Some(Technique::from_label(label).ok_or_else(|| {
            let known: Vec<_> = Technique::ALL.iter().map(|t| t.label()).collect();
            of(format!(
                "technique \"{label}\" is unknown; known are {}",
                known.join(", ")
            ))
        })?),
    };
    let merge = merge(&raw, kind).map_err(of)?;
    let count = raw.part.len();
    if count == 0 || PARTS_LIMIT < count || (kind == VariantKind::Whole && count != 1) {
        return Err(of(format!(
            "it has {count} parts; whole needs 1, semantic 1 to {PARTS_LIMIT}"
        )));
    }
    if kind == VariantKind::Semantic {
        check_classes(&raw.part, outputs).map_err(of)?;
    }
    let exits = exits(&raw, kind, outputs).map_err(of)?;
    let is_controlled = raw.exit_policy.is_some() || raw.loss_target.is_some();
    if is_controlled && exits.is_empty() {
        return Err(of("exit_policy and loss_target need exits".into()));
    }
    if raw
        .loss_target
        .is_some_and(|target| !(0.0 < target && target < 1.0))
    {
        return Err(of(
            "loss_target must be a share of requests, above 0 and below 1".into(),
        ));
    }
    let mut parts = Vec::new();
    for part in raw.part {
        check_file(&part.file).map_err(of)?;
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
        technique,
        merge,
        parts,
        exits,
        accuracy: raw.accuracy.clone(),
        exit_policy: raw.exit_policy,
        loss_target: raw.loss_target,
    })
}

fn merge(raw: &RawVariant, kind: VariantKind) -> Said<Option<Merge>> {
    match (kind, raw.merge.as_deref()) {
        (VariantKind::Whole, None) => Ok(None),
        (VariantKind::Whole, Some(_)) => Err("a whole variant has nothing to merge".into()),
        (VariantKind::Semantic, Some("log-odds")) => {
            let missing_score = raw.missing_score.unwrap_or(-4.0);
            if !missing_score.is_finite() {
                return Err("missing_score must be finite".into());
            }
            Ok(Some(Merge::LogOdds { missing_score }))
        }
        (VariantKind::Semantic, other) => {
            Err(format!("merge {other:?} is unknown; known is \"log-odds\""))
        }
    }
}

fn check_classes(parts: &[RawPart], outputs: &[TensorSpec]) -> Said<()> {
    let classes = match outputs {
        [only] => only.shape.last().copied().unwrap_or(0),
        _ => return Err("a semantic variant needs exactly one output".into()),
    };
    let mut seen = BTreeSet::new();
    for &class in parts.iter().flat_map(|part| &part.classes) {
        if classes <= i64::from(class) || !seen.insert(class) {
            return Err(format!("class {class} is there twice or beyond {classes}"));
        }
    }
    if i64::try_from(seen.len()) != Ok(classes) {
        return Err(format!(
            "its branches name {} of {classes} classes",
            seen.len()
        ));
    }
    Ok(())
}

fn exits(raw: &RawVariant, kind: VariantKind, outputs: &[TensorSpec]) -> Said<Vec<Exit>> {
    if raw.exit.is_empty() {
        return Ok(Vec::new());
    }
    if kind != VariantKind::Whole || outputs.len() != 1 {
        return Err("exits need a whole variant of a package with exactly one output".into());
    }
    if PARTS_LIMIT < raw.exit.len() {
        return Err(format!(
            "it has {} exits, more than {PARTS_LIMIT}",
            raw.exit.len()
        ));
    }
    let mut seen: BTreeSet<&str> = BTreeSet::from([outputs[0].name.as_str()]);
    let mut names: BTreeSet<&str> = BTreeSet::from(["final"]);
    let mut exits = Vec::new();
    for exit in &raw.exit {
        check_name(&exit.name)?;
        if !names.insert(&exit.name) {
            return Err(format!(
                "exit '{}' is there twice, or is named as the network's end is",
                exit.name
            ));
        }
        if exit.output.is_empty() || !seen.insert(&exit.output) {
            return Err(format!(
                "exit '{}' needs an output of its own, '{}' is taken",
                exit.name, exit.output
            ));
        }
        let threshold = exit.threshold.unwrap_or(NEVER);
        if !(0.0 < threshold && threshold <= NEVER) {
            return Err(format!(
                "the threshold of exit '{}' must lie above 0 and be at most {NEVER}",
                exit.name
            ));
        }
        exits.push(Exit {
            name: exit.name.clone(),
            output: exit.output.clone(),
            threshold,
        });
    }
    Ok(exits)
}

fn tensor_spec(port: Port) -> Said<TensorSpec> {
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

/// A file's name must keep it inside the package.
pub(crate) fn check_file(file: &str) -> Said<()> {
    let stays = !file.is_empty()
        && Path::new(file)
            .components()
            .all(|c| matches!(c, Component::Normal(_)));
    match stays {
        true => Ok(()),
        false => Err(format!("file '{file}' lies outside the package")),
    }
}

pub(super) fn check_name(name: &str) -> Said<()> {
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

/// 64 hexadecimal digits as bytes.
pub(crate) fn parse_hash(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
