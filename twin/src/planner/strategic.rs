//! Plans from models as numbers: segments with their costs, and nodes with their speeds.

use std::collections::BTreeMap;

use splitplace_fleet::{Node, Snapshot};
use splitplace_plan::{
    ArmKind, ArmProblem, Bounds, ChainProblem, Crossing, Generation, ModelName, Plan, SegmentSpec,
    Strategy, Way,
};

use super::{
    Planner, PlannerSettings, nothing,
    place::{Offer, coding, place},
    sound,
};

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
    /// Ways to code what crosses behind so many segments, beside not at all; times in multiply-accumulates.
    pub codings: Vec<(usize, Way)>,
}

/// A head on the way that may answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyExit {
    /// Segments before it: at least one, and fewer than there are.
    pub behind: usize,
    /// Multiply-accumulates of the head.
    pub macs: f64,
    /// Share of the requests that is expected to be answered there.
    pub leave: f64,
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
    /// Whether it is a smaller network that stands for the model: run whole or in pieces, as memory will have it.
    pub is_compressed: bool,
    /// Its early exits in order, of a variant of one part.
    pub exits: Vec<EarlyExit>,
    /// Expected share of correct answers when they may answer.
    pub exits_accuracy: Option<f64>,
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

/// Plans with a production [`Strategy`].
pub struct Strategic {
    /// What is served.
    pub models: Vec<Model>,
    /// Who places.
    pub strategy: Box<dyn Strategy>,
    /// What may be chosen.
    pub settings: PlannerSettings,
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
            for model in &models {
                plan.models.insert(model.name.clone(), nothing());
            }
            let offers = self.offers(&models, &nodes);
            let by = (&*self.strategy, &self.settings);
            for (name, arms) in place(&offers, &nodes, coding(&nodes), snapshot, by, &mut next) {
                plan.models.entry(name).or_insert_with(nothing).arms = arms;
            }
        }
        sound(&mut plan, snapshot);
        plan
    }
}

impl Strategic {
    /// Every arm that could be, in the live planner's order: what more models can have comes first.
    fn offers(&self, models: &[&Model], nodes: &[&Node]) -> Vec<Offer> {
        let mut offers = Vec::new();
        for kind in [
            ArmKind::Whole,
            ArmKind::Semantic,
            ArmKind::Chain,
            ArmKind::Exits,
            ArmKind::Compressed,
        ] {
            if !self.settings.kinds.contains(&kind) {
                continue;
            }
            for model in models {
                for variant in &model.variants {
                    let fits = variant.is_semantic == (kind == ArmKind::Semantic)
                        && variant.is_compressed == (kind == ArmKind::Compressed)
                        && (kind != ArmKind::Exits || !variant.exits.is_empty());
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
                        ArmKind::Chain | ArmKind::Compressed => cut(part, &[], nodes),
                        ArmKind::Exits => cut(part, &variant.exits, nodes),
                        ArmKind::Whole | ArmKind::Semantic => uncut(part, nodes),
                    };
                    let name = match kind {
                        ArmKind::Semantic => variant.name.clone(),
                        _ => format!("{}/{}", variant.name, kind.label()),
                    };
                    offers.push(Offer {
                        model: model.name.clone(),
                        variant: variant.name.clone(),
                        accuracy: match kind {
                            ArmKind::Exits => variant.exits_accuracy,
                            _ => variant.accuracy,
                        },
                        problem: ArmProblem {
                            name,
                            model: 0,
                            kind,
                            parts,
                            chains: variant.parts.iter().map(chain).collect(),
                            arrival_rate: model.rate_per_second,
                            arrival_scv: 1.0,
                            bounds: Bounds::default(),
                        },
                    });
                }
            }
        }
        offers
    }
}

/// `macs` is what it computes for each request of the arm, on average.
fn spec(segment: &Segment, macs: f64, nodes: &[&Node]) -> SegmentSpec {
    SegmentSpec {
        weight_bytes: segment.weight_bytes,
        activation_bytes: segment.activation_bytes,
        service: nodes
            .iter()
            .map(|node| macs / node.macs_per_second)
            .collect(),
    }
}

