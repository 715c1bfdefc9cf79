//! What would happen, asked of whoever can simulate it: questions, situations, forecasts.
//!
//! The planner that runs the fleet makes the plan of a changed world; a [`Foresight`] says what such a plan
//! is worth under the load that was seen. This crate does not know who that is: the binary brings the twin.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use splitplace_fleet::{Link, NodeId, Place, Snapshot};
use splitplace_plan::{ArmPlan, ModelName, Plan, diff};

/// What if?
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// A node were not there.
    RemoveNode {
        /// Which.
        node: String,
    },
    /// So many times as many requests came.
    Load {
        /// Times.
        factor: f64,
        /// For this model only; for all without it.
        #[serde(default)]
        model: Option<String>,
    },
    /// The links between two places, both ways, were slower or faster. Empty names are the centre.
    Link {
        /// One end.
        from: String,
        /// The other.
        to: String,
        /// Times its rate.
        rate_factor: f64,
        /// Milliseconds added to its delay.
        #[serde(default)]
        delay_ms: f64,
    },
}

/// Largest factor in either direction.
const FACTOR: f64 = 1e3;
/// Longest delay that may be added, in milliseconds.
const DELAY_MS: f64 = 60e3;

/// The place of that name; empty is the centre.
#[must_use]
pub fn place(name: &str) -> Place {
    if name.is_empty() {
        Place::Center
    } else {
        Place::Node(NodeId::new(name))
    }
}

impl Question {
    /// Whether it can be asked of this fleet.
    ///
    /// # Errors
    /// What is wrong with it, for the person who asked.
    pub fn check(&self, snapshot: &Snapshot) -> Result<(), String> {
        let known = |name: &str| {
            if name.is_empty() || snapshot.nodes.contains_key(name) {
                return Ok(());
            }
            Err(format!("there is no node '{name}'"))
        };
        let factor = |value: f64| {
            if (1.0 / FACTOR..=FACTOR).contains(&value) {
                return Ok(());
            }
            Err(format!(
                "the factor must lie between {} and {FACTOR}, and is {value}",
                1.0 / FACTOR
            ))
        };
        match self {
            Self::RemoveNode { node } if node.is_empty() => Err("which node?".into()),
            Self::RemoveNode { node } => known(node),
            Self::Load { factor: value, .. } => factor(*value),
            Self::Link {
                from,
                to,
                rate_factor,
                delay_ms,
            } => {
                known(from)?;
                known(to)?;
                factor(*rate_factor)?;
                if from == to {
                    return Err("a link has two ends".into());
                }
                if !(0.0..=DELAY_MS).contains(delay_ms) {
                    return Err(format!("delay_ms must lie between 0 and {DELAY_MS}"));
                }
                Ok(())
            }
        }
    }

    /// Changes what the planner is told of the fleet.
    pub fn change(&self, snapshot: &mut Snapshot) {
        match self {
            Self::RemoveNode { node } => {
                snapshot.nodes.remove(&node[..]);
            }
            Self::Load { .. } => {}
            Self::Link {
                from,
                to,
                rate_factor,
                delay_ms,
            } => {
                let (from, to) = (place(from), place(to));
                for (from, to) in [(&from, &to), (&to, &from)] {
                    let link = snapshot.links.get(from, to);
                    snapshot.links.set(
                        from.clone(),
                        to.clone(),
                        Link {
                            rate_bytes_per_second: link.rate_bytes_per_second * rate_factor,
                            delay: link.delay
                                + Duration::try_from_secs_f64(delay_ms / 1e3).unwrap_or_default(),
                            ..link
                        },
                    );
                }
            }
        }
    }

    /// How many times as many requests come to a model.
    #[must_use]
    pub fn load_factor(&self, of: &str) -> f64 {
        match self {
            Self::Load { factor, model } if model.as_deref().is_none_or(|model| model == of) => {
                *factor
            }
            Self::Load { .. } | Self::RemoveNode { .. } | Self::Link { .. } => 1.0,
        }
    }
}

