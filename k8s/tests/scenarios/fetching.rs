//! Stories of packages that come from somewhere else.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::json;
use splitplace_k8s::center::CenterError;

use crate::{
    Fake, Story, all_said, client, message, model, options, ready, run, said, start, told,
};

#[tokio::test]
async fn a_package_on_a_claim_is_fetched_before_it_is_served() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    fake.put(
        "edgemodels",
        model(
            "clothes",
            &json!({"source": {"claim": {"name": "usb", "path": "nets/clothes"}}}),
        ),
    );
    fake.until("fetching", |fake| {
        said(fake, "clothes", "Ready") == "False Fetching"
    })
    .await;
    let writes = fake.writes();
    let job = writes
        .iter()
        .find_map(|write| write.strip_prefix("PATCH jobs "))
        .unwrap()
        .to_owned();
    assert_eq!(center.calls(), Vec::<String>::new());
    assert_eq!(
        fake.get("jobs", &job).unwrap()["metadata"]["ownerReferences"][0]["kind"],
        "EdgeModel"
    );
    fake.put(
        "jobs",
        json!({"metadata": {"name": job}, "status": {"succeeded": 1}}),
    );
    ready(&fake, "clothes").await;
    assert_eq!(said(&fake, "clothes", "Fetched"), "True Fetched");
    operator.stop().await;
}

#[tokio::test]
async fn a_source_that_comes_back_is_fetched_again() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    let from = |path: &str| {
        let source = json!({"claim": {"name": "usb", "path": path}});
        model("clothes", &json!({"source": source}))
    };
    let made = |fake: &Fake| {
        let writes = fake.writes();
        let jobs = writes
            .iter()
            .filter_map(|write| write.strip_prefix("PATCH jobs "));
        jobs.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut all: Vec<String> = Vec::new();
    for path in ["nets/first", "nets/second", "nets/first"] {
        fake.put("edgemodels", from(path));
        fake.until("one more is fetched", |fake| all.len() < made(fake).len())
            .await;
        let job = made(&fake).pop().unwrap();
        // Only the present source has a job; what another brought is overwritten.
        fake.until("those before are gone", |fake| {
            let mut others = all.iter().filter(|other| **other != job);
            others.all(|other| fake.get("jobs", other).is_none())
        })
        .await;
        let succeeded = json!({"metadata": {"name": job}, "status": {"succeeded": 1}});
        fake.put("jobs", succeeded);
        fake.until("fetched", |fake| {
            said(fake, "clothes", "Fetched") == "True Fetched"
        })
        .await;
        all = made(&fake);
    }
    assert_eq!(all[0], all[all.len() - 1]);
    operator.stop().await;
}

/// A model from a claim whose job has ended at `ended`, and that is served.
async fn fetched_at(fake: &Fake, ended: &str) -> String {
    let source = json!({"claim": {"name": "usb", "path": "nets"}});
    fake.put("edgemodels", model("clothes", &json!({"source": source})));
    fake.until("fetching", |fake| !jobs(fake).is_empty()).await;
    let job = jobs(fake).pop().unwrap();
    finish(fake, &job, ended);
    ready(fake, "clothes").await;
    job
}

fn jobs(fake: &Fake) -> Vec<String> {
    let writes = fake.writes();
    let jobs = writes
        .iter()
        .filter_map(|write| write.strip_prefix("PATCH jobs "));
    jobs.map(str::to_owned).collect()
}

fn finish(fake: &Fake, job: &str, at: &str) {
    let status = json!({"succeeded": 1, "completionTime": at});
    fake.put("jobs", json!({"metadata": {"name": job}, "status": status}));
}

#[tokio::test]
async fn a_package_that_was_lost_with_its_claim_is_fetched_again() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    let job = fetched_at(&fake, "2026-01-01T00:00:00Z").await;
    operator.stop().await;
    // The orchestrator comes back with an empty claim, and the operator is another one.
    center.answers(Err(CenterError::Missing(
        "no such model in the repository".into(),
    )));
    center.change(|seen| seen.models.clear());
    let operator = start(&fake, &center, "b");
    fake.until("the job is gone, and is made again", |fake| {
        let deleted = fake
            .writes()
            .iter()
            .any(|write| *write == format!("DELETE jobs {job}"));
        deleted && 2 <= jobs(fake).len() && said(fake, "clothes", "Ready") == "False Fetching"
    })
    .await;
    assert!(
        fake.reasons().iter().any(|reason| reason == "Lost"),
        "{:?}",
        fake.reasons()
    );
    let asked = center.calls().len();
    center.answers(Ok(Vec::new()));
    finish(&fake, &job, &jiff::Timestamp::now().to_string());
    ready(&fake, "clothes").await;
    // At once, not when it would be time for another try.
    assert_eq!(center.calls().len(), asked + 1);
    operator.stop().await;
}

