//! What requests carry: pictures with known classes, files, or noise of the model's shape.

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use splitplace_proto::inference::{
    InferParameter, ModelInferRequest, ModelMetadataResponse, infer_parameter::ParameterChoice,
    model_infer_request::InferInputTensor, model_metadata_response::TensorMetadata,
};
use std::time::Duration;

use crate::{dataset::DataSet, shipped::Pictures};

/// Ready-made inputs; a request only points at them.
#[derive(Clone, Debug)]
pub(crate) struct Payloads {
    model: String,
    version: String,
    inputs: Vec<InferInputTensor>,
    /// One entry for each input.
    bodies: Vec<Vec<Bytes>>,
    /// Classes of the samples of each payload; empty when they are not known.
    labels: Vec<Vec<u32>>,
}

/// Payloads of noise that are made.
const NOISE: usize = 16;
/// Values that an element of noise may take: those of a pixel.
const NOISE_VALUES: u32 = 256;

impl Payloads {
    /// Pictures, `batch` to a request, for a model with one input of that shape.
    pub(crate) fn pictures(
        metadata: &ModelMetadataResponse,
        pictures: &Pictures,
        batch: usize,
    ) -> anyhow::Result<Self> {
        let [input] = metadata.inputs.as_slice() else {
            bail!(
                "pictures need a model with one input; this has {}",
                metadata.inputs.len()
            );
        };
        ensure!(
            takes(input, pictures.size),
            "the model takes {} of shape {:?}, not pictures of {:?}",
            input.datatype,
            input.shape,
            pictures.size
        );
        ensure!(
            batch > 0 && pictures.len() >= batch,
            "a batch of {batch} cannot be made"
        );
        let count = pictures.len() / batch;
        let of = |number: usize| {
            let floats = (0..batch).flat_map(|k| pictures.floats(number * batch + k));
            vec![Bytes::from(floats.collect::<Vec<u8>>())]
        };
        let labels = pictures.labels.chunks_exact(batch);
        let labels = labels.map(|chunk| chunk.iter().map(|&label| u32::from(label)).collect());
        Ok(Self {
            model: metadata.name.clone(),
            version: String::new(),
            inputs: vec![header(input, batch)?],
            bodies: (0..count).map(of).collect(),
            labels: labels.collect(),
        })
    }

    /// Pictures as encoded files, one to a request, for a model with one input that takes them.
    pub(crate) fn files(metadata: &ModelMetadataResponse, data: &DataSet) -> anyhow::Result<Self> {
        let [input] = metadata.inputs.as_slice() else {
            bail!(
                "pictures need a model with one input; this has {}",
                metadata.inputs.len()
            );
        };
        let body = |at: usize| -> anyhow::Result<Vec<Bytes>> {
            let file = data.encoded(at)?;
            // An element of BYTES is its length and its bytes.
            let mut bytes = u32::try_from(file.len())?.to_le_bytes().to_vec();
            bytes.extend_from_slice(&file);
            Ok(vec![bytes.into()])
        };
        Ok(Self {
            model: metadata.name.clone(),
            version: String::new(),
            inputs: vec![InferInputTensor {
                name: input.name.clone(),
                datatype: "BYTES".into(),
                shape: vec![1],
                ..InferInputTensor::default()
            }],
            bodies: (0..data.len()).map(body).collect::<anyhow::Result<_>>()?,
            labels: (0..data.len()).map(|at| vec![data.label(at)]).collect(),
        })
    }

    /// Noise for any model: every open dimension is `batch`.
    pub(crate) fn noise(
        metadata: &ModelMetadataResponse,
        batch: usize,
        seed: u64,
    ) -> anyhow::Result<Self> {
        ensure!(
            !metadata.inputs.is_empty(),
            "the server does not say what the model takes"
        );
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let inputs = metadata.inputs.iter().map(|input| header(input, batch));
        let inputs: Vec<InferInputTensor> = inputs.collect::<anyhow::Result<_>>()?;
        let mut bodies = Vec::new();
        for _ in 0..NOISE {
            let body = inputs.iter().map(|input| noise(input, &mut rng));
            bodies.push(body.collect::<anyhow::Result<_>>()?);
        }
        Ok(Self {
            model: metadata.name.clone(),
            version: String::new(),
            inputs,
            bodies,
            labels: Vec::new(),
        })
    }

    /// Bytes that one request carries.
    pub(crate) fn request_bytes(&self) -> usize {
        self.bodies
            .first()
            .map_or(0, |body| body.iter().map(Bytes::len).sum())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.bodies.len()
    }

