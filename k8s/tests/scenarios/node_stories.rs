//! Stories of nodes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use splitplace_k8s::{node::EdgeNode, nodes};

use crate::{Fake, Story, cluster_node, settings, start};

fn state(fake: &Fake, name: &str) -> String {
    let node = fake.get("edgenodes", name).unwrap_or_default();
    let word = |field: &str| {
        node["status"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    format!("{} {}", word("state"), word("reason"))
}

fn label(fake: &Fake, name: &str) -> Value {
    fake.get("nodes", name).unwrap()["metadata"]["labels"]["splitplace.dev/hold"].clone()
}

#[tokio::test]
async fn nodes_are_written_as_the_orchestrator_measured_them() {
    let (fake, center) = (Fake::new(), Story::new());
    center.change(|seen| seen.models.push(crate::center::served("clothes")));
    let operator = start(&fake, &center, "a");
    fake.until("both", |fake| {
        state(fake, "attic") == "Alive Session" && state(fake, "cellar") == "Alive Session"
    })
    .await;
    let status = fake.get("edgenodes", "attic").unwrap()["status"].clone();
    assert_eq!(status["memory"], "10Mi/1.0Gi");
    assert_eq!(status["speed"], "2.00 GMAC/s");
    assert_eq!(status["fragmentCount"], 2);
    operator.stop().await;
}

#[test]
fn a_link_that_wavers_is_written_once_and_one_that_breaks_down_again() {
    let mut existing = BTreeMap::new();
    let mut shown = |rate: f64, delay: u64| {
        let mut seen = Story::new().seen();
        seen.nodes[0].links = vec![("cellar".into(), rate, delay)];
        let now = jiff::Timestamp::UNIX_EPOCH;
        let status = nodes::desired(&seen, &[], &existing, &settings(), now)
            .remove("attic")
            .unwrap();
        let node = EdgeNode {
            status: Some(status.clone()),
            ..EdgeNode::default()
        };
        existing.insert("attic".to_owned(), node);
        (
            status.links[0].bytes_per_second,
            status.links[0].delay_micros,
        )
    };
    assert_eq!(shown(1e7, 1000), (1e7, 1000));
    for wavering in [1.1e7, 0.9e7, 1.2e7] {
        assert_eq!(shown(wavering, 1100), (1e7, 1000));
    }
    assert_eq!(shown(2e6, 1000), (2e6, 1000));
    assert_eq!(shown(2e6, 9000), (2e6, 9000));
}

#[tokio::test]
async fn a_cordoned_node_loses_its_worker_and_gets_it_back() {
    let (fake, center) = (Fake::new(), Story::new());
    fake.put("nodes", cluster_node("attic", &json!({})));
    fake.put("nodes", cluster_node("cellar", &json!({})));
    let operator = start(&fake, &center, "a");
    fake.until("alive", |fake| state(fake, "cellar") == "Alive Session")
        .await;
    fake.put(
        "nodes",
        cluster_node("cellar", &json!({"unschedulable": true})),
    );
    // The label comes while the worker still runs: its DaemonSet takes it away, in good order.
    fake.until("leaving", |fake| {
        state(fake, "cellar") == "Leaving Cordoned"
    })
    .await;
    assert_eq!(label(&fake, "cellar"), "operator");
    assert_eq!(label(&fake, "attic"), Value::Null);
    center.change(|seen| seen.nodes.retain(|node| node.name != "cellar"));
    fake.until("held", |fake| state(fake, "cellar") == "Held Cordoned")
        .await;
    fake.put(
        "nodes",
        cluster_node("cellar", &json!({"unschedulable": false})),
    );
    fake.until("let back", |fake| label(fake, "cellar").is_null())
        .await;
    fake.until("absent", |fake| state(fake, "cellar") == "Absent NoWorker")
        .await;
    fake.until("told", |fake| {
        fake.reasons().iter().any(|reason| reason == "NodeCordoned")
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn a_taint_that_workers_do_not_tolerate_moves_them() {
    let (fake, center) = (Fake::new(), Story::new());
    let taint = |key: &str| json!({"taints": [{"key": key, "effect": "NoSchedule"}]});
    fake.put("nodes", cluster_node("attic", &taint("edge")));
    fake.put("nodes", cluster_node("cellar", &taint("flooded")));
    let operator = start(&fake, &center, "a");
    fake.until("leaving", |fake| state(fake, "cellar") == "Leaving Tainted")
        .await;
    // Tolerated, and trouble that passes by itself, move nobody.
    fake.put(
        "nodes",
        cluster_node("attic", &taint("node.kubernetes.io/disk-pressure")),
    );
    fake.until("alive", |fake| state(fake, "attic") == "Alive Session")
        .await;
    assert_eq!(label(&fake, "attic"), Value::Null);
    operator.stop().await;
}

#[tokio::test]
async fn a_person_can_hold_a_node_without_cordoning_it() {
    let (fake, center) = (Fake::new(), Story::new());
    fake.put("nodes", cluster_node("cellar", &json!({})));
    let operator = start(&fake, &center, "a");
    fake.until("alive", |fake| state(fake, "cellar") == "Alive Session")
        .await;
    fake.put(
        "edgenodes",
        json!({"metadata": {"name": "cellar"}, "spec": {"hold": true}}),
    );
    fake.until("leaving", |fake| state(fake, "cellar") == "Leaving Held")
        .await;
    assert_eq!(label(&fake, "cellar"), "operator");
    assert_eq!(
        fake.get("edgenodes", "cellar").unwrap()["spec"]["hold"],
        true
    );
    operator.stop().await;
}

#[tokio::test]
async fn a_label_that_somebody_else_set_stays() {
    let (fake, center) = (Fake::new(), Story::new());
    let mut node = cluster_node("cellar", &json!({"unschedulable": true}));
    node["metadata"]["labels"] = json!({"splitplace.dev/hold": "inventory"});
    fake.put("nodes", node);
    fake.put("nodes", cluster_node("attic", &json!({})));
    let operator = start(&fake, &center, "a");
    fake.until("leaving", |fake| {
        state(fake, "cellar") == "Leaving Cordoned"
    })
    .await;
    fake.put(
        "nodes",
        cluster_node("cellar", &json!({"unschedulable": false})),
    );
    fake.until("alive", |fake| state(fake, "cellar") == "Alive Session")
        .await;
    assert_eq!(label(&fake, "cellar"), "inventory");
    operator.stop().await;
}

#[tokio::test]
async fn a_lost_node_is_told_and_one_that_left_the_cluster_is_forgotten() {
    let (fake, center) = (Fake::new(), Story::new());
    fake.put("nodes", cluster_node("attic", &json!({})));
    fake.put("nodes", cluster_node("cellar", &json!({})));
    let operator = start(&fake, &center, "a");
    fake.until("alive", |fake| state(fake, "cellar") == "Alive Session")
        .await;
    center.node("cellar", "lost");
    fake.until("lost", |fake| state(fake, "cellar") == "Lost Silent")
        .await;
    fake.until("told", |fake| {
        fake.reasons().iter().any(|reason| reason == "NodeLost")
    })
    .await;
    fake.delete("nodes", "cellar");
    fake.until("forgotten", |fake| {
        fake.get("edgenodes", "cellar").is_none()
    })
    .await;
    assert!(fake.get("edgenodes", "attic").is_some());
    operator.stop().await;
}

#[tokio::test]
async fn fragments_that_move_are_told() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    fake.put("edgemodels", crate::model("clothes", &crate::stored()));
    fake.until("ready", |fake| {
        crate::said(fake, "clothes", "Ready") == "True Served"
    })
    .await;
    center.change(|seen| {
        seen.models[0].arms.truncate(1);
        seen.generation += 1;
    });
    fake.until("moved", |fake| {
        fake.reasons().iter().any(|reason| reason == "Moved")
    })
    .await;
    assert_eq!(
        fake.get("edgemodels", "clothes").unwrap()["status"]["nodes"],
        1
    );
    operator.stop().await;
}
