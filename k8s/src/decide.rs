//! What follows for one EdgeModel from everything that is seen. Pure: the edge carries it out.
//!
//! ```text
//!  new ── hold ──▶ (fetch the package) ── load ──▶ placed ──▶ ready
//!                        │                  │                   │ deleted
//!                     failed             refused              unload ──▶ drained ──▶ released
//! ```
//!
//! Every pass says everything again. What has been done is recognised by its effect (a finaliser, a
//! job, a model that is served), so that a pass may be lost, repeated, or made by another leader.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;

use crate::{
    FINALIZER,
    center::{CenterError, Order, Phase, Seen, Wishes},
    conditions::{self, Said},
    fetch::{self, FetchState},
    model::{EdgeModel, EdgeModelStatus},
    nodes, status,
    tell::{self, Happened},
};

/// What the operator knows of its release.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Namespace that is looked after.
    pub namespace: String,
    /// Value of `app.kubernetes.io/name` and `…/instance` of the release's pods.
    pub app: (String, String),
    /// Where clients ask over gRPC and over HTTP, `host:port`.
    pub public_grpc: String,
    /// The same over HTTP.
    pub public_http: String,
    /// Service whose load balancer's addresses are shown too; `None` when it has none.
    pub service: Option<String>,
    /// Where a proxy lets clients in from outside, with a certificate of its own, for both protocols: `host:port`.
    pub route: Option<String>,
    /// Whether clients need certificates.
    pub tls: bool,
    /// How packages are fetched; `None` when the orchestrator keeps none on a volume.
    pub fetch: Option<fetch::FetchSettings>,
    /// Keys of taints that the workers tolerate; `*` for all.
    pub tolerated: Vec<String>,
}

/// How a load ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Generation of the spec that was ordered.
    pub generation: i64,
    /// When.
    pub at: Timestamp,
    /// Everything that was asked for.
    pub asked: Wishes,
    /// Wishes that were not carried out, or why nothing was.
    pub result: Result<Vec<String>, CenterError>,
}

/// One EdgeModel and everything that matters for it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The resource.
    pub model: &'a EdgeModel,
    /// The orchestrator.
    pub seen: Result<&'a Seen, &'a CenterError>,
    /// The job that fetches the package, if there is one.
    pub job: Option<&'a Job>,
    /// Jobs that fetched the model's packages from other sources.
    pub old_jobs: &'a [String],
    /// How the last load ended.
    pub outcome: Option<&'a Outcome>,
    /// Whether a load is under way.
    pub is_loading: bool,
    /// An older EdgeModel with the same name for clients.
    pub rival: Option<&'a str>,
    /// Nodes that the placement allows; `None` when all.
    pub nodes: Option<&'a [String]>,
    /// Whether the cluster's nodes, and with them their labels, are not watched.
    pub is_blind: bool,
    /// Addresses of the load balancer before the Service for clients.
    pub outside: &'a [String],
    /// The release.
    pub settings: &'a Settings,
    /// Now.
    pub now: Timestamp,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Todo {
    /// Put the finaliser on.
    Hold,
    /// Take it off.
    Release,
    /// Have the package fetched.
    Fetch(Box<Job>),
    /// Remove a job of a source that is no longer the model's: when that source comes back, what lies in the folder is
    /// another's.
    Discard(String),
    /// Have it served.
    Load(Box<Order>),
    /// Have it served no more.
    Unload(String),
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// The status that is true now; `None` leaves it.
    pub status: Option<EdgeModelStatus>,
    /// To be done, in order.
    pub todo: Vec<Todo>,
    /// To be told.
    pub events: Vec<Happened>,
}

/// After a refusal, so long until the next try.
const RETRY: SignedDuration = SignedDuration::from_secs(30);

/// What follows.
#[must_use]
pub fn step(view: &View<'_>) -> Step {
    let model = view.model;
    let is_held = model.finalizers().iter().any(|name| name == FINALIZER);
    if let Some(since) = &model.metadata.deletion_timestamp {
        return if is_held {
            leave(view, since.0)
        } else {
            Step::default()
        };
    }
    let mut todo = Vec::new();
    if !is_held {
        todo.push(Todo::Hold);
    }
    let before = model.status.clone().unwrap_or_default();
    let mut status = match view.seen {
        Ok(seen) => status::facts(model, seen, view.settings, view.outside),
        // What was known last is better than nothing; the conditions say that it is old.
        Err(_) => before.clone(),
    };
    let said = conditions::complete(conditions_of(view, &mut todo));
    status.observed_generation = model.metadata.generation;
    status.conditions = conditions::set(
        &before.conditions,
        &said,
        model.metadata.generation,
        view.now,
    );
    let mut events = tell::changes(&before, &status);
    events.extend(tell::moved(&before, &status));
    Step {
        status: Some(status),
        todo,
        events,
    }
}

