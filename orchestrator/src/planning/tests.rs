//! Small fleets and small networks, planned, broken and planned again.

mod choices;
mod families;
mod laws;
mod running;
mod several;

use std::time::Duration;

use splitplace_fleet::{Link, Links, Node, NodeId, NodeState, Place, Timestamp};
use splitplace_onnx::Costs;
use splitplace_plan::{ArmPlan, Exact, Outcome, Placed, Problem, Solution, Stage};
use splitplace_twin::strategies::{STRATEGIES, by_name};

use super::*;
use crate::{
    catalog::{
        LoadSettings,
        tests::{rich, sample},
    },
    measured::{MeasuredSettings, Ran, ServiceTime},
};

/// A world to plan in, with what most tests leave alone.
struct World {
    parent: Plan,
    snapshot: Snapshot,
    wishes: Vec<Wish>,
    measured: Measured,
    settings: PlanningSettings,
}

impl World {
    /// Nodes of these names, millions of multiply-accumulates a second and kilobytes; the sample model.
    fn new(nodes: &[(&str, f64, u64)]) -> Self {
        let mut snapshot = Snapshot::empty(Timestamp::ZERO);
        for &(name, mega_macs, kilobytes) in nodes {
            let node = Node {
                id: name.into(),
                state: NodeState::Alive,
                cores: 1,
                macs_per_second: mega_macs * 1e6,
                memory_bytes: kilobytes * 1_000,
                labels: BTreeMap::new(),
                emulated: false,
            };
            snapshot.nodes.insert(node.id.clone(), node);
        }
        let loaded = sample(&LoadSettings::default(), &[8, 16, 16, 8]);
        Self {
            parent: Plan::default(),
            snapshot,
            wishes: vec![Wish::new(Arc::new(loaded))],
            measured: Measured::new(
                MeasuredSettings {
                    base_bytes: 10_000,
                    ..MeasuredSettings::default()
                },
                Costs::shipped().unwrap(),
            ),
            settings: PlanningSettings::default(),
        }
    }

    fn input<'a>(&'a self, strategy: &'a dyn Strategy) -> PlanningInput<'a> {
        PlanningInput {
            parent: &self.parent,
            generation: self.parent.generation.next(),
            snapshot: &self.snapshot,
            wishes: &self.wishes,
            measured: &self.measured,
            strategy,
            settings: self.settings,
            seed: 7,
        }
    }

    fn plan_with(&self, strategy: &dyn Strategy) -> Result<PlanningOutput, PlanningError> {
        plan(&self.input(strategy))
    }

    fn plan(&self) -> PlanningOutput {
        self.plan_with(&Exact).unwrap()
    }

    fn node(&mut self, name: &str) -> &mut Node {
        self.snapshot.nodes.get_mut(name).unwrap()
    }

    /// Says that a fragment of the sample took so long, and so much memory, on a node.
    fn observe(&mut self, node: &str, fragment: FragmentId, seconds: f64, memory: Option<u64>) {
        let node = self.snapshot.nodes[node].clone();
        let service = ServiceTime::new(1_000, seconds, 0.0);
        self.measured
            .observe(&node, fragment, Ran::Served, service, memory);
    }

    fn whole(&self) -> FragmentId {
        self.wishes[0].loaded.variants()[0].parts[0].facts.whole
    }
}

fn arms(output: &PlanningOutput) -> &[ArmPlan] {
    &output.plan.models["sample"].arms
}

fn arm<'a>(output: &'a PlanningOutput, name: &str) -> Option<&'a ArmPlan> {
    arms(output).iter().find(|arm| arm.name == name)
}

fn nodes(arm: &ArmPlan) -> Vec<&str> {
    let hops = arm.branches.iter().flat_map(|route| &route.hops);
    hops.map(|hop| hop.node.as_str()).collect()
}
