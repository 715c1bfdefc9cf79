//! The brain's second interpreter: the production brain, with simulated workers and links behind it.
//!
//! What the live system decides is decided here by the same code: [`Brain`](splitplace_brain::Brain)
//! with its ledger, policy and forecasts, told the same facts in the same order. What is simulated is
//! what the live system does, as far as time can see it:
//!
//! - a worker queues frames by deadline, at most so many for each fragment, computes on as many threads
//!   as it has cores, drops what has expired before it computes it, computes all hops that a route has there in a
//!   row, hands the rest to the next worker or, where an exit answers, to the centre
//!   (`worker/src/{node,compute}.rs`); coding for a link is counted with the service behind it;
//! - exits answer by their confidence, by the rules of their controller where they have one, and where nothing is
//!   known of them in the share that the plan expects (`worker/src/station.rs`);
//! - a link sends frames one after another at its rate and delays them side by side, and holds a bounded
//!   number (`link/src/{shape,sender}.rs`);
//! - the centre rings alarms, notices lost nodes after a while, plans, has fragments loaded, adopts,
//!   retires, keeps the rules of exits true to what comes (`orchestrator/src/center`).
//!
//! Left out: the bytes of tensors, processor time of the centre, contention between processes of one
//! machine (unless a worker is declared to share), a second connection attempt.
//!
//! Reading order: this module (what may be said about a world), `node`,
//! `run`, `carry`, `work`, `exits`, `control`, `steering`, `report`.

mod carry;
mod control;
mod exits;
mod node;
mod report;
mod run;
mod steering;
mod window;
mod work;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub use splitplace_brain::Settings;
use splitplace_fleet::{Link, Links, Node, NodeId, Place, Timestamp};
use splitplace_plan::ModelName;

pub use exits::{ExitControl, Exits};
pub use report::{ArmReport, ModelReport, NodeReport, PlanChange, Report};
pub use run::run;

use crate::{Law, arrivals::Process, network::Discipline};

/// A simulated worker.
#[derive(Clone, Debug)]
pub struct Worker {
    /// As it describes itself.
    pub node: Node,
    /// Which frame is computed next.
    pub discipline: Discipline,
    /// Frames that may wait for one fragment.
    pub queue_limit: u32,
    /// Service times over what the plan expects; mean 1 when the plan is right.
    pub service: Law,
    /// How many times as long a frame takes while all cores are busy as alone, and in a straight line between: cores share
    /// memory and caches. Not where they are shared anyway ([`Discipline::Sharing`]).
    pub crowding: f64,
    /// Time that a frame spends on the way to the queue and from the thread to the link.
    pub overhead: Duration,
    /// Bytes a second of everything that it sends; infinite when only the links limit it.
    pub uplink: f64,
    /// Watts at evenly spaced shares of busy cores, from none to all; empty for nothing.
    pub watts: Arc<[f64]>,
}

impl Worker {
    /// A worker as ours are, exactly as fast as planned.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn new(node: Node) -> Self {
        Self {
            node,
            discipline: Discipline::EarliestDeadline,
            queue_limit: 512,
            crowding: 1.0,
            service: Law::constant(1.0).expect("1 is a length"),
            overhead: Duration::ZERO,
            uplink: f64::INFINITY,
            watts: Arc::new([]),
        }
    }
}

/// Requests for one model.
#[derive(Clone, Debug)]
pub struct Load {
    /// Which.
    pub model: ModelName,
    /// When.
    pub arrivals: Process,
    /// Times to be promised, each with its weight; not empty.
    pub slas: Vec<(Duration, f64)>,
    /// How much longer than promised the client waits.
    pub patience: Duration,
    /// Samples in each request.
    pub samples: u32,
    /// Share of the answers about which the client tells the truth.
    pub feedback: f64,
}

/// Something that happens to the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A worker dies: its streams break and are noticed at once.
    Crash(NodeId),
    /// A worker falls silent: noticed after [`Control::silence`].
    Silence(NodeId),
    /// A worker starts anew, with nothing loaded.
    Rejoin(NodeId),
    /// A worker computes this many times slower than planned from now on.
    Slow(NodeId, f64),
    /// A link is like this from now on. The brain is not told.
    Link(Place, Place, Link),
}