fn conditions_of(view: &View<'_>, todo: &mut Vec<Todo>) -> Vec<Said> {
    let model = view.model;
    if let Some(rival) = view.rival {
        let why = format!(
            "EdgeModel {rival} is older and serves {} already; delete one of them or give this one \
             another spec.model",
            model.served_name()
        );
        return vec![
            Said::no("Accepted", "NameTaken", &why),
            Said::no("Ready", "NameTaken", why),
        ];
    }
    if view.is_blind && !nodes::wanted(model).is_empty() {
        let why = "spec.placement.zone and nodeSelector go by labels of the cluster's nodes, which are not watched; set \
                   operator.watchNodes in the chart, or take them out of the spec";
        return vec![
            Said::no("Accepted", "NodesNotWatched", why),
            Said::no("Ready", "NodesNotWatched", why),
        ];
    }
    todo.extend(view.old_jobs.iter().cloned().map(Todo::Discard));
    let fetched = fetch::state(model, view.job, missed(view), view.now, view.settings);
    let is_news = fetched == FetchState::Done;
    let is_there = match &fetched {
        FetchState::Missing(job) => {
            todo.push(Todo::Fetch(job.clone()));
            false
        }
        FetchState::Lost(job) => {
            todo.push(Todo::Discard(job.clone()));
            false
        }
        FetchState::NotNeeded | FetchState::Done | FetchState::NotFound => true,
        FetchState::Running | FetchState::Failed(_) | FetchState::Impossible(_) => false,
    };
    let fetched = fetched.said();
    if !is_there {
        let ready = Said {
            kind: "Ready",
            is_true: Some(false),
            ..fetched.clone()
        };
        return vec![fetched, ready];
    }
    let seen = match view.seen {
        Ok(seen) => seen,
        Err(error) => {
            let why = format!(
                "{error}; what this status says is from before. {}",
                status::REMEDY
            );
            return vec![fetched, Said::unknown("Ready", status::UNREACHABLE, why)];
        }
    };
    let accepted = accept(view, seen, is_news, todo);
    if accepted.is_true != Some(true) {
        let ready = Said {
            kind: "Ready",
            is_true: Some(false),
            ..accepted.clone()
        };
        return vec![accepted, fetched, ready];
    }
    let Some(found) = seen
        .models
        .iter()
        .find(|one| one.name == model.served_name())
    else {
        let why = "the orchestrator does not list the model yet";
        return vec![accepted, fetched, Said::no("Ready", "Loading", why)];
    };
    let placed = status::placed(found, view.nodes);
    let kept = status::promise_kept(model, found);
    let ready = match (found.phase, placed.is_true) {
        (_, Some(false)) => Said {
            kind: "Ready",
            ..placed.clone()
        },
        (Phase::Ready, _) => Said::yes("Ready", "Served", placed.message.clone()),
        (Phase::Loading, _) => Said::no("Ready", "Loading", "fragments are on their way to nodes"),
        (Phase::Unloading, _) => Said::no("Ready", "Unloading", "somebody else had it unloaded"),
        (Phase::Unavailable, _) => Said::no("Ready", "Unavailable", found.reason.clone()),
    };
    vec![accepted, fetched, placed, kept, ready]
}

/// When the orchestrator last said that it has no such package.
fn missed(view: &View<'_>) -> Option<Timestamp> {
    let outcome = view.outcome?;
    let is_present = Some(outcome.generation) == view.model.metadata.generation;
    let is_missing = matches!(outcome.result, Err(CenterError::Missing(_)));
    (is_present && is_missing).then_some(outcome.at)
}

