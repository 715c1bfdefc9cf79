//! REST v2: the same protocol as JSON, with binary tensors behind it where the client wants them.
//!
//! Reading order: this file (paths), `body` (a request's bytes), `elements` (JSON to elements and back).

mod body;
mod elements;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Map, Value as Json_, json};
use splitplace_proto::inference::{ModelConfig, ModelStatistics, StatisticDuration};

use super::{Settings, errors, model_info, said, sla::Value, tokens, tokens::Tokens};
use crate::{
    face::{Answer, AskError, Face, LoadError, ModelFacts, ModelState},
    wishes::{PARAMETER, Wishes, WishesError},
};
use body::{Wanted, decode};

/// Length of the JSON part of a body with binary tensors behind it.
pub(super) const JSON_LENGTH: &str = "inference-header-content-length";

/// Why a call failed, as REST says it.
pub(super) struct Failed(StatusCode, String, Option<Said>);

/// What is said of an error beside its words.
pub(super) struct Said {
    /// Its page in `docs/errors/`.
    code: &'static str,
    /// Whether the request had been let in, where there was one.
    admitted: Option<bool>,
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let Self(status, error, said) = self;
        let mut told = json!({ "error": error });
        if let Some(said) = &said {
            told["code"] = said.code.into();
        }
        let mut response = (status, Json(told)).into_response();
        if let Some(admitted) = said.and_then(|said| said.admitted) {
            let text = if admitted { "true" } else { "false" };
            response
                .headers_mut()
                .insert(errors::ADMITTED, HeaderValue::from_static(text));
        }
        response
    }
}

impl From<AskError> for Failed {
    fn from(error: AskError) -> Self {
        Self(
            errors::http(&error),
            error.to_string(),
            Some(Said {
                code: error.code(),
                admitted: Some(errors::was_admitted(&error)),
            }),
        )
    }
}

impl From<LoadError> for Failed {
    fn from(error: LoadError) -> Self {
        let status = match error {
            LoadError::Unknown { .. } => StatusCode::NOT_FOUND,
            LoadError::Refused { .. } | LoadError::NotGranted(WishesError::Malformed(_)) => {
                StatusCode::BAD_REQUEST
            }
            LoadError::NotGranted(WishesError::Impossible(_)) => StatusCode::NOT_IMPLEMENTED,
        };
        let said = Said {
            code: error.code(),
            admitted: None,
        };
        Self(status, error.to_string(), Some(said))
    }
}

pub(super) fn router<F: Face>(face: Arc<F>, settings: &Settings) -> Router {
    let model = Router::new()
        .route("/v2/models/{model}", get(metadata::<F>))
        .route("/v2/models/{model}/versions/{version}", get(metadata::<F>))
        .route("/v2/models/{model}/ready", get(ready::<F>))
        .route(
            "/v2/models/{model}/versions/{version}/ready",
            get(ready::<F>),
        )
        .route("/v2/models/{model}/infer", post(infer::<F>))
        .route(
            "/v2/models/{model}/versions/{version}/infer",
            post(infer::<F>),
        )
        .route("/v2/models/{model}/config", get(config::<F>))
        .route(
            "/v2/models/{model}/versions/{version}/config",
            get(config::<F>),
        )
        .route("/v2/models/{model}/stats", get(stats::<F>))
        .route(
            "/v2/models/{model}/versions/{version}/stats",
            get(stats::<F>),
        )
        .route("/v2/models/stats", get(all_stats::<F>))
        .route("/v2/repository/index", post(index::<F>))
        .route("/v2/repository/models/{model}/load", post(load::<F>))
        .route("/v2/repository/models/{model}/unload", post(unload::<F>))
        .route("/v2", get(server))
        .layer(from_fn_with_state(settings.tokens.clone(), admit));
    Router::new()
        .merge(model)
        .route("/v2/health/live", get(|| async { StatusCode::OK }))
        .route("/v2/health/ready", get(server_ready::<F>))
        .fallback(|| async {
            Failed(
                StatusCode::NOT_FOUND,
                "no such path; see GET /v2".into(),
                None,
            )
        })
        .layer(DefaultBodyLimit::max(settings.max_message_bytes))
        .with_state(face)
}

async fn admit(State(tokens): State<Tokens>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION);
    if tokens.admits(authorization.map(HeaderValue::as_bytes)) {
        return next.run(request).await;
    }
    let said = Said {
        code: tokens::CODE,
        admitted: None,
    };
    let refused = tokens::REFUSED.into();
    Failed(StatusCode::UNAUTHORIZED, refused, Some(said)).into_response()
}

