//! The operator between an API server and a real orchestrator with real workers.

use std::{collections::BTreeMap, io::Write as _, path::Path, time::Instant};

use serde_json::{Value, json};
use splitplace_tests::{
    cluster::{Fake, kubeconfig},
    process::{Process, until},
};

use crate::commands::{free_port, good, run, splitplace, status, write};

const MODEL: &str = "fashion-mnist";

/// An orchestrator that serves another model, three workers, an operator, and the cluster's side of it.
struct Cluster {
    fake: Fake,
    grpc: String,
    /// Where workers join.
    center: String,
    workers: BTreeMap<&'static str, Process>,
    _processes: [Process; 2],
}

impl Cluster {
    fn start(folder: &Path) -> Self {
        let path = |name: &str| folder.join(name).display().to_string();
        good(&["packages", &path("models")]);
        let mut orchestrator = Process::start(
            splitplace()
                .args(["orchestrator", "--json", "--free-ports", "--load=simple"])
                .args(["--models", &path("models"), "--store", &path("store")]),
        )
        .unwrap();
        let addresses = orchestrator.json_line().unwrap();
        let address = |name: &str| addresses[name].as_str().unwrap().to_owned();
        let (grpc, workers) = (address("grpc"), address("workers"));
        let fake = Fake::new();
        for (node, zone) in [("attic", "home"), ("cellar", "home"), ("shed", "garden")] {
            fake.put("nodes", cluster_node(node, zone, &json!({})));
        }
        let config = write(folder, "kubeconfig", &kubeconfig(fake.serve(), "edge"));
        let fleet = ["attic", "cellar", "shed"].map(|node| (node, worker(node, &workers, folder)));
        let mut operator = splitplace();
        operator
            .args([
                "operator",
                "--namespace=edge",
                "--name=op",
                "--server",
                &grpc,
            ])
            .args(["--lease-seconds=4", "--resync-seconds=1"])
            .arg(format!("--listen=127.0.0.1:{}", free_port()))
            .arg("--public-grpc=sp.edge.svc:8001")
            .env("KUBECONFIG", config);
        let operator = Process::start(&mut operator).unwrap();
        Self {
            fake,
            grpc,
            center: workers,
            workers: fleet.into(),
            _processes: [orchestrator, operator],
        }
    }

    fn object(&self) -> Value {
        self.fake.get("edgemodels", MODEL).unwrap_or_default()
    }

    /// `True Served`, or nothing.
    fn said(&self, kind: &str) -> (String, String) {
        let object = self.object();
        let conditions = object["status"]["conditions"].as_array();
        let found = conditions.and_then(|all| all.iter().find(|one| one["type"] == kind));
        found.map_or_else(Default::default, |found| {
            let text = |field: &str| found[field].as_str().unwrap().to_owned();
            (
                format!("{} {}", text("status"), text("reason")),
                text("message"),
            )
        })
    }

    /// Waits until a condition says that, of this form of the spec.
    #[track_caller]
    fn until_said(&self, kind: &str, what: &str) {
        let is_so = || {
            let object = self.object();
            let is_current =
                object["status"]["observedGeneration"] == object["metadata"]["generation"];
            (is_current && self.said(kind).0 == what).then_some(())
        };
        let found = until(&format!("{kind} is {what}"), is_so);
        assert!(
            found.is_ok(),
            "{found:?}: {:#}\n{:#?}",
            self.object(),
            status(&self.grpc)
        );
    }

    /// The arms of the plan with the nodes of each, in order.
    fn arms(&self) -> Vec<(String, Vec<String>)> {
        let status = status(&self.grpc).unwrap();
        let model = model_of(&status);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let nodes = |arm: &Value| {
            let branches = arm["branches"].as_array().unwrap().iter();
            let hops = branches.flat_map(|branch| branch.as_array().unwrap());
            hops.map(|hop| text(&hop["node"])).collect()
        };
        let arms = model["arms"].as_array().unwrap().iter();
        arms.map(|arm| (text(&arm["kind"]), nodes(arm))).collect()
    }

    /// Waits until every fragment is on these nodes, and some is.
    #[track_caller]
    fn until_only_on(&self, nodes: &[&str]) {
        let is_so = || {
            let arms = self.arms();
            let mut all = arms.iter().flat_map(|(_, on)| on);
            let is_within = all.all(|node| nodes.contains(&node.as_str()));
            (!arms.is_empty() && is_within).then_some(())
        };
        let found = until(&format!("only on {nodes:?}"), is_so);
        assert!(found.is_ok(), "{:?}", self.arms());
    }
}

pub(crate) fn model_of(status: &Value) -> Value {
    let models = status["models"].as_array().unwrap();
    let found = models.iter().find(|model| model["model"] == MODEL);
    found.cloned().unwrap_or_default()
}

