//! Requests and answers on one stream.
//!
//! Answers leave in the order of their requests, as clients of models with one answer each expect. A
//! bounded number is in flight; beyond it the stream is not read, and the client feels it. A request
//! that fails fails alone: its answer carries the error and the id.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _};
use splitplace_proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
    infer_parameter::ParameterChoice,
};
use tonic::{Status, Streaming};

use super::grpc::{CallFacts, infer};
use crate::{face::Face, watch::trace::Context};

/// Answers on their way to a client.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers every request of a stream, at most `in_flight` at a time. A deadline of the call holds for
/// the stream as a whole and promises nothing to its requests.
pub(super) fn answers<F: Face>(
    face: Arc<F>,
    requests: Streaming<ModelInferRequest>,
    caller: Option<Context>,
    in_flight: usize,
) -> Answers<ModelStreamInferResponse> {
    let answers = requests.map(move |request| {
        let face = Arc::clone(&face);
        let call = CallFacts {
            deadline: None,
            caller,
            is_streamed: true,
        };
        async move {
            let request = request?;
            let id = request.id.clone();
            Ok(match infer(&*face, request, call).await {
                Ok(response) => ModelStreamInferResponse {
                    error_message: String::new(),
                    infer_response: Some(response),
                },
                Err(error) => {
                    let code = InferParameter {
                        parameter_choice: Some(ParameterChoice::StringParam(error.code().into())),
                    };
                    ModelStreamInferResponse {
                        error_message: error.to_string(),
                        infer_response: Some(ModelInferResponse {
                            id,
                            parameters: [("splitplace_code".to_owned(), code)].into(),
                            ..Default::default()
                        }),
                    }
                }
            })
        }
    });
    Box::pin(answers.buffered(in_flight.max(1)))
}
