//! Why the plan is what it is, in sentences for an operator.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use splitplace_fleet::NodeId;
use splitplace_plan::{ArmPlan, ArmProblem, ModelName, Outcome, Placed, Problem, Stage};

use super::{
    PlanningInput, Wish,
    candidates::{Candidate, Fleet},
    keep, solve, spread,
    translate::{Here, Place},
};
use crate::measured::Source;

/// A few sentences for each model: where each arm runs, how fast, where it would run without the node
/// that has most to do for it, what is missing, and what the loss of one node would mean.
pub(super) fn explain(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    candidates: &[Candidate<'_>],
    placed: &[Place],
    unplaced: &BTreeMap<ModelName, Vec<String>>,
    crowded: &BTreeMap<NodeId, (u64, u64)>,
    is_kept: bool,
) -> String {
    let mut text = String::new();
    if is_kept {
        let percent = input.settings.inertia * 100.0;
        write(
            &mut text,
            format_args!(
                "The arms stay where they are: no other places would make them {percent:.0} % faster. "
            ),
        );
    }
    let met = keep::beside(input, fleet, candidates, placed.iter().map(keep::here));
    for wish in input.wishes {
        let model = wish.loaded.name();
        let mut sentences = Vec::new();
        for arm in spread::arms_of(candidates, model) {
            if let Place::Here(here) = &placed[arm] {
                let Some(busiest) = busiest(here) else {
                    continue;
                };
                let next = runner_up(input, fleet, candidates, placed, (arm, busiest));
                let busiest = &fleet.nodes[busiest].id;
                let mut told = sentence(fleet, here, (busiest, next));
                told.push_str(&lost(&met, &candidates[arm].problem, here));
                sentences.push(told);
            }
        }
        sentences.extend(soonest(wish, fleet, candidates, placed));
        let missing = unplaced.get(model).map_or(&[][..], Vec::as_slice);
        if !missing.is_empty() {
            sentences.push(format!("not placed: {}", missing.join(", ")));
        }
        let critical = keep::critical(candidates, placed, model);
        if !critical.is_empty() {
            let names: Vec<_> = critical.iter().map(ToString::to_string).collect();
            let names = names.join(" or ");
            sentences.push(format!(
                "losing {names} takes every arm until the next plan"
            ));
        }
        if sentences.is_empty() {
            sentences.push("nothing to place".into());
        }
        write(
            &mut text,
            format_args!("{model}: {}. ", sentences.join("; ")),
        );
    }
    for (node, (needed, has)) in crowded {
        write(
            &mut text,
            format_args!(
                "{node} cannot hold the old plan and this one at once ({needed} of {has} bytes) and \
                 has to unload first. "
            ),
        );
    }
    text.truncate(text.trim_end().len());
    text
}

fn write(text: &mut String, sentence: std::fmt::Arguments<'_>) {
    text.write_fmt(sentence)
        .expect("writing to a string does not fail");
}

fn sentence(fleet: &Fleet<'_>, here: &Here, (busiest, next): (&NodeId, Option<Placed>)) -> String {
    let ArmPlan {
        name, predicted, ..
    } = &here.plan;
    let next = next.map_or_else(
        || "nowhere".to_owned(),
        |next| {
            let latency = Duration::try_from_secs_f64(next.latency).unwrap_or(Duration::MAX);
            format!("on {} in {}", route(fleet, &next.branches), time(latency))
        },
    );
    // What was measured varies from run to run; what was not may be off.
    let doubt = match here.source {
        Source::Computed => format!(", give or take {:.2} ms", here.deviation * 1e3),
        _ => String::new(),
    };
    format!(
        "{name} on {} in {} ({}{doubt}; without {busiest}: {next})",
        route(fleet, &here.stages),
        time(*predicted),
        here.source.label()
    )
}

/// What an arm loses at its rate, where that is more than it may.
fn lost(problem: &Problem, arm: &ArmProblem, here: &Here) -> String {
    let loss = problem.loss(arm, &here.stages);
    if loss <= problem.may_lose(arm) {
        return String::new();
    }
    format!(
        ", where no place keeps up with {:.1} requests a second: {:.0} % of them would be lost",
        arm.arrival_rate,
        loss * 100.0
    )
}

/// Which arm answers soonest and by how much, and whether that is to send what came to one node and to cut nothing.
fn soonest(
    wish: &Wish,
    fleet: &Fleet<'_>,
    candidates: &[Candidate<'_>],
    placed: &[Place],
) -> Option<String> {
    let arms = spread::arms_of(candidates, wish.loaded.name());
    let here = arms.into_iter().filter_map(|arm| match &placed[arm] {
        Place::Here(here) => Some(here),
        Place::Nowhere(_) => None,
    });
    let mut here: Vec<_> = here.collect();
    here.sort_by_key(|here| here.plan.predicted);
    let first = here.first()?;
    let mut told = here.get(1).map_or_else(String::new, |second| {
        let by = second.plan.predicted - first.plan.predicted;
        let (first, second) = (&first.plan.name, &second.plan.name);
        format!("{first} is soonest, by {} before {second}", time(by))
    });
    if let ([line], Some(incoming)) = (&first.stages[..], &wish.input)
        && let [stage] = &line[..]
    {
        let what = if incoming.pictures > 0.5 {
            "the compressed picture"
        } else {
            "the input"
        };
        let (node, bytes) = (&fleet.nodes[stage.node].id, incoming.bytes);
        write(
            &mut told,
            format_args!(
                "{}{what} ({bytes} bytes) goes to {node} and nothing is cut",
                if here.len() > 1 { ": " } else { "" }
            ),
        );
    }
    (!told.is_empty()).then_some(told)
}

/// `a`, `a → b`, or `a | b` for branches side by side.
fn route(fleet: &Fleet<'_>, stages: &[Vec<Stage>]) -> String {
    let lines = stages.iter().map(|line| {
        let nodes: Vec<_> = line
            .iter()
            .map(|stage| fleet.nodes[stage.node].id.as_str())
            .collect();
        nodes.join(" → ")
    });
    lines.collect::<Vec<_>>().join(" | ")
}

fn time(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    if millis < 1e6 {
        format!("{millis:.2} ms")
    } else {
        "more than a quarter of an hour".into()
    }
}

/// The node that has most to do for an arm.
fn busiest(here: &Here) -> Option<usize> {
    let hops = here.plan.branches.iter().flat_map(|route| &route.hops);
    let stages = here.stages.iter().flatten();
    let most = hops.zip(stages).max_by_key(|(hop, _)| hop.service)?;
    Some(most.1.node)
}

/// The best place of an arm without a node, the others staying where they are.
fn runner_up(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    candidates: &[Candidate<'_>],
    placed: &[Place],
    (arm, node): (usize, usize),
) -> Option<Placed> {
    let outcomes: Vec<_> = placed
        .iter()
        .map(|place| match place {
            Place::Here(here) => Outcome::Placed(Placed {
                branches: here.stages.clone(),
                latency: 0.0,
                bottleneck: 0.0,
            }),
            Place::Nowhere(why) => Outcome::Unplaced(why.clone()),
        })
        .collect();
    let left = solve::left(input, fleet, candidates, &outcomes, arm);
    let left = spread::without(left, &BTreeSet::from([node]));
    solve::solve_one(input, fleet, &candidates[arm], left)
}
