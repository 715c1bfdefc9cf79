//! The objects that are made, as files that a reviewer reads. `SPLITPLACE_BLESS=1` writes them.

use std::{fs, path::Path};

use jiff::Timestamp;
use serde_json::{Value, json};
use splitplace_k8s::{
    center::Order,
    decide::{self, Outcome, View},
    fetch,
    model::EdgeModel,
};

use crate::{Story, model, settings};

#[track_caller]
fn same(name: &str, value: &impl serde::Serialize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/snapshots")
        .join(name);
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("SPLITPLACE_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "{name} is another than before; if that is right, run with SPLITPLACE_BLESS=1"
    );
}

fn typed(name: &str, spec: &Value) -> EdgeModel {
    let mut object = model(name, spec);
    object["metadata"]["uid"] = json!("u");
    object["metadata"]["generation"] = json!(2);
    serde_json::from_value(object).unwrap()
}

#[test]
fn jobs_that_fetch() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    for (name, source) in [
        (
            "claim",
            json!({"claim": {"name": "usb", "path": "nets/clothes"}}),
        ),
        ("host-path", json!({"hostPath": {"path": "/srv/nets"}})),
        (
            "http",
            json!({"http": {"url": "https://x.example/clothes.tar.gz", "digest": digest}}),
        ),
        (
            "oci",
            json!({"oci": {"repository": "registry.example:5000/nets/clothes", "digest": digest, "plainHttp": true}}),
        ),
    ] {
        let model = typed("clothes", &json!({"source": source}));
        let mut settings = settings();
        // Only what goes over a network needs to be trusted, and only a registry asks who asks.
        let pod = json!({
            "ca": {"configMap": "house", "key": "root.pem"},
            "imagePullSecrets": [{"name": "registry"}, {"name": "other"}],
            "nodeSelector": {"disk": "large"},
            "tolerations": [{"key": "edge", "operator": "Exists"}],
        });
        settings.fetch.as_mut().unwrap().pod = serde_json::from_value(pod).unwrap();
        let job = fetch::desired(&model, &settings, settings.fetch.as_ref().unwrap());
        same(&format!("fetch-{name}.json"), &job);
    }
}

#[test]
fn a_job_without_wishes_has_none_of_their_fields() {
    let source = json!({"hostPath": {"path": "/srv/nets"}});
    let (model, settings) = (typed("clothes", &json!({"source": source})), settings());
    let job = fetch::desired(&model, &settings, settings.fetch.as_ref().unwrap());
    let job = serde_json::to_value(job).unwrap();
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"].as_array().unwrap().len(), 2);
    for word in ["tolerations", "imagePullSecrets", "nodeSelector"] {
        let is_empty = pod[word].is_null() || pod[word] == json!([]) || pod[word] == json!({});
        assert!(is_empty, "{word}");
    }
}

#[test]
fn a_long_name_makes_a_name_that_a_job_may_have() {
    let long = typed(
        &"a.".repeat(60),
        &json!({"source": {"hostPath": {"path": "/a"}}}),
    );
    let name = fetch::job_name(&long);
    assert!(name.len() <= 63 && !name.contains(".-"), "{name}");
    let other = typed(
        &"a.".repeat(60),
        &json!({"source": {"hostPath": {"path": "/b"}}}),
    );
    assert_ne!(fetch::job_name(&other), name);
}

#[test]
fn the_status_of_a_model_that_is_served() {
    let center = Story::new();
    center.change(|seen| seen.models.push(crate::center::served("clothes")));
    let seen = center.seen();
    let spec = json!({"source": {"stored": {}}, "sla": {"milliseconds": 20}});
    let (model, settings) = (typed("clothes", &spec), settings());
    let now = Timestamp::from_second(1_000_000_000).unwrap();
    let order = Order {
        spec: model.spec.clone(),
        ..Order::default()
    };
    let outcome = Outcome {
        generation: 2,
        at: now,
        asked: order.wishes(),
        result: Ok(Vec::new()),
    };
    let step = decide::step(&View {
        model: &model,
        seen: Ok(&seen),
        job: None,
        old_jobs: &[],
        outcome: Some(&outcome),
        is_loading: false,
        rival: None,
        nodes: None,
        is_blind: false,
        outside: &["192.0.2.7".into(), "2001:db8::7".into()],
        settings: &settings,
        now,
    });
    same("status.json", &step.status);
}
