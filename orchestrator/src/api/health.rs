//! `grpc.health.v1.Health`: honest readiness, for the server and for every model by its name.

use std::sync::Arc;

use futures::StreamExt as _;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health as Service,
};

use super::stream::Answers;
use crate::face::{Face, ModelState};

/// The service. It needs no token: probes have none.
#[derive(Debug)]
pub(super) struct Health<F> {
    face: Arc<F>,
}

impl<F> Health<F> {
    pub(super) const fn new(face: Arc<F>) -> Self {
        Self { face }
    }
}

/// Status of a service; `None` when it is not known. `""` and the services of this server are what
/// `ServerReady` says; any other name is a model's.
fn of<F: Face>(face: &F, service: &str) -> Option<ServingStatus> {
    let is_serving = match service {
        "" | "inference.GRPCInferenceService" | "splitplace.center.v1.Center" => face.is_ready(),
        model => {
            let facts = face.model(model, "").ok()?;
            facts.state == ModelState::Ready && !face.status().draining
        }
    };
    Some(if is_serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    })
}

#[tonic::async_trait]
impl<F: Face> Service for Health<F> {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match of(&*self.face, &service) {
            Some(status) => Ok(Response::new(HealthCheckResponse {
                status: status.into(),
            })),
            None => Err(Status::not_found(format!("unknown service '{service}'"))),
        }
    }

    type WatchStream = Answers<HealthCheckResponse>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let face = Arc::clone(&self.face);
        let mut told = None;
        let statuses = WatchStream::new(face.changes()).filter_map(move |_| {
            let status = of(&*face, &service).unwrap_or(ServingStatus::ServiceUnknown);
            let is_new = told.replace(status) != Some(status);
            let response = HealthCheckResponse {
                status: status.into(),
            };
            std::future::ready(is_new.then_some(Ok(response)))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}
