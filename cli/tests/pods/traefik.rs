//! A stock client through a real Traefik, which is led by the objects that the chart renders: over TLS to Traefik, and from
//! there in the clear (h2c) or over TLS again, as `tls.mode` says.
//!
//! Traefik is the one that `SPLITPLACE_TRAEFIK` names, with k3s' way of being told (its provider for custom resources); the
//! API server is ours.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use splitplace_tests::{
    chart,
    cluster::Fake,
    process::{Process, until},
    tools::named,
};

use crate::{
    commands::{free_port, good, run, splitplace, worker_and, write},
    operator::worker,
};

const TRAEFIK: &str = "SPLITPLACE_TRAEFIK";
const PYTHON: &str = "SPLITPLACE_PYTHON";
/// Whom clients call: the chart's own example leads to nobody here.
const HOST: &str = "localhost";

/// The first rendered object of a kind.
fn first<'a>(rendered: &'a [Value], kind: &str) -> Option<&'a Value> {
    rendered.iter().find(|one| one["kind"] == kind)
}

/// Puts the route, its Service and how Traefik goes on there into the API server; gives the Service's name.
fn put(fake: &Fake, rendered: &[Value]) -> Value {
    let route = first(rendered, "IngressRoute").unwrap();
    let text = route.to_string();
    let example = "edge.example.org";
    assert!(text.contains(example), "{text}");
    let here = serde_json::from_str(&text.replace(example, HOST)).unwrap();
    fake.put("ingressroutes", here);
    if let Some(transport) = first(rendered, "ServersTransport") {
        fake.put("serverstransports", transport.clone());
    }
    let name = &route["metadata"]["name"];
    let is_its = |one: &&Value| one["kind"] == "Service" && &one["metadata"]["name"] == name;
    let service = rendered.iter().find(is_its).unwrap();
    fake.put("services", service.clone());
    name.clone()
}

fn secret(fake: &Fake, name: &str, files: &[(&str, String)]) {
    let data: serde_json::Map<String, Value> = files
        .iter()
        .map(|(key, path)| {
            let bytes = fs::read(path).unwrap();
            ((*key).to_owned(), BASE64_STANDARD.encode(bytes).into())
        })
        .collect();
    fake.put(
        "secrets",
        json!({"apiVersion": "v1", "kind": "Secret", "data": data,
            "metadata": {"name": name, "namespace": "edge"}}),
    );
}

/// Where the Service's pods are, as the cluster writes it.
fn slice(fake: &Fake, service: &Value, grpc: u16, http: u16) {
    let port = |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "TCP"});
    fake.put(
        "endpointslices",
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "pods", "namespace": "edge", "labels": {"kubernetes.io/service-name": service}},
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
            "ports": [port("grpc", grpc), port("http", http)]}),
    );
}

/// Traefik on a free port, as k3s starts it, but for the calls home.
fn traefik(program: &Path, api: SocketAddr, folder: &Path) -> (Process, String) {
    let port = free_port();
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .args([
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
        ])
        .arg(format!("--entryPoints.websecure.address=127.0.0.1:{port}"))
        .arg(format!("--providers.kubernetescrd.endpoint=http://{api}"))
        .args([
            "--providers.kubernetescrd=true",
            "--providers.kubernetescrd.namespaces=edge",
        ]);
    let started = Process::start(&mut command).unwrap();
    (started, format!("{HOST}:{port}"))
}

