//! Running a fragment: prepared once, run many times, from any thread.
//!
//! A plan is made for exactly one sample, whatever the batch: the engine is several times slower with
//! a symbolic batch, and slower per sample with a batch than without. `n` samples are `n` runs.

use std::sync::Arc;

use bytes::Bytes;
use splitplace_graph::Element;
use tract_onnx::prelude::{
    InferenceModelExt, IntoArcTensor, IntoRunnable, IntoTValue, RunnableModel, Tensor, TypedFact,
    TypedOp, tvec,
};

use crate::{
    Error, Limits, Model, Result,
    cut::Port,
    shapes::{element, guarded, kind, parse},
};

/// The engine that runs everything, for notes on measurements.
pub const ENGINE: &str = "tract 0.23.9";

type Runnable = RunnableModel<TypedFact, Box<dyn TypedOp>>;

/// A tensor's elements: little-endian, row-major, in one or more pieces.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Name of the tensor.
    pub name: String,
    /// Type of its elements.
    pub element: Element,
    /// Shape, the samples of the batch along the first dimension.
    pub shape: Vec<u64>,
    /// The bytes, one piece after another.
    pub chunks: Vec<Bytes>,
}

/// A fragment ready to run. Cheap to share; runs may overlap.
#[derive(Clone, Debug)]
pub struct Prepared {
    plan: Arc<Runnable>,
    /// What it consumes, for one sample.
    pub inputs: Vec<Port>,
    /// What it makes, for one sample.
    pub outputs: Vec<Port>,
    /// Whether it takes any number of samples.
    pub is_batched: bool,
}

/// Loads, optimises and prepares a fragment's ONNX file.
///
/// # Errors
/// [`Error::Malformed`] and [`Error::Engine`], naming `name`.
pub fn prepare(name: &str, onnx: Bytes, limits: &Limits) -> Result<Prepared> {
    let model = Model::from_bytes(name, onnx, limits)?;
    prepare_model(&model)
}

/// Prepares a model that was read already.
///
/// # Errors
/// [`Error::Engine`].
pub fn prepare_model(model: &Model) -> Result<Prepared> {
    let (plan, inputs, outputs) = guarded(&model.name, "prepare", || {
        let inference = parse(model, 1)?;
        let names: Vec<String> = inference
            .input_outlets()?
            .iter()
            .map(|outlet| inference.node(outlet.node).name.clone())
            .collect();
        let typed = inference.into_optimized()?;
        let port = |name: &str, fact: &TypedFact| -> tract_onnx::prelude::TractResult<Port> {
            let element = element(fact.datum_type).ok_or_else(|| {
                tract_onnx::tract_core::internal::anyhow!("tensor '{name}' has an unsupported type")
            })?;
            let shape: Vec<u64> = fact
                .shape
                .as_concrete()
                .ok_or_else(|| {
                    tract_onnx::tract_core::internal::anyhow!("the shape of '{name}' is not fixed")
                })?
                .iter()
                .map(|&dim| dim as u64)
                .collect();
            let bytes = shape
                .iter()
                .fold(element.bytes(), |n, &d| n.saturating_mul(d));
            Ok(Port {
                name: name.to_owned(),
                element,
                shape,
                bytes,
            })
        };
        let mut inputs = Vec::new();
        for (index, name) in names.iter().enumerate() {
            inputs.push(port(name, typed.input_fact(index)?)?);
        }
        let mut outputs = Vec::new();
        for (index, name) in model.outputs.iter().enumerate() {
            outputs.push(port(name, typed.output_fact(index)?)?);
        }
        Ok((typed.into_runnable()?, inputs, outputs))
    })?;
    Ok(Prepared {
        plan,
        inputs,
        outputs,
        is_batched: model.is_batched,
    })
}

impl Prepared {
    /// One sample of nothing but zeros: what a fragment is tried and measured with.
    #[must_use]
    pub fn zeros(&self) -> Vec<Value> {
        let zeros = |port: &Port| Value {
            name: port.name.clone(),
            element: port.element,
            shape: port.shape.clone(),
            chunks: vec![vec![0; usize::try_from(port.bytes).unwrap_or(0)].into()],
        };
        self.inputs.iter().map(zeros).collect()
    }

