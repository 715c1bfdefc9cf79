//! Fragments: parts of a model as ONNX files of their own.
//!
//! A fragment is described by the layers in it. Its inputs are the outlets that it consumes and does
//! not make; its outputs those that it makes and somebody else needs. Tensors that only pass by are
//! no business of a fragment: whoever runs a sequence of them keeps a map from name to tensor.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use splitplace_graph::{Element, OutletId};
use splitplace_plan::FragmentId;
use tract_onnx::pb::{
    GraphProto, ModelProto, StringStringEntryProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto, type_proto,
};

use crate::{Error, Imported, Result, import, shapes::onnx_type};

/// One input or output of a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name of the tensor, the same as in the model.
    pub name: String,
    /// Type of its elements.
    pub element: Element,
    /// Shape of one sample.
    pub shape: Vec<u64>,
    /// Size of one sample in bytes.
    pub bytes: u64,
}

/// A runnable piece of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Fragment {
    /// SHA-256 of `onnx`.
    pub id: FragmentId,
    /// A complete ONNX file.
    pub onnx: Bytes,
    /// What it consumes.
    pub inputs: Vec<Port>,
    /// What it makes for others.
    pub outputs: Vec<Port>,
    /// Multiply-accumulates for one sample.
    pub macs: u64,
    /// Bytes of its weights.
    pub parameter_bytes: u64,
}

/// Metadata that every fragment carries: the model's hash, the place among its siblings, the boundary.
const KEYS: [&str; 5] = [
    "splitplace.model_sha256",
    "splitplace.fragment",
    "splitplace.fragments",
    "splitplace.inputs",
    "splitplace.outputs",
];

/// Cuts the part of a model that consists of the layers at `layers` (positions in canonical order).
///
/// `index` of `count` goes into the metadata. The same call gives the same bytes.
///
/// # Errors
/// [`Error::Cut`] when there are no layers to take.
pub fn cut_layers(
    from: &Imported,
    layers: &BTreeSet<usize>,
    index: usize,
    count: usize,
) -> Result<Fragment> {
    let graph = &from.graph;
    if layers.is_empty() {
        return Err(Error::Cut {
            at: format!("fragment {index}"),
            reason: "no layer would be in it".into(),
        });
    }
    let mut inputs: Vec<OutletId> = Vec::new();
    let mut outputs: Vec<OutletId> = Vec::new();
    let (mut macs, mut parameter_bytes) = (0u64, 0u64);
    for &position in layers {
        let layer = &graph.layers()[position];
        macs = macs.saturating_add(layer.macs);
        parameter_bytes = parameter_bytes.saturating_add(layer.parameter_bytes);
        for &input in &layer.inputs {
            let made_here = graph
                .outlet(input)
                .producer
                .is_some_and(|producer| layers.contains(&producer));
            if !made_here && !inputs.contains(&input) {
                inputs.push(input);
            }
        }
        for &output in &layer.outputs {
            let outlet = graph.outlet(output);
            if outlet.is_output || outlet.consumers.iter().any(|user| !layers.contains(user)) {
                outputs.push(output);
            }
        }
    }
    // The model's own order where it has one, so that a fragment of everything looks like the model.
    let rank = |list: &[OutletId], id: OutletId| list.iter().position(|&other| other == id);
    inputs.sort_by_key(|&id| (rank(graph.inputs(), id).unwrap_or(usize::MAX), id));
    outputs.sort_by_key(|&id| (rank(graph.outputs(), id).unwrap_or(usize::MAX), id));
    let names: BTreeSet<&str> = layers
        .iter()
        .map(|&position| graph.layers()[position].name.as_str())
        .collect();
    let proto = write(from, &names, &inputs, &outputs, index, count);
    let onnx: Bytes = proto.encode_to_vec().into();
    let port = |&id: &OutletId| {
        let outlet = graph.outlet(id);
        Port {
            name: outlet.name.clone(),
            element: outlet.element,
            shape: outlet.shape.clone(),
            bytes: outlet.bytes,
        }
    };
    Ok(Fragment {
        id: FragmentId(Sha256::digest(&onnx).into()),
        inputs: inputs.iter().map(port).collect(),
        outputs: outputs.iter().map(port).collect(),
        onnx,
        macs,
        parameter_bytes,
    })
}

