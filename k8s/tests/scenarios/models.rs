//! Stories of models that are asked for, served, and let go.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::json;
use splitplace_k8s::center::CenterError;

use crate::{Fake, Running, Story, message, model, ready, said, start, stored};

#[tokio::test]
async fn a_new_model_is_held_ordered_and_ready() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    fake.put("edgemodels", model("clothes", &stored()));
    ready(&fake, "clothes").await;
    let object = fake.get("edgemodels", "clothes").unwrap();
    assert_eq!(
        object["metadata"]["finalizers"],
        json!(["splitplace.dev/drain"])
    );
    let status = &object["status"];
    assert_eq!(
        status["observedGeneration"],
        object["metadata"]["generation"]
    );
    assert_eq!(status["arms"], "base/whole,base/chain");
    assert_eq!(status["nodes"], 2);
    assert_eq!(
        (&status["predicted"], &status["loss"]),
        (&json!("4.2ms"), &json!("1.0%"))
    );
    assert_eq!(
        status["endpoints"][0]["address"],
        "sp-splitplace.edge.svc:8001"
    );
    assert_eq!(status["planGeneration"], 8);
    assert_eq!(center.calls(), ["load clothes"]);
    for reason in ["CarriedOut", "Placed", "Served"] {
        fake.until(reason, |fake| {
            fake.reasons().iter().any(|told| told == reason)
        })
        .await;
    }
    operator.stop().await;
}

#[tokio::test]
async fn nothing_is_written_twice() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    fake.put("edgemodels", model("clothes", &stored()));
    ready(&fake, "clothes").await;
    fake.until("nodes", |fake| {
        fake.get("edgenodes", "cellar")
            .is_some_and(|n| !n["status"].is_null())
    })
    .await;
    let passes = |operator: &Running| operator.pulse.passes.load(Relaxed);
    let settled = passes(&operator) + 2;
    fake.until("settled", |_| settled < passes(&operator)).await;
    let (writes, until) = (fake.writes(), passes(&operator) + 3);
    fake.until("more passes", |_| until < passes(&operator))
        .await;
    assert_eq!(fake.writes(), writes);
    operator.stop().await;
}

#[tokio::test]
async fn wishes_that_are_not_carried_out_are_named() {
    let (fake, center) = (Fake::new(), Story::new());
    center.answers(Ok(vec!["placement.pin".into(), "priority".into()]));
    let operator = start(&fake, &center, "a");
    let placement = json!({"pin": [{"fragment": 0, "node": "attic"}], "spread": true});
    let spec = json!({"source": {"stored": {}}, "placement": placement, "priority": 5,
        "sla": {"milliseconds": 2}, "variants": ["chain"]});
    fake.put("edgemodels", model("clothes", &spec));
    ready(&fake, "clothes").await;
    assert_eq!(said(&fake, "clothes", "Accepted"), "True PartlyCarriedOut");
    assert!(message(&fake, "clothes", "Accepted").contains("placement.pin, priority"));
    assert_eq!(said(&fake, "clothes", "PromiseKept"), "False OutOfReach");
    assert!(message(&fake, "clothes", "PromiseKept").contains("add a faster node"));
    let wishes = center.orders()[0].wishes();
    let names: Vec<_> = wishes.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "placement.pin",
            "placement.spread",
            "priority",
            "sla",
            "variants"
        ]
    );
    operator.stop().await;
}

#[tokio::test]
async fn a_refusal_is_quoted() {
    let (fake, center) = (Fake::new(), Story::new());
    center.answers(Err(CenterError::Refused(
        "clothes needs 900 MB, the nodes have 200 MB".into(),
    )));
    let operator = start(&fake, &center, "a");
    fake.put("edgemodels", model("clothes", &stored()));
    fake.until("refused", |fake| {
        said(fake, "clothes", "Ready") == "False Refused"
    })
    .await;
    assert!(message(&fake, "clothes", "Ready").contains("900 MB"));
    // A changed spec is tried at once.
    center.answers(Ok(Vec::new()));
    fake.put("edgemodels", model("clothes", &json!({"priority": 1})));
    ready(&fake, "clothes").await;
    operator.stop().await;
}

#[tokio::test]
async fn of_two_models_with_one_name_the_older_is_served() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    fake.put("edgemodels", model("clothes", &stored()));
    ready(&fake, "clothes").await;
    fake.put(
        "edgemodels",
        model(
            "again",
            &json!({"source": {"stored": {}}, "model": "clothes"}),
        ),
    );
    fake.until("taken", |fake| {
        said(fake, "again", "Ready") == "False NameTaken"
    })
    .await;
    assert!(message(&fake, "again", "Ready").contains("EdgeModel clothes is older"));
    // The younger one goes without taking the older one's model along.
    fake.delete("edgemodels", "again");
    fake.until("gone", |fake| fake.get("edgemodels", "again").is_none())
        .await;
    assert_eq!(center.calls(), ["load clothes"]);
    operator.stop().await;
}

#[tokio::test]
async fn a_deleted_model_is_drained_before_it_goes() {
    let (fake, center) = (Fake::new(), Story::new());
    center.is_slow(true);
    let operator = start(&fake, &center, "a");
    fake.put("edgemodels", model("clothes", &stored()));
    ready(&fake, "clothes").await;
    fake.delete("edgemodels", "clothes");
    fake.until("draining", |fake| {
        message(fake, "clothes", "Ready").contains("3 requests in flight")
    })
    .await;
    assert_eq!(said(&fake, "clothes", "Ready"), "False Draining");
    assert_eq!(said(&fake, "clothes", "Placed"), "Unknown Draining");
    center.change(|seen| {
        seen.models.clear();
        seen.in_flight = 0;
    });
    fake.until("gone", |fake| fake.get("edgemodels", "clothes").is_none())
        .await;
    assert_eq!(center.calls(), ["load clothes", "unload clothes"]);
    fake.until("told", |fake| {
        fake.reasons().iter().any(|reason| reason == "Drained")
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn a_drain_has_an_end_even_when_nobody_answers() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    fake.put(
        "edgemodels",
        model(
            "clothes",
            &json!({"source": {"stored": {}}, "drainSeconds": 0}),
        ),
    );
    ready(&fake, "clothes").await;
    center.reach(Err(CenterError::Unreachable("connection refused".into())));
    fake.delete("edgemodels", "clothes");
    fake.until("gone", |fake| fake.get("edgemodels", "clothes").is_none())
        .await;
    fake.until("told", |fake| {
        fake.reasons()
            .iter()
            .any(|reason| reason == "DrainTimedOut")
    })
    .await;
    operator.stop().await;
}
