//! An API server in this process, as far as the operator speaks to one: lists, watches that break and
//! expire, server-side apply with owners and conflicts, the status subresource, finalisers, versions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::apply;

type Out = UnsyncBoxBody<Bytes, std::io::Error>;

/// `(plural, name)`; everything lives in one namespace or in none.
type Key = (String, String);

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Key, Value>,
    owners: BTreeMap<Key, apply::Owners>,
    /// Version, plural, kind of change, the object then.
    log: Vec<(u64, String, &'static str, Value)>,
    /// Watches from before this version have expired.
    expired: u64,
    /// `verb plural` that is refused.
    denied: BTreeSet<String>,
    requests: Vec<String>,
}

/// The API server.
#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    broken: watch::Sender<u64>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::default(),
            changed: watch::channel(0).0,
            broken: watch::channel(0).0,
        }
    }

    pub(crate) fn client(&self) -> kube::Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move { Ok::<_, std::convert::Infallible>(fake.answer(request).await) }
        });
        kube::Client::new(service, "edge")
    }

    /// Puts an object there as a person or a GitOps tool does: makes it, or changes what is said.
    pub(crate) fn put(&self, plural: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut state = self.state.lock();
        let key = (plural.to_owned(), name);
        let mut merged = state
            .objects
            .get(&key)
            .cloned()
            .unwrap_or_else(|| json!({}));
        apply::merge(&mut merged, &object);
        let owned = apply::leaves(&object);
        state
            .owners
            .entry(key.clone())
            .or_default()
            .insert("a person".into(), owned);
        self.store(&mut state, &key, merged);
    }

    pub(crate) fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.state
            .lock()
            .objects
            .get(&(plural.to_owned(), name.to_owned()))
            .cloned()
    }

    pub(crate) fn delete(&self, plural: &str, name: &str) {
        self.remove(
            &mut self.state.lock(),
            &(plural.to_owned(), name.to_owned()),
        );
    }

    /// Reasons of the events that were told, in order.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let state = self.state.lock();
        let events = state
            .log
            .iter()
            .filter(|(_, plural, kind, _)| plural == "events" && *kind == "ADDED");
        events
            .map(|(.., event)| event["reason"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Requests that write, as `PATCH edgemodels/status m`.
    pub(crate) fn writes(&self) -> Vec<String> {
        let state = self.state.lock();
        let writes = state
            .requests
            .iter()
            .filter(|r| !r.starts_with("GET") && !r.contains(" leases"));
        writes.cloned().collect()
    }

    pub(crate) fn deny(&self, what: &str, is_denied: bool) {
        let mut state = self.state.lock();
        if is_denied {
            state.denied.insert(what.into())
        } else {
            state.denied.remove(what)
        };
    }

    /// Every open watch ends, as when a connection breaks. With `expire`, none can go on where it was.
    pub(crate) fn break_watches(&self, expire: bool) {
        if expire {
            let mut state = self.state.lock();
            state.version += 1;
            state.expired = state.version;
        }
        self.broken.send_modify(|count| *count += 1);
    }

    /// Waits until `is_so`, or says what is there instead.
    #[track_caller]
    pub(crate) fn until(
        &self,
        what: &str,
        is_so: impl Fn(&Self) -> bool,
    ) -> impl Future<Output = ()> {
        let (fake, what) = (self.clone(), what.to_owned());
        async move {
            let mut changed = fake.changed.subscribe();
            let wait = async {
                while !is_so(&fake) {
                    let _ =
                        tokio::time::timeout(Duration::from_millis(100), changed.changed()).await;
                }
            };
            if tokio::time::timeout(Duration::from_secs(30), wait)
                .await
                .is_err()
            {
                let state = fake.state.lock();
                let objects =
                    serde_json::to_string_pretty(&state.objects.values().collect::<Vec<_>>());
                panic!("never: {what}\n{}\n{:#?}", objects.unwrap(), state.requests);
            }
        }
    }

    fn store(&self, state: &mut State, key: &Key, mut object: Value) {
        let old = state.objects.get(key).cloned();
        let strip = |object: &Value| {
            let mut object = object.clone();
            object["metadata"]["resourceVersion"] = Value::Null;
            object
        };
        if old.as_ref().is_some_and(|old| strip(old) == strip(&object)) {
            return;
        }
        state.version += 1;
        let kind = if old.is_none() { "ADDED" } else { "MODIFIED" };
        let old = old.unwrap_or_else(|| json!({"metadata": {}}));
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
        let is_new = old["spec"] != object["spec"];
        let metadata = &mut object["metadata"];
        metadata["generation"] = json!(generation + i64::from(is_new));
        metadata["resourceVersion"] = json!(state.version.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{}-{}", key.0, state.version));
            let at =
                jiff::Timestamp::from_second(1_000_000_000 + i64::try_from(state.version).unwrap());
            metadata["creationTimestamp"] = json!(at.unwrap().to_string());
        }
        let is_leaving = !metadata["deletionTimestamp"].is_null();
        if is_leaving && metadata["finalizers"].as_array().is_none_or(Vec::is_empty) {
            state.objects.remove(key);
            state
                .log
                .push((state.version, key.0.clone(), "DELETED", object));
        } else {
            state.objects.insert(key.clone(), object.clone());
            state.log.push((state.version, key.0.clone(), kind, object));
        }
        self.changed.send_replace(state.version);
    }

    fn remove(&self, state: &mut State, key: &Key) -> bool {
        let Some(mut object) = state.objects.get(key).cloned() else {
            return false;
        };
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!(jiff::Timestamp::now().to_string());
        }
        self.store(state, key, object);
        true
    }

    async fn answer(&self, request: Request<Body>) -> Response<Out> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let mut path: Vec<&str> = parts
            .uri
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        path.drain(..if path[0] == "api" { 2 } else { 3 });
        if path.first() == Some(&"namespaces") && path.len() > 2 {
            path.drain(..2);
        }
        let (plural, name, sub) = (
            path[0].to_owned(),
            path.get(1).copied(),
            path.get(2).copied(),
        );
        let query: BTreeMap<String, String> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| {
                (
                    key.to_owned(),
                    value.replace("%3D", "=").replace("%2F", "/"),
                )
            })
            .collect();
        let suffix = sub.map_or(String::new(), |sub| format!("/{sub}"));
        let verb = parts.method.as_str();
        let is_watch = query
            .get("watch")
            .is_some_and(|watch| watch == "true" || watch == "1");
        {
            let mut state = self.state.lock();
            state.requests.push(format!(
                "{verb} {plural}{suffix} {}",
                name.unwrap_or_default()
            ));
            if state.denied.contains(&format!("{verb} {plural}{suffix}")) {
                return refuse(403, "Forbidden");
            }
        }
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let Some(name) = name else {
            return match (&parts.method, is_watch) {
                (&Method::GET, true) => self.watch(&plural, &query),
                (&Method::GET, false) => self.list(&plural, &query),
                _ => self.create(&plural, body),
            };
        };
        let key = (plural, name.to_owned());
        let mut state = self.state.lock();
        let found = state.objects.get(&key).cloned();
        match (&parts.method, found) {
            (&Method::GET, Some(object)) => reply(&object),
            (&Method::PUT, Some(old)) => {
                let is_stale =
                    body["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"];
                if is_stale {
                    return refuse(409, "Conflict");
                }
                self.store(&mut state, &key, body);
                reply(&state.objects[&key])
            }
            (&Method::DELETE, Some(object)) => {
                self.remove(&mut state, &key);
                reply(&object)
            }
            (&Method::PATCH, found) => {
                let kind = parts.headers["content-type"].to_str().unwrap();
                if !kind.contains("apply-patch") {
                    let Some(mut object) = found else {
                        return refuse(404, "NotFound");
                    };
                    apply::merge(&mut object, &body);
                    self.store(&mut state, &key, object);
                    return reply(&state.objects[&key]);
                }
                if found.is_none() && (sub.is_some() || key.0 == "nodes") {
                    return refuse(404, "NotFound");
                }
                let is_forced = query.get("force").is_some_and(|force| force == "true");
                let manager = format!("{}{suffix}", query["fieldManager"]);
                let mut object =
                    found.unwrap_or_else(|| json!({"metadata": {"namespace": "edge"}}));
                let owners = state.owners.entry(key.clone()).or_default();
                // Through the status subresource nothing but the status is written, and the other way.
                let part = if sub == Some("status") { "status" } else { "" };
                if apply::apply(&mut object, &body, part, &manager, is_forced, owners).is_err() {
                    return refuse(409, "Conflict");
                }
                self.store(&mut state, &key, object.clone());
                reply(state.objects.get(&key).unwrap_or(&object))
            }
            _ => refuse(404, "NotFound"),
        }
    }

    fn create(&self, plural: &str, object: Value) -> Response<Out> {
        let mut state = self.state.lock();
        let key = (
            plural.to_owned(),
            object["metadata"]["name"].as_str().unwrap().to_owned(),
        );
        if state.objects.contains_key(&key) {
            return refuse(409, "AlreadyExists");
        }
        self.store(&mut state, &key, object);
        reply(&state.objects[&key])
    }

    fn list(&self, plural: &str, query: &BTreeMap<String, String>) -> Response<Out> {
        let state = self.state.lock();
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|((of, _), object)| of == plural && is_selected(object, query))
            .map(|(_, object)| object)
            .collect();
        let version = state.version.to_string();
        reply(
            &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}),
        )
    }

    fn watch(&self, plural: &str, query: &BTreeMap<String, String>) -> Response<Out> {
        let from: u64 = query
            .get("resourceVersion")
            .and_then(|v| v.parse().ok())
            .unwrap_or_default();
        let (fake, plural, query) = (self.clone(), plural.to_owned(), query.clone());
        let mut broken = self.broken.subscribe();
        broken.mark_unchanged();
        let changed = self.changed.subscribe();
        let stream = futures::stream::unfold(
            (from, changed, broken),
            move |(at, mut changed, mut broken)| {
                let (fake, plural, query) = (fake.clone(), plural.clone(), query.clone());
                async move {
                    loop {
                        let next = {
                            let state = fake.state.lock();
                            if at < state.expired {
                                let gone = json!({"type": "ERROR", "object": {
                                "kind": "Status", "apiVersion": "v1", "status": "Failure",
                                "code": 410, "reason": "Expired", "message": "too old"}});
                                Some((u64::MAX, gone))
                            } else {
                                let later = state.log.iter().find(|(version, of, _, object)| {
                                    at < *version && *of == plural && is_selected(object, &query)
                                });
                                later.map(|(version, _, kind, object)| {
                                    (*version, json!({"type": kind, "object": object}))
                                })
                            }
                        };
                        if at == u64::MAX {
                            return None;
                        }
                        if let Some((version, event)) = next {
                            let line = Bytes::from(format!("{event}\n"));
                            let frame = Ok::<_, std::io::Error>(http_body::Frame::data(line));
                            return Some((frame, (version, changed, broken)));
                        }
                        tokio::select! {
                            _ = changed.changed() => {}
                            _ = broken.changed() => return None,
                        }
                    }
                }
            },
        );
        Response::new(UnsyncBoxBody::new(StreamBody::new(stream)))
    }
}

fn is_selected(object: &Value, query: &BTreeMap<String, String>) -> bool {
    query.get("labelSelector").is_none_or(|selector| {
        let (key, value) = selector.split_once('=').unwrap();
        object["metadata"]["labels"][key] == json!(value)
    })
}

fn reply(object: &Value) -> Response<Out> {
    Response::new(whole(object))
}

fn refuse(code: u16, reason: &str) -> Response<Out> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
        "code": code, "reason": reason, "message": reason});
    Response::builder()
        .status(code)
        .body(whole(&status))
        .unwrap()
}

fn whole(value: &Value) -> Out {
    let bytes = Full::new(Bytes::from(serde_json::to_vec(value).unwrap()));
    UnsyncBoxBody::new(bytes.map_err(|never| match never {}))
}
