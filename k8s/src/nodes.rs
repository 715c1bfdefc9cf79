//! Nodes from both sides: what the orchestrator's sessions say, and what the cluster says. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use crate::{
    center::{Seen, SeenNode},
    conditions::{self, Said},
    decide::Settings,
    model::EdgeModel,
    node::{EdgeNode, EdgeNodeStatus, HeldFragment, LinkRate},
    status::{bytes, signed},
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
    if edge.and_then(|edge| edge.spec.hold).unwrap_or(false) {
        let why = "spec.hold is set; set it to false to give the node work again";
        return Some(("Held", why.into()));
    }
    if node.metadata.deletion_timestamp.is_some() {
        return Some(("NodeDeleted", "the cluster's node is being deleted".into()));
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

/// The EdgeNodes that should be, by name: one for each node that the orchestrator knows, and for each
/// that is held. `nodes` is empty when the cluster's nodes are not watched.
#[must_use]
pub fn desired(
    seen: &Seen,
    nodes: &[Node],
    existing: &BTreeMap<String, EdgeNode>,
    settings: &Settings,
    now: Timestamp,
) -> BTreeMap<String, EdgeNodeStatus> {
    let cluster: BTreeMap<String, &Node> =
        nodes.iter().map(|node| (node.name_any(), node)).collect();
    let sessions: BTreeMap<&str, &SeenNode> = seen
        .nodes
        .iter()
        .map(|node| (node.name.as_str(), node))
        .collect();
    let names: BTreeSet<&str> = sessions
        .keys()
        .copied()
        .chain(
            existing
                .keys()
                .map(String::as_str)
                .filter(|name| cluster.contains_key(*name)),
        )
        .collect();
    let mut all = BTreeMap::new();
    for name in names {
        let old = existing.get(name);
        let held = cluster.get(name).and_then(|node| hold(node, old, settings));
        let is_gone = !nodes.is_empty() && !cluster.contains_key(name);
        let session = sessions.get(name).copied();
        // A node that is in neither world has no resource.
        if is_gone && session.is_none_or(|node| node.state == "lost") {
            continue;
        }
        all.insert(name.to_owned(), status(session, held, seen, old, now));
    }
    all
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
            (Some("alive" | "leaving"), Some((reason, why))) => ("Leaving", reason, why),
            (_, Some((reason, why))) => ("Held", reason, why),
            (Some("alive"), None) => ("Alive", "Session", "its worker is part of the fleet".into()),
            (Some("leaving"), None) => (
                "Leaving",
                "Stopping",
                "its worker was asked to stop and hands its fragments over".into(),
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
        bytes_per_second: *rate,
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
    let rate = new.bytes_per_second / old.bytes_per_second;
    let delay = new.delay_micros.abs_diff(old.delay_micros);
    let slack = old.delay_micros.unsigned_abs() / 5;
    (0.8..=1.25).contains(&rate) && delay <= slack.max(200)
}

/// An event when a node's state is another than before.
#[must_use]
pub fn happened(before: Option<&EdgeNodeStatus>, after: &EdgeNodeStatus) -> Option<Happened> {
    let is_new = before.is_none_or(|old| old.state != after.state || old.reason != after.reason);
    is_new.then(|| Happened {
        is_warning: matches!(after.state.as_str(), "Lost" | "Absent"),
        reason: match after.state.as_str() {
            "Lost" => "NodeLost".into(),
            "Alive" => "NodeJoined".into(),
            "Leaving" | "Held" => format!("Node{}", after.reason.trim_start_matches("Node")),
            _ => "NodeAbsent".into(),
        },
        action: "Watch".into(),
        note: after.message.clone(),
    })
}
