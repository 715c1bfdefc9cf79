//! The control loop: who is there, what is served, which plan is in force, what goes to disk.
//!
//! One loop owns all of it. Making a plan and loading it run beside the loop, one at a time; a node that
//! is lost meanwhile is told to the brain at once.

mod drift;
mod in_force;
mod nodes;
mod open;
mod operate;
mod pauses;
mod show;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use splitplace_fleet::{Node, NodeId, NodeState, Snapshot};
use splitplace_onnx::Costs;
use splitplace_plan::{FragmentId, Generation, ModelName, Plan};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use super::{
    Center, Inner, StartError, exits,
    roll_out::{self, Outcome, Start},
};
use crate::{
    catalog::{CatalogError, Loaded},
    face::LoadError,
    measured::{Measured, MeasuredSettings},
    sessions::SessionEvent,
    watched::Operation,
    wishes::Wishes,
};
use drift::Drift;
use operate::Orders;

/// Between two looks at what may be retired and saved.
const TICK: Duration = Duration::from_millis(250);
/// After a roll-out failed, before the next one; doubled each time up to 64-fold.
const RETRY: Duration = Duration::from_millis(250);
/// Memory that a node is believed to have after it refused a plan, as a share of before.
const SHRINK: f64 = 0.95;

/// What an operator asks for.
pub(super) enum Command {
    Load {
        model: ModelName,
        wishes: Option<Wishes>,
        told: oneshot::Sender<Result<(), LoadError>>,
    },
    Unload {
        model: ModelName,
        told: oneshot::Sender<Result<(), LoadError>>,
    },
    Operate {
        what: Operation,
        told: oneshot::Sender<Result<String, String>>,
    },
    /// A copy of what plans are made from.
    Basis { told: oneshot::Sender<Basis> },
}

/// Everything that a plan would be made from now.
#[derive(Clone)]
pub(super) struct Basis {
    pub(super) start: Start,
    /// Arms that requests take by an operator's word.
    pub(super) taken: BTreeMap<ModelName, String>,
    /// What was laid down of arms' places, in words.
    pub(super) pinned: BTreeMap<(ModelName, String), String>,
    /// Nodes that plans do without.
    pub(super) drained: Vec<String>,
}

/// The loops of a centre. Stopping it saves what is not saved yet.
#[derive(Debug)]
pub struct Running {
    stop: oneshot::Sender<()>,
    control: JoinHandle<()>,
    beside: JoinSet<()>,
}

impl Running {
    /// Ends the loops after everything is on disk.
    pub async fn stop(mut self) {
        let _ = self.stop.send(());
        if let Err(error) = self.control.await {
            tracing::error!(code = "SP405", %error, "the control loop ended badly");
        }
        self.beside.shutdown().await;
    }
}

/// A node with a session, or one that had one.
struct Known {
    node: Node,
    session: u64,
    address: String,
    speed_share: f64,
    used_bytes: u64,
    /// Whether it holds its part of the plan in force.
    is_settled: bool,
    /// Share of its memory that plans may count on.
    trust: f64,
}

struct Control {
    inner: Arc<Inner>,
    nodes: BTreeMap<NodeId, Known>,
    measured: Measured,
    plan: Plan,
    stored: Option<Plan>,
    /// When to plan next.
    due: Option<Instant>,
    retry: Duration,
    /// Nodes that the plan under way was made with.
    planned_with: BTreeSet<NodeId>,
    /// Models that it was made for: one that was loaded since has to wait for the next.
    planned_for: BTreeSet<ModelName>,
    /// Models whose load is being waited for.
    loading: Vec<(ModelName, oneshot::Sender<Result<(), LoadError>>)>,
    /// A generation that may be retired below, once nothing runs under an older one.
    retire_below: Option<Generation>,
    saved_policy: BTreeMap<String, f64>,
    /// Whether a plan is being made or loaded.
    is_rolling: bool,
    /// What an operator wants of plans.
    orders: Orders,
    /// Why the next plan is made, and the one under way.
    causes: BTreeSet<String>,
    under_way: String,
    /// What plans were made from, to see it move.
    drift: Drift,
}

