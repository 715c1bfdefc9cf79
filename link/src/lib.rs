//! The data plane: tensor frames over gRPC without needless copies, and emulated links.
//!
//! On the wire this is the stock gRPC service `splitplace.data.v1.DataPlane`, and stock clients and
//! servers can talk to it. On both ends the HTTP/2 body is handled here instead of by generated code,
//! because a frame's payload is large and comes last: the sender hands out the tensors' own memory, and
//! the receiver keeps the pieces as they came off the socket. What is left is one copy on each end: the
//! kernel's on the way out, and the one into memory aligned for the engine on the way in.
//!
//! Reading order: [`tensor`], [`frame`] (the domain form), [`wire`] (frame to bytes and back),
//! [`sender`], [`receiver`], [`receipt`] (what the receiver says back), [`shape`] (emulated links), [`probe`] (frames
//! that only measure), [`security`], [`accept`].

pub mod accept;
pub mod frame;
pub mod probe;
pub mod receipt;
pub mod receiver;
pub mod security;
pub mod sender;
pub mod shape;
pub mod tensor;
pub mod wire;

pub use accept::Secured;
pub use frame::{ExitSaid, Failure, Frame, HopTiming, Reason};
pub use receipt::Backlog;
pub use receiver::{Receiver, Sink};
pub use security::{Files, Security, SecurityError};
pub use sender::{Events, SendError, Sender, SenderConfig};
pub use shape::{LinkShape, Shaper};
pub use tensor::{Tensor, dtype, element, element_bytes};
pub use wire::{Decoder, WireError, WireLimits};

/// Largest HTTP/2 frame: the setting that matters most for large tensors. Larger ones leave the cache
/// before they are read (`link/benches/frames.rs`).
pub const HTTP2_FRAME_BYTES: u32 = 1 << 17;
/// Window of one stream; at least bandwidth times delay of the longest link.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// Window of a connection.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
