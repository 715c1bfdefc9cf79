//! What an operator wants beyond what is known: nodes to be drained, arms to be taken or placed, loads and links to be
//! planned for.
//!
//! What is drained and pinned is in the store before it is acknowledged, and holds after a restart. Loads and links
//! that are assumed are not kept: a restarted centre plans by what it knows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use splitplace_fleet::{NodeId, NodeState, Snapshot};
use splitplace_plan::{ArmKind, ModelName};

use super::{Basis, Control, Duration};
use crate::{
    foresight::Question,
    planning::{self, ArmPin},
    watched::Operation,
};

/// Worlds that may be assumed at once.
const ASSUMED: usize = 32;
/// Fragments of one arm that can be given a node.
const NODES: usize = 64;
/// Pins and drained nodes together.
const ORDERS: usize = 4096;

/// What is kept of an operator's word, as JSON in the store. Fields are only ever added.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Kept {
    drained: BTreeSet<String>,
    /// Arms that requests take, by model.
    taken: BTreeMap<String, String>,
    places: Vec<KeptPlace>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct KeptPlace {
    model: String,
    arm: String,
    cuts: Option<BTreeSet<usize>>,
    nodes: BTreeMap<usize, String>,
}

/// What plans are to count on beside what is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    /// Nodes that plans do without.
    drained: BTreeSet<NodeId>,
    /// Arms that requests take while they can answer.
    taken: BTreeMap<ModelName, String>,
    /// Where arms are cut and placed.
    places: BTreeMap<(ModelName, String), ArmPin>,
    /// Requests a second to plan for.
    rates: BTreeMap<ModelName, f64>,
    /// Links to be planned as if they were so.
    links: Vec<Question>,
}

impl Orders {
    /// What the store has of them; nothing, and said so, when it cannot be read.
    pub(super) fn restore(text: &str) -> Self {
        let kept: Kept = serde_json::from_str(text).unwrap_or_else(|error| {
            tracing::error!(%error, "what operators have pinned and drained cannot be read from the store");
            Kept::default()
        });
        let places = kept.places.into_iter().map(|place| {
            let nodes = place.nodes.iter();
            let pin = ArmPin {
                cuts: place.cuts,
                nodes: nodes
                    .map(|(number, node)| (*number, NodeId::new(node)))
                    .collect(),
            };
            ((ModelName::new(&place.model), place.arm), pin)
        });
        let taken = kept.taken.into_iter();
        Self {
            drained: kept.drained.iter().map(|node| NodeId::new(node)).collect(),
            taken: taken
                .map(|(model, arm)| (ModelName::new(&model), arm))
                .collect(),
            places: places.collect(),
            ..Self::default()
        }
    }

    /// As the store keeps them.
    fn text(&self) -> String {
        let places = self.places.iter().map(|((model, arm), pin)| KeptPlace {
            model: model.to_string(),
            arm: arm.clone(),
            cuts: pin.cuts.clone(),
            nodes: pin
                .nodes
                .iter()
                .map(|(number, node)| (*number, node.to_string()))
                .collect(),
        });
        let taken = self.taken.iter();
        let kept = Kept {
            drained: self.drained.iter().map(ToString::to_string).collect(),
            taken: taken
                .map(|(model, arm)| (model.to_string(), arm.clone()))
                .collect(),
            places: places.collect(),
        };
        serde_json::to_string(&kept).expect("texts and numbers are JSON")
    }

    fn len(&self) -> usize {
        self.drained.len() + self.taken.len() + self.places.len()
    }

