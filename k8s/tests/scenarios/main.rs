//! The operator against an API server and an orchestrator of this process: each test is a story.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod center;
mod fetching;
mod leaders;
mod models;
mod neighbours;
mod node_stories;
mod real;
#[path = "../cases/refused.rs"]
mod refused;
mod rights;
mod snapshots;
mod statuses;

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use splitplace_k8s::{
    decide::Settings,
    fetch::{FetchPod, FetchSettings},
    lease::LeaseOptions,
    operator::{self, Options, Pulse},
};
use tokio::{sync::oneshot, task::JoinHandle};

use splitplace_tests::cluster::Fake;

use crate::center::Story;

/// A client of an API server in this process.
pub(crate) fn client(fake: &Fake) -> kube::Client {
    let fake = fake.clone();
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let fake = fake.clone();
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect().await?.to_bytes();
            Ok::<_, kube::Error>(fake.answer(http::Request::from_parts(parts, bytes)))
        }
    });
    kube::Client::new(service, "edge")
}

/// A running operator.
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), splitplace_k8s::cluster::Error>>,
    pub(crate) pulse: Arc<Pulse>,
}

impl Running {
    /// Asks it to stop, and waits.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
    }

    /// Kills it: nothing is given back.
    pub(crate) fn kill(self) {
        self.task.abort();
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        namespace: "edge".into(),
        app: ("splitplace".into(), "sp".into()),
        public_grpc: "sp-splitplace.edge.svc:8001".into(),
        public_http: "sp-splitplace.edge.svc:8000".into(),
        service: None,
        route: None,
        tls: true,
        fetch: Some(FetchSettings {
            image: "splitplace:0.1.0".into(),
            pull_policy: "IfNotPresent".into(),
            claim: "sp-splitplace-store".into(),
            path: "models".into(),
            pod: FetchPod::default(),
        }),
        tolerated: vec!["edge".into()],
    }
}

pub(crate) fn start(fake: &Fake, center: &Story, name: &str) -> Running {
    start_with(client(fake), center, "operator", name)
}

pub(crate) fn start_with(client: kube::Client, center: &Story, lease: &str, name: &str) -> Running {
    run(client, center, options(lease, name))
}

pub(crate) fn options(lease: &str, name: &str) -> Options {
    Options {
        settings: settings(),
        lease: LeaseOptions {
            namespace: "edge".into(),
            name: lease.into(),
            holder: name.into(),
            length: Duration::from_secs(2),
        },
        resync: Duration::from_millis(200),
        settle: Duration::from_millis(1),
        watch_nodes: true,
    }
}

pub(crate) fn run(client: kube::Client, center: &Story, options: Options) -> Running {
    let (stop, stopped) = oneshot::channel();
    let pulse = Arc::new(Pulse::default());
    let shutdown = async {
        let _ = stopped.await;
    };
    let run = operator::run(
        client,
        options,
        Arc::new(center.clone()),
        Arc::clone(&pulse),
        shutdown,
    );
    Running {
        stop,
        task: tokio::spawn(run),
        pulse,
    }
}

pub(crate) fn model(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "splitplace.dev/v1alpha1", "kind": "EdgeModel",
        "metadata": {"name": name, "namespace": "edge"}, "spec": spec,
    })
}

pub(crate) fn stored() -> Value {
    json!({"source": {"stored": {}}})
}

pub(crate) fn cluster_node(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec})
}

/// `True Served`, or nothing.
pub(crate) fn said(fake: &Fake, name: &str, kind: &str) -> String {
    said_by(&fake.get("edgemodels", name).unwrap_or_default(), kind)
}

pub(crate) fn said_by(object: &Value, kind: &str) -> String {
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == kind);
    found.map_or(String::new(), |found| {
        format!(
            "{} {}",
            found["status"].as_str().unwrap(),
            found["reason"].as_str().unwrap()
        )
    })
}

pub(crate) fn message(fake: &Fake, name: &str, kind: &str) -> String {
    let object = fake.get("edgemodels", name).unwrap_or_default();
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == kind);
    found.map_or(String::new(), |found| {
        found["message"].as_str().unwrap().to_owned()
    })
}

/// Waits until a model is served.
pub(crate) async fn ready(fake: &Fake, name: &str) {
    fake.until("ready", |fake| said(fake, name, "Ready") == "True Served")
        .await;
}

/// Every condition, in order.
pub(crate) fn all_said(fake: &Fake, name: &str) -> Vec<String> {
    ["Accepted", "Fetched", "Placed", "PromiseKept", "Ready"]
        .map(|kind| format!("{kind} {}", said(fake, name, kind)))
        .into()
}

/// Waits until each was told in an event.
pub(crate) async fn told(fake: &Fake, reasons: &[&str]) {
    for reason in reasons {
        fake.until(reason, |fake| {
            fake.reasons().iter().any(|told| told == reason)
        })
        .await;
    }
}
