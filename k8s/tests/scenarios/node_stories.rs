//! Stories of nodes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use splitplace_k8s::{
    center::CenterError,
    node::{EdgeNode, EdgeNodeStatus},
    nodes::{self, NodesView},
    operator::Options,
};

use crate::{Fake, Story, client, cluster_node, options, run, said_by, settings, start, told};

fn label(fake: &Fake, name: &str) -> Value {
    fake.get("nodes", name).unwrap()["metadata"]["labels"]["splitplace.dev/hold"].clone()
}

#[tokio::test]
async fn nodes_are_written_as_the_orchestrator_measured_them() {
    let (fake, center) = (Fake::new(), Story::new());
    center.change(|seen| {
        seen.models.push(crate::center::served("clothes"));
        seen.nodes[0].links = vec![("cellar".into(), f64::INFINITY, 50)];
    });
    let operator = start(&fake, &center, "a");
    fake.until("both", |fake| {
        fake.node_state("attic") == "Alive Session" && fake.node_state("cellar") == "Alive Session"
    })
    .await;
    // What nothing limits has no rate, and what was written can be read and written again.
    let links = |fake: &Fake| fake.get("edgenodes", "attic").unwrap()["status"]["links"].clone();
    assert_eq!(links(&fake), json!([{"to": "cellar", "delayMicros": 50}]));
    center.change(|seen| seen.nodes[0].links[0].1 = 1e7);
    fake.until("a rate", |fake| links(fake)[0]["bytesPerSecond"] == 1e7)
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
        let status = nodes::desired(&NodesView {
            seen: Ok(&seen),
            cluster: None,
            existing: &existing,
            answers: &BTreeMap::new(),
            settings: &settings(),
            now,
        })
        .nodes
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
    assert_eq!(shown(f64::INFINITY, 1000), (None, 1000));
    assert_eq!(shown(f64::INFINITY, 1000), (None, 1000));
    assert_eq!(shown(1e7, 1000), (Some(1e7), 1000));
    for wavering in [1.1e7, 0.9e7, 1.2e7] {
        assert_eq!(shown(wavering, 1100), (Some(1e7), 1000));
    }
    assert_eq!(shown(2e6, 1000), (Some(2e6), 1000));
    assert_eq!(shown(2e6, 9000), (Some(2e6), 9000));
}

#[tokio::test]
async fn a_cordoned_node_loses_its_worker_and_gets_it_back() {
    let (fake, center) = (Fake::new(), Story::new());
    fake.put("nodes", cluster_node("attic", &json!({})));
    fake.put("nodes", cluster_node("cellar", &json!({})));
    let operator = start(&fake, &center, "a");
    fake.until("alive", |fake| fake.node_state("cellar") == "Alive Session")
        .await;
    fake.put(
        "nodes",
        cluster_node("cellar", &json!({"unschedulable": true})),
    );
    // The label comes while the worker still runs: its DaemonSet takes it away, in good order.
    fake.until("leaving", |fake| {
        fake.node_state("cellar") == "Leaving Cordoned"
    })
    .await;
    assert_eq!(label(&fake, "cellar"), "operator");
    assert_eq!(label(&fake, "attic"), Value::Null);
    center.change(|seen| seen.nodes.retain(|node| node.name != "cellar"));
    fake.until("held", |fake| fake.node_state("cellar") == "Held Cordoned")
        .await;
    fake.put(
        "nodes",
        cluster_node("cellar", &json!({"unschedulable": false})),
    );
    fake.until("let back", |fake| label(fake, "cellar").is_null())
        .await;
    fake.until("absent", |fake| {
        fake.node_state("cellar") == "Absent NoWorker"
    })
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
    fake.until("leaving", |fake| {
        fake.node_state("cellar") == "Leaving Tainted"
    })
    .await;
    // Tolerated, and trouble that passes by itself, move nobody.
    fake.put(
        "nodes",
        cluster_node("attic", &taint("node.kubernetes.io/disk-pressure")),
    );
    fake.until("alive", |fake| fake.node_state("attic") == "Alive Session")
        .await;
    assert_eq!(label(&fake, "attic"), Value::Null);
    told(&fake, &["NodeTainted"]).await;
    center.change(|seen| seen.nodes.retain(|node| node.name != "cellar"));
    fake.until("held", |fake| fake.node_state("cellar") == "Held Tainted")
        .await;
    // The flood is over: its worker may come back, and does.
    fake.put("nodes", cluster_node("cellar", &json!({"taints": []})));
    fake.until("let back", |fake| label(fake, "cellar").is_null())
        .await;
    fake.until("absent", |fake| {
        fake.node_state("cellar") == "Absent NoWorker"
    })
    .await;
    let back = Story::new().seen().nodes.remove(1);
    center.change(|seen| seen.nodes.push(back));
    fake.until("alive", |fake| fake.node_state("cellar") == "Alive Session")
        .await;
    operator.stop().await;
}

