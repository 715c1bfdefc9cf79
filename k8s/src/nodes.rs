//! Nodes from both sides: what the orchestrator's sessions say, and what the cluster says. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use crate::{
    center::{CenterError, Seen, SeenNode},
    conditions::{self, Said},
    decide::Settings,
    model::EdgeModel,
    node::{EdgeNode, EdgeNodeStatus, HeldFragment, LinkRate},
    status::{self, bytes, signed},
    tell::Happened,
};

/// Taints of a node that is in trouble by itself: it is lost or will be back, and taking its worker's
/// place away would only make coming back slower.
const TROUBLE: &str = "node.kubernetes.io/";

/// Why a cluster node should have no worker; `None` when it may.
#[must_use]
pub fn hold(
    node: &Node,
    edge: Option<&EdgeNode>,
    settings: &Settings,
) -> Option<(&'static str, String)> {
    let name = node.name_any();
    if let Some(why) = held_by_hand(edge) {
        return Some(why);
    }
    if node.metadata.deletion_timestamp.is_some() {
        return Some((DELETED, "the cluster's node is being deleted".into()));
    }
    let spec = node.spec.as_ref()?;
    if spec.unschedulable.unwrap_or(false) {
        return Some((
            "Cordoned",
            format!("the node is cordoned; kubectl uncordon {name} gives it work again"),
        ));
    }
    let tolerates = |key: &str| {
        settings
            .tolerated
            .iter()
            .any(|one| one == "*" || one == key)
    };
    let taint = spec.taints.iter().flatten().find(|taint| {
        let drives_away = taint.effect == "NoSchedule" || taint.effect == "NoExecute";
        drives_away && !taint.key.starts_with(TROUBLE) && !tolerates(&taint.key)
    });
    taint.map(|taint| {
        let why = format!(
            "the node has the taint {}:{}, which the workers do not tolerate; take it away, or add \
             workers.tolerations to the chart's values",
            taint.key, taint.effect
        );
        ("Tainted", why)
    })
}

/// Labels of nodes that a model's placement asks for: its selector and its zone.
#[must_use]
pub fn wanted(model: &EdgeModel) -> BTreeMap<String, String> {
    let Some(placement) = &model.spec.placement else {
        return BTreeMap::new();
    };
    let mut wanted = placement.node_selector.clone();
    if let Some(zone) = &placement.zone {
        wanted.insert("topology.kubernetes.io/zone".into(), zone.clone());
    }
    wanted
}

/// Nodes that a model's placement allows; `None` when it allows all.
#[must_use]
pub fn allowed(model: &EdgeModel, nodes: &[Node]) -> Option<Vec<String>> {
    let wanted = wanted(model);
    if wanted.is_empty() {
        return None;
    }
    let fits = |node: &&Node| {
        wanted
            .iter()
            .all(|(key, value)| node.labels().get(key) == Some(value))
    };
    let mut names: Vec<String> = nodes
        .iter()
        .filter(fits)
        .map(|node| node.name_any())
        .collect();
    names.sort_unstable();
    Some(names)
}

/// Everything that matters for the fleet's resources.
#[derive(Clone, Copy, Debug)]
pub struct NodesView<'a> {
    /// The orchestrator.
    pub seen: Result<&'a Seen, &'a CenterError>,
    /// The cluster's nodes; `None` when they are not known, of which nothing follows.
    pub cluster: Option<&'a [Node]>,
    /// The EdgeNodes that are, by name.
    pub existing: &'a BTreeMap<String, EdgeNode>,
    /// What the orchestrator last answered to a drain, by node: whether it is drained now, or why not.
    pub answers: &'a BTreeMap<String, Result<bool, String>>,
    /// The release.
    pub settings: &'a Settings,
    /// Now.
    pub now: Timestamp,
}

/// What should become of the fleet's resources, and of nodes that only the orchestrator can empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fleet {
    /// The EdgeNodes that should be, by name: one for each node that the orchestrator knows, and for each
    /// that is held.
    pub nodes: BTreeMap<String, EdgeNodeStatus>,
    /// Nodes without an object that could be labelled: the orchestrator is asked to move their fragments
    /// away (true), or may use them again (false).
    pub drains: Vec<(String, bool)>,
}

