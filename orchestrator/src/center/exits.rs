//! Exit control of the arms in force: a governor for each, told what the fleet reports; its rules are sent to the
//! nodes.
//!
//! What decides is [`splitplace_policy::exit::govern`]. Here is who is told what: requests sent to the first node,
//! reports of stations, audited answers; and which node gets which rule of which route.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use splitplace_fleet::NodeId;
use splitplace_plan::{ArmKind, ArmPlan, Generation, ModelName, Plan, Route, RouteId};
use splitplace_policy::exit::{
    ExitError, Records, Rule, ada_ee,
    govern::{Assumed, Governor, GovernorSettings, GovernorView},
    observe::Moved,
    rule::Looks,
    task::{Solved, Task},
};
use splitplace_proto::{
    center::ExitControlStatus,
    control::{ExitIntents, ExitRule, ExitRules, StationReport, center_message, exit_rule},
};

use super::{Inner, flow::Part, served::Served};
use crate::{catalog::LoadedVariant, config::Exits, wishes::THRESHOLDS};

/// Between two looks at what may have moved.
const LOOK: Duration = Duration::from_millis(100);

/// Model and arm.
pub(super) type Key = (ModelName, String);

/// One arm under control.
#[derive(Debug)]
struct Arm {
    governor: Governor,
    generation: Generation,
    route: RouteId,
    /// Nodes that hold exits or the network's end, in order along the route.
    nodes: Vec<Held>,
    audit_share: f64,
    /// Time from the first exit on, by exit: what the bandits weigh.
    spent: Vec<f64>,
}

/// What one node holds of the exits.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    node: NodeId,
    exits: usize,
    assumed: Assumed,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Steering {
    began: Instant,
    arms: Mutex<BTreeMap<Key, Arm>>,
    /// What was asked for the arms in force.
    asked: Mutex<Asked>,
}

impl Default for Steering {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            arms: Mutex::default(),
            asked: Mutex::default(),
        }
    }
}

/// What decides at a variant's exits, and for what loss: what is wished for the model, then the configuration's word,
/// then the package's.
pub(super) fn chosen(config: &Exits, served: &Served, variant: &str) -> (String, f64) {
    let package = served.loaded.package();
    let said = package.variants.iter().find(|v| v.name == variant);
    let policy = served.wishes.exit_policy.clone();
    let policy = policy.or_else(|| config.policy.clone());
    let policy = policy.or_else(|| said.and_then(|v| v.exit_policy.clone()));
    let target = served.wishes.loss_target.or(config.loss_target);
    let target = target.or_else(|| said.and_then(|v| v.loss_target));
    (
        policy.unwrap_or_else(|| THRESHOLDS.to_owned()),
        target.unwrap_or(0.01),
    )
}

/// What decides at the exits of each arm with exits, and for what loss.
pub(super) type Asked = BTreeMap<Key, (String, f64)>;

/// What is asked for the arms of a plan.
pub(super) fn asked(
    plan: &Plan,
    models: &BTreeMap<ModelName, Arc<Served>>,
    config: &Exits,
) -> Asked {
    let arms = plan.models.iter().flat_map(|(model, planned)| {
        let arms = planned.arms.iter().filter(|arm| arm.kind == ArmKind::Exits);
        arms.map(move |arm| (model, arm))
    });
    let asked = arms.filter_map(|(model, arm)| {
        let chosen = chosen(config, models.get(model)?, &arm.variant);
        Some(((model.clone(), arm.name.clone()), chosen))
    });
    asked.collect()
}

