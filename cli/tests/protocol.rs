//! The inference protocol, case by case, as real clients meet it: gRPC, REST, health, reflection.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::HashMap, process::Command, time::Duration};

use serde_json::{Value, json};
use splitplace_proto::inference::{
    InferParameter, InferTensorContents, ModelConfigRequest, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelReadyRequest, ModelStatisticsRequest, RepositoryIndexRequest,
    RepositoryModelLoadRequest, RepositoryModelUnloadRequest, ServerLiveRequest,
    ServerMetadataRequest, ServerReadyRequest,
    grpc_inference_service_client::GrpcInferenceServiceClient,
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};
use splitplace_tests::{
    http::{Answer, ask},
    process::Process,
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

type Client = GrpcInferenceServiceClient<Channel>;

fn up(arguments: &[&str]) -> (Process, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_splitplace"));
    command
        .args(["up", "--json", "--free-ports", "--nodes", "2"])
        .args(arguments);
    let mut up = Process::start(&mut command).unwrap();
    let told = up.json_line().unwrap();
    (up, told)
}

async fn channel(told: &Value) -> Channel {
    let address = format!("http://{}", told["grpc"].as_str().unwrap());
    Channel::from_shared(address)
        .unwrap()
        .connect()
        .await
        .unwrap()
}

fn raw(values: impl IntoIterator<Item = i32>) -> bytes::Bytes {
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
fn good() -> ModelInferRequest {
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

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter {
        parameter_choice: Some(choice),
    }
}

fn said<'a>(response: &'a ModelInferResponse, name: &str) -> &'a ParameterChoice {
    response.parameters[name].parameter_choice.as_ref().unwrap()
}

