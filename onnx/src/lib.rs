//! ONNX models: import as a cost graph, cut into valid fragments, run, packages on disk.
//!
//! Reading order: [`model`] (a file, checked and made whole), [`shapes`] (what every tensor looks
//! like), [`mod@import`] (the cost graph), [`cut`] (fragments as ONNX files of their own), [`engine`]
//! (running one), [`mod@pieces`] (what fragments share), [`package`] (a folder with several ways to run a network), [`tables`] (what was measured
//! of one), [`costs`] (what layers of a type cost).
//!
//! The inference engine is named in `engine` and `shapes` only. Everything from outside is bounded
//! before it is handed on: file sizes, tensor sizes, numbers of nodes, paths.

pub mod costs;
pub mod cut;
pub mod engine;
mod error;
pub mod exits;
pub mod import;
mod kernels;
pub mod model;
pub mod package;
pub mod pieces;
pub mod shapes;
pub mod speed;
pub mod tables;

pub use costs::Costs;
pub use cut::{Fragment, Port, cut_layers, cut_many};
pub use engine::{ENGINE, Prepared, Value, prepare};
pub use error::{Error, Result};
pub use import::{Imported, import};
pub use model::{Limits, Model};
pub use package::{
    Accuracy, Exit, Merge, Package, Part, PictureLimits, Preprocess, Technique, TensorSpec,
    Variant, VariantKind,
};
pub use pieces::pieces;
pub use tables::{ExitRecord, Tables};
