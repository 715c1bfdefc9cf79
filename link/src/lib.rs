//! The data plane: tensor frames over gRPC with one copy per hop, and emulated links.

pub mod tensor;

pub use tensor::{Tensor, element_bytes};