/// What should become of the fleet.
#[must_use]
pub fn desired(view: &NodesView<'_>) -> Fleet {
    let seen = match view.seen {
        Ok(seen) => seen,
        Err(error) => return unknown(view, error),
    };
    let listed = view.cluster.unwrap_or_default().iter();
    let cluster: BTreeMap<String, &Node> = listed.map(|node| (node.name_any(), node)).collect();
    let sessions: BTreeMap<&str, &SeenNode> = seen
        .nodes
        .iter()
        .map(|node| (node.name.as_str(), node))
        .collect();
    let mut fleet = Fleet::default();
    let names: BTreeSet<&str> = sessions
        .keys()
        .copied()
        .chain(view.existing.keys().map(String::as_str))
        .collect();
    for name in names {
        let (old, node) = (view.existing.get(name), cluster.get(name).copied());
        let session = sessions.get(name).copied();
        let mut held = match node {
            Some(node) => hold(node, old, view.settings),
            None => hold_unlabelled(view, old),
        };
        let before = old.and_then(|old| old.status.as_ref());
        let was_drained = before.is_some_and(|before| {
            before.reason == DELETED || (before.reason == HELD && node.is_none())
        });
        let is_by_hand = held_by_hand(old).is_some();
        let answer = view.answers.get(name);
        let is_gone = match session.map(|node| node.state.as_str()) {
            Some("alive") => {
                if held.is_some() && node.is_none() {
                    fleet.drains.push((name.to_owned(), true));
                }
                if let (Some((_, why)), Some(Err(refusal))) = (&mut held, answer) {
                    why.push_str(&format!("; its fragments stay where they are: {refusal}"));
                }
                false
            }
            Some("draining") => {
                if let Some(before) = before.filter(|_| held.is_none() && was_drained) {
                    fleet.drains.push((name.to_owned(), false));
                    // Said until it is done: a leader that follows has to know that it is to be done.
                    let why = "it is there again; the orchestrator is asked to use it again";
                    held = Some((kept(before), why.into()));
                }
                false
            }
            Some("leaving") => false,
            _ if was_drained && !is_by_hand && answer != Some(&Ok(false)) => {
                // Or the next node of that name would be kept empty.
                fleet.drains.push((name.to_owned(), false));
                held = before.map(|before| (kept(before), before.message.clone()));
                false
            }
            // A node that is in neither world has no resource.
            Some(_) => node.is_none() && is_deleted(view.cluster, old),
            None => node.is_none() && !is_by_hand,
        };
        if !is_gone {
            let mut status = status(session, held, seen, old, view.now);
            status.node_uid = match node {
                Some(node) => node.uid(),
                None => before.and_then(|before| before.node_uid.clone()),
            };
            fleet.nodes.insert(name.to_owned(), status);
        }
    }
    fleet
}

/// Reason of a node that the cluster has no more, or will not have for long.
const DELETED: &str = "NodeDeleted";
/// Reason of a node that a person holds.
const HELD: &str = "Held";

/// Which of the two reasons of a drain a status has.
fn kept(before: &EdgeNodeStatus) -> &'static str {
    if before.reason == HELD { HELD } else { DELETED }
}

/// Whether the cluster once had the node and has it no more. Of a machine that never was one of its nodes, or of nodes
/// that are not known, nothing of that kind follows.
fn is_deleted(cluster: Option<&[Node]>, edge: Option<&EdgeNode>) -> bool {
    let status = edge.and_then(|edge| edge.status.as_ref());
    // No cluster is without any node: a list that is empty says nothing.
    cluster.is_some_and(|nodes| !nodes.is_empty())
        && status.is_some_and(|status| status.node_uid.is_some())
}

/// Why a node that has no object in the cluster should have no fragments.
fn hold_unlabelled(
    view: &NodesView<'_>,
    edge: Option<&EdgeNode>,
) -> Option<(&'static str, String)> {
    if let Some(why) = held_by_hand(edge) {
        return Some(why);
    }
    let why = "the cluster has the node no more; its worker runs until its machine stops it, and its fragments move \
               away before. `kubectl get nodes` shows whether it comes back";
    is_deleted(view.cluster, edge).then(|| (DELETED, why.into()))
}

fn held_by_hand(edge: Option<&EdgeNode>) -> Option<(&'static str, String)> {
    let why = "spec.hold is set; set it to false to give the node work again";
    edge.and_then(|edge| edge.spec.hold)
        .unwrap_or(false)
        .then(|| (HELD, why.into()))
}

/// Nobody knows what became of the fleet: what was known last stays, and is said to be old.
fn unknown(view: &NodesView<'_>, error: &CenterError) -> Fleet {
    let status = |node: &EdgeNode| {
        let mut status = node.status.clone().unwrap_or_default();
        status.state = "Unknown".into();
        // Of a drain the reason stays: who leads next has to know it.
        if status.reason != DELETED && status.reason != HELD {
            status.reason = status::UNREACHABLE.into();
        }
        status.message = format!(
            "{error}; what this status says is from before. {}",
            status::REMEDY
        );
        let ready = Said::unknown("Ready", status::UNREACHABLE, status.message.clone());
        status.observed_generation = node.metadata.generation;
        status.conditions = conditions::set(
            &status.conditions,
            &[ready],
            node.metadata.generation,
            view.now,
        );
        status
    };
    let nodes = view.existing.iter();
    Fleet {
        nodes: nodes
            .map(|(name, node)| (name.clone(), status(node)))
            .collect(),
        drains: Vec::new(),
    }
}

