//! What can be wrong with a model, for the person who has to mend it.

use std::{io, path::PathBuf};

use splitplace_graph::GraphError;

/// Something about a model, a fragment or a package that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("cannot {verb} {path}: {source}")]
    Io {
        /// `read` or `write`.
        verb: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Larger than the configured bound.
    #[error(
        "{what} has {found} bytes, more than the limit of {limit}; raise the limit if you trust it"
    )]
    TooLarge {
        /// File, tensor or fragment.
        what: String,
        /// Its size.
        found: u64,
        /// The bound.
        limit: u64,
    },
    /// Not an ONNX file, or a damaged one.
    #[error("{what} is not a valid ONNX model: {reason}")]
    Malformed {
        /// The file.
        what: String,
        /// Why, with the node or tensor concerned.
        reason: String,
    },
    /// External data that may not or cannot be read.
    #[error("{what}: tensor '{tensor}' keeps its data in '{location}': {reason}")]
    External {
        /// The file.
        what: String,
        /// The tensor.
        tensor: String,
        /// Where its data should be.
        location: String,
        /// Why that cannot be used.
        reason: String,
    },
    /// The graph does not hold together.
    #[error("{what}: {source}")]
    Graph {
        /// The file.
        what: String,
        /// What is wrong.
        source: GraphError,
    },
    /// The engine does not know an operator, or refuses its attributes or shapes.
    #[error("{what}: the engine cannot {verb} the model: {reason}")]
    Engine {
        /// The file or fragment.
        what: String,
        /// What was tried: `load`, `prepare`, `run`.
        verb: &'static str,
        /// What it said, with the node.
        reason: String,
    },
    /// Tensors that do not fit a fragment's inputs.
    #[error("input '{name}': {reason}")]
    Input {
        /// The input.
        name: String,
        /// What was expected and what came.
        reason: String,
    },
    /// A place to cut that is none.
    #[error("cannot cut at {at}: {reason}")]
    Cut {
        /// The outlets named.
        at: String,
        /// Why not, and what could be named.
        reason: String,
    },
    /// A picture that cannot become a network's input.
    #[error("picture: {reason}")]
    Picture {
        /// Why not.
        reason: String,
    },
    /// A package whose files do not say the same as its manifest, or a manifest that cannot be read.
    #[error("package {path}: {reason}")]
    Package {
        /// The package's folder.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// Of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