/// Cuts a model into one fragment more than there are cuts. Each cut is a set of outlet names, or one
/// part of such a set per line of argument; cuts have to lie one after another.
///
/// # Errors
/// [`Error::Cut`] when a name is unknown, when the outlets named do not separate what comes before
/// from what comes after, or when two cuts are not one behind the other.
pub fn cut_many(from: &Imported, cuts: &[Vec<String>]) -> Result<Vec<Fragment>> {
    let graph = &from.graph;
    let mut downs = Vec::new();
    for cut in cuts {
        let at = cut.join(", ");
        let wrong = |reason: String| Error::Cut {
            at: at.clone(),
            reason,
        };
        let mut ids = BTreeSet::new();
        for name in cut {
            let id = graph.find(name).ok_or_else(|| {
                wrong(format!(
                    "the model has no tensor '{name}'; `model cuts` lists what it has"
                ))
            })?;
            ids.insert(id);
        }
        downs.push(down_set(from, &ids).map_err(wrong)?);
    }
    downs.push((0..graph.layers().len()).collect());
    let mut fragments = Vec::new();
    let mut done = BTreeSet::new();
    let count = downs.len();
    for (index, down) in downs.into_iter().enumerate() {
        if !done.is_subset(&down) {
            return Err(Error::Cut {
                at: cuts[index].join(", "),
                reason: "it does not lie behind the cut before it".into(),
            });
        }
        let layers: BTreeSet<usize> = down.difference(&done).copied().collect();
        fragments.push(cut_layers(from, &layers, index, count)?);
        done = down;
    }
    Ok(fragments)
}

/// The layers before a cut through `ids`: everything that they are made from, and everything that does
/// not depend on them. Outputs that are finished there may be carried.
fn down_set(
    from: &Imported,
    ids: &BTreeSet<OutletId>,
) -> std::result::Result<BTreeSet<usize>, String> {
    let graph = &from.graph;
    let count = graph.layers().len();
    // What the named tensors are made from is before the cut, even where one is made from another.
    let mut is_needed = vec![false; count];
    for position in (0..count).rev() {
        is_needed[position] = graph.layers()[position].outputs.iter().any(|output| {
            let mut users = graph.outlet(*output).consumers.iter();
            ids.contains(output) || users.any(|&user| is_needed[user])
        });
    }
    let mut is_after = vec![false; count];
    for position in 0..count {
        let mut inputs = graph.layers()[position].inputs.iter();
        is_after[position] = !is_needed[position]
            && inputs.any(|input| {
                let made = graph.outlet(*input).producer;
                ids.contains(input) || made.is_some_and(|producer| is_after[producer])
            });
    }
    let before: Vec<usize> = (0..count).filter(|&position| !is_after[position]).collect();
    let cut = graph.cut_after(&before).ok_or("it is no cut")?;
    if !from.is_runnable(&cut) {
        return Err("one of the tensors only says how large another one is".into());
    }
    let named: Vec<OutletId> = ids.iter().copied().collect();
    if before.is_empty() || before.len() == count {
        return Err("nothing would be on one side of it".into());
    }
    let mut crossing = cut.outlets;
    crossing.sort_unstable();
    if crossing != named {
        let extra: Vec<&str> = crossing
            .iter()
            .filter(|id| !ids.contains(id))
            .map(|&id| graph.outlet(id).name.as_str())
            .collect();
        return Err(if extra.is_empty() {
            "one of the tensors named is needed only before the others are made".into()
        } else {
            format!(
                "{} would cross as well: name it too, or take one of `model cuts`",
                extra.join(", ")
            )
        });
    }
    Ok(before.into_iter().collect())
}

