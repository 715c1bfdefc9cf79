//! Traces as a collector gets them: a real OTLP receiver, real worker processes, stock requests.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use serde_json::Value;
use splitplace_tests::{
    http,
    process::{Process, signal, until},
};
use tonic::{Request, Response, Status};

/// A span and the service that it belongs to.
type Told = (String, Span);

/// A collector that keeps everything, or one that never answers.
#[derive(Clone, Default)]
struct Collector {
    told: Arc<Mutex<Vec<Told>>>,
    is_stuck: bool,
}

fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let value = attributes.iter().find(|one| one.key == name)?;
    Some(match value.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::BoolValue(is) => is.to_string(),
        any_value::Value::DoubleValue(number) => number.to_string(),
        _ => return None,
    })
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if self.is_stuck {
            std::future::pending::<()>().await;
        }
        let mut told = self.told.lock().unwrap();
        for of in request.into_inner().resource_spans {
            let resource = of.resource.unwrap();
            let service = attribute(&resource.attributes, "service.name").unwrap();
            let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            told.extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector that listens, with its address.
struct Listening {
    collector: Collector,
    address: String,
    _runtime: tokio::runtime::Runtime,
}

fn listen(collector: Collector) -> Listening {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    runtime.spawn(server);
    Listening {
        collector,
        address,
        _runtime: runtime,
    }
}

/// The spans of one trace, with the service of each.
struct Trace(Vec<Told>);

impl Listening {
    /// The trace in which `is_it` finds its span, once it has come whole.
    fn trace(&self, what: &str, is_it: impl Fn(&Span) -> bool) -> Trace {
        until(what, || {
            let told = self.collector.told.lock().unwrap();
            let id = &told.iter().find(|(_, span)| is_it(span))?.1.trace_id;
            let of_it = told.iter().filter(|(_, span)| span.trace_id == *id);
            let trace = Trace(of_it.cloned().collect());
            trace.is_whole().then_some(trace)
        })
        .unwrap()
    }
}

impl Trace {
    /// Services report apart: whole it is when all but the root have their parents, and attempts that went
    /// well their hops.
    fn is_whole(&self) -> bool {
        let is_there = |id: &[u8]| self.0.iter().any(|(_, span)| span.span_id == id);
        let spans = self.0.iter().map(|(_, span)| span);
        let orphans = spans.filter(|span| !is_there(&span.parent_span_id));
        let is_error = |span: &Span| {
            let status = span.status.as_ref();
            status.is_some_and(|status| status.code == StatusCode::Error as i32)
        };
        let went_well = self.named("attempt").any(|span| !is_error(span));
        orphans.count() == 1 && (!went_well || self.named("hop").next().is_some())
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Span> {
        let is_it = move |told: &&Told| told.1.name == name;
        self.0.iter().filter(is_it).map(|(_, span)| span)
    }

    fn children<'a>(&'a self, of: &'a Span) -> impl Iterator<Item = &'a Told> {
        let is_it = |told: &&Told| told.1.parent_span_id == of.span_id;
        self.0.iter().filter(is_it)
    }

    /// The orchestrator's answer to the call.
    fn call(&self) -> &Span {
        let mut calls = self.0.iter().filter(|(service, span)| {
            service == "splitplace-orchestrator" && span.kind == SpanKind::Server as i32
        });
        let call = &calls.next().unwrap().1;
        assert!(calls.next().is_none());
        call
    }

    fn id(&self) -> String {
        hex(&self.0[0].1.trace_id)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of(span: &Span, name: &str) -> String {
    attribute(&span.attributes, name).unwrap_or_default()
}

fn micros(span: &Span) -> u64 {
    (span.end_time_unix_nano - span.start_time_unix_nano) / 1000
}

fn splitplace() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_splitplace"));
    for (name, _) in std::env::vars() {
        if name.starts_with("SPLITPLACE_") || name.starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command
}

/// A fleet of worker processes that serves chains only and tells `collector`.
fn up(collector: &Listening, set: &[&str]) -> (Process, Value) {
    let mut command = splitplace();
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address)
        .args([
            "up",
            "--json",
            "--free-ports",
            "--seed",
            "1",
            "--nodes",
            "3",
        ])
        .args(["--processes", "--load", "fashion-mnist"])
        .args(["--set", "planning.arms=[\"chain\"]"])
        // A machine that is busy with other tests must not make workers fall silent.
        .args(["--set", "workers.silence-ms=20000", "--wait", "110"])
        .args(["--set", "planning.profile-runs=0"]);
    for set in set {
        command.args(["--set", set]);
    }
    let mut up = Process::start(&mut command).unwrap();
    let told = up.json_line().unwrap();
    (up, told)
}

fn infer(told: &Value, more: &[&str]) -> (bool, Value, String) {
    let server = told["grpc"].as_str().unwrap();
    let output = splitplace()
        .args([
            "infer",
            "--server",
            server,
            "fashion-mnist",
            "--picture",
            "7",
            "--json",
        ])
        .args(more)
        .output()
        .unwrap();
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), value, errors)
}

/// One request over REST with a trace context.
fn rest(told: &Value, parent: &str) {
    let zeros = vec!["0"; 784].join(",");
    let body = format!(
        "{{\"inputs\":[{{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[1,1,28,28],\"data\":[{zeros}]}}]}}"
    );
    let address = told["http"].as_str().unwrap();
    let headers = [("traceparent", parent)];
    let path = "/v2/models/fashion-mnist/infer";
    let answer = http::ask(address, "POST", path, &headers, body.as_bytes()).unwrap();
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
}

fn metrics(told: &Value) -> String {
    let address = told["metrics"].as_str().unwrap();
    let page = http::ask(address, "GET", "/metrics", &[], &[]).unwrap();
    String::from_utf8_lossy(&page.body).into_owned()
}

#[test]
fn a_request_is_one_tree_over_client_orchestrator_and_every_worker() {
    let collector = listen(Collector::default());
    let (_up, told) = up(&collector, &["traces.ratio=0"]);
    let (ok, answer, errors) = infer(&told, &["--otlp", &collector.address, "--sla", "20000"]);
    assert!(ok, "{errors}");
    let said = &answer["parameters"];
    let number = said["splitplace_request"].as_str().unwrap();
    let trace = collector.trace("the tree", |span| of(span, "splitplace.request") == number);
    assert_eq!(said["splitplace_trace"], trace.id());
    // Client, orchestrator, attempt: each in the one before.
    let call = trace.call();
    let (service, client) = trace
        .0
        .iter()
        .find(|(_, span)| span.span_id == call.parent_span_id)
        .unwrap();
    assert_eq!(
        (&service[..], client.kind),
        ("splitplace", SpanKind::Client as i32)
    );
    assert!(client.parent_span_id.is_empty());
    assert!(client.start_time_unix_nano <= call.start_time_unix_nano);
    assert_eq!(call.name, "inference.GRPCInferenceService/ModelInfer");
    assert_eq!(of(call, "rpc.system.name"), "grpc");
    assert_eq!(said["splitplace_arm"], of(call, "splitplace.arm"));
    let attempts: Vec<&Told> = trace.children(call).collect();
    let [(_, attempt)] = attempts[..] else {
        panic!("{attempts:?}");
    };
    // Every hop and every link of the answer's own trail, in its order, on its node, with its times.
    let trail: Vec<Value> =
        serde_json::from_str(said["splitplace_hops"].as_str().unwrap()).unwrap();
    let mut parts: Vec<&Told> = trace.children(attempt).collect();
    parts.sort_by_key(|(_, span)| (span.start_time_unix_nano, span.end_time_unix_nano));
    let hops: Vec<&Told> = parts
        .iter()
        .copied()
        .filter(|part| part.1.name == "hop")
        .collect();
    let nodes: Vec<String> = hops
        .iter()
        .map(|hop| of(&hop.1, "splitplace.node"))
        .collect();
    let expected: Vec<&str> = trail
        .iter()
        .filter_map(|hop| hop["node"].as_str())
        .collect();
    let (back, there) = expected.split_last().unwrap();
    assert_eq!(
        (*back, &nodes[..]),
        (
            "",
            &there.iter().map(ToString::to_string).collect::<Vec<_>>()[..]
        )
    );
    assert!(nodes.len() > 1, "a chain has several hops: {nodes:?}");
    for ((service, hop), said) in hops.iter().zip(&trail) {
        assert_eq!(service, "splitplace-worker");
        let stages: BTreeMap<&str, u64> = trace
            .children(hop)
            .map(|(_, stage)| (&stage.name[..], micros(stage)))
            .collect();
        let stage = |name: &str| stages.get(name).copied().unwrap_or(0);
        assert_eq!(stage("queue"), said["queue_us"]);
        assert_eq!(stage("decode") + stage("compute"), said["compute_us"]);
        assert_eq!(stage("encode"), said["encode_us"]);
        assert_eq!(stages.values().sum::<u64>(), micros(hop));
    }
    let links: Vec<String> = parts
        .iter()
        .filter(|(_, part)| part.name == "transfer")
        .map(|(_, link)| {
            format!(
                "{}>{}",
                of(link, "splitplace.from"),
                of(link, "splitplace.to")
            )
        })
        .collect();
    let mut places: Vec<&str> = there.to_vec();
    places.dedup();
    places.insert(0, "centre");
    places.push("centre");
    let mut ways: Vec<String> = places
        .windows(2)
        .map(|pair| format!("{}>{}", pair[0], pair[1]))
        .collect();
    let mut links = links;
    links.sort();
    ways.sort();
    assert_eq!(links, ways);
    assert!(metrics(&told).contains(&format!("# {{trace_id=\"{}\"}}", trace.id())));
}

#[test]
fn a_callers_context_is_taken_over_and_its_word_counts() {
    let collector = listen(Collector::default());
    let (_up, told) = up(&collector, &["traces.ratio=1"]);
    rest(
        &told,
        "00-11111111111111111111111111111111-2222222222222222-00",
    );
    rest(
        &told,
        "00-33333333333333333333333333333333-4444444444444444-01",
    );
    let trace = collector.trace("the tree", |span| hex(&span.trace_id) == "3".repeat(32));
    let call = trace.call();
    assert_eq!(hex(&call.parent_span_id), "4".repeat(16));
    assert_eq!(call.name, "POST /v2/models/{model}/infer");
    assert_eq!(of(call, "http.request.method"), "POST");
    assert_eq!(of(call, "splitplace.kept"), "head");
    // The one before asked not to be traced; traces leave in their order.
    let told = collector.collector.told.lock().unwrap();
    assert!(
        told.iter()
            .all(|(_, span)| hex(&span.trace_id) != "1".repeat(32))
    );
}

#[test]
fn what_is_late_and_what_is_lost_is_always_kept() {
    let collector = listen(Collector::default());
    let (_up, told) = up(
        &collector,
        &["traces.ratio=0", "admission.refuse-hopeless=false"],
    );
    let (ok, answer, errors) = infer(&told, &["--sla", "0.001"]);
    assert!(ok, "{errors}");
    let number = answer["parameters"]["splitplace_request"].as_str().unwrap();
    let late = collector.trace("the late one", |span| {
        of(span, "splitplace.request") == number
    });
    assert_eq!(of(late.call(), "splitplace.kept"), "missed");
    assert!(late.call().parent_span_id.is_empty());
    for process in told["processes"].as_object().unwrap().values() {
        let process = u32::try_from(process.as_u64().unwrap()).unwrap();
        signal(process, "KILL").unwrap();
    }
    let lost = until("a request without an answer", || {
        let (ok, _, errors) = infer(&told, &["--sla", "20000"]);
        (!ok).then_some(errors)
    });
    let lost = lost.unwrap();
    let trace = collector.trace("the lost one", |span| of(span, "splitplace.kept") == "lost");
    let call = trace.call();
    let code = of(call, "error.type");
    assert!(
        lost.contains(&format!("{code}: docs/errors/{code}.md")),
        "{lost}"
    );
    let status = call.status.as_ref().unwrap();
    assert_eq!(status.code, StatusCode::Error as i32);
    assert!(lost.contains(&status.message), "{lost} {status:?}");
}

#[test]
fn a_collector_that_never_answers_costs_traces_and_nothing_else() {
    let stuck = Collector {
        is_stuck: true,
        ..Collector::default()
    };
    let collector = listen(stuck);
    let (_up, told) = up(&collector, &["traces.ratio=1", "traces.queue=8"]);
    let server = told["grpc"].as_str().unwrap();
    // Eight wait, a batch is under way: the rest finds no room.
    let output = splitplace()
        .args([
            "load",
            "fashion-mnist",
            "--server",
            server,
            "--concurrency",
            "2",
            "-n",
            "400",
        ])
        .args(["--warm-up", "0s", "-d", "300s", "--sla", "20000", "--json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["runs"][0]["lost"], 0, "{report:#}");
    let page = metrics(&told);
    let count = |name: &str| -> f64 {
        let lines = page.lines().filter(|line| line.starts_with(name));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    let (kept, dropped) = (
        count("splitplace_traces_total"),
        count("splitplace_traces_dropped_total"),
    );
    assert!(dropped > 0.0, "{page}");
    assert!(kept + dropped >= 400.0, "{kept} {dropped}");
}
