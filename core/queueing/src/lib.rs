//! Loss and delay of a station with few places: how many requests it turns away, how long the others stay.
//!
//! An edge worker has one thread for a fragment and a short queue in front of it: M/G/1/K, Poisson
//! arrivals, any service time, one server, K places *in all, the one in service included*. A queue that
//! holds `q` waiting requests is `K = q + 1`. Its exact loss is a recursion of a microsecond
//! ([`exact`]), so the well-known formulas of two moments ([`two_moment`], [`diffusion`], [`qna`]) are here
//! for what they alone can do: be inverted in closed form, and take arrivals that are not Poisson.
//!
//! Symbols, everywhere: `rate` λ in requests a second, service time S in seconds, offered load
//! `rho = λ E[S]` (it may exceed 1), `scv` `s² = Var[S] / E[S]²`, `capacity` K.
//!
//! Reading order: [`service`], [`counts`], [`exact`], [`two_moment`], [`diffusion`], [`arrivals`],
//! [`stage`], [`qna`], [`tandem`].
//!
//! Everything is total: no panic and no NaN for any finite input; what makes no sense is an
//! [`Error`] or is clamped as the function says. What is deliberately absent: clocks, randomness, I/O,
//! several servers.
//!
//! ```
//! use splitplace_queueing::{Service, exact, two_moment};
//! // Five places, always 80 ms, ten requests a second.
//! let service = Service::constant(0.08)?;
//! let loss = exact::loss(10.0, &service, 5)?;
//! assert!((loss - 0.0353).abs() < 1e-4);
//! // The formula of two moments says 3.65 %.
//! assert!((two_moment::loss(0.8, 0.0, 5) - 0.0365).abs() < 1e-4);
//! # Ok::<(), splitplace_queueing::Error>(())
//! ```

pub mod arrivals;
pub mod counts;
pub mod diffusion;
pub mod exact;
pub mod qna;
pub mod service;
pub mod stage;
pub mod tandem;
pub mod two_moment;

pub use arrivals::Arrivals;
pub use counts::Counts;
pub use exact::Station;
pub use service::Service;
pub use stage::Stage;

/// Places that a station may have at most. The recursion costs O(K²): 16 million steps here.
pub const MAX_CAPACITY: usize = 4096;

/// Parts that a service time may be mixed of at most.
pub const MAX_PARTS: usize = 4096;

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A rate must be finite and not negative.
    #[error("arrival rate {0} is not a number of requests a second")]
    Rate(f64),
    /// A station needs a place, and has at most [`MAX_CAPACITY`].
    #[error("a station of {0} places is not between 1 and {MAX_CAPACITY}")]
    Capacity(usize),
    /// A service time must be finite and not negative, and so must its variability.
    #[error("service time {0} is not a number of seconds, or its variability is none")]
    Service(f64),
    /// Weights must be finite, not negative, and not all zero.
    #[error("weight {0} is not a share")]
    Weight(f64),
    /// A mixture has between one and [`MAX_PARTS`] parts.
    #[error("a mixture of {0} parts is not between 1 and {MAX_PARTS}")]
    Parts(usize),
}

/// A whole number as a real one; exact below 2⁵³.
#[expect(
    clippy::cast_precision_loss,
    reason = "places and counts are far below 2^53"
)]
pub(crate) const fn real(count: usize) -> f64 {
    count as f64
}
