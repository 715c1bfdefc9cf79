//! What every tensor of a model looks like, as the engine's own shape inference sees it.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use splitplace_graph::Element;
use tract_onnx::{
    prelude::{DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt},
    tract_core::internal::anyhow,
    tract_hir::infer::Factoid,
};

use crate::{Error, Model, Result, kernels, model::Limits};

/// Element type and shape of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Type of its elements.
    pub element: Element,
    /// Shape for one sample.
    pub dims: Vec<u64>,
    /// Whether the first dimension grows with the batch.
    pub is_batched: bool,
}

/// Infers the shape of every tensor that the engine can tell, by name.
///
/// Inference runs for one sample and, when the model is batched, for two: what doubles is the batch.
///
/// # Errors
/// [`Error::Engine`] when the engine does not know the model's operators or refuses its shapes.
pub fn infer(model: &Model, limits: &Limits) -> Result<BTreeMap<String, Shape>> {
    let one = infer_for(model, 1)?;
    let two = if model.is_batched {
        infer_for(model, 2)?
    } else {
        BTreeMap::new()
    };
    let mut shapes = BTreeMap::new();
    for (name, (element, dims)) in one {
        let elements = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        if elements.is_none_or(|elements| limits.tensor_elements < elements) {
            return Err(Error::Malformed {
                what: model.name.clone(),
                reason: format!("tensor '{name}' has the absurd shape {dims:?}"),
            });
        }
        let is_batched = two.get(&name).is_some_and(|(_, more)| {
            more.len() == dims.len() && more.first() == dims.first().map(|d| d * 2).as_ref()
        });
        shapes.insert(
            name,
            Shape {
                element,
                dims,
                is_batched,
            },
        );
    }
    Ok(shapes)
}

fn infer_for(model: &Model, batch: u64) -> Result<BTreeMap<String, (Element, Vec<u64>)>> {
    guarded(&model.name, "load", || {
        let mut inference = parse(model, batch)?;
        if let Some(node) = inference
            .nodes()
            .iter()
            .find(|node| is_unknown(node.op.name().as_ref()))
        {
            let operator = model
                .nodes()
                .iter()
                .find(|known| known.name == node.name)
                .map_or("?", |known| known.op_type.as_str());
            return Err(anyhow!(
                "node '{}': operator {operator} is unknown",
                node.name
            ));
        }
        inference.analyse(true)?;
        let mut found = BTreeMap::new();
        for node in inference.nodes() {
            for (slot, output) in node.outputs.iter().enumerate() {
                let outlet = tract_onnx::prelude::OutletId::new(node.id, slot);
                let name = inference
                    .outlet_label(outlet)
                    .map_or_else(|| node.name.clone(), ToOwned::to_owned);
                let Some(kind) = output.fact.datum_type.concretize() else {
                    continue;
                };
                let (Some(element), Some(shape)) = (element(kind), output.fact.shape.concretize())
                else {
                    continue;
                };
                let dims: Option<Vec<u64>> = shape
                    .iter()
                    .map(|dim| dim.to_i64().ok().and_then(|dim| u64::try_from(dim).ok()))
                    .collect();
                if let Some(dims) = dims {
                    found.insert(name, (element, dims));
                }
            }
        }
        Ok(found)
    })
}

/// The engine's stand-in for what it does not know.
fn is_unknown(operator: &str) -> bool {
    operator.starts_with("Unimplemented")
}

/// The engine's model with every input fixed to `batch` samples.
pub(crate) fn parse(model: &Model, batch: u64) -> tract_onnx::prelude::TractResult<InferenceModel> {
    kernels::choose();
    let onnx = tract_onnx::onnx()
        .with_ignore_value_info(true)
        .with_ignore_output_shapes(true);
    let mut inference = onnx.model_for_proto_model(&model.proto)?;
    let names: Vec<String> = inference
        .input_outlets()?
        .iter()
        .map(|outlet| inference.node(outlet.node).name.clone())
        .collect();
    for (index, name) in names.iter().enumerate() {
        let Some(input) = model.inputs.iter().find(|input| input.name == *name) else {
            continue;
        };
        let mut shape: Vec<usize> = input
            .shape
            .iter()
            .map(|&d| usize::try_from(d).unwrap_or(usize::MAX))
            .collect();
        if model.is_batched
            && let Some(first) = shape.first_mut()
        {
            *first = usize::try_from(batch).unwrap_or(1);
        }
        let kind = datum_type(input.data_type)
            .ok_or_else(|| anyhow!("input '{name}' has an unsupported type"))?;
        inference.set_input_fact(index, InferenceFact::dt_shape(kind, shape))?;
    }
    for index in 0..inference.output_outlets()?.len() {
        inference.set_output_fact(index, InferenceFact::default())?;
    }
    Ok(inference)
}

/// Runs the engine; a panic inside it becomes an error, since its input is not ours.
pub(crate) fn guarded<T>(
    what: &str,
    verb: &'static str,
    run: impl FnOnce() -> tract_onnx::prelude::TractResult<T>,
) -> Result<T> {
    let failed = |reason: String| Error::Engine {
        what: what.to_owned(),
        verb,
        reason,
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(format!("{error:#}"))),
        Err(panic) => {
            let said = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
                .unwrap_or_else(|| "it panicked".to_owned());
            Err(failed(said))
        }
    }
}

/// The graph's word for an engine type.
pub(crate) fn element(kind: DatumType) -> Option<Element> {
    Some(match kind.unquantized() {
        DatumType::Bool => Element::Bool,
        DatumType::U8 => Element::U8,
        DatumType::U16 => Element::U16,
        DatumType::U32 => Element::U32,
        DatumType::U64 => Element::U64,
        DatumType::I8 => Element::I8,
        DatumType::I16 => Element::I16,
        DatumType::I32 => Element::I32,
        // Shape arithmetic is done in the engine's own integer type and leaves as 64 bits.
        DatumType::I64 | DatumType::TDim => Element::I64,
        DatumType::F16 => Element::F16,
        DatumType::F32 => Element::F32,
        DatumType::F64 => Element::F64,
        _ => return None,
    })
}

/// The engine's word for a type of the graph.
pub(crate) const fn kind(element: Element) -> DatumType {
    match element {
        Element::Bool => DatumType::Bool,
        Element::U8 => DatumType::U8,
        Element::U16 => DatumType::U16,
        Element::U32 => DatumType::U32,
        Element::U64 => DatumType::U64,
        Element::I8 => DatumType::I8,
        Element::I16 => DatumType::I16,
        Element::I32 => DatumType::I32,
        Element::I64 => DatumType::I64,
        Element::F16 => DatumType::F16,
        Element::F32 => DatumType::F32,
        Element::F64 => DatumType::F64,
    }
}

/// ONNX's number for a type of the graph.
pub(crate) const fn onnx_type(element: Element) -> i32 {
    match element {
        Element::F32 => 1,
        Element::U8 => 2,
        Element::I8 => 3,
        Element::U16 => 4,
        Element::I16 => 5,
        Element::I32 => 6,
        Element::I64 => 7,
        Element::Bool => 9,
        Element::F16 => 10,
        Element::F64 => 11,
        Element::U32 => 12,
        Element::U64 => 13,
    }
}

/// The graph's word for ONNX's number.
pub(crate) fn onnx_element(data_type: i32) -> Option<Element> {
    Element::ALL
        .into_iter()
        .find(|&element| onnx_type(element) == data_type)
}

fn datum_type(data_type: i32) -> Option<DatumType> {
    onnx_element(data_type).map(kind)
}