/// The model and, where the path has one, the version.
#[derive(Debug, serde::Deserialize)]
struct Of {
    model: String,
    #[serde(default)]
    version: String,
}

fn facts<F: Face>(face: &F, of: &Of) -> Result<ModelFacts, AskError> {
    errors::version(&of.version)?;
    face.model(&of.model, &of.version)
}

async fn server() -> Json<Json_> {
    Json(json!({
        "name": model_info::SERVER_NAME,
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": model_info::EXTENSIONS,
    }))
}

async fn server_ready<F: Face>(State(face): State<Arc<F>>) -> StatusCode {
    if face.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

async fn ready<F: Face>(State(face): State<Arc<F>>, Path(of): Path<Of>) -> Result<(), Failed> {
    let facts = facts(&*face, &of)?;
    if facts.state == ModelState::Ready {
        return Ok(());
    }
    Err(AskError::NotReady {
        model: facts.name,
        reason: facts.reason,
    }
    .into())
}

async fn metadata<F: Face>(
    State(face): State<Arc<F>>,
    Path(of): Path<Of>,
) -> Result<Json<Json_>, Failed> {
    let metadata = model_info::metadata(facts(&*face, &of)?);
    let tensors =
        |tensors: &[splitplace_proto::inference::model_metadata_response::TensorMetadata]| {
            let of = |t: &splitplace_proto::inference::model_metadata_response::TensorMetadata| json!({ "name": t.name, "datatype": t.datatype, "shape": t.shape });
            tensors.iter().map(of).collect::<Vec<_>>()
        };
    Ok(Json(json!({
        "name": metadata.name,
        "versions": metadata.versions,
        "platform": metadata.platform,
        "inputs": tensors(&metadata.inputs),
        "outputs": tensors(&metadata.outputs),
        "properties": metadata.properties,
    })))
}

async fn config<F: Face>(
    State(face): State<Arc<F>>,
    Path(of): Path<Of>,
) -> Result<Json<Json_>, Failed> {
    let config = model_info::config(facts(&*face, &of)?);
    Ok(Json(config_json(&config)))
}

fn config_json(config: &ModelConfig) -> Json_ {
    let input = config.input.iter().map(|input| {
        json!({
            "name": input.name,
            "data_type": input.data_type().as_str_name(),
            "dims": input.dims,
        })
    });
    let output = config.output.iter().map(|output| {
        json!({
            "name": output.name,
            "data_type": output.data_type().as_str_name(),
            "dims": output.dims,
            "label_filename": output.label_filename,
        })
    });
    let parameters = config.parameters.iter().map(|(name, parameter)| {
        (
            name.clone(),
            json!({ "string_value": parameter.string_value }),
        )
    });
    json!({
        "name": config.name,
        "platform": config.platform,
        "backend": config.backend,
        "max_batch_size": config.max_batch_size,
        "input": input.collect::<Vec<_>>(),
        "output": output.collect::<Vec<_>>(),
        "parameters": parameters.collect::<Map<_, _>>(),
    })
}

async fn stats<F: Face>(
    State(face): State<Arc<F>>,
    Path(of): Path<Of>,
) -> Result<Json<Json_>, Failed> {
    let of = model_info::statistics(&facts(&*face, &of)?);
    Ok(Json(json!({ "model_stats": [stats_json(&of)] })))
}

async fn all_stats<F: Face>(State(face): State<Arc<F>>) -> Json<Json_> {
    let all = face.models();
    let all = all
        .iter()
        .map(|facts| stats_json(&model_info::statistics(facts)));
    Json(json!({ "model_stats": all.collect::<Vec<_>>() }))
}

fn stats_json(of: &ModelStatistics) -> Json_ {
    let time = |time: &Option<StatisticDuration>| {
        let time = time.unwrap_or_default();
        json!({ "count": time.count, "ns": time.ns })
    };
    let stats = of.inference_stats.unwrap_or_default();
    json!({
        "name": of.name,
        "version": of.version,
        "last_inference": of.last_inference,
        "inference_count": of.inference_count,
        "execution_count": of.execution_count,
        "inference_stats": {
            "success": time(&stats.success),
            "fail": time(&stats.fail),
            "queue": time(&stats.queue),
            "compute_input": time(&stats.compute_input),
            "compute_infer": time(&stats.compute_infer),
            "compute_output": time(&stats.compute_output),
            "cache_hit": time(&stats.cache_hit),
            "cache_miss": time(&stats.cache_miss),
        },
        "batch_stats": [],
    })
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Index {
    ready: bool,
}

async fn index<F: Face>(State(face): State<Arc<F>>, body: Bytes) -> Result<Json<Json_>, Failed> {
    let asked: Index = if body.is_empty() {
        Index::default()
    } else {
        let parsed = serde_json::from_slice(&body);
        parsed.map_err(|error| Failed(StatusCode::BAD_REQUEST, error.to_string(), None))?
    };
    let models = face.models().into_iter();
    let models = models.filter(|facts| !asked.ready || facts.state == ModelState::Ready);
    let models = models.map(|facts| {
        json!({
            "name": facts.name,
            "version": facts.version,
            "state": facts.state.label(),
            "reason": facts.reason,
        })
    });
    Ok(Json(Json_::Array(models.collect())))
}

async fn load<F: Face>(
    State(face): State<Arc<F>>,
    Path(of): Path<Of>,
    body: Bytes,
) -> Result<(), Failed> {
    let asked: Json_ = if body.is_empty() {
        Json_::Null
    } else {
        let parsed = serde_json::from_slice(&body);
        parsed.map_err(|error| Failed(StatusCode::BAD_REQUEST, error.to_string(), None))?
    };
    let mut wishes = None;
    for (name, value) in asked["parameters"].as_object().into_iter().flatten() {
        if name != PARAMETER {
            let text = format!(
                "load parameter '{name}' is not supported: a package brings its own configuration \
                 and files"
            );
            return Err(Failed(StatusCode::NOT_IMPLEMENTED, text, None));
        }
        // As text, as over gRPC, or as it is.
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        wishes = Some(Wishes::parse(&text).map_err(LoadError::NotGranted)?);
    }
    Ok(face.load(&of.model, wishes).await?)
}

async fn unload<F: Face>(State(face): State<Arc<F>>, Path(of): Path<Of>) -> Result<(), Failed> {
    Ok(face.unload(&of.model).await?)
}

async fn infer<F: Face>(
    State(face): State<Arc<F>>,
    Path(of): Path<Of>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failed> {
    if headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| coding != "identity")
    {
        let text = "compressed requests are not supported: send the body as it is";
        return Err(Failed(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            text.into(),
            None,
        ));
    }
    errors::version(&of.version)?;
    let decoded = decode(of.model.clone(), of.version.clone(), &headers, &body);
    let (ask, wanted) = match decoded {
        Ok(decoded) => decoded,
        Err(text) => {
            face.model(&of.model, &of.version)?;
            return Err(AskError::Invalid(text).into());
        }
    };
    let answer = face.ask(ask).await?;
    encode(&answer, &wanted).map_err(|text| {
        let said = Said {
            code: "SP308",
            admitted: Some(true),
        };
        Failed(StatusCode::BAD_REQUEST, text, Some(said))
    })
}

fn encode(answer: &Answer, wanted: &Wanted) -> Result<Response, String> {
    let mut binary = Vec::new();
    let mut outputs = Vec::new();
    for output in &answer.outputs {
        let mut fields = Map::new();
        fields.insert("name".into(), json!(output.name));
        fields.insert("datatype".into(), json!(super::tensors::word(output.dtype)));
        fields.insert("shape".into(), json!(output.shape));
        if wanted.is_binary(&output.name) {
            let size = output.len_bytes();
            fields.insert("parameters".into(), json!({ "binary_data_size": size }));
            binary.extend(output.chunks.iter().cloned());
        } else {
            let data = elements::to_json(output.dtype, &output.contiguous());
            let data = data.map_err(|why| format!("output '{}': {why}", output.name))?;
            fields.insert("data".into(), data);
        }
        outputs.push(Json_::Object(fields));
    }
    let parameters = said::parameters(answer).into_iter().map(|(name, value)| {
        let value = match value {
            Value::Bool(value) => json!(value),
            Value::Int(value) => json!(i64::try_from(value).unwrap_or(i64::MAX)),
            Value::Number(value) => json!(value),
            Value::Text(value) => json!(value),
        };
        (name.to_owned(), value)
    });
    let mut fields = Map::new();
    fields.insert("model_name".into(), json!(answer.model));
    fields.insert("model_version".into(), json!(answer.version));
    if let Some(id) = &wanted.id {
        fields.insert("id".into(), json!(id));
    }
    fields.insert("parameters".into(), Json_::Object(parameters.collect()));
    fields.insert("outputs".into(), Json_::Array(outputs));
    let head = Json_::Object(fields).to_string();
    if binary.is_empty() {
        return Ok(([(header::CONTENT_TYPE, "application/json")], head).into_response());
    }
    let length = head.len();
    let mut body = head.into_bytes();
    for chunk in binary {
        body.extend_from_slice(&chunk);
    }
    let mut response = ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response();
    response
        .headers_mut()
        .insert(JSON_LENGTH, HeaderValue::from(length));
    Ok(response)
}
