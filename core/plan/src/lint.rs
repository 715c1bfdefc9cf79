//! Whether a plan can be carried out, judged by rules of its own.
//!
//! Nothing here is shared with the strategies: a mistake there is found here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use splitplace_fleet::{NodeId, Snapshot};

use crate::{ArmKind, FragmentId, Plan, RouteId};

/// Something wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A hop on a node that may not be given work.
    DeadNode {
        /// The arm.
        arm: String,
        /// The node.
        node: NodeId,
    },
    /// More memory than a node has.
    Memory {
        /// The node.
        node: NodeId,
        /// Bytes that its fragments need.
        needed: u64,
        /// Bytes that it has.
        has: u64,
    },
    /// Hops that do not cover the chain from its beginning without gaps.
    Gap {
        /// The arm.
        arm: String,
    },
    /// A chain that visits a node twice.
    Twice {
        /// The arm.
        arm: String,
        /// The node.
        node: NodeId,
    },
    /// Two routes of one number.
    Route(RouteId),
    /// An arm without a branch or a branch without a hop.
    Empty {
        /// The arm.
        arm: String,
    },
    /// A whole arm of several hops, or a chain of one.
    Shape {
        /// The arm.
        arm: String,
    },
    /// An exit in an arm that has none, or one that no share of requests can describe.
    Exit {
        /// The arm.
        arm: String,
    },
    /// A generation that does not come after its parent.
    Generation,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeadNode { arm, node } => write!(f, "{arm} uses {node}, which is not alive"),
            Self::Memory { node, needed, has } => {
                write!(f, "{node} would hold {needed} bytes and has {has}")
            }
            Self::Gap { arm } => write!(f, "the hops of {arm} do not cover it"),
            Self::Twice { arm, node } => write!(f, "{arm} visits {node} twice"),
            Self::Route(id) => write!(f, "route {} is there twice", id.0),
            Self::Empty { arm } => write!(f, "{arm} has a branch without hops"),
            Self::Shape { arm } => write!(f, "{arm} has the wrong number of hops for its kind"),
            Self::Exit { arm } => write!(f, "{arm} has an exit that makes no sense"),
            Self::Generation => f.write_str("the generation does not come after its parent"),
        }
    }
}

