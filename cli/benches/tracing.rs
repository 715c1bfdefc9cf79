//! What traces cost: the same closed load on two fleets alike, one of which tells a collector of one request in a
//! hundred, turn by turn. The bar is 2 % of the throughput.
//!
//! Expected: a request that is not kept costs some ten nanoseconds for ids and a draw; one that is kept some
//! microseconds for its tree, and as much again for its message.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use splitplace_tests::process::Process;
use tonic::{Request, Response, Status};

const ROUNDS: usize = 15;
const REQUESTS: &str = "3000";

/// Counts spans and throws them away.
#[derive(Clone, Default)]
struct Collector(Arc<AtomicUsize>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.get_ref().resource_spans.iter();
        let scopes = scopes.flat_map(|resource| &resource.scope_spans);
        let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
        self.0.fetch_add(spans, Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn splitplace() -> Command {
    Command::new(env!("CARGO_BIN_EXE_splitplace"))
}

fn up(collector: Option<&str>, ratio: &str) -> (Process, String) {
    let mut command = splitplace();
    command
        .args(["up", "--json", "--free-ports", "--nodes", "1"])
        .args(["--load", "fashion-mnist"])
        .args(["--set", &format!("traces.ratio={ratio}")]);
    if let Some(collector) = collector {
        command.args(["--otlp", collector]);
    }
    let mut up = Process::start(&mut command).expect("it starts");
    let told = up.json_line().expect("it is ready");
    let server = told["grpc"].as_str().expect("an address").to_owned();
    (up, server)
}

/// Requests a second.
fn throughput(server: &str) -> f64 {
    let output = splitplace()
        .args(["load", "fashion-mnist", "--server", server, "--json"])
        .args(["--concurrency", "8", "-n", REQUESTS, "-d", "300s"])
        .args(["--warm-up", "0s", "--sla", "20000"])
        .output()
        .expect("it runs");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let run = &report["runs"][0];
    assert_eq!(run["lost"], 0, "{run:#}");
    run["answers_per_second"].as_f64().expect("a number")
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let collector = Collector::default();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let address = format!("http://{address}");
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    runtime.spawn(server);
    let (_plain, plain) = up(None, "0");
    let (_sampled, sampled) = up(Some(&address), "0.01");
    let (_all, all) = up(Some(&address), "1");
    let mut found = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        // Each turn begins with another, so that none always has the warm machine.
        for turn in 0..3 {
            let which = (turn + round) % 3;
            let rate = throughput([&plain, &sampled, &all][which]);
            if round > 0 {
                found[which].push(rate);
            }
        }
    }
    let shares = |of: usize| {
        let pairs = found[of].iter().zip(&found[0]);
        median(pairs.map(|(with, without)| 1.0 - with / without).collect())
    };
    let (one, every) = (shares(1), shares(2));
    let [plain, sampled, all] = found.map(median);
    println!(
        "without traces {plain:.0} requests a second; 1 % kept {sampled:.0} ({:+.1} %), all kept {all:.0} \
         ({:+.1} %): medians of {ROUNDS} rounds of {REQUESTS} requests, shares by round; {} spans came",
        -100.0 * one,
        -100.0 * every,
        collector.0.load(Ordering::Relaxed)
    );
}
