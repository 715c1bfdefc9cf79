//! What can be wrong with a tensor or its encoding.

use crate::Codec;

/// Why a tensor was not encoded or not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No codec has this name.
    #[error(
        "codec '{0}' is unknown; known are raw, f16, u8, u6, u4, the last three also per channel as \
             u8c, u6c, u4c, each also with -rans, -zrans or -zstd, and the last six with -crans"
    )]
    Name(String),
    /// The shape has a negative dimension, or more elements than can be counted.
    #[error("no tensor has this shape and element")]
    Shape,
    /// The input is not as long as its shape says.
    #[error("a tensor of {expected} bytes has {found}")]
    Length {
        /// What shape and element say, bytes.
        expected: usize,
        /// What is there, bytes.
        found: usize,
    },
    /// The tensor is larger than the receiver allows.
    #[error("a tensor of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// What shape and element say, bytes.
        bytes: usize,
        /// What is allowed, bytes.
        limit: usize,
    },
    /// It ends before its checksum.
    #[error("the encoded tensor is cut short")]
    Truncated,
    /// Bytes changed on the way, or it was encoded for another shape or element.
    #[error("the encoded tensor's checksum is wrong")]
    Checksum,
    /// The codec's number is not known here.
    #[error("codec number {0} is unknown")]
    Id(u8),
    /// The codec is for f32 only.
    #[error("codec '{0}' is for f32 only")]
    Element(Codec),
    /// The checksum is right and the rest is not: whoever wrote it is mistaken, or means ill.
    #[error("malformed encoded tensor: {0}")]
    Malformed(&'static str),
}
