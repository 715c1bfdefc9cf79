//! The centre: the brain with sockets around it.
//!
//! Every decision is the brain's. What is here carries facts in (asks, frames from workers, alarms,
//! changes of the fleet) and orders out (frames to first hops, answers). One lock guards the brain and
//! the requests that wait; nothing is sent, merged or awaited under it.
//!
//! Reading order: `flow` (requests that wait), this [`Center`], `answer`, `served`, `control` (fleet,
//! planning, persistence), `exits` (their control), `asking` (the [`Face`](crate::face::Face)).

mod alarms;
mod answer;
mod asking;
mod check;
mod clock;
mod control;
mod demand;
mod exits;
mod flow;
mod ids;
mod journal;
mod look;
mod merge;
mod metrics;
mod plans;
mod prediction;
mod profiled;
mod roll_out;
mod served;
mod traced;
mod triton;
mod watching;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use prometheus_client::registry::Registry;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use splitplace_brain::{Brain, Order, Settings};
use splitplace_fleet::{Links, NodeId, Place, Snapshot, WatchSettings};
use splitplace_lifecycle::{Event, Fault, Limits, RequestId};
use splitplace_link::{Frame, Reason, Security, SendError, Sender, Sink, Tensor, probe};
use splitplace_onnx::{Costs, Fragment};
use splitplace_plan::{ArmKind, Exact, FragmentId, Generation, ModelName, Plan, RouteId, Strategy};
use splitplace_twin::strategies;
use tokio::sync::{mpsc, watch};

use crate::{
    catalog::{Catalog, LoadSettings},
    config::Config,
    measured::{Codings, MeasuredSettings, ProbeSettings, Profiles, Roads, Transfers},
    sessions::{FragmentSource, Sessions, SessionsConfig},
    store::{DecisionRecord, Store, StoreError},
};

pub use control::Running;
pub use metrics::reference as metrics_reference;

use self::{
    alarms::Alarms,
    clock::Clock,
    flow::{Action, Flow},
    ids::Ids,
    journal::Journal,
    metrics::Metrics,
    served::Served,
};

/// Frames that may wait for one worker.
const OUTLET_FRAMES: usize = 4096;
/// Decisions that may wait for the disk; older ones are given up, and counted.
const HISTORY: usize = 16_384;

/// Why a centre cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The policy is not one.
    #[error(transparent)]
    Policy(#[from] splitplace_policy::PolicyError),
}

/// Everything that a centre is given.
pub struct Parts {
    /// What was chosen.
    pub config: Config,
    /// Where state is kept.
    pub store: Arc<dyn Store>,
    /// Links of an emulated fleet.
    pub links: Option<Links>,
    /// Certificates, when the fleet uses them.
    pub security: Option<Security>,
    /// Where workers send results, `host:port`.
    pub center_address: String,
    /// What predictions of segments that never ran start from.
    pub costs: Costs,
    /// Of every random choice.
    pub seed: u64,
}

/// The fleet as operators see it.
#[derive(Clone, Debug, Default)]
struct FleetView {
    nodes: Vec<splitplace_proto::center::NodeStatus>,
    explanation: String,
    /// What plans count on beyond what is known, in words.
    assumed: Vec<String>,
}

/// The running centre. Cheap to clone.
#[derive(Clone)]
pub struct Center {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    clock: Clock,
    flow: Mutex<Flow>,
    alarms: Alarms,
    outlets: RwLock<BTreeMap<NodeId, Arc<Sender>>>,
    sessions: Sessions,
    security: Option<Security>,
    /// Links of an emulated fleet, as whoever plans is told; none where links are real.
    links: Option<Links>,
    /// How they are slowed now.
    shapes: RwLock<Option<Links>>,
    /// Links as they show themselves.
    roads: Mutex<Roads>,
    /// What became of plans.
    journal: Mutex<Journal>,
    seed: u64,
    /// Chooses places.
    strategy: Box<dyn Strategy>,
    models: RwLock<BTreeMap<ModelName, Arc<Served>>>,
    /// Why models that are wanted are not there.
    problems: RwLock<BTreeMap<ModelName, String>>,
    catalog: Arc<Catalog>,
    store: Arc<dyn Store>,
    fragments: Arc<Fragments>,
    ids: Ids,
    plan: RwLock<Arc<Plan>>,
    fleet: RwLock<FleetView>,
    history: Mutex<VecDeque<DecisionRecord>>,
    changes: watch::Sender<u64>,
    commands: mpsc::Sender<control::Command>,
    feedback: Saves,
    watching: watching::Watching,
    /// What links really took.
    transfers: Mutex<Transfers>,
    codings: Mutex<Codings>,
    /// What workers say of their fragments.
    profiles: Mutex<Profiles>,
    is_draining: AtomicBool,
    is_settled: AtomicBool,
    metrics: Metrics,
    steering: exits::Steering,
    tracing: traced::Tracing,
}

