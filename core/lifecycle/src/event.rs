//! The facts that a ledger is told and the orders that it gives.

use std::{collections::BTreeSet, fmt};

use splitplace_fleet::{NodeId, Timestamp};
use splitplace_plan::{Generation, RouteId};

/// The centre's own number for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One branch of a decided attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchRoute {
    /// The route's number within its generation.
    pub route: RouteId,
    /// The nodes on it: the loss of one of them is the loss of the branch.
    pub nodes: BTreeSet<NodeId>,
}

/// What went wrong with a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A node on the route is gone.
    NodeLost,
    /// A worker could not reach the next one.
    PeerLost,
    /// A worker does not trust the next one's certificate: until somebody mends that.
    PeerDistrusted,
    /// A worker does not hold the route, or not yet, or not any more.
    StaleRoute,
    /// A fragment's queue was at its bound.
    QueueFull,
    /// A worker found nobody waiting any more.
    Expired,
    /// A worker is leaving.
    Draining,
    /// The engine refused the tensors.
    Engine,
}

impl Fault {
    /// Whether another attempt by the same way may end otherwise.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        !matches!(self, Self::Engine | Self::Expired | Self::PeerDistrusted)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NodeLost => "a node on the route was lost",
            Self::PeerLost => "a worker could not reach the next one",
            Self::PeerDistrusted => "a worker does not trust the next one's certificate",
            Self::StaleRoute => "a worker did not hold the route",
            Self::QueueFull => "a fragment's queue was full",
            Self::Expired => "the time was over before a fragment began",
            Self::Draining => "a worker is leaving",
            Self::Engine => "the engine refused the tensors",
        })
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request came in, was found valid and worth trying.
    Arrived {
        /// New, never used before.
        request: RequestId,
        /// When the answer is promised.
        deadline: Timestamp,
        /// When nobody waits any more; not before the deadline.
        expiry: Timestamp,
    },
    /// The answer to [`Effect::Decide`]: an arm was chosen.
    Routed {
        /// Which request.
        request: RequestId,
        /// Which attempt was decided.
        attempt: u32,
        /// The plan that the routes belong to.
        generation: Generation,
        /// One for each branch, in the variant's order; at least one.
        branches: Vec<BranchRoute>,
        /// Whether an answer may leave out branches that miss the deadline.
        partial: bool,
    },
    /// The answer to [`Effect::Decide`]: nothing can run the model now.
    Unroutable {
        /// Which request.
        request: RequestId,
        /// Which attempt.
        attempt: u32,
    },
    /// The tensors of a branch came back.
    BranchAnswered {
        /// Which request.
        request: RequestId,
        /// Which attempt.
        attempt: u32,
        /// Which branch.
        branch: u32,
    },
    /// A branch will not come back.
    BranchFailed {
        /// Which request.
        request: RequestId,
        /// Which attempt.
        attempt: u32,
        /// Which branch.
        branch: u32,
        /// Why.
        fault: Fault,
    },
    /// A node is gone, and with it whatever was on its way through it.
    NodeLost {
        /// Which.
        node: NodeId,
    },
    /// There is a new plan, or a node came back: what could not be routed may try again.
    RoutesChanged,
    /// The instant of a [`Effect::WakeAt`] has come (or not: waking early is harmless).
    Woke {
        /// Which request.
        request: RequestId,
    },
    /// The client went away.
    Cancelled {
        /// Which request.
        request: RequestId,
    },
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With an answer, made of every branch except `missing`.
    Answered {
        /// The attempt that answered.
        attempt: u32,
        /// Branches left out.
        missing: Vec<u32>,
    },
    /// At the door: the bound of requests in flight was reached.
    Refused,
    /// Nobody waits any more.
    Expired {
        /// The last thing that went wrong, if anything did.
        last: Option<Fault>,
        /// Attempts made.
        attempts: u32,
    },
    /// Trying again would not help.
    Failed {
        /// The last thing that went wrong.
        last: Fault,
        /// Attempts made.
        attempts: u32,
    },
    /// The client went away.
    Cancelled,
}

/// Something to be done. Each names request and attempt, so that doing it twice is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Choose an arm and answer with [`Event::Routed`] or [`Event::Unroutable`].
    Decide {
        /// Which request.
        request: RequestId,
        /// The attempt to be made, counted from 0.
        attempt: u32,
        /// Routes that failed this request since the routes last changed: take another if there is.
        avoid: BTreeSet<RouteId>,
    },
    /// Send the request's tensors to the first hop of a route.
    Send {
        /// Which request.
        request: RequestId,
        /// Which attempt.
        attempt: u32,
        /// Which branch.
        branch: u32,
        /// The plan that the route belongs to.
        generation: Generation,
        /// The way.
        route: RouteId,
    },
    /// Come back with [`Event::Woke`] then. One alarm for each request is enough: the earliest asked
    /// for since it last rang; ringing it asks for the next.
    WakeAt {
        /// Which request.
        request: RequestId,
        /// When.
        at: Timestamp,
    },
    /// The request has ended; answer the client and forget it.
    Finish {
        /// Which request.
        request: RequestId,
        /// How.
        ending: Ending,
    },
}