/// Orders the model when it has to be, and says whether the orchestrator took the order. `is_news` when a package has come
/// since it last said that it has none.
fn accept(view: &View<'_>, seen: &Seen, is_news: bool, todo: &mut Vec<Todo>) -> Said {
    let model = view.model;
    let generation = model.metadata.generation.unwrap_or_default();
    let before = model.status.as_ref();
    let found = seen
        .models
        .iter()
        .find(|one| one.name == model.served_name());
    let phase = found.map_or(Phase::Unavailable, |one| one.phase);
    let is_served = matches!(phase, Phase::Ready | Phase::Loading);
    let order = Order {
        model: model.served_name().into(),
        spec: model.spec.clone(),
        nodes: view.nodes.map(<[String]>::to_vec),
    };
    let wishes = order.wishes();
    // Somebody else may have loaded it with other wishes, or the nodes that fit are others now.
    let is_as_asked = |left_out: &[String]| {
        let mut asked = wishes.clone();
        asked.retain(|name, _| !left_out.contains(name));
        let there = found.and_then(|one| one.wishes.as_ref());
        there.is_none_or(|there| *there == asked)
    };
    let order = || Todo::Load(Box::new(order.clone()));
    let waiting = || {
        Said::unknown(
            "Accepted",
            "Ordered",
            "the orchestrator was asked to serve it; fragments are fetched and measured meanwhile",
        )
    };
    if view.is_loading {
        return waiting();
    }
    let Some(outcome) = view
        .outcome
        .filter(|outcome| outcome.generation == generation)
    else {
        // Another leader may have ordered it already, in this very form.
        let old = before
            .filter(|status| status.observed_generation == Some(generation))
            .and_then(|status| conditions::of(&status.conditions, "Accepted"))
            .filter(|condition| condition.status == "True" && is_served)
            .filter(|condition| condition.reason == "CarriedOut" && is_as_asked(&[]));
        return match old {
            Some(old) => Said::yes("Accepted", "CarriedOut", &old.message),
            None => {
                todo.push(order());
                waiting()
            }
        };
    };
    let is_time = RETRY < view.now.duration_since(outcome.at);
    match &outcome.result {
        Ok(left_out) => {
            // An orchestrator that has lost its store does not know the order any more.
            let is_lost = !is_served || !is_as_asked(left_out);
            if outcome.asked != wishes || (is_lost && is_time) {
                todo.push(order());
            }
            if left_out.is_empty() {
                Said::yes(
                    "Accepted",
                    "CarriedOut",
                    "everything that the spec asks for is in force",
                )
            } else {
                Said::yes(
                    "Accepted",
                    "PartlyCarriedOut",
                    format!(
                        "orchestrator {} does not carry out {}; it is served without. Take that out \
                         of the spec, or upgrade the orchestrator",
                        seen.version,
                        left_out.join(", ")
                    ),
                )
            }
        }
        Err(error) => {
            if is_time || (is_news && missed(view).is_some()) {
                todo.push(order());
            }
            match error {
                CenterError::Unreachable(_) => {
                    let why = format!("{error}; it is asked again. {}", status::REMEDY);
                    Said::unknown("Accepted", status::UNREACHABLE, why)
                }
                CenterError::Refused(why) => Said::no("Accepted", "Refused", why),
                CenterError::Missing(why) if view.model.spec.source.stored.is_some() => Said::no(
                    "Accepted",
                    "Refused",
                    format!(
                        "{why}: it has no such package, neither in its folder nor in its store; put it there, or say in \
                         spec.source where it is"
                    ),
                ),
                CenterError::Missing(why) => Said::no("Accepted", "Refused", why),
            }
        }
    }
}

/// A model that is to go: served no more first, then let go.
fn leave(view: &View<'_>, since: Timestamp) -> Step {
    let model = view.model;
    let drain = SignedDuration::from_secs(i64::from(model.spec.drain_seconds));
    let is_late = drain < view.now.duration_since(since);
    let name = model.served_name();
    let phase = view.seen.ok().map(|seen| {
        let found = seen.models.iter().find(|one| one.name == name);
        (
            found.map_or(Phase::Unavailable, |one| one.phase),
            seen.in_flight,
        )
    });
    let before = model.status.clone().unwrap_or_default();
    let released = |events| Step {
        status: None,
        todo: vec![Todo::Release],
        events,
    };
    let (todo, why) = match phase {
        // It never was ours.
        _ if view.rival.is_some() => return released(Vec::new()),
        Some((Phase::Unavailable, _)) => {
            return released(vec![Happened {
                is_warning: false,
                reason: "Drained".into(),
                action: "Drain".into(),
                note: format!("{name} is served no more"),
            }]);
        }
        _ if is_late => {
            let why = match view.seen {
                Ok(_) => "requests were still in flight".to_owned(),
                Err(error) => error.to_string(),
            };
            return released(vec![Happened {
                is_warning: true,
                reason: "DrainTimedOut".into(),
                action: "Drain".into(),
                note: format!("let go of after {} s: {why}", model.spec.drain_seconds),
            }]);
        }
        Some((Phase::Unloading, in_flight)) => (
            Vec::new(),
            format!("waiting for {in_flight} requests in flight"),
        ),
        Some((Phase::Ready | Phase::Loading, in_flight)) => (
            vec![Todo::Unload(name.into())],
            format!("no new requests; {in_flight} are in flight"),
        ),
        None => (Vec::new(), "the orchestrator does not answer".to_owned()),
    };
    let said = conditions::complete(vec![Said::no("Ready", "Draining", why)]);
    let mut status = before.clone();
    status.endpoints.clear();
    status.conditions = conditions::set(
        &before.conditions,
        &said,
        model.metadata.generation,
        view.now,
    );
    let events = tell::changes(&before, &status);
    Step {
        status: Some(status),
        todo,
        events,
    }
}
