//! The dashboard's edge: what is served, who may act, what a page is sent.

use std::{
    collections::BTreeSet,
    path::{Path as File, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use futures::StreamExt as _;
use parking_lot::Mutex;
use serde_json::Value;
use splitplace_proto::center;
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::*;
use crate::{
    face::{Answer, Ask, AskError, Face, LoadError, ModelFacts},
    foresight::WhatIf,
    watch::RequestView,
};

/// Counts how often it was looked at, and keeps what it was told to do.
struct Stub {
    looks: AtomicU64,
    done: Mutex<Vec<Operation>>,
    changes: watch::Sender<u64>,
}

impl Stub {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            looks: AtomicU64::new(0),
            done: Mutex::default(),
            changes: watch::Sender::new(0),
        })
    }
}

impl Face for Stub {
    async fn ask(&self, ask: Ask) -> Result<Answer, AskError> {
        Err(AskError::UnknownModel { model: ask.model })
    }

    fn model(&self, name: &str, _: &str) -> Result<ModelFacts, AskError> {
        Err(AskError::UnknownModel { model: name.into() })
    }

    fn models(&self) -> Vec<ModelFacts> {
        Vec::new()
    }

    fn is_ready(&self) -> bool {
        true
    }

    async fn load(&self, _: &str, _: Option<crate::wishes::Wishes>) -> Result<(), LoadError> {
        Ok(())
    }

    async fn unload(&self, _: &str) -> Result<(), LoadError> {
        Ok(())
    }

    async fn feedback(&self, _: center::FeedbackRequest) -> center::FeedbackResponse {
        center::FeedbackResponse::default()
    }

    fn status(&self) -> center::StatusResponse {
        center::StatusResponse::default()
    }

    async fn snapshot(&self) -> Option<center::SnapshotResponse> {
        None
    }

    async fn plan(&self, _: bool) -> Result<center::PlanResponse, String> {
        Err("a stub plans nothing".into())
    }

    fn profiles(&self) -> Result<center::ProfilesResponse, String> {
        Err("a stub measures nothing".into())
    }

    fn plan_diff(&self, _: center::PlanDiffRequest) -> Result<center::PlanDiffResponse, String> {
        Err("a stub plans nothing".into())
    }

