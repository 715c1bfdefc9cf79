//! Frames in and out of one node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use splitplace_codec::Codec;
use splitplace_link::{
    Backlog, Events, Failure, Frame, HopTiming, LinkShape, Reason, SendError, Sender, Sink, Tensor,
    probe, sender::unix_us,
};
use splitplace_onnx::Value;
use splitplace_plan::{FragmentId, Generation};
use splitplace_proto::control;

use crate::{
    coding,
    compute::{Item, Queue},
    emulated,
    fragments::{Fragments, Loaded},
    metrics::Metrics,
    probed::Probed,
    profile::Setting,
    routes::{Hop, Routes, Way},
    station::Visit,
};

/// Name of the centre among the peers.
pub(crate) const CENTER: &str = "";

/// Everything that frames meet on a node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) fragments: Fragments,
    pub(crate) routes: RwLock<Routes>,
    /// Fragments of an assignment whose routes are not accepted yet.
    coming: Mutex<BTreeSet<FragmentId>>,
    pub(crate) peers: RwLock<BTreeMap<String, Arc<Sender>>>,
    pub(crate) queue: Queue,
    pub(crate) metrics: Metrics,
    probed: Probed,
    own: Weak<Self>,
}

impl Node {
    pub(crate) fn new(name: String, fragments: Fragments, metrics: Metrics) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            name,
            fragments,
            routes: RwLock::default(),
            coming: Mutex::default(),
            peers: RwLock::default(),
            queue: Queue::default(),
            metrics,
            probed: Probed::default(),
            own: own.clone(),
        })
    }

    /// Itself, as what its streams report to.
    pub(crate) fn events(&self) -> Arc<dyn Events> {
        let own = self.own.upgrade().expect("a node that is called is alive");
        Arc::new(Lost(own))
    }

    /// Ids of the fragments that some table needs here, or will in a moment.
    pub(crate) fn needed(&self) -> impl Fn(FragmentId) -> bool + use<> {
        // In this order: what is coming no more is in a table already.
        let mut needed = self.coming.lock().clone();
        needed.extend(self.routes.read().fragments_of(&self.name));
        move |id| needed.contains(&id)
    }

    /// Keeps these fragments although no table names them yet: an older generation may be retired while
    /// they are loaded. Nothing is coming any more when they are none.
    pub(crate) fn expect(&self, coming: BTreeSet<FragmentId>) {
        *self.coming.lock() = coming;
    }

    /// Takes a frame that has arrived.
    fn arrive(&self, frame: Frame) {
        let arrived = Instant::now();
        let transfer_us = unix_us().saturating_sub(frame.sent_unix_us);
        let way = {
            let routes = self.routes.read();
            routes.get(Generation(frame.generation), frame.route)
        };
        let hop = frame.hop as usize;
        let found = way.and_then(|way| {
            let fragment = way.hops.get(hop).filter(|hop| hop.node == self.name)?;
            Some((self.fragments.get(fragment.fragment)?, way))
        });
        let Some((fragment, way)) = found else {
            self.metrics.refused.inc();
            let message = format!(
                "node {} holds no fragment for hop {} of route {} of generation {}",
                self.name, frame.hop, frame.route, frame.generation
            );
            self.fail(frame, Failure::new(Reason::UnknownRoute, message));
            return;
        };
        let station = Arc::clone(&way.station);
        let item = Item {
            arrived,
            deadline: arrived + frame.deadline,
            expiry: arrived + frame.expiry,
            frame,
            fragment,
            way,
            transfer_us,
        };
        // Before it can be popped: whoever computes it counts it as gone.
        station.arrived();
        match self.queue.push(item) {
            Ok(()) => {
                self.metrics.queued.inc();
            }
            Err(item) => {
                station.refused();
                self.metrics.refused.inc();
                item.fragment.refused.fetch_add(1, Ordering::Relaxed);
                let message = format!(
                    "{} requests wait for {} on node {}, which is the limit",
                    item.fragment.queue_limit, item.fragment.label, self.name
                );
                self.fail(item.frame, Failure::new(Reason::QueueFull, message));
            }
        }
    }

    /// Computes until the queue is closed: the body of a compute thread.
    pub(crate) fn compute(&self) {
        while let Some(item) = self.queue.pop() {
            self.metrics.queued.dec();
            self.one(item);
            self.queue.done();
        }
    }

    /// Computes a frame through all hops that its route has here in a row: between two exits on one node nobody
    /// else is served.
    fn one(&self, item: Item) {
        let wait = item.arrived.elapsed();
        self.metrics.wait.observe(wait.as_secs_f64());
        let Item {
            mut frame,
            mut fragment,
            way,
            deadline,
            expiry,
            transfer_us,
            ..
        } = item;
        let mut came = Came { wait, transfer_us };
        let mut visit = way.station.begin(frame.is_audited);
        frame.is_audited = visit.is_audited;
        loop {
            if expiry <= Instant::now() {
                self.metrics.expired.inc();
                fragment.expired.fetch_add(1, Ordering::Relaxed);
                let message = format!(
                    "the time was over after {wait:?} in the queue of {} on node {}",
                    fragment.label, self.name
                );
                self.fail(frame, Failure::new(Reason::Expired, message));
                return;
            }
            let onward = match self.hop(&frame, &fragment, &way, &came, &mut visit) {
                Ok(onward) => onward,
                Err(message) => {
                    self.metrics.failed.inc();
                    fragment.failed.fetch_add(1, Ordering::Relaxed);
                    self.fail(frame, Failure::new(Reason::Engine, message));
                    return;
                }
            };
            let now = Instant::now();
            let mut trail = frame.trail;
            trail.push(onward.timing);
            frame = Frame {
                hop: onward.hop,
                exit: onward.exit,
                deadline: deadline.saturating_duration_since(now),
                expiry: expiry.saturating_duration_since(now),
                tensors: onward.tensors,
                trail,
                ..frame
            };
            let next = way.hops.get(frame.hop as usize);
            let here = next.filter(|_| onward.peer == self.name);
            let Some(next) = here.and_then(|hop| self.fragments.get(hop.fragment)) else {
                drop(visit);
                self.send(&onward.peer, frame);
                return;
            };
            fragment = next;
            came = Came::default();
        }
    }

    /// Runs one hop and decides where its tensors go.
    ///
    /// # Errors
    /// What the engine, or whoever sent the tensors, did wrong, in words.
    fn hop(
        &self,
        frame: &Frame,
        fragment: &Loaded,
        way: &Way,
        came: &Came,
        visit: &mut Visit,
    ) -> Result<Onward, String> {
        let place = frame.hop as usize;
        let hop = way.hops.get(place).ok_or("the route is shorter")?;
        let is_last = way.hops.len() == place + 1;
        // Behind the last hop nobody decodes; elsewhere what only passes by stays as it is.
        let takes = |name: &str| {
            fragment
                .prepared
                .inputs
                .iter()
                .any(|port| port.name == name)
        };
        let mut values = Ok(Vec::new());
        let size =
            |tensors: &[Tensor]| emulated::size(tensors.iter().map(|t| t.len_bytes() as u64).sum());
        let decoding = fragment.stretch.decoding.run(size(&frame.tensors), || {
            let wanted = |name: &str| is_last || takes(name);
            let ports = &fragment.prepared.inputs[..];
            let pictures = hop
                .preprocess
                .as_ref()
                .map(|preprocess| (preprocess, ports));
            values = coding::decode(&frame.tensors, wanted, pictures);
        });
        let wrong = |error: String| format!("{} on node {}: {error}", fragment.label, self.name);
        let values = values.map_err(wrong)?;
        let samples = fragment.prepared.samples(&values).unwrap_or(1).max(1);
        let mut made = Ok(Vec::new());
        // As it is at the beginning: others may end, or begin, before this one is through.
        let threads = self.queue.running().max(1);
        let took = fragment
            .stretch
            .computing
            .run(samples as u64, || made = fragment.prepared.run(&values));
        let made = made.map_err(|error| wrong(error.to_string()))?;
        self.metrics.computed.inc();
        self.metrics.service.observe(took.as_secs_f64());
        fragment.done.fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        let each = took.as_secs_f64() / samples as f64;
        fragment.service.lock().add(each);
        let setting = Setting {
            batch: u32::try_from(samples).unwrap_or(u32::MAX),
            threads: u32::try_from(threads).unwrap_or(u32::MAX),
        };
        fragment.profile.lock().add(setting, each);
        let mut said = Vec::with_capacity(hop.exits.len());
        let mut answer = None;
        for exit in &hop.exits {
            let Some((says, scores)) = exit.says(&made) else {
                continue;
            };
            said.push(says);
            if visit.stops(exit, &says, frame.min_accuracy) {
                answer = Some((says.number, scores));
                break;
            }
        }
        let (peer, next, exit, mut tensors) = match answer {
            Some((exit, scores)) => {
                self.metrics.exited.inc();
                let last = u32::try_from(way.hops.len()).unwrap_or(u32::MAX);
                (CENTER.to_owned(), last, exit, vec![coding::tensor(scores)])
            }
            None => {
                let next = way.hops.get(place + 1);
                let peer = next.map_or(CENTER.to_owned(), |hop| hop.node.clone());
                let tensors = onward(frame, hop, is_last, values, made);
                (peer, frame.hop + 1, 0, tensors)
            }
        };
        let mut encoding = Duration::ZERO;
        if peer != self.name && peer != CENTER && hop.codec != Codec::RAW {
            encoding = fragment.stretch.encoding.run(size(&tensors), || {
                tensors = coding::encode(std::mem::take(&mut tensors), hop.codec);
            });
        }
        if exit == 0 && peer != self.name {
            visit.passes(peer == CENTER);
        }
        let timing = HopTiming {
            node: self.name.clone(),
            hop: frame.hop,
            branch: frame.branch,
            transfer_us: came.transfer_us,
            queue_us: micros(came.wait),
            decode_us: micros(decoding),
            compute_us: micros(took),
            encode_us: micros(encoding),
            outbox_us: 0,
            exits: said,
        };
        Ok(Onward {
            peer,
            hop: next,
            exit,
            tensors,
            timing,
        })
    }

    /// Slows an emulated link otherwise.
    pub(crate) fn reshape(&self, peer: &str, shape: Option<LinkShape>) {
        if let Some(sender) = self.peers.read().get(peer) {
            sender.reshape(shape);
        }
    }

    /// Sends a peer a frame that carries nothing. One that cannot leave tells nobody anything.
    pub(crate) fn probe(&self, peer: &str, bytes: u32) {
        if let Some(sender) = self.peers.read().get(peer) {
            let _ = sender.send(probe::frame(bytes));
        }
    }

    /// What probes took that came here since the last time.
    pub(crate) fn probed(&self) -> Vec<control::ProbeSeen> {
        self.probed.drain()
    }

    /// Takes rules for the exits of a route.
    pub(crate) fn control(&self, rules: &control::ExitRules) {
        let routes = self.routes.read();
        let way = routes.get(Generation(rules.generation), rules.route);
        let taken = match way {
            Some(way) => way.station.control(rules),
            None => Err("this node has no such route".to_owned()),
        };
        if let Err(why) = taken {
            tracing::warn!(
                code = "SP404",
                node = self.name,
                generation = rules.generation,
                route = rules.route,
                why,
                "rules for exits are not used"
            );
        }
    }

    fn send(&self, peer: &str, frame: Frame) {
        if peer == self.name {
            self.arrive(frame);
            return;
        }
        let sender = self.peers.read().get(peer).cloned();
        let distrust = sender.as_ref().and_then(|sender| sender.distrust());
        let (frame, why) = match sender.map(|sender| sender.send(frame.clone())) {
            Some(Ok(())) => return,
            Some(Err(SendError::Full(frame))) => (*frame, "has too many frames waiting"),
            Some(Err(SendError::Lost(frame))) => (*frame, "cannot be reached"),
            None => (frame, "is not known"),
        };
        if peer != CENTER {
            let message = format!("node {peer} {why} from node {}", self.name);
            self.fail(frame, no_link(message, distrust));
        }
        // The centre itself cannot be reached: it will find out by the broken session.
    }

    /// Tells the centre that a frame goes no further.
    fn fail(&self, frame: Frame, failure: Failure) {
        let hops = {
            let routes = self.routes.read();
            let way = routes.get(Generation(frame.generation), frame.route);
            way.map_or(u32::MAX, |way| {
                u32::try_from(way.hops.len()).unwrap_or(u32::MAX)
            })
        };
        let told = Frame {
            tensors: Vec::new(),
            hop: hops,
            failure: Some(failure),
            ..frame
        };
        let center = self.peers.read().get(CENTER).cloned();
        if let Some(center) = center
            && center.send(told).is_err()
        {
            tracing::debug!(node = self.name, "the centre cannot be told of a failure");
        }
    }
}

