//! Sessions with workers: who is there, how long ago it was heard, what it was asked for.
//!
//! One task serves each session. It knows nothing of plans: it greets, beats, answers with events, and
//! ends with exactly one [`SessionEvent::Left`] for each [`SessionEvent::Joined`]. Everything that a
//! worker can make grow is bounded.
//!
//! Reading order: [`SessionEvent`], [`Sessions`], [`clock`].

pub mod clock;
mod serve;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use splitplace_fleet::{Node, NodeId};
use splitplace_plan::{FragmentId, Generation};
use splitplace_proto::control::{
    Assignment, CenterMessage, FragmentStatus, ProbeSeen, Profile, Report, Retire, center_message,
    control_server::ControlServer,
};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use clock::ClockOffset;

/// What may be chosen about sessions.
#[derive(Clone, Debug)]
pub struct SessionsConfig {
    /// Between two beats.
    pub beat: Duration,
    /// Silence after which a node is lost.
    pub silence: Duration,
    /// Between two reports of a worker.
    pub report: Duration,
    /// Nodes that may join.
    pub max_nodes: usize,
    /// Largest message.
    pub max_message_bytes: usize,
    /// Bytes of one piece of a fetched fragment.
    pub fetch_chunk_bytes: usize,
    /// Where workers send results.
    pub center_address: String,
}

/// Where the bytes of fragments are.
pub trait FragmentSource: Send + Sync + 'static {
    /// The ONNX file of a fragment.
    fn bytes(&self, id: FragmentId) -> Option<Bytes>;
}

/// Something that a worker did.
#[derive(Clone, Debug)]
pub enum SessionEvent {
    /// It is there.
    Joined {
        /// Number of the session; a name may come back before its old session is seen to be dead.
        session: u64,
        /// As it describes itself.
        node: Node,
        /// Its data plane's address.
        address: String,
        /// Where its memory limit was read.
        memory_source: String,
        /// Emulated share of the machine's speed.
        speed_share: f64,
    },
    /// It is gone.
    Left {
        /// Number of the session that ended.
        session: u64,
        /// Which.
        node: NodeId,
        /// Why, for a person.
        why: String,
    },
    /// It finishes what it has and wants nothing new.
    Leaving {
        /// Which.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// Probes came to it.
    Probed {
        /// Which.
        node: NodeId,
        /// What they took.
        seen: Vec<ProbeSeen>,
    },
    /// What it measured since the last time.
    Reported {
        /// Which.
        node: NodeId,
        /// What.
        report: Report,
    },
}

/// What became of a request to a worker.
pub type Answered = oneshot::Receiver<Loading>;

/// A worker's refusal to load or measure something.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// With the arithmetic, where something did not fit.
    pub reason: String,
    /// What was measured before it refused.
    pub measured: Vec<FragmentStatus>,
}

/// What comes of asking a worker to load or measure fragments.
pub type Loading = Result<Vec<FragmentStatus>, Refused>;

type Waiters = BTreeMap<u64, oneshot::Sender<Loading>>;

/// One session as the rest of the centre sees it.
struct Handle {
    /// Of several sessions of one name, which.
    number: u64,
    outbox: mpsc::Sender<Result<CenterMessage, Status>>,
    address: String,
    heard: tokio::time::Instant,
    offset: ClockOffset,
    assignments: Waiters,
    profiles: Waiters,
}

struct Inner {
    config: SessionsConfig,
    fragments: Arc<dyn FragmentSource>,
    events: mpsc::Sender<SessionEvent>,
    nodes: Mutex<BTreeMap<NodeId, Handle>>,
    next: Mutex<u64>,
    /// Bytes of fragments that went to workers.
    fetched: AtomicU64,
}

/// Every session. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries(self.inner.nodes.lock().keys())
            .finish()
    }
}

/// A node that has no session, or reads its messages too slowly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {0} has no session")]
pub struct Gone(pub NodeId);

