//! The book and the status as JSON for the dashboard: what seldom changes, and what always does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use splitplace_fleet::Links;
use splitplace_proto::center::{ArmStatus, ModelStatus, StatusResponse};

use super::{
    Book, Loss, Traffic, histogram,
    requests::Order,
    traffic::{SECONDS, Slot},
};
use crate::foresight::place;

/// Seconds that a figure is taken over.
pub const WINDOW: u64 = 60;
/// Seconds that a rate is taken over.
pub const RATE_WINDOW: u64 = 10;
/// Decisions that a pulse shows.
pub const DECISIONS: usize = 24;

/// Requests a second of a model, over [`RATE_WINDOW`].
#[must_use]
pub fn rate(traffic: &Traffic, now: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "some seconds")]
    let seconds = RATE_WINDOW as f64;
    f64::from(traffic.window(now, RATE_WINDOW).ended) / seconds
}

/// A share; `None` of nothing.
#[must_use]
pub fn share(part: u32, of: u32) -> Option<f64> {
    (of > 0).then(|| f64::from(part) / f64::from(of))
}

/// What changes seldom: the fleet, the models with their arms and routes, the links that these use.
/// Forecasts are left out: they change with every request.
#[must_use]
pub fn structure(status: &StatusResponse, links: &Links, is_emulated: bool) -> Value {
    let nodes = status.nodes.iter().map(|node| {
        json!({
            "node": node.node,
            "state": node.state,
            "cores": node.cores,
            "memory_bytes": node.memory_bytes,
            "macs_per_second": node.macs_per_second,
            "emulated": node.emulated,
            "speed_share": node.speed_share,
            "address": node.data_address,
        })
    });
    let models = status.models.iter().map(|model| {
        json!({
            "model": model.model,
            "version": model.version,
            "state": model.state,
            "reason": model.reason,
            "default_sla_us": model.default_sla_us,
            "pinned": model.pinned,
            "arms": model.arms.iter().map(arm).collect::<Vec<_>>(),
        })
    });
    let links = used_links(&status.models)
        .into_iter()
        .map(|(from, to)| {
            let link = links.get(&place(&from), &place(&to));
            let rate = link.rate_bytes_per_second;
            json!({
                "from": from,
                "to": to,
                "rate_bytes_per_second": rate.is_finite().then_some(rate),
                "delay_us": link.delay.as_micros() as u64,
                "jitter_us": link.jitter.as_micros() as u64,
                // Of links that nobody described, a message within one machine is assumed.
                "assumed": !is_emulated,
            })
        })
        .collect::<Vec<_>>();
    json!({
        "version": status.version,
        "generation": status.generation,
        "policy": status.policy,
        "explanation": status.explanation,
        "draining": status.draining,
        "nodes": nodes.collect::<Vec<_>>(),
        "models": models.collect::<Vec<_>>(),
        "links": links,
    })
}

fn arm(arm: &ArmStatus) -> Value {
    let branches = arm.branches.iter().map(|route| {
        let hops = route.hops.iter().map(|hop| {
            let exits = hop.exits.iter();
            let exits = exits.map(|exit| json!({"exit": exit.exit, "threshold": exit.threshold}));
            json!({
                "node": hop.node,
                // Enough to tell fragments apart.
                "fragment": hop.fragment.get(..12).unwrap_or(&hop.fragment),
                "service_us": hop.service_us,
                "memory_bytes": hop.memory_bytes,
                "codec": hop.codec,
                "reach": hop.reach,
                "exits": exits.collect::<Vec<_>>(),
            })
        });
        hops.collect::<Vec<_>>()
    });
    json!({
        "arm": arm.arm,
        "kind": arm.kind,
        "variant": arm.variant,
        "technique": arm.technique,
        "accuracy": arm.accuracy,
        "branches": branches.collect::<Vec<_>>(),
    })
}

/// Every link that some route crosses, the centre's included.
fn used_links(models: &[ModelStatus]) -> BTreeSet<(String, String)> {
    let mut used = BTreeSet::new();
    let arms = models.iter().flat_map(|model| &model.arms);
    for route in arms.flat_map(|arm| &arm.branches) {
        let mut from = String::new();
        for hop in &route.hops {
            if from != hop.node {
                used.insert((from.clone(), hop.node.clone()));
            }
            from.clone_from(&hop.node);
        }
        used.insert((from, String::new()));
    }
    used
}

/// What changes all the time, as of second `now`.
#[must_use]
pub fn pulse(book: &Book, status: &StatusResponse, now: u64) -> Value {
    let nodes: Map<String, Value> = status
        .nodes
        .iter()
        .map(|node| {
            let seen = book.nodes.node(&node.node);
            let told = json!({
                "busy": seen.busy,
                "queued": seen.queued,
                "computed_per_second": seen.computed_per_second,
                "refused": seen.refused,
                "expired": seen.expired,
                "failed": seen.failed,
                "memory_used_bytes": node.memory_used_bytes,
            });
            (node.node.clone(), told)
        })
        .collect();
    let links: Vec<Value> = book
        .nodes
        .links()
        .filter(|(.., seen)| seen.frames_per_second > 0.0)
        .map(|(from, to, seen)| {
            json!([
                from,
                to,
                seen.frames_per_second,
                seen.bytes_per_second,
                seen.reconnects
            ])
        })
        .collect();
    let models: Map<String, Value> = status
        .models
        .iter()
        .map(|model| {
            let seen = book.seen(&model.model);
            (model.model.clone(), traffic(model, seen, now))
        })
        .collect();
    json!({
        "second": now,
        "in_flight": status.in_flight,
        "generation": status.generation,
        "nodes": nodes,
        "links": links,
        "models": models,
        "bandit": book.bandit.rows(),
        "policy": learned(&status.policy_state),
        "decisions": book.requests.list(Order::Newest, None, DECISIONS).iter().map(|one| {
            json!({
                "id": one.id, "unix_ms": one.unix_ms, "model": one.model, "arm": one.arm,
                "context": one.context, "reason": one.reason, "propensity": one.propensity,
                "sla_us": one.sla_us, "predicted_us": one.predicted_us,
                "response_us": one.response_us, "ending": one.ending, "held": one.held,
            })
        }).collect::<Vec<_>>(),
    })
}