/// Who waits for the policy's state to reach the disk: one write serves all who came before it.
#[derive(Debug, Default)]
struct Saves {
    asked: tokio::sync::Notify,
    waiting: Mutex<Vec<tokio::sync::oneshot::Sender<()>>>,
}

/// The bytes of every fragment that a plan in force, or one being prepared, names.
#[derive(Debug, Default)]
struct Fragments {
    held: RwLock<BTreeMap<FragmentId, Arc<Fragment>>>,
}

impl FragmentSource for Fragments {
    fn bytes(&self, id: FragmentId) -> Option<bytes::Bytes> {
        self.held
            .read()
            .get(&id)
            .map(|fragment| fragment.onnx.clone())
    }
}

impl std::fmt::Debug for Center {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Center").finish_non_exhaustive()
    }
}

impl Center {
    /// Starts a centre from what the store remembers. Blocks on the store; needs a tokio runtime.
    /// Models are loaded, and workers waited for, after this has returned.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(parts: Parts, registry: &mut Registry) -> Result<(Self, Running), StartError> {
        let Parts {
            config,
            store,
            links,
            security,
            center_address,
            costs,
            seed,
        } = parts;
        let mut policy = splitplace_policy::by_name(&config.policy.name, &config.policy.params)?;
        if let Some(state) = store.policy(policy.name())? {
            policy.restore(&state);
        }
        let settings = Settings {
            limits: Limits {
                in_flight_max: config.admission.max_in_flight,
                attempts_max: config.admission.max_attempts,
                ..Limits::default()
            },
            memory: config.admission.remembered,
            refuse_hopeless: config.admission.refuse_hopeless,
            ..Settings::default()
        };
        let brain = Brain::new(settings, policy, ChaCha8Rng::seed_from_u64(seed));
        let fragments = Arc::new(Fragments::default());
        let sessions_config = SessionsConfig {
            beat: Duration::from_millis(config.workers.beat_ms),
            silence: Duration::from_millis(config.workers.silence_ms),
            report: Duration::from_millis(config.workers.report_ms),
            max_nodes: config.workers.max_nodes,
            max_message_bytes: config.workers.max_frame_bytes,
            fetch_chunk_bytes: 1 << 20,
            center_address,
        };
        let source: Arc<dyn FragmentSource> = Arc::clone(&fragments) as Arc<dyn FragmentSource>;
        let (sessions, events) = Sessions::new(sessions_config, source);
        let folders = config.models.iter().cloned().collect();
        let catalog = Arc::new(Catalog::new(
            folders,
            Arc::clone(&store),
            LoadSettings::default(),
        ));
        let (commands, orders) = mpsc::channel(64);
        let ids = Ids::new(Arc::clone(&store))?;
        let inner = Arc::new(Inner {
            clock: Clock::start(),
            flow: Mutex::new(Flow::new(brain)),
            alarms: Alarms::default(),
            outlets: RwLock::default(),
            sessions,
            security,
            shapes: RwLock::new(links.clone()),
            roads: Mutex::new(Roads::new(
                links.clone().unwrap_or_default(),
                WatchSettings::default(),
                ProbeSettings {
                    share: config.planning.probe_share,
                    ..ProbeSettings::default()
                },
            )),
            journal: Mutex::default(),
            links,
            seed,
            // A name that is none is refused when the settings are read.
            strategy: strategies::by_name(&config.planning.strategy)
                .unwrap_or_else(|| Box::new(Exact)),
            models: RwLock::default(),
            problems: RwLock::default(),
            catalog,
            store,
            fragments,
            ids,
            plan: RwLock::default(),
            fleet: RwLock::default(),
            history: Mutex::default(),
            changes: watch::Sender::new(0),
            commands,
            feedback: Saves::default(),
            watching: watching::Watching::default(),
            transfers: Mutex::default(),
            codings: Mutex::default(),
            profiles: Mutex::new(Profiles::new(MeasuredSettings::default().records)),
            is_draining: AtomicBool::new(false),
            is_settled: AtomicBool::new(false),
            metrics: Metrics::register(registry),
            steering: exits::Steering::default(),
            tracing: traced::Tracing::new(&config.traces, seed),
            config,
        });
        let center = Self { inner };
        if center.inner.config.api.triton_metrics {
            let triton = triton::Triton::new(Arc::downgrade(&center.inner));
            registry.register_collector(Box::new(triton));
        }
        let running = control::start(&center, events, orders, costs)?;
        Ok((center, running))
    }

    /// The sessions with workers, for the server that mounts their service.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.inner.sessions
    }

    /// From now on nothing new is let in.
    pub fn drain(&self) {
        self.inner.is_draining.store(true, Ordering::Relaxed);
        self.inner.changed();
    }

    /// Requests that have not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner.flow.lock().brain.in_flight()
    }

    /// How many requests came and how they ended.
    #[must_use]
    pub fn counts(&self) -> splitplace_lifecycle::Counts {
        self.inner.flow.lock().brain.counts()
    }
}