/// How a frame came to a hop: over a link and through the queue, or neither from the hop before on this node.
#[derive(Debug, Default)]
struct Came {
    wait: Duration,
    transfer_us: i64,
}

/// Where a computed frame goes, with what tensors. Behind the last hop comes the centre.
struct Onward {
    peer: String,
    hop: u32,
    exit: u32,
    tensors: Vec<Tensor>,
    timing: HopTiming,
}

/// The tensors that a hop hands on. `values` is what the fragment was given, decoded.
fn onward(
    frame: &Frame,
    hop: &Hop,
    is_last: bool,
    values: Vec<Value>,
    made: Vec<Value>,
) -> Vec<Tensor> {
    let tensors: Vec<Tensor> = made.into_iter().map(coding::tensor).collect();
    if hop.forward.is_empty() {
        return tensors;
    }
    let given: Vec<Tensor> = if is_last {
        values.into_iter().map(coding::tensor).collect()
    } else {
        frame.tensors.clone()
    };
    // Made here first; else it passes by.
    let named = |name: &String| {
        let mut all = tensors.iter().chain(&given);
        all.find(|tensor| tensor.name == *name).cloned()
    };
    hop.forward.iter().filter_map(named).collect()
}

/// A node as the sink of the streams that other peers open to it.
#[derive(Debug)]
pub(crate) struct Arrivals(pub(crate) Arc<Node>);

