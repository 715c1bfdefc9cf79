//! An ONNX file, read within bounds, checked, and made whole: external data inside, nodes named.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::{Component, Path},
};

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use tract_onnx::pb::{
    ModelProto, NodeProto, TensorProto, ValueInfoProto, tensor_shape_proto, type_proto,
};

use crate::{Error, Result};

/// Bounds on what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a model file and its external data together.
    pub model_bytes: u64,
    /// Nodes of a graph.
    pub nodes: usize,
    /// Elements of one tensor of one sample.
    pub tensor_elements: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            model_bytes: 2 << 30,
            nodes: 100_000,
            tensor_elements: 1 << 28,
        }
    }
}

/// A checked model.
#[derive(Clone, Debug)]
pub struct Model {
    /// For messages: the file's name.
    pub name: String,
    /// Nodes named, external data inside, in the file's order.
    pub proto: ModelProto,
    /// SHA-256 of the file as it was read.
    pub sha256: [u8; 32],
    /// The inputs that a caller has to give: those without a default among the weights.
    pub inputs: Vec<Interface>,
    /// The outputs.
    pub outputs: Vec<String>,
    /// Whether the first dimension of every input counts samples.
    pub is_batched: bool,
}

/// An input as the file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// ONNX element type.
    pub data_type: i32,
    /// Shape of one sample: 1 where the batch was symbolic.
    pub shape: Vec<u64>,
}

impl Model {
    /// Reads a file, and the external data that it names inside its own folder.
    ///
    /// # Errors
    /// Whatever is wrong, with file, node or tensor, and reason.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        let read = |source| Error::Io {
            verb: "read",
            path: path.to_owned(),
            source,
        };
        let bytes = read_bounded(path, limits.model_bytes).map_err(read)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let name = path.display().to_string();
        Self::parse(&name, bytes.into(), Some(folder), limits)
    }

    /// Reads a model from memory; it may not name external data.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(name: &str, bytes: Bytes, limits: &Limits) -> Result<Self> {
        Self::parse(name, bytes, None, limits)
    }

    fn parse(name: &str, bytes: Bytes, folder: Option<&Path>, limits: &Limits) -> Result<Self> {
        let found = bytes.len() as u64;
        if limits.model_bytes < found {
            return Err(Error::TooLarge {
                what: name.into(),
                found,
                limit: limits.model_bytes,
            });
        }
        let wrong = |reason: String| Error::Malformed {
            what: name.into(),
            reason,
        };
        let sha256 = Sha256::digest(&bytes).into();
        let mut proto =
            ModelProto::decode(bytes).map_err(|error| wrong(format!("protobuf: {error}")))?;
        let Some(graph) = &mut proto.graph else {
            return Err(wrong(
                "it holds no graph (an empty or truncated file?)".into(),
            ));
        };
        if graph.node.is_empty() {
            return Err(wrong("its graph has no nodes".into()));
        }
        if limits.nodes < graph.node.len() {
            return Err(wrong(format!(
                "its graph has {} nodes, more than the limit of {}",
                graph.node.len(),
                limits.nodes
            )));
        }
        if !graph.sparse_initializer.is_empty() {
            return Err(wrong(
                "it holds sparse weights, which are not supported".into(),
            ));
        }
        make_whole(name, &mut graph.initializer, folder, limits, found)?;
        for tensor in &graph.initializer {
            check_weights(name, tensor, limits)?;
        }
        name_nodes(&mut graph.node);
        for node in &graph.node {
            for attribute in &node.attribute {
                if let Some(tensor) = &attribute.t {
                    if is_external(tensor) {
                        return Err(wrong(format!(
                            "node '{}' keeps a constant outside the file",
                            node.name
                        )));
                    }
                    check_weights(name, tensor, limits)?;
                }
            }
        }
        let weights: BTreeSet<&str> = graph
            .initializer
            .iter()
            .map(|tensor| tensor.name.as_str())
            .collect();
        let mut declared = Vec::new();
        for input in graph
            .input
            .iter()
            .filter(|input| !weights.contains(input.name.as_str()))
        {
            declared.push(declared_shape(input).map_err(wrong)?);
        }
        let is_batched = !declared.is_empty()
            && declared
                .iter()
                .all(|(_, _, shape)| shape.first() == Some(&None));
        let mut inputs = Vec::new();
        for (input, data_type, dims) in declared {
            let mut shape = Vec::with_capacity(dims.len());
            for (axis, dim) in dims.into_iter().enumerate() {
                match dim {
                    Some(dim) => shape.push(dim),
                    None if axis == 0 => shape.push(1),
                    None => {
                        return Err(wrong(format!(
                            "dimension {axis} of input '{input}' is symbolic; only the first \
                             (the batch) may be: export the model with that dimension fixed"
                        )));
                    }
                }
            }
            let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
            if elements.is_none_or(|elements| limits.tensor_elements < elements) {
                return Err(wrong(format!(
                    "input '{input}' has the absurd shape {shape:?}"
                )));
            }
            inputs.push(Interface {
                name: input,
                data_type,
                shape,
            });
        }
        let outputs = graph
            .output
            .iter()
            .map(|output| output.name.clone())
            .collect();
        Ok(Self {
            name: name.into(),
            proto,
            sha256,
            inputs,
            outputs,
            is_batched,
        })
    }

    /// The nodes, in the file's order.
    #[must_use]
    pub fn nodes(&self) -> &[NodeProto] {
        self.proto.graph.as_ref().map_or(&[], |graph| &graph.node)
    }

    /// The weights by name.
    #[must_use]
    pub fn weights(&self) -> BTreeMap<&str, &TensorProto> {
        let tensors = self
            .proto
            .graph
            .as_ref()
            .map_or(&[][..], |graph| &graph.initializer);
        tensors
            .iter()
            .map(|tensor| (tensor.name.as_str(), tensor))
            .collect()
    }
}

