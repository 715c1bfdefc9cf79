//! The inference protocol, case by case, as real clients meet it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod grpc;
mod promises;
mod refusals;
mod rest;
mod services;

use std::process::Command;

use serde_json::Value;
use splitplace_proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse,
    grpc_inference_service_client::GrpcInferenceServiceClient, infer_parameter::ParameterChoice,
    model_infer_request::InferInputTensor,
};
use splitplace_tests::process::Process;
use tonic::{Status, transport::Channel};

pub(crate) type Client = GrpcInferenceServiceClient<Channel>;

pub(crate) fn up(arguments: &[&str]) -> (Process, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_splitplace"));
    command
        .args(["up", "--json", "--free-ports", "--nodes", "2"])
        .args(arguments);
    let mut up = Process::start(&mut command).unwrap();
    let told = up.json_line().unwrap();
    (up, told)
}

pub(crate) async fn channel(told: &Value) -> Channel {
    let address = format!("http://{}", told["grpc"].as_str().unwrap());
    Channel::from_shared(address)
        .unwrap()
        .connect()
        .await
        .unwrap()
}

pub(crate) fn raw(values: impl IntoIterator<Item = i32>) -> bytes::Bytes {
    values
        .into_iter()
        .flat_map(i32::to_le_bytes)
        .collect::<Vec<u8>>()
        .into()
}

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.into(),
        ..Default::default()
    }
}

/// A good request: 16 numbers and 16 ones.
pub(crate) fn good() -> ModelInferRequest {
    ModelInferRequest {
        model_name: "simple".into(),
        id: "my id".into(),
        inputs: vec![
            input("INPUT0", "INT32", &[1, 16]),
            input("INPUT1", "INT32", &[1, 16]),
        ],
        raw_input_contents: vec![raw(0..16), raw([1; 16])],
        ..Default::default()
    }
}

pub(crate) fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter {
        parameter_choice: Some(choice),
    }
}

pub(crate) async fn infer(
    client: &mut Client,
    request: ModelInferRequest,
) -> Result<ModelInferResponse, Status> {
    client
        .model_infer(request)
        .await
        .map(tonic::Response::into_inner)
}
