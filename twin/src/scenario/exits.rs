//! Early exits of a scenario: from shares and accuracies to what each exit says of each input.

use std::{collections::BTreeMap, sync::Arc};

use splitplace_policy::exit::{
    Records,
    synthetic::{ACCURACIES, accurate},
};

use super::{
    build::Wrong,
    file::{ModelEntry, VariantEntry},
};
use crate::{
    planner::EarlyExit,
    world::{ExitControl, Exits},
};

/// Inputs that requests are drawn from, and the seed of what they are.
const INPUTS: usize = 2_000;
const SEED: u64 = 1;

/// What is known of the exits of a model's variants, by variant.
pub(super) fn of_model(entry: &ModelEntry, wrong: &mut Wrong) -> BTreeMap<String, Exits> {
    let mut known = BTreeMap::new();
    for variant in &entry.variants {
        let own = format!("{}/{}", entry.name, variant.name);
        if let Some(exits) = of_variant(variant, &own, wrong) {
            known.insert(variant.name.clone(), exits);
        }
    }
    known
}

fn of_variant(variant: &VariantEntry, own: &str, wrong: &mut Wrong) -> Option<Exits> {
    let is_asked = variant.exit_policy.is_some()
        || variant.loss_target.is_some()
        || variant.exit_places.is_some()
        || variant.audit_share.is_some();
    if variant.exits.is_empty() {
        if is_asked {
            wrong
                .0
                .push(format!("{own}: a controller of exits, but no exits"));
        }
        return None;
    }
    let before = wrong.0.len();
    let mut tell = |why: String| wrong.0.push(format!("{own}: exits: {why}"));
    if variant.semantic || variant.compressed {
        tell("not of a semantic or compressed variant".into());
    }
    if is_asked && variant.exit_policy.is_none() {
        tell("loss-target, exit-places and audit-share are an exit-policy's".into());
    }
    let segments = variant.parts.first().map_or(0, |part| part.segments.len());
    let mut least = 0;
    for exit in &variant.exits {
        if exit.behind <= least || segments <= exit.behind {
            let behind = exit.behind;
            tell(format!(
                "behind = {behind}: each lies between two of {segments} segments, in order"
            ));
        }
        least = exit.behind;
        if !(0.0..=1.0).contains(&exit.leave) {
            tell(format!("leave = {} is no share", exit.leave));
        }
        if !(0.0..1e9).contains(&exit.mmacs) {
            tell(format!(
                "mmacs = {} must be finite and at least 0",
                exit.mmacs
            ));
        }
    }
    if variant.exits.iter().map(|exit| exit.leave).sum::<f64>() > 1.0 + 1e-9 {
        tell("more than all leave".into());
    }
    let end = variant.accuracy.unwrap_or(f64::NAN);
    let accuracies = variant.exits.iter().map(|exit| exit.accuracy);
    let accuracies: Vec<f64> = accuracies.chain([end]).collect();
    if let Some(odd) = accuracies.iter().find(|one| !ACCURACIES.contains(one)) {
        let (least, most) = (ACCURACIES.start(), ACCURACIES.end());
        tell(format!(
            "the accuracies of exits and of the variant, their end, must lie in {least} to {most}, not {odd}"
        ));
    }
    if before < wrong.0.len() {
        return None;
    }
    let records = match accurate(&accuracies, INPUTS, SEED) {
        Ok(records) => records,
        Err(error) => {
            wrong.0.push(format!("{own}: exits: {error}"));
            return None;
        }
    };
    let control = variant.exit_policy.as_ref().map(|policy| ExitControl {
        policy: policy.clone(),
        target: variant.loss_target.unwrap_or(0.01),
        places: variant.exit_places.unwrap_or(16),
        audit_share: variant.audit_share.unwrap_or(0.01),
    });
    Some(Exits {
        thresholds: thresholds(&records, variant).into(),
        records: Arc::new(records),
        control,
    })
}

/// Thresholds at which each exit answers its share of all inputs, of those that come so far the surest.
fn thresholds(records: &Records, variant: &VariantEntry) -> Vec<f64> {
    let mut here: Vec<usize> = (0..records.len()).collect();
    let mut thresholds = Vec::with_capacity(variant.exits.len());
    for (number, exit) in variant.exits.iter().enumerate() {
        here.sort_by(|&a, &b| {
            let of = |input| records.confidence(input, number);
            of(b).total_cmp(&of(a))
        });
        let count = ((exit.leave * records.len() as f64).round() as usize).min(here.len());
        let least = count.checked_sub(1).map(|last| here[last]);
        thresholds.push(least.map_or(f64::INFINITY, |input| records.confidence(input, number)));
        here.drain(..count);
    }
    thresholds
}

/// The exits as places are sought for them.
pub(super) fn planned(variant: &VariantEntry) -> Vec<EarlyExit> {
    let exits = variant.exits.iter().map(|exit| EarlyExit {
        behind: exit.behind,
        macs: exit.mmacs * 1e6,
        leave: exit.leave,
    });
    exits.collect()
}

/// Share of right answers at the thresholds.
pub(super) fn accuracy(exits: &Exits) -> f64 {
    let records = &exits.records;
    let last = records.exits() - 1;
    let answers = |input: usize| {
        let mut all = exits.thresholds.iter().enumerate();
        all.find(|(exit, least)| records.confidence(input, *exit) >= **least)
            .map_or(last, |(exit, _)| exit)
    };
    let right = (0..records.len()).filter(|&input| records.is_correct(input, answers(input)));
    right.count() as f64 / records.len().max(1) as f64
}
