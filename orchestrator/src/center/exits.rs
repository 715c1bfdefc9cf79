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
use splitplace_plan::{ArmKind, ArmPlan, Generation, ModelName, Plan, RouteId};
use splitplace_policy::exit::{
    ExitError, Records, Rule,
    along::{self, Held, Took, held},
    govern::{Governor, GovernorSettings, GovernorView},
    observe::Moved,
    rule::Looks,
    task::{Solved, Task},
};
use splitplace_proto::{
    center::ExitControlStatus,
    control::{
        ExitIntents, ExitRule, ExitRules, ServiceTime, StationReport, center_message, exit_rule,
    },
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
                        let new = Arm {
                            governor,
                            generation: plan.generation,
                            route: route.id,
                            spent: along::spent(&nodes),
                            nodes,
                            audit_share: config.audit_share,
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
            let took = |stage: &ServiceTime| Took {
                count: stage.count,
                mean: stage.mean_seconds,
                variance: stage.variance_seconds2,
            };
            let took: Vec<Took> = report.stages.iter().map(took).collect();
            arm.nodes[place].tell(&mut arm.governor, place, &took);
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
