//! Frames in and out of one node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use splitplace_codec::Codec;
use splitplace_link::{
    Events, Failure, Frame, HopTiming, Reason, SendError, Sender, Sink, Tensor, sender::unix_us,
};
use splitplace_onnx::Value;
use splitplace_plan::{FragmentId, Generation};

use crate::{
    coding,
    compute::{Item, Queue},
    exits,
    fragments::{Fragments, stretched},
    metrics::Metrics,
    routes::{Hop, Routes},
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
    pub(crate) speed_share: f64,
    own: Weak<Self>,
}

impl Node {
    pub(crate) fn new(
        name: String,
        fragments: Fragments,
        metrics: Metrics,
        speed_share: f64,
    ) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            name,
            fragments,
            routes: RwLock::default(),
            coming: Mutex::default(),
            peers: RwLock::default(),
            queue: Queue::default(),
            metrics,
            speed_share,
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
        let hops = {
            let routes = self.routes.read();
            routes.get(Generation(frame.generation), frame.route)
        };
        let found = hops.and_then(|hops| {
            let hop = hops.get(frame.hop as usize);
            let fragment = hop.filter(|hop| hop.node == self.name)?.fragment;
            Some((self.fragments.get(fragment)?, hops))
        });
        let Some((fragment, hops)) = found else {
            self.metrics.refused.inc();
            let message = format!(
                "node {} holds no fragment for hop {} of route {} of generation {}",
                self.name, frame.hop, frame.route, frame.generation
            );
            self.fail(frame, Failure::new(Reason::UnknownRoute, message));
            return;
        };
        let item = Item {
            arrived,
            deadline: arrived + frame.deadline,
            expiry: arrived + frame.expiry,
            frame,
            fragment,
            hops,
            transfer_us,
        };
        match self.queue.push(item) {
            Ok(()) => {
                self.metrics.queued.inc();
            }
            Err(item) => {
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

    fn one(&self, item: Item) {
        let begin = Instant::now();
        let wait = begin.duration_since(item.arrived);
        self.metrics.wait.observe(wait.as_secs_f64());
        let Item {
            frame,
            fragment,
            hops,
            deadline,
            expiry,
            transfer_us,
            ..
        } = item;
        if expiry <= begin {
            self.metrics.expired.inc();
            fragment.expired.fetch_add(1, Ordering::Relaxed);
            let message = format!(
                "the time was over after {wait:?} in the queue of {} on node {}",
                fragment.label, self.name
            );
            self.fail(frame, Failure::new(Reason::Expired, message));
            return;
        }
        let Some(hop) = hops.get(frame.hop as usize) else {
            return;
        };
        let is_last = hops.len() == frame.hop as usize + 1;
        // Behind the last hop nobody decodes; elsewhere what only passes by stays as it is.
        let takes = |name: &str| {
            fragment
                .prepared
                .inputs
                .iter()
                .any(|port| port.name == name)
        };
        let mut values = Ok(Vec::new());
        let decoding = stretched(self.speed_share, || {
            let wanted = |name: &str| is_last || takes(name);
            let ports = &fragment.prepared.inputs[..];
            let pictures = hop
                .preprocess
                .as_ref()
                .map(|preprocess| (preprocess, ports));
            values = coding::decode(&frame.tensors, wanted, pictures);
        });
        let mut made = None;
        let mut samples = 1;
        let took = stretched(self.speed_share, || {
            made = values.as_ref().ok().map(|values| {
                samples = fragment.prepared.samples(values).unwrap_or(1).max(1);
                fragment
                    .prepared
                    .run(values)
                    .map_err(|error| error.to_string())
            });
        });
        let (values, made) = match (values, made) {
            (Ok(values), Some(Ok(made))) => (values, made),
            (Err(error), _) | (_, Some(Err(error))) => {
                self.metrics.failed.inc();
                fragment.failed.fetch_add(1, Ordering::Relaxed);
                let message = format!("{} on node {}: {error}", fragment.label, self.name);
                self.fail(frame, Failure::new(Reason::Engine, message));
                return;
            }
            (Ok(_), None) => return,
        };
        self.metrics.computed.inc();
        self.metrics.service.observe(took.as_secs_f64());
        fragment.done.fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        fragment
            .service
            .lock()
            .add(took.as_secs_f64() / samples as f64);
        let last = u32::try_from(hops.len()).unwrap_or(u32::MAX);
        let mut onward = match exits::answer(&hop.exits, &made) {
            Some((exit, scores)) => {
                self.metrics.exited.inc();
                Onward {
                    peer: CENTER.to_owned(),
                    hop: last,
                    exit,
                    tensors: vec![coding::tensor(scores)],
                }
            }
            None => Onward::after(&frame, &hops, values, made),
        };
        let is_coded = onward.peer != self.name && onward.peer != CENTER && hop.codec != Codec::RAW;
        let mut encoding = Duration::ZERO;
        if is_coded {
            encoding = stretched(self.speed_share, || {
                let tensors = std::mem::take(&mut onward.tensors);
                onward.tensors = coding::encode(tensors, hop.codec);
            });
        }
        let timing = HopTiming {
            node: self.name.clone(),
            hop: frame.hop,
            branch: frame.branch,
            transfer_us,
            queue_us: micros(wait),
            decode_us: micros(decoding),
            compute_us: micros(took),
            encode_us: micros(encoding),
        };
        let now = Instant::now();
        let mut trail = frame.trail;
        trail.push(timing);
        let next = Frame {
            hop: onward.hop,
            exit: onward.exit,
            deadline: deadline.saturating_duration_since(now),
            expiry: expiry.saturating_duration_since(now),
            tensors: onward.tensors,
            trail,
            ..frame
        };
        self.send(&onward.peer, next);
    }

    fn send(&self, peer: &str, frame: Frame) {
        if peer == self.name {
            self.arrive(frame);
            return;
        }
        let sender = self.peers.read().get(peer).cloned();
        let (frame, why) = match sender.map(|sender| sender.send(frame.clone())) {
            Some(Ok(())) => return,
            Some(Err(SendError::Full(frame))) => (*frame, "has too many frames waiting"),
            Some(Err(SendError::Lost(frame))) => (*frame, "cannot be reached"),
            None => (frame, "is not known"),
        };
        if peer != CENTER {
            let message = format!("node {peer} {why} from node {}", self.name);
            self.fail(frame, Failure::new(Reason::PeerLost, message));
        }
        // The centre itself cannot be reached: it will find out by the broken session.
    }

    /// Tells the centre that a frame goes no further.
    fn fail(&self, frame: Frame, failure: Failure) {
        let hops = {
            let routes = self.routes.read();
            let hops = routes.get(Generation(frame.generation), frame.route);
            hops.map_or(u32::MAX, |hops| {
                u32::try_from(hops.len()).unwrap_or(u32::MAX)
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

/// Where a computed frame goes, with what tensors. Behind the last hop comes the centre.
struct Onward {
    peer: String,
    hop: u32,
    exit: u32,
    tensors: Vec<Tensor>,
}

impl Onward {
    /// To the next hop. `values` is what the fragment was given, decoded.
    fn after(frame: &Frame, hops: &[Hop], values: Vec<Value>, made: Vec<Value>) -> Self {
        let next = frame.hop as usize + 1;
        let forward = hops
            .get(frame.hop as usize)
            .map_or(&[][..], |hop| &hop.forward);
        let peer = hops
            .get(next)
            .map_or(CENTER.to_owned(), |hop| hop.node.clone());
        let mut tensors: Vec<Tensor> = made.into_iter().map(coding::tensor).collect();
        if !forward.is_empty() {
            let given: Vec<Tensor> = if next == hops.len() {
                values.into_iter().map(coding::tensor).collect()
            } else {
                frame.tensors.clone()
            };
            // Made here first; else it passes by.
            let named = |name: &String| {
                let mut all = tensors.iter().chain(&given);
                all.find(|tensor| tensor.name == *name).cloned()
            };
            tensors = forward.iter().filter_map(named).collect();
        }
        Self {
            peer,
            hop: frame.hop + 1,
            exit: 0,
            tensors,
        }
    }
}

/// A node as the sink of the streams that other peers open to it.
#[derive(Debug)]
pub(crate) struct Arrivals(pub(crate) Arc<Node>);

impl Sink for Arrivals {
    fn frame(&self, _peer: &str, frame: Frame) {
        self.0.arrive(frame);
    }
}

struct Lost(Arc<Node>);

impl Events for Lost {
    fn lost(&self, peer: &str, frames: Vec<Frame>) {
        if peer == CENTER {
            return;
        }
        for frame in frames {
            let message = format!("the stream from node {} to node {peer} broke", self.0.name);
            self.0.fail(frame, Failure::new(Reason::PeerLost, message));
        }
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
    use crate::metrics::Families;

    #[test]
    fn a_fragment_on_its_way_in_outlives_the_generation_before() {
        let fragments = Fragments::new(1 << 20, Limits::default(), 1, 1.0, None);
        let metrics = Families::register(&mut Registry::default()).of("n");
        let node = Node::new("n".into(), fragments, metrics, 1.0);
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
        node.routes.write().accept(Generation(2), &[route]).unwrap();
        node.expect(BTreeSet::new());
        assert!(node.needed()(id));
        node.routes.write().retire(Generation(3));
        assert!(!node.needed()(id));
    }
}