/// Both nodes in the cluster and their workers alive.
async fn both(fake: &Fake) {
    fake.until("both", |fake| {
        ["attic", "cellar"].iter().all(|name| {
            let node = fake.get("edgenodes", name).unwrap_or_default();
            fake.node_state(name) == "Alive Session" && node["status"]["nodeUid"].is_string()
        })
    })
    .await;
}

fn cluster() -> Fake {
    let fake = Fake::new();
    fake.put("nodes", cluster_node("attic", &json!({})));
    fake.put("nodes", cluster_node("cellar", &json!({})));
    fake
}

#[tokio::test]
async fn a_node_that_the_cluster_has_no_more_loses_its_fragments_while_its_worker_still_runs() {
    let (fake, center) = (cluster(), Story::new());
    let operator = start(&fake, &center, "a");
    both(&fake).await;
    fake.delete("nodes", "cellar");
    fake.until("leaving", |fake| {
        fake.node_state("cellar") == "Leaving NodeDeleted"
    })
    .await;
    told(&fake, &["NodeDeleted"]).await;
    fake.until("drained", |_| center.calls() == ["drain cellar"])
        .await;
    let ready = || said_by(&fake.get("edgenodes", "cellar").unwrap(), "Ready");
    assert_eq!(ready(), "False NodeDeleted");
    // The machine stops the worker in the end; a node of that name may come one day, and is not kept empty.
    center.node("cellar", "lost");
    fake.until("forgotten", |fake| {
        fake.get("edgenodes", "cellar").is_none()
    })
    .await;
    assert_eq!(center.calls(), ["drain cellar", "undrain cellar"]);
    assert_eq!(fake.node_state("attic"), "Alive Session");
    operator.stop().await;
}

#[tokio::test]
async fn a_deleted_node_that_comes_back_gets_its_fragments_back_even_from_another_leader() {
    let (fake, center) = (cluster(), Story::new());
    let first = start(&fake, &center, "a");
    both(&fake).await;
    fake.delete("nodes", "cellar");
    fake.until("drained", |fake| {
        fake.node_state("cellar") == "Leaving NodeDeleted" && center.calls() == ["drain cellar"]
    })
    .await;
    first.stop().await;
    let second = start(&fake, &center, "b");
    fake.put("nodes", cluster_node("cellar", &json!({})));
    fake.until("back", |fake| fake.node_state("cellar") == "Alive Session")
        .await;
    assert_eq!(center.calls(), ["drain cellar", "undrain cellar"]);
    second.stop().await;
}

