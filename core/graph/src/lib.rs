//! A neural network as a weighted graph: layers, outlets, cuts, fragments, costs.
//!
//! A [`Graph`] knows what a layer costs and which tensors flow, and nothing of files, engines or
//! numbers inside tensors. An *outlet* is a tensor between layers; it has one producer and any number
//! of consumers. A [`Cut`] is the set of outlets that cross from a down-set of layers (one that holds
//! every producer of what it consumes) to the rest. A [`Chain`] is the sequence of segments between
//! the cuts that consist of one outlet: what a layer-wise split chooses from.
//!
//! Sizes are for one sample. Layers are kept in one canonical order, in which a side branch that ends
//! in an output of its own comes before the trunk goes on; that makes every single-outlet cut a
//! position in the order.
//!
//! Reading order: [`graph`], [`cut`], [`chain`].

pub mod chain;
pub mod cut;
pub mod graph;

pub use chain::{Boundary, Chain, Segment};
pub use cut::Cut;
pub use graph::{Element, Graph, GraphError, Layer, LayerSpec, Outlet, OutletId, OutletSpec};
