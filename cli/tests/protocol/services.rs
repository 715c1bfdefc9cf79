//! What stands beside inference: health, reflection, tokens.

use splitplace_proto::inference::RepositoryModelUnloadRequest;
use splitplace_tests::http::ask;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{Client, channel, good, infer, up};

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
