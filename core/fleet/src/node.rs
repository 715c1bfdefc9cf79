//! A node: a machine, or a share of one, that can hold fragments.

use std::{borrow::Borrow, collections::BTreeMap, fmt, sync::Arc};

/// The name of a node, unique in the fleet. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Names a node.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NodeId {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Whether a node may be given work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Its session is open and its beats arrive.
    Alive,
    /// It finishes what it has and is given nothing new.
    Leaving,
    /// Its session broke or fell silent.
    Lost,
}

/// A node as its own session described it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// Whether it may be given work.
    pub state: NodeState,
    /// Cores that fragments may use.
    pub cores: u32,
    /// Multiply-accumulates a second on one core, as measured by the node with its own engine, any
    /// emulated slowness included.
    pub macs_per_second: f64,
    /// Bytes that fragments may take together.
    pub memory_bytes: u64,
    /// Free-form labels, for constraints and for people.
    pub labels: BTreeMap<String, String>,
    /// Whether speed or memory are emulated on a larger machine.
    pub emulated: bool,
}