impl Sink for Arrivals {
    fn frame(&self, peer: &str, frame: Frame) {
        if probe::is_probe(&frame) {
            self.0.probed.take(peer, &frame);
        } else {
            self.0.arrive(frame);
        }
    }

    async fn news(&self, peer: &str) -> Vec<Backlog> {
        let news = Arc::clone(&self.0.routes.read().news);
        news.next(peer).await
    }
}

struct Lost(Arc<Node>);

impl Events for Lost {
    fn lost(&self, peer: &str, frames: Vec<Frame>) {
        if peer == CENTER {
            return;
        }
        let sender = self.0.peers.read().get(peer).cloned();
        let distrust = sender.and_then(|sender| sender.distrust());
        for frame in frames.into_iter().filter(|frame| !probe::is_probe(frame)) {
            let message = format!("the stream from node {} to node {peer} broke", self.0.name);
            self.0.fail(frame, no_link(message, distrust.clone()));
        }
    }

    fn heard(&self, peer: &str, backlogs: &[Backlog]) {
        self.0.routes.read().hear(peer, backlogs);
    }

    fn broke(&self, peer: &str) {
        self.0.routes.read().unhear(peer);
    }
}

/// A frame that did not leave: for as long as the peer is away, or until somebody mends certificates.
fn no_link(message: String, distrust: Option<String>) -> Failure {
    match distrust {
        Some(why) => Failure::new(Reason::PeerDistrusted, format!("{message}: {why}")),
        None => Failure::new(Reason::PeerLost, message),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use splitplace_onnx::Limits;
    use splitplace_proto::control::{HopSpec, RouteSpec};

    use super::*;
    use crate::{metrics::Families, profiles::Profiles};

    #[test]
    fn a_fragment_on_its_way_in_outlives_the_generation_before() {
        let profiles = Profiles::open(None, String::new());
        let fragments = Fragments::new(1 << 20, Limits::default(), 1, 1.0, None, profiles);
        let metrics = Families::register(&mut Registry::default()).of("n");
        let node = Node::new("n".into(), fragments, metrics);
        let id = FragmentId([7; 32]);
        assert!(!node.needed()(id));
        // Loaded for generation 2 while generation 1 is retired.
        node.expect(BTreeSet::from([id]));
        node.routes.write().retire(Generation(2));
        assert!(node.needed()(id));
        let hop = HopSpec {
            node: "n".into(),
            fragment: id.0.to_vec().into(),
            ..HopSpec::default()
        };
        let route = RouteSpec {
            route: 1,
            hops: vec![hop],
        };
        node.routes
            .write()
            .accept(Generation(2), &[route], "n")
            .unwrap();
        node.expect(BTreeSet::new());
        assert!(node.needed()(id));
        node.routes.write().retire(Generation(3));
        assert!(!node.needed()(id));
    }
}