/// Segment by segment, weighted with the share of requests that no exit before has answered, as the live planner does
/// (`orchestrator/src/planning/candidates.rs`).
fn cut(part: &Part, exits: &[EarlyExit], nodes: &[&Node]) -> ChainProblem {
    let reach = |segments: usize| {
        let left = exits.iter().filter(|exit| exit.behind <= segments);
        let left: f64 = left.map(|exit| exit.leave).sum();
        (1.0 - left).clamp(0.001, 1.0)
    };
    let segments = part.segments.iter().enumerate().map(|(number, segment)| {
        let heads = exits.iter().filter(|exit| exit.behind == number + 1);
        let heads: f64 = heads.map(|exit| exit.macs).sum();
        spec(segment, (segment.macs + heads) * reach(number), nodes)
    });
    let crossings = part.crossing_bytes.iter().enumerate().map(|(at, &bytes)| {
        let mut crossing = Crossing::from(bytes);
        let ways = part.codings.iter().filter(|(behind, _)| *behind == at);
        crossing.ways.extend(ways.map(|(_, way)| *way));
        crossing.reach = reach(at);
        crossing
    });
    ChainProblem {
        segments: segments.collect(),
        boundaries: crossings.collect(),
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
        segments: vec![spec(&all, all.macs, nodes)],
        boundaries: ends.map(|bytes| bytes.copied().unwrap_or(0).into()).into(),
    }
}

fn most(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use splitplace_fleet::{NodeState, Timestamp};
    use splitplace_plan::{Exact, lint::lint};

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
            codings: Vec::new(),
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
                        is_compressed: false,
                        exits: Vec::new(),
                        exits_accuracy: None,
                    },
                    Variant {
                        name: "semantic".into(),
                        accuracy: Some(0.8),
                        parts: vec![part(&[800.0]), part(&[900.0])],
                        is_semantic: true,
                        is_compressed: false,
                        exits: Vec::new(),
                        exits_accuracy: None,
                    },
                    Variant {
                        name: "small".into(),
                        accuracy: Some(0.85),
                        parts: vec![part(&[1500.0])],
                        is_semantic: false,
                        is_compressed: true,
                        exits: Vec::new(),
                        exits_accuracy: None,
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
    fn a_compressed_form_is_planned_where_it_is_wanted() {
        let snapshot = fleet(&[("a", "x", 400), ("b", "x", 400)]);
        let mut strategic = strategic(None);
        strategic.settings.kinds.insert(ArmKind::Compressed);
        let plan = strategic.plan(&snapshot, &Plan::default(), Generation(1));
        let arms = &plan.models["m"].arms;
        let found: Vec<_> = arms
            .iter()
            .filter(|arm| arm.kind == ArmKind::Compressed)
            .collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].branches[0].hops.len(), 1);
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

    #[test]
    fn exits_and_codings_are_planned_for_as_they_cost() {
        let snapshot = fleet(&[("a", "x", 400), ("b", "x", 400)]);
        let mut strategic = strategic(None);
        let base = &mut strategic.models[0].variants[0];
        base.exits = vec![EarlyExit {
            behind: 1,
            macs: 500.0,
            leave: 0.6,
        }];
        base.exits_accuracy = Some(0.88);
        let way = Way {
            codec: "u8".parse().unwrap(),
            bytes: 20,
            encode: 100.0,
            decode: 200.0,
        };
        base.parts[0].codings = vec![(1, way), (2, way)];
        strategic.models[0].variants.truncate(1);
        let plan = strategic.plan(&snapshot, &Plan::default(), Generation(1));
        let arms = &plan.models["m"].arms;
        let arm = arms.iter().find(|arm| arm.kind == ArmKind::Exits).unwrap();
        assert_eq!((&*arm.name, arm.accuracy), ("base/exits", Some(0.88)));
        let hops = &arm.branches[0].hops;
        // The head runs with the segment before it; behind it come four of ten.
        assert_eq!(hops[0].service, Duration::from_micros(1500));
        assert_eq!((hops[0].exits.len(), hops[0].exits[0].number), (1, 1));
        assert!(hops[1..].iter().all(|hop| (hop.reach - 0.4).abs() < 1e-9));
        let rest: Duration = hops[1..].iter().map(|hop| hop.service).sum();
        assert_eq!(rest, Duration::from_millis(5));
        let chain = arms.iter().find(|arm| arm.kind == ArmKind::Chain).unwrap();
        let hops = &chain.branches[0].hops;
        let moves = hops.iter().skip(1).filter(|hop| hop.bytes_in == 20);
        // Default links have no rate, so that coding is not worth its time; a slow one makes it so.
        assert_eq!(moves.count(), 0);
        // On nodes that hold two segments each.
        let mut slow = fleet(&[("a", "x", 100), ("b", "x", 100)]);
        strategic.settings.kinds = [ArmKind::Chain].into();
        slow.links = splitplace_fleet::Links::new(splitplace_fleet::Link {
            rate_bytes_per_second: 1e4,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
        });
        let plan = strategic.plan(&slow, &Plan::default(), Generation(1));
        let arms = &plan.models["m"].arms;
        let chain = arms.iter().find(|arm| arm.kind == ArmKind::Chain).unwrap();
        let hop = &chain.branches[0].hops[1];
        assert_eq!((hop.bytes_in, hop.coding), (20, Duration::from_micros(300)));
        assert_eq!(chain.branches[0].hops[0].codec, way.codec);
        assert_eq!(lint(&plan, &slow), []);
    }
}
