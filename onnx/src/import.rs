//! From a checked model to the cost graph.
//!
//! Multiply-accumulates (MACs) are counted where the arithmetic is: convolutions, matrix products and
//! recurrent cells. Element-wise work, pooling and normalisation count nothing, as in the literature
//! that the figures are compared with (Sze et al., *Efficient Processing of Deep Neural Networks*,
//! 2020, §2.3; the same convention as the published figures of MobileNetV2, ResNet and Inception).

use std::collections::{BTreeMap, BTreeSet};

use splitplace_graph::{Cut, Graph, LayerSpec, OutletSpec};
use tract_onnx::pb::{NodeProto, TensorProto};

use crate::{
    Error, Limits, Model, Result,
    shapes::{self, Shape},
};

/// A model with its cost graph.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The model.
    pub model: Model,
    /// What it costs and where tensors flow. Layer names are node names, outlet names tensor names.
    pub graph: Graph,
    /// Shape of every tensor, by name.
    pub shapes: BTreeMap<String, Shape>,
    /// Tensors that say how large others are.
    sizes: BTreeSet<String>,
}

/// Builds the cost graph.
///
/// Nodes that depend on no input (constants, and arithmetic on them) are no layers: they cost nothing
/// to run, and a fragment takes copies of those that it needs.
///
/// # Errors
/// [`Error::Engine`] for operators that the engine does not know, [`Error::Graph`] for cycles and
/// tensors from nowhere, [`Error::Malformed`] for shapes that cannot be known.
pub fn import(model: Model, limits: &Limits) -> Result<Imported> {
    let weights = model.weights();
    let live = live_tensors(&model);
    // The order of the graph is checked before the engine sees it.
    wire(&model, &live, &BTreeMap::new(), &weights)?;
    let shapes = shapes::infer(&model, limits)?;
    let graph = wire(&model, &live, &shapes, &weights)?;
    drop(weights);
    let sizes = sizes(&model, &live);
    Ok(Imported {
        model,
        graph,
        shapes,
        sizes,
    })
}

impl Imported {
    /// Whether both sides of a cut can run on their own.
    ///
    /// A tensor that only says how large another one is (the result of `Shape`, and arithmetic on it)
    /// may not cross: the engine has to know it when it prepares the later side, not when it runs it.
    #[must_use]
    pub fn is_runnable(&self, cut: &Cut) -> bool {
        cut.outlets
            .iter()
            .all(|&id| !self.sizes.contains(&self.graph.outlet(id).name))
    }
}

/// Names of the tensors that depend on the inputs through their sizes only.
fn sizes(model: &Model, live: &BTreeSet<String>) -> BTreeSet<String> {
    let mut sizes: BTreeSet<String> = BTreeSet::new();
    loop {
        let before = sizes.len();
        for node in model.nodes() {
            let mut inputs = used(node)
                .into_iter()
                .filter(|name| live.contains(*name))
                .peekable();
            let is_size = matches!(node.op_type.as_str(), "Shape" | "Size")
                || (inputs.peek().is_some() && inputs.all(|name| sizes.contains(name)));
            if is_size {
                sizes.extend(
                    node.output
                        .iter()
                        .filter(|name| live.contains(*name))
                        .cloned(),
                );
            }
        }
        if sizes.len() == before {
            return sizes;
        }
    }
}

/// Names of the tensors that depend on an input of the graph.
pub(crate) fn live_tensors(model: &Model) -> BTreeSet<String> {
    let mut consumers: BTreeMap<&str, Vec<&NodeProto>> = BTreeMap::new();
    for node in model.nodes() {
        for name in used(node) {
            consumers.entry(name).or_default().push(node);
        }
    }
    let mut live: BTreeSet<String> = model
        .inputs
        .iter()
        .map(|input| input.name.clone())
        .collect();
    let mut queue: Vec<String> = live.iter().cloned().collect();
    while let Some(name) = queue.pop() {
        for node in consumers.get(name.as_str()).into_iter().flatten() {
            for output in node.output.iter().filter(|output| !output.is_empty()) {
                if live.insert(output.clone()) {
                    queue.push(output.clone());
                }
            }
        }
    }
    live
}