/// Orchestrator and worker with the certificates of a folder, or with none; they serve what the binary brings.
fn serve(folder: &Path, grpc: u16, http: u16, tls: Option<&Path>) -> [Process; 2] {
    let path = |name: &str| folder.join(name).display().to_string();
    let (metrics, center) = (free_port(), free_port());
    let mut config = format!(
        "listen.grpc = \"127.0.0.1:{grpc}\"\nlisten.http = \"127.0.0.1:{http}\"\n\
         listen.metrics = \"127.0.0.1:{metrics}\"\nlisten.workers = \"127.0.0.1:{center}\"\n\
         listen.workers-public = \"localhost:{center}\"\n\
         models = {:?}\nstore = {:?}\n",
        path("models"),
        path("store"),
    );
    if let Some(tls) = tls {
        for (key, file) in [
            ("ca", "ca.crt"),
            ("cert", "orchestrator.crt"),
            ("key", "orchestrator.key"),
        ] {
            config += &format!("tls.{key} = {:?}\n", tls.join(file));
        }
    }
    let config = write(folder, "orchestrator.toml", &config);
    good(&["packages", &path("models")]);
    let mut orchestrator =
        Process::start(splitplace().args(["orchestrator", "--json", "--config", &config])).unwrap();
    orchestrator.json_line().unwrap();
    let worker = match tls {
        Some(_) => worker_and("attic", center, folder, &[]),
        None => worker("attic", &format!("127.0.0.1:{center}"), folder),
    };
    [orchestrator, worker]
}

fn clients_come_through(test: &str, snapshot: &str) {
    let Some(program) = named(TRAEFIK, test) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let rendered = chart::rendered(snapshot);
    let fake = Fake::new();
    let service = put(&fake, &rendered);
    // What clients see, from an authority that the orchestrator knows nothing of.
    good(&["certs", "dir", &path("edge"), "--orchestrator-host", HOST]);
    let (key, cert, ca) = (
        path("edge/orchestrator.key"),
        path("edge/orchestrator.crt"),
        path("edge/ca.crt"),
    );
    secret(&fake, "edge", &[("tls.key", key), ("tls.crt", cert)]);
    // What Traefik sees, when the release has certificates: by the name and from the secret that the chart tells it.
    let transport = first(&rendered, "ServersTransport");
    let tls = transport.map(|transport| {
        let name = transport["spec"]["serverName"].as_str().unwrap();
        let tls = path("tls");
        good(&[
            "certs",
            "dir",
            &tls,
            "--orchestrator-host",
            name,
            "--orchestrator-host",
            "localhost",
        ]);
        let of = transport["spec"]["rootCAsSecrets"][0].as_str().unwrap();
        secret(&fake, of, &[("ca.crt", path("tls/ca.crt"))]);
        folder.path().join("tls")
    });
    let (grpc, http) = (free_port(), free_port());
    slice(&fake, &service, grpc, http);
    let _served = serve(folder.path(), grpc, http, tls.as_deref());
    let (_traefik, server) = traefik(Path::new(&program), fake.serve(), folder.path());

    let at = ["--server", &server, "--ca", &ca];
    let health = [&["health", "--wait=60s", "--model=simple"], &at[..]].concat();
    // Until Traefik has read everything, there is nobody or nothing for this name.
    until("Traefik leads to the model", || {
        (run(&health).0 == Some(0)).then_some(())
    })
    .unwrap();
    let picture = [
        "infer",
        "fashion-mnist",
        "--picture=7",
        "--sla=60000",
        "--json",
    ];
    let answer: Value = serde_json::from_str(&good(&[&picture, &at[..]].concat())).unwrap();
    assert!(answer["outputs"].is_array(), "{answer:#}");
    // Another name is nobody's: the rules are what leads, not a default.
    let stranger = server.replace(HOST, "127.0.0.1");
    let (code, text) = run(&["health", "--server", &stranger, "--ca", &ca]);
    assert_ne!(code, Some(0), "{text}");

    let Some(python) = named(PYTHON, test) else {
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/triton.py");
    let output = Command::new(python)
        .arg(script)
        .args([&server, &server, &ca])
        .output()
        .unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}", text.concat());
}

#[test]
fn a_stock_client_comes_through_traefik_which_goes_on_in_the_clear() {
    clients_come_through(
        "a_stock_client_comes_through_traefik_which_goes_on_in_the_clear",
        "plain",
    );
}

#[test]
fn a_stock_client_comes_through_traefik_which_goes_on_over_tls() {
    clients_come_through(
        "a_stock_client_comes_through_traefik_which_goes_on_over_tls",
        "extreme",
    );
}
