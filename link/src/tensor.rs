//! A tensor on its way: a header and the pieces of memory that hold its elements.

use bytes::Bytes;
use splitplace_codec::Codec;
use splitplace_graph::Element;
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

/// The type of an element; `None` for the unspecified type and for strings.
#[must_use]
pub const fn element(dtype: DType) -> Option<Element> {
    Some(match dtype {
        DType::Unspecified | DType::Bytes => return None,
        DType::Bool => Element::Bool,
        DType::Uint8 => Element::U8,
        DType::Uint16 => Element::U16,
        DType::Uint32 => Element::U32,
        DType::Uint64 => Element::U64,
        DType::Int8 => Element::I8,
        DType::Int16 => Element::I16,
        DType::Int32 => Element::I32,
        DType::Int64 => Element::I64,
        DType::Fp16 => Element::F16,
        DType::Fp32 => Element::F32,
        DType::Fp64 => Element::F64,
    })
}

/// How messages name the type of an element.
#[must_use]
pub const fn dtype(element: Element) -> DType {
    match element {
        Element::Bool => DType::Bool,
        Element::U8 => DType::Uint8,
        Element::U16 => DType::Uint16,
        Element::U32 => DType::Uint32,
        Element::U64 => DType::Uint64,
        Element::I8 => DType::Int8,
        Element::I16 => DType::Int16,
        Element::I32 => DType::Int32,
        Element::I64 => DType::Int64,
        Element::F16 => DType::Fp16,
        Element::F32 => DType::Fp32,
        Element::F64 => DType::Fp64,
    }
}

/// Bytes of one element; `None` for the unspecified type and for strings.
#[must_use]
pub fn element_bytes(dtype: DType) -> Option<usize> {
    usize::try_from(element(dtype)?.bytes()).ok()
}
