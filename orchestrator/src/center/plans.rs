//! The plan as operators ask for it: what runs, why, what it was before, and what they want of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use splitplace_fleet::{Link, Place};
use splitplace_plan::{ArmPlan, ModelName, described, diff};
use splitplace_proto::center::{
    ActRequest, PlanChange, PlanDiffRequest, PlanDiffResponse, PlanEvent, PlanResponse, PlanSwitch,
    PlanWhy, PlannedArm, PlannedModel, SeenLink, act_request::What,
};

use super::{Inner, control::Basis, roll_out};
use crate::{
    planning::{PlanningInput, Why, why},
    watched::Operation,
};

type Whys = BTreeMap<(ModelName, String), Why>;

/// Everything about the plan in force.
pub(super) async fn plan(inner: &Arc<Inner>, explain: bool) -> Result<PlanResponse, String> {
    let basis = inner.basis().await?;
    let whys = if explain {
        let (inner, mut basis) = (Arc::clone(inner), basis.clone());
        let work = move || {
            basis.start.learn();
            explained(&inner, &basis)
        };
        let worked = tokio::task::spawn_blocking(work).await;
        worked.map_err(|error| error.to_string())?
    } else {
        Whys::new()
    };
    Ok(response(inner, &basis, &whys))
}

fn explained(inner: &Inner, basis: &Basis) -> Whys {
    let start = &basis.start;
    why(&PlanningInput {
        parent: &start.parent,
        generation: start.parent.generation.next(),
        snapshot: &start.snapshot,
        wishes: &roll_out::wishes(inner, start),
        measured: &start.measured,
        strategy: inner.strategy.as_ref(),
        settings: roll_out::settings(inner),
        seed: inner.seed,
    })
}

fn response(inner: &Inner, basis: &Basis, whys: &Whys) -> PlanResponse {
    let plan = &basis.start.parent;
    let models = plan.models.iter().map(|(name, model)| PlannedModel {
        model: name.to_string(),
        version: model.version.clone(),
        taken: basis.taken.get(name).cloned().unwrap_or_default(),
        arms: model
            .arms
            .iter()
            .map(|arm| {
                let key = (name.clone(), arm.name.clone());
                let pinned = basis.pinned.get(&key).cloned().unwrap_or_default();
                PlannedArm {
                    pinned,
                    why: whys.get(&key).map(told),
                    ..planned(arm)
                }
            })
            .collect(),
    });
    let journal = inner.journal.lock();
    let events = journal.events().map(|event| PlanEvent {
        unix_ms: event.unix_ms,
        generation: event.generation,
        parent: event.parent,
        cause: event.cause.clone(),
        said: event.said.clone(),
        loaded: small(event.loaded),
        kept: small(event.kept),
        sent_bytes: event.sent_bytes,
        planned_us: micros(event.planned_in),
        loaded_us: micros(event.loaded_in),
    });
    PlanResponse {
        generation: plan.generation.0,
        parent: plan.parent.map_or(0, |parent| parent.0),
        explanation: plan.explanation.clone(),
        models: models.collect(),
        events: events.collect(),
        drained: basis.drained.clone(),
        assumed: inner.fleet.read().assumed.clone(),
        remembered: journal.generations(),
        links: links(inner),
    }
}

fn planned(arm: &ArmPlan) -> PlannedArm {
    let routes = || arm.branches.iter();
    let inner = routes().flat_map(|route| &route.hops[..route.hops.len().saturating_sub(1)]);
    let between = routes().flat_map(|route| route.hops.windows(2));
    let sent = between.filter(|pair| pair[0].node != pair[1].node);
    PlannedArm {
        arm: arm.name.clone(),
        kind: arm.kind.label().to_owned(),
        way: described(arm),
        predicted_us: micros(arm.predicted),
        accuracy: arm.accuracy.unwrap_or(0.0),
        cuts: inner.map(|hop| small(hop.segments.end)).collect(),
        bytes_between: sent.map(|pair| pair[1].bytes_in).sum(),
        ..PlannedArm::default()
    }
}

