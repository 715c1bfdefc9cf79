//! What an operator wants beyond what is known: nodes to be drained, loads and links to be planned for.
//!
//! Kept in memory: a restarted centre plans by what it knows.

use std::collections::{BTreeMap, BTreeSet};

use splitplace_fleet::{NodeId, NodeState, Snapshot};
use splitplace_plan::ModelName;

use super::{Basis, Control, Duration};
use crate::{foresight::Question, watched::Operation};

/// Worlds that may be assumed at once.
const ASSUMED: usize = 32;

/// What plans are to count on beside what is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    /// Nodes that plans do without.
    drained: BTreeSet<NodeId>,
    /// Requests a second to plan for.
    rates: BTreeMap<ModelName, f64>,
    /// Links to be planned as if they were so.
    links: Vec<Question>,
}

impl Orders {
    /// Changes what the planner is told. Nodes that are drained finish what they have.
    pub(super) fn change(&self, snapshot: &mut Snapshot) {
        for node in &self.drained {
            if let Some(node) = snapshot.nodes.get_mut(node)
                && node.state == NodeState::Alive
            {
                node.state = NodeState::Leaving;
            }
        }
        for link in &self.links {
            link.change(snapshot);
        }
    }

    pub(super) fn is_drained(&self, node: &NodeId) -> bool {
        self.drained.contains(node)
    }

    pub(super) fn rates(&self) -> BTreeMap<ModelName, f64> {
        self.rates.clone()
    }

    /// In words, for the dashboard.
    pub(super) fn told(&self) -> Vec<String> {
        let name = |end: &str| {
            if end.is_empty() {
                "the centre".to_owned()
            } else {
                end.to_owned()
            }
        };
        let rates = self
            .rates
            .iter()
            .map(|(model, rate)| format!("{rate:.1} requests a second for {model}"));
        let links = self.links.iter().filter_map(|link| match link {
            Question::Link {
                from,
                to,
                rate_factor,
                delay_ms,
            } => Some(format!(
                "links between {} and {} at {rate_factor} times their rate, {delay_ms} ms later",
                name(from),
                name(to)
            )),
            Question::RemoveNode { .. } | Question::Load { .. } => None,
        });
        rates.chain(links).collect()
    }
}

impl Control {
    /// A copy of everything that a plan would be made from.
    pub(super) fn basis(&self) -> Basis {
        Basis {
            start: self.start(),
        }
    }

    /// Does what an operator wants; says what will follow.
    pub(super) fn operate(&mut self, what: Operation) -> Result<String, String> {
        let told = match what {
            Operation::Drain { node } => self.drain(&node)?,
            Operation::Undrain { node } => {
                if !self.orders.drained.remove(&node[..]) {
                    return Err(format!("node {node} is not drained"));
                }
                format!("plans count on {node} again")
            }
            Operation::Pin { model, arm } => {
                let planned = self.plan.models.get(&model[..]);
                let arms = planned.map_or(&[][..], |planned| &planned.arms);
                if !arms.iter().any(|planned| planned.name == arm) {
                    let names: Vec<&str> = arms.iter().map(|arm| &arm.name[..]).collect();
                    return Err(format!(
                        "{model} has no arm '{arm}' in the plan in force; it has: {}",
                        names.join(", ")
                    ));
                }
                let mut flow = self.inner.flow.lock();
                flow.brain.pin(ModelName::new(&model), Some(arm.clone()));
                format!("requests for {model} take {arm} while it can answer")
            }
            Operation::Unpin { model } => {
                let mut flow = self.inner.flow.lock();
                flow.brain.pin(ModelName::new(&model), None);
                format!("the policy chooses for {model}")
            }
            Operation::Apply { question } => self.apply(question)?,
            Operation::Withdraw => {
                self.orders.rates.clear();
                self.orders.links.clear();
                "plans go by what is known".to_owned()
            }
            Operation::Load { model } | Operation::Unload { model } => {
                return Err(format!("{model} is loaded and unloaded by the repository"));
            }
        };
        self.plan_within(Duration::ZERO);
        self.show();
        self.inner.changed();
        Ok(told)
    }

    fn drain(&mut self, node: &str) -> Result<String, String> {
        let Some(known) = self.nodes.get(node) else {
            return Err(format!("there is no node '{node}'"));
        };
        let name = known.node.id.clone();
        let is_left = |id: &NodeId| *id != name && !self.orders.drained.contains(id);
        let mut alive = self
            .nodes
            .iter()
            .filter(|(_, known)| known.node.state == NodeState::Alive);
        if !alive.any(|(id, _)| is_left(id)) {
            return Err(format!(
                "{node} is the last node that plans can count on; add another one first"
            ));
        }
        self.orders.drained.insert(name);
        Ok(format!(
            "{node} is drained: its fragments move, and it finishes what it has"
        ))
    }

    fn apply(&mut self, question: Question) -> Result<String, String> {
        question.check(&self.snapshot(false))?;
        match &question {
            Question::RemoveNode { node } => self.drain(node),
            Question::Load { factor, model } => {
                let names: Vec<ModelName> = self.inner.models.read().keys().cloned().collect();
                let wanted =
                    |name: &ModelName| model.as_deref().is_none_or(|model| model == name.as_str());
                let mut told = Vec::new();
                for name in names.into_iter().filter(wanted) {
                    let rate = factor * self.inner.seen_rate(&name);
                    if 0.0 < rate {
                        told.push(format!("{rate:.1} requests a second for {name}"));
                        self.orders.rates.insert(name, rate);
                    }
                }
                if told.is_empty() {
                    return Err(
                        "nobody asks for such a model now: there is no load to scale".into(),
                    );
                }
                Ok(format!("plans are made for {}", told.join(", ")))
            }
            Question::Link { from, to, .. } => {
                let is_same = |known: &Question| {
                    matches!(known, Question::Link { from: f, to: t, .. }
                        if (f, t) == (from, to) || (f, t) == (to, from))
                };
                let mut links = self.orders.links.clone();
                links.retain(|known| !is_same(known));
                if ASSUMED <= links.len() {
                    return Err(format!(
                        "{ASSUMED} links are assumed otherwise already; withdraw them first"
                    ));
                }
                links.push(question);
                self.orders.links = links;
                Ok("plans are made as if the link were so".to_owned())
            }
        }
    }
}
