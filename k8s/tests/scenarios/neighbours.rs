//! Stories of an API server with others at it: fields of their own, refusals, watches that break.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::json;

use crate::{Fake, Running, Story, model, ready, said, start, stored};

#[tokio::test]
async fn fields_of_a_gitops_tool_are_left_alone() {
    let (fake, center) = (Fake::new(), Story::new());
    let mut object = model("clothes", &json!({"source": {"stored": {}}, "priority": 3}));
    object["metadata"]["labels"] = json!({"team": "vision"});
    object["metadata"]["finalizers"] = json!(["example.org/audit"]);
    fake.put("edgemodels", object.clone());
    let operator = start(&fake, &center, "a");
    ready(&fake, "clothes").await;
    let after = fake.get("edgemodels", "clothes").unwrap();
    assert_eq!(after["spec"], object["spec"]);
    assert_eq!(after["metadata"]["labels"], object["metadata"]["labels"]);
    assert_eq!(
        after["metadata"]["finalizers"],
        json!(["example.org/audit", "splitplace.dev/drain"])
    );
    operator.stop().await;
    let writes = fake.writes();
    assert!(
        writes.iter().all(|write| write != "PUT edgemodels clothes"),
        "{writes:?}"
    );
}

#[tokio::test]
async fn what_is_forbidden_is_tried_again() {
    let (fake, center) = (Fake::new(), Story::new());
    fake.deny("PATCH edgemodels/status", true);
    let operator = start(&fake, &center, "a");
    fake.put("edgemodels", model("clothes", &stored()));
    let errors = |operator: &Running| operator.pulse.errors.load(Relaxed);
    fake.until("errors", |_| 1 < errors(&operator)).await;
    assert_eq!(said(&fake, "clothes", "Ready"), "");
    fake.deny("PATCH edgemodels/status", false);
    ready(&fake, "clothes").await;
    operator.stop().await;
}

#[tokio::test]
async fn a_watch_that_breaks_or_expires_is_opened_again() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    fake.put("edgemodels", model("first", &stored()));
    ready(&fake, "first").await;
    fake.break_watches(false);
    fake.put("edgemodels", model("second", &stored()));
    ready(&fake, "second").await;
    fake.break_watches(true);
    fake.put("edgemodels", model("third", &stored()));
    ready(&fake, "third").await;
    operator.stop().await;
}
