//! What `doctor` finds on this machine, between two, and in a cluster.

use std::net::TcpListener;

use splitplace_tests::{
    cluster::{Fake, kubeconfig},
    process::Process,
};

use crate::commands::{free_port, good, run, splitplace, write};

#[test]
fn a_doctor_says_what_to_mend() {
    let folder = tempfile::tempdir().unwrap();
    let tls = folder.path().join("tls").display().to_string();
    good(&["certs", "dir", &tls, "--days", "10"]);
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (_, text) = run(&[
        "doctor",
        "--json",
        "--port",
        &port,
        "--name",
        "localhost",
        "--certs",
        &tls,
    ]);
    let findings: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let of = |what: &str| {
        findings
            .iter()
            .filter(|f| f["what"] == what)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("port")[0]["level"], "doubt");
    assert_eq!(of("name")[0]["level"], "good");
    assert_eq!(of("certificate").len(), 3);
    assert!(
        of("certificate")
            .iter()
            .any(|f| f["level"] == "doubt" && f["mend"] != "")
    );
    assert_eq!(of("kernel").len(), 1);
}

#[test]
fn two_doctors_measure_the_way_between_them() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let _other = Process::start(splitplace().args(["doctor", "--listen", &address])).unwrap();
    let found = splitplace_tests::process::until("the other doctor", || {
        let (_, text) = run(&["doctor", "--json", "--link", &address]);
        let findings: Vec<serde_json::Value> = serde_json::from_str(&text).ok()?;
        findings
            .into_iter()
            .find(|f| f["what"] == "link" && f["level"] == "good")
    });
    assert!(found.unwrap()["seen"].as_str().unwrap().contains("Mbit/s"));
}

#[test]
fn a_cluster_is_looked_at_from_outside() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new();
    let config = write(
        folder.path(),
        "kubeconfig",
        &kubeconfig(fake.serve(), "edge"),
    );
    let node = |name: &str, ready: &str, images: serde_json::Value| {
        serde_json::json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "spec": {}, "status": {
                "nodeInfo": {"architecture": "arm64", "kernelVersion": "6.1.0",
                    "kubeletVersion": "v1.33.0", "bootID": "", "containerRuntimeVersion": "",
                    "kubeProxyVersion": "", "machineID": "", "operatingSystem": "linux",
                    "osImage": "", "systemUUID": ""},
                "capacity": {"memory": "4000000Ki"},
                "conditions": [{"type": "Ready", "status": ready}],
                "images": images,
            },
        })
    };
    let image = serde_json::json!([{"names": ["docker.io/library/splitplace:0.1.0"]}]);
    fake.put("nodes", node("attic", "True", image));
    fake.put("nodes", node("cellar", "False", serde_json::json!([])));
    fake.deny("create leases", true);
    let output = splitplace()
        .args(["doctor", "--cluster", "--json", "-n", "edge"])
        .env("KUBECONFIG", &config)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of = |what: &str, word: &str| {
        let found = findings
            .iter()
            .find(|f| f["what"] == what && f["seen"].as_str().unwrap().contains(word));
        found.unwrap_or_else(|| panic!("{what} {word}: {findings:#?}"))["level"].clone()
    };
    assert_eq!(of("node attic", "arm64"), "good");
    assert_eq!(of("node cellar", "not ready"), "bad");
    assert_eq!(of("definitions", "missing"), "bad");
    assert_eq!(of("rights", "create leases"), "doubt");
}
