//! Layers and outlets, checked and put into the canonical order.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt,
    ops::Range,
};

/// Type of an element of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// IEEE half precision.
    F16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl Element {
    /// Every type, in the order of the enum.
    pub const ALL: [Self; 12] = [
        Self::Bool,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::F16,
        Self::F32,
        Self::F64,
    ];

    /// Size of one element in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// The Open Inference Protocol's word for it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::U8 => "UINT8",
            Self::U16 => "UINT16",
            Self::U32 => "UINT32",
            Self::U64 => "UINT64",
            Self::I8 => "INT8",
            Self::I16 => "INT16",
            Self::I32 => "INT32",
            Self::I64 => "INT64",
            Self::F16 => "FP16",
            Self::F32 => "FP32",
            Self::F64 => "FP64",
        }
    }

    /// The type that the protocol's word names.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|element| element.label() == label)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// An outlet's number within its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutletId(pub usize);

/// A tensor between layers, as the importer describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutletSpec {
    /// Unique within the graph.
    pub name: String,
    /// Type of its elements.
    pub element: Element,
    /// Shape of one sample.
    pub shape: Vec<u64>,
}

/// A layer, as the importer describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// Unique within the graph.
    pub name: String,
    /// The operator: `Conv`, `Relu`.
    pub operator: String,
    /// Multiply-accumulates for one sample.
    pub macs: u64,
    /// Bytes of the weights that only this layer uses, or that it is the first to use.
    pub parameter_bytes: u64,
    /// Names of the outlets that it consumes; weights are not among them.
    pub inputs: Vec<String>,
    /// Names of the outlets that it makes.
    pub outputs: Vec<String>,
}

/// A tensor between layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlet {
    /// Unique within the graph.
    pub name: String,
    /// Type of its elements.
    pub element: Element,
    /// Shape of one sample.
    pub shape: Vec<u64>,
    /// Size of one sample in bytes; saturates.
    pub bytes: u64,
    /// Position of the layer that makes it; `None` for an input of the graph.
    pub producer: Option<usize>,
    /// Positions of the layers that consume it, ascending.
    pub consumers: Vec<usize>,
    /// Whether it is an output of the graph.
    pub is_output: bool,
}

/// One operator with its weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Unique within the graph.
    pub name: String,
    /// The operator.
    pub operator: String,
    /// Multiply-accumulates for one sample.
    pub macs: u64,
    /// Bytes of its weights.
    pub parameter_bytes: u64,
    /// Bytes of what it consumes and makes together: what must be in memory while it runs.
    pub activation_bytes: u64,
    /// What it consumes, each once.
    pub inputs: Vec<OutletId>,
    /// What it makes.
    pub outputs: Vec<OutletId>,
}

/// Why layers and outlets do not make a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two outlets, or two producers of one.
    #[error("tensor '{0}' is made twice")]
    MadeTwice(String),
    /// A layer or the output list names a tensor that nothing makes.
    #[error("{user} uses tensor '{name}', which nothing makes")]
    MadeByNobody {
        /// The tensor.
        name: String,
        /// Who uses it.
        user: String,
    },
    /// The layers named feed each other.
    #[error("the graph has a cycle through layer '{0}'")]
    Cycle(String),
    /// A model without outputs answers nothing.
    #[error("the graph has no output")]
    NoOutput,
}

/// A checked graph in canonical order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    layers: Vec<Layer>,
    outlets: Vec<Outlet>,
    inputs: Vec<OutletId>,
    outputs: Vec<OutletId>,
}

impl Graph {
    /// Checks and orders. `outlets` describes every tensor named by inputs, outputs and layers.
    ///
    /// Costs O((V + E) log V) for V layers and E uses of outlets.
    ///
    /// # Errors
    /// [`GraphError`] names the first thing that is wrong.
    pub fn new(
        outlets: Vec<OutletSpec>,
        inputs: &[String],
        outputs: &[String],
        layers: Vec<LayerSpec>,
    ) -> Result<Self, GraphError> {
        let mut by_name = BTreeMap::new();
        for (number, outlet) in outlets.iter().enumerate() {
            if by_name
                .insert(outlet.name.clone(), OutletId(number))
                .is_some()
            {
                return Err(GraphError::MadeTwice(outlet.name.clone()));
            }
        }
        let find = |name: &str, user: &str| {
            by_name
                .get(name)
                .copied()
                .ok_or_else(|| GraphError::MadeByNobody {
                    name: name.to_owned(),
                    user: user.to_owned(),
                })
        };
        let mut wired = Vec::with_capacity(layers.len());
        for layer in layers {
            let user = format!("layer '{}'", layer.name);
            let mut taken = Vec::with_capacity(layer.inputs.len());
            for name in &layer.inputs {
                let outlet = find(name, &user)?;
                if !taken.contains(&outlet) {
                    taken.push(outlet);
                }
            }
            let made = layer
                .outputs
                .iter()
                .map(|name| find(name, &user))
                .collect::<Result<Vec<_>, _>>()?;
            wired.push((layer, taken, made));
        }
        let inputs = inputs
            .iter()
            .map(|name| find(name, "the list of inputs"))
            .collect::<Result<Vec<_>, _>>()?;
        let outputs = outputs
            .iter()
            .map(|name| find(name, "the list of outputs"))
            .collect::<Result<Vec<_>, _>>()?;
        if outputs.is_empty() {
            return Err(GraphError::NoOutput);
        }
        let order = canonical(&outlets, &inputs, &wired)?;
        let mut slots: Vec<_> = wired.into_iter().map(Some).collect();
        let mut outlets: Vec<Outlet> = outlets
            .into_iter()
            .map(|spec| Outlet {
                bytes: spec
                    .shape
                    .iter()
                    .fold(spec.element.bytes(), |n, &d| n.saturating_mul(d)),
                name: spec.name,
                element: spec.element,
                shape: spec.shape,
                producer: None,
                consumers: Vec::new(),
                is_output: false,
            })
            .collect();
        let mut ordered = Vec::with_capacity(order.len());
        for (position, index) in order.into_iter().enumerate() {
            let (spec, taken, made) = slots[index].take().expect("an order names each layer once");
            for outlet in &taken {
                outlets[outlet.0].consumers.push(position);
            }
            for outlet in &made {
                outlets[outlet.0].producer = Some(position);
            }
            let activation_bytes = taken.iter().chain(&made).fold(0u64, |sum, outlet| {
                sum.saturating_add(outlets[outlet.0].bytes)
            });
            ordered.push(Layer {
                name: spec.name,
                operator: spec.operator,
                macs: spec.macs,
                parameter_bytes: spec.parameter_bytes,
                activation_bytes,
                inputs: taken,
                outputs: made,
            });
        }
        for &output in &outputs {
            outlets[output.0].is_output = true;
            if outlets[output.0].producer.is_none() && !inputs.contains(&output) {
                return Err(GraphError::MadeByNobody {
                    name: outlets[output.0].name.clone(),
                    user: "the list of outputs".to_owned(),
                });
            }
        }
        Ok(Self {
            layers: ordered,
            outlets,
            inputs,
            outputs,
        })
    }

