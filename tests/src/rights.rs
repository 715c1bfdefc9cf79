//! What the chart's roles grant, held against what was asked of an API server.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "what fails here is a failed test"
)]

use std::collections::BTreeSet;

use serde_json::Value;

use crate::chart;

/// A right as a role grants it, or as a request needs it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// API group; empty for the core.
    pub group: String,
    /// Plural, with its subresource: `edgemodels/status`.
    pub resource: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: String,
    /// The object; of a grant, `None` is every object, and of a request, no particular one.
    pub name: Option<String>,
}

impl Right {
    fn covers(&self, asked: &Self) -> bool {
        let is_named = self.name.is_none() || self.name == asked.name;
        is_named
            && (&self.group, &self.resource, &self.verb)
                == (&asked.group, &asked.resource, &asked.verb)
    }
}

/// What roles of the chart grant, by their names in one of its snapshots (`default`, in the namespace `edge`).
#[must_use]
pub fn granted(snapshot: &str, roles: &[&str]) -> BTreeSet<Right> {
    let objects = chart::rendered(snapshot);
    let texts = |list: &Value| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let is_role = |object: &&Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        ["Role", "ClusterRole"]
            .map(Value::from)
            .contains(&object["kind"])
            && roles.contains(&name)
    };
    let mut rights = BTreeSet::new();
    for rule in objects
        .iter()
        .filter(is_role)
        .flat_map(|role| role["rules"].as_array().unwrap())
    {
        let names = texts(&rule["resourceNames"]);
        let names: Vec<Option<String>> = if names.is_empty() {
            vec![None]
        } else {
            names.into_iter().map(Some).collect()
        };
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    rights.extend(names.iter().map(|name| Right {
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                        name: name.clone(),
                    }));
                }
            }
        }
    }
    rights
}

/// What was asked for without being granted.
#[must_use]
pub fn missing(granted: &BTreeSet<Right>, used: &BTreeSet<Right>) -> Vec<Right> {
    let is_granted = |asked: &&Right| !granted.iter().any(|right| right.covers(asked));
    used.iter().filter(is_granted).cloned().collect()
}

/// What is granted and was never asked for.
#[must_use]
pub fn idle(granted: &BTreeSet<Right>, used: &BTreeSet<Right>) -> Vec<Right> {
    let is_idle = |right: &&Right| !used.iter().any(|asked| right.covers(asked));
    granted.iter().filter(is_idle).cloned().collect()
}