fn told(why: &Why) -> PlanWhy {
    let us = |seconds: f64| micros(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    PlanWhy {
        expected_us: us(why.expected),
        runner_up: why
            .runner_up
            .as_ref()
            .map(|other| other.way.clone())
            .unwrap_or_default(),
        runner_up_us: why.runner_up.as_ref().map_or(0, |other| us(other.seconds)),
        switches: why
            .switches
            .iter()
            .map(|switch| PlanSwitch {
                from: name(&switch.from),
                to: name(&switch.to),
                now_bytes_per_second: switch.now,
                at_bytes_per_second: switch.at,
                becomes: switch.becomes.clone(),
            })
            .collect(),
    }
}

/// The links that were found to be otherwise than they are known.
fn links(inner: &Inner) -> Vec<SeenLink> {
    let roads = inner.roads.lock();
    let seen = roads.changed().map(|(from, to)| {
        let (link, late): (Link, Link) = (roads.link(from, to, 0.5), roads.link(from, to, 0.9));
        SeenLink {
            from: name(from),
            to: name(to),
            bytes_per_second: link.rate_bytes_per_second,
            delay_us: micros(link.delay),
            late_bytes_per_second: late.rate_bytes_per_second,
            late_delay_us: micros(late.delay),
        }
    });
    seen.collect()
}

/// What differs between two plans.
pub(super) fn plan_diff(
    inner: &Inner,
    asked: &PlanDiffRequest,
) -> Result<PlanDiffResponse, String> {
    let journal = inner.journal.lock();
    let known = journal.generations();
    let last = known.last().copied().ok_or("no plan is in force yet")?;
    let after = if asked.after == 0 { last } else { asked.after };
    let before = if asked.before == 0 {
        let earlier = known.iter().rev().find(|known| **known < after);
        *earlier.ok_or_else(|| format!("no plan before {after} is remembered"))?
    } else {
        asked.before
    };
    let find = |generation: u64| {
        journal.plan(generation).ok_or_else(|| {
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            format!(
                "plan {generation} is not remembered; these are: {}",
                known.join(", ")
            )
        })
    };
    let (old, new) = (find(before)?, find(after)?);
    let found = diff(&old, &new);
    let way = |arm: &Option<ArmPlan>| arm.as_ref().map(described).unwrap_or_default();
    let time = |arm: &Option<ArmPlan>| arm.as_ref().map_or(0, |arm| micros(arm.predicted));
    let changes = found.changes.iter().map(|change| PlanChange {
        model: change.model.to_string(),
        arm: change.arm.clone(),
        before: way(&change.before),
        after: way(&change.after),
        before_us: time(&change.before),
        after_us: time(&change.after),
        resplit: change.is_resplit(),
    });
    Ok(PlanDiffResponse {
        before,
        after,
        changes: changes.collect(),
        loaded: small(found.loaded.len()),
        dropped: small(found.dropped.len()),
        kept: small(found.kept),
    })
}

/// What an operator wants, as the centre takes it.
pub(super) fn operation(asked: ActRequest) -> Result<Operation, String> {
    let what = asked.what.ok_or("nothing is asked for")?;
    Ok(match what {
        What::Pin(pin) => Operation::Pin {
            model: pin.model,
            arm: pin.arm,
        },
        What::Place(place) => Operation::Place {
            model: place.model,
            arm: place.arm,
            cuts: place.cuts.map(|cuts| {
                let cuts = cuts.segments.into_iter();
                cuts.map(|cut| cut as usize).collect()
            }),
            nodes: {
                let last = place
                    .nodes
                    .keys()
                    .max()
                    .map_or(0, |last| *last as usize + 1);
                // More than there can be is refused by whoever takes the order.
                let mut nodes = vec![None; last.min(1 << 10)];
                for (number, node) in place.nodes {
                    if let Some(slot) = nodes.get_mut(number as usize) {
                        *slot = Some(node);
                    }
                }
                nodes
            },
        },
        What::Unpin(unpin) => Operation::Unpin {
            model: unpin.model,
            arm: (!unpin.arm.is_empty()).then_some(unpin.arm),
        },
        What::Drain(drain) => Operation::Drain { node: drain.node },
        What::Undrain(drain) => Operation::Undrain { node: drain.node },
    })
}

fn name(place: &Place) -> String {
    match place {
        Place::Center => String::new(),
        Place::Node(node) => node.to_string(),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