impl Steering {
    /// What was asked for the arms in force.
    pub(super) fn in_force(&self) -> Asked {
        self.asked.lock().clone()
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Follows a plan that is about to be put in force, whose nodes were told what was asked of their exits. An arm
    /// that lies on the same nodes as before keeps what is known of it.
    pub(super) fn follow(
        &self,
        plan: &Plan,
        models: &BTreeMap<ModelName, Arc<Served>>,
        config: &Exits,
        asked: Asked,
        threads: impl Fn(&NodeId) -> u32,
    ) {
        *self.asked.lock() = asked;
        let mut arms = self.arms.lock();
        let mut before = std::mem::take(&mut *arms);
        for (model, planned) in &plan.models {
            let Some(served) = models.get(model) else {
                continue;
            };
            for arm in planned.arms.iter().filter(|arm| arm.kind == ArmKind::Exits) {
                let (policy, target) = chosen(config, served, &arm.variant);
                let ([route], Some(variant)) =
                    (&arm.branches[..], served.loaded.variant(&arm.variant))
                else {
                    continue;
                };
                if policy == THRESHOLDS {
                    continue;
                }
                let key = (model.clone(), arm.name.clone());
                let nodes = held(route, &threads);
                let same = before.remove(&key).filter(|old| {
                    old.nodes == nodes
                        && old.governor.settings().policy == policy
                        && old.governor.settings().target.total_cmp(&target).is_eq()
                });
                let governor = match same {
                    Some(old) => Ok(old.governor),
                    None => governor(served, arm, variant, &nodes, policy, target, config),
                };
                match governor {
                    Ok(governor) => {
                        let mut all = 0.0;
                        let times = nodes.iter().flat_map(|held| &held.assumed.stages);
                        let to: Vec<f64> = times
                            .map(|stage| {
                                all += stage;
                                all
                            })
                            .collect();
                        let new = Arm {
                            governor,
                            generation: plan.generation,
                            route: route.id,
                            nodes,
                            audit_share: config.audit_share,
                            spent: ada_ee::shares(&to),
                        };
                        arms.insert(key, new);
                    }
                    Err(why) => tracing::warn!(code = "SP404",
                        %model, arm = arm.name, %why,
                        "exits keep to their thresholds"
                    ),
                }
            }
        }
    }

    /// A request was sent to the first node of a route.
    pub(super) fn sent(&self, generation: Generation, route: RouteId) {
        let now = self.now();
        let mut arms = self.arms.lock();
        let arm = arms
            .values_mut()
            .find(|arm| arm.generation == generation && arm.route == route);
        if let Some(arm) = arm {
            arm.governor.arrived(now);
        }
    }

    /// A node reported of its stations.
    pub(super) fn reported(&self, node: &NodeId, reports: &[StationReport]) {
        let mut arms = self.arms.lock();
        for report in reports {
            let arm = arms
                .values_mut()
                .find(|arm| arm.generation.0 == report.generation && arm.route.0 == report.route);
            let Some(arm) = arm else { continue };
            let place = arm.nodes.iter().position(|held| held.node == *node);
            let Some(place) = place else { continue };
            for _ in 0..report.refused.min(1 << 20) {
                arm.governor.lost();
            }
            let held = &arm.nodes[place];
            let stage = |number: usize| report.stages.get(number).filter(|stage| stage.count > 0);
            let is_end = held.assumed.stages.len() > held.exits;
            // What follows the last exit here belongs to it where another node goes on.
            let behind = stage(held.exits).filter(|_| !is_end);
            for number in 0..held.assumed.stages.len() {
                let Some(time) = stage(number) else { continue };
                let last = number + 1 == held.exits;
                let more = behind
                    .filter(|_| last)
                    .map_or(0.0, |stage| stage.mean_seconds);
                arm.governor.took(
                    place,
                    number,
                    time.count,
                    time.mean_seconds + more,
                    time.variance_seconds2,
                );
            }
        }
    }

    /// An audited request came to its end, which named this class.
    pub(super) fn audited(&self, model: &ModelName, arm: &str, part: &Part, class: u32) {
        let key = (model.clone(), arm.to_owned());
        let mut arms = self.arms.lock();
        let Some(arm) = arms.get_mut(&key) else {
            return;
        };
        let said = part.trail.iter().flat_map(|timing| &timing.exits);
        let said: Vec<(f64, bool)> = said
            .map(|said| (f64::from(said.confidence), said.class == class))
            .collect();
        if let Some(drift) = arm.governor.audited(&said) {
            tracing::warn!(code = "SP404",
                %model, arm = key.1, exit = drift.exit + 1, promised = drift.promised,
                came_true = drift.came_true,
                "an exit no longer keeps what its confidence promises; it is believed less from now on"
            );
        }
    }

    /// What is to be solved now.
    fn due(&self) -> Vec<(Key, Task)> {
        let now = self.now();
        let mut arms = self.arms.lock();
        let due = arms.iter_mut().filter_map(|(key, arm)| {
            let task = arm.governor.due(now)?;
            Some((key.clone(), task))
        });
        due.collect()
    }

    /// What came of it, and what the nodes are to be told.
    fn solved(&self, key: &Key, solved: Result<Solved, ExitError>) -> Vec<(NodeId, ExitRules)> {
        if let Err(why) = &solved {
            tracing::warn!(code = "SP404", model = %key.0, arm = key.1, %why, "no rules for its exits; the old ones stay");
        }
        let mut arms = self.arms.lock();
        let Some(arm) = arms.get_mut(key) else {
            return Vec::new();
        };
        match arm.governor.done(solved) {
            true => arm.messages(),
            false => Vec::new(),
        }
    }

    /// The rules in force of every arm.
    pub(super) fn messages(&self) -> Vec<(NodeId, ExitRules)> {
        let arms = self.arms.lock();
        arms.values().flat_map(Arm::messages).collect()
    }

    /// Every controlled arm.
    pub(super) fn views(&self) -> Vec<(Key, GovernorView)> {
        let arms = self.arms.lock();
        let views = arms
            .iter()
            .map(|(key, arm)| (key.clone(), arm.governor.view()));
        views.collect()
    }

    /// What decides at an arm's exits, for operators; `None` where thresholds do.
    pub(super) fn status(&self, model: &str, arm: &str) -> Option<ExitControlStatus> {
        let arms = self.arms.lock();
        let key = (ModelName::new(model), arm.to_owned());
        let governor = &arms.get(&key)?.governor;
        let (settings, view) = (governor.settings(), governor.view());
        Some(ExitControlStatus {
            policy: settings.policy.clone(),
            loss_target: settings.target,
            rate: view.rate,
            load: view.load,
            expected_accuracy: view.accuracy,
            expected_loss: view.loss,
            measured_loss: view.lost,
            arrivals: view.arrivals,
            aim: view.aim,
            solutions: view.solutions,
            audited: view.audited,
            moved: view.moved.map(moved).unwrap_or_default(),
            trust: view.trust,
            instead: view.instead,
        })
    }
}

fn moved(moved: Moved) -> String {
    match moved {
        Moved::Rate => "rate".into(),
        Moved::Bursts => "bursts".into(),
        Moved::Service => "service".into(),
        Moved::Confidence { exit } => format!("confidence of exit {}", exit + 1),
    }
}

impl Arm {
    fn messages(&self) -> Vec<(NodeId, ExitRules)> {
        let pairs = self.nodes.iter().zip(self.governor.rules());
        let of = |(held, rule): (&Held, &Rule)| {
            let settings = self.governor.settings();
            let rules = ExitRules {
                generation: self.generation.0,
                route: self.route.0,
                policy: settings.policy.clone(),
                first: u32::try_from(rule.first).unwrap_or(u32::MAX),
                exits: rule.exits.iter().map(message).collect(),
                intents: rule
                    .intents
                    .iter()
                    .map(|intents| ExitIntents {
                        exits: intents.of().iter().map(|(to, _)| u32::from(to.0)).collect(),
                        probabilities: intents.of().iter().map(|(_, p)| *p).collect(),
                    })
                    .collect(),
                audit_share: self.audit_share,
                spent: self.spent.clone(),
                places: u32::try_from(settings.places).unwrap_or(u32::MAX),
            };
            (held.node.clone(), rules)
        };
        pairs.map(of).collect()
    }
}

fn message(exit: &splitplace_policy::exit::RuleExit) -> ExitRule {
    let (looks, stop, unheard) = match &exit.looks {
        Looks::Intent => (exit_rule::Looks::Intent, Vec::new(), Vec::new()),
        Looks::Present(stop) => (exit_rule::Looks::Present, stop.clone(), Vec::new()),
        Looks::Behind(stop, unheard) => (exit_rule::Looks::Behind, stop.clone(), unheard.clone()),
    };
    ExitRule {
        edges: exit.edges.clone(),
        looks: looks.into(),
        stop,
        unheard,
        calibrated_edges: exit.calibrated_edges.clone(),
        calibrated: exit.calibrated.clone(),
    }
}

fn governor(
    served: &Served,
    arm: &ArmPlan,
    variant: &LoadedVariant,
    nodes: &[Held],
    policy: String,
    target: f64,
    config: &Exits,
) -> Result<Governor, String> {
    let records = served.loaded.exit_records(&arm.variant);
    let records: Records =
        records?.ok_or("nothing was measured of them; run `splitplace model measure`")?;
    let settings = GovernorSettings {
        policy,
        target,
        places: config.places as usize,
        thresholds: variant
            .exits
            .iter()
            .map(|exit| f64::from(exit.threshold))
            .collect(),
        ..GovernorSettings::default()
    };
    let assumed = nodes.iter().map(|held| held.assumed.clone()).collect();
    Governor::new(settings, &records, assumed).map_err(|error| error.to_string())
}

/// The nodes of a route that hold exits or the network's end, with the times between them as planned.
fn held(route: &Route, threads: &impl Fn(&NodeId) -> u32) -> Vec<Held> {
    let mut all: Vec<Held> = Vec::new();
    let mut since = 0.0;
    for (place, hop) in route.hops.iter().enumerate() {
        if all.last().is_none_or(|held| held.node != hop.node) {
            since = 0.0;
            all.push(Held {
                node: hop.node.clone(),
                exits: 0,
                assumed: Assumed {
                    stages: Vec::new(),
                    servers: threads(&hop.node),
                },
            });
        }
        let Some(held) = all.last_mut() else { continue };
        since += (hop.service + hop.coding).as_secs_f64();
        for _ in &hop.exits {
            held.exits += 1;
            held.assumed.stages.push(std::mem::take(&mut since));
        }
        if place + 1 == route.hops.len() {
            held.assumed.stages.push(since);
        }
    }
    all.retain(|held| !held.assumed.stages.is_empty());
    all
}

/// Solves what is due, beside everything else, and sends the rules.
pub(super) async fn steer(inner: Arc<Inner>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        looks.tick().await;
        for (key, task) in inner.steering.due() {
            let inner = Arc::clone(&inner);
            tokio::spawn(async move {
                let began = Instant::now();
                let solved = tokio::task::spawn_blocking(move || task.solve()).await;
                let solved = solved.unwrap_or(Err(ExitError::Program));
                inner.metrics.solved(&key, began.elapsed());
                let messages = inner.steering.solved(&key, solved);
                inner.tell_rules(messages);
            });
        }
    }
}