fn cluster_node(name: &str, zone: &str, spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "spec": spec,
        "metadata": {"name": name, "labels": {"zone": zone}}})
}

pub(crate) fn worker(name: &str, center: &str, folder: &Path) -> Process {
    let mut command = splitplace();
    command
        .args(["worker", "--node", name, "--orchestrator", center])
        .args(["--listen=127.0.0.1:0", "--cache"])
        .arg(folder.join(name));
    Process::start(&mut command).unwrap()
}

fn edge_model(spec: &Value) -> Value {
    json!({"apiVersion": "splitplace.dev/v1alpha1", "kind": "EdgeModel",
        "metadata": {"name": MODEL, "namespace": "edge"}, "spec": spec})
}

/// What `helm install` takes once images are on the nodes, as far as it can be had without a cluster: packages are unpacked,
/// orchestrator, three workers and operator are started together, an EdgeModel asks for the demo's package, and a picture
/// is sent as soon as it is ready. Says how long that took; docs/kubernetes.md has the number.
#[test]
fn from_nothing_to_the_first_answer_of_the_demo_s_package() {
    let begin = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(folder.path());
    let started = begin.elapsed();
    let spec = json!({"source": {"stored": {}}});
    cluster.fake.put("edgemodels", edge_model(&spec));
    cluster.until_said("Ready", "True Served");
    let ready = begin.elapsed();
    let at = ["--server", &cluster.grpc];
    let answer = good(&[&["infer", MODEL, "--picture=7", "--json"], &at[..]].concat());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer["outputs"].is_array(), "{answer:#}");
    let answered = begin.elapsed();
    // Past the test runner, which keeps what passing tests print.
    let _ = writeln!(
        std::io::stderr(),
        "MEASURED: started after {started:.1?}, Ready after {ready:.1?}, answered after {answered:.1?}"
    );
}

#[test]
fn fragments_leave_a_node_that_the_cluster_deleted_and_a_fragment_without_a_place_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path());
    let fake = cluster.fake.clone();
    let pin = json!([{"fragment": 0, "node": "shed"}]);
    let spec = json!({"source": {"stored": {}}, "variants": ["whole"], "placement": {"pin": pin}});
    fake.put("edgemodels", edge_model(&spec));
    cluster.until_said("Ready", "True Served");
    assert_eq!(cluster.arms()[0].1, ["shed"]);
    let until_state = |name: &str, what: &str| {
        let found = until(what, || (fake.node_state(name) == what).then_some(()));
        assert!(found.is_ok(), "{found:?}: {}", fake.node_state(name));
    };
    // Its worker dies, and no other node may have the fragment: the planner's own words are shown.
    cluster.workers.remove("shed");
    cluster.until_said("Ready", "False DoesNotFit");
    assert_eq!(cluster.said("PromiseKept").0, "True NoPromise");
    until_state("shed", "Lost Silent");
    let shed = worker("shed", &cluster.center, folder.path());
    cluster.workers.insert("shed", shed);
    cluster.until_said("Ready", "True Served");
    fake.put(
        "edgemodels",
        edge_model(&json!({"placement": {"pin": null}})),
    );
    cluster.until_said("Ready", "True Served");
    let nodes = |cluster: &Cluster| {
        let arms = cluster.arms();
        arms.into_iter()
            .flat_map(|(_, nodes)| nodes)
            .collect::<Vec<_>>()
    };
    let held = nodes(&cluster).remove(0);
    // The node's object goes, its worker goes on: what it holds is elsewhere before anybody stops it.
    fake.delete("nodes", &held);
    let moved = || {
        let nodes = nodes(&cluster);
        (!nodes.is_empty() && !nodes.contains(&held)).then_some(())
    };
    until("its fragments have moved", moved).unwrap();
    until_state(&held, "Leaving NodeDeleted");
    let seen = status(&cluster.grpc).unwrap();
    let mut all = seen["nodes"].as_array().unwrap().iter();
    let node = all.find(|node| node["node"] == held).unwrap();
    assert_eq!(node["state"], "draining", "{seen:#}");
    cluster.until_said("Ready", "True Served");
    // The cluster has it again.
    fake.put("nodes", cluster_node(&held, "home", &json!({})));
    until_state(&held, "Alive Session");
}

