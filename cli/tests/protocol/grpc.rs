//! gRPC: what is answered to good requests, about models, and on a stream.

use splitplace_proto::inference::{
    InferTensorContents, ModelConfigRequest, ModelMetadataRequest, ModelReadyRequest,
    ModelStatisticsRequest, RepositoryIndexRequest, RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest, ServerLiveRequest, ServerMetadataRequest, ServerReadyRequest,
    model_infer_request::InferRequestedOutputTensor,
};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::{Client, channel, good, infer, promises::promises, raw, refusals::refusals, up};

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
