//! From models and a fleet to a plan, with the production strategies.
//!
//! The live planner (`orchestrator/src/planning`) reads models from ONNX files and times from
//! measurements; here both are numbers. What decides is the same: [`Problem`], a [`Strategy`], the
//! linter, the brain's own forecast.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use splitplace_brain::forecast::{self, Backlog};
use splitplace_fleet::{Node, Place, Snapshot};
use splitplace_plan::{
    ArmKind, ArmPlan, ArmProblem, Bounds, ChainProblem, Crossing, FragmentId, Generation, Hop,
    ModelName, ModelPlan, NodeSpec, Outcome, Placed, Plan, Problem, Route, RouteId, SegmentSpec,
    Stage, Strategy, lint::lint,
};

use crate::TraceHash;

/// What one segment costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Multiply-accumulates of one sample.
    pub macs: f64,
    /// Bytes of weights.
    pub weight_bytes: u64,
    /// Bytes live while it runs.
    pub activation_bytes: u64,
}

/// A network, or a branch of one: segments and what crosses around them.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// In order, at least one.
    pub segments: Vec<Segment>,
    /// Bytes of one sample before the first, between, and after the last: one more than segments.
    pub crossing_bytes: Vec<u64>,
}

/// A way to run a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Unique within the model.
    pub name: String,
    /// Validated share of correct answers.
    pub accuracy: Option<f64>,
    /// One part, which may run whole or cut into a chain; or the branches of a semantic variant.
    pub parts: Vec<Part>,
    /// Whether the parts are semantic branches.
    pub is_semantic: bool,
}

/// A model to be served.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Its name.
    pub name: ModelName,
    /// How it may run.
    pub variants: Vec<Variant>,
    /// The value of the nodes' label `site` that it may run on; any node when absent.
    pub site: Option<String>,
    /// Requests a second that each arm should be able to carry; 0 plans for an idle system.
    pub rate_per_second: f64,
}

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
            kinds: BTreeSet::from([ArmKind::Whole, ArmKind::Chain, ArmKind::Semantic]),
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

/// Plans with a production [`Strategy`].
pub struct Strategic {
    /// What is served.
    pub models: Vec<Model>,
    /// Who places.
    pub strategy: Box<dyn Strategy>,
    /// What may be chosen.
    pub settings: PlannerSettings,
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

impl Planner for Strategic {
    /// Costs what the strategy costs, once for each group of models of one site.
    fn plan(&self, snapshot: &Snapshot, parent: &Plan, generation: Generation) -> Plan {
        let mut plan = Plan {
            generation,
            parent: Some(parent.generation),
            explanation: format!("placed by {}", self.strategy.name()),
            ..Plan::default()
        };
        let mut sites: BTreeMap<Option<&str>, Vec<&Model>> = BTreeMap::new();
        for model in &self.models {
            sites.entry(model.site.as_deref()).or_default().push(model);
        }
        let mut by_site: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
        for node in snapshot.alive() {
            if let Some(site) = node.labels.get("site") {
                by_site.entry(site).or_default().push(node);
            }
        }
        let mut next = 0;
        for (site, models) in sites {
            let nodes: Vec<&Node> = match site {
                Some(site) => by_site.get(site).cloned().unwrap_or_default(),
                None => snapshot.alive().collect(),
            };
            for (name, arms) in self.place(&models, &nodes, snapshot, &mut next) {
                let version = "1".into();
                plan.models.insert(name, ModelPlan { version, arms });
            }
        }
        let findings = lint(&plan, snapshot);
        if !findings.is_empty() {
            plan.models
                .values_mut()
                .for_each(|model| model.arms.clear());
            plan.explanation = format!("an unsound plan was not taken: {findings:?}");
        }
        plan
    }
}

struct Candidate<'m> {
    model: &'m Model,
    variant: &'m Variant,
    problem: ArmProblem,
}

impl Strategic {
    fn place(
        &self,
        models: &[&Model],
        nodes: &[&Node],
        snapshot: &Snapshot,
        next: &mut u32,
    ) -> BTreeMap<ModelName, Vec<ArmPlan>> {
        let mut arms: BTreeMap<ModelName, Vec<ArmPlan>> = models
            .iter()
            .map(|model| (model.name.clone(), Vec::new()))
            .collect();
        if nodes.is_empty() {
            return arms;
        }
        let candidates = self.candidates(models, nodes);
        let mut places: Vec<Place> = nodes.iter().map(|node| Place::from(&node.id)).collect();
        places.push(Place::Center);
        let row = |from: &Place| {
            let links = places.iter().map(|to| snapshot.links.get(from, to));
            links
                .map(|link| (link.rate_bytes_per_second, link.delay.as_secs_f64()))
                .collect()
        };
        let problem = Problem {
            nodes: nodes
                .iter()
                .map(|node| NodeSpec {
                    memory_bytes: node.memory_bytes,
                })
                .collect(),
            links: places.iter().map(row).collect(),
            // Scenarios know no coding.
            coding: vec![0.0; places.len()],
            arms: candidates.iter().map(|one| one.problem.clone()).collect(),
            overhead_bytes: self.settings.overhead_bytes,
            spread: self.settings.spread,
        };
        let solution = self.strategy.solve(&problem, self.settings.seed);
        for (candidate, outcome) in candidates.iter().zip(&solution.arms) {
            if let Outcome::Placed(placed) = outcome {
                let mut arm = arm(&problem, candidate, placed, nodes, next);
                arm.predicted = forecast::response(&arm, 1, &Backlog::default(), snapshot);
                arms.entry(candidate.model.name.clone())
                    .or_default()
                    .push(arm);
            }
        }
        arms
    }