fn status(
    session: Option<&SeenNode>,
    held: Option<(&'static str, String)>,
    seen: &Seen,
    old: Option<&EdgeNode>,
    now: Timestamp,
) -> EdgeNodeStatus {
    let before = old.and_then(|old| old.status.clone()).unwrap_or_default();
    let generation = old.and_then(|old| old.metadata.generation);
    let (state, reason, message): (_, &'static str, String) =
        match (session.map(|node| node.state.as_str()), held) {
            (Some("alive" | "leaving" | "draining"), Some((reason, why))) => {
                ("Leaving", reason, why)
            }
            (_, Some((reason, why))) => ("Held", reason, why),
            (Some("alive"), None) => ("Alive", "Session", "its worker is part of the fleet".into()),
            (Some("leaving"), None) => (
                "Leaving",
                "Stopping",
                "its worker was asked to stop and hands its fragments over".into(),
            ),
            (Some("draining"), None) => (
                "Leaving",
                "Drained",
                format!(
                    "somebody had it drained at the orchestrator; `splitplace plan undrain {}` gives it work again",
                    session.map_or("NODE", |node| &node.name)
                ),
            ),
            (Some(_), None) => (
                "Lost",
                "Silent",
                "its worker's session broke; kubectl get pods -o wide shows what became of it. What was \
                 with it runs again elsewhere"
                    .into(),
            ),
            (None, None) => (
                "Absent",
                "NoWorker",
                "no worker has joined from here; kubectl get pods -o wide shows whether one runs, \
                 kubectl logs what it says"
                    .into(),
            ),
        };
    let ready = if state == "Alive" {
        Said::yes("Ready", reason, message.clone())
    } else {
        Said::no("Ready", reason, message.clone())
    };
    let mut status = EdgeNodeStatus {
        observed_generation: generation,
        conditions: conditions::set(&before.conditions, &[ready], generation, now),
        state: state.into(),
        reason: reason.into(),
        message,
        ..EdgeNodeStatus::default()
    };
    let Some(node) = session else { return status };
    status.cores = i32::try_from(node.cores).unwrap_or(i32::MAX);
    status.macs_per_second = node.macs_per_second;
    status.speed = format!("{:.2} GMAC/s", node.macs_per_second / 1e9);
    status.memory_bytes = signed(node.memory_bytes);
    status.memory_used_bytes = signed(node.memory_used_bytes);
    status.memory = format!(
        "{}/{}",
        bytes(node.memory_used_bytes),
        bytes(node.memory_bytes)
    );
    status.address = node.address.clone();
    for model in &seen.models {
        for arm in &model.arms {
            for hop in arm.hops.iter().filter(|hop| hop.node == node.name) {
                status.fragments.push(HeldFragment {
                    model: model.name.clone(),
                    arm: arm.name.clone(),
                    fragment: hop.fragment.clone(),
                    memory_bytes: signed(hop.memory_bytes),
                });
            }
        }
    }
    let names: BTreeSet<&str> = status
        .fragments
        .iter()
        .map(|held| held.fragment.as_str())
        .collect();
    status.fragment_count = i32::try_from(names.len()).unwrap_or(i32::MAX);
    let links = node.links.iter().map(|(to, rate, delay)| LinkRate {
        to: to.clone(),
        // JSON has no infinity.
        bytes_per_second: Some(*rate).filter(|rate| rate.is_finite()),
        delay_micros: signed(*delay),
    });
    let old = |to: &str| before.links.iter().find(|link| link.to == to);
    let links = links.map(|link| match old(&link.to) {
        Some(old) if is_about(old, &link) => old.clone(),
        _ => link,
    });
    status.links = links.collect();
    status
}

/// Whether a link is much as it was: measurements waver, and each write wakes everybody who watches.
fn is_about(old: &LinkRate, new: &LinkRate) -> bool {
    let is_alike = match (old.bytes_per_second, new.bytes_per_second) {
        (Some(old), Some(new)) => (0.8..=1.25).contains(&(new / old)),
        (old, new) => old.is_none() && new.is_none(),
    };
    let delay = new.delay_micros.abs_diff(old.delay_micros);
    let slack = old.delay_micros.unsigned_abs() / 5;
    is_alike && delay <= slack.max(200)
}

/// An event when a node's state is another than before.
#[must_use]
pub fn happened(before: Option<&EdgeNodeStatus>, after: &EdgeNodeStatus) -> Option<Happened> {
    let is_new = before.is_none_or(|old| old.state != after.state || old.reason != after.reason);
    let was_unknown = before.is_some_and(|old| old.state == "Unknown");
    is_new.then(|| Happened {
        is_warning: matches!(after.state.as_str(), "Lost" | "Absent" | "Unknown"),
        reason: match after.state.as_str() {
            "Lost" => "NodeLost".into(),
            "Alive" if was_unknown => "NodeKnownAgain".into(),
            "Alive" => "NodeJoined".into(),
            "Leaving" | "Held" => format!("Node{}", after.reason.trim_start_matches("Node")),
            "Unknown" => "NodeUnknown".into(),
            _ => "NodeAbsent".into(),
        },
        action: "Watch".into(),
        note: after.message.clone(),
    })
}