impl Inner {
    /// Tells the brain a fact and does what it orders.
    fn step(&self, event: Event) {
        self.with_brain(|brain, now| brain.step(now, event));
    }

    /// Tells the brain what is known of the fleet.
    fn observe(&self, snapshot: Snapshot) {
        self.with_brain(|brain, now| brain.observe(now, snapshot));
    }

    fn with_brain(&self, tell: impl FnOnce(&mut Brain, splitplace_fleet::Timestamp) -> Vec<Order>) {
        let actions = {
            let mut flow = self.flow.lock();
            let now = self.clock.now();
            let orders = tell(&mut flow.brain, now);
            flow.prepare(orders)
        };
        self.act(actions);
    }

    /// Carries out what was ordered. A frame that cannot leave is a fact of its own, told at once.
    fn act(&self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Wake { request, at } => self.alarms.set(at, request),
                Action::Send { node, frame } => {
                    self.steering
                        .sent(Generation(frame.generation), RouteId(frame.route));
                    if let Err((frame, fault)) = self.send(&node, frame) {
                        let mut flow = self.flow.lock();
                        flow.note(&frame, format!("node {node}: {fault}"));
                        let now = self.clock.now();
                        let orders = flow.brain.step(now, failed(&frame, fault));
                        actions.extend(flow.prepare(orders));
                    }
                }
                Action::Finish(ended) => self.finish(*ended),
            }
        }
    }

    fn send(&self, node: &NodeId, frame: Box<Frame>) -> Result<(), (Box<Frame>, Fault)> {
        let outlet = self.outlets.read().get(node).cloned();
        let Some(outlet) = outlet else {
            return Err((frame, Fault::PeerLost));
        };
        outlet.send(*frame).map_err(|error| match error {
            SendError::Full(frame) => (frame, Fault::QueueFull),
            SendError::Lost(frame) => (frame, Fault::PeerLost),
        })
    }

    fn finish(&self, ended: flow::Ended) {
        let flow::Ended {
            request,
            report,
            waiting,
        } = ended;
        let ended_us = clock::unix_us();
        let unix_ms = u64::try_from(ended_us / 1000).unwrap_or(0);
        {
            let record = answer::record(request, &waiting, &report, unix_ms);
            let mut history = self.history.lock();
            if history.len() == HISTORY {
                history.pop_front();
                self.metrics.forgotten.inc();
            }
            history.push_back(record);
        }
        let sessions = &self.sessions;
        let mut outcome = answer::assemble(request, &waiting, &report, &|node: &str| {
            sessions.clock_offset_us(node)
        });
        waiting
            .served
            .count(&outcome, report.response, waiting.samples, unix_ms);
        let mut view = watching::seen(request, &waiting, &report, &outcome, unix_ms);
        let trace = self.traced(request, &waiting, &mut view, &mut outcome, ended_us);
        self.metrics.ended(&waiting.served.name, &report, trace);
        self.note_ended(&waiting.served.name, &report.ending, view, outcome.is_ok());
        let answered = outcome
            .is_ok()
            .then_some((report.response, report.sla_held));
        let now = self.clock.now();
        waiting.served.demand.lock().ended(now, answered);
        if let Ok(answer) = &outcome {
            self.metrics.answered(answer);
            let sent: usize = waiting.inputs.iter().map(Tensor::len_bytes).sum();
            look::learn(self, &report, answer, waiting.samples, sent);
            if let Some(classes) = answer::classes(answer) {
                if let ([class], ArmKind::Exits) = (&classes[..], answer.kind) {
                    let parts = waiting.parts.iter().flatten();
                    for part in parts.filter(|part| part.is_audited) {
                        let model = &waiting.served.name;
                        self.steering.audited(model, &answer.arm, part, *class);
                        self.note_audited(model, &report, part, *class);
                    }
                }
                self.flow.lock().brain.classify(request, classes);
            }
        }
        // Whoever asked may have gone.
        let flow::Waiting { reply, outputs, .. } = waiting;
        let _ = reply.send(outcome.map(|answer| flow::Waiting::select_from(&outputs, answer)));
    }

    /// Takes in a probe that came here from a node.
    fn probed(&self, peer: &str, frame: &Frame) {
        if !self.outlets.read().contains_key(peer) {
            return;
        }
        let ahead = self.sessions.clock_offset_us(peer);
        let took = clock::unix_us().saturating_sub(frame.sent_unix_us);
        #[expect(clippy::cast_precision_loss, reason = "a probe is small and short")]
        let (bytes, seconds) = (
            frame.payload_bytes() as f64,
            took.saturating_add(ahead) as f64 * 1e-6,
        );
        let from = Place::Node(NodeId::new(peer));
        let now = self.clock.now();
        let mut roads = self.roads.lock();
        roads.observe(now, (&from, &Place::Center), bytes, seconds);
    }

    /// Says that something changed that a watcher may want to see.
    fn changed(&self) {
        self.changes.send_modify(|version| *version += 1);
    }
}