#[tokio::test]
async fn a_deleted_node_whose_fragments_have_nowhere_to_go_says_so() {
    let (fake, center) = (cluster(), Story::new());
    center.keeps(Some("cellar is the last node that plans can count on"));
    let operator = start(&fake, &center, "a");
    both(&fake).await;
    fake.delete("nodes", "cellar");
    let message = |fake: &Fake| {
        let node = fake.get("edgenodes", "cellar").unwrap_or_default();
        node["status"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    fake.until("said", |fake| message(fake).contains("the last node"))
        .await;
    // It is asked again, until there is somewhere.
    center.keeps(None);
    fake.until("moved", |fake| !message(fake).contains("the last node"))
        .await;
    assert_eq!(center.seen().nodes[1].state, "draining");
    operator.stop().await;
}

#[tokio::test]
async fn a_machine_that_never_was_a_node_of_the_cluster_is_no_deleted_one() {
    let (fake, center) = (Fake::new(), Story::new());
    fake.put("nodes", cluster_node("attic", &json!({})));
    let operator = start(&fake, &center, "a");
    fake.until("alive", |fake| fake.node_state("cellar") == "Alive Session")
        .await;
    // Several passes later it still is.
    center.node("attic", "leaving");
    fake.until("leaving", |fake| {
        fake.node_state("attic") == "Leaving Stopping"
    })
    .await;
    assert_eq!(fake.node_state("cellar"), "Alive Session");
    assert_eq!(center.calls(), Vec::<String>::new());
    operator.stop().await;
}

#[tokio::test]
async fn of_nodes_that_are_not_watched_no_deletion_follows() {
    let (fake, center) = (cluster(), Story::new());
    let first = start(&fake, &center, "a");
    both(&fake).await;
    first.stop().await;
    fake.delete("nodes", "cellar");
    let options = Options {
        watch_nodes: false,
        ..options("operator", "b")
    };
    let second = run(client(&fake), &center, options);
    center.node("attic", "leaving");
    fake.until("leaving", |fake| {
        fake.node_state("attic") == "Leaving Stopping"
    })
    .await;
    assert_eq!(fake.node_state("cellar"), "Alive Session");
    assert_eq!(center.calls(), Vec::<String>::new());
    second.stop().await;
}

#[test]
fn neither_an_unknown_nor_an_empty_list_of_nodes_means_that_one_was_deleted() {
    let seen = Story::new().seen();
    let status = EdgeNodeStatus {
        node_uid: Some("u".into()),
        ..EdgeNodeStatus::default()
    };
    let edge = EdgeNode {
        status: Some(status),
        ..EdgeNode::default()
    };
    let existing = BTreeMap::from([("cellar".to_owned(), edge)]);
    let attic: k8s_openapi::api::core::v1::Node =
        serde_json::from_value(cluster_node("attic", &json!({}))).unwrap();
    for (cluster, is_drained) in [
        (None, false),
        (Some(&[][..]), false),
        (Some(&[attic][..]), true),
    ] {
        let fleet = nodes::desired(&NodesView {
            seen: Ok(&seen),
            cluster,
            existing: &existing,
            answers: &BTreeMap::new(),
            settings: &settings(),
            now: jiff::Timestamp::UNIX_EPOCH,
        });
        let drains = if is_drained {
            vec![("cellar".to_owned(), true)]
        } else {
            Vec::new()
        };
        assert_eq!(fleet.drains, drains);
    }
}

#[tokio::test]
async fn a_node_that_was_drained_at_the_orchestrator_is_not_lost() {
    let (fake, center) = (cluster(), Story::new());
    let operator = start(&fake, &center, "a");
    both(&fake).await;
    center.node("cellar", "draining");
    fake.until("drained", |fake| {
        fake.node_state("cellar") == "Leaving Drained"
    })
    .await;
    told(&fake, &["NodeDrained"]).await;
    let message = fake.get("edgenodes", "cellar").unwrap()["status"]["message"].clone();
    assert!(
        message.as_str().unwrap().contains("undrain cellar"),
        "{message}"
    );
    // Whoever drained it has it back: the operator does not meddle.
    assert_eq!(center.calls(), Vec::<String>::new());
    operator.stop().await;
}

#[tokio::test]
async fn a_machine_outside_the_cluster_can_be_held_too() {
    let (fake, center) = (Fake::new(), Story::new());
    fake.put("nodes", cluster_node("attic", &json!({})));
    let operator = start(&fake, &center, "a");
    fake.until("alive", |fake| fake.node_state("cellar") == "Alive Session")
        .await;
    let hold = |is_held: bool| json!({"metadata": {"name": "cellar"}, "spec": {"hold": is_held}});
    fake.put("edgenodes", hold(true));
    fake.until("held", |fake| {
        fake.node_state("cellar") == "Leaving Held" && center.calls() == ["drain cellar"]
    })
    .await;
    fake.put("edgenodes", hold(false));
    fake.until("back", |fake| fake.node_state("cellar") == "Alive Session")
        .await;
    assert_eq!(center.calls(), ["drain cellar", "undrain cellar"]);
    operator.stop().await;
}

#[tokio::test]
async fn nodes_of_an_orchestrator_that_is_away_are_unknown_and_still_cordoned() {
    let (fake, center) = (cluster(), Story::new());
    let operator = start(&fake, &center, "a");
    both(&fake).await;
    let seen = center.seen();
    center.reach(Err(CenterError::Unreachable("connection refused".into())));
    fake.until("unknown", |fake| {
        let node = fake.get("edgenodes", "attic").unwrap();
        fake.node_state("attic") == "Unknown OrchestratorUnreachable"
            && said_by(&node, "Ready") == "Unknown OrchestratorUnreachable"
    })
    .await;
    told(&fake, &["NodeUnknown"]).await;
    let status = fake.get("edgenodes", "attic").unwrap()["status"].clone();
    assert_eq!(status["speed"], "2.00 GMAC/s");
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("kubectl get pods")
    );
    fake.put(
        "nodes",
        cluster_node("cellar", &json!({"unschedulable": true})),
    );
    fake.until("held", |fake| label(fake, "cellar") == "operator")
        .await;
    center.reach(Ok(seen));
    fake.until("known again", |fake| {
        fake.node_state("attic") == "Alive Session"
    })
    .await;
    told(&fake, &["NodeKnownAgain"]).await;
    operator.stop().await;
}

#[tokio::test]
async fn events_lead_to_the_very_object_that_they_are_about() {
    let (fake, center) = (cluster(), Story::new());
    let operator = start(&fake, &center, "a");
    both(&fake).await;
    told(&fake, &["NodeJoined"]).await;
    let uid = |name: &str| fake.get("edgenodes", name).unwrap()["metadata"]["uid"].clone();
    let first = uid("cellar");
    center.node("cellar", "lost");
    fake.delete("nodes", "cellar");
    fake.until("forgotten", |fake| {
        fake.get("edgenodes", "cellar").is_none()
    })
    .await;
    // Another one of that name is another object.
    fake.put("nodes", cluster_node("cellar", &json!({})));
    center.node("cellar", "alive");
    both(&fake).await;
    let second = uid("cellar");
    assert_ne!(first, second);
    let joined = |uid: &Value| {
        let events = fake.all("events");
        let mut events = events
            .iter()
            .filter(|event| event["reason"] == "NodeJoined");
        events.any(|event| {
            let about = &event["regarding"];
            about["uid"] == *uid && about["kind"] == "EdgeNode" && about["namespace"] == "edge"
        })
    };
    fake.until("both are told of", |_| joined(&first) && joined(&second))
        .await;
    for event in fake.all("events") {
        assert!(event["regarding"]["uid"].is_string(), "{event:#}");
    }
    operator.stop().await;
}

#[tokio::test]
async fn a_person_can_hold_a_node_without_cordoning_it() {
    let (fake, center) = (Fake::new(), Story::new());
    fake.put("nodes", cluster_node("cellar", &json!({})));
    let operator = start(&fake, &center, "a");
    fake.until("alive", |fake| fake.node_state("cellar") == "Alive Session")
        .await;
    fake.put(
        "edgenodes",
        json!({"metadata": {"name": "cellar"}, "spec": {"hold": true}}),
    );
    fake.until("leaving", |fake| {
        fake.node_state("cellar") == "Leaving Held"
    })
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
        fake.node_state("cellar") == "Leaving Cordoned"
    })
    .await;
    fake.put(
        "nodes",
        cluster_node("cellar", &json!({"unschedulable": false})),
    );
    fake.until("alive", |fake| fake.node_state("cellar") == "Alive Session")
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
    fake.until("alive", |fake| fake.node_state("cellar") == "Alive Session")
        .await;
    center.node("cellar", "lost");
    fake.until("lost", |fake| fake.node_state("cellar") == "Lost Silent")
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