type Opened = (ModelName, Result<(Loaded, Wishes), CatalogError>);

/// Starts the loops.
pub(super) fn start(
    center: &Center,
    events: mpsc::Receiver<SessionEvent>,
    commands: mpsc::Receiver<Command>,
    costs: Costs,
) -> Result<Running, StartError> {
    let inner = Arc::clone(&center.inner);
    let known = inner.store.measurements()?;
    let measured = Measured::restore(MeasuredSettings::default(), costs, &known);
    let stored = inner.store.plan()?;
    let plan = stored.clone().map(|stored| Plan {
        models: BTreeMap::new(),
        ..stored
    });
    let control = Control {
        nodes: BTreeMap::new(),
        measured,
        plan: plan.unwrap_or_default(),
        stored,
        due: None,
        retry: RETRY,
        planned_with: BTreeSet::new(),
        planned_for: BTreeSet::new(),
        loading: Vec::new(),
        retire_below: None,
        is_rolling: false,
        orders: Orders::restore(&inner.store.orders()?.unwrap_or_else(|| "{}".into())),
        causes: BTreeSet::new(),
        under_way: String::new(),
        drift: Drift::new(
            inner.links.clone().unwrap_or_default(),
            Duration::from_millis(inner.config.planning.drift_ms),
        ),
        saved_policy: inner.flow.lock().brain.policy().state(),
        inner: Arc::clone(&inner),
    };
    control.take_orders();
    let (stop, stopped) = oneshot::channel();
    let mut beside = JoinSet::new();
    beside.spawn(ring(Arc::clone(&inner)));
    beside.spawn(exits::steer(Arc::clone(&inner)));
    beside.spawn(super::watching::compare(Arc::clone(&inner)));
    beside.spawn(save_for_feedback(inner));
    let control = tokio::spawn(control.run(events, commands, stopped));
    Ok(Running {
        stop,
        control,
        beside,
    })
}

/// Rings the requests' alarms.
async fn ring(inner: Arc<Inner>) {
    loop {
        for request in inner.alarms.due(&inner.clock).await {
            inner.step(splitplace_lifecycle::Event::Woke { request });
        }
    }
}

/// Writes the policy's state whenever feedback waits for it; one write serves all that wait.
async fn save_for_feedback(inner: Arc<Inner>) {
    loop {
        inner.feedback.asked.notified().await;
        let waiting = std::mem::take(&mut *inner.feedback.waiting.lock());
        if waiting.is_empty() {
            continue;
        }
        if save_policy(&inner).await.is_some() {
            for one in waiting {
                let _ = one.send(());
            }
        }
    }
}

async fn save_policy(inner: &Arc<Inner>) -> Option<BTreeMap<String, f64>> {
    let (name, state) = {
        let flow = inner.flow.lock();
        (flow.brain.policy().name(), flow.brain.policy().state())
    };
    let (store, kept) = (Arc::clone(&inner.store), state.clone());
    let saved = tokio::task::spawn_blocking(move || store.put_policy(name, &kept)).await;
    match saved {
        Ok(Ok(())) => Some(state),
        Ok(Err(error)) => {
            tracing::error!(code = "SP112", %error, "the policy's state cannot be saved");
            None
        }
        Err(_) => None,
    }
}

impl Inner {
    pub(super) const fn load_timeout(&self) -> Duration {
        Duration::from_millis(self.config.workers.load_timeout_ms)
    }
}