    /// Where arms are cut and placed.
    pub(super) const fn places(&self) -> &BTreeMap<(ModelName, String), ArmPin> {
        &self.places
    }

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
        let places = self.orders.places.iter();
        let drained = self.orders.drained.iter();
        Basis {
            start: self.start(),
            taken: self.orders.taken.clone(),
            pinned: places
                .map(|(key, pin)| (key.clone(), pinned(pin)))
                .collect(),
            drained: drained.map(ToString::to_string).collect(),
        }
    }

    /// Does what an operator wants; says what will follow. What has to outlive the process is in the store then.
    pub(super) fn operate(&mut self, what: Operation) -> Result<String, String> {
        let before = self.orders.clone();
        let cause = cause(&what);
        let told = self.order(what);
        if told.is_err() {
            self.orders = before;
            return told;
        }
        if ORDERS < self.orders.len() {
            self.orders = before;
            return Err(format!(
                "{ORDERS} pins and drained nodes are kept; take some away first"
            ));
        }
        let text = self.orders.text();
        if text != before.text()
            && let Err(error) = self.inner.store.put_orders(&text)
        {
            self.orders = before;
            return Err(error.to_string());
        }
        self.take_orders();
        self.because(cause);
        self.plan_within(Duration::ZERO);
        self.show();
        self.inner.changed();
        told
    }

    /// Has requests take the arms that they are to take.
    pub(super) fn take_orders(&self) {
        let mut models: BTreeSet<ModelName> = self.inner.models.read().keys().cloned().collect();
        models.extend(self.orders.taken.keys().cloned());
        let mut flow = self.inner.flow.lock();
        for model in models {
            let arm = self.orders.taken.get(&model).cloned();
            flow.brain.pin(model, arm);
        }
    }

    fn order(&mut self, what: Operation) -> Result<String, String> {
        match what {
            Operation::Drain { node } => self.drain(&node),
            Operation::Undrain { node } => {
                if !self.orders.drained.remove(&node[..]) {
                    return Err(format!("node {node} is not drained"));
                }
                Ok(format!("plans count on {node} again"))
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
                let told = format!("requests for {model} take {arm} while it can answer");
                self.orders.taken.insert(ModelName::new(&model), arm);
                Ok(told)
            }
            Operation::Place {
                model,
                arm,
                cuts,
                nodes,
            } => self.place(&model, arm, cuts, &nodes),
            Operation::Unpin { model, arm } => {
                let name = ModelName::new(&model);
                let of = |of: &String| arm.as_ref().is_none_or(|arm| arm == of);
                let before = self.orders.len();
                self.orders
                    .places
                    .retain(|(known, arm), _| *known != name || !of(arm));
                if self.orders.taken.get(&name).is_some_and(of) {
                    self.orders.taken.remove(&name);
                }
                if self.orders.len() == before && arm.is_some() {
                    return Err(format!("nothing of {model} is pinned so"));
                }
                Ok(format!(
                    "the policy chooses for {model}, and the planner where its arms are"
                ))
            }
            Operation::Apply { question } => self.apply(question),
            Operation::Withdraw => {
                self.orders.rates.clear();
                self.orders.links.clear();
                Ok("plans go by what is known".to_owned())
            }
            Operation::Load { model } | Operation::Unload { model } => {
                Err(format!("{model} is loaded and unloaded by the repository"))
            }
        }
    }

    /// Lays down where an arm is cut and where its fragments are.
    fn place(
        &mut self,
        model: &str,
        arm: String,
        cuts: Option<Vec<usize>>,
        nodes: &[Option<String>],
    ) -> Result<String, String> {
        if NODES < nodes.len() {
            return Err(format!("at most {NODES} fragments can be given a node"));
        }
        let nodes: BTreeMap<usize, &String> = nodes
            .iter()
            .enumerate()
            .filter_map(|(number, node)| Some((number, node.as_ref()?)))
            .collect();
        let served = self.inner.models.read().get(model).cloned();
        let served = served.ok_or_else(|| format!("model '{model}' is not served"))?;
        let ways = planning::arms_of(&served.loaded);
        let Some((_, variant, kind)) = ways.iter().find(|(name, _, _)| *name == arm) else {
            let names: Vec<&str> = ways.iter().map(|(name, _, _)| &name[..]).collect();
            return Err(format!(
                "{model} cannot run as '{arm}'; it can as: {}",
                names.join(", ")
            ));
        };
        if cuts.is_none() && nodes.is_empty() {
            return Err("name cuts, nodes, or both".into());
        }
        let segments = served.loaded.variants()[*variant].parts[0].segments();
        if let Some(cuts) = &cuts {
            if !planning::is_cut(*kind) {
                return Err(format!("{arm} runs in whole pieces and is not cut"));
            }
            let least = usize::from(*kind == ArmKind::Chain);
            let most = self.inner.config.planning.max_parts.saturating_sub(1);
            let is_rising = cuts.windows(2).all(|pair| pair[0] < pair[1]);
            let is_inside = cuts.iter().all(|cut| (1..segments).contains(cut));
            if !is_rising || !is_inside || !(least..=most).contains(&cuts.len()) {
                return Err(format!(
                    "{arm} has {segments} segments: {least} to {most} cuts, rising, each from 1 to {}",
                    segments.saturating_sub(1)
                ));
            }
        }
        if let Some(unknown) = nodes
            .values()
            .find(|node| !self.nodes.contains_key(&node[..]))
        {
            let known: Vec<&str> = self.nodes.keys().map(NodeId::as_str).collect();
            return Err(format!(
                "there is no node '{unknown}'; there are: {}",
                known.join(", ")
            ));
        }
        let pin = ArmPin {
            cuts: cuts.map(BTreeSet::from_iter),
            nodes: nodes
                .iter()
                .map(|(number, node)| (*number, NodeId::new(node)))
                .collect(),
        };
        let told = format!("{model}: {arm} is planned {}", pinned(&pin));
        self.orders.places.insert((ModelName::new(model), arm), pin);
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

/// What was laid down of a place, in words.
pub(super) fn pinned(pin: &ArmPin) -> String {
    let mut what = Vec::new();
    if let Some(cuts) = &pin.cuts {
        let cuts: Vec<String> = cuts.iter().map(ToString::to_string).collect();
        what.push(if cuts.is_empty() {
            "in one piece".to_owned()
        } else {
            format!("cut after segment {}", cuts.join(" and "))
        });
    }
    let nodes = pin.nodes.iter();
    what.extend(nodes.map(|(number, node)| format!("fragment {number} on {node}")));
    what.join(", ")
}

fn cause(what: &Operation) -> String {
    match what {
        Operation::Drain { node } => format!("an operator drains {node}"),
        Operation::Undrain { node } => format!("an operator takes {node} back"),
        Operation::Pin { model, arm } => format!("an operator pins {model} to {arm}"),
        Operation::Place { model, arm, .. } => format!("an operator places {arm} of {model}"),
        Operation::Unpin { model, .. } => format!("an operator unpins {model}"),
        Operation::Apply { .. } => "an operator applies what was asked of the twin".into(),
        Operation::Withdraw => "an operator withdraws what was assumed".into(),
        Operation::Load { model } => format!("{model} is loaded"),
        Operation::Unload { model } => format!("{model} is unloaded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_cannot_be_read_is_nothing() {
        let pin = ArmPin {
            cuts: Some(BTreeSet::from([3, 7])),
            nodes: BTreeMap::from([(1, NodeId::new("cellar"))]),
        };
        assert_eq!(
            pinned(&pin),
            "cut after segment 3 and 7, fragment 1 on cellar"
        );
        let orders = Orders {
            drained: BTreeSet::from([NodeId::new("attic")]),
            taken: BTreeMap::from([(ModelName::new("m"), "base/chain".to_owned())]),
            places: BTreeMap::from([((ModelName::new("m"), "base/chain".to_owned()), pin)]),
            rates: BTreeMap::from([(ModelName::new("m"), 5.0)]),
            links: Vec::new(),
        };
        let back = Orders::restore(&orders.text());
        assert_eq!(back.text(), orders.text());
        assert_eq!(
            (&back.drained, &back.taken),
            (&orders.drained, &orders.taken)
        );
        assert_eq!(back.places, orders.places);
        assert!(back.rates.is_empty(), "what was assumed is not kept");
        assert_eq!(Orders::restore("not JSON").len(), 0);
        assert_eq!(Orders::restore("{}").len(), 0);
    }
}
