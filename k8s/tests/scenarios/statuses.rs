//! Stories of what a model's status says: where it is served, what stands in the way, whether its promise is kept.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};
use splitplace_k8s::{
    center::{CenterError, Phase, SeenModel},
    operator::Options,
};

use crate::{
    Fake, Story, all_said, client, message, model, options, ready, run, said, start, stored, told,
};

#[tokio::test]
async fn a_load_balancer_and_a_proxy_are_shown_beside_the_way_from_inside() {
    let (fake, center) = (Fake::new(), Story::new());
    let service = |balancer: &Value| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sp-splitplace"},
            "status": {"loadBalancer": balancer}})
    };
    fake.put("services", service(&json!({})));
    let mut options = options("operator", "a");
    options.settings.service = Some("sp-splitplace".into());
    options.settings.route = Some("models.example:443".into());
    let operator = run(client(&fake), &center, options);
    fake.put("edgemodels", model("clothes", &stored()));
    ready(&fake, "clothes").await;
    let shown = |fake: &Fake| {
        let object = fake.get("edgemodels", "clothes").unwrap();
        let all = object["status"]["endpoints"].as_array().unwrap().clone();
        let text = |one: &Value| one["address"].as_str().unwrap().to_owned();
        let shown = all.iter().map(|one| (text(one), one["external"] == true));
        shown.collect::<Vec<_>>()
    };
    let inside = [
        ("sp-splitplace.edge.svc:8001".to_owned(), false),
        (
            "https://sp-splitplace.edge.svc:8000/v2/models/clothes".into(),
            false,
        ),
    ];
    let routed = [
        ("models.example:443".to_owned(), true),
        ("https://models.example:443/v2/models/clothes".into(), true),
    ];
    assert_eq!(shown(&fake), [&inside[..], &routed].concat());
    // The balancer has its addresses later.
    let given = json!({"ingress": [{"ip": "192.0.2.7"}, {"ip": "2001:db8::7"}, {"hostname": "lb.example"}]});
    fake.put("services", service(&given));
    let balanced = ["192.0.2.7", "[2001:db8::7]", "lb.example"].map(|host| {
        let http = format!("https://{host}:8000/v2/models/clothes");
        [(format!("{host}:8001"), true), (http, true)]
    });
    let all = [&inside[..], &balanced.concat(), &routed].concat();
    fake.until("balanced", |fake| shown(fake) == all).await;
    // While it cannot be asked, what was known stays.
    fake.deny("GET services", true);
    let errors = || operator.pulse.errors.load(Relaxed);
    fake.until("refused", |_| 1 < errors()).await;
    assert_eq!(shown(&fake), all);
    operator.stop().await;
}

#[tokio::test]
async fn data_that_must_not_leave_a_zone_stays_when_zones_are_not_known() {
    let (fake, center) = (Fake::new(), Story::new());
    let options = Options {
        watch_nodes: false,
        ..options("operator", "a")
    };
    let operator = run(client(&fake), &center, options);
    let mut spec = stored();
    spec["placement"] = json!({"zone": "berlin"});
    fake.put("edgemodels", model("clothes", &spec));
    fake.until("not accepted", |fake| {
        said(fake, "clothes", "Accepted") == "False NodesNotWatched"
    })
    .await;
    assert!(message(&fake, "clothes", "Ready").contains("operator.watchNodes"));
    // One that may run anywhere is served meanwhile.
    fake.put("edgemodels", model("shoes", &stored()));
    ready(&fake, "shoes").await;
    assert_eq!(center.calls(), ["load shoes"]);
    operator.stop().await;
}

#[tokio::test]
async fn data_that_leaves_its_zone_is_no_success() {
    let (fake, center) = (Fake::new(), Story::new());
    let node = |name: &str, zone: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "spec": {},
            "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}})
    };
    fake.put("nodes", node("attic", "house"));
    fake.put("nodes", node("cellar", "street"));
    let operator = start(&fake, &center, "a");
    fake.put(
        "edgemodels",
        model(
            "clothes",
            &json!({"source": {"stored": {}}, "placement": {"zone": "house"}}),
        ),
    );
    fake.until("outside", |fake| {
        said(fake, "clothes", "Ready") == "False OutsidePlacement"
    })
    .await;
    assert!(message(&fake, "clothes", "Ready").contains("a fragment is on cellar"));
    assert_eq!(
        center.orders()[0].nodes.as_deref(),
        Some(&["attic".to_owned()][..])
    );
    operator.stop().await;
}