/// Every tensor that a node needs, those captured by its sub-graphs included.
pub(crate) fn used(node: &NodeProto) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = node
        .input
        .iter()
        .filter(|name| !name.is_empty())
        .map(String::as_str)
        .collect();
    let mut graphs: Vec<_> = node
        .attribute
        .iter()
        .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
        .collect();
    while let Some(graph) = graphs.pop() {
        for inner in &graph.node {
            names.extend(
                inner
                    .input
                    .iter()
                    .filter(|name| !name.is_empty())
                    .map(String::as_str),
            );
            graphs.extend(
                inner
                    .attribute
                    .iter()
                    .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)),
            );
        }
        names.extend(graph.output.iter().map(|output| output.name.as_str()));
    }
    names
}

fn wire(
    model: &Model,
    live: &BTreeSet<String>,
    shapes: &BTreeMap<String, Shape>,
    weights: &BTreeMap<&str, &TensorProto>,
) -> Result<Graph> {
    let is_final = !shapes.is_empty();
    let mut outlets: BTreeMap<&str, OutletSpec> = BTreeMap::new();
    let describe = |name: &str, maker: &str| -> Result<OutletSpec> {
        let shape = match shapes.get(name) {
            Some(shape) => shape.clone(),
            None if is_final => {
                return Err(Error::Malformed {
                    what: model.name.clone(),
                    reason: format!(
                        "the shape of tensor '{name}', made by {maker}, cannot be inferred"
                    ),
                });
            }
            None => Shape {
                element: splitplace_graph::Element::U8,
                dims: vec![],
                is_batched: false,
            },
        };
        Ok(OutletSpec {
            name: name.to_owned(),
            element: shape.element,
            shape: shape.dims,
        })
    };
    for input in &model.inputs {
        outlets.insert(&input.name, describe(&input.name, "the caller")?);
    }
    let mut layers = Vec::new();
    let mut charged: BTreeSet<&str> = BTreeSet::new();
    // By tensor: the node that makes it from nothing that depends on an input.
    let constant: BTreeMap<&str, &NodeProto> = model
        .nodes()
        .iter()
        .flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)))
        .filter(|(name, _)| !live.contains(*name))
        .collect();
    for node in model.nodes() {
        let made: Vec<&String> = node.output.iter().filter(|name| !name.is_empty()).collect();
        if !made.iter().any(|name| live.contains(*name)) {
            continue;
        }
        // Optional outputs that nobody uses may have no shape and need none.
        let made: Vec<&String> = made
            .into_iter()
            .filter(|name| !is_final || shapes.contains_key(*name) || is_used(model, name))
            .collect();
        let maker = format!("node '{}' ({})", node.name, node.op_type);
        for name in &made {
            if outlets
                .insert(name.as_str(), describe(name, &maker)?)
                .is_some()
            {
                return Err(Error::Graph {
                    what: model.name.clone(),
                    source: splitplace_graph::GraphError::MadeTwice((*name).clone()),
                });
            }
        }
        let mut parameter_bytes = 0u64;
        let mut inputs = Vec::new();
        for name in used(node) {
            if live.contains(name) {
                inputs.push(name.to_owned());
            } else {
                // Weights may lie behind nodes that depend on no input, as `DequantizeLinear` on constants.
                let mut behind = vec![name];
                while let Some(name) = behind.pop() {
                    if !charged.insert(name) {
                        continue;
                    }
                    if let Some(tensor) = weights.get(name) {
                        parameter_bytes = parameter_bytes.saturating_add(tensor_bytes(tensor));
                    } else if let Some(&maker) = constant.get(name) {
                        behind.extend(used(maker));
                    }
                }
            }
        }
        layers.push(LayerSpec {
            name: node.name.clone(),
            operator: node.op_type.clone(),
            macs: macs(node, shapes, weights),
            parameter_bytes,
            inputs,
            outputs: made.into_iter().cloned().collect(),
        });
    }
    let inputs: Vec<String> = model
        .inputs
        .iter()
        .map(|input| input.name.clone())
        .collect();
    let outlets = outlets.into_values().collect();
    Graph::new(outlets, &inputs, &model.outputs, layers).map_err(|source| Error::Graph {
        what: model.name.clone(),
        source,
    })
}