/// Requests for one model, as they were seen.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenLoad {
    /// Which.
    pub model: ModelName,
    /// How many.
    pub rate_per_second: f64,
    /// Times promised, each with its weight; not empty.
    pub slas: Vec<(Duration, f64)>,
    /// How much longer than promised clients wait.
    pub patience: Duration,
    /// Samples in each.
    pub samples: u32,
}

/// A world to be judged.
#[derive(Clone, Debug)]
pub struct Situation {
    /// The fleet.
    pub snapshot: Snapshot,
    /// What runs there.
    pub plan: Plan,
    /// What comes.
    pub loads: Vec<SeenLoad>,
    /// Who chooses arms: its name and numbers.
    pub policy: (String, BTreeMap<String, f64>),
    /// What it has learnt.
    pub learnt: BTreeMap<String, f64>,
    /// Requests in flight at most.
    pub in_flight_max: usize,
    /// Frames that may wait for one fragment.
    pub queue_limit: u32,
    /// Squared coefficient of variation of service times, by node; 0 where it is not known.
    pub variation: BTreeMap<NodeId, f64>,
    /// Service times as they were seen over those that the plan expects, by node; 1 where none was seen.
    pub pace: BTreeMap<NodeId, f64>,
    /// What a frame takes on its way to a node beyond what the link explains.
    pub overhead: Duration,
}

/// A number with half its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figure {
    /// The number.
    pub mean: f64,
    /// Half the interval; absent when nothing is known of it.
    pub half_width: Option<f64>,
}

/// What would become of one model's requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ModelForecast {
    /// Requests a second.
    pub offered_per_second: f64,
    /// Answers a second.
    pub answers_per_second: Figure,
    /// Seconds to the answer.
    pub response_seconds: Figure,
    /// The 95th percentile of it.
    pub p95_seconds: Figure,
    /// Share without an answer.
    pub loss: Figure,
    /// Share whose promise was kept, of all that came.
    pub held: Figure,
    /// Share of right answers.
    pub accuracy: Figure,
    /// Share of the answers by arm.
    pub arms: BTreeMap<String, f64>,
}

/// What would become of everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Forecast {
    /// By model.
    pub models: BTreeMap<String, ModelForecast>,
    /// Busy cores over cores, by node.
    pub nodes: BTreeMap<String, f64>,
    /// Simulated runs that it comes from.
    pub runs: u64,
}

/// Who can say what would happen.
pub trait Foresight: Send + Sync {
    /// Judges a situation. Blocks; should take less than some seconds. The same seed draws the same
    /// arrivals for every situation.
    ///
    /// # Errors
    /// Why nothing can be said.
    fn foresee(&self, situation: &Situation, seed: u64) -> Result<Forecast, String>;
}

/// Where an arm's fragments would run instead.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Move {
    /// The model.
    pub model: String,
    /// The arm.
    pub arm: String,
    /// Nodes before, by branch and hop; empty when the arm was not there.
    pub before: Vec<Vec<String>>,
    /// Nodes after; empty when it would not be there.
    pub after: Vec<Vec<String>>,
}