    /// How many samples these values hold.
    ///
    /// # Errors
    /// [`Error::Input`] when an input is missing, has another type, or another number of bytes than a
    /// whole number of samples, the same for all.
    pub fn samples(&self, values: &[Value]) -> Result<usize> {
        let mut samples = None;
        for port in &self.inputs {
            let value = find(values, port)?;
            let wrong = |reason: String| Error::Input {
                name: port.name.clone(),
                reason,
            };
            if value.element != port.element {
                return Err(wrong(format!(
                    "{} is needed, {} came",
                    port.element, value.element
                )));
            }
            let size: u64 = value.chunks.iter().map(|chunk| chunk.len() as u64).sum();
            if port.bytes == 0 || !size.is_multiple_of(port.bytes) {
                return Err(wrong(format!(
                    "{size} bytes came, which is no multiple of the {} bytes of one sample {:?}",
                    port.bytes, port.shape
                )));
            }
            let here = size / port.bytes;
            if *samples.get_or_insert(here) != here {
                return Err(wrong(format!(
                    "{here} samples came, another input has more or fewer"
                )));
            }
        }
        let samples = samples.unwrap_or(1);
        if !self.is_batched && samples != 1 {
            return Err(Error::Input {
                name: self
                    .inputs
                    .first()
                    .map_or_else(String::new, |port| port.name.clone()),
                reason: format!("{samples} samples came, the model takes one at a time"),
            });
        }
        usize::try_from(samples).map_err(|_| Error::Input {
            name: String::new(),
            reason: "too many samples".into(),
        })
    }

    /// Runs every sample and puts the outputs together along the first dimension.
    ///
    /// Inputs are copied once, into memory aligned for the engine; outputs are handed out as they lie.
    ///
    /// # Errors
    /// As [`samples`](Self::samples), and [`Error::Engine`].
    pub fn run(&self, values: &[Value]) -> Result<Vec<Value>> {
        let samples = self.samples(values)?;
        let mut made: Vec<Vec<Bytes>> = vec![Vec::with_capacity(samples); self.outputs.len()];
        for sample in 0..samples {
            let mut inputs = tvec!();
            for port in &self.inputs {
                inputs.push(gather(find(values, port)?, port, sample)?.into_tvalue());
            }
            let outputs = guarded("fragment", "run", || self.plan.run(inputs))?;
            for ((output, port), chunks) in outputs.into_iter().zip(&self.outputs).zip(&mut made) {
                let tensor = guarded("fragment", "run", || {
                    let tensor = output.into_arc_tensor();
                    Ok(match tensor.datum_type() == kind(port.element) {
                        true => tensor,
                        false => Arc::new(tensor.cast_to_dt(kind(port.element))?.into_owned()),
                    })
                })?;
                chunks.push(Bytes::from_owner(Held(tensor)));
            }
        }
        let outputs = self.outputs.iter().zip(made).map(|(port, chunks)| {
            let mut shape = port.shape.clone();
            match shape.first_mut() {
                Some(first) => *first *= samples as u64,
                // A scalar per sample travels as a list of them.
                None if 1 < samples => shape.push(samples as u64),
                None => {}
            }
            Value {
                name: port.name.clone(),
                element: port.element,
                shape,
                chunks,
            }
        });
        Ok(outputs.collect())
    }
}

fn find<'a>(values: &'a [Value], port: &Port) -> Result<&'a Value> {
    values
        .iter()
        .find(|value| value.name == port.name)
        .ok_or_else(|| Error::Input {
            name: port.name.clone(),
            reason: format!(
                "it is missing; what came is {}",
                values
                    .iter()
                    .map(|value| value.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        })
}

/// One sample of a value as an engine tensor: the only copy on the way in.
fn gather(value: &Value, port: &Port, sample: usize) -> Result<Tensor> {
    let wrong = |reason: String| Error::Input {
        name: port.name.clone(),
        reason,
    };
    let size = usize::try_from(port.bytes).map_err(|error| wrong(error.to_string()))?;
    let shape: Vec<usize> = port.shape.iter().map(|&dim| dim as usize).collect();
    let mut tensor = guarded("fragment", "run", || {
        Tensor::zero_dt(kind(port.element), &shape)
    })?;
    let mut skip = sample * size;
    let mut filled = 0;
    let target = tensor.as_bytes_mut();
    for chunk in &value.chunks {
        if chunk.len() <= skip {
            skip -= chunk.len();
            continue;
        }
        let piece = &chunk[skip..chunk.len().min(skip + size - filled)];
        target[filled..filled + piece.len()].copy_from_slice(piece);
        filled += piece.len();
        skip = 0;
        if filled == size {
            break;
        }
    }
    Ok(tensor)
}

/// Keeps a tensor alive while its bytes are on their way.
struct Held(Arc<Tensor>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