#[test]
fn an_edgemodel_is_served_as_it_asks_and_released_when_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(folder.path());
    let fake = &cluster.fake;
    let spec = json!({
        "source": {"stored": {}},
        "sla": {"milliseconds": 2_000, "share": 0.5},
        "minAccuracy": 0.5,
        "variants": ["whole", "chain"],
        "placement": {"nodeSelector": {"zone": "home"}, "pin": [{"fragment": 0, "node": "cellar"}]},
        "priority": 3,
    });
    fake.put("edgemodels", edge_model(&spec));
    cluster.until_said("Ready", "True Served");
    assert_eq!(
        cluster.said("Accepted").0,
        "True CarriedOut",
        "{:?}",
        cluster.said("Accepted")
    );
    let arms = cluster.arms();
    assert!(!arms.is_empty());
    for (kind, nodes) in &arms {
        assert!(["whole", "chain"].contains(&kind.as_str()), "{arms:?}");
        assert_eq!(nodes[0], "cellar", "{arms:?}");
        assert!(!nodes.contains(&"shed".to_owned()), "{arms:?}");
    }
    // What is promised to a client that says nothing.
    let answer = good(&[
        "infer",
        MODEL,
        "--picture=7",
        "--json",
        "--server",
        &cluster.grpc,
    ]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        answer["parameters"]["splitplace_sla_us"], 2_000_000,
        "{answer:#}"
    );
    let held = || cluster.said("PromiseKept").0 == "True Held";
    until("the promise is counted", || held().then_some(())).unwrap();
    let object = cluster.object();
    assert_eq!(
        object["status"]["endpoints"][0]["address"],
        "sp.edge.svc:8001"
    );
    assert_eq!(
        fake.get("edgenodes", "shed").unwrap()["status"]["state"],
        "Alive"
    );

    // The nodes that fit are others now: nobody touched the EdgeModel.
    let free = json!({"source": {"stored": {}}, "placement": {"nodeSelector": {"zone": "home"}, "pin": null}});
    fake.put("edgemodels", edge_model(&free));
    cluster.until_said("Ready", "True Served");
    fake.put("nodes", cluster_node("cellar", "garden", &json!({})));
    cluster.until_only_on(&["attic"]);
    let moved = || (cluster.said("Placed").0 == "True Placed").then_some(());
    let agreed = until("the status agrees", moved);
    assert!(agreed.is_ok(), "{agreed:?}: {:#}", cluster.object());

    // Who decides at its exits, and for what loss.
    let exits =
        json!({"exits": {"policy": "joint", "lossTarget": 0.03}, "variants": ["whole", "exits"]});
    fake.put("edgemodels", edge_model(&exits));
    cluster.until_said("Accepted", "True CarriedOut");
    let control = || {
        let model = model_of(&status(&cluster.grpc).unwrap());
        let mut arms = model["arms"].as_array().unwrap().iter();
        let exits = arms.find(|arm| arm["kind"] == "exits");
        exits.map(|arm| arm["exit_control"].clone())
    };
    let control = control().unwrap();
    assert_eq!(
        (&control["policy"], &control["loss_target"]),
        (&json!("joint"), &json!(0.03)),
        "{control}"
    );
    // What cannot be done with a package is said, and the rest is done.
    let mut simple =
        edge_model(&json!({"source": {"stored": {}}, "priority": 2, "exits": {"policy": "joint"}}));
    simple["metadata"]["name"] = json!("simple");
    fake.put("edgemodels", simple);
    let partly = || {
        let object = fake.get("edgemodels", "simple")?;
        let mut conditions = object["status"]["conditions"].as_array()?.iter();
        let accepted = conditions.find(|one| one["type"] == "Accepted")?;
        (accepted["reason"] == "PartlyCarriedOut").then(|| accepted["message"].to_string())
    };
    let message = until(
        "a model without exits is served without their control",
        partly,
    )
    .unwrap();
    assert!(message.contains("carry out exits;"), "{message}");
    // What nobody could do: the message has the number.
    fake.put(
        "edgemodels",
        edge_model(&json!({"exits": null, "minAccuracy": 0.999})),
    );
    cluster.until_said("Ready", "False Refused");
    assert!(
        cluster.said("Ready").1.contains("99.90 %"),
        "{:?}",
        cluster.said("Ready")
    );
    fake.put("edgemodels", edge_model(&json!({"minAccuracy": null})));
    cluster.until_said("Ready", "True Served");

    fake.put(
        "nodes",
        cluster_node("shed", "garden", &json!({"unschedulable": true})),
    );
    let label = || {
        let node = fake.get("nodes", "shed").unwrap();
        (node["metadata"]["labels"]["splitplace.dev/hold"] == "operator").then_some(())
    };
    until("the cordoned node is held", label).unwrap();
    fake.delete("edgemodels", MODEL);
    let gone = || fake.get("edgemodels", MODEL).is_none().then_some(());
    until("it is released", gone).unwrap();
    assert_eq!(
        run(&["health", "--model", MODEL, "--server", &cluster.grpc]).0,
        Some(1)
    );
    assert!(
        fake.reasons().iter().any(|reason| reason == "Drained"),
        "{:?}",
        fake.reasons()
    );
}