/// The arms whose places differ between two plans.
#[must_use]
pub fn moves(before: &Plan, after: &Plan) -> Vec<Move> {
    let places = |arm: Option<&ArmPlan>| -> Vec<Vec<String>> {
        let branches = arm.map_or(&[][..], |arm| &arm.branches).iter();
        branches
            .map(|route| route.hops.iter().map(|hop| hop.node.to_string()).collect())
            .collect()
    };
    let moves = diff(before, after).changes.into_iter().map(|change| Move {
        before: places(change.before.as_ref()),
        after: places(change.after.as_ref()),
        model: change.model.to_string(),
        arm: change.arm,
    });
    moves.filter(|one| one.before != one.after).collect()
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhatIf {
    /// What was asked.
    pub question: Question,
    /// The world as it is.
    pub before: Forecast,
    /// The world as it would be, with the plan that would be made for it.
    pub after: Forecast,
    /// What would move.
    pub moves: Vec<Move>,
    /// Why that plan is what it is.
    pub explanation: String,
    /// Arms that would have no place, with the arithmetic.
    pub unplaced: BTreeMap<String, Vec<String>>,
    /// What had to be assumed; empty when all of it was seen.
    pub assumed: String,
    /// Seconds that planning and simulating took.
    pub took_seconds: f64,
}

#[cfg(test)]
mod tests {
    use splitplace_fleet::{Node, NodeState, Timestamp};
    use splitplace_plan::{ArmKind, ArmPlan, FragmentId, Hop, ModelPlan, Route, RouteId};

    use super::*;

    fn fleet() -> Snapshot {
        let mut snapshot = Snapshot::empty(Timestamp::ZERO);
        for name in ["a", "b"] {
            let node = Node {
                id: name.into(),
                state: NodeState::Alive,
                cores: 1,
                macs_per_second: 1e9,
                memory_bytes: 1 << 20,
                labels: BTreeMap::new(),
                emulated: false,
            };
            snapshot.nodes.insert(node.id.clone(), node);
        }
        snapshot
    }

    #[test]
    fn a_question_changes_what_it_names_and_nothing_else() {
        let link = Question::Link {
            from: String::new(),
            to: "a".into(),
            rate_factor: 0.5,
            delay_ms: 3.0,
        };
        let (mut changed, was) = (fleet(), fleet());
        assert_eq!(link.check(&was), Ok(()));
        link.change(&mut changed);
        let (center, a, b) = (Place::Center, place("a"), place("b"));
        let slower = Duration::from_millis(3);
        assert_eq!(
            changed.links.get(&center, &a).delay,
            was.links.get(&center, &a).delay + slower
        );
        assert_eq!(changed.links.get(&center, &b), was.links.get(&center, &b));
        let gone = Question::RemoveNode { node: "b".into() };
        gone.change(&mut changed);
        assert!(!changed.nodes.contains_key("b") && changed.nodes.contains_key("a"));
        assert_eq!(gone.load_factor("m"), 1.0);
        let load = Question::Load {
            factor: 2.0,
            model: Some("m".into()),
        };
        assert_eq!((load.load_factor("m"), load.load_factor("n")), (2.0, 1.0));
    }

    #[test]
    fn a_question_that_makes_no_sense_is_told_why() {
        let fleet = fleet();
        let link = |from: &str, to: &str, rate_factor, delay_ms| Question::Link {
            from: from.into(),
            to: to.into(),
            rate_factor,
            delay_ms,
        };
        for wrong in [
            Question::RemoveNode { node: "c".into() },
            Question::RemoveNode {
                node: String::new(),
            },
            Question::Load {
                factor: f64::NAN,
                model: None,
            },
            link("a", "a", 1.0, 0.0),
            link("a", "b", 0.0, 0.0),
            link("a", "b", 1.0, -1.0),
        ] {
            assert!(wrong.check(&fleet).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_moved_is_what_has_other_nodes() {
        let plan = |nodes: &[&str]| {
            let hops = nodes.iter().map(|&node| {
                let id = FragmentId([0; 32]);
                Hop::new(node.into(), id, 0..1)
            });
            let arm = ArmPlan {
                name: "base/chain".into(),
                variant: "base".into(),
                kind: ArmKind::Chain,
                accuracy: None,
                predicted: Duration::ZERO,
                branches: vec![Route {
                    id: RouteId(0),
                    hops: hops.collect(),
                    bytes_out: 0,
                }],
            };
            let model = ModelPlan {
                version: "1".into(),
                arms: vec![arm],
            };
            Plan {
                models: BTreeMap::from([("m".into(), model)]),
                ..Plan::default()
            }
        };
        assert_eq!(moves(&plan(&["a", "b"]), &plan(&["a", "b"])), []);
        let moved = moves(&plan(&["a", "b"]), &plan(&["b"]));
        assert_eq!(moved[0].before, [["a", "b"]]);
        assert_eq!(moved[0].after, [["b"]]);
        assert!(moves(&plan(&["a"]), &Plan::default())[0].after.is_empty());
    }
}