#[tokio::test]
async fn a_package_that_comes_and_is_not_found_is_not_fetched_for_ever() {
    let (fake, center) = (Fake::new(), Story::new());
    center.answers(Err(CenterError::Missing(
        "no such model in the repository".into(),
    )));
    let operator = start(&fake, &center, "a");
    let source = json!({"claim": {"name": "usb", "path": "nets"}});
    fake.put("edgemodels", model("clothes", &json!({"source": source})));
    fake.until("fetching", |fake| !jobs(fake).is_empty()).await;
    let job = jobs(&fake).pop().unwrap();
    let now = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(60);
    finish(&fake, &job, &now.to_string());
    fake.until("not found", |fake| {
        said(fake, "clothes", "Fetched") == "False NotFound"
    })
    .await;
    assert!(message(&fake, "clothes", "Fetched").contains("--models-claim"));
    let passes = operator.pulse.passes.load(Relaxed);
    fake.until("some more passes", |_| {
        passes + 5 < operator.pulse.passes.load(Relaxed)
    })
    .await;
    assert_eq!(jobs(&fake).len(), 1);
    operator.stop().await;
}

#[tokio::test]
async fn a_fetch_that_fails_says_where_to_look() {
    let (fake, center) = (Fake::new(), Story::new());
    let operator = start(&fake, &center, "a");
    let digest = format!("sha256:{}", "0".repeat(64));
    let source = json!({"http": {"url": "https://x.example/y.tar", "digest": digest}});
    fake.put("edgemodels", model("clothes", &json!({"source": source})));
    fake.until("fetching", |fake| {
        said(fake, "clothes", "Ready") == "False Fetching"
    })
    .await;
    let writes = fake.writes();
    let job = writes
        .iter()
        .find_map(|write| write.strip_prefix("PATCH jobs "))
        .unwrap()
        .to_owned();
    let failed = json!([{"type": "Failed", "status": "True", "message": "backoff limit reached"}]);
    fake.put(
        "jobs",
        json!({"metadata": {"name": job}, "status": {"conditions": failed}}),
    );
    fake.until("failed", |fake| {
        said(fake, "clothes", "Ready") == "False FetchFailed"
    })
    .await;
    assert!(message(&fake, "clothes", "Ready").contains(&format!("kubectl logs job/{job}")));
    operator.stop().await;
}

#[tokio::test]
async fn a_package_from_elsewhere_needs_a_volume_to_come_to() {
    let (fake, center) = (Fake::new(), Story::new());
    let mut options = options("operator", "a");
    options.settings.fetch = None;
    let operator = run(client(&fake), &center, options);
    let mut spec = json!({"source": {"claim": {"name": "usb", "path": "nets/clothes"}}});
    fake.put("edgemodels", model("clothes", &spec));
    fake.until("nowhere", |fake| {
        said(fake, "clothes", "Ready") == "False NowhereToFetchTo"
    })
    .await;
    assert_eq!(
        all_said(&fake, "clothes"),
        [
            "Accepted Unknown NowhereToFetchTo",
            "Fetched False NowhereToFetchTo",
            "Placed Unknown NowhereToFetchTo",
            "PromiseKept Unknown NowhereToFetchTo",
            "Ready False NowhereToFetchTo",
        ]
    );
    let why = message(&fake, "clothes", "Placed");
    assert!(why.contains("orchestrator.persistence.enabled"), "{why}");
    told(&fake, &["NowhereToFetchTo"]).await;
    let reasons = fake.reasons();
    let told = reasons.iter().filter(|one| *one == "NowhereToFetchTo");
    assert_eq!(told.count(), 1, "one event for one cause: {reasons:?}");
    assert_eq!(center.calls(), Vec::<String>::new());
    // What the orchestrator has already needs none.
    spec["source"] = json!({"stored": {}, "claim": null});
    fake.put("edgemodels", model("clothes", &spec));
    ready(&fake, "clothes").await;
    operator.stop().await;
}