async fn infer(
    client: &mut Client,
    request: ModelInferRequest,
) -> Result<ModelInferResponse, Status> {
    client
        .model_infer(request)
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test]
async fn grpc_answers_as_clients_expect() {
    let (_up, told) = up(&[]);
    let client = &mut Client::new(channel(&told).await);
    assert!(
        client
            .server_live(ServerLiveRequest {})
            .await
            .unwrap()
            .into_inner()
            .live
    );
    assert!(
        client
            .server_ready(ServerReadyRequest {})
            .await
            .unwrap()
            .into_inner()
            .ready
    );
    let metadata = client
        .server_metadata(ServerMetadataRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(metadata.name, "splitplace");
    assert!(
        metadata
            .extensions
            .iter()
            .any(|e| e == "binary_tensor_data")
    );

    let answer = infer(client, good()).await.unwrap();
    assert_eq!(
        (answer.id.as_str(), answer.model_version.as_str()),
        ("my id", "1")
    );
    assert_eq!(answer.raw_output_contents[0], raw(1..17));
    assert_eq!(answer.raw_output_contents[1], raw(-1..15));
    assert!(
        answer
            .outputs
            .iter()
            .all(|output| output.contents.is_none())
    );

    // Typed contents, inputs in another order, one output only.
    let mut typed = good();
    typed.raw_input_contents.clear();
    for (input, numbers) in typed.inputs.iter_mut().zip([vec![7; 16], vec![2; 16]]) {
        input.contents = Some(InferTensorContents {
            int_contents: numbers,
            ..Default::default()
        });
    }
    typed.inputs.reverse();
    typed.outputs = vec![InferRequestedOutputTensor {
        name: "OUTPUT1".into(),
        ..Default::default()
    }];
    let answer = infer(client, typed).await.unwrap();
    assert_eq!(answer.outputs.len(), 1);
    assert_eq!(answer.raw_output_contents[0], raw([5; 16]));

    // A batch of three.
    let mut batch = good();
    batch.inputs[0].shape = vec![3, 16];
    batch.inputs[1].shape = vec![3, 16];
    batch.raw_input_contents = vec![raw(0..48), raw([1; 48])];
    let answer = infer(client, batch).await.unwrap();
    assert_eq!(answer.outputs[0].shape, [3, 16]);
    assert_eq!(answer.raw_output_contents[0], raw(1..49));

    refusals(client).await;
    promises(client).await;
    models(client).await;
}

/// A mistake, and how it is answered.
type Case = (&'static str, fn(&mut ModelInferRequest), Code, &'static str);

async fn refusals(client: &mut Client) {
    let cases: &[Case] = &[
        (
            "unknown model",
            |r| r.model_name = "x".into(),
            Code::NotFound,
            "unknown model: 'x' is not found",
        ),
        (
            "no number",
            |r| r.model_version = "v1".into(),
            Code::InvalidArgument,
            "number",
        ),
        (
            "unknown version",
            |r| r.model_version = "7".into(),
            Code::NotFound,
            "version 7 is not found",
        ),
        (
            "raw and contents",
            |r| r.inputs[0].contents = Some(InferTensorContents::default()),
            Code::InvalidArgument,
            "contents field must not be specified when using raw_input_contents for 'INPUT0' for model \
             'simple'",
        ),
        (
            "too few raw",
            |r| drop(r.raw_input_contents.pop()),
            Code::InvalidArgument,
            "each of the 2 inputs",
        ),
        (
            "wrong size",
            |r| r.raw_input_contents[1] = raw([1; 15]),
            Code::InvalidArgument,
            "unexpected size 60 for input 'INPUT1'",
        ),
        (
            "missing input",
            |r| {
                r.inputs.pop();
                r.raw_input_contents.pop();
            },
            Code::InvalidArgument,
            "expected 2 inputs but got 1",
        ),
        (
            "unknown input",
            |r| r.inputs[1].name = "Z".into(),
            Code::InvalidArgument,
            "'Z'",
        ),
        (
            "duplicate",
            |r| r.inputs[1].name = "INPUT0".into(),
            Code::InvalidArgument,
            "INPUT1",
        ),
        (
            "wrong type",
            |r| r.inputs[0].datatype = "FP32".into(),
            Code::InvalidArgument,
            "INT32",
        ),
        (
            "unknown type",
            |r| r.inputs[0].datatype = "FP31".into(),
            Code::InvalidArgument,
            "FP31",
        ),
        (
            "wrong shape",
            |r| r.inputs[0].shape = vec![16, 1],
            Code::InvalidArgument,
            "[-1,16]",
        ),
        (
            "negative",
            |r| r.inputs[0].shape = vec![-1, -16],
            Code::InvalidArgument,
            "negative",
        ),
        (
            "overflow",
            |r| r.inputs[0].shape = vec![i64::MAX, 16],
            Code::InvalidArgument,
            "counted",
        ),
        (
            "unknown output",
            |r| {
                r.outputs = vec![InferRequestedOutputTensor {
                    name: "Q".into(),
                    ..Default::default()
                }];
            },
            Code::InvalidArgument,
            "output 'Q'",
        ),
        (
            "half precision as contents",
            |r| {
                r.raw_input_contents.clear();
                r.inputs[0].datatype = "FP16".into();
            },
            Code::InvalidArgument,
            "raw_input_contents only",
        ),
        (
            "timeout as text",
            |r| {
                let text = parameter(ParameterChoice::StringParam("5".into()));
                r.parameters.insert("timeout".into(), text);
            },
            Code::InvalidArgument,
            "expected int64_param",
        ),
        (
            "reserved name",
            |r| {
                r.parameters.insert(
                    "triton_x".into(),
                    parameter(ParameterChoice::BoolParam(true)),
                );
            },
            Code::InvalidArgument,
            "triton_",
        ),
        (
            "a promise that is none",
            |r| {
                let zero = parameter(ParameterChoice::Int64Param(0));
                r.parameters.insert("splitplace_sla_ms".into(), zero);
            },
            Code::InvalidArgument,
            "splitplace_sla_ms",
        ),
    ];
    for (name, spoil, code, text) in cases {
        let mut request = good();
        spoil(&mut request);
        let status = infer(client, request).await.expect_err(name);
        assert_eq!(status.code(), *code, "{name}: {status}");
        assert!(
            status.message().contains(text),
            "{name}: {}",
            status.message()
        );
        assert_eq!(
            status.metadata().get("splitplace-admitted").unwrap(),
            "false",
            "{name}"
        );
        let page = if *code == Code::NotFound {
            "SP303"
        } else {
            "SP308"
        };
        assert_eq!(
            status.metadata().get("splitplace-code").unwrap(),
            page,
            "{name}"
        );
    }
    // Nothing of it did any harm.
    assert!(infer(client, good()).await.is_ok());
}

async fn promises(client: &mut Client) {
    use ParameterChoice::{DoubleParam, Int64Param, StringParam};
    let promised = |response: &ModelInferResponse| match said(response, "splitplace_sla_us") {
        Int64Param(us) => *us,
        other => panic!("{other:?}"),
    };
    let request = |parameters: Vec<(&str, ParameterChoice)>, deadline: Option<u64>| {
        let mut message = good();
        message.parameters = parameters
            .into_iter()
            .map(|(name, choice)| (name.to_owned(), parameter(choice)))
            .collect::<HashMap<_, _>>();
        let mut request = Request::new(message);
        if let Some(seconds) = deadline {
            request.set_timeout(Duration::from_secs(seconds));
        }
        request
    };
    let own = "splitplace_sla_ms";
    let cases = [
        (
            request(
                vec![(own, Int64Param(700)), ("timeout", Int64Param(600_000))],
                Some(5),
            ),
            700_000,
        ),
        (request(vec![(own, DoubleParam(700.5))], None), 700_500),
        (
            request(vec![(own, StringParam("700.5".into()))], None),
            700_500,
        ),
        (
            request(vec![("timeout", Int64Param(600_000))], Some(5)),
            600_000,
        ),
        (request(vec![], Some(5)), 5_000_000),
        (
            request(vec![("anything", StringParam("else".into()))], None),
            250_000,
        ),
    ];
    for (request, wanted) in cases {
        let response = client.model_infer(request).await.unwrap().into_inner();
        assert_eq!(promised(&response), wanted);
        assert_eq!(
            said(&response, "splitplace_variant"),
            &StringParam("base".into())
        );
    }
}

async fn models(client: &mut Client) {
    let ready = |name: &str, version: &str| ModelReadyRequest {
        name: name.into(),
        version: version.into(),
    };
    assert!(
        client
            .model_ready(ready("simple", "1"))
            .await
            .unwrap()
            .into_inner()
            .ready
    );
    assert!(
        !client
            .model_ready(ready("x", ""))
            .await
            .unwrap()
            .into_inner()
            .ready
    );
    assert!(
        !client
            .model_ready(ready("simple", "9"))
            .await
            .unwrap()
            .into_inner()
            .ready
    );
    let error = client.model_ready(ready("simple", "v")).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);

    let of = |name: &str| ModelMetadataRequest {
        name: name.into(),
        version: String::new(),
    };
    let metadata = client
        .model_metadata(of("fashion-mnist"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(metadata.inputs[0].shape, [-1, 1, 28, 28]);
    assert_eq!(metadata.versions, ["2"]);
    assert_eq!(
        client.model_metadata(of("x")).await.unwrap_err().code(),
        Code::NotFound
    );

    let config = ModelConfigRequest {
        name: "simple".into(),
        version: String::new(),
    };
    let config = client
        .model_config(config)
        .await
        .unwrap()
        .into_inner()
        .config
        .unwrap();
    assert_eq!((config.max_batch_size, config.input.len()), (0, 2));

    let statistics = ModelStatisticsRequest {
        name: "simple".into(),
        version: String::new(),
    };
    let statistics = client
        .model_statistics(statistics)
        .await
        .unwrap()
        .into_inner();
    let stats = &statistics.model_stats[0];
    assert!(
        stats.inference_count > stats.execution_count,
        "a batch counts its samples"
    );
    assert!(stats.last_inference > 0);

    let index = |ready| RepositoryIndexRequest {
        repository_name: String::new(),
        ready,
    };
    let all = client
        .repository_index(index(false))
        .await
        .unwrap()
        .into_inner()
        .models;
    assert_eq!(
        all.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
        ["fashion-mnist", "simple"]
    );
    let unload = RepositoryModelUnloadRequest {
        model_name: "simple".into(),
        ..Default::default()
    };
    client
        .repository_model_unload(unload.clone())
        .await
        .unwrap();
    let left = client
        .repository_index(index(true))
        .await
        .unwrap()
        .into_inner()
        .models;
    assert_eq!(
        left.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
        ["fashion-mnist"]
    );
    let gone = infer(client, good()).await.unwrap_err();
    assert!(
        matches!(gone.code(), Code::NotFound | Code::Unavailable),
        "{gone}"
    );
    let load = |name: &str| RepositoryModelLoadRequest {
        model_name: name.into(),
        ..Default::default()
    };
    client.repository_model_load(load("simple")).await.unwrap();
    infer(client, good()).await.unwrap();
    let error = client.repository_model_load(load("zz")).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("failed to load 'zz'"), "{error}");
    assert_eq!(error.metadata().get("splitplace-code").unwrap(), "SP303");
}

#[tokio::test]
async fn a_bad_request_leaves_its_stream_open() {
    let (_up, told) = up(&["--load", "simple"]);
    let client = &mut Client::new(channel(&told).await);
    let requests = (0..60).map(|number| {
        let mut request = good();
        request.id = number.to_string();
        if number % 3 == 1 {
            request.raw_input_contents.pop();
        }
        request
    });
    let answers = client
        .model_stream_infer(tokio_stream::iter(requests))
        .await
        .unwrap();
    let answers: Vec<_> = answers.into_inner().map(Result::unwrap).collect().await;
    assert_eq!(answers.len(), 60);
    for (number, answer) in answers.iter().enumerate() {
        let response = answer.infer_response.as_ref().unwrap();
        assert_eq!(response.id, number.to_string());
        assert_eq!(answer.error_message.is_empty(), number % 3 != 1);
        assert_eq!(response.outputs.is_empty(), number % 3 == 1);
    }
}

#[tokio::test]
async fn health_is_honest_for_every_model() {
    let (_up, told) = up(&["--load", "simple"]);
    let channel = channel(&told).await;
    let health = &mut HealthClient::new(channel.clone());
    let of = |service: &str| HealthCheckRequest {
        service: service.into(),
    };
    for service in ["", "inference.GRPCInferenceService", "simple"] {
        let status = health
            .check(of(service))
            .await
            .unwrap()
            .into_inner()
            .status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    assert_eq!(
        health.check(of("x")).await.unwrap_err().code(),
        Code::NotFound
    );
    let mut unknown = health.watch(of("x")).await.unwrap().into_inner();
    let first = unknown.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::ServiceUnknown);
    let mut watched = health.watch(of("simple")).await.unwrap().into_inner();
    assert_eq!(
        watched.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    let client = &mut Client::new(channel);
    let unload = RepositoryModelUnloadRequest {
        model_name: "simple".into(),
        ..Default::default()
    };
    client.repository_model_unload(unload).await.unwrap();
    let then = watched.message().await.unwrap().unwrap().status();
    assert_ne!(then, ServingStatus::Serving);
}

#[tokio::test]
async fn reflection_names_every_service() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let (_up, told) = up(&["--load", "simple"]);
    let mut client = ServerReflectionClient::new(channel(&told).await);
    let ask = |request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let requests = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(
            "inference.GRPCInferenceService".into(),
        )),
    ];
    let answers = client
        .server_reflection_info(tokio_stream::iter(requests))
        .await
        .unwrap();
    let answers: Vec<_> = answers.into_inner().map(Result::unwrap).collect().await;
    let Some(MessageResponse::ListServicesResponse(list)) = &answers[0].message_response else {
        panic!("{answers:?}");
    };
    let names: Vec<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for name in [
        "inference.GRPCInferenceService",
        "splitplace.center.v1.Center",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let found = answers[1].message_response.as_ref().unwrap();
    assert!(matches!(found, MessageResponse::FileDescriptorResponse(_)));
}