/// What may be chosen about the centre; the defaults are the live system's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Control {
    /// From a broken stream to the brain's knowing.
    pub broken: Duration,
    /// From the last sign of life to the brain's knowing.
    pub silence: Duration,
    /// From a loss to the planning that mends it.
    pub after_loss: Duration,
    /// From a joining to planning.
    pub settle: Duration,
    /// What planning takes.
    pub planning: Duration,
    /// Before planning again after a plan could not be carried out; doubled each time up to 64-fold.
    pub retry: Duration,
    /// Between two looks at what may be retired.
    pub tick: Duration,
    /// Bytes a second at which fragments are fetched.
    pub fetch_bytes_per_second: f64,
    /// What loading a fragment takes beside fetching it, and for each byte.
    pub load: (Duration, f64),
    /// Frames that may wait for one peer, at a worker and at the centre.
    pub peer_frames: (u32, u32),
    /// Between two reports of a worker's stations.
    pub report: Duration,
    /// Between two looks at what has moved for the controllers of exits.
    pub look: Duration,
    /// From such a look to new rules on all nodes.
    pub solve: Duration,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            broken: Duration::from_millis(2),
            silence: Duration::from_millis(800),
            after_loss: Duration::from_millis(10),
            settle: Duration::from_millis(150),
            planning: Duration::from_millis(20),
            retry: Duration::from_millis(250),
            tick: Duration::from_millis(250),
            fetch_bytes_per_second: 100e6,
            load: (Duration::from_millis(20), 2e-9),
            peer_frames: (1024, 4096),
            report: Duration::from_millis(500),
            look: Duration::from_millis(100),
            solve: Duration::from_millis(200),
        }
    }
}

/// A world to be run.
#[derive(Clone, Debug)]
pub struct World {
    /// The workers, each name once.
    pub workers: Vec<Worker>,
    /// The links as they are; the brain believes the same at the start.
    pub links: Links,
    /// What comes.
    pub loads: Vec<Load>,
    /// What happens.
    pub faults: Vec<(Timestamp, Fault)>,
    /// Of the brain.
    pub settings: Settings,
    /// Of the centre.
    pub control: Control,
    /// By model and variant what is known of early exits. Where nothing is, the share that a plan expects leaves at each.
    pub exits: BTreeMap<(ModelName, String), Exits>,
    /// Requests that come before do not count.
    pub warm_up: Duration,
    /// No requests come from then on; the run ends when the last has ended.
    pub duration: Duration,
}

impl World {
    /// What is wrong with it; nothing when it can be run.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut names = std::collections::BTreeSet::new();
        for worker in &self.workers {
            if !names.insert(&worker.node.id) {
                wrong.push(format!("there are two nodes called {}", worker.node.id));
            }
        }
        for load in &self.loads {
            let weights = load
                .slas
                .iter()
                .all(|(_, weight)| weight.is_finite() && *weight > 0.0);
            if load.slas.is_empty() || !weights {
                wrong.push(format!(
                    "{} needs times to be promised, with weights",
                    load.model
                ));
            }
            wrong.extend(
                load.arrivals
                    .check()
                    .map(|why| format!("{}: {why}", load.model)),
            );
        }
        for (_, fault) in &self.faults {
            let (Fault::Crash(node)
            | Fault::Silence(node)
            | Fault::Rejoin(node)
            | Fault::Slow(node, _)) = fault
            else {
                continue;
            };
            if !names.contains(node) {
                wrong.push(format!("a fault names {node}, which is no node"));
            }
        }
        for ((model, variant), exits) in &self.exits {
            let told = exits.check().into_iter();
            wrong.extend(told.map(|why| format!("exits of {model}/{variant}: {why}")));
        }
        if self.duration <= self.warm_up {
            wrong.push("the warm-up takes the whole duration".into());
        }
        wrong
    }
}

#[cfg(test)]
mod tests;
