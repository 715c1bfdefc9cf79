//! The definitions: checked in as they are generated, and what their rules refuse.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "cases/refused.rs"]
mod refused;

use std::{fs, path::Path};

use kube::core::cel::Validator;
use serde_json::{Value, json};
use splitplace_k8s::crds;

/// `SPLITPLACE_BLESS=1` writes what should be there.
#[test]
fn what_is_checked_in_is_what_the_types_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, text) in crds::yaml().unwrap() {
        for folder in ["crds", "../charts/splitplace/files/crds"] {
            let path = root.join(folder).join(file);
            if std::env::var_os("SPLITPLACE_BLESS").is_some() {
                fs::write(&path, &text).unwrap();
            }
            let there = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                there == text,
                "{folder}/{file} is not what the types say; run the tests with SPLITPLACE_BLESS=1"
            );
        }
    }
}

fn model_schema() -> Value {
    let definition = serde_json::to_value(&crds::all()[0].1).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn model(spec: &Value) -> Value {
    json!({
        "apiVersion": "splitplace.dev/v1alpha1", "kind": "EdgeModel",
        "metadata": {"name": "m"}, "spec": spec,
    })
}

/// What the rules say of a spec, and of its change from `old`.
#[track_caller]
fn refused(spec: &Value, old: Option<&Value>) -> Vec<String> {
    let (new, old) = (model(spec), old.map(model));
    match Validator::new().validate(&model_schema(), &new, old.as_ref()) {
        Ok(()) => Vec::new(),
        Err(found) => vec![found.to_string()],
    }
}

#[test]
fn the_rules_refuse_what_makes_no_sense() {
    let stored = json!({"stored": {}});
    let digest = format!("sha256:{}", "0".repeat(64));
    for fine in [
        json!({"source": stored}),
        json!({"source": {"claim": {"name": "c", "path": "a/b"}}, "variants": ["chain", "whole"]}),
        json!({"source": {"http": {"url": "https://x/y.tar", "digest": digest}}}),
        json!({"source": stored, "exits": {"policy": "confidence", "minConfidence": 0.7}}),
        json!({"source": stored, "exits": {"policy": "joint", "lossTarget": 0.02}}),
        json!({"source": stored, "exits": {"policy": "queueing-lp"}}),
    ] {
        assert_eq!(refused(&fine, None), Vec::<String>::new(), "{fine}");
    }
    for (wrong, why) in refused::by_rules() {
        let said = refused(&wrong, None).join("; ");
        assert!(
            said.contains(why),
            "{wrong}: {said:?} should speak of {why:?}"
        );
    }
}

#[test]
fn a_served_name_cannot_be_changed() {
    let of = |name: &str| json!({"source": {"stored": {}}, "model": name});
    assert!(refused(&of("a"), Some(&of("a"))).is_empty());
    assert!(
        refused(&of("b"), Some(&of("a")))
            .join("")
            .contains("cannot be changed")
    );
    let without = json!({"source": {"stored": {}}});
    assert!(!refused(&of("b"), Some(&without)).is_empty());
    assert!(refused(&without, Some(&without)).is_empty());
}

#[test]
fn every_field_explains_itself() {
    fn undocumented(path: &str, schema: &Value, found: &mut Vec<String>) {
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            // The API's own type, and its own words.
            if name == "conditions" {
                continue;
            }
            if inner["description"].as_str().is_none_or(str::is_empty) {
                found.push(path.clone());
            }
            undocumented(&path, inner, found);
            undocumented(&path, &inner["items"], found);
        }
    }
    for (file, definition) in crds::all() {
        let definition = serde_json::to_value(&definition).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut found = Vec::new();
        for part in ["spec", "status"] {
            undocumented(part, &schema["properties"][part], &mut found);
        }
        assert!(
            found.is_empty(),
            "{file}: kubectl explain would say nothing about {found:?}"
        );
    }
}

#[test]
fn people_see_what_they_want_to_know() {
    let columns = |at: usize| {
        let definition = serde_json::to_value(&crds::all()[at].1).unwrap();
        let names = &definition["spec"]["names"];
        let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].clone();
        let columns: Vec<String> = columns
            .as_array()
            .unwrap()
            .iter()
            .filter(|column| column["priority"].as_i64().unwrap_or_default() == 0)
            .map(|column| column["name"].as_str().unwrap().to_owned())
            .collect();
        (
            names["shortNames"][0].as_str().unwrap().to_owned(),
            columns.join(" "),
        )
    };
    let model = "Ready Reason Arms Nodes Predicted SLA Loss Age";
    assert_eq!(columns(0), ("em".into(), model.into()));
    assert_eq!(
        columns(1),
        (
            "en".into(),
            "State Reason Cores Speed Memory Fragments Age".into()
        )
    );
}
