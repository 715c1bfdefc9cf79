//! Every exit controller, made for a network at a station from its known inputs.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use splitplace_policy::exit::{
    AdaEe, AdaEeSettings, ExitPolicy, FixedExit, Joint, Nested, NestedSettings, Records, Station,
    Thresholds,
    backlog::backlog,
    data_driven::{self, LossModel},
    gaussian::Search,
    on_records,
    simulate::{Alone, Inputs, Node, Plan, simulate},
    single,
};

use super::{real, sources::Source};

/// Accuracy that a common threshold may cost when nobody asks for the load.
const TOLERANCE: f64 = 0.005;
/// Overheads among which the bandits' is chosen.
const OVERHEADS: [f64; 9] = [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 2.0];

/// A controller under the name that tables show.
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) policy: Box<dyn ExitPolicy>,
}

/// All of them, in the order of the tables; the joint controller comes last.
pub(crate) fn all(
    source: &Source,
    station: &Station,
    bins: usize,
    seed: u64,
) -> anyhow::Result<Vec<Named>> {
    let table = source.known.table(source.stages.clone(), bins)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (model, search) = (LossModel::Exact, Search::default());
    let found = data_driven::data_driven(&source.known, &table, station, model, &search, &mut rng)?;
    let named = |name, policy: Box<dyn ExitPolicy>| Named { name, policy };
    Ok(vec![
        named("last-exit", Box::new(FixedExit::last())),
        named("threshold", Box::new(common(&source.known))),
        named("knapsack", Box::new(single::knapsack(&table, station)?)),
        named("queueing-lp", Box::new(single::queueing(&table, station)?)),
        named("data-driven", Box::new(found)),
        named(
            "ada-ee",
            tuned(source, station, |overhead| {
                ada_ee(source, station, bins, overhead)
            })?,
        ),
        named(
            "nested",
            tuned(source, station, |overhead| {
                nested(source, station, bins, overhead)
            })?,
        ),
        named("backlog-lp", Box::new(backlog(&table, station)?)),
        named(
            "joint",
            Box::new(Joint::fitted(&source.known, &source.stages, bins, station)?),
        ),
    ])
}

/// The smallest threshold common to all exits that costs little accuracy.
fn common(known: &Records) -> Thresholds {
    let last = known.exits() - 1;
    let whole = known.accuracy(last);
    let levels = (0..=100).map(|level| f64::from(level) / 100.0);
    let costs_little =
        |&level: &f64| data_driven::replay(known, &vec![level; last]).accuracy >= whole - TOLERANCE;
    let mut levels = levels;
    Thresholds::new(vec![levels.find(costs_little).unwrap_or(1.01); last])
}

/// A bandit has an overhead, not a target: the one with most accuracy among those whose loss on the known inputs is
/// within the target, or with the least loss.
fn tuned(
    source: &Source,
    station: &Station,
    make: impl Fn(f64) -> anyhow::Result<Box<dyn ExitPolicy>>,
) -> anyhow::Result<Box<dyn ExitPolicy>> {
    let mut best: Option<(f64, f64, Box<dyn ExitPolicy>)> = None;
    for overhead in OVERHEADS {
        let policy = make(overhead)?;
        let exact = on_records(policy.as_ref(), &source.known, &source.stages, station)?;
        let excess = (exact.loss - station.target).max(0.0);
        let is_better = best.as_ref().is_none_or(|(least, most, _)| {
            excess < *least || excess <= *least && exact.accuracy > *most
        });
        if is_better {
            best = Some((excess, exact.accuracy, policy));
        }
    }
    let (_, _, policy) = best.ok_or_else(|| anyhow::anyhow!("no overheads to choose from"))?;
    Ok(policy)
}

/// What AdaEE has learnt after many requests: its best threshold.
fn ada_ee(
    source: &Source,
    station: &Station,
    bins: usize,
    overhead: f64,
) -> anyhow::Result<Box<dyn ExitPolicy>> {
    let table = source.known.table(source.stages.clone(), bins)?;
    let settings = AdaEeSettings {
        overhead,
        width: 0.1,
        ..AdaEeSettings::default()
    };
    let mut bandit = AdaEe::new(&table, settings);
    learn(&mut bandit, source, station);
    Ok(Box::new(Thresholds::new(vec![bandit.best(); table.last()])))
}

/// What the bandit with nested feedback has learnt: where going on is worth while. Frozen.
fn nested(
    source: &Source,
    station: &Station,
    bins: usize,
    overhead: f64,
) -> anyhow::Result<Box<dyn ExitPolicy>> {
    let table = source.known.table(source.stages.clone(), bins)?;
    let settings = NestedSettings {
        overhead,
        width: 0.02,
        ..NestedSettings::default()
    };
    let mut bandit = Nested::new(&table, settings);
    learn(&mut bandit, source, station);
    Ok(Box::new(bandit))
}

/// Serves requests made of known inputs, a fiftieth of them audited. What is learnt depends on the inputs, not
/// on the load.
fn learn(policy: &mut dyn ExitPolicy, source: &Source, station: &Station) {
    let nodes = [Node {
        stages: source.stages.clone(),
        capacity: station.capacity,
    }];
    let mut plan = Plan::new(&nodes, Inputs::Records(&source.known), station.arrivals);
    plan.requests = 10_000;
    plan.audit = 0.02;
    simulate(&plan, &mut Alone::single(policy, true));
}

/// Standard error of the mean difference of two values per input.
pub(crate) fn paired(a: &[f64], b: &[f64]) -> (f64, f64) {
    let n = real(a.len().max(2));
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let mean = differences.iter().sum::<f64>() / n;
    let square: f64 = differences.iter().map(|d| (d - mean) * (d - mean)).sum();
    (mean, (square / (n - 1.0) / n).sqrt())
}
