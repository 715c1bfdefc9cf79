//! A bare ONNX file as a package with one variant, `base`.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use splitplace_graph::Element;

use super::{Package, Part, TensorSpec, Variant, VariantKind, manifest::check_name};
use crate::{
    Error, Limits, Model, Result,
    shapes::{self, onnx_element},
};

/// The name under which a bare ONNX file is served: its stem in lower case, with a dash for what no
/// name may hold. `None` for a path that names no file.
#[must_use]
pub fn bare_name(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy().to_lowercase();
    let name = stem.chars().map(|letter| {
        if letter.is_ascii_alphanumeric() || "._-".contains(letter) {
            letter
        } else {
            '-'
        }
    });
    Some(name.collect())
}

pub(super) fn open(path: &Path, limits: &Limits) -> Result<Package> {
    let model = Model::open(path, limits)?;
    let name = bare_name(path).unwrap_or_default();
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
    Ok(Package {
        name,
        version: "1".into(),
        description: format!("imported from {}", part.file),
        licence: String::new(),
        default_sla: Duration::from_secs(1),
        inputs,
        outputs,
        preprocess: None,
        variants: vec![Variant {
            name: "base".into(),
            kind: VariantKind::Whole,
            technique: None,
            merge: None,
            parts: vec![part],
            exits: Vec::new(),
            accuracy: None,
            exit_policy: None,
            loss_target: None,
        }],
        tables: None,
        manifest: String::new(),
        tables_text: String::new(),
        records: Vec::new(),
    })
}
