//! Having nodes load their parts of a plan, and a plan from before a restart put back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use splitplace_fleet::NodeId;
use splitplace_onnx::Fragment;
use splitplace_plan::{ArmKind, FragmentId, Plan};
use splitplace_proto::control::{Retire, center_message};

use super::{
    super::{Inner, exits},
    Failure, Observation, Start,
    profile::observation,
};
use crate::{
    adoption::{self, FragmentFacts},
    planning::is_cut,
    wishes::THRESHOLDS,
};

pub(super) type Held = BTreeMap<FragmentId, Arc<Fragment>>;

/// Has the nodes that hold too much let go of the parent first. The arms that need them are not chosen
/// any more; what is on its way through them is answered as stale there, and tried again elsewhere.
pub(super) fn make_room(inner: &Inner, start: &Start, crowded: &BTreeSet<NodeId>) {
    inner.flow.lock().brain.suspend(crowded.clone());
    for node in crowded {
        let below_generation = start.parent.generation.0.saturating_add(1);
        let retire = center_message::Kind::Retire(Retire { below_generation });
        // A node that is gone holds nothing.
        let _ = inner.sessions.send(node, retire);
    }
}

/// Has every node load its part of a plan, and takes in what is measured on the way. Says whether anything was that was
/// not known before.
#[tracing::instrument(skip_all, name = "load")]
pub(super) async fn load(
    inner: &Arc<Inner>,
    start: &mut Start,
    plan: &Plan,
    fragments: Held,
    observations: &mut Vec<Observation>,
) -> Result<bool, Failure> {
    let facts: BTreeMap<FragmentId, FragmentFacts> = plan
        .models
        .iter()
        .flat_map(|(model, planned)| planned.arms.iter().map(move |arm| (model, arm)))
        .flat_map(|(model, arm)| {
            arm.branches
                .iter()
                .flat_map(|r| &r.hops)
                .map(move |h| (model, arm, h))
        })
        .map(|(model, arm, hop)| {
            let label = format!(
                "{model}/{}/{}-{}",
                arm.variant, hop.segments.start, hop.segments.end
            );
            let size_bytes = fragments
                .get(&hop.fragment)
                .map_or(0, |f| f.onnx.len() as u64);
            (hop.fragment, FragmentFacts { label, size_bytes })
        })
        .collect();
    inner.fragments.held.write().extend(fragments);
    let interfaces = start.models.iter();
    let interfaces = interfaces.map(|served| (served.name.clone(), served.interface()));
    let shapes = inner.shapes.read().clone();
    let in_force = inner.flow.lock().brain.generation();
    let assignments = adoption::assignments(
        plan,
        in_force,
        &facts,
        &interfaces.collect(),
        &inner.sessions.addresses(),
        shapes.as_ref(),
        &|model, arm| {
            let is_controlled = arm.kind == ArmKind::Exits
                && start.models.iter().any(|served| {
                    served.name == *model
                        && exits::chosen(&inner.config.exits, served, &arm.variant).0 != THRESHOLDS
                });
            let limit = inner.config.workers.queue_limit;
            // One of the places is in service.
            let waiting = inner.config.exits.places.saturating_sub(1).max(1);
            if is_controlled {
                limit.min(waiting)
            } else {
                limit
            }
        },
    );
    let adopted = adoption::adopt(&inner.sessions, assignments, inner.load_timeout()).await;
    let (loaded, failed) = match adopted {
        Ok(loaded) => (loaded, None),
        Err(mut error) => (std::mem::take(&mut error.measured), Some(error)),
    };
    let mut has_news = false;
    for (node, statuses) in loaded {
        inner.profiled(&node, &statuses);
        let told = statuses
            .iter()
            .filter_map(|status| observation(&node, status));
        for mut observed in told {
            // What a node held already, it does not measure again.
            if !start.told.insert((node.clone(), observed.fragment)) {
                observed.service = None;
            }
            has_news |= observed.service.is_some();
            if let Some(known) = start.snapshot.nodes.get(&node) {
                observed.learn(&mut start.measured, known);
            }
            observations.push(observed);
        }
    }
    match failed {
        None => Ok(has_news),
        Some(error) => Err(error.into()),
    }
}

/// The fragments of a plan from before a restart, when models and nodes are all there and cutting
/// gives the same bytes; else why not.
pub(super) fn fragments_of(plan: &Plan, start: &Start) -> Result<Held, String> {
    let names = start.models.iter().map(|served| &served.name);
    if !plan.models.keys().eq(names) {
        return Err("other models are served".into());
    }
    if plan.models.values().all(|model| model.arms.is_empty()) {
        return Err("nothing was placed".into());
    }
    let mut held = Held::new();
    for (served, planned) in start.models.iter().zip(plan.models.values()) {
        if served.loaded.version() != planned.version {
            return Err(format!("model {} has another version", served.name));
        }
        for arm in &planned.arms {
            let variants = served.loaded.variants();
            let variant = variants
                .iter()
                .position(|variant| variant.name == arm.variant)
                .ok_or_else(|| format!("model {} has no variant {}", served.name, arm.variant))?;
            if variants[variant].parts.len() != arm.branches.len() {
                return Err(format!("arm {} has another number of branches", arm.name));
            }
            for (part, route) in arm.branches.iter().enumerate() {
                for hop in &route.hops {
                    let count = variants[variant].parts[part].segments();
                    // A part that was not cut counts as one segment.
                    let segments = if is_cut(arm.kind) {
                        hop.segments.clone()
                    } else {
                        0..count
                    };
                    if !start.snapshot.is_alive(&hop.node) {
                        return Err(format!("node {} is not there", hop.node));
                    }
                    let cut = || format!("{}/{}-{}", arm.name, segments.start, segments.end);
                    if segments.is_empty() || count < segments.end {
                        return Err(format!("fragment {} reaches beyond {count}", cut()));
                    }
                    let fragment = served.loaded.fragment(variant, part, segments.clone());
                    let fragment = fragment.map_err(|error| error.to_string())?;
                    if fragment.id != hop.fragment {
                        return Err(format!("fragment {} is cut otherwise now", cut()));
                    }
                    held.insert(fragment.id, fragment);
                }
            }
        }
    }
    Ok(held)
}
