//! The distributed controller on a line of nodes, against nodes apart and static thresholds.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use splitplace_policy::exit::{
    Line,
    apart::{Apart, Static},
    fitted_line,
    gaussian::Search,
    simulate::{Controller, Inputs, Node, Plan, Run, simulate},
};
use splitplace_queueing::Arrivals;

use super::{
    cells::{Mean, Settings},
    real,
    sources::Source,
};

/// Requests of one run while a controller is sought.
const SEARCH: usize = 10_000;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct LineCell {
    pub(crate) package: String,
    pub(crate) arrivals: &'static str,
    /// Offered load of the busiest node if every request ran to the last exit.
    pub(crate) load: f64,
    pub(crate) rate: f64,
    pub(crate) nodes: usize,
    pub(crate) policy: &'static str,
    pub(crate) accuracy: Mean,
    pub(crate) loss: Mean,
    pub(crate) response_s: Mean,
    pub(crate) response_p95_s: Mean,
    pub(crate) mean_exit: Mean,
    /// Price of a lost request, in correct answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) price: Option<f64>,
    /// Accuracy of the distributed controller less this one's, run by run, when this one keeps to the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priced_gains: Option<Mean>,
}

/// Exits spread evenly over nodes; `slower` says how many times longer each node takes, the last one for all further.
pub(crate) fn spread(source: &Source, nodes: usize, places: usize, slower: &[f64]) -> Vec<Node> {
    let exits = source.stages.len();
    let nodes = nodes.clamp(1, exits);
    let bound = |node: usize| node * exits / nodes;
    let node = |node: usize| {
        let factor = slower.get(node).or(slower.last()).copied().unwrap_or(1.0);
        let stages = source.stages[bound(node)..bound(node + 1)].iter();
        Node {
            stages: stages.map(|stage| stage.scaled(factor)).collect(),
            capacity: places,
        }
    };
    (0..nodes).map(node).collect()
}

/// Seconds of the busiest node for a request that runs to the end.
pub(crate) fn busiest(nodes: &[Node]) -> f64 {
    let time = |node: &Node| node.stages.iter().map(|stage| stage.mean()).sum::<f64>();
    nodes.iter().map(time).fold(0.0, f64::max)
}

pub(crate) fn compute(
    source: &Source,
    process: (&'static str, Arrivals),
    load: f64,
    nodes: &[Node],
    settings: &Settings,
) -> anyhow::Result<Vec<LineCell>> {
    let (name, arrivals) = process;
    let mut plan = Plan::new(nodes, Inputs::Records(&source.known), arrivals);
    plan.requests = SEARCH;
    // Not the seeds that controllers are judged with.
    plan.seed = settings.seed.wrapping_add(1 << 32);
    let target = settings.target * (1.0 - settings.margin);
    let priced = fitted_line::fitted(&source.known, settings.bins, &plan, target)?;
    let mut deaf = priced.clone();
    deaf.hears = false;
    let (stages, caution) = (source.stages.clone(), fitted_line::CAUTION);
    let table = source
        .known
        .cautious_table(stages, settings.bins, &[], caution)?;
    let line = Line {
        network: &table,
        nodes,
        arrivals,
    };
    let apart = Apart::new(&line, target)?;
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    let known = &source.known;
    let search = Search::default();
    let fixed = Static::found(known, target, &search, &mut rng, |setting| {
        let runs = runs(&plan, setting, 2);
        (
            Mean::of(&runs, Run::accuracy).mean,
            Mean::of(&runs, Run::loss).mean,
        )
    });
    plan.inputs = Inputs::Records(&source.fresh);
    plan.requests = settings.requests;
    plan.seed = settings.seed;
    let price = Some(priced.price);
    let mut controllers: Vec<(&'static str, Box<dyn Controller>, Option<f64>)> = vec![
        ("priced", Box::new(priced), price),
        ("priced, mean offers", Box::new(deaf), price),
        ("nodes apart", Box::new(apart), None),
        ("static thresholds", Box::new(fixed), None),
    ];
    let mut cells: Vec<LineCell> = Vec::new();
    let mut first: Vec<f64> = Vec::new();
    for (policy, controller, price) in &mut controllers {
        let runs = runs(&plan, controller.as_mut(), settings.runs);
        let loss = Mean::of(&runs, Run::loss);
        let accuracies: Vec<f64> = runs.iter().map(Run::accuracy).collect();
        if first.is_empty() {
            first.clone_from(&accuracies);
        }
        let keeps = loss.mean <= settings.target * 1.02 + 3.0 * loss.error;
        let gains = (keeps && !cells.is_empty()).then(|| {
            let (mean, error) = super::controllers::paired(&first, &accuracies);
            Mean { mean, error }
        });
        cells.push(LineCell {
            package: source.name.clone(),
            arrivals: name,
            load,
            rate: arrivals.rate(),
            nodes: nodes.len(),
            policy,
            accuracy: Mean::of(&runs, Run::accuracy),
            loss,
            response_s: Mean::of(&runs, Run::response),
            response_p95_s: Mean::of(&runs, |run| run.quantile(0.95)),
            mean_exit: Mean::of(&runs, Run::mean_exit),
            price: *price,
            priced_gains: gains,
        });
    }
    Ok(cells)
}

fn runs(plan: &Plan<'_>, controller: &mut dyn Controller, count: u64) -> Vec<Run> {
    let of = |number| {
        let mut plan = plan.clone();
        plan.seed = plan.seed.wrapping_add(number);
        simulate(&plan, controller)
    };
    (0..count).map(of).collect()
}

/// Mean number of exits of a node, for people.
pub(crate) fn shape(nodes: &[Node]) -> String {
    let counts: Vec<String> = nodes
        .iter()
        .map(|node| node.stages.len().to_string())
        .collect();
    let mean = real(nodes.iter().map(|node| node.capacity).sum()) / real(nodes.len().max(1));
    format!("{} exits, {mean:.0} places each", counts.join(" + "))
}
