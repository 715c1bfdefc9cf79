//! The distributed controller for recorded inputs: the price from simulation, the tables from what reaches each exit.
//!
//! As for one station ([`Joint::fitted`](super::Joint::fitted)), bins of real inputs are no Markov chain, and what a
//! controller stops early is missing later. Table and controller are made in turns. Loss is measured by simulation
//! with the same requests for every price, which takes away the model's pessimism about what passes between nodes.

use super::{
    ExitError, Line, Priced, Records,
    simulate::{Inputs, Plan, Run, simulate},
};

/// Rounds of table and controller.
const ROUNDS: usize = 3;
/// Standard errors by which stopping must be better than going on.
pub const CAUTION: f64 = 1.5;
/// Runs with different seeds that one measurement takes.
const RUNS: u64 = 3;

/// Mean loss (or share of missed deadlines, when there is a deadline) and accuracy of a controller on a plan.
#[must_use]
pub fn measure(plan: &Plan<'_>, priced: &Priced) -> (f64, f64, Vec<Run>) {
    let of = |number| {
        let mut plan = plan.clone();
        plan.seed = plan.seed.wrapping_add(number);
        simulate(&plan, &mut priced.clone())
    };
    let runs: Vec<Run> = (0..RUNS).map(of).collect();
    #[expect(clippy::cast_precision_loss, reason = "a few runs")]
    let mean = |of: fn(&Run) -> f64| runs.iter().map(of).sum::<f64>() / RUNS as f64;
    let (loss, accuracy) = (mean(Run::missed), mean(Run::accuracy));
    (loss, accuracy, runs)
}

/// The controller of a line for recorded inputs, so that the share that `plan` loses (or answers later than its
/// deadline) is at most `target`. The plan's inputs are replaced by the records.
///
/// # Errors
/// When the line makes no sense, or there are no records.
pub fn fitted(
    records: &Records,
    bins: usize,
    plan: &Plan<'_>,
    target: f64,
) -> Result<Priced, ExitError> {
    let stages: Vec<_> = plan
        .nodes
        .iter()
        .flat_map(|node| node.stages.clone())
        .collect();
    let mut weights = vec![1.0; records.len() * records.exits()];
    let mut plan = plan.clone();
    plan.inputs = Inputs::Records(records);
    let mut best: Option<(f64, f64, Priced)> = None;
    for _ in 0..ROUNDS {
        let table = records.cautious_table(stages.clone(), bins, &weights, CAUTION)?;
        let line = Line {
            network: &table,
            nodes: plan.nodes,
            arrivals: plan.arrivals,
        };
        plan.trace = false;
        let priced = Priced::tuned(&line, target, plan.deadline, |priced| {
            measure(&plan, priced).0
        })?;
        plan.trace = true;
        let (loss, accuracy, runs) = measure(&plan, &priced);
        // One more of each, so that what was not seen in these runs is not forgotten.
        let total: f64 = runs.iter().map(|run| super::real(run.served)).sum();
        let scale = super::real(records.len()) / total.max(1.0);
        for (at, weight) in weights.iter_mut().enumerate() {
            let seen: f64 = runs.iter().map(|run| run.reach[at]).sum();
            *weight = f64::midpoint(*weight, seen * scale);
        }
        let excess = (loss - target).max(0.0);
        let is_better = best
            .as_ref()
            .is_none_or(|(least, most, _)| excess < *least || excess <= *least && accuracy > *most);
        if is_better {
            best = Some((excess, accuracy, priced));
        }
    }
    best.map(|(_, _, priced)| priced).ok_or(ExitError::Program)
}
