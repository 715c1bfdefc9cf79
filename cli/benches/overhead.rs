//! What it costs to be orchestrated: one request of 150 kB through orchestrator and worker on loopback,
//! against the bare engine call in this process, turn by turn. The bar is 0.6 ms at the median.
//!
//! Expected: two gRPC messages and two frames, each some 50 to 100 µs of sockets and wake-ups, and a few
//! copies of 150 kB (10 to 20 µs each).

use std::{collections::BTreeMap, path::Path, process::Command, time::Instant};

use bytes::Bytes;
use splitplace_onnx::{Limits, Value, prepare};
use splitplace_proto::inference::{
    ModelInferRequest, ServerLiveRequest,
    grpc_inference_service_client::GrpcInferenceServiceClient, infer_parameter::ParameterChoice,
    model_infer_request::InferInputTensor,
};
use splitplace_tests::process::Process;

const SHAPE: [u64; 4] = [1, 3, 112, 112];
const ROUNDS: usize = 20;
const EACH: usize = 100;

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Keeps the stages of one answer's trail, in microseconds.
fn note(stages: &mut BTreeMap<String, Vec<f64>>, hops: &str) {
    let hops: serde_json::Value = serde_json::from_str(hops).expect("JSON");
    for hop in hops.as_array().expect("an array") {
        for stage in ["transfer_us", "queue_us", "compute_us", "encode_us"] {
            let name = format!("hop {} {}", hop["hop"], stage.trim_end_matches("_us"));
            stages
                .entry(name)
                .or_default()
                .push(hop[stage].as_f64().expect("a number"));
        }
    }
}

#[tokio::main]
async fn main() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/testdata/wide.onnx");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(&model, folder.path().join("wide.onnx")).expect("a copy");
    let file = Bytes::from(std::fs::read(&model).expect("the model"));
    let prepared = prepare("wide", file, &Limits::default()).expect("it runs");
    let count: u64 = SHAPE.iter().product();
    let input: Bytes = vec![0x3f; usize::try_from(count * 4).expect("small")].into();
    let value = Value {
        name: prepared.inputs[0].name.clone(),
        element: prepared.inputs[0].element,
        shape: SHAPE.to_vec(),
        chunks: vec![input.clone()],
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_splitplace"));
    command.args([
        "up",
        "--json",
        "--free-ports",
        "--nodes",
        "1",
        "--processes",
        "--models",
    ]);
    let mut up = Process::start(command.arg(folder.path())).expect("it starts");
    let told = up.json_line().expect("it is ready");
    let address = format!("http://{}", told["grpc"].as_str().expect("an address"));
    let channel = tonic::transport::Channel::from_shared(address).expect("an address");
    let channel = channel.tcp_nodelay(true).connect().await.expect("a server");
    let mut client = GrpcInferenceServiceClient::new(channel);
    let request = ModelInferRequest {
        model_name: "wide".into(),
        inputs: vec![InferInputTensor {
            name: prepared.inputs[0].name.clone(),
            datatype: "FP32".into(),
            shape: SHAPE
                .iter()
                .map(|dim| i64::try_from(*dim).expect("small"))
                .collect(),
            ..Default::default()
        }],
        raw_input_contents: vec![input.clone()],
        ..Default::default()
    };
    let (mut bare, mut orchestrated, mut inside) = (Vec::new(), Vec::new(), Vec::new());
    let mut live = Vec::new();
    let mut stages: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for round in 0..=ROUNDS {
        for _ in 0..EACH {
            let begin = Instant::now();
            let made = prepared.run(std::slice::from_ref(&value)).expect("it runs");
            let took = begin.elapsed().as_secs_f64();
            assert_eq!(made.len(), 1);
            if round > 0 {
                bare.push(took);
            }
        }
        for _ in 0..EACH {
            let begin = Instant::now();
            let answer = client
                .model_infer(request.clone())
                .await
                .expect("an answer");
            let took = begin.elapsed().as_secs_f64();
            let mut parameters = answer.into_inner().parameters;
            let mut said = |name| {
                parameters
                    .remove(name)
                    .and_then(|said| said.parameter_choice)
            };
            if round > 0 {
                orchestrated.push(took);
                if let Some(ParameterChoice::Int64Param(us)) = said("splitplace_response_us") {
                    inside.push(us as f64 / 1e6);
                }
                if let Some(ParameterChoice::StringParam(hops)) = said("splitplace_hops") {
                    note(&mut stages, &hops);
                }
            }
        }
        for _ in 0..EACH {
            let begin = Instant::now();
            client
                .server_live(ServerLiveRequest {})
                .await
                .expect("an answer");
            if round > 0 {
                live.push(begin.elapsed().as_secs_f64());
            }
        }
    }
    let (bare, orchestrated, inside) = (
        median(&mut bare),
        median(&mut orchestrated),
        median(&mut inside),
    );
    println!(
        "bare engine {:.0} µs, orchestrated {:.0} µs (of them {:.0} µs between arrival and answer in the \
         orchestrator), cost {:.0} µs (medians of {} calls each)",
        bare * 1e6,
        orchestrated * 1e6,
        inside * 1e6,
        (orchestrated - bare) * 1e6,
        ROUNDS * EACH
    );
    println!(
        "an empty call (ServerLive) {:.0} µs",
        median(&mut live) * 1e6
    );
    for (stage, mut times) in stages {
        println!("{stage} {:.0} µs", median(&mut times));
    }
}
