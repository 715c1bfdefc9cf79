//! What a client is told when there is no answer.

use axum::http::StatusCode;
use tonic::{Code, Status, metadata::MetadataValue};

use crate::{
    face::{AskError, LoadError},
    wishes::WishesError,
};

/// Trailer of a failed inference: whether the request had been let in before it failed.
pub(super) const ADMITTED: &str = "splitplace-admitted";

/// Metadata of a refusal: its page in `docs/errors/`.
pub(super) const CODE: &str = "splitplace-code";

/// Whether the request had been let in.
pub(super) const fn was_admitted(error: &AskError) -> bool {
    matches!(error, AskError::Expired { .. } | AskError::Failed(_))
}

/// The gRPC code of an error; the REST status follows from it.
pub(super) const fn code(error: &AskError) -> Code {
    match error {
        AskError::UnknownModel { .. } | AskError::UnknownVersion { .. } => Code::NotFound,
        AskError::Invalid(_) => Code::InvalidArgument,
        AskError::NotReady { .. } | AskError::Draining => Code::Unavailable,
        AskError::Overloaded { .. } => Code::ResourceExhausted,
        AskError::Inaccurate { .. } => Code::FailedPrecondition,
        AskError::Hopeless { .. } | AskError::Expired { .. } => Code::DeadlineExceeded,
        AskError::Failed(_) => Code::Internal,
    }
}

/// The error as a gRPC status that says whether the request had been let in.
pub(super) fn status(error: &AskError) -> Status {
    let mut status = Status::new(code(error), error.to_string());
    let admitted = if was_admitted(error) { "true" } else { "false" };
    let metadata = status.metadata_mut();
    metadata.insert(ADMITTED, MetadataValue::from_static(admitted));
    metadata.insert(CODE, MetadataValue::from_static(error.code()));
    status
}

/// The error as a REST status.
pub(super) const fn http(error: &AskError) -> StatusCode {
    match code(error) {
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::InvalidArgument | Code::FailedPrecondition => StatusCode::BAD_REQUEST,
        Code::Unavailable | Code::ResourceExhausted => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A failed load or unload as a gRPC status.
pub(super) fn load_status(error: &LoadError) -> Status {
    let mut status = Status::new(load_code(error), error.to_string());
    let code = MetadataValue::from_static(error.code());
    status.metadata_mut().insert(CODE, code);
    status
}

const fn load_code(error: &LoadError) -> Code {
    match error {
        LoadError::Unknown { .. } => Code::NotFound,
        LoadError::Refused { .. } => Code::FailedPrecondition,
        LoadError::NotGranted(WishesError::Malformed(_)) => Code::InvalidArgument,
        LoadError::NotGranted(WishesError::Impossible(_)) => Code::Unimplemented,
    }
}

/// Versions are numbers; anything else is a mistake of the client.
pub(super) fn version(text: &str) -> Result<(), AskError> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    Err(AskError::Invalid(format!(
        "failed to get model version from specified version string '{text}': it must be a number"
    )))
}