impl Control {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<SessionEvent>,
        mut commands: mpsc::Receiver<Command>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let rejoin = Duration::from_millis(self.inner.config.planning.rejoin_ms);
        let patient_until = Instant::now() + rejoin;
        let mut openings: JoinSet<Opened> = JoinSet::new();
        self.open_wanted(&mut openings).await;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut rolling: JoinSet<Outcome> = JoinSet::new();
        loop {
            let may_plan = rolling.is_empty() && openings.is_empty();
            let due = self.due.filter(|_| may_plan);
            let at = due.unwrap_or_else(|| Instant::now() + TICK);
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                Some(event) = events.recv() => self.take(event),
                Some(outcome) = rolling.join_next() => match outcome {
                    Ok(outcome) => self.rolled_out(outcome),
                    Err(error) => {
                        self.is_rolling = false;
                        self.failed(&format!("planning broke: {error}"), None);
                    }
                },
                Some(opened) = openings.join_next() => {
                    if let Ok((model, result)) = opened {
                        self.opened(&model, result);
                    }
                }
                Some(command) = commands.recv() => self.command(command, &mut openings),
                () = tokio::time::sleep_until(at), if due.is_some() => {
                    if self.is_waiting_for_old_friends(patient_until) {
                        self.due = Some(Instant::now() + TICK);
                    } else if !self.has_nodes() {
                        // Nothing to plan with: what was in force, or in the store, is kept for
                        // whoever comes.
                        self.due = None;
                        self.say(&BTreeMap::new());
                    } else {
                        self.due = None;
                        let start = self.begin();
                        rolling.spawn(roll_out::roll_out(Arc::clone(&self.inner), start));
                    }
                }
                _ = ticks.tick() => self.tick().await,
            }
        }
        rolling.shutdown().await;
        self.save().await;
    }

    /// Tells those who wait for a model to be served.
    fn tell(&mut self, model: &ModelName, result: &dyn Fn() -> Result<(), LoadError>) {
        let (told, rest) = std::mem::take(&mut self.loading)
            .into_iter()
            .partition(|(name, _)| name == model);
        self.loading = rest;
        let told: Vec<(ModelName, oneshot::Sender<_>)> = told;
        for (_, one) in told {
            let _ = one.send(result());
        }
    }

    /// Notes why a plan is about to be made.
    fn because(&mut self, cause: String) {
        // Enough to be told; a thousand nodes may join at once.
        if self.causes.len() < 8 {
            self.causes.insert(cause);
        }
    }

    fn command(&mut self, command: Command, openings: &mut JoinSet<Opened>) {
        match command {
            Command::Load {
                model,
                wishes,
                told,
            } => {
                // A plan on its way does not know of the new wishes: whoever waits hears of the next.
                self.planned_for.remove(&model);
                self.loading.push((model.clone(), told));
                self.open(model, false, wishes, openings);
            }
            Command::Unload { model, told } => {
                // Short: the store notes one flag.
                let result = self.inner.catalog.unload(&model);
                let result = result.map_err(|error| error.of(&model));
                if result.is_ok() {
                    self.inner.problems.write().remove(&model);
                    if self.inner.models.write().remove(&model).is_some() {
                        self.because(format!("{model} is unloaded"));
                        self.plan_within(Duration::ZERO);
                    }
                }
                let _ = told.send(result);
                self.inner.changed();
            }
            Command::Operate { what, told } => {
                let _ = told.send(self.operate(what));
            }
            Command::Basis { told } => {
                let _ = told.send(self.basis());
            }
        }
    }

    fn plan_within(&mut self, wait: Duration) {
        let at = Instant::now() + wait;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// After a restart: whether nodes of the last plan may still come back.
    fn is_waiting_for_old_friends(&self, until: Instant) -> bool {
        let Some(stored) = &self.stored else {
            return false;
        };
        let is_missing = |node: &NodeId| {
            self.nodes
                .get(node)
                .is_none_or(|known| known.node.state != NodeState::Alive)
        };
        Instant::now() < until
            && stored
                .routes()
                .flat_map(|route| &route.hops)
                .any(|hop| is_missing(&hop.node))
    }

    /// The fleet. Requests must not be sent to nodes that do not hold their part of the plan yet;
    /// plans may count on them.
    fn snapshot(&self, for_requests: bool) -> Snapshot {
        let mut snapshot = Snapshot::empty(self.inner.clock.now());
        snapshot.links = self.inner.roads.lock().links(drift::QUANTILE);
        for (name, known) in &self.nodes {
            let mut node = known.node.clone();
            if for_requests && !known.is_settled && node.state == NodeState::Alive {
                node.state = NodeState::Lost;
            }
            if !for_requests {
                #[expect(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a share of some bytes"
                )]
                let trusted = (node.memory_bytes as f64 * known.trust) as u64;
                node.memory_bytes = trusted;
            }
            snapshot.nodes.insert(name.clone(), node);
        }
        if !for_requests {
            self.orders.change(&mut snapshot);
        }
        snapshot
    }

    fn begin(&mut self) -> Start {
        let start = self.start();
        self.is_rolling = true;
        self.drift_begins(start.known_links.clone());
        let causes: Vec<String> = std::mem::take(&mut self.causes).into_iter().collect();
        self.under_way = causes.join(", ");
        self.planned_with = start.snapshot.alive().map(|node| node.id.clone()).collect();
        self.planned_for = self.inner.models.read().keys().cloned().collect();
        start
    }

    fn start(&self) -> Start {
        // One lock after another: none is held while another is taken.
        let models = self.inner.models.read().values().cloned().collect();
        let known_links = self.inner.roads.lock().links(drift::QUANTILE);
        Start {
            models,
            measured: self
                .measured
                .clone()
                .crowded(self.inner.profiles.lock().crowding()),
            parent: self.plan.clone(),
            unsettled: self
                .nodes
                .iter()
                .filter(|(_, known)| !known.is_settled)
                .map(|(name, _)| name.clone())
                .collect(),
            stored: self.stored.clone(),
            known_links,
            loads: self.loads(),
            places: self.orders.places().clone(),
            told: self
                .plan
                .routes()
                .flat_map(|route| &route.hops)
                .filter(|hop| {
                    self.nodes
                        .get(&hop.node)
                        .is_some_and(|known| known.is_settled)
                })
                .map(|hop| (hop.node.clone(), hop.fragment))
                .collect(),
            snapshot: self.snapshot(false),
        }
    }

    async fn tick(&mut self) {
        let in_flight = self.inner.flow.lock().brain.in_flight();
        self.inner
            .metrics
            .in_flight
            .set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        if let Some(security) = &self.inner.security {
            self.inner.metrics.certificate_expiry.set(security.expiry());
        }
        for (key, view) in self.inner.steering.views() {
            self.inner.metrics.controlled(&key, &view);
        }
        if let Some(generation) = self.retire_below {
            let oldest = self.inner.flow.lock().brain.oldest_generation();
            if oldest >= generation {
                self.inner.sessions.retire(generation);
                self.retire_below = None;
                let needed: BTreeSet<FragmentId> = self
                    .plan
                    .routes()
                    .flat_map(|r| &r.hops)
                    .map(|hop| hop.fragment)
                    .collect();
                if !self.is_rolling {
                    self.inner
                        .fragments
                        .held
                        .write()
                        .retain(|id, _| needed.contains(id));
                }
            }
        }
        self.drift();
        self.save().await;
    }

    /// Writes what changed: policy, measurements, decisions. What cannot be written now is written
    /// later, or told.
    async fn save(&mut self) {
        let state = self.inner.flow.lock().brain.policy().state();
        if state != self.saved_policy
            && let Some(saved) = save_policy(&self.inner).await
        {
            self.saved_policy = saved;
        }
        let decisions: Vec<_> = self.inner.history.lock().drain(..).collect();
        let changed = self.measured.take_changed();
        if decisions.is_empty() && changed.is_empty() {
            return;
        }
        let store = Arc::clone(&self.inner.store);
        let saved = tokio::task::spawn_blocking(move || {
            store.append_decisions(&decisions)?;
            store.put_measurements(&changed)
        });
        match saved.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(code = "SP112", %error, "history cannot be saved"),
            Err(error) => tracing::error!(code = "SP112", %error, "history cannot be saved"),
        }
    }
}
