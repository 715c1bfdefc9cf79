//! Plans from what a live system says that its arms cost on each of its nodes.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use splitplace_brain::forecast::{self, Backlog};
use splitplace_fleet::{Node, NodeId, Snapshot};
use splitplace_plan::{ArmPlan, Generation, ModelName, Plan, Strategy, lint::lint};

use super::{
    Planner, PlannerSettings, nothing,
    place::{Offer, coding, place},
    sound,
};

/// Plans with a production [`Strategy`] over measured costs.
pub struct Offered {
    /// The nodes that the offers' services are for, in that order. Others get no work.
    pub nodes: Vec<NodeId>,
    /// The arms that could be.
    pub offers: Vec<Offer>,
    /// Who places.
    pub strategy: Arc<dyn Strategy>,
    /// What may be chosen.
    pub settings: PlannerSettings,
    /// Share of their forecasts by which arms must get faster together before running ones are moved.
    pub inertia: f64,
}

impl fmt::Debug for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offered")
            .field("nodes", &self.nodes)
            .field("offers", &self.offers)
            .field("strategy", &self.strategy.name())
            .finish_non_exhaustive()
    }
}

impl Offered {
    /// The offers for these nodes only, whose places in the list are given.
    fn columns(&self, columns: &[usize]) -> Vec<Offer> {
        let mut offers = self.offers.clone();
        let chains = offers.iter_mut().flat_map(|one| &mut one.problem.chains);
        for segment in chains.flat_map(|chain| &mut chain.segments) {
            segment.service = columns.iter().map(|&at| segment.service[at]).collect();
        }
        // As live: a pin to a node that is gone binds nothing, and an operator's list of nodes has one less.
        let column = |node: &usize| columns.iter().position(|at| at == node);
        for bounds in offers.iter_mut().map(|one| &mut one.problem.bounds) {
            if let Some(nodes) = &mut bounds.nodes {
                *nodes = nodes.iter().filter_map(column).collect();
            }
            let pins = bounds.pins.iter();
            bounds.pins = pins
                .filter_map(|(number, node)| Some((*number, column(node)?)))
                .collect();
        }
        offers
    }
}

impl Planner for Offered {
    /// Costs what the strategy costs. The parent's arms stay where they are when the fleet still has
    /// room for them and nothing would be faster by [`Offered::inertia`].
    fn plan(&self, snapshot: &Snapshot, parent: &Plan, generation: Generation) -> Plan {
        let mut plan = Plan {
            generation,
            parent: Some(parent.generation),
            explanation: format!("placed by {}", self.strategy.name()),
            ..Plan::default()
        };
        let known = self.nodes.iter().enumerate();
        let (columns, nodes): (Vec<usize>, Vec<&Node>) = known
            .filter_map(|(at, id)| Some((at, snapshot.nodes.get(id)?)))
            .filter(|(_, node)| snapshot.is_alive(&node.id))
            .unzip();
        for offer in &self.offers {
            plan.models
                .entry(offer.model.clone())
                .or_insert_with(nothing);
        }
        let offers = self.columns(&columns);
        let by = (&*self.strategy, &self.settings);
        let placed = place(&offers, &nodes, coding(&nodes), snapshot, by, &mut 0);
        for (name, arms) in placed {
            plan.models.entry(name).or_insert_with(nothing).arms = arms;
        }
        sound(&mut plan, snapshot);
        self.stay(&plan, parent, snapshot).unwrap_or(plan)
    }
}

impl Offered {
    /// The parent's places under the new number, when they should be kept.
    fn stay(&self, new: &Plan, parent: &Plan, snapshot: &Snapshot) -> Option<Plan> {
        let mut old = new.clone();
        let forecast = |arm| forecast::response(arm, 1, &Backlog::default(), snapshot);
        let mut together = [Duration::ZERO; 2];
        for (name, model) in &mut old.models {
            for arm in &mut model.arms {
                let before = find(parent, name, &arm.name)?;
                together[0] += forecast(before);
                together[1] += arm.predicted;
                *arm = before.clone();
            }
        }
        let [before, after] = together.map(|time| time.as_secs_f64());
        if after < before * (1.0 - self.inertia) || !lint(&old, snapshot).is_empty() {
            return None;
        }
        old.explanation = "running arms stay where they are".into();
        Some(old)
    }
}

fn find<'p>(plan: &'p Plan, model: &ModelName, arm: &str) -> Option<&'p ArmPlan> {
    let models: &BTreeMap<ModelName, _> = &plan.models;
    models.get(model)?.arms.iter().find(|one| one.name == arm)
}
