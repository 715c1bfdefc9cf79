//! The surrogates of SplitPlace: small networks that say what a placement is worth, and through which
//! placements are found by gradient descent.
//!
//! Both are told the nodes, the pieces, what each piece takes on each node, and where it is put, in shares: a
//! row for each piece, so that a placement can be moved a little at a time.
//!
//! - [`Awareness::Unaware`] (GOBI; Tuli et al., COSCO, IEEE TPDS 2022) takes pieces for containers of their own,
//!   as it has always done: it does not know which of them belong together, nor what passes between them.
//! - [`Awareness::Aware`] (DASO; Tuli, Casale, Jennings, IEEE TMC 2022) is fed the split decision besides: which
//!   request a piece is of, whether the split is by layers, by classes or none, its place in it, and the tensors
//!   that follow from it.
//!
//! The published networks take a fleet of one size as one long row, so that every size needs its own training,
//! and naming the nodes otherwise changes what they say. Here a node is described by what lies on it, a piece
//! by its node, a request by its pieces: one set of weights serves fleets of any size, in any order.
//!
//! ```text
//! load of node n  = Σ P(f,n) rate(f) service(f,n)           heard by f = Σ P(f,n) state(n)
//! piece's seconds = exp(net(heard, service, decision))      response   = exp(net(decision)) · Σ pieces
//! ```
//! They are trained by `splitplace twin train` on placements that `splitplace twin generate` has drawn and run.

mod descent;
mod draw;
mod judge;
mod model;
mod scene;

pub use descent::Descent;
pub use draw::{Drawn, LAW, Label, draw};
pub use model::{Awareness, Example, Said, Surrogate};
pub use scene::{Piece, Scene};
