//! Stories of models.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};
use splitplace_k8s::{
    center::{CenterError, Phase, SeenModel},
    operator::Options,
};

use crate::{Fake, Story, client, message, model, options, run, said, start, stored};

async fn ready(fake: &Fake, name: &str) {
    fake.until("ready", |fake| said(fake, name, "Ready") == "True Served")
        .await;
}

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
    let passes = |operator: &crate::Running| operator.pulse.passes.load(Relaxed);
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

/// Every condition, in order.
fn all_said(fake: &Fake, name: &str) -> Vec<String> {
    ["Accepted", "Fetched", "Placed", "PromiseKept", "Ready"]
        .map(|kind| format!("{kind} {}", said(fake, name, kind)))
        .into()
}

/// Waits until each was told in an event.
async fn told(fake: &Fake, reasons: &[&str]) {
    for reason in reasons {
        fake.until(reason, |fake| {
            fake.reasons().iter().any(|told| told == reason)
        })
        .await;
    }
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
    let errors = |operator: &crate::Running| operator.pulse.errors.load(Relaxed);
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
