//! The operator needs what the chart grants it, and nothing else.

use serde_json::json;
use splitplace_tests::rights::{granted, idle, missing};

use crate::{Fake, Story, client, cluster_node, model, options, run, said, stored};

/// What the chart calls everything with its extreme values, which some rights are bound to.
const RELEASE: &str = "edge-ai";

#[tokio::test]
async fn each_right_of_the_chart_is_used_and_no_other_is_needed() {
    let (fake, center) = (Fake::new(), Story::new());
    for node in ["attic", "cellar", "shed"] {
        fake.put("nodes", cluster_node(node, &json!({})));
    }
    fake.put("services", json!({"metadata": {"name": RELEASE}}));
    let mut options = options(&format!("{RELEASE}-operator"), "a");
    options.settings.service = Some(RELEASE.into());
    let operator = run(client(&fake), &center, options);
    let ready = |fake: &Fake| said(fake, "clothes", "Ready") == "True Served";
    fake.put("edgemodels", model("clothes", &stored()));
    fake.until("served", ready).await;
    // One after another: a package that a job brings, and one that another job brings in its place.
    let mut jobs = Vec::new();
    for path in ["first", "second"] {
        let claim = json!({"name": "usb", "path": path});
        let spec = json!({"source": {"stored": null, "claim": claim}});
        fake.put("edgemodels", model("clothes", &spec));
        fake.until("a job", |fake| {
            let all = fake.all("jobs");
            all.len() == 1 && all[0]["metadata"]["name"] != json!(jobs.last())
        })
        .await;
        let job = fake.all("jobs")[0]["metadata"]["name"].clone();
        fake.put(
            "jobs",
            json!({"metadata": {"name": job}, "status": {"succeeded": 1}}),
        );
        jobs.push(job);
        fake.until("served", ready).await;
    }
    // A node is cordoned and another one leaves for good.
    fake.put(
        "nodes",
        cluster_node("shed", &json!({"unschedulable": true})),
    );
    center.node("cellar", "lost");
    fake.delete("nodes", "cellar");
    fake.until("forgotten", |fake| {
        fake.get("edgenodes", "cellar").is_none()
            && fake.get("nodes", "shed").unwrap()["metadata"]["labels"]["splitplace.dev/hold"]
                == "operator"
    })
    .await;
    // The same is told twice: the second time, the first event is counted up.
    for state in ["leaving", "alive", "leaving", "alive"] {
        let told = fake.writes().len();
        center.node("attic", state);
        fake.until("told", |fake| told < fake.writes().len()).await;
    }
    fake.delete("edgemodels", "clothes");
    fake.until("released", |fake| {
        fake.get("edgemodels", "clothes").is_none()
    })
    .await;
    operator.stop().await;
    let roles = [
        format!("{RELEASE}-operator"),
        format!("edge-{RELEASE}-operator"),
    ];
    let granted = granted("extreme", &roles.each_ref().map(String::as_str));
    let used = fake.used();
    assert_eq!(missing(&granted, &used), [], "needed, and not granted");
    assert_eq!(idle(&granted, &used), [], "granted, and never needed");
}