    /// Every arm that could be, in the live planner's order: what more models can have comes first.
    fn candidates<'m>(&self, models: &[&'m Model], nodes: &[&Node]) -> Vec<Candidate<'m>> {
        let mut candidates = Vec::new();
        for kind in [ArmKind::Whole, ArmKind::Semantic, ArmKind::Chain] {
            if !self.settings.kinds.contains(&kind) {
                continue;
            }
            for model in models {
                for variant in &model.variants {
                    let fits = variant.is_semantic == (kind == ArmKind::Semantic);
                    let can_be_cut = variant.parts.iter().all(|part| 1 < part.segments.len());
                    let is_short = nodes.len() < 2 || self.settings.max_parts < 2 || !can_be_cut;
                    if !fits || (kind == ArmKind::Chain && is_short) {
                        continue;
                    }
                    let parts = match kind {
                        ArmKind::Chain => (2, self.settings.max_parts),
                        ArmKind::Exits | ArmKind::Compressed => (1, self.settings.max_parts),
                        ArmKind::Whole | ArmKind::Semantic => (1, 1),
                    };
                    let chain = |part| match kind {
                        ArmKind::Chain | ArmKind::Exits | ArmKind::Compressed => cut(part, nodes),
                        ArmKind::Whole | ArmKind::Semantic => uncut(part, nodes),
                    };
                    let name = match kind {
                        ArmKind::Semantic => variant.name.clone(),
                        _ => format!("{}/{}", variant.name, kind.label()),
                    };
                    candidates.push(Candidate {
                        model,
                        variant,
                        problem: ArmProblem {
                            name,
                            kind,
                            parts,
                            chains: variant.parts.iter().map(chain).collect(),
                            arrival_rate: model.rate_per_second,
                            bounds: Bounds::default(),
                        },
                    });
                }
            }
        }
        candidates
    }
}

fn spec(segment: &Segment, nodes: &[&Node]) -> SegmentSpec {
    SegmentSpec {
        weight_bytes: segment.weight_bytes,
        activation_bytes: segment.activation_bytes,
        service: nodes
            .iter()
            .map(|node| segment.macs / node.macs_per_second)
            .collect(),
    }
}

fn cut(part: &Part, nodes: &[&Node]) -> ChainProblem {
    ChainProblem {
        segments: part
            .segments
            .iter()
            .map(|segment| spec(segment, nodes))
            .collect(),
        boundaries: part
            .crossing_bytes
            .iter()
            .map(|&bytes| bytes.into())
            .collect(),
    }
}

/// The whole part as one segment.
fn uncut(part: &Part, nodes: &[&Node]) -> ChainProblem {
    let all = Segment {
        macs: part.segments.iter().map(|segment| segment.macs).sum(),
        weight_bytes: part
            .segments
            .iter()
            .map(|segment| segment.weight_bytes)
            .sum(),
        activation_bytes: most(part.segments.iter().map(|segment| segment.activation_bytes)),
    };
    let crossing = &part.crossing_bytes;
    let ends = [crossing.first(), crossing.last()];
    ChainProblem {
        segments: vec![spec(&all, nodes)],
        boundaries: ends.map(|bytes| bytes.copied().unwrap_or(0).into()).into(),
    }
}

fn most(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.max().unwrap_or(0)
}

fn arm(
    problem: &Problem,
    candidate: &Candidate<'_>,
    placed: &Placed,
    nodes: &[&Node],
    next: &mut u32,
) -> ArmPlan {
    let mut branches = Vec::with_capacity(placed.branches.len());
    let chains = candidate.problem.chains.iter().zip(&placed.branches);
    for (number, (chain, stages)) in chains.enumerate() {
        let hop = |stage: &Stage| {
            let segments = &chain.segments[stage.segments.clone()];
            let seconds: f64 = segments
                .iter()
                .map(|segment| segment.service[stage.node])
                .sum();
            let id = fragment(candidate, number, &stage.segments);
            Hop {
                memory_bytes: problem.memory(chain, stage.segments.clone()),
                service: Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX),
                bytes_in: chain.boundaries[stage.segments.start].raw_bytes(),
                ..Hop::new(nodes[stage.node].id.clone(), id, stage.segments.clone())
            }
        };
        branches.push(Route {
            id: RouteId(*next),
            hops: stages.iter().map(hop).collect(),
            bytes_out: chain.boundaries.last().map_or(0, Crossing::raw_bytes),
        });
        *next += 1;
    }
    ArmPlan {
        name: candidate.problem.name.clone(),
        variant: candidate.variant.name.clone(),
        kind: candidate.problem.kind,
        accuracy: candidate.variant.accuracy,
        predicted: Duration::ZERO,
        branches,
    }
}