    /// Classes of the samples of a payload; empty when they are not known.
    pub(crate) fn labels(&self, payload: usize) -> &[u32] {
        self.labels.get(payload).map_or(&[], Vec::as_slice)
    }

    /// The request with a payload and a promise.
    pub(crate) fn request(&self, payload: usize, sla: Option<Duration>) -> ModelInferRequest {
        let mut request = ModelInferRequest {
            model_name: self.model.clone(),
            model_version: self.version.clone(),
            inputs: self.inputs.clone(),
            raw_input_contents: self.bodies[payload].clone(),
            ..ModelInferRequest::default()
        };
        if let Some(sla) = sla {
            let choice = Some(ParameterChoice::DoubleParam(sla.as_secs_f64() * 1e3));
            let parameter = InferParameter {
                parameter_choice: choice,
            };
            request
                .parameters
                .insert("splitplace_sla_ms".into(), parameter);
        }
        request
    }
}

/// Whether an input takes one grey picture of that size.
pub(crate) fn takes(input: &TensorMetadata, size: [usize; 2]) -> bool {
    let fixed: Vec<i64> = input.shape.iter().copied().filter(|dim| *dim > 1).collect();
    let size = size.map(|side| i64::try_from(side).unwrap_or(-1));
    input.datatype == "FP32" && fixed == size
}

fn header(input: &TensorMetadata, batch: usize) -> anyhow::Result<InferInputTensor> {
    let batch = i64::try_from(batch)?;
    Ok(InferInputTensor {
        name: input.name.clone(),
        datatype: input.datatype.clone(),
        shape: input
            .shape
            .iter()
            .map(|dim| if *dim < 0 { batch } else { *dim })
            .collect(),
        ..InferInputTensor::default()
    })
}

fn noise(input: &InferInputTensor, rng: &mut ChaCha8Rng) -> anyhow::Result<Bytes> {
    let count = input
        .shape
        .iter()
        .try_fold(1_i64, |count, dim| count.checked_mul(*dim));
    let count = count.filter(|count| (0..=1 << 28).contains(count));
    let count = count.with_context(|| format!("input {:?} is too large", input.shape))?;
    let mut bytes = Vec::new();
    for _ in 0..count {
        let value = rng.next_u32() % NOISE_VALUES;
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        match input.datatype.as_str() {
            "BOOL" => bytes.push(value as u8 & 1),
            "UINT8" => bytes.push(value as u8),
            "INT8" => bytes.push(value as u8 / 2),
            "INT16" | "UINT16" => bytes.extend((value as u16).to_le_bytes()),
            "INT32" | "UINT32" => bytes.extend(value.to_le_bytes()),
            "INT64" | "UINT64" => bytes.extend(u64::from(value).to_le_bytes()),
            "FP16" => bytes.extend(half_of(value).to_le_bytes()),
            "FP32" => bytes.extend(f32::from(value as u8).to_le_bytes()),
            "FP64" => bytes.extend(f64::from(value).to_le_bytes()),
            "BYTES" => {
                bytes.extend(1_u32.to_le_bytes());
                bytes.push(value as u8);
            }
            other => bail!(
                "input '{}' has type {other}, which is not known here",
                input.name
            ),
        }
    }
    Ok(bytes.into())
}

/// Half-precision bits of a number below 1: 2^-8 times `value`, in units that need no rounding.
const fn half_of(value: u32) -> u16 {
    if value == 0 {
        return 0;
    }
    let top = 31 - value.leading_zeros();
    let exponent = 15 + top - 8;
    let mantissa = (value << (10 - top)) & 0x3ff;
    #[expect(clippy::cast_possible_truncation, reason = "five and ten bits")]
    {
        ((exponent << 10) | mantissa) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_exact() {
        // 1/256, 1/2, 255/256 by the definition of binary16.
        assert_eq!(
            [half_of(1), half_of(128), half_of(255)],
            [0x1c00, 0x3800, 0x3bf8]
        );
    }

    #[test]
    fn pictures_fit_only_their_shape() {
        let input = |datatype: &str, shape: &[i64]| TensorMetadata {
            name: "x".into(),
            datatype: datatype.into(),
            shape: shape.into(),
        };
        assert!(takes(&input("FP32", &[-1, 1, 28, 28]), [28, 28]));
        assert!(takes(&input("FP32", &[1, 28, 28]), [28, 28]));
        assert!(!takes(&input("FP32", &[-1, 3, 28, 28]), [28, 28]));
        assert!(!takes(&input("UINT8", &[-1, 1, 28, 28]), [28, 28]));
    }
}
