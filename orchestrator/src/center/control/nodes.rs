//! What sessions with workers tell: nodes that join, leave, are lost, and what they report.

use std::{sync::Arc, time::Duration};

use splitplace_fleet::{NodeId, NodeState, Place};
use splitplace_link::{LinkShape, Sender, SenderConfig};
use splitplace_plan::FragmentId;

use super::{Control, Known, RETRY};
use crate::{
    center::OUTLET_FRAMES,
    measured::{Ran, ServiceTime},
    sessions::SessionEvent,
};

impl Control {
    /// Takes in what a session tells.
    pub(super) fn take(&mut self, event: SessionEvent) {
        let settle = Duration::from_millis(self.inner.config.planning.settle_ms);
        match event {
            SessionEvent::Joined {
                session,
                node,
                address,
                memory_source,
                speed_share,
            } => {
                tracing::info!(
                    node = %node.id, address, memory_source, memory_bytes = node.memory_bytes,
                    cores = node.cores, speed_share, "a node joined"
                );
                self.connect(&node.id, &address);
                self.because(format!("node {} joined", node.id));
                let known = Known {
                    session,
                    address,
                    speed_share,
                    used_bytes: 0,
                    is_settled: false,
                    trust: 1.0,
                    node,
                };
                self.nodes.insert(known.node.id.clone(), known);
                self.retry = RETRY;
                self.plan_within(settle);
            }
            SessionEvent::Left { session, node, why } => {
                let Some(known) = self.nodes.get_mut(&node) else {
                    return;
                };
                if known.session != session {
                    return;
                }
                tracing::warn!(code = "SP401", %node, why, "a node is lost");
                known.node.state = NodeState::Lost;
                known.is_settled = false;
                self.inner.outlets.write().remove(&node);
                self.inner.watching.book.lock().nodes.forget(node.as_str());
                self.inner.roads.lock().forget(&Place::from(&node));
                self.because(format!("node {node} is lost"));
                self.plan_within(Duration::from_millis(10));
            }
            SessionEvent::Leaving { node, why } => {
                let Some(known) = self.nodes.get_mut(&node) else {
                    return;
                };
                tracing::info!(%node, why, "a node is leaving");
                known.node.state = NodeState::Leaving;
                self.because(format!("node {node} is leaving"));
                self.plan_within(Duration::from_millis(10));
            }
            SessionEvent::Probed { node, seen } => {
                self.probed(&node, &seen);
                return;
            }
            SessionEvent::Reported { node, report } => {
                let Some(known) = self.nodes.get_mut(&node) else {
                    return;
                };
                known.used_bytes = report.memory_used_bytes;
                self.inner.steering.reported(&node, &report.stations);
                self.inner.note_report(&known.node, &report);
                self.inner.note_profiles(&node, &report.fragments);
                for fragment in &report.fragments {
                    let service = fragment.service.as_ref().and_then(ServiceTime::told);
                    if let Some(id) = FragmentId::from_slice(&fragment.id) {
                        self.measured
                            .observe(&known.node, id, Ran::Served, service, None);
                    }
                }
                self.show();
                return;
            }
        }
        self.inner.observe(self.snapshot(true));
        self.show();
        self.inner.changed();
    }

    /// Opens the way for frames to a node.
    fn connect(&self, node: &NodeId, address: &str) {
        let shape = self
            .inner
            .shapes
            .read()
            .as_ref()
            .map(|links| LinkShape::from(links.get(&Place::Center, &Place::from(node))));
        let config = SenderConfig {
            own_name: String::new(),
            address: address.to_owned(),
            security: self.inner.security.clone(),
            queue_frames: OUTLET_FRAMES,
            shape,
            seed: self.inner.seed,
            pause_max: Duration::from_millis(500),
        };
        let events: Arc<dyn splitplace_link::Events> = Arc::clone(&self.inner) as _;
        match Sender::open(config, node.as_str(), events) {
            Ok(sender) => {
                self.inner
                    .outlets
                    .write()
                    .insert(node.clone(), Arc::new(sender));
            }
            Err(error) => {
                tracing::error!(code = "SP401", %node, address, %error, "the node's address is none");
            }
        }
    }
}