/// The fact that a frame's branch will not come back.
const fn failed(frame: &Frame, fault: Fault) -> Event {
    Event::BranchFailed {
        request: RequestId(frame.request),
        attempt: frame.attempt,
        branch: frame.branch,
        fault,
    }
}

/// What a worker's reason means to a request.
const fn fault(reason: Reason) -> Fault {
    match reason {
        Reason::Expired => Fault::Expired,
        Reason::QueueFull => Fault::QueueFull,
        Reason::UnknownRoute => Fault::StaleRoute,
        Reason::PeerLost => Fault::PeerLost,
        Reason::PeerDistrusted => Fault::PeerDistrusted,
        Reason::Draining => Fault::Draining,
        Reason::Engine | Reason::Unspecified => Fault::Engine,
    }
}

impl Sink for Center {
    fn frame(&self, peer: &str, mut frame: Frame) {
        if probe::is_probe(&frame) {
            self.inner.probed(peer, &frame);
            return;
        }
        let request = RequestId(frame.request);
        let (attempt, branch) = (frame.attempt, frame.branch);
        let actions = {
            let mut flow = self.inner.flow.lock();
            let event = match frame.failure.take() {
                Some(failure) => {
                    flow.note(&frame, failure.message);
                    failed(&frame, fault(failure.reason))
                }
                None if flow.keep(frame, clock::unix_us()) => Event::BranchAnswered {
                    request,
                    attempt,
                    branch,
                },
                None => {
                    tracing::debug!(
                        peer,
                        request = request.0,
                        attempt,
                        "an answer nobody waits for"
                    );
                    self.inner.metrics.stale.inc();
                    return;
                }
            };
            let now = self.inner.clock.now();
            let orders = flow.brain.step(now, event);
            flow.prepare(orders)
        };
        self.inner.act(actions);
    }
}

impl splitplace_link::Events for Inner {
    fn lost(&self, peer: &str, frames: Vec<Frame>) {
        for frame in frames.into_iter().filter(|frame| !probe::is_probe(frame)) {
            self.flow
                .lock()
                .note(&frame, format!("the link to node {peer} broke"));
            self.step(failed(&frame, Fault::PeerLost));
        }
    }
}
