//! How an installed definition differs from the one that this program was built with. Pure.
//!
//! Sentences for people differ between versions without harm and are left out; so is what the API server adds by itself.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value};

/// Which way two definitions differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The cluster lacks what this program has: fields would be dropped without a word, or rules not be held.
    Lacks,
    /// The cluster has what this program does not know: it is the older one.
    Besides,
    /// Both have it, in another form.
    Other,
}

/// A difference, and where: `v1alpha1 spec.source.oci.plainHttp`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drift {
    /// Which way.
    pub way: Way,
    /// Where.
    pub place: String,
}

/// Everything that differs, sorted.
#[must_use]
pub fn differences(
    installed: &CustomResourceDefinition,
    own: &CustomResourceDefinition,
) -> Vec<Drift> {
    let mut found = BTreeSet::new();
    let versions = |one: &CustomResourceDefinition| {
        let versions = one.spec.versions.iter();
        let named = versions.map(|version| {
            let value = serde_json::to_value(version).unwrap_or_default();
            (version.name.clone(), value)
        });
        Value::Object(named.collect())
    };
    compare("", &versions(installed), &versions(own), &mut found);
    if installed.spec.scope != own.spec.scope || installed.spec.group != own.spec.group {
        found.insert(Drift {
            way: Way::Other,
            place: "scope".into(),
        });
    }
    found.into_iter().collect()
}

/// Words of a schema between a field and what is within it: people do not write them.
const STEPS: [&str; 5] = [
    "schema",
    "openAPIV3Schema",
    "properties",
    "items",
    "additionalProperties",
];

fn compare(place: &str, installed: &Value, own: &Value, found: &mut BTreeSet<Drift>) {
    match (installed, own) {
        (Value::Object(there), Value::Object(here)) => {
            let is_fields = place.ends_with("properties") || place.is_empty();
            let keys: BTreeSet<&String> = there.keys().chain(here.keys()).collect();
            for key in keys {
                // A field may be called so too.
                if key == "description" && !is_fields {
                    continue;
                }
                let inner = format!("{place}.{key}");
                match (of(there, key), of(here, key)) {
                    (Some(there), Some(here)) => compare(&inner, there, here, found),
                    (None, Some(_)) => {
                        found.insert(drift(Way::Lacks, &inner));
                    }
                    (Some(_), None) => {
                        found.insert(drift(Way::Besides, &inner));
                    }
                    (None, None) => {}
                }
            }
        }
        (Value::Array(there), Value::Array(here)) if there.len() == here.len() => {
            for (there, here) in there.iter().zip(here) {
                compare(place, there, here, found);
            }
        }
        (Value::Number(there), Value::Number(here)) if there.as_f64() == here.as_f64() => {}
        (there, here) if there == here => {}
        _ => {
            found.insert(drift(Way::Other, place));
        }
    }
}

/// What is there; an empty list or object is the same as none.
fn of<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|value| match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    })
}

fn drift(way: Way, place: &str) -> Drift {
    let words = place
        .split('.')
        .filter(|word| !word.is_empty() && !STEPS.contains(word));
    let mut words = words.collect::<Vec<_>>();
    // The version, then the field.
    let version = if words.is_empty() {
        ""
    } else {
        words.remove(0)
    };
    let place = format!("{version} {}", words.join("."));
    Drift {
        way,
        place: place.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crds;

    fn own() -> (Value, CustomResourceDefinition) {
        let own = crds::all().remove(0).1;
        (serde_json::to_value(&own).unwrap(), own)
    }

    fn against(value: Value, own: &CustomResourceDefinition) -> Vec<(Way, String)> {
        let installed = serde_json::from_value(value).unwrap();
        let found = differences(&installed, own).into_iter();
        found.map(|drift| (drift.way, drift.place)).collect()
    }

    #[test]
    fn a_field_below_the_top_that_is_missing_more_or_another_is_named() {
        let (value, own) = own();
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        let mut lacks = value.clone();
        let oci = lacks
            .pointer_mut(&format!("{spec}/source/properties/oci/properties"))
            .unwrap();
        oci.as_object_mut().unwrap().remove("plainHttp");
        assert_eq!(
            against(lacks, &own),
            [(Way::Lacks, "v1alpha1 spec.source.oci.plainHttp".into())]
        );
        let mut besides = value.clone();
        let fields = besides.pointer_mut(spec).unwrap().as_object_mut().unwrap();
        fields.insert("description".into(), serde_json::json!({"type": "string"}));
        assert_eq!(
            against(besides, &own),
            [(Way::Besides, "v1alpha1 spec.description".into())]
        );
        let mut other = value.clone();
        *other
            .pointer_mut(&format!("{spec}/priority/maximum"))
            .unwrap() = 7.into();
        assert_eq!(
            against(other, &own),
            [(Way::Other, "v1alpha1 spec.priority.maximum".into())]
        );
        let mut rule = value;
        let rules = rule.pointer_mut(&format!("{spec}/source")).unwrap();
        rules
            .as_object_mut()
            .unwrap()
            .remove("x-kubernetes-validations");
        assert_eq!(
            against(rule, &own),
            [(
                Way::Lacks,
                "v1alpha1 spec.source.x-kubernetes-validations".into()
            )]
        );
    }

    #[test]
    fn sentences_and_what_a_server_adds_are_no_difference() {
        let (mut value, own) = own();
        value["spec"]["conversion"] = serde_json::json!({"strategy": "None"});
        value["spec"]["names"]["listKind"] = "EdgeModelList".into();
        value["status"] = serde_json::json!({"storedVersions": ["v1alpha1"], "conditions": [],
            "acceptedNames": {"plural": "edgemodels", "kind": "EdgeModel"}});
        let schema = value
            .pointer_mut("/spec/versions/0/schema/openAPIV3Schema")
            .unwrap();
        schema["description"] = "another sentence".into();
        schema["properties"]["spec"]["required"] = serde_json::json!(["source"]);
        assert_eq!(against(value, &own), []);
    }
}
