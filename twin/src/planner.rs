//! From models and a fleet to a plan, with the production strategies.
//!
//! The live planner (`orchestrator/src/planning`) reads models from ONNX files and times from
//! measurements; here both are numbers: [`Strategic`] has them from a scenario, [`Offered`] from a live
//! system. What decides is the same: [`Problem`](splitplace_plan::Problem), a
//! [`Strategy`](splitplace_plan::Strategy), the linter, the brain's own forecast.

mod offered;
mod place;
mod strategic;

use std::collections::BTreeSet;

use splitplace_fleet::Snapshot;
use splitplace_plan::{ArmKind, ArmPlan, Generation, ModelPlan, Plan, lint::lint};

pub use offered::Offered;
pub use place::Offer;
pub use strategic::{EarlyExit, Model, Part, Segment, Strategic, Variant};

/// What may be chosen about planning; the defaults are the live planner's.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannerSettings {
    /// Most fragments of a chain.
    pub max_parts: usize,
    /// How much slower a node counts that another arm uses already, as a share.
    pub spread: f64,
    /// Kinds of arms that may be planned.
    pub kinds: BTreeSet<ArmKind>,
    /// Bytes that a fragment takes beside weights and activations.
    pub overhead_bytes: u64,
    /// Of the strategy's choices.
    pub seed: u64,
}

impl Default for PlannerSettings {
    fn default() -> Self {
        Self {
            max_parts: 4,
            spread: 0.05,
            kinds: BTreeSet::from([
                ArmKind::Whole,
                ArmKind::Chain,
                ArmKind::Semantic,
                ArmKind::Exits,
            ]),
            overhead_bytes: 0,
            seed: 0,
        }
    }
}

/// Makes the next plan of a fleet. The same arguments give the same plan.
pub trait Planner {
    /// A plan for what is alive, numbered `generation`; an arm that has no place is left out.
    fn plan(&self, snapshot: &Snapshot, parent: &Plan, generation: Generation) -> Plan;
}

/// The same plan whatever happens: its arms, as far as their nodes are alive.
pub struct Fixed(pub Plan);

impl Planner for Fixed {
    fn plan(&self, snapshot: &Snapshot, parent: &Plan, generation: Generation) -> Plan {
        let mut plan = self.0.clone();
        plan.generation = generation;
        plan.parent = Some(parent.generation);
        for model in plan.models.values_mut() {
            let is_there = |arm: &ArmPlan| arm.nodes().iter().all(|node| snapshot.is_alive(node));
            model.arms.retain(is_there);
        }
        plan
    }
}

/// A model without an arm.
fn nothing() -> ModelPlan {
    ModelPlan {
        version: "1".into(),
        arms: Vec::new(),
    }
}

/// Takes every arm out of a plan that the linter finds fault with, and says so.
fn sound(plan: &mut Plan, snapshot: &Snapshot) {
    let findings = lint(plan, snapshot);
    if !findings.is_empty() {
        let models = plan.models.values_mut();
        models.for_each(|model| model.arms.clear());
        plan.explanation = format!("an unsound plan was not taken: {findings:?}");
    }
}
