//! What a model says about itself, in the messages of the protocol. REST shows the same as JSON.

use splitplace_proto::{
    data::DType,
    inference::{
        DataType, InferStatistics, ModelConfig, ModelInput, ModelMetadataResponse, ModelOutput,
        ModelParameter, ModelStatistics, StatisticDuration,
        model_metadata_response::TensorMetadata,
    },
};

use super::tensors::word;
use crate::face::{ModelFacts, Tally, TensorFacts};

/// Name of this server.
pub(super) const SERVER_NAME: &str = "splitplace";
/// What is there beyond the required calls.
pub(super) const EXTENSIONS: [&str; 8] = [
    "model_configuration",
    "model_repository",
    "statistics",
    "parameters",
    "binary_tensor_data",
    "schedule_policy",
    "splitplace_sla",
    "splitplace_feedback",
];
/// The protocol's name for ONNX models.
pub(super) const PLATFORM: &str = "onnx_onnxv1";

pub(super) fn metadata(facts: ModelFacts) -> ModelMetadataResponse {
    let tensor = |facts: TensorFacts| TensorMetadata {
        name: facts.name,
        datatype: word(facts.dtype).into(),
        shape: facts.shape,
    };
    ModelMetadataResponse {
        name: facts.name,
        versions: vec![facts.version],
        platform: PLATFORM.into(),
        inputs: facts.inputs.into_iter().map(tensor).collect(),
        outputs: facts.outputs.into_iter().map(tensor).collect(),
        properties: facts.properties.into_iter().collect(),
    }
}

/// Configuration in Triton's schema. The batch is a dimension like any other, so `max_batch_size` is 0
/// and `dims` are whole shapes.
pub(super) fn config(facts: ModelFacts) -> ModelConfig {
    let mut parameters: std::collections::HashMap<String, ModelParameter> = facts
        .properties
        .into_iter()
        .map(|(name, string_value)| (name, ModelParameter { string_value }))
        .collect();
    for output in facts
        .outputs
        .iter()
        .filter(|output| !output.labels.is_empty())
    {
        let string_value = output.labels.join(",");
        parameters.insert(
            format!("labels:{}", output.name),
            ModelParameter { string_value },
        );
    }
    let data_type = |dtype| data_type(dtype).into();
    ModelConfig {
        name: facts.name,
        platform: PLATFORM.into(),
        max_batch_size: 0,
        input: facts
            .inputs
            .into_iter()
            .map(|input| ModelInput {
                data_type: data_type(input.dtype),
                name: input.name,
                dims: input.shape,
            })
            .collect(),
        output: facts
            .outputs
            .into_iter()
            .map(|output| ModelOutput {
                data_type: data_type(output.dtype),
                name: output.name,
                dims: output.shape,
                label_filename: String::new(),
            })
            .collect(),
        parameters,
        backend: SERVER_NAME.into(),
        model_transaction_policy: None,
    }
}

const fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::Unspecified => DataType::TypeInvalid,
        DType::Bool => DataType::TypeBool,
        DType::Uint8 => DataType::TypeUint8,
        DType::Uint16 => DataType::TypeUint16,
        DType::Uint32 => DataType::TypeUint32,
        DType::Uint64 => DataType::TypeUint64,
        DType::Int8 => DataType::TypeInt8,
        DType::Int16 => DataType::TypeInt16,
        DType::Int32 => DataType::TypeInt32,
        DType::Int64 => DataType::TypeInt64,
        DType::Fp16 => DataType::TypeFp16,
        DType::Fp32 => DataType::TypeFp32,
        DType::Fp64 => DataType::TypeFp64,
        DType::Bytes => DataType::TypeString,
    }
}

pub(super) fn statistics(facts: &ModelFacts) -> ModelStatistics {
    let of = |tally: Tally| {
        Some(StatisticDuration {
            count: tally.count,
            ns: tally.nanos,
        })
    };
    let tallies = facts.tallies;
    ModelStatistics {
        name: facts.name.clone(),
        version: facts.version.clone(),
        last_inference: tallies.last_inference_unix_ms,
        inference_count: tallies.samples,
        execution_count: tallies.success.count,
        inference_stats: Some(InferStatistics {
            success: of(tallies.success),
            fail: of(tallies.fail),
            queue: of(tallies.queue),
            compute_input: of(tallies.compute_input),
            compute_infer: of(tallies.compute_infer),
            compute_output: of(tallies.compute_output),
            cache_hit: of(Tally::default()),
            cache_miss: of(Tally::default()),
        }),
        batch_stats: Vec::new(),
    }
}
