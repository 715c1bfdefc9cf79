//! Metrics of one worker, in base units, with the node as their label.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// The node that a number belongs to: several workers may live in one process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Node {
    node: String,
}

/// Numbers of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) computed: Counter,
    pub(crate) exited: Counter,
    pub(crate) refused: Counter,
    pub(crate) expired: Counter,
    pub(crate) failed: Counter,
    pub(crate) queued: Gauge,
    pub(crate) memory: Gauge,
    pub(crate) certificate_expiry: Gauge,
    pub(crate) service: Histogram,
    pub(crate) wait: Histogram,
}

/// From a tenth of a millisecond to some seconds: service times and waits of small networks.
fn seconds() -> Histogram {
    Histogram::new((0..16).map(|k| 1e-4 * 2f64.powi(k)))
}

/// Families that several workers of a process share.
#[derive(Clone, Debug)]
pub struct Families {
    computed: Family<Node, Counter>,
    exited: Family<Node, Counter>,
    refused: Family<Node, Counter>,
    expired: Family<Node, Counter>,
    failed: Family<Node, Counter>,
    queued: Family<Node, Gauge>,
    memory: Family<Node, Gauge>,
    certificate_expiry: Family<Node, Gauge>,
    service: Family<Node, Histogram, fn() -> Histogram>,
    wait: Family<Node, Histogram, fn() -> Histogram>,
}

impl Families {
    /// Makes the families and registers them, once for a process.
    pub fn register(registry: &mut Registry) -> Self {
        let families = Self {
            computed: Family::default(),
            exited: Family::default(),
            refused: Family::default(),
            expired: Family::default(),
            failed: Family::default(),
            queued: Family::default(),
            memory: Family::default(),
            certificate_expiry: Family::default(),
            service: Family::new_with_constructor(seconds),
            wait: Family::new_with_constructor(seconds),
        };
        let registry = registry.sub_registry_with_prefix("splitplace_worker");
        registry.register(
            "frames_computed",
            "Frames that were computed",
            families.computed.clone(),
        );
        registry.register(
            "frames_exited",
            "Frames that an early exit answered here",
            families.exited.clone(),
        );
        registry.register(
            "frames_refused",
            "Frames refused because a fragment's queue was full or its route unknown",
            families.refused.clone(),
        );
        registry.register(
            "frames_expired",
            "Frames dropped before computing because nobody waited any more",
            families.expired.clone(),
        );
        registry.register(
            "frames_failed",
            "Frames that the engine refused",
            families.failed.clone(),
        );
        registry.register(
            "frames_queued",
            "Frames that wait now",
            families.queued.clone(),
        );
        registry.register(
            "fragments_memory_bytes",
            "Bytes that loaded fragments take",
            families.memory.clone(),
        );
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the own certificate holds no more, in seconds since the Unix epoch; 0 without one",
            families.certificate_expiry.clone(),
        );
        registry.register(
            "service_seconds",
            "Time to compute one frame, emulated slowness included",
            families.service.clone(),
        );
        registry.register(
            "queue_seconds",
            "Time that a frame waited for a thread",
            families.wait.clone(),
        );
        families
    }

    /// Registers every number of a worker with a label that stands for itself, for documentation.
    pub fn reference(registry: &mut Registry) {
        Self::register(registry).of("NODE");
    }

    pub(crate) fn of(&self, node: &str) -> Metrics {
        let node = Node {
            node: node.to_owned(),
        };
        Metrics {
            computed: self.computed.get_or_create_owned(&node),
            exited: self.exited.get_or_create_owned(&node),
            refused: self.refused.get_or_create_owned(&node),
            expired: self.expired.get_or_create_owned(&node),
            failed: self.failed.get_or_create_owned(&node),
            queued: self.queued.get_or_create_owned(&node),
            memory: self.memory.get_or_create_owned(&node),
            certificate_expiry: self.certificate_expiry.get_or_create_owned(&node),
            service: self.service.get_or_create_owned(&node),
            wait: self.wait.get_or_create_owned(&node),
        }
    }
}
