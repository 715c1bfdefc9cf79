//! `inference.GRPCInferenceService`.

use std::{sync::Arc, time::Duration};

use splitplace_proto::inference::{
    InferParameter, ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
    ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse,
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
    ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse, grpc_inference_service_server::GrpcInferenceService,
    infer_parameter::ParameterChoice, model_infer_response::InferOutputTensor,
    model_repository_parameter::ParameterChoice as LoadParameter,
    repository_index_response::ModelIndex,
};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    errors, model_info, said,
    sla::{self, Value},
    stream,
    tensors::{Header, word},
};
use crate::{
    face::{Answer, Ask, AskError, Face, LoadError, ModelState, Via},
    watch::trace::Context,
    wishes::{PARAMETER, Wishes, WishesError},
};

/// The service.
#[derive(Debug)]
pub(super) struct Inference<F> {
    face: Arc<F>,
    stream_in_flight: usize,
}

impl<F> Inference<F> {
    pub(super) const fn new(face: Arc<F>, stream_in_flight: usize) -> Self {
        Self {
            face,
            stream_in_flight,
        }
    }
}

/// What the call says beside the message.
#[derive(Clone, Debug, Default)]
pub(super) struct CallFacts {
    /// The client's own deadline.
    pub(super) deadline: Option<Duration>,
    /// Its place in a trace.
    pub(super) caller: Option<Context>,
    /// Whether it is one of a stream.
    pub(super) is_streamed: bool,
}

impl CallFacts {
    fn of(metadata: &MetadataMap) -> Self {
        let text = |key| metadata.get(key).and_then(|value| value.to_str().ok());
        Self {
            deadline: text("grpc-timeout").and_then(sla::grpc_timeout),
            caller: text("traceparent").and_then(Context::parse),
            is_streamed: false,
        }
    }
}

/// Answers one request.
pub(super) async fn infer<F: Face>(
    face: &F,
    request: ModelInferRequest,
    call: CallFacts,
) -> Result<ModelInferResponse, AskError> {
    let id = request.id.clone();
    let wants_final = request.parameters.contains_key(sla::FINAL);
    let (model, version) = (request.model_name.clone(), request.model_version.clone());
    errors::version(&version)?;
    let ask = match decode(request, call) {
        Ok(ask) => ask,
        // A model that is not there is the greater mistake.
        Err(text) => {
            face.model(&model, &version)?;
            return Err(AskError::Invalid(text));
        }
    };
    let mut response = encode(face.ask(ask).await?, id);
    if wants_final {
        let is_final = InferParameter {
            parameter_choice: Some(ParameterChoice::BoolParam(true)),
        };
        response
            .parameters
            .insert("triton_final_response".into(), is_final);
    }
    Ok(response)
}

fn decode(request: ModelInferRequest, call: CallFacts) -> Result<Ask, String> {
    let model = request.model_name;
    let sla = sla::sla(
        |name| request.parameters.get(name).and_then(value),
        request.parameters.keys().map(String::as_str),
        call.deadline,
    )?;
    let min_accuracy = sla::min_accuracy(|name| request.parameters.get(name).and_then(value))?;
    let raw = request.raw_input_contents;
    if !raw.is_empty() {
        if let Some(input) = request.inputs.iter().find(|input| input.contents.is_some()) {
            return Err(format!(
                "contents field must not be specified when using raw_input_contents for '{}' for \
                 model '{model}'",
                input.name
            ));
        }
        if raw.len() != request.inputs.len() {
            return Err(format!(
                "expected one entry of raw_input_contents for each of the {} inputs for model \
                 '{model}', got {}",
                request.inputs.len(),
                raw.len()
            ));
        }
    }
    let mut raw = raw.into_iter();
    let inputs = request.inputs.iter().map(|input| {
        let header = Header {
            model: &model,
            name: &input.name,
            datatype: &input.datatype,
            shape: &input.shape,
        };
        match (raw.next(), &input.contents) {
            (Some(bytes), _) => header.raw(bytes),
            (None, contents) => header.typed(&contents.clone().unwrap_or_default()),
        }
    });
    Ok(Ask {
        inputs: inputs.collect::<Result<_, _>>()?,
        model,
        version: request.model_version,
        outputs: request
            .outputs
            .into_iter()
            .map(|output| output.name)
            .collect(),
        sla,
        patience: call.deadline,
        caller: call.caller,
        via: if call.is_streamed {
            Via::Stream
        } else {
            Via::Grpc
        },
        min_accuracy,
    })
}

fn value(parameter: &InferParameter) -> Option<Value> {
    Some(match parameter.parameter_choice.as_ref()? {
        ParameterChoice::BoolParam(value) => Value::Bool(*value),
        ParameterChoice::Int64Param(value) => Value::Int(i128::from(*value)),
        ParameterChoice::Uint64Param(value) => Value::Int(i128::from(*value)),
        ParameterChoice::DoubleParam(value) => Value::Number(*value),
        ParameterChoice::StringParam(value) => Value::Text(value.clone()),
    })
}