fn is_used(model: &Model, name: &str) -> bool {
    model.outputs.iter().any(|output| output == name)
        || model.nodes().iter().any(|node| used(node).contains(name))
}

fn tensor_bytes(tensor: &TensorProto) -> u64 {
    let element = crate::model::element_bytes(tensor.data_type).unwrap_or(0);
    tensor.dims.iter().fold(element, |bytes, &dim| {
        bytes.saturating_mul(dim.unsigned_abs())
    })
}

/// Multiply-accumulates of one node for one sample.
///
/// - `Conv` and its integer forms: every output element sums over `C_in / groups` channels and the
///   kernel: `|out| · C_in/g · Πk` (Sze et al., eq. 2.1 with the loops multiplied out).
/// - `ConvTranspose`: every input element is spread over `C_out / groups` channels and the kernel.
/// - `Gemm`, `MatMul` and integer forms: `|out| · K`, with K the contracted dimension.
/// - `LSTM`, `GRU`, `RNN`: `steps · directions · gates · H (I + H)` with 4, 3 and 1 gates (Hochreiter
///   and Schmidhuber 1997; Cho et al. 2014; one product with the input and one with the state each).
/// - `Einsum` and everything else: 0.
fn macs(
    node: &NodeProto,
    shapes: &BTreeMap<String, Shape>,
    weights: &BTreeMap<&str, &TensorProto>,
) -> u64 {
    let dims = |index: usize| -> Option<Vec<u64>> {
        let name = node.input.get(index)?;
        shapes
            .get(name)
            .map(|shape| shape.dims.clone())
            .or_else(|| {
                let tensor = weights.get(name.as_str())?;
                Some(tensor.dims.iter().map(|&dim| dim.unsigned_abs()).collect())
            })
    };
    let out = || {
        node.output
            .first()
            .and_then(|name| shapes.get(name))
            .map(|shape| &shape.dims)
    };
    let product = |dims: &[u64]| dims.iter().fold(1u64, |n, &d| n.saturating_mul(d));
    let count = || -> Option<u64> {
        match node.op_type.as_str() {
            // Weights [C_out, C_in / groups, k…].
            "Conv" | "ConvInteger" => {
                Some(product(out()?).saturating_mul(product(dims(1)?.get(1..)?)))
            }
            "QLinearConv" => Some(product(out()?).saturating_mul(product(dims(3)?.get(1..)?))),
            // Weights [C_in, C_out / groups, k…].
            "ConvTranspose" => Some(product(&dims(0)?).saturating_mul(product(dims(1)?.get(1..)?))),
            "Gemm" => {
                let flipped = node
                    .attribute
                    .iter()
                    .any(|a| a.name == "transA" && a.i != 0);
                let a = dims(0)?;
                let inner = if flipped { *a.first()? } else { *a.last()? };
                Some(product(out()?).saturating_mul(inner))
            }
            "MatMul" | "MatMulInteger" | "QLinearMatMul" => {
                Some(product(out()?).saturating_mul(*dims(0)?.last()?))
            }
            "LSTM" | "GRU" | "RNN" => {
                let gates = match node.op_type.as_str() {
                    "LSTM" => 4,
                    "GRU" => 3,
                    _ => 1,
                };
                let (input, recurrent) = (dims(0)?, dims(2)?);
                let (steps, width) = (*input.first()?, *input.get(2)?);
                let (directions, hidden) = (*recurrent.first()?, *recurrent.get(2)?);
                Some(
                    [
                        steps,
                        input[1],
                        directions,
                        gates,
                        hidden,
                        width.saturating_add(hidden),
                    ]
                    .into_iter()
                    .fold(1, u64::saturating_mul),
                )
            }
            _ => None,
        }
    };
    count().unwrap_or(0)
}