/// Reads at most `limit` bytes; a longer file is an error, not a shorter read.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if limit < bytes.len() as u64 {
        return Err(std::io::Error::other(format!(
            "it has more than {limit} bytes"
        )));
    }
    Ok(bytes)
}

fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(1) || !tensor.external_data.is_empty()
}

/// Moves external data into the tensors.
fn make_whole(
    name: &str,
    weights: &mut [TensorProto],
    folder: Option<&Path>,
    limits: &Limits,
    mut total: u64,
) -> Result<()> {
    for tensor in weights.iter_mut().filter(|tensor| is_external(tensor)) {
        let entry = |key: &str| {
            tensor
                .external_data
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| entry.value.clone())
        };
        let location = entry("location").unwrap_or_default();
        let wrong = |reason: String| Error::External {
            what: name.into(),
            tensor: tensor.name.clone(),
            location: location.clone(),
            reason,
        };
        let Some(folder) = folder else {
            return Err(wrong(
                "a model from memory must hold all of its data".into(),
            ));
        };
        let relative = Path::new(&location);
        let stays = !location.is_empty()
            && relative
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
        if !stays {
            return Err(wrong("the path leaves the model's folder".into()));
        }
        let path = folder.join(relative);
        // A link could lead out of the folder after all.
        let real = |path: &Path| fs::canonicalize(path).map_err(|error| wrong(error.to_string()));
        if !real(&path)?.starts_with(real(folder)?) {
            return Err(wrong(
                "the path leaves the model's folder through a link".into(),
            ));
        }
        let number = |key: &str| -> Result<Option<u64>> {
            entry(key)
                .map(|text| {
                    text.parse()
                        .map_err(|_| wrong(format!("{key} '{text}' is no number")))
                })
                .transpose()
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let expected =
            weight_bytes(tensor).ok_or_else(|| wrong("it has an absurd shape".into()))?;
        if length.is_some_and(|length| length != expected) {
            return Err(wrong(format!(
                "it needs {expected} bytes, its entry says otherwise"
            )));
        }
        total = total.saturating_add(expected);
        if limits.model_bytes < total {
            return Err(Error::TooLarge {
                what: name.into(),
                found: total,
                limit: limits.model_bytes,
            });
        }
        let data = read_range(&path, offset, expected).map_err(|error| wrong(error.to_string()))?;
        tensor.raw_data = data;
        tensor.data_location = None;
        tensor.external_data.clear();
    }
    Ok(())
}

