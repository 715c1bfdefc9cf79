//! REST: JSON and binary tensors, models, mistakes.

use serde_json::{Value, json};
use splitplace_tests::http::{Answer, ask};

use crate::{raw, up};

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
