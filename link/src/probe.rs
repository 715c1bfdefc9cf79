//! Frames that carry nothing: they measure a link that nobody uses.

use splitplace_codec::Codec;
use splitplace_proto::data::DType;

use crate::{Frame, Tensor};

/// Largest probe, in bytes.
pub const PROBE_BYTES: u32 = 1 << 20;

/// A frame of so many bytes, at most [`PROBE_BYTES`]. No plan has its generation.
#[must_use]
pub fn frame(bytes: u32) -> Frame {
    let bytes = bytes.min(PROBE_BYTES);
    let nothing = Tensor {
        name: String::new(),
        dtype: DType::Uint8,
        shape: vec![i64::from(bytes)],
        codec: Codec::RAW,
        chunks: vec![vec![0; bytes as usize].into()],
    };
    Frame {
        tensors: vec![nothing],
        ..Frame::default()
    }
}

/// Whether a frame is a probe: plans are numbered from 1.
#[must_use]
pub const fn is_probe(frame: &Frame) -> bool {
    frame.generation == 0
}