/// An id that stands for the content: the same part of the same variant has the same.
fn fragment(candidate: &Candidate<'_>, part: usize, segments: &Range<usize>) -> FragmentId {
    let mut hash = TraceHash::default();
    hash.add_text(candidate.model.name.as_str());
    hash.add_text(&candidate.variant.name);
    // A part that was not cut is one segment, whatever it is called when it is.
    let is_cut = candidate.problem.kind == ArmKind::Chain;
    for word in [part, segments.start, segments.end, usize::from(is_cut)] {
        hash.add(word as u64);
    }
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_exact_mut(8) {
        hash.add(1);
        chunk.copy_from_slice(&hash.get().to_le_bytes());
    }
    FragmentId(bytes)
}

#[cfg(test)]
mod tests {
    use splitplace_fleet::{NodeState, Timestamp};
    use splitplace_plan::Exact;

    use super::*;

    fn part(macs: &[f64]) -> Part {
        let segment = |&macs: &f64| Segment {
            macs,
            weight_bytes: 40,
            activation_bytes: 10,
        };
        Part {
            segments: macs.iter().map(segment).collect(),
            crossing_bytes: (0..=macs.len() as u64).map(|at| 100 * (at + 1)).collect(),
        }
    }

    fn fleet(nodes: &[(&str, &str, u64)]) -> Snapshot {
        let mut snapshot = Snapshot::empty(Timestamp::ZERO);
        for &(name, site, memory_bytes) in nodes {
            let node = Node {
                id: name.into(),
                state: NodeState::Alive,
                cores: 1,
                macs_per_second: 1e6,
                memory_bytes,
                labels: BTreeMap::from([("site".into(), site.into())]),
                emulated: false,
            };
            snapshot.nodes.insert(node.id.clone(), node);
        }
        snapshot
    }

    fn strategic(site: Option<&str>) -> Strategic {
        Strategic {
            models: vec![Model {
                name: "m".into(),
                variants: vec![
                    Variant {
                        name: "base".into(),
                        accuracy: Some(0.9),
                        parts: vec![part(&[1000.0, 2000.0, 3000.0])],
                        is_semantic: false,
                    },
                    Variant {
                        name: "semantic".into(),
                        accuracy: Some(0.8),
                        parts: vec![part(&[800.0]), part(&[900.0])],
                        is_semantic: true,
                    },
                ],
                site: site.map(Into::into),
                rate_per_second: 0.0,
            }],
            strategy: Box::new(Exact),
            settings: PlannerSettings::default(),
        }
    }

    #[test]
    fn every_arm_that_fits_is_planned_and_the_linter_agrees() {
        let snapshot = fleet(&[("a", "x", 400), ("b", "x", 400), ("c", "y", 400)]);
        let plan = strategic(None).plan(&snapshot, &Plan::default(), Generation(1));
        let names: Vec<_> = plan.models["m"]
            .arms
            .iter()
            .map(|arm| &arm.name[..])
            .collect();
        assert_eq!(names, ["base/whole", "semantic", "base/chain"]);
        assert_eq!(lint(&plan, &snapshot), []);
        let whole = &plan.models["m"].arms[0];
        assert_eq!(whole.branches[0].hops[0].service, Duration::from_millis(6));
        assert_eq!(whole.branches[0].hops[0].memory_bytes, 130);
        assert_eq!(
            (
                whole.branches[0].hops[0].bytes_in,
                whole.branches[0].bytes_out
            ),
            (100, 400)
        );
        assert!(whole.predicted > Duration::from_millis(6));
    }

    #[test]
    fn a_site_keeps_its_models_and_what_does_not_fit_is_left_out() {
        let snapshot = fleet(&[("a", "x", 90), ("b", "x", 90), ("c", "y", 400)]);
        let plan = strategic(Some("x")).plan(&snapshot, &Plan::default(), Generation(1));
        let arms = &plan.models["m"].arms;
        assert!(
            arms.iter()
                .all(|arm| !arm.nodes().contains(&splitplace_fleet::NodeId::new("c")))
        );
        assert!(arms.iter().all(|arm| arm.kind != ArmKind::Whole));
        let nowhere = strategic(Some("z")).plan(&snapshot, &Plan::default(), Generation(1));
        assert!(nowhere.models["m"].arms.is_empty());
    }
}
