//! One step of one attempt of one request on one branch, in domain terms.

use std::time::Duration;

use splitplace_proto::data;

use crate::Tensor;

pub use splitplace_proto::data::{ExitSaid, HopTiming, Reason};

/// Why a result is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For the lifecycle.
    pub reason: Reason,
    /// For a person: node, fragment, what to try.
    pub message: String,
}

/// Tensors with everything that is needed to send them on. The fields are those of the schema.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Frame {
    /// The centre's number for the request.
    pub request: u64,
    /// Attempt, from 0.
    pub attempt: u32,
    /// Plan whose route table is meant.
    pub generation: u64,
    /// Route within it.
    pub route: u32,
    /// Hop that shall run next; the number of hops for a result.
    pub hop: u32,
    /// Branch of a semantic variant.
    pub branch: u32,
    /// Left until the promised answer, when the frame is handed to the link.
    pub deadline: Duration,
    /// Left until nobody waits.
    pub expiry: Duration,
    /// Sender's clock when the frame was handed to the link; filled in by the sender.
    pub sent_unix_us: i64,
    /// The tensors.
    pub tensors: Vec<Tensor>,
    /// What earlier hops cost.
    pub trail: Vec<HopTiming>,
    /// Set in a result that is no answer.
    pub failure: Option<Failure>,
    /// In a result: the early exit that answered, from 1 along the network; 0 for its end.
    pub exit: u32,
    /// Least share of correct answers that an exit's confidence must promise; 0 asks for nothing.
    pub min_accuracy: f32,
    /// Goes on to the end whatever the exits say.
    pub is_audited: bool,
}

impl Frame {
    /// Bytes of all tensors.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.tensors.iter().map(Tensor::len_bytes).sum()
    }

    /// The schema's message without payload.
    pub(crate) fn header(&self) -> data::Frame {
        let tensors = self.tensors.iter().map(|tensor| data::TensorHeader {
            name: tensor.name.clone(),
            dtype: tensor.dtype.into(),
            shape: tensor.shape.clone(),
            codec: tensor.codec.id().into(),
            bytes: tensor.len_bytes() as u64,
        });
        data::Frame {
            request: self.request,
            attempt: self.attempt,
            generation: self.generation,
            route: self.route,
            hop: self.hop,
            branch: self.branch,
            deadline_us: micros(self.deadline),
            expiry_us: micros(self.expiry),
            sent_unix_us: self.sent_unix_us,
            tensors: tensors.collect(),
            trail: self.trail.clone(),
            exit: self.exit,
            min_accuracy: self.min_accuracy,
            is_audited: self.is_audited,
            failure: self.failure.as_ref().map(|failure| data::Failure {
                reason: failure.reason.into(),
                message: failure.message.clone(),
            }),
            payload: bytes::Bytes::new(),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
