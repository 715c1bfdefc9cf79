//! What a distributed controller is measured against: nodes that know nothing of each other, and thresholds that
//! know nothing of the backlog.

use rand::Rng;

use super::{
    ExitError, ExitTable, Intent, Records, Rule, StopTable,
    chain::Costs,
    data_driven::quantile,
    gaussian::{Search, maximise},
    line::{Line, hope, share_of},
    rule::Looks,
    simulate::{Controller, Moment},
};
use crate::fixed::unit;

/// What losing more than the target costs a static setting, in accuracy per loss.
const PENALTY: f64 = 100.0;

/// Joint control of backlog and confidence on each node by itself: every node keeps its own loss within an equal
/// share of the target and hopes for the accuracy of the network's end for what it sends on. It does not know
/// what the next node can take.
#[derive(Clone, Debug)]
pub struct Apart {
    tables: Vec<StopTable>,
    /// By node: bins at its border that are sent on.
    goes: Vec<Vec<bool>>,
    edges: Vec<Vec<f64>>,
}

impl Apart {
    /// For a line and the target of the whole of it.
    ///
    /// # Errors
    /// When line and network do not fit.
    pub fn new(line: &Line<'_>, target: f64) -> Result<Self, ExitError> {
        line.check()?;
        let mut locals = line.begin();
        let own = share_of(target, line.nodes.len());
        let mut goes: Vec<Vec<bool>> = vec![Vec::new(); locals.len()];
        // Flows go down the line only, so one pass settles them.
        for node in 0..locals.len() {
            let (_, last) = line.exits(node);
            let bins = line.network.bins(last);
            let hope = hope(line.network, last);
            let pairs = || hope.iter().zip(&bins.correct);
            goes[node] = pairs()
                .map(|(h, a)| last < line.network.last() && h > a)
                .collect();
            let leave = pairs().map(|(h, a)| h.max(*a)).collect();
            let process = line.process(node, &locals[node], leave, false)?;
            let costs = |price: f64| Costs {
                lost: price,
                ..Costs::default()
            };
            let mut best = process.improve(&costs(0.0), locals[node].table.clone());
            if best.run.loss() > own {
                let (mut low, mut high) = (1e-3_f64.ln(), 1e6_f64.ln());
                best = process.improve(&costs(high.exp()), best.table);
                for _ in 0..40 {
                    let middle = f64::midpoint(low, high);
                    let solution = process.improve(&costs(middle.exp()), best.table.clone());
                    if solution.run.loss() <= own {
                        (best, high) = (solution, middle);
                    } else {
                        low = middle;
                    }
                }
            }
            let share: Vec<f64> = goes[node].iter().map(|&g| f64::from(u8::from(g))).collect();
            Line::settle(&process, &best, &share, &mut locals[node]);
            line.flow(&mut locals, 1.0);
        }
        Ok(Self {
            tables: locals.into_iter().map(|local| local.table).collect(),
            goes,
            edges: (0..line.network.exits())
                .map(|e| line.network.bins(e).edges.clone())
                .collect(),
        })
    }
}

impl Apart {
    /// The rule of each node, with `table` for what confidences promise.
    #[must_use]
    pub fn rules(&self, table: &ExitTable, line: &Line<'_>) -> Vec<Rule> {
        let of = |node: usize| {
            let (first, last) = line.exits(node);
            let is_end = node + 1 == line.nodes.len();
            let exits = first..if is_end { table.last() } else { last + 1 };
            Rule::over("apart", table, exits, |exit| {
                let edges = self.edges[exit].clone();
                let looks = if exit == last && !is_end {
                    let stop = self.goes[node]
                        .iter()
                        .map(|goes| f64::from(u8::from(!goes)));
                    Looks::Present(stop.collect())
                } else {
                    Looks::Present(self.tables[node].rows(exit))
                };
                (edges, looks)
            })
        };
        (0..line.nodes.len()).map(of).collect()
    }
}

impl Controller for Apart {
    fn begin(&mut self, _: usize, _: usize, _: &mut dyn Rng) -> Intent {
        Intent::default()
    }

    fn stop(&mut self, moment: &Moment, rng: &mut dyn Rng) -> bool {
        let at = &moment.at;
        if moment.is_border {
            let bin = self.edges[at.exit].partition_point(|&edge| edge <= at.confidence);
            return !self.goes[moment.node][bin];
        }
        let p = self.tables[moment.node].at(at.exit, at.confidence, at.present);
        p >= 1.0 || p > 0.0 && unit(rng) < p
    }
}

/// One threshold for each exit of a line, whatever the backlog anywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Static(pub Vec<f64>);

impl Static {
    /// The best for a target by Bayesian optimisation over quantiles of each exit's confidence;
    /// `measure` says accuracy and loss of a setting, by simulation for instance.
    pub fn found(
        records: &Records,
        target: f64,
        search: &Search,
        rng: &mut dyn Rng,
        mut measure: impl FnMut(&mut Self) -> (f64, f64),
    ) -> Self {
        let last = records.exits() - 1;
        let sorted: Vec<Vec<f64>> = (0..last).map(|exit| records.sorted(exit)).collect();
        let setting = |point: &[f64]| {
            Self(
                point
                    .iter()
                    .zip(&sorted)
                    .map(|(&u, sorted)| quantile(sorted, u))
                    .collect(),
            )
        };
        // From "first exit" to "never early", and a few in between.
        let levels = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
        let first: Vec<Vec<f64>> = levels.iter().map(|&u| vec![u; last]).collect();
        let (point, _) = maximise(last, &first, search, rng, |point| {
            let (accuracy, loss) = measure(&mut setting(point));
            accuracy - PENALTY * (loss - target).max(0.0)
        });
        setting(&point)
    }
}

impl Controller for Static {
    fn begin(&mut self, _: usize, _: usize, _: &mut dyn Rng) -> Intent {
        Intent::default()
    }

    fn stop(&mut self, moment: &Moment, _: &mut dyn Rng) -> bool {
        let threshold = self.0.get(moment.at.exit);
        threshold.is_some_and(|&t| moment.at.confidence >= t)
    }
}