/// Numbers of a policy's own state that a page may show.
const LEARNED: usize = 256;

/// The policy's own numbers, as it names them; histograms are left to the policy.
fn learned(state: &std::collections::HashMap<String, f64>) -> BTreeMap<&str, f64> {
    let is_bin = |name: &str| {
        let last = name.rsplit(':').next();
        last.is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let sorted: BTreeMap<&str, f64> = state
        .iter()
        .filter(|(name, _)| !is_bin(name))
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    sorted.into_iter().take(LEARNED).collect()
}

fn traffic(model: &ModelStatus, seen: Option<&Traffic>, now: u64) -> Value {
    let forecasts: Map<String, Value> = model
        .arms
        .iter()
        .map(|arm| {
            let told = arm.available.then_some(arm.predicted_us);
            (arm.arm.clone(), json!(told))
        })
        .collect();
    let Some(seen) = seen else {
        return json!({ "forecasts": forecasts });
    };
    let window = seen.window(now, WINDOW);
    let (right, told) = seen.told();
    let micros = |q| {
        let seconds = window.parts.response.quantile(q);
        seconds.map(|seconds| (seconds * 1e6).round())
    };
    let hops: Vec<Value> = seen
        .hops()
        .map(|((arm, branch, hop, node), mean)| {
            json!({
                "arm": arm, "branch": branch, "hop": hop, "node": node,
                "transfer_us": mean.transfer_us, "queue_us": mean.queue_us,
                "compute_us": mean.compute_us, "encode_us": mean.encode_us,
            })
        })
        .collect();
    let lost: Map<String, Value> = Loss::ALL
        .into_iter()
        .zip(window.lost)
        .map(|(loss, count)| (loss.label().to_owned(), json!(count)))
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    let feedback = (told > 0).then(|| right as f64 / told as f64);
    json!({
        "forecasts": forecasts,
        "rate": rate(seen, now),
        "ended": window.ended,
        "answered": window.answered,
        "held": share(window.held, window.answered),
        "lost": lost,
        "p50_us": micros(0.5),
        "p95_us": micros(0.95),
        "p99_us": micros(0.99),
        "accuracy_validated": (window.answered > 0)
            .then(|| window.accuracy / f64::from(window.answered)),
        "accuracy_audited": seen.agreement(&window),
        "audited": seen.audits(),
        "accuracy_feedback": feedback,
        "feedback_samples": told,
        "parts": parts(&window),
        "hops": hops,
        "total": seen.total(),
        "latest": latest(seen, now),
    })
}

/// The histograms, with the bounds that they share.
fn parts(window: &Slot) -> Value {
    json!({
        "queue": window.parts.queue.counts().as_slice(),
        "compute": window.parts.compute.counts().as_slice(),
        "transfer": window.parts.transfer.counts().as_slice(),
        "response": window.parts.response.counts().as_slice(),
    })
}

/// The last whole second.
fn latest(seen: &Traffic, now: u64) -> Value {
    let second = now.saturating_sub(1);
    let slot = seen.slots().rev().find(|slot| slot.second == second);
    slot.map_or_else(
        || {
            let empty = Slot {
                second,
                ..Slot::default()
            };
            point(seen, &empty)
        },
        |slot| point(seen, slot),
    )
}

fn point(seen: &Traffic, slot: &Slot) -> Value {
    let named = |names: &[String], counts: &[u32]| -> Map<String, Value> {
        let pairs = names.iter().zip(counts).filter(|(_, count)| **count > 0);
        pairs
            .map(|(name, count)| (name.clone(), json!(count)))
            .collect()
    };
    let mean = |sum: f64| (slot.answered > 0).then(|| sum / f64::from(slot.answered));
    json!({
        "t": slot.second,
        "ended": slot.ended,
        "answered": slot.answered,
        "held": slot.held,
        "lost": slot.lost.iter().sum::<u32>(),
        "mean_seconds": mean(slot.response),
        "predicted_seconds": mean(slot.predicted),
        "p95_seconds": slot.parts.response.quantile(0.95),
        "arms": named(seen.arms(), &slot.arms),
        "exits": named(seen.exits(), &slot.exits),
    })
}

/// The remembered seconds of every model, those without requests included.
#[must_use]
pub fn history(book: &Book, now: u64) -> Value {
    let from = now.saturating_sub(SECONDS as u64);
    let models: Map<String, Value> = book
        .models()
        .map(|(name, seen)| {
            let slots: BTreeMap<u64, &Slot> =
                seen.slots().map(|slot| (slot.second, slot)).collect();
            let points = (from..now).map(|second| match slots.get(&second) {
                Some(slot) => point(seen, slot),
                None => point(
                    seen,
                    &Slot {
                        second,
                        ..Slot::default()
                    },
                ),
            });
            (name.to_string(), points.collect())
        })
        .collect();
    let bounds = (0..histogram::BINS)
        .map(histogram::bound)
        .map(|bound| bound.is_finite().then_some(bound));
    json!({ "second": now, "bounds": bounds.collect::<Vec<_>>(), "models": models })
}
