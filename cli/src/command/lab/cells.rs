//! One cell of the comparison: a network, arrivals, a controller; exact, simulated, and, when it was run, live.

use serde::Serialize;
use splitplace_policy::exit::{
    FixedExit, Station,
    evaluate::Evaluation,
    seen::{on_records, trace_on_records},
    simulate::{Alone, Inputs, Node, Plan, Run, simulate, summary},
};
use splitplace_queueing::Arrivals;

use super::{
    controllers::{self, paired},
    sources::Source,
};

/// Standard errors within which exact and simulated must agree.
const ERRORS: f64 = 3.0;

/// A mean with its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Mean {
    pub(crate) mean: f64,
    pub(crate) error: f64,
}

impl Mean {
    pub(crate) fn of(runs: &[Run], of: impl Fn(&Run) -> f64) -> Self {
        let (mean, error) = summary(&runs.iter().map(of).collect::<Vec<_>>());
        Self { mean, error }
    }

    /// Whether an exact number is within three errors; what is rarer than `rare` may not be seen.
    fn agrees(&self, exact: f64, rare: f64) -> bool {
        (self.mean - exact).abs() <= ERRORS * self.error + rare
    }
}

/// What a controller achieves, computed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Exact {
    pub(crate) accuracy: f64,
    pub(crate) loss: f64,
    pub(crate) response_s: f64,
    pub(crate) mean_exit: f64,
    pub(crate) exits: Vec<f64>,
}

/// What it achieved in simulation.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Simulated {
    pub(crate) accuracy: Mean,
    pub(crate) loss: Mean,
    pub(crate) response_s: Mean,
    pub(crate) response_p95_s: Mean,
    pub(crate) mean_exit: Mean,
}

/// What it achieved on workers, through the public API with real pictures.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Live {
    pub(crate) requests: u64,
    pub(crate) accuracy: f64,
    pub(crate) loss: f64,
    pub(crate) response_s: f64,
    pub(crate) response_p95_s: f64,
    pub(crate) mean_exit: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) package: String,
    pub(crate) arrivals: &'static str,
    /// Offered load if every request ran to the last exit.
    pub(crate) load: f64,
    pub(crate) rate: f64,
    pub(crate) policy: &'static str,
    /// Whether the target can be kept at all: by the first exit for everybody.
    pub(crate) feasible: bool,
    pub(crate) exact: Exact,
    pub(crate) simulated: Simulated,
    /// Exact and simulated are the same within three standard errors.
    pub(crate) agree: bool,
    /// Accuracy of the joint controller less this one's, over the fresh inputs, with its error; for those that
    /// lose no more than the target or the joint controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) joint_gains: Option<Mean>,
}

/// How cells are computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) places: usize,
    pub(crate) target: f64,
    /// Share of the target that controllers are made to stay below it.
    pub(crate) margin: f64,
    pub(crate) bins: usize,
    pub(crate) requests: usize,
    pub(crate) runs: u64,
    pub(crate) seed: u64,
}

