//! The custom resources as YAML, generated from the Rust types; `k8s/crds` holds what this prints.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::{model::EdgeModel, node::EdgeNode};

/// Every definition, with the name of its file.
#[must_use]
pub fn all() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![
        ("edgemodels.yaml", EdgeModel::crd()),
        ("edgenodes.yaml", EdgeNode::crd()),
    ]
}

/// Every definition as YAML, with the name of its file.
///
/// # Errors
/// What the serialiser says; it has no reason to.
pub fn yaml() -> Result<Vec<(&'static str, String)>, String> {
    all()
        .into_iter()
        .map(|(file, definition)| {
            let value = serde_json::to_value(&definition).map_err(|error| error.to_string())?;
            let mut text = String::from(
                "# Generated from the Rust types by `splitplace crds`; do not edit.\n",
            );
            write(&mut text, &value, 0);
            Ok((file, text))
        })
        .collect()
}

/// YAML in blocks: enough for definitions, and without a library of its own.
fn write(text: &mut String, value: &serde_json::Value, depth: usize) {
    use serde_json::Value;
    let pad = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, inner) in map {
                text.push_str(&format!("{pad}{}:", scalar(&Value::String(key.clone()))));
                below(text, inner, depth);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for inner in list {
                let mut item = String::new();
                write(&mut item, inner, depth + 1);
                // The first line moves up beside the dash.
                let indented = format!("{pad}- {}", item.trim_start());
                text.push_str(&indented);
            }
        }
        other => text.push_str(&format!("{pad}{}\n", scalar(other))),
    }
}

fn below(text: &mut String, inner: &serde_json::Value, depth: usize) {
    use serde_json::Value;
    let is_block = match inner {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    if is_block {
        text.push('\n');
        write(text, inner, depth + 1);
    } else {
        text.push_str(&format!(" {}\n", scalar(inner)));
    }
}

/// JSON's form is YAML too; plain words go without quotes.
fn scalar(value: &serde_json::Value) -> String {
    let serde_json::Value::String(word) = value else {
        return value.to_string();
    };
    let is_plain = word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./ ".contains(c))
        && !word.ends_with(' ')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&word.to_lowercase().as_str());
    if is_plain {
        word.clone()
    } else {
        value.to_string()
    }
}
