//! The table of all runs.

use std::collections::BTreeMap;

use super::{
    RunTold,
    phases::{Phase, quantile},
};
use crate::output;

/// The median of each number over the runs, and what was said in the first.
pub(super) fn show(runs: &[RunTold]) {
    let count = runs.first().map_or(0, |run| run.phases.len());
    let mut rows = output::table([
        "uplink",
        "runs",
        "sends",
        "predicted",
        "mean",
        "p50",
        "p95",
        "static p95",
        "ratio",
        "lost",
        "plans",
        "first after",
    ]);
    let mut said: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for number in 0..count {
        let phases: Vec<&Phase> = runs
            .iter()
            .filter_map(|run| run.phases.get(number))
            .collect();
        let median = |of: &dyn Fn(&Phase) -> Option<f64>| {
            let mut all: Vec<f64> = phases.iter().filter_map(|phase| of(phase)).collect();
            all.sort_by(f64::total_cmp);
            (!all.is_empty()).then(|| quantile(&all, 0.5))
        };
        let ms = |of: &dyn Fn(&Phase) -> Option<f64>| {
            median(of).map_or("–".into(), |ms| format!("{ms:.1} ms"))
        };
        let Some(first) = phases.first() else {
            continue;
        };
        let requests: usize = phases.iter().map(|phase| phase.requests).sum();
        let lost: usize = phases.iter().map(|phase| phase.lost).sum();
        let plans: Vec<String> = phases
            .iter()
            .map(|phase| phase.adopted.to_string())
            .collect();
        rows.add_row([
            format!("{} Mbit/s", first.mbit),
            first.way.clone(),
            output::bytes(first.bytes_between),
            ms(&|phase| Some(phase.predicted_ms)),
            ms(&|phase| Some(phase.mean_ms)),
            ms(&|phase| Some(phase.p50_ms)),
            ms(&|phase| Some(phase.p95_ms)),
            ms(&|phase| phase.fixed.as_ref().map(|fixed| fixed.p95_ms)),
            median(&|phase| phase.over_static).map_or("–".into(), |ratio| format!("{ratio:.2}")),
            format!("{lost} of {requests}"),
            plans.join(" "),
            median(&|phase| phase.first_s).map_or("–".into(), |s| format!("{s:.1} s")),
        ]);
        said.insert(number, first.said.clone());
    }
    println!("{rows}");
    for (number, said) in said {
        for sentence in said {
            println!("phase {}: {sentence}", number + 1);
        }
    }
}
