//! An API server in this process, as far as ours is spoken to: lists, watches that break and expire,
//! server-side apply with owners and conflicts, the status subresource, finalisers, versions.
//!
//! Reached by function call ([`Fake::answer`]), or over HTTP ([`Fake::serve`]) by processes, which find
//! it through a kubeconfig ([`kubeconfig`]).

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "what fails here is a failed test"
)]

mod apply;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

use crate::rights::Right;

/// What an answer's body is: whole, or a stream of changes.
pub type Out = UnsyncBoxBody<Bytes, std::io::Error>;

/// The only form that is spoken; clients that would rather have another are told by this.
const JSON: &str = "application/json";

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
    /// `verb plural` that is refused; with an account and a colon before it, to that account.
    denied: BTreeSet<String>,
    /// The time that it tells, when that is not the real one.
    date: Option<String>,
    requests: Vec<String>,
    used: BTreeSet<Right>,
}

/// The API server. A clone is the same one.
#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    broken: watch::Sender<u64>,
}

impl Fake {
    /// Nothing is there yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            changed: watch::channel(0).0,
            broken: watch::channel(0).0,
        }
    }

    /// Answers over HTTP on a free port of loopback until the process ends, from a thread of its own.
    #[must_use]
    pub fn serve(&self) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let fake = self.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(fake.clone().connection(stream));
                }
            });
        });
        address
    }

    async fn connection(self, stream: tokio::net::TcpStream) {
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let fake = self.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await?.to_bytes();
                Ok::<_, hyper::Error>(fake.answer(Request::from_parts(parts, bytes)))
            }
        });
        // Whoever asked may go away in the middle.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    /// Puts an object there as a person or a GitOps tool does: makes it, or changes what is said.
    pub fn put(&self, plural: &str, object: Value) {
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

    /// The object of that name, as it is now.
    #[must_use]
    pub fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.state
            .lock()
            .objects
            .get(&(plural.to_owned(), name.to_owned()))
            .cloned()
    }

    /// State and reason in an EdgeNode's status; two empty words while it has none.
    #[must_use]
    pub fn node_state(&self, name: &str) -> String {
        let node = self.get("edgenodes", name).unwrap_or_default();
        let word = |field: &str| {
            node["status"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        format!("{} {}", word("state"), word("reason"))
    }

    /// Every object of a kind, as it is now.
    #[must_use]
    pub fn all(&self, plural: &str) -> Vec<Value> {
        let state = self.state.lock();
        let all = state.objects.iter().filter(|((of, _), _)| of == plural);
        all.map(|(_, object)| object.clone()).collect()
    }

    /// Deletes an object as a person does: its finalisers are waited for.
    pub fn delete(&self, plural: &str, name: &str) {
        self.remove(
            &mut self.state.lock(),
            &(plural.to_owned(), name.to_owned()),
        );
    }

    /// Reasons of the events that were told, in order.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
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
    #[must_use]
    pub fn writes(&self) -> Vec<String> {
        let state = self.state.lock();
        let writes = state
            .requests
            .iter()
            .filter(|r| !r.starts_with("GET") && !r.contains(" leases"));
        writes.cloned().collect()
    }

    /// Every right that was needed so far, refused ones included.
    #[must_use]
    pub fn used(&self) -> BTreeSet<Right> {
        self.state.lock().used.clone()
    }

    /// Refuses `VERB plural` from now on, or no more.
    pub fn deny(&self, what: &str, is_denied: bool) {
        let mut state = self.state.lock();
        if is_denied {
            state.denied.insert(what.into())
        } else {
            state.denied.remove(what)
        };
    }

    /// Tells another time than the real one, as `Fri, 27 Nov 2026 23:05:46 GMT`.
    pub fn tell_time(&self, date: &str) {
        self.state.lock().date = Some(date.to_owned());
    }

    /// Every open watch ends, as when a connection breaks. With `expire`, none can go on where it was.
    pub fn break_watches(&self, expire: bool) {
        if expire {
            let mut state = self.state.lock();
            state.version += 1;
            state.expired = state.version;
        }
        self.broken.send_modify(|count| *count += 1);
    }

    /// Waits until `is_so`, or says what is there instead.
    #[track_caller]
    pub fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) -> impl Future<Output = ()> {
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

    /// Answers one request.
    #[must_use]
    pub fn answer(&self, request: Request<Bytes>) -> Response<Out> {
        let (parts, bytes) = request.into_parts();
        if parts.uri.path() == "/version" {
            let version = json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0"});
            let mut answer = reply(&version);
            if let Some(date) = &self.state.lock().date {
                let date = date.parse().unwrap();
                answer.headers_mut().insert(http::header::DATE, date);
            }
            return answer;
        }
        let mut path: Vec<&str> = parts
            .uri
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        let group = if path[0] == "api" { "" } else { path[1] };
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
                let value = percent_decode_str(value).decode_utf8_lossy();
                (key.to_owned(), value.into_owned())
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
            let is_there = name.is_some_and(|name| {
                let key = (plural.clone(), name.to_owned());
                state.objects.contains_key(&key)
            });
            let verbs: &[&str] = match (&parts.method, name) {
                (&Method::GET, None) if is_watch => &["watch"],
                (&Method::GET, None) => &["list"],
                (&Method::GET, Some(_)) => &["get"],
                (&Method::POST, _) => &["create"],
                (&Method::PUT, _) => &["update"],
                // What is applied and is not there is made, which is a right of its own.
                (&Method::PATCH, _) if !is_there && sub.is_none() => &["create", "patch"],
                (&Method::PATCH, _) => &["patch"],
                _ => &["delete"],
            };
            state.used.extend(verbs.iter().map(|verb| Right {
                group: group.to_owned(),
                resource: format!("{plural}{suffix}"),
                verb: (*verb).to_owned(),
                name: name.map(str::to_owned),
            }));
            if state.denied.contains(&format!("{verb} {plural}{suffix}")) {
                return refuse(403, "Forbidden");
            }
        }
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let Some(name) = name else {
            return match (&parts.method, is_watch) {
                // What an older server says, or one that has this switched off: whoever asked lists first then.
                (&Method::GET, true) if query.contains_key("sendInitialEvents") => {
                    refuse(422, "Invalid")
                }
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

    fn create(&self, plural: &str, mut object: Value) -> Response<Out> {
        let mut state = self.state.lock();
        if plural == "subjectaccessreviews" {
            let (spec, of) = (object["spec"].clone(), |value: &Value| {
                value.as_str().unwrap_or_default().to_owned()
            });
            let asked = &spec["resourceAttributes"];
            let user = of(&spec["user"]);
            let account = user.rsplit(':').next().unwrap_or_default();
            let what = format!(
                "{account}: {} {}",
                of(&asked["verb"]),
                of(&asked["resource"])
            );
            object["status"] = json!({"allowed": !state.denied.contains(&what)});
            return reply(&object);
        }
        if plural == "selfsubjectrulesreviews" {
            // Whoever asks may look at everything, and do nothing.
            let rules = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]);
            object["status"] =
                json!({"resourceRules": rules, "nonResourceRules": [], "incomplete": false});
            return reply(&object);
        }
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
        let mut list =
            json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": items});
        // What kind an empty list is of, its reader knows.
        if let Some(first) = items.first() {
            list["apiVersion"] = first["apiVersion"].clone();
            list["kind"] = json!(format!(
                "{}List",
                first["kind"].as_str().unwrap_or_default()
            ));
        }
        reply(&list)
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
        Response::builder()
            .header(CONTENT_TYPE, JSON)
            .body(UnsyncBoxBody::new(StreamBody::new(stream)))
            .unwrap()
    }
}

fn is_selected(object: &Value, query: &BTreeMap<String, String>) -> bool {
    query.get("labelSelector").is_none_or(|selector| {
        let (key, value) = selector.split_once('=').unwrap();
        let (key, is_wanted) = key
            .strip_suffix('!')
            .map_or((key, true), |key| (key, false));
        (object["metadata"]["labels"][key] == json!(value)) == is_wanted
    })
}

fn reply(object: &Value) -> Response<Out> {
    answer(200, object)
}

fn refuse(code: u16, reason: &str) -> Response<Out> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
        "code": code, "reason": reason, "message": reason});
    answer(code, &status)
}

fn answer(code: u16, value: &Value) -> Response<Out> {
    let bytes = Full::new(Bytes::from(serde_json::to_vec(value).unwrap()));
    Response::builder()
        .status(code)
        .header(CONTENT_TYPE, JSON)
        .body(UnsyncBoxBody::new(bytes.map_err(|never| match never {})))
        .unwrap()
}

/// A kubeconfig that leads to an API server over plain HTTP, in a namespace.
#[must_use]
pub fn kubeconfig(server: SocketAddr, namespace: &str) -> String {
    kubeconfig_of(&format!("http://{server}"), namespace, &json!({}))
}

/// A kubeconfig that leads to an API server at a URL, whose certificate is not looked at.
pub(crate) fn kubeconfig_of(server: &str, namespace: &str, user: &Value) -> String {
    let mut cluster = json!({"server": server});
    if server.starts_with("https") {
        cluster["insecure-skip-tls-verify"] = json!(true);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "me", "user": user}],
        "contexts": [{"name": "test", "context": {
            "cluster": "test", "user": "me", "namespace": namespace}}],
        "current-context": "test",
    })
    .to_string()
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}
