//! Small networks trained by reverse-mode differentiation.
//!
//! The surrogates are graph networks of some ten thousand weights over graphs of a few hundred rows, a new graph for
//! each step. What a general framework offers (devices, kernels, fusion) does not pay at that size, and the two that
//! are written in Rust bring a hundred crates (`twin/benches/frameworks`); the matrix products are `ndarray`'s, which
//! the inference engine uses anyway, and the rest is here: a [`Tape`] of matrix operations, each with its derivative
//! beside it, [`Weights`] by name, [`Adam`], and a [`Trainer`]; and [`StateDict`], by which others' weights are read.
//!
//! Rows are things (steps, devices, examples), columns are features. Everything is `f32`, in a fixed order:
//! the same seed gives the same weights on the same machine.

mod adam;
mod attend;
mod bend;
mod gru;
mod tape;
mod torch;
mod train;
mod weights;

pub use adam::{Adam, AdamSettings};
pub(crate) use attend::HEADS;
pub use tape::{Gradients, Tape, Var};
pub use torch::{StateDict, StateDictError};
pub use train::{Epoch, Learner, Trainer, Training};
pub use weights::{Weights, WeightsError};

use ndarray::Array2;

/// Rows of features.
pub type Matrix = Array2<f32>;

#[cfg(test)]
mod tests;