#[tokio::test]
async fn an_orchestrator_that_is_away_leaves_what_was_known_and_says_so() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    fake.put("edgemodels", model("clothes", &stored()));
    ready(&fake, "clothes").await;
    let seen = center.seen();
    center.reach(Err(CenterError::Unreachable("connection refused".into())));
    fake.until("unknown", |fake| {
        said(fake, "clothes", "Ready") == "Unknown OrchestratorUnreachable"
    })
    .await;
    let object = fake.get("edgemodels", "clothes").unwrap();
    assert_eq!(object["status"]["arms"], "base/whole,base/chain");
    // Nothing that was said before vanishes, and nothing goes on being promised.
    assert_eq!(
        all_said(&fake, "clothes"),
        [
            "Accepted Unknown OrchestratorUnreachable",
            "Fetched True NotNeeded",
            "Placed Unknown OrchestratorUnreachable",
            "PromiseKept Unknown OrchestratorUnreachable",
            "Ready Unknown OrchestratorUnreachable",
        ]
    );
    for kind in ["Accepted", "Placed", "PromiseKept", "Ready"] {
        let message = message(&fake, "clothes", kind);
        assert!(message.contains("kubectl get pods"), "{kind}: {message}");
    }
    let fetched = since(&fake, "Fetched");
    let placed = since(&fake, "Placed");
    told(&fake, &["OrchestratorUnreachable"]).await;
    center.reach(Ok(seen));
    ready(&fake, "clothes").await;
    assert_eq!(center.calls(), ["load clothes"]);
    assert_eq!(said(&fake, "clothes", "Placed"), "True Placed");
    // The time is that of the last change of the status, of each condition for itself.
    assert_eq!(since(&fake, "Fetched"), fetched);
    assert!(placed <= since(&fake, "Placed"));
    operator.stop().await;
}

/// When a condition's status last changed.
fn since(fake: &Fake, kind: &str) -> jiff::Timestamp {
    let object = fake.get("edgemodels", "clothes").unwrap();
    let conditions = object["status"]["conditions"].as_array().unwrap().clone();
    let found = conditions.iter().find(|one| one["type"] == kind).unwrap();
    found["lastTransitionTime"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

/// A served model that promises something, and how it is then changed.
async fn promised(fake: &Fake, center: &Story, change: impl FnOnce(&mut SeenModel)) {
    let mut spec = stored();
    spec["sla"] = json!({"milliseconds": 20, "share": 0.9});
    fake.put("edgemodels", model("clothes", &spec));
    ready(fake, "clothes").await;
    assert_eq!(said(fake, "clothes", "PromiseKept"), "True WithinReach");
    center.change(|seen| change(&mut seen.models[0]));
}

#[tokio::test]
async fn a_model_whose_arms_all_have_a_lost_node_says_so_and_comes_back_with_it() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    promised(&fake, &center, |model| {
        for arm in &mut model.arms {
            arm.available = false;
        }
        model.phase = Phase::Loading;
        model.held = Some(0.99);
        model.reason = "no arm is placed".into();
    })
    .await;
    fake.until("lost", |fake| {
        said(fake, "clothes", "Ready") == "False NodesLost"
    })
    .await;
    assert_eq!(
        all_said(&fake, "clothes"),
        [
            "Accepted True CarriedOut",
            "Fetched True NotNeeded",
            "Placed False NodesLost",
            // Answers were in time as long as there were any, which promises nothing now.
            "PromiseKept Unknown NotServed",
            "Ready False NodesLost",
        ]
    );
    let why = message(&fake, "clothes", "Ready");
    assert!(why.contains("kubectl get edgenodes"), "{why}");
    let endpoints = &fake.get("edgemodels", "clothes").unwrap()["status"]["endpoints"];
    assert_eq!(*endpoints, json!([]));
    told(&fake, &["NodesLost", "NotServed"]).await;
    center.change(|seen| seen.models[0] = crate::center::served("clothes"));
    ready(&fake, "clothes").await;
    operator.stop().await;
}

#[tokio::test]
async fn a_model_that_fits_nowhere_any_more_shows_the_arithmetic() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    promised(&fake, &center, |model| {
        model.arms.clear();
        model.phase = Phase::Loading;
        model.is_unplaced = true;
        model.reason = "base/whole: 900 MB are needed, attic has 200 MB left".into();
    })
    .await;
    fake.until("fits nowhere", |fake| {
        said(fake, "clothes", "Ready") == "False DoesNotFit"
    })
    .await;
    assert!(message(&fake, "clothes", "Placed").contains("attic has 200 MB left"));
    told(&fake, &["DoesNotFit", "NotServed"]).await;
    operator.stop().await;
}

#[tokio::test]
async fn a_model_that_no_plan_has_yet_is_not_said_to_fit_nowhere() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    // As after a restart of the orchestrator: its models are there again, its nodes are not.
    promised(&fake, &center, |model| {
        model.arms.clear();
        model.phase = Phase::Loading;
        model.reason = "no node is connected; start a worker, and it will be placed".into();
    })
    .await;
    fake.until("no plan", |fake| {
        said(fake, "clothes", "Ready") == "False NoPlan"
    })
    .await;
    let why = message(&fake, "clothes", "Placed");
    assert!(
        why.contains("start a worker") && why.contains("kubectl get edgenodes"),
        "{why}"
    );
    told(&fake, &["NoPlan"]).await;
    operator.stop().await;
}

#[tokio::test]
async fn a_promise_that_is_missed_says_by_how_much_and_what_would_help() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    promised(&fake, &center, |model| model.held = Some(0.8)).await;
    fake.until("missed", |fake| {
        said(fake, "clothes", "PromiseKept") == "False Missed"
    })
    .await;
    let why = message(&fake, "clothes", "PromiseKept");
    for part in ["80.0%", "90.0%", "20ms", "add a node"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    // It is served all the same.
    assert_eq!(said(&fake, "clothes", "Ready"), "True Served");
    told(&fake, &["Missed"]).await;
    center.change(|seen| seen.models[0].held = Some(0.95));
    fake.until("held", |fake| {
        said(fake, "clothes", "PromiseKept") == "True Held"
    })
    .await;
    told(&fake, &["Held"]).await;
    operator.stop().await;
}