#[test]
fn rest_answers_as_clients_expect() {
    let (_up, told) = up(&[]);
    let address = told["http"].as_str().unwrap().to_owned();
    let get = |path: &str| ask(&address, "GET", path, &[], &[]).unwrap();
    let post = |path: &str, body: &Value| {
        ask(&address, "POST", path, &[], body.to_string().as_bytes()).unwrap()
    };
    let error = |answer: &Answer| answer.json().unwrap()["error"].as_str().unwrap().to_owned();
    assert_eq!(get("/v2/health/live").status, 200);
    assert_eq!(get("/v2/health/ready").status, 200);
    assert_eq!(get("/v2").json().unwrap()["name"], "splitplace");
    assert_eq!(get("/v2/models/simple/ready").status, 200);
    assert_eq!(get("/v2/models/simple/versions/1/ready").status, 200);
    assert_eq!(get("/v2/models/x/ready").status, 404);
    assert_eq!(get("/v2/models/x").json().unwrap()["code"], "SP303");
    assert_eq!(get("/nothing").status, 404);
    let metadata = get("/v2/models/fashion-mnist").json().unwrap();
    assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 1, 28, 28]));
    assert_eq!(
        get("/v2/models/simple/config").json().unwrap()["max_batch_size"],
        0
    );

    let request = |id: Option<&str>| {
        json!({
            "id": id,
            "parameters": { "splitplace_sla_ms": 600 },
            "inputs": [
                { "name": "INPUT0", "shape": [1, 16], "datatype": "INT32", "data": [(0..16).collect::<Vec<_>>()] },
                { "name": "INPUT1", "shape": [1, 16], "datatype": "INT32", "data": vec![1; 16] },
            ],
        })
    };
    let answer = post("/v2/models/simple/infer", &request(Some("an id")));
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = answer.json().unwrap();
    assert_eq!(told["id"], "an id");
    assert_eq!(
        told["outputs"][0]["data"],
        json!((1..17).collect::<Vec<_>>())
    );
    assert_eq!(told["parameters"]["splitplace_sla_us"], 600_000);

    // Binary in, binary out.
    let head = json!({
        "inputs": [
            { "name": "INPUT0", "shape": [1, 16], "datatype": "INT32", "parameters": { "binary_data_size": 64 } },
            { "name": "INPUT1", "shape": [1, 16], "datatype": "INT32", "parameters": { "binary_data_size": 64 } },
        ],
        "outputs": [{ "name": "OUTPUT1", "parameters": { "binary_data": true } }],
    })
    .to_string();
    let mut body = head.clone().into_bytes();
    body.extend_from_slice(&raw(0..16));
    body.extend_from_slice(&raw([1; 16]));
    let length = head.len().to_string();
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    let answer = ask(&address, "POST", "/v2/models/simple/infer", &headers, &body).unwrap();
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    let length: usize = answer
        .header("inference-header-content-length")
        .unwrap()
        .parse()
        .unwrap();
    let told: Value = serde_json::from_slice(&answer.body[..length]).unwrap();
    assert_eq!(told["outputs"].as_array().unwrap().len(), 1);
    assert_eq!(told["outputs"][0]["parameters"]["binary_data_size"], 64);
    assert_eq!(answer.body[length..], raw(-1..15));

    // Mistakes.
    let answer = post("/v2/models/x/infer", &request(None));
    assert_eq!(answer.status, 404);
    assert!(error(&answer).contains("unknown model: 'x'"));
    let answer = post("/v2/models/simple/versions/7/infer", &request(None));
    assert_eq!(answer.status, 404);
    let answer = post("/v2/models/simple/infer", &json!({ "inputs": 3 }));
    assert_eq!(answer.status, 400);
    assert!(error(&answer).contains("parse the request JSON"));
    let mut short = request(None);
    short["inputs"][0]["data"] = json!([1, 2]);
    let answer = post("/v2/models/simple/infer", &short);
    assert_eq!(answer.status, 400);
    assert!(error(&answer).contains("2 elements"), "{}", error(&answer));
    let answer = ask(&address, "POST", "/v2/models/simple/infer", &headers, b"{}").unwrap();
    assert_eq!(answer.status, 400);

    let index = post("/v2/repository/index", &json!({})).json().unwrap();
    assert_eq!(index.as_array().unwrap().len(), 2);
    assert_eq!(
        post("/v2/repository/models/simple/unload", &json!({})).status,
        200
    );
    assert_ne!(get("/v2/models/simple/ready").status, 200);
    assert_eq!(
        post("/v2/repository/models/simple/load", &json!({})).status,
        200
    );
    assert_eq!(get("/v2/models/simple/ready").status, 200);
    let answer = post("/v2/repository/models/zz/load", &json!({}));
    assert_eq!(answer.status, 404);
    assert!(error(&answer).contains("failed to load 'zz'"));
    assert_eq!(answer.json().unwrap()["code"], "SP303");
    let stats = get("/v2/models/stats").json().unwrap();
    assert_eq!(stats["model_stats"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn tokens_keep_strangers_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "open sesame\n").unwrap();
    let set = format!("api.tokens={}", file.display());
    let (_up, told) = up(&["--load", "simple", "--set", &set]);
    let client = &mut Client::new(channel(&told).await);
    let status = infer(client, good()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let mut request = Request::new(good());
    request
        .metadata_mut()
        .insert("authorization", "Bearer open sesame".parse().unwrap());
    assert!(client.model_infer(request).await.is_ok());
    let address = told["http"].as_str().unwrap();
    let get =
        |headers: &[(&str, &str)]| ask(address, "GET", "/v2/models/simple", headers, &[]).unwrap();
    assert_eq!(get(&[]).status, 401);
    assert_eq!(get(&[("authorization", "Bearer open sesame")]).status, 200);
    assert_eq!(
        ask(address, "GET", "/v2/health/live", &[], &[])
            .unwrap()
            .status,
        200
    );
}
