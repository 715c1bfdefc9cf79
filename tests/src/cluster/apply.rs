//! Server-side apply in small: who owns which field, what is taken away with its owner, what conflicts.
//! Lists belong to one manager whole, but for finalisers, which are a set.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// A field: its path, or the path of a set with an element of it.
pub(super) type Path = Vec<String>;
pub(super) type Owners = BTreeMap<String, BTreeSet<Path>>;

/// A merge patch (RFC 7396).
pub(super) fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut into[key], value);
        }
    }
}

/// Every field that an object states, but for what names it.
pub(super) fn leaves(object: &Value) -> BTreeSet<Path> {
    fn walk(path: &Path, value: &Value, found: &mut BTreeSet<Path>) {
        let is_set = path.last().is_some_and(|name| name == "finalizers");
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (key, inner) in fields {
                    walk(&[path.clone(), vec![key.clone()]].concat(), inner, found);
                }
            }
            Value::Array(elements) if is_set => {
                for element in elements {
                    let element = element.as_str().unwrap().to_owned();
                    found.insert([path.clone(), vec![element]].concat());
                }
            }
            Value::Object(_) => {}
            _ => {
                found.insert(path.clone());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&Vec::new(), object, &mut found);
    let names = ["apiVersion", "kind"];
    found.retain(|path| {
        !(path.len() == 1 && names.contains(&&*path[0])
            || path.len() == 2
                && path[0] == "metadata"
                && ["name", "namespace"].contains(&&*path[1]))
    });
    found
}

fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

fn is_element(path: &[String]) -> bool {
    path.len() == 3 && path[1] == "finalizers"
}

fn set(object: &mut Value, path: &[String], value: &Value) {
    let mut place = object;
    for key in path {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[key];
    }
    *place = value.clone();
}

fn take(object: &mut Value, path: &[String]) {
    let (last, parents) = path.split_last().unwrap();
    let parent = parents
        .iter()
        .try_fold(object, |value, key| value.get_mut(key));
    match parent {
        Some(Value::Object(fields)) => {
            fields.remove(last);
        }
        Some(Value::Array(elements)) => elements.retain(|one| one != last),
        _ => {}
    }
}

/// Applies a manager's whole wish. With `part`, only that part of the object is looked at.
///
/// # Errors
/// The path of a field that somebody else owns with another value.
pub(super) fn apply(
    object: &mut Value,
    wish: &Value,
    part: &str,
    manager: &str,
    is_forced: bool,
    owners: &mut Owners,
) -> Result<(), Path> {
    let mut wanted = leaves(wish);
    wanted.retain(|path| {
        if part.is_empty() {
            path[0] != "status"
        } else {
            path[0] == part
        }
    });
    for path in wanted.iter().filter(|path| !is_element(path)) {
        let is_same = at(object, path) == at(wish, path);
        let others = owners.iter_mut().filter(|(name, _)| *name != manager);
        for (_, owned) in others {
            if owned.contains(path) && !is_same {
                if !is_forced {
                    return Err(path.clone());
                }
                owned.remove(path);
            }
        }
    }
    let before = owners
        .insert(manager.to_owned(), wanted.clone())
        .unwrap_or_default();
    for path in before.difference(&wanted) {
        if !owners.values().any(|owned| owned.contains(path)) {
            take(object, path);
        }
    }
    for path in &wanted {
        if is_element(path) {
            let mut all = object["metadata"]["finalizers"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if !all.contains(&json!(path[2])) {
                all.push(json!(path[2]));
            }
            object["metadata"]["finalizers"] = json!(all);
        } else if let Some(value) = at(wish, path) {
            set(object, path, value);
        }
    }
    for key in ["apiVersion", "kind"] {
        object[key] = wish[key].clone();
    }
    // An empty part has no fields to own, and is there all the same.
    for (key, value) in wish.as_object().unwrap() {
        let is_empty = value.as_object().is_some_and(|fields| fields.is_empty());
        if is_empty && object.get(key).is_none() {
            object[key] = json!({});
        }
    }
    object["metadata"]["name"] = wish["metadata"]["name"].clone();
    Ok(())
}

#[test]
fn what_nobody_owns_any_more_goes() {
    let mut object = json!({"metadata": {"labels": {"a": "1"}}});
    let mut owners = Owners::new();
    let wish = |labels: Value| json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "x", "labels": labels}});
    apply(
        &mut object,
        &wish(json!({"b": "2"})),
        "",
        "me",
        false,
        &mut owners,
    )
    .unwrap();
    assert_eq!(object["metadata"]["labels"], json!({"a": "1", "b": "2"}));
    let other = apply(
        &mut object,
        &wish(json!({"b": "3"})),
        "",
        "you",
        false,
        &mut owners,
    );
    assert_eq!(other.unwrap_err().last().unwrap(), "b");
    apply(
        &mut object,
        &wish(json!({"b": "2"})),
        "",
        "you",
        false,
        &mut owners,
    )
    .unwrap();
    apply(&mut object, &wish(json!({})), "", "me", false, &mut owners).unwrap();
    assert_eq!(object["metadata"]["labels"]["b"], "2");
    apply(&mut object, &wish(json!({})), "", "you", false, &mut owners).unwrap();
    assert_eq!(object["metadata"]["labels"], json!({"a": "1"}));
}