fn read_range(path: &Path, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
    use std::io::{Seek, SeekFrom};
    let mut file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    if offset.checked_add(length).is_none_or(|end| size < end) {
        return Err(std::io::Error::other(format!(
            "the file has {size} bytes, the tensor wants {length} from {offset}"
        )));
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut data = Vec::new();
    file.take(length).read_to_end(&mut data)?;
    Ok(data)
}

/// Bytes of one element of an ONNX type; strings and what is unknown have none.
pub(crate) fn element_bytes(data_type: i32) -> Option<u64> {
    Some(match data_type {
        2 | 3 | 9 => 1,
        4 | 5 | 10 | 16 => 2,
        1 | 6 | 12 => 4,
        7 | 11 | 13 => 8,
        _ => return None,
    })
}

fn weight_bytes(tensor: &TensorProto) -> Option<u64> {
    tensor
        .dims
        .iter()
        .try_fold(element_bytes(tensor.data_type)?, |bytes, &dim| {
            bytes.checked_mul(u64::try_from(dim).ok()?)
        })
}

/// A tensor must hold as much data as its shape says, so that nothing is allocated on its word.
fn check_weights(name: &str, tensor: &TensorProto, limits: &Limits) -> Result<()> {
    let wrong = |reason: &str| Error::Malformed {
        what: name.into(),
        reason: format!(
            "tensor '{}' of type {} and shape {:?} {reason}",
            tensor.name, tensor.data_type, tensor.dims
        ),
    };
    if tensor.data_type == 8 {
        return Ok(());
    }
    let bytes = weight_bytes(tensor).ok_or_else(|| wrong("is not supported"))?;
    let elements = bytes / element_bytes(tensor.data_type).unwrap_or(1);
    if limits.tensor_elements < elements {
        return Err(wrong("has too many elements"));
    }
    let held = if tensor.raw_data.is_empty() {
        let counts = [
            tensor.float_data.len(),
            tensor.int32_data.len(),
            tensor.int64_data.len(),
            tensor.double_data.len(),
            tensor.uint64_data.len(),
        ];
        counts.into_iter().max().unwrap_or(0) as u64 == elements
    } else {
        tensor.raw_data.len() as u64 == bytes
    };
    if held {
        Ok(())
    } else {
        Err(wrong("holds another number of bytes than its shape says"))
    }
}

/// Gives a name to every node that has none, from its place and operator; makes names unique.
fn name_nodes(nodes: &mut [NodeProto]) {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (index, node) in nodes.iter_mut().enumerate() {
        if node.name.is_empty() || taken.contains(&node.name) {
            node.name = format!("{}_{index}", node.op_type);
            while taken.contains(&node.name) {
                node.name.push('_');
            }
        }
        taken.insert(node.name.clone());
    }
}

type Declared = (String, i32, Vec<Option<u64>>);

fn declared_shape(input: &ValueInfoProto) -> std::result::Result<Declared, String> {
    let Some(type_proto::Value::TensorType(tensor)) =
        input.r#type.as_ref().and_then(|kind| kind.value.as_ref())
    else {
        return Err(format!("input '{}' is not a tensor", input.name));
    };
    let Some(shape) = &tensor.shape else {
        return Err(format!("input '{}' declares no shape", input.name));
    };
    let mut dims = Vec::with_capacity(shape.dim.len());
    for dim in &shape.dim {
        dims.push(match &dim.value {
            Some(tensor_shape_proto::dimension::Value::DimValue(value)) if 0 < *value => {
                Some(value.unsigned_abs())
            }
            // Older exporters write -1 or 0 for a dimension of any size.
            _ => None,
        });
    }
    Ok((input.name.clone(), tensor.elem_type, dims))
}
