//! What is asked of a plan: the models, their arms, loads, inputs and exits, and what may be chosen.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use splitplace_plan::{ArmKind, Plan};

use super::{
    super::{
        Inner,
        exits::{self, Asked},
        served::Served,
    },
    Start,
};
use crate::{
    planning::{Incoming, Load, PlanningSettings, Wish},
    wishes::THRESHOLDS,
};

/// Times of less are not known well enough to move an arm for them.
const LEAST_GAIN: Duration = Duration::from_millis(1);

/// What is asked for at the exits of a plan's arms.
pub(super) fn asked(inner: &Inner, start: &Start, plan: &Plan) -> Asked {
    let models = start.models.iter();
    let models = models.map(|served| (served.name.clone(), Arc::clone(served)));
    exits::asked(plan, &models.collect(), &inner.config.exits)
}

/// What may be chosen about planning.
pub(in super::super) fn settings(inner: &Inner) -> PlanningSettings {
    PlanningSettings {
        max_parts: inner.config.planning.max_parts,
        codec_cost: if inner.config.planning.codecs {
            inner.config.planning.codec_cost
        } else {
            f64::NEG_INFINITY
        },
        places: inner.config.workers.queue_limit as usize,
        loss_target: inner
            .config
            .exits
            .loss_target
            .unwrap_or(PlanningSettings::default().loss_target),
        least_gain: LEAST_GAIN,
        ..PlanningSettings::default()
    }
}

/// What is to be served, and how much of it.
pub(in super::super) fn wishes(inner: &Inner, start: &Start) -> Vec<Wish> {
    let arms = arms(&inner.config.planning.arms);
    let configured = Load::of(inner.config.planning.rate_per_second);
    let load = |served: &Served| start.loads.get(&served.name).copied().unwrap_or(configured);
    let wish = |served: &Arc<Served>| Wish {
        arms: arms.clone(),
        load: load(served),
        controlled: controlled(&inner.config.exits, served),
        asked: served.wishes.clone(),
        pins: start
            .places
            .iter()
            .filter(|((model, _), _)| *model == served.name)
            .map(|((_, arm), pin)| (arm.clone(), pin.clone()))
            .collect(),
        input: incoming(inner, start, served),
        ..Wish::new(Arc::clone(&served.loaded))
    };
    start.models.iter().map(wish).collect()
}

/// How clients send a model's input, as far as it was seen. What a picture takes to decode is what the first node of the
/// plan in force spends beside computing on what comes.
fn incoming(inner: &Inner, start: &Start, served: &Served) -> Option<Incoming> {
    let seen = served.demand.lock().seen(inner.clock.now())?;
    let arms = start
        .parent
        .models
        .get(&served.name)
        .map_or(&[][..], |m| &m.arms);
    let first = arms.iter().flat_map(|arm| &arm.branches);
    let codings = inner.codings.lock();
    let decode = first.filter_map(|route| {
        let hop = route.hops.first()?;
        let speed = start.snapshot.nodes.get(&hop.node)?.macs_per_second;
        let seconds = codings.of(&hop.node, hop.fragment)?.as_secs_f64();
        Some(seconds * speed)
    });
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bytes of a sample, which came in a message"
    )]
    Some(Incoming {
        bytes: seen.bytes.ceil() as u64,
        pictures: seen.pictures,
        decode_macs: if seen.pictures > 0.0 {
            decode.min_by(f64::total_cmp).unwrap_or(0.0)
        } else {
            0.0
        },
    })
}

/// The variants of a model whose exits are controlled.
fn controlled(config: &crate::config::Exits, served: &Served) -> BTreeSet<String> {
    let variants = served.loaded.variants().iter();
    let names = variants.map(|variant| variant.name.clone());
    names
        .filter(|name| exits::chosen(config, served, name).0 != THRESHOLDS)
        .collect()
}

fn arms(names: &[String]) -> BTreeSet<ArmKind> {
    ArmKind::ALL
        .into_iter()
        .filter(|kind| names.iter().any(|name| name == kind.label()))
        .collect()
}
