//! The dashboard over HTTP: its files, a snapshot, a live stream, questions, and what an operator may do.
//!
//! Reading needs no token. Doing needs one, in a header that another site's page cannot send. Nothing is
//! loaded from elsewhere, and the content security policy says so.
//!
//! Reading order: this file (paths), `assets` (the files), `live` (the stream).

mod assets;
mod live;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use super::tokens::Tokens;
use crate::{
    foresight::Question,
    watch::requests::Order,
    watched::{Operation, Watched, WhatIfError},
};
use live::Live;

/// Everything comes from here; nothing is written into pages.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";
/// Largest question or order, in bytes.
const BODY_BYTES: usize = 16 << 10;
/// Requests that one list has at most.
const LIST: usize = 200;

/// What an operator without a token is told.
const REFUSED: &str = "a token is needed to do this: paste one of the server's client tokens, or the one \
                       that `splitplace up` printed";

struct Dashboard<F> {
    face: Arc<F>,
    tokens: Tokens,
    live: Live,
}

type Shared<F> = State<Arc<Dashboard<F>>>;

/// The dashboard's paths. `tokens` are those that let somebody act; without any nobody can. Needs a tokio
/// runtime: the live stream has a task, which ends with the routes.
pub fn dashboard<F: Watched>(face: &Arc<F>, tokens: Tokens) -> Router {
    let shared = Arc::new(Dashboard {
        face: Arc::clone(face),
        tokens,
        live: Live::start(face),
    });
    Router::new()
        .route(
            "/",
            get(|headers: HeaderMap| async move { assets::serve("index.html", &headers) }),
        )
        .route(
            "/favicon.ico",
            get(|headers: HeaderMap| async move { assets::serve("icon.svg", &headers) }),
        )
        .route("/dashboard/{*file}", get(file))
        .route("/dashboard/state", get(state::<F>))
        .route("/dashboard/events", get(events::<F>))
        .route("/dashboard/requests", get(requests::<F>))
        .route("/dashboard/requests/{id}", get(request::<F>))
        .route("/dashboard/token", post(token::<F>))
        .route("/dashboard/what-if", post(what_if::<F>))
        .route("/dashboard/act", post(act::<F>))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(map_response(careful))
        .with_state(shared)
}

/// Adds the headers that keep a page to itself.
async fn careful(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

async fn file(Path(file): Path<String>, headers: HeaderMap) -> Response {
    assets::serve(&file, &headers)
}

async fn state<F: Watched>(State(of): Shared<F>) -> Json<serde_json::Value> {
    Json(json!({
        "structure": of.face.structure(),
        "pulse": of.face.pulse(),
        "history": of.face.history(),
    }))
}

async fn events<F: Watched>(State(of): Shared<F>) -> Response {
    match of.live.subscribe(of.face.history()) {
        Some(events) => events.into_response(),
        None => failed(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("{} pages watch already; close one", live::SUBSCRIBERS),
        ),
    }
}

#[derive(Debug, serde::Deserialize)]
struct Listed {
    #[serde(default)]
    order: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    count: Option<usize>,
}

async fn requests<F: Watched>(State(of): Shared<F>, Query(listed): Query<Listed>) -> Response {
    let order = match &listed.order[..] {
        "" | "newest" => Order::Newest,
        "slowest" => Order::Slowest,
        "lost" => Order::Lost,
        other => {
            let text = format!("order '{other}' is unknown; known are newest, slowest, lost");
            return failed(StatusCode::BAD_REQUEST, &text);
        }
    };
    let model = (!listed.model.is_empty()).then_some(&listed.model[..]);
    let count = listed.count.unwrap_or(50).min(LIST);
    let all = of.face.requests(order, model, count);
    let all: Vec<_> = all.iter().map(|one| &**one).collect();
    Json(json!({ "requests": all })).into_response()
}

async fn request<F: Watched>(State(of): Shared<F>, Path(id): Path<String>) -> Response {
    match of.face.request(&id) {
        Some(one) => Json(&*one).into_response(),
        None => failed(
            StatusCode::NOT_FOUND,
            &format!(
                "request {id} is not remembered; the last ones of all and the last lost ones are"
            ),
        ),
    }
}

fn failed(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

/// Whether the sender may act. Without any token nobody may.
fn may_act<F>(of: &Dashboard<F>, headers: &HeaderMap) -> bool {
    let authorization = headers.get(header::AUTHORIZATION);
    !of.tokens.is_empty() && of.tokens.admits(authorization.map(HeaderValue::as_bytes))
}

async fn token<F: Watched>(State(of): Shared<F>, headers: HeaderMap) -> Response {
    if may_act(&of, &headers) {
        Json(json!({ "may_act": true })).into_response()
    } else {
        failed(StatusCode::UNAUTHORIZED, REFUSED)
    }
}

async fn what_if<F: Watched>(State(of): Shared<F>, Json(asked): Json<Question>) -> Response {
    match of.face.what_if(asked).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => {
            let status = match error {
                WhatIfError::Blind => StatusCode::NOT_IMPLEMENTED,
                WhatIfError::Busy => StatusCode::TOO_MANY_REQUESTS,
                WhatIfError::Wrong(_) => StatusCode::BAD_REQUEST,
                WhatIfError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            failed(status, &error.to_string())
        }
    }
}

async fn act<F: Watched>(
    State(of): Shared<F>,
    headers: HeaderMap,
    Json(what): Json<Operation>,
) -> Response {
    if !may_act(&of, &headers) {
        return failed(StatusCode::UNAUTHORIZED, REFUSED);
    }
    tracing::info!(?what, "an operator acts");
    match of.face.operate(what).await {
        Ok(told) => Json(json!({ "told": told })).into_response(),
        Err(error) => failed(StatusCode::CONFLICT, &error),
    }
}

#[cfg(test)]
mod tests;