/// Everything wrong with a plan for this fleet; nothing when it can be carried out. O(hops).
#[must_use]
pub fn lint(plan: &Plan, snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    if plan.parent.is_some_and(|parent| plan.generation <= parent) {
        findings.push(Finding::Generation);
    }
    let mut routes = BTreeSet::new();
    let mut held: BTreeMap<NodeId, BTreeMap<FragmentId, u64>> = BTreeMap::new();
    for arm in plan.models.values().flat_map(|model| &model.arms) {
        let name = || arm.name.clone();
        if arm.branches.is_empty() || arm.branches.iter().any(|route| route.hops.is_empty()) {
            findings.push(Finding::Empty { arm: name() });
        }
        let longest = arm
            .branches
            .iter()
            .map(|route| route.hops.len())
            .max()
            .unwrap_or(0);
        let is_shaped = match arm.kind {
            ArmKind::Whole => arm.branches.len() == 1 && longest == 1,
            ArmKind::Chain => arm.branches.len() == 1 && 1 < longest,
            ArmKind::Exits | ArmKind::Compressed => arm.branches.len() == 1,
            ArmKind::Semantic => true,
        };
        if !is_shaped {
            findings.push(Finding::Shape { arm: name() });
        }
        for route in &arm.branches {
            if !routes.insert(route.id) {
                findings.push(Finding::Route(route.id));
            }
            let mut at = 0;
            let mut seen = BTreeSet::new();
            let mut before = None;
            for hop in &route.hops {
                if hop.segments.start != at || hop.segments.is_empty() {
                    findings.push(Finding::Gap { arm: name() });
                }
                at = hop.segments.end;
                // Before an exit the network is cut also where it stays on its node, so that what lies
                // behind need not run.
                let stays = arm.kind == ArmKind::Exits && before == Some(&hop.node);
                before = Some(&hop.node);
                if !seen.insert(&hop.node) && !stays {
                    findings.push(Finding::Twice {
                        arm: name(),
                        node: hop.node.clone(),
                    });
                }
                let is_share = 0.0 < hop.reach && hop.reach <= 1.0;
                let thresholds = hop.exits.iter().map(|exit| exit.threshold);
                if !is_share || thresholds.clone().any(|t| !t.is_finite() || t <= 0.0) {
                    findings.push(Finding::Exit { arm: name() });
                }
                if arm.kind != ArmKind::Exits && !hop.exits.is_empty() {
                    findings.push(Finding::Exit { arm: name() });
                }
                if !snapshot.is_alive(&hop.node) {
                    findings.push(Finding::DeadNode {
                        arm: name(),
                        node: hop.node.clone(),
                    });
                }
                held.entry(hop.node.clone())
                    .or_default()
                    .insert(hop.fragment, hop.memory_bytes);
            }
        }
    }
    for (node, fragments) in held {
        let needed = fragments
            .values()
            .fold(0u64, |sum, &bytes| sum.saturating_add(bytes));
        if let Some(known) = snapshot.nodes.get(&node)
            && known.memory_bytes < needed
        {
            findings.push(Finding::Memory {
                node,
                needed,
                has: known.memory_bytes,
            });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use splitplace_fleet::{Node, NodeState, Timestamp};

    use super::*;
    use crate::{ArmPlan, Generation, Hop, ModelPlan, Route};

    fn hop(node: &str, fragment: u8, segments: std::ops::Range<usize>) -> Hop {
        Hop {
            memory_bytes: 60,
            service: Duration::from_millis(1),
            bytes_in: 1,
            ..Hop::new(node.into(), FragmentId([fragment; 32]), segments)
        }
    }

    fn plan(hops: Vec<Hop>) -> Plan {
        let arm = ArmPlan {
            name: "base/chain".into(),
            variant: "base".into(),
            kind: ArmKind::Chain,
            accuracy: None,
            predicted: Duration::ZERO,
            branches: vec![Route {
                id: RouteId(0),
                hops,
                bytes_out: 0,
            }],
        };
        let models = BTreeMap::from([(
            "m".into(),
            ModelPlan {
                version: "1".into(),
                arms: vec![arm],
            },
        )]);
        Plan {
            generation: Generation(2),
            parent: Some(Generation(1)),
            models,
            explanation: String::new(),
        }
    }

    fn fleet() -> Snapshot {
        let mut snapshot = Snapshot::empty(Timestamp::ZERO);
        for (name, state) in [
            ("a", NodeState::Alive),
            ("b", NodeState::Alive),
            ("c", NodeState::Lost),
        ] {
            let node = Node {
                id: name.into(),
                state,
                cores: 1,
                macs_per_second: 1.0,
                memory_bytes: 100,
                labels: BTreeMap::new(),
                emulated: false,
            };
            snapshot.nodes.insert(node.id.clone(), node);
        }
        snapshot
    }

    #[test]
    fn a_sound_plan_has_no_findings() {
        let plan = plan(vec![hop("a", 1, 0..2), hop("b", 2, 2..3)]);
        assert_eq!(lint(&plan, &fleet()), []);
    }

    #[test]
    fn only_an_arm_with_exits_may_stay_on_its_node() {
        let mut plan = plan(vec![
            hop("a", 1, 0..1),
            hop("a", 1, 1..2),
            hop("b", 2, 2..3),
        ]);
        let arm = &mut plan.models.get_mut("m").expect("it is there").arms[0];
        arm.kind = ArmKind::Exits;
        arm.branches[0].hops[0].exits.push(crate::ExitRule {
            number: 1,
            name: "exit1".into(),
            output: "exit1".into(),
            threshold: 0.8,
        });
        assert_eq!(lint(&plan, &fleet()), []);
        let arm = &mut plan.models.get_mut("m").expect("it is there").arms[0];
        arm.branches[0].hops.swap(1, 2);
        arm.branches[0].hops[1].segments = 1..2;
        arm.branches[0].hops[2].segments = 2..3;
        assert!(matches!(lint(&plan, &fleet())[..], [Finding::Twice { .. }]));
        let arm = &mut plan.models.get_mut("m").expect("it is there").arms[0];
        arm.branches[0].hops.truncate(2);
        arm.branches[0].hops[1].segments = 1..3;
        arm.branches[0].hops[1].reach = 0.0;
        assert!(matches!(lint(&plan, &fleet())[..], [Finding::Exit { .. }]));
        let arm = &mut plan.models.get_mut("m").expect("it is there").arms[0];
        arm.branches[0].hops[1].reach = 0.5;
        arm.kind = ArmKind::Chain;
        assert!(matches!(lint(&plan, &fleet())[..], [Finding::Exit { .. }]));
    }

    #[test]
    fn each_mistake_is_found() {
        let found = |hops| lint(&plan(hops), &fleet());
        assert!(matches!(
            found(vec![hop("a", 1, 0..2), hop("c", 2, 2..3)])[..],
            [Finding::DeadNode { .. }]
        ));
        assert!(matches!(
            found(vec![hop("a", 1, 0..1), hop("b", 2, 2..3)])[..],
            [Finding::Gap { .. }]
        ));
        assert!(matches!(
            found(vec![hop("a", 1, 0..1), hop("a", 1, 1..3)])[..],
            [Finding::Twice { .. }]
        ));
        assert!(
            found(vec![hop("a", 1, 0..1), hop("a", 2, 1..3)])
                .iter()
                .any(|f| matches!(
                    f,
                    Finding::Memory {
                        needed: 120,
                        has: 100,
                        ..
                    }
                ))
        );
        assert!(matches!(
            found(vec![hop("a", 1, 0..3)])[..],
            [Finding::Shape { .. }]
        ));
        assert!(found(vec![]).contains(&Finding::Empty {
            arm: "base/chain".into()
        }));
        let mut stale = plan(vec![hop("a", 1, 0..2), hop("b", 2, 2..3)]);
        stale.parent = Some(Generation(2));
        assert_eq!(lint(&stale, &fleet()), [Finding::Generation]);
    }
}
