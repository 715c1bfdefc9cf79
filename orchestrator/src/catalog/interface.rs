//! Whether the parts of a package take and give what the package promises, and the promise in the
//! words of the inference API.

use std::collections::BTreeMap;

use splitplace_graph::{Element, Graph, OutletId};
use splitplace_link::dtype;
use splitplace_onnx::package::{Package, Part, TensorSpec, Variant, VariantKind};

use super::CatalogError;
use crate::face::TensorFacts;

/// Compares a part's graph with the package's interface.
pub(super) fn check(
    package: &Package,
    variant: &Variant,
    part: &Part,
    graph: &Graph,
) -> Result<(), CatalogError> {
    let wrong = |reason: String| CatalogError::Interface {
        variant: variant.name.clone(),
        file: part.file.clone(),
        reason,
    };
    let find = |ids: &[OutletId], name: &str| {
        let outlets = ids.iter().map(|&id| graph.outlet(id));
        outlets.into_iter().find(|outlet| outlet.name == name)
    };
    for input in graph.inputs() {
        let name = &graph.outlet(*input).name;
        if !package.inputs.iter().any(|spec| spec.name == *name) {
            return Err(wrong(format!(
                "it wants input '{name}', which the package has not"
            )));
        }
    }
    for spec in &package.inputs {
        let outlet = find(graph.inputs(), &spec.name)
            .ok_or_else(|| wrong(format!("it does not take input '{}'", spec.name)))?;
        let shape = sample_shape(spec);
        compare(
            &spec.name,
            (spec.element, &shape),
            (outlet.element, &outlet.shape),
        )
        .map_err(wrong)?;
    }
    for spec in &package.outputs {
        let outlet = find(graph.outputs(), &spec.name)
            .ok_or_else(|| wrong(format!("it does not give output '{}'", spec.name)))?;
        let mut shape = sample_shape(spec);
        if variant.kind == VariantKind::Semantic
            && let Some(last) = shape.last_mut()
        {
            *last = part.classes.len() as u64;
        }
        compare(
            &spec.name,
            (spec.element, &shape),
            (outlet.element, &outlet.shape),
        )
        .map_err(wrong)?;
    }
    package.check_exits(variant, graph).map_err(wrong)
}

fn compare(
    name: &str,
    promised: (Element, &[u64]),
    found: (Element, &[u64]),
) -> Result<(), String> {
    if promised == found {
        return Ok(());
    }
    Err(format!(
        "'{name}' is {} {:?} for one sample, where the package promises {} {:?}",
        found.0, found.1, promised.0, promised.1
    ))
}

/// Shape of one sample.
fn sample_shape(spec: &TensorSpec) -> Vec<u64> {
    let dims = spec.shape.iter();
    dims.map(|&dim| u64::try_from(dim).unwrap_or(1)).collect()
}

/// The tensor as the inference API shows it.
pub(super) fn facts(spec: &TensorSpec) -> TensorFacts {
    TensorFacts {
        name: spec.name.clone(),
        dtype: dtype(spec.element),
        shape: spec.shape.clone(),
        labels: spec.labels.clone(),
    }
}

/// What people may want to know of a package.
pub(super) fn properties(package: &Package) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for (key, value) in [
        ("description", &package.description),
        ("licence", &package.licence),
    ] {
        if !value.is_empty() {
            properties.insert(key.to_owned(), value.clone());
        }
    }
    for variant in &package.variants {
        let (name, parts) = (&variant.name, variant.parts.len());
        let kind = match variant.kind {
            VariantKind::Whole => "whole".to_owned(),
            VariantKind::Semantic => format!("semantic, {parts} branches"),
        };
        properties.insert(format!("variant.{name}.kind"), kind);
        if let Some(accuracy) = &variant.accuracy {
            let text = format!(
                "{:.4} top-1 on {} samples of {}",
                accuracy.top1, accuracy.samples, accuracy.dataset
            );
            properties.insert(format!("variant.{name}.accuracy"), text);
        }
    }
    properties
}
