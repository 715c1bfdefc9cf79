//! The inference API: the Open Inference Protocol over gRPC and REST, health, reflection, metrics.
//!
//! Every module here decodes, asks a [`Face`], and encodes. What both protocols share (tensors, the
//! promised time, what an answer says about itself, error codes) is decided once, without sockets.
//!
//! Reading order: `tensors`, `sla`, `said`, `errors` (shared), `grpc`, `stream`, `model_info`,
//! `center`, `health` (gRPC), `rest` (REST), [`dashboard`](dashboard()), `tokens`, `tls`, [`standby`].

mod center;
mod dashboard;
mod errors;
mod grpc;
mod health;
mod model_info;
mod rest;
mod said;
mod sla;
pub mod standby;
mod stream;
mod tensors;
pub mod tls;
pub mod tokens;

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use splitplace_proto::{
    FILE_DESCRIPTOR_SET, center::center_server::CenterServer,
    inference::grpc_inference_service_server::GrpcInferenceServiceServer,
};
use tonic::service::{Routes, interceptor::InterceptedService};
use tonic_health::pb::health_server::HealthServer;

use crate::face::Face;
use tokens::Tokens;

pub use dashboard::dashboard;

/// What may be chosen about the API.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest message from or to a client, in bytes.
    pub max_message_bytes: usize,
    /// Requests of one stream that may be in flight.
    pub stream_in_flight: usize,
    /// Offer reflection.
    pub reflection: bool,
    /// Who may ask.
    pub tokens: Tokens,
}

/// Every gRPC service for clients.
///
/// # Panics
/// Never with the descriptors that this crate is built with; a test covers it.
#[must_use]
pub fn grpc<F: Face>(face: &Arc<F>, settings: &Settings) -> Routes {
    let size = settings.max_message_bytes;
    let tokens = settings.tokens.clone();
    let inference = GrpcInferenceServiceServer::new(grpc::Inference::new(
        Arc::clone(face),
        settings.stream_in_flight,
    ))
    .max_decoding_message_size(size)
    .max_encoding_message_size(size);
    let center = CenterServer::new(center::Center::new(Arc::clone(face)));
    let health = HealthServer::new(health::Health::new(Arc::clone(face)));
    let mut routes = Routes::builder();
    routes
        .add_service(InterceptedService::new(inference, tokens.clone()))
        .add_service(InterceptedService::new(center, tokens))
        .add_service(health);
    if settings.reflection {
        let of = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name("inference.GRPCInferenceService")
                .with_service_name("splitplace.center.v1.Center")
                .with_service_name("grpc.health.v1.Health")
        };
        match (of().build_v1(), of().build_v1alpha()) {
            (Ok(v1), Ok(v1alpha)) => {
                routes.add_service(v1).add_service(v1alpha);
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(code = "SP405", %error, "reflection cannot be offered");
            }
        }
    }
    routes.routes()
}

/// The REST form of the protocol.
pub fn rest<F: Face>(face: &Arc<F>, settings: &Settings) -> axum::Router {
    rest::router(Arc::clone(face), settings)
}

/// The numbers of this process, in the OpenMetrics text format.
pub fn metrics(registry: Arc<Mutex<Registry>>) -> axum::Router {
    let scrape = move || {
        let registry = Arc::clone(&registry);
        async move {
            let mut text = String::new();
            let encoded = prometheus_client::encoding::text::encode(&mut text, &registry.lock());
            match encoded {
                Ok(()) => Ok((
                    [(
                        "content-type",
                        "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    )],
                    text,
                )),
                Err(error) => Err((
                    axum::http::StatusCode::INTERNAL_SERVER_ERROR,
                    error.to_string(),
                )),
            }
        }
    };
    axum::Router::new().route("/metrics", axum::routing::get(scrape))
}

/// Serves routes on a listener, without certificates, until the process ends.
pub async fn serve_plain(listener: tokio::net::TcpListener, routes: axum::Router) {
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(code = "SP405", %error, "a server stopped");
    }
}
