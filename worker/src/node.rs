//! Frames in and out of one node.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak, atomic::Ordering},
    time::Instant,
};

use parking_lot::RwLock;
use splitplace_graph::Element;
use splitplace_link::{
    Events, Failure, Frame, HopTiming, Reason, SendError, Sender, Sink, Tensor, sender::unix_us,
};
use splitplace_onnx::Value;
use splitplace_plan::{FragmentId, Generation};
use splitplace_proto::data::DType;

use crate::{
    compute::{Item, Queue},
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

    /// Ids of the fragments that some table needs here.
    pub(crate) fn needed(&self) -> impl Fn(FragmentId) -> bool + use<> {
        let needed = self.routes.read().fragments_of(&self.name);
        move |id| needed.contains(&id)
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
        let mut made = None;
        let values: Vec<Value> = frame.tensors.iter().filter_map(value).collect();
        let samples = fragment.prepared.samples(&values).unwrap_or(1).max(1);
        let took = stretched(self.speed_share, || {
            made = Some(fragment.prepared.run(&values));
        });
        let made = match made {
            Some(Ok(made)) => made,
            Some(Err(error)) => {
                self.metrics.failed.inc();
                fragment.failed.fetch_add(1, Ordering::Relaxed);
                let message = format!("{} on node {}: {error}", fragment.label, self.name);
                self.fail(frame, Failure::new(Reason::Engine, message));
                return;
            }
            None => return,
        };
        self.metrics.computed.inc();
        self.metrics.service.observe(took.as_secs_f64());
        fragment.done.fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        fragment
            .service
            .lock()
            .add(took.as_secs_f64() / samples as f64);
        let timing = HopTiming {
            node: self.name.clone(),
            hop: frame.hop,
            branch: frame.branch,
            transfer_us,
            queue_us: micros(wait),
            decode_us: 0,
            compute_us: micros(took),
            encode_us: 0,
        };
        let now = Instant::now();
        let (peer, tensors) = onward(&frame, &hops, made);
        let mut trail = frame.trail;
        trail.push(timing);
        let next = Frame {
            hop: frame.hop + 1,
            deadline: deadline.saturating_duration_since(now),
            expiry: expiry.saturating_duration_since(now),
            tensors,
            trail,
            ..frame
        };
        self.send(&peer, next);
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
fn onward(frame: &Frame, hops: &[Hop], made: Vec<Value>) -> (String, Vec<Tensor>) {
    let forward = hops
        .get(frame.hop as usize)
        .map_or(&[][..], |hop: &Hop| &hop.forward);
    let peer = hops
        .get(frame.hop as usize + 1)
        .map_or(CENTER.to_owned(), |hop| hop.node.clone());
    let mut made: Vec<Tensor> = made.into_iter().map(tensor).collect();
    if !forward.is_empty() {
        // Made here first; else it passes by.
        let tensors = forward
            .iter()
            .filter_map(|name| {
                made.iter()
                    .find(|tensor| tensor.name == *name)
                    .or_else(|| frame.tensors.iter().find(|tensor| tensor.name == *name))
                    .cloned()
            })
            .collect();
        made = tensors;
    }
    (peer, made)
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

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A tensor of the wire as one for the engine; the memory is shared.
fn value(tensor: &Tensor) -> Option<Value> {
    Some(Value {
        name: tensor.name.clone(),
        element: element(tensor.dtype)?,
        shape: tensor
            .shape
            .iter()
            .map(|&dim| u64::try_from(dim).unwrap_or(0))
            .collect(),
        chunks: tensor.chunks.clone(),
    })
}

/// A tensor of the engine as one for the wire; the memory is shared.
fn tensor(value: Value) -> Tensor {
    Tensor {
        name: value.name,
        dtype: dtype(value.element),
        shape: value
            .shape
            .iter()
            .map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX))
            .collect(),
        chunks: value.chunks,
    }
}

const fn element(dtype: DType) -> Option<Element> {
    Some(match dtype {
        DType::Unspecified => return None,
        DType::Bool => Element::Bool,
        DType::Uint8 => Element::U8,
        DType::Uint16 => Element::U16,
        DType::Uint32 => Element::U32,
        DType::Uint64 => Element::U64,
        DType::Int8 => Element::I8,
        DType::Int16 => Element::I16,
        DType::Int32 => Element::I32,
        DType::Int64 => Element::I64,
        DType::Fp16 => Element::F16,
        DType::Fp32 => Element::F32,
        DType::Fp64 => Element::F64,
    })
}

const fn dtype(element: Element) -> DType {
    match element {
        Element::Bool => DType::Bool,
        Element::U8 => DType::Uint8,
        Element::U16 => DType::Uint16,
        Element::U32 => DType::Uint32,
        Element::U64 => DType::Uint64,
        Element::I8 => DType::Int8,
        Element::I16 => DType::Int16,
        Element::I32 => DType::Int32,
        Element::I64 => DType::Int64,
        Element::F16 => DType::Fp16,
        Element::F32 => DType::Fp32,
        Element::F64 => DType::Fp64,
    }
}