/// Messages to one worker that may wait.
const OUTBOX: usize = 256;
/// Events that may wait for the centre.
const EVENTS: usize = 4096;

impl Sessions {
    /// No sessions yet. What happens comes out of the receiver.
    #[must_use]
    pub fn new(
        config: SessionsConfig,
        fragments: Arc<dyn FragmentSource>,
    ) -> (Self, mpsc::Receiver<SessionEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let inner = Inner {
            config,
            fragments,
            events,
            nodes: Mutex::default(),
            next: Mutex::default(),
            fetched: AtomicU64::new(0),
        };
        (
            Self {
                inner: Arc::new(inner),
            },
            receiver,
        )
    }

    /// The gRPC service to mount.
    #[must_use]
    pub fn service(&self) -> ControlServer<serve::Server> {
        let size = self.inner.config.max_message_bytes;
        ControlServer::new(serve::Server::new(self.clone()))
            .max_decoding_message_size(size)
            .max_encoding_message_size(size)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`Gone`] when there is no session, or when its outbox is full: a worker that does not read is
    /// as good as lost, and its session is ended.
    pub fn send(&self, node: &NodeId, kind: center_message::Kind) -> Result<(), Gone> {
        let mut nodes = self.inner.nodes.lock();
        let gone = || Gone(node.clone());
        let handle = nodes.get(node).ok_or_else(gone)?;
        let message = CenterMessage { kind: Some(kind) };
        if handle.outbox.try_send(Ok(message)).is_err() {
            nodes.remove(node);
            return Err(gone());
        }
        Ok(())
    }

    /// Assigns a generation to a node; the answer comes when everything is loaded, or refused.
    ///
    /// # Errors
    /// [`Gone`]. A node that is lost later lets the receiver end without an answer.
    pub fn assign(&self, node: &NodeId, assignment: Assignment) -> Result<Answered, Gone> {
        let generation = assignment.generation;
        let (told, answer) = oneshot::channel();
        match self.inner.nodes.lock().get_mut(node) {
            Some(handle) => handle.assignments.insert(generation, told),
            None => return Err(Gone(node.clone())),
        };
        self.send(node, center_message::Kind::Assignment(assignment))?;
        Ok(answer)
    }

    /// Has a node measure fragments.
    ///
    /// # Errors
    /// As [`assign`](Self::assign).
    pub fn profile(&self, node: &NodeId, profile: Profile) -> Result<Answered, Gone> {
        let id = profile.id;
        let (told, answer) = oneshot::channel();
        match self.inner.nodes.lock().get_mut(node) {
            Some(handle) => handle.profiles.insert(id, told),
            None => return Err(Gone(node.clone())),
        };
        self.send(node, center_message::Kind::Profile(profile))?;
        Ok(answer)
    }

    /// Tells every node that generations below `first` are over.
    pub fn retire(&self, first: Generation) {
        let names: Vec<NodeId> = self.inner.nodes.lock().keys().cloned().collect();
        for node in names {
            let retire = Retire {
                below_generation: first.0,
            };
            // A node that is gone holds nothing.
            let _ = self.send(&node, center_message::Kind::Retire(retire));
        }
    }

    /// The data plane's address of every node with a session.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<NodeId, String> {
        let nodes = self.inner.nodes.lock();
        nodes
            .iter()
            .map(|(node, handle)| (node.clone(), handle.address.clone()))
            .collect()
    }

    /// Bytes of fragments that went to workers so far.
    #[must_use]
    pub fn fetched_bytes(&self) -> u64 {
        self.inner.fetched.load(Ordering::Relaxed)
    }

    /// By how much a node's clock is ahead of the centre's, in microseconds; 0 when not known.
    #[must_use]
    pub fn clock_offset_us(&self, node: &str) -> i64 {
        self.inner
            .nodes
            .lock()
            .get(node)
            .map_or(0, |handle| handle.offset.offset_us())
    }
}
