//! What other models' requests do to the nodes and links that an arm may use.

use std::collections::BTreeMap;

use crate::{Problem, Stage, joint::service, problem::ArmProblem, station::Offered};

/// An arm with its branches.
pub type Lying<'a> = (&'a ArmProblem, &'a [Vec<Stage>]);

/// Work that comes to nodes and links beside what is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beside {
    nodes: BTreeMap<usize, Offered>,
    links: BTreeMap<(usize, usize), Offered>,
}

impl Beside {
    /// By model, of so many: what the arms of all other models do. Of a model's arms one is taken by each request, nobody
    /// knows which, so each counts with its share. Nothing at all where there is one model or nothing comes.
    /// O(models · (stages + links)).
    #[must_use]
    pub fn all(problem: &Problem, models: usize, arms: &[Lying<'_>]) -> Vec<Self> {
        if models < 2 || arms.iter().all(|(arm, _)| arm.arrival_rate <= 0.0) {
            return Vec::new();
        }
        let mut by_model: BTreeMap<usize, Vec<Lying<'_>>> = BTreeMap::new();
        for &(arm, branches) in arms {
            by_model.entry(arm.model).or_default().push((arm, branches));
        }
        let own = by_model
            .iter()
            .map(|(model, arms)| (*model, Self::of(problem, arms)));
        let own: Vec<(usize, Self)> = own.collect();
        let others = |model: usize| {
            let mut all = Self::default();
            for (_, own) in own.iter().filter(|(other, _)| *other != model) {
                all.add(own, 1.0);
            }
            all
        };
        (0..models).map(others).collect()
    }

    /// What one model's arms do, one of them for each request.
    pub(crate) fn of(problem: &Problem, arms: &[Lying<'_>]) -> Self {
        let (mut all, mut own) = (Self::default(), Self::default());
        for (arm, branches) in arms {
            all.take(problem, arm, branches);
        }
        if !arms.is_empty() {
            own.add(&all, 1.0 / arms.len() as f64);
        }
        own
    }

    /// What comes to a node.
    pub(crate) fn node(&self, node: usize) -> Offered {
        self.nodes.get(&node).copied().unwrap_or_default()
    }

    /// What comes to a link.
    pub(crate) fn link(&self, from: usize, to: usize) -> Offered {
        self.links.get(&(from, to)).copied().unwrap_or_default()
    }

    fn take(&mut self, problem: &Problem, arm: &ArmProblem, branches: &[Vec<Stage>]) {
        for (chain, stages) in arm.chains.iter().zip(branches) {
            for stage in stages {
                let seconds = service(chain, stage);
                *self.nodes.entry(stage.node).or_default() += Offered::by(arm, seconds);
            }
            let legs = chain.legs(stages, problem.center());
            for (from, to, crossing) in legs.filter(|(from, to, _)| from != to) {
                let way = problem.best_way(arm, from, to, crossing);
                let busy = problem.on_link(from, to, way);
                let offered = Offered::by(arm, busy).times(crossing.reach);
                *self.links.entry((from, to)).or_default() += offered;
            }
        }
    }

    /// Takes in a share of what else there is.
    pub(crate) fn add(&mut self, other: &Self, share: f64) {
        for (node, offered) in &other.nodes {
            *self.nodes.entry(*node).or_default() += offered.times(share);
        }
        for (link, offered) in &other.links {
            *self.links.entry(*link).or_default() += offered.times(share);
        }
    }
}