/// All controllers on one network under one process at one load.
pub(crate) fn compute(
    source: &Source,
    process: (&'static str, Arrivals),
    load: f64,
    settings: &Settings,
) -> anyhow::Result<Vec<Cell>> {
    let (name, arrivals) = process;
    let station = Station {
        arrivals,
        capacity: settings.places,
        target: settings.target,
    };
    let nodes = [Node {
        stages: source.stages.clone(),
        capacity: settings.places,
    }];
    let mut plan = Plan::new(&nodes, Inputs::Records(&source.fresh), arrivals);
    plan.requests = settings.requests;
    plan.warm_up = settings.requests / 20;
    // Other requests in every cell, the same ones for its controllers.
    let seed = settings
        .seed
        .wrapping_add(cell_seed(&source.name, name, load));
    let first = on_records(&FixedExit::new(0), &source.fresh, &source.stages, &station)?;
    let mut cells = Vec::new();
    let mut correct: Vec<Vec<f64>> = Vec::new();
    let design = Station {
        target: settings.target * (1.0 - settings.margin),
        ..station
    };
    for mut named in controllers::all(source, &design, settings.bins, settings.seed)? {
        let policy = named.policy.as_mut();
        let (exact, trace) = trace_on_records(policy, &source.fresh, &source.stages, &station)?;
        let runs: Vec<Run> = (0..settings.runs)
            .map(|run| {
                let mut plan = plan.clone();
                plan.seed = seed.wrapping_add(run);
                simulate(&plan, &mut Alone::single(policy, false))
            })
            .collect();
        let cell = Cell {
            package: source.name.clone(),
            arrivals: name,
            load,
            rate: arrivals.rate(),
            policy: named.name,
            feasible: first.loss <= settings.target,
            agree: agree(&exact, &runs, settings),
            exact: Exact {
                accuracy: exact.accuracy,
                loss: exact.loss,
                response_s: exact.response,
                mean_exit: exact.mean_exit(),
                exits: exact.exits,
            },
            simulated: Simulated {
                accuracy: Mean::of(&runs, Run::accuracy),
                loss: Mean::of(&runs, Run::loss),
                response_s: Mean::of(&runs, Run::response),
                response_p95_s: Mean::of(&runs, |run| run.quantile(0.95)),
                mean_exit: Mean::of(&runs, Run::mean_exit),
            },
            joint_gains: None,
        };
        cells.push(cell);
        correct.push(trace.correct);
    }
    compare(&mut cells, &correct, settings.target);
    Ok(cells)
}

/// A number for a cell (FNV-1a), so that cells do not share their luck.
fn cell_seed(package: &str, arrivals: &str, load: f64) -> u64 {
    let bytes = package
        .bytes()
        .chain(arrivals.bytes())
        .chain(load.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn agree(exact: &Evaluation, runs: &[Run], settings: &Settings) -> bool {
    let all = settings.runs.max(1) as f64 * super::real(settings.requests.max(1));
    let same = |exact: f64, of: fn(&Run) -> f64, rare: f64| Mean::of(runs, of).agrees(exact, rare);
    // Where nothing is left to chance, rounding is all that differs.
    same(exact.accuracy, Run::accuracy, 1e-6)
        && same(exact.loss, Run::loss, 3.0 / all)
        && same(exact.response, Run::response, 1e-6 * exact.response)
        && same(exact.mean_exit(), Run::mean_exit, 1e-6)
}

/// The joint controller, which comes last, against those that keep to the target as it does.
fn compare(cells: &mut [Cell], correct: &[Vec<f64>], target: f64) {
    let Some((joint, others)) = cells.split_last_mut() else {
        return;
    };
    let allowed = target.max(joint.exact.loss) * 1.0001;
    for (cell, own) in others.iter_mut().zip(correct) {
        if cell.exact.loss <= allowed {
            let (mean, error) = paired(&correct[correct.len() - 1], own);
            cell.joint_gains = Some(Mean { mean, error });
        }
    }
}

/// Where the joint controller is worse than another one that loses no more, beyond three standard errors.
pub(crate) fn worse(cells: &[Cell]) -> Vec<&Cell> {
    let is_worse = |cell: &&Cell| {
        let gains = cell.joint_gains;
        gains.is_some_and(|gain| gain.mean < -ERRORS * gain.error - 1e-9)
    };
    cells.iter().filter(is_worse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::lab::sources;

    #[test]
    fn a_cell_is_the_same_exact_and_simulated_and_nobody_beats_the_joint_controller() {
        let source = sources::made_up(300).unwrap();
        let settings = Settings {
            places: 6,
            target: 0.02,
            margin: 0.1,
            bins: 6,
            requests: 4_000,
            runs: 12,
            seed: 1,
        };
        let arrivals = Arrivals::poisson(5.0).unwrap();
        let cells = compute(&source, ("poisson", arrivals), 1.8, &settings).unwrap();
        assert_eq!(cells.len(), 9);
        // Four numbers each; one in some hundred is beyond three errors by chance.
        assert!(cells.iter().filter(|cell| cell.agree).count() >= 7);
        assert!(worse(&cells).is_empty());
        let joint = &cells[8];
        assert_eq!(joint.policy, "joint");
        assert!(joint.exact.loss < 0.04, "{}", joint.exact.loss);
    }
}