    /// The layers in canonical order: producers before consumers, side branches before the trunk.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Every outlet; an [`OutletId`] is an index into this.
    #[must_use]
    pub fn outlets(&self) -> &[Outlet] {
        &self.outlets
    }

    /// The outlet of this number.
    #[must_use]
    pub fn outlet(&self, id: OutletId) -> &Outlet {
        &self.outlets[id.0]
    }

    /// The outlet of this name. O(outlets).
    #[must_use]
    pub fn find(&self, name: &str) -> Option<OutletId> {
        self.outlets
            .iter()
            .position(|outlet| outlet.name == name)
            .map(OutletId)
    }

    /// The graph's inputs, in the model's order.
    #[must_use]
    pub fn inputs(&self) -> &[OutletId] {
        &self.inputs
    }

    /// The graph's outputs, in the model's order.
    #[must_use]
    pub fn outputs(&self) -> &[OutletId] {
        &self.outputs
    }

    /// Multiply-accumulates of the layers at these positions.
    #[must_use]
    pub fn macs(&self, layers: Range<usize>) -> u64 {
        self.layers[layers]
            .iter()
            .fold(0, |sum, layer| sum.saturating_add(layer.macs))
    }

    /// Bytes of the weights of the layers at these positions.
    #[must_use]
    pub fn parameter_bytes(&self, layers: Range<usize>) -> u64 {
        self.layers[layers]
            .iter()
            .fold(0, |sum, layer| sum.saturating_add(layer.parameter_bytes))
    }
}

type Wired = (LayerSpec, Vec<OutletId>, Vec<OutletId>);

/// Positions of the layers in canonical order.
///
/// Kahn's algorithm; among the layers that are ready the one with the shortest way to a sink goes
/// first, then the one that came first in the file.
fn canonical(
    outlets: &[OutletSpec],
    inputs: &[OutletId],
    layers: &[Wired],
) -> Result<Vec<usize>, GraphError> {
    let mut producer: Vec<Option<usize>> = vec![None; outlets.len()];
    for (index, (_, _, made)) in layers.iter().enumerate() {
        for outlet in made {
            if producer[outlet.0].replace(index).is_some() || inputs.contains(outlet) {
                return Err(GraphError::MadeTwice(outlets[outlet.0].name.clone()));
            }
        }
    }
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); layers.len()];
    let mut missing = vec![0usize; layers.len()];
    for (index, (spec, taken, _)) in layers.iter().enumerate() {
        for outlet in taken {
            match producer[outlet.0] {
                Some(before) => {
                    followers[before].push(index);
                    missing[index] += 1;
                }
                None if inputs.contains(outlet) => {}
                None => {
                    return Err(GraphError::MadeByNobody {
                        name: outlets[outlet.0].name.clone(),
                        user: format!("layer '{}'", spec.name),
                    });
                }
            }
        }
    }
    // Any topological order, to find cycles and the distance of each layer from a sink.
    let mut left = missing.clone();
    let mut plain: Vec<usize> = (0..layers.len())
        .filter(|&index| left[index] == 0)
        .collect();
    let mut next = 0;
    while next < plain.len() {
        for &after in &followers[plain[next]] {
            left[after] -= 1;
            if left[after] == 0 {
                plain.push(after);
            }
        }
        next += 1;
    }
    if plain.len() < layers.len() {
        let stuck = (0..layers.len())
            .find(|&index| left[index] > 0)
            .unwrap_or_default();
        return Err(GraphError::Cycle(layers[stuck].0.name.clone()));
    }
    let mut height = vec![0usize; layers.len()];
    for &index in plain.iter().rev() {
        height[index] = followers[index]
            .iter()
            .map(|&after| height[after] + 1)
            .max()
            .unwrap_or(0);
    }
    let mut ready: BinaryHeap<Reverse<(usize, usize)>> = (0..layers.len())
        .filter(|&index| missing[index] == 0)
        .map(|index| Reverse((height[index], index)))
        .collect();
    let mut order = Vec::with_capacity(layers.len());
    while let Some(Reverse((_, index))) = ready.pop() {
        order.push(index);
        for &after in &followers[index] {
            missing[after] -= 1;
            if missing[after] == 0 {
                ready.push(Reverse((height[after], after)));
            }
        }
    }
    Ok(order)
}
