//! The fleet as operators see it.

use splitplace_fleet::{NodeId, NodeState, Place};
use splitplace_proto::center::{NodeLink, NodeStatus};

use super::Control;

impl Control {
    /// Brings what operators see up to date.
    pub(super) fn show(&self) {
        let nodes = self.nodes.values().map(|known| NodeStatus {
            node: known.node.id.to_string(),
            state: match known.node.state {
                NodeState::Alive if self.orders.is_drained(&known.node.id) => "draining",
                NodeState::Alive => "alive",
                NodeState::Leaving => "leaving",
                NodeState::Lost => "lost",
            }
            .to_owned(),
            cores: known.node.cores,
            memory_bytes: known.node.memory_bytes,
            memory_used_bytes: known.used_bytes,
            macs_per_second: known.node.macs_per_second,
            emulated: known.node.emulated,
            speed_share: known.speed_share,
            data_address: known.address.clone(),
            links: self.links_of(&known.node.id),
            ..NodeStatus::default()
        });
        let nodes: Vec<NodeStatus> = nodes.collect();
        let is_alive = |known: &&super::Known| known.node.state == NodeState::Alive;
        let alive = self.nodes.values().filter(is_alive).count();
        self.inner
            .metrics
            .nodes
            .set(i64::try_from(alive).unwrap_or(i64::MAX));
        let mut fleet = self.inner.fleet.write();
        fleet.nodes = nodes;
        fleet.explanation.clone_from(&self.plan.explanation);
        fleet.assumed = self.orders.told();
    }

    /// The ways between a node and the others: as they show themselves, else as they are known.
    fn links_of(&self, node: &NodeId) -> Vec<NodeLink> {
        let from = Place::from(node);
        let peers = self.nodes.keys().filter(|peer| *peer != node);
        let roads = self.inner.roads.lock();
        peers
            .map(|peer| {
                let link = roads.link(&from, &Place::from(peer), super::drift::QUANTILE);
                NodeLink {
                    peer: peer.to_string(),
                    bytes_per_second: link.rate_bytes_per_second,
                    delay_us: u64::try_from(link.delay.as_micros()).unwrap_or(u64::MAX),
                }
            })
            .collect()
    }
}