fn encode(answer: Answer, id: String) -> ModelInferResponse {
    let parameters = said::parameters(&answer).into_iter().map(|(name, value)| {
        let choice = match value {
            Value::Bool(value) => ParameterChoice::BoolParam(value),
            Value::Int(value) => {
                ParameterChoice::Int64Param(i64::try_from(value).unwrap_or(i64::MAX))
            }
            Value::Number(value) => ParameterChoice::DoubleParam(value),
            Value::Text(value) => ParameterChoice::StringParam(value),
        };
        (
            name.to_owned(),
            InferParameter {
                parameter_choice: Some(choice),
            },
        )
    });
    let parameters = parameters.collect();
    let raw_output_contents = answer
        .outputs
        .iter()
        .map(|output| output.contiguous())
        .collect();
    let outputs = answer.outputs.into_iter().map(|output| InferOutputTensor {
        datatype: word(output.dtype).to_owned(),
        name: output.name,
        shape: output.shape,
        parameters: Default::default(),
        contents: None,
    });
    ModelInferResponse {
        model_name: answer.model,
        model_version: answer.version,
        id,
        parameters,
        outputs: outputs.collect(),
        raw_output_contents,
    }
}

fn refused(error: &AskError) -> Status {
    errors::status(error)
}

/// Names of wishes that cannot be carried out, in the metadata of a refusal, by comma.
const IMPOSSIBLE: &str = "splitplace-impossible";

fn not_loaded(error: &LoadError) -> Status {
    let mut status = errors::load_status(error);
    if let LoadError::NotGranted(WishesError::Impossible(names)) = error {
        let names: Vec<&str> = names.keys().map(String::as_str).collect();
        // A name that no header can hold is in the text.
        if let Ok(names) = names.join(",").parse() {
            status.metadata_mut().insert(IMPOSSIBLE, names);
        }
    }
    status
}

fn no_repository_names(name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Ok(());
    }
    Err(Status::unimplemented(
        "repository_name is not supported: there is one repository; leave it empty",
    ))
}

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl<F: Face> GrpcInferenceService for Inference<F> {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answered<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answered<ServerReadyResponse> {
        Ok(Response::new(ServerReadyResponse {
            ready: self.face.is_ready(),
        }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Answered<ModelReadyResponse> {
        let ModelReadyRequest { name, version } = request.into_inner();
        errors::version(&version).map_err(|error| refused(&error))?;
        let facts = self.face.model(&name, &version);
        let ready = facts.is_ok_and(|facts| facts.state == ModelState::Ready);
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Answered<ServerMetadataResponse> {
        Ok(Response::new(ServerMetadataResponse {
            name: model_info::SERVER_NAME.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            extensions: model_info::EXTENSIONS.map(Into::into).into(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Answered<ModelMetadataResponse> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        errors::version(&version).map_err(|error| refused(&error))?;
        let facts = self
            .face
            .model(&name, &version)
            .map_err(|error| refused(&error))?;
        Ok(Response::new(model_info::metadata(facts)))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Answered<ModelInferResponse> {
        let call = CallFacts::of(request.metadata());
        let answer = infer(&*self.face, request.into_inner(), call).await;
        answer.map(Response::new).map_err(|error| refused(&error))
    }

    type ModelStreamInferStream = stream::Answers<ModelStreamInferResponse>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Answered<Self::ModelStreamInferStream> {
        let caller = CallFacts::of(request.metadata()).caller;
        let face = Arc::clone(&self.face);
        let requests = request.into_inner();
        let answers = stream::answers(face, requests, caller, self.stream_in_flight);
        Ok(Response::new(answers))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Answered<ModelConfigResponse> {
        let ModelConfigRequest { name, version } = request.into_inner();
        errors::version(&version).map_err(|error| refused(&error))?;
        let facts = self
            .face
            .model(&name, &version)
            .map_err(|error| refused(&error))?;
        let config = Some(model_info::config(facts));
        Ok(Response::new(ModelConfigResponse { config }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answered<ModelStatisticsResponse> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        errors::version(&version).map_err(|error| refused(&error))?;
        let all = if name.is_empty() {
            self.face.models()
        } else {
            vec![
                self.face
                    .model(&name, &version)
                    .map_err(|error| refused(&error))?,
            ]
        };
        let model_stats = all.iter().map(model_info::statistics).collect();
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Answered<RepositoryIndexResponse> {
        let RepositoryIndexRequest {
            repository_name,
            ready,
        } = request.into_inner();
        no_repository_names(&repository_name)?;
        let models = self.face.models().into_iter();
        let models = models.filter(|facts| !ready || facts.state == ModelState::Ready);
        let models = models.map(|facts| ModelIndex {
            name: facts.name,
            version: facts.version,
            state: facts.state.label().into(),
            reason: facts.reason,
        });
        Ok(Response::new(RepositoryIndexResponse {
            models: models.collect(),
        }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Answered<RepositoryModelLoadResponse> {
        let request = request.into_inner();
        no_repository_names(&request.repository_name)?;
        let mut wishes = None;
        for (name, value) in request.parameters {
            match (name.as_str(), value.parameter_choice) {
                (PARAMETER, Some(LoadParameter::StringParam(text))) => {
                    let parsed = Wishes::parse(&text).map_err(LoadError::NotGranted);
                    wishes = Some(parsed.map_err(|error| not_loaded(&error))?);
                }
                (PARAMETER, _) => {
                    let text = format!("{PARAMETER} must be a string of JSON");
                    return Err(Status::invalid_argument(text));
                }
                _ => {
                    return Err(Status::unimplemented(format!(
                        "load parameter '{name}' is not supported: a package brings its own \
                         configuration and files"
                    )));
                }
            }
        }
        let loaded = self.face.load(&request.model_name, wishes).await;
        loaded.map_err(|error| not_loaded(&error))?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Answered<RepositoryModelUnloadResponse> {
        let request = request.into_inner();
        no_repository_names(&request.repository_name)?;
        // `unload_dependents` is accepted: no model here depends on another.
        let unloaded = self.face.unload(&request.model_name).await;
        unloaded.map_err(|error| not_loaded(&error))?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }
}
