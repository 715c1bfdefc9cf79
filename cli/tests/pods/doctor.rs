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
    let part = |name: &str, args: &[&str], node: &str, id: &str| {
        serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "splitplace"}},
            "spec": {
                "serviceAccountName": "sp-operator", "nodeName": node,
                "containers": [{"name": "it", "image": "splitplace:0.1.0", "args": args}],
                "volumes": [{"name": "tls", "secret": {"secretName": "own-tls"}}],
            },
            "status": {"phase": "Running", "containerStatuses": [{"name": "it", "ready": true, "restartCount": 0,
                "image": "", "imageID": id}]},
        })
    };
    let args = ["operator", "--lease=sp-operator", "--watch-nodes=true"];
    fake.put("pods", part("sp-operator-1", &args, "attic", "sha256:aa"));
    fake.put("pods", part("sp-worker-1", &["worker"], "cellar", ""));
    fake.put(
        "services",
        serde_json::json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "sp", "labels": {"app.kubernetes.io/name": "splitplace"}}}),
    );
    // One definition as it is printed, but for a field far down; the other one is not there.
    let mut definition = serde_json::to_value(&splitplace_k8s::crds::all()[0].1).unwrap();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/sla/properties";
    let sla = definition
        .pointer_mut(spec)
        .unwrap()
        .as_object_mut()
        .unwrap();
    assert!(sla.remove("share").is_some());
    fake.put("customresourcedefinitions", definition);
    fake.tell_time("Fri, 27 Nov 2020 12:00:00 GMT");
    fake.deny("sp-operator: create jobs", true);
    let look = || {
        let output = splitplace()
            .args(["doctor", "--cluster", "--json", "-n", "edge"])
            .env("KUBECONFIG", &config)
            .env_remove("KUBERNETES_SERVICE_HOST")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        serde_json::from_slice::<Vec<serde_json::Value>>(&output.stdout).unwrap()
    };
    let findings = look();
    let of = |findings: &[serde_json::Value], what: &str, word: &str| {
        let found = findings
            .iter()
            .find(|f| f["what"] == what && f["seen"].as_str().unwrap().contains(word));
        found.unwrap_or_else(|| panic!("{what} {word}: {findings:#?}"))["level"].clone()
    };
    for (what, word, level) in [
        ("node attic", "arm64", "good"),
        ("node cellar", "not ready", "bad"),
        ("image on attic", "splitplace:0.1.0 is there", "good"),
        ("image on cellar", "not seen", "doubt"),
        (
            "definition edgemodels.splitplace.dev",
            "lacks v1alpha1 spec.sla.share",
            "bad",
        ),
        ("definition edgenodes.splitplace.dev", "missing", "bad"),
        (
            "rights of the operator",
            "edge:sp-operator may not create jobs",
            "bad",
        ),
        ("clock", "ahead of the API server", "bad"),
        ("names", "inside", "doubt"),
        ("certificate", "no secret own-tls, and pods wait", "bad"),
    ] {
        assert_eq!(of(&findings, what, word), level, "{what}");
    }
    for finding in &findings {
        let (level, mend) = (&finding["level"], finding["mend"].as_str().unwrap());
        assert!(level == "good" || !mend.is_empty(), "{finding}");
    }
    // Who may not ask about others is told about themselves, and that it is so.
    fake.deny("POST subjectaccessreviews", true);
    let findings = look();
    let who = "may not be asked about; this account may not create leases";
    assert_eq!(of(&findings, "rights of the operator", who), "doubt");
}
