//! How a tensor crosses a link: raw, as f16, or as small integers, with or without entropy coding, and
//! always with a checksum.
//!
//! A [`Codec`] is a [`Form`] (what becomes of a number) and an [`Entropy`] (how the numbers' symbols
//! become bytes). [`encode`](Codec::encode) may use a simpler codec than it was asked for, and says which:
//! what is no f32, or is not finite, crosses as it is, and so does what would only grow. What arrives
//! names its own codec, so [`decode`] is told nothing but the tensor's [`Spec`], which both ends know from
//! the frame's header; a checksum over both finds what changed on the way, and the structure is checked
//! again behind it.
//!
//! ```
//! use splitplace_codec::{Codec, Element, Limits, Spec, decode};
//!
//! let spec = Spec { element: Element::F32, shape: &[1, 2, 2, 2] };
//! let values = [0f32, 0.5, 0.0, 2.0, 0.0, 0.0, -1.0, 0.25];
//! let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
//! let mut wire = Vec::new();
//! let codec: Codec = "u8-rans".parse()?;
//! codec.encode(&spec, &bytes, &mut wire)?;
//! let again = decode(&wire, &spec, Limits::default())?;
//! assert_eq!(again.len(), bytes.len());
//! assert_eq!(again[..4], [0; 4]);
//! # Ok::<(), splitplace_codec::Error>(())
//! ```
//!
//! Reading order: [`codec`], [`spec`], `linear` (numbers to symbols), `section` (symbols to bytes),
//! `table` and `rans` below it, `encode`, `decode`, `estimate`. The format, byte by byte, and what each
//! codec is worth are in `docs/codecs.md`.
//!
//! Invariants: zero stays zero; no bytes make the decoder panic, or hold more than four times the bytes
//! of the tensor that it was told to expect (and 160 KiB of tables); what was once written can be read for ever (golden tests).
//! Deliberately absent: which codec is worth its time on which link (a planner's question), and the frame
//! around it.

mod bits;
pub mod codec;
mod context;
mod decode;
mod encode;
mod error;
mod estimate;
mod linear;
mod planes;
mod rans;
mod section;
pub mod spec;
mod table;
mod zero_run;

pub use codec::{Bits, Codec, Entropy, Form, Grouping};
pub use decode::decode;
pub use error::Error;
pub use estimate::estimate;
pub use spec::{Element, Limits, Spec};