fn write(
    from: &Imported,
    layers: &BTreeSet<&str>,
    inputs: &[OutletId],
    outputs: &[OutletId],
    index: usize,
    count: usize,
) -> ModelProto {
    let source = &from.model.proto;
    let whole = source.graph.clone().unwrap_or_default();
    let needed = closure(from, &whole, layers, inputs);
    let GraphProto {
        node, initializer, ..
    } = whole;
    let nodes: Vec<_> = node
        .into_iter()
        .filter(|node| needed.nodes.contains(&node.name))
        .collect();
    let weights: Vec<_> = initializer
        .into_iter()
        .filter(|tensor| needed.weights.contains(&tensor.name))
        .collect();
    let value = |&id: &OutletId| value_info(from, id);
    let hash: String = from
        .model
        .sha256
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let join = |ids: &[OutletId]| {
        ids.iter()
            .map(|&id| from.graph.outlet(id).name.as_str())
            .collect::<Vec<_>>()
            .join("\n")
    };
    let values = [
        hash,
        index.to_string(),
        count.to_string(),
        join(inputs),
        join(outputs),
    ];
    let own = KEYS
        .into_iter()
        .zip(values)
        .map(|(key, value)| StringStringEntryProto {
            key: key.to_owned(),
            value,
        });
    let kept = source
        .metadata_props
        .iter()
        .filter(|entry| !KEYS.contains(&entry.key.as_str()));
    ModelProto {
        ir_version: source.ir_version,
        opset_import: source.opset_import.clone(),
        producer_name: "splitplace".into(),
        functions: source.functions.clone(),
        metadata_props: kept.cloned().chain(own).collect(),
        graph: Some(GraphProto {
            name: format!("fragment {index} of {count}"),
            node: sorted(nodes),
            initializer: weights,
            input: inputs.iter().map(value).collect(),
            output: outputs.iter().map(value).collect(),
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

struct Needed {
    nodes: BTreeSet<String>,
    weights: BTreeSet<String>,
}

/// The layers and whatever constant nodes and weights they need, going back to the inputs.
fn closure(
    from: &Imported,
    whole: &GraphProto,
    layers: &BTreeSet<&str>,
    inputs: &[OutletId],
) -> Needed {
    let maker: BTreeMap<&str, usize> = whole
        .node
        .iter()
        .enumerate()
        .flat_map(|(index, node)| node.output.iter().map(move |name| (name.as_str(), index)))
        .collect();
    let weights: BTreeSet<&str> = whole
        .initializer
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    let given: BTreeSet<&str> = inputs
        .iter()
        .map(|&id| from.graph.outlet(id).name.as_str())
        .collect();
    let mut needed = Needed {
        nodes: BTreeSet::new(),
        weights: BTreeSet::new(),
    };
    let mut queue: Vec<usize> = whole
        .node
        .iter()
        .enumerate()
        .filter(|(_, node)| layers.contains(node.name.as_str()))
        .map(|(index, _)| index)
        .collect();
    while let Some(index) = queue.pop() {
        let node = &whole.node[index];
        if !needed.nodes.insert(node.name.clone()) {
            continue;
        }
        for name in import::used(node) {
            if given.contains(name) {
                continue;
            }
            if weights.contains(name) {
                needed.weights.insert(name.to_owned());
            } else if let Some(&maker) = maker.get(name) {
                queue.push(maker);
            }
        }
    }
    needed
}

/// Nodes in an order in which every runtime accepts them: producers first, stable otherwise.
fn sorted(nodes: Vec<tract_onnx::pb::NodeProto>) -> Vec<tract_onnx::pb::NodeProto> {
    let maker: BTreeMap<String, usize> = nodes
        .iter()
        .enumerate()
        .flat_map(|(index, node)| node.output.iter().map(move |name| (name.clone(), index)))
        .collect();
    let mut missing: Vec<BTreeSet<usize>> = nodes
        .iter()
        .enumerate()
        .map(|(index, node)| {
            import::used(node)
                .into_iter()
                .filter_map(|name| maker.get(name).copied())
                .filter(|&before| before != index)
                .collect()
        })
        .collect();
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (index, before) in missing.iter().enumerate() {
        for &b in before {
            followers[b].push(index);
        }
    }
    let mut ready: BTreeSet<usize> = (0..nodes.len())
        .filter(|&index| missing[index].is_empty())
        .collect();
    let mut slots: Vec<_> = nodes.into_iter().map(Some).collect();
    let mut order = Vec::with_capacity(slots.len());
    while let Some(index) = ready.pop_first() {
        order.extend(slots[index].take());
        for &after in &followers[index] {
            missing[after].remove(&index);
            if missing[after].is_empty() {
                ready.insert(after);
            }
        }
    }
    order
}

fn value_info(from: &Imported, id: OutletId) -> ValueInfoProto {
    let outlet = from.graph.outlet(id);
    let is_input = from
        .model
        .inputs
        .iter()
        .any(|input| input.name == outlet.name);
    let is_batched = from.model.is_batched
        && (is_input
            || from
                .shapes
                .get(&outlet.name)
                .is_some_and(|shape| shape.is_batched));
    let dim = outlet
        .shape
        .iter()
        .enumerate()
        .map(|(axis, &dim)| {
            let value = if axis == 0 && is_batched && dim == 1 {
                tensor_shape_proto::dimension::Value::DimParam("batch".into())
            } else if axis == 0 && is_batched {
                tensor_shape_proto::dimension::Value::DimParam(format!("batch_{dim}"))
            } else {
                tensor_shape_proto::dimension::Value::DimValue(
                    i64::try_from(dim).unwrap_or(i64::MAX),
                )
            };
            tensor_shape_proto::Dimension {
                denotation: String::new(),
                value: Some(value),
            }
        })
        .collect();
    ValueInfoProto {
        name: outlet.name.clone(),
        r#type: Some(TypeProto {
            denotation: String::new(),
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: onnx_type(outlet.element),
                shape: Some(TensorShapeProto { dim }),
            })),
        }),
        doc_string: String::new(),
    }
}