impl Inner {
    /// Sends rules to their nodes. A node that is gone has no use for them.
    pub(super) fn tell_rules(&self, messages: Vec<(NodeId, ExitRules)>) {
        for (node, rules) in messages {
            let _ = self
                .sessions
                .send(&node, center_message::Kind::Exits(rules));
        }
    }
}

#[cfg(test)]
mod tests {
    use splitplace_plan::{ExitRule as Exit, FragmentId, Hop};

    use super::*;

    fn hop(node: &str, millis: u64, exits: u32) -> Hop {
        let exit = |number| Exit {
            number,
            name: format!("exit{number}"),
            output: format!("exit{number}"),
            threshold: 0.9,
        };
        Hop {
            service: Duration::from_millis(millis),
            exits: (0..exits).map(exit).collect(),
            ..Hop::new(NodeId::new(node), FragmentId([0; 32]), 0..1)
        }
    }

    #[test]
    fn stages_lie_between_exits_and_nodes_without_any_are_no_stations() {
        let route = Route {
            id: RouteId(1),
            hops: vec![
                hop("door", 1, 0),
                hop("a", 2, 1),
                hop("a", 3, 1),
                hop("b", 4, 0),
                hop("b", 5, 1),
                hop("b", 6, 0),
            ],
            bytes_out: 0,
        };
        let held = held(&route, &|_| 2);
        let stages: Vec<_> = held
            .iter()
            .map(|held| (held.node.as_str(), held.exits, held.assumed.stages.clone()))
            .collect();
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        assert_eq!(stages.len(), 2);
        assert_eq!((stages[0].0, stages[0].1), ("a", 2));
        assert!(close(&stages[0].2, &[0.002, 0.003]));
        assert_eq!((stages[1].0, stages[1].1), ("b", 1));
        assert!(close(&stages[1].2, &[0.009, 0.006]));
        assert_eq!(held[0].assumed.servers, 2);
    }
}