    async fn act(&self, _: center::ActRequest) -> Result<String, String> {
        Err("a stub plans nothing".into())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Watched for Stub {
    fn structure(&self) -> Value {
        json!({ "generation": 1 })
    }

    fn pulse(&self) -> Value {
        json!({ "look": self.looks.fetch_add(1, Ordering::Relaxed) + 1 })
    }

    fn history(&self) -> Value {
        json!({ "models": {} })
    }

    fn request(&self, id: &str) -> Option<Arc<RequestView>> {
        let known = RequestView {
            id: "7".into(),
            ..RequestView::default()
        };
        (id == known.id).then(|| Arc::new(known))
    }

    fn requests(&self, _: Order, _: Option<&str>, _: usize) -> Vec<Arc<RequestView>> {
        Vec::new()
    }

    async fn operate(&self, what: Operation) -> Result<String, String> {
        self.done.lock().push(what);
        Ok("done".into())
    }

    async fn what_if(&self, _: Question) -> Result<WhatIf, WhatIfError> {
        Err(WhatIfError::Busy)
    }
}

fn get_(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

fn post_(path: &str, token: Option<&str>, body: &str) -> Request<Body> {
    let mut request = Request::post(path).header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

fn folder() -> PathBuf {
    File::new(env!("CARGO_MANIFEST_DIR")).join("../dashboard")
}

fn walk(folder: &File, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn every_file_is_served_and_none_reaches_outside() {
    let mut files = Vec::new();
    walk(&folder(), &mut files);
    let there: BTreeSet<String> = files
        .iter()
        .map(|path| {
            path.strip_prefix(folder())
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|path| !path.ends_with("README.md"))
        .collect();
    let served: BTreeSet<String> = assets::ASSETS
        .iter()
        .map(|asset| asset.path.to_owned())
        .collect();
    assert_eq!(there, served);
    for asset in assets::ASSETS {
        let path = asset.path;
        assert!(asset.bytes.len() < 256 << 10, "{path} is a large file");
        if path.starts_with("vendor/") {
            continue;
        }
        let text = std::str::from_utf8(asset.bytes).unwrap();
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for word in [
            "http://",
            "https://",
            "innerHTML",
            "outerHTML",
            "eval(",
            "document.write",
        ] {
            assert!(!text.contains(word), "{path} has {word}");
        }
        if path.ends_with(".html") {
            // What the policy forbids would not work.
            for word in ["<style", "style=", "onclick=", "onload=", "<script>"] {
                assert!(!text.contains(word), "{path} has {word}");
            }
        }
    }
}

#[tokio::test]
async fn every_answer_carries_the_policy_and_files_are_known_by_their_hash() {
    let routes = dashboard(&Stub::new(), Tokens::default());
    for path in [
        "/",
        "/dashboard/js/main.js",
        "/dashboard/state",
        "/dashboard/nothing",
    ] {
        let answer = routes.clone().oneshot(get_(path)).await.unwrap();
        let policy = answer.headers()["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{path}");
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    }
    let first = routes.clone().oneshot(get_("/")).await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(first.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(first.headers()["cache-control"], "no-cache");
    let etag = first.headers()["etag"].clone();
    let mut again = get_("/");
    again.headers_mut().insert("if-none-match", etag);
    let again = routes.clone().oneshot(again).await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    let state = routes
        .clone()
        .oneshot(get_("/dashboard/state"))
        .await
        .unwrap();
    assert_eq!(state.headers()["cache-control"], "no-store");
    let missing = routes
        .oneshot(get_("/dashboard/../Cargo.toml"))
        .await
        .unwrap();
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn only_a_token_lets_somebody_act() {
    let stub = Stub::new();
    let drain = r#"{"act":"drain","node":"a"}"#;
    let routes = dashboard(&stub, Tokens::from_lines("secret"));
    for token in [None, Some("wrong"), Some("")] {
        for path in ["/dashboard/act", "/dashboard/token"] {
            let answer = routes
                .clone()
                .oneshot(post_(path, token, drain))
                .await
                .unwrap();
            assert_eq!(
                answer.status(),
                StatusCode::UNAUTHORIZED,
                "{token:?} {path}"
            );
        }
    }
    // Where there is no token at all nobody may act.
    let open = dashboard(&stub, Tokens::default());
    let answer = open
        .oneshot(post_("/dashboard/act", None, drain))
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(stub.done.lock().is_empty());
    let answer = routes
        .clone()
        .oneshot(post_("/dashboard/act", Some("secret"), drain))
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(*stub.done.lock(), [Operation::Drain { node: "a".into() }]);
    for wrong in [
        "",
        "{}",
        r#"{"act":"explode"}"#,
        r#"{"act":"drain","node":"a","more":1}"#,
    ] {
        let request = post_("/dashboard/act", Some("secret"), wrong);
        let answer = routes.clone().oneshot(request).await.unwrap();
        assert!(answer.status().is_client_error(), "{wrong}");
    }
    let large = "x".repeat(BODY_BYTES + 1);
    let request = post_("/dashboard/act", Some("secret"), &large);
    let answer = routes.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(stub.done.lock().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_answered_is_told_in_words() {
    let routes = dashboard(&Stub::new(), Tokens::default());
    let question = r#"{"kind":"load","factor":2}"#;
    let request = post_("/dashboard/what-if", None, question);
    let answer = routes.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    for (path, status) in [
        ("/dashboard/requests/7", StatusCode::OK),
        ("/dashboard/requests/8", StatusCode::NOT_FOUND),
        ("/dashboard/requests?order=best", StatusCode::BAD_REQUEST),
        (
            "/dashboard/requests?order=slowest&count=9999",
            StatusCode::OK,
        ),
    ] {
        let answer = routes.clone().oneshot(get_(path)).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let body = to_bytes(answer.into_body(), 1 << 16).await.unwrap();
        let told: Value = serde_json::from_slice(&body).unwrap();
        let error = told["error"].as_str().unwrap_or_default();
        assert_eq!(error.is_empty(), status.is_success(), "{path}");
    }
}

/// The next event of a stream: its name and its data.
async fn event(stream: &mut axum::body::BodyDataStream) -> (String, Value) {
    loop {
        let chunk = stream.next().await.unwrap().unwrap();
        let text = String::from_utf8(chunk.to_vec()).unwrap();
        let of = |field: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(field));
            line.map(|line| line.trim().to_owned())
        };
        if let (Some(name), Some(data)) = (of("event:"), of("data:")) {
            return (name, serde_json::from_str(&data).unwrap());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_page_is_sent_the_latest_and_nothing_piles_up() {
    let stub = Stub::new();
    let routes = dashboard(&stub, Tokens::default());
    let answer = routes
        .clone()
        .oneshot(get_("/dashboard/events"))
        .await
        .unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut stream = answer.into_body().into_data_stream();
    assert_eq!(event(&mut stream).await.0, "history");
    assert_eq!(event(&mut stream).await.0, "structure");
    let (name, first) = event(&mut stream).await;
    assert_eq!((&name[..], &first["look"]), ("pulse", &json!(1)));
    // The page does not read for a minute of looks.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let looks = stub.looks.load(Ordering::Relaxed);
    assert!(looks > 50, "{looks}");
    let (_, next) = event(&mut stream).await;
    assert_eq!(next["look"], json!(looks), "what is old is skipped");
    let (_, then) = event(&mut stream).await;
    assert_eq!(then["look"], json!(looks + 1));
}

#[tokio::test(start_paused = true)]
async fn nobody_looks_while_nobody_watches_and_only_so_many_may() {
    let stub = Stub::new();
    let routes = dashboard(&stub, Tokens::default());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(stub.looks.load(Ordering::Relaxed), 0);
    let mut pages = Vec::new();
    for _ in 0..live::SUBSCRIBERS {
        let answer = routes
            .clone()
            .oneshot(get_("/dashboard/events"))
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        pages.push(answer);
    }
    let one_more = routes
        .clone()
        .oneshot(get_("/dashboard/events"))
        .await
        .unwrap();
    assert_eq!(one_more.status(), StatusCode::SERVICE_UNAVAILABLE);
    pages.pop();
    let one_more = routes
        .clone()
        .oneshot(get_("/dashboard/events"))
        .await
        .unwrap();
    assert_eq!(one_more.status(), StatusCode::OK);
    drop((pages, one_more));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let looks = stub.looks.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(stub.looks.load(Ordering::Relaxed), looks);
}
