//! Everything that a decision may depend on, frozen at one instant.

use std::collections::BTreeMap;

use crate::{Links, Node, NodeId, NodeState, Timestamp};

/// The fleet as it was known at [`at`](Self::at).
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// When this was known.
    pub at: Timestamp,
    /// Every node heard of, by name.
    pub nodes: BTreeMap<NodeId, Node>,
    /// The links between them and to the centre.
    pub links: Links,
}

impl Snapshot {
    /// A fleet without nodes.
    #[must_use]
    pub fn empty(at: Timestamp) -> Self {
        Self {
            at,
            nodes: BTreeMap::new(),
            links: Links::default(),
        }
    }

    /// The nodes that may be given work, by name.
    pub fn alive(&self) -> impl Iterator<Item = &Node> {
        self.nodes
            .values()
            .filter(|node| node.state == NodeState::Alive)
    }

    /// Whether `node` may be given work.
    #[must_use]
    pub fn is_alive(&self, node: &NodeId) -> bool {
        self.nodes
            .get(node)
            .is_some_and(|node| node.state == NodeState::Alive)
    }
}
