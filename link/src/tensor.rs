//! A tensor on its way: a header and the pieces of memory that hold its elements.

use bytes::Bytes;
use splitplace_codec::Codec;
use splitplace_proto::data::DType;

/// A named tensor. The elements are row-major and little-endian; they may lie in several pieces, as
/// they came off a socket, and are put together once, by whoever computes with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Name of the outlet that made it.
    pub name: String,
    /// Type of an element.
    pub dtype: DType,
    /// Row-major shape, every dimension at least 0.
    pub shape: Vec<i64>,
    /// How the bytes stand for the elements.
    pub codec: Codec,
    /// The elements' bytes, one piece after another.
    pub chunks: Vec<Bytes>,
}

impl Tensor {
    /// Size of the bytes that stand for the elements.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// The elements in one piece: the piece itself when there is only one, else a copy.
    #[must_use]
    pub fn contiguous(&self) -> Bytes {
        match self.chunks.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}

/// Bytes of one element; `None` for the unspecified type and for strings.
#[must_use]
pub const fn element_bytes(dtype: DType) -> Option<usize> {
    match dtype {
        DType::Unspecified | DType::Bytes => None,
        DType::Bool | DType::Uint8 | DType::Int8 => Some(1),
        DType::Uint16 | DType::Int16 | DType::Fp16 => Some(2),
        DType::Uint32 | DType::Int32 | DType::Fp32 => Some(4),
        DType::Uint64 | DType::Int64 | DType::Fp64 => Some(8),
    }
}
