//! `splitplace.center.v1.Center`: feedback and what operators watch.

use std::sync::Arc;

use futures::StreamExt as _;
use splitplace_proto::center::{
    ActRequest, ActResponse, FeedbackRequest, FeedbackResponse, PlanDiffRequest, PlanDiffResponse,
    PlanRequest, PlanResponse, ProfilesRequest, ProfilesResponse, SnapshotRequest,
    SnapshotResponse, StatusRequest, StatusResponse, WatchPlanRequest,
    center_server::Center as Service,
};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

use super::stream::Answers;
use crate::face::Face;

/// Labels of one feedback.
const LABELS_MAX: usize = 65_536;

/// The service.
#[derive(Debug)]
pub(super) struct Center<F> {
    face: Arc<F>,
}

impl<F> Center<F> {
    pub(super) const fn new(face: Arc<F>) -> Self {
        Self { face }
    }
}

#[tonic::async_trait]
impl<F: Face> Service for Center<F> {
    async fn feedback(
        &self,
        request: Request<FeedbackRequest>,
    ) -> Result<Response<FeedbackResponse>, Status> {
        let told = request.into_inner();
        if told.labels.is_empty() || told.labels.len() > LABELS_MAX {
            return Err(Status::invalid_argument(format!(
                "labels must have one entry for each sample, from 1 to {LABELS_MAX}; got {}",
                told.labels.len()
            )));
        }
        Ok(Response::new(self.face.feedback(told).await))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.face.status()))
    }

    async fn snapshot(
        &self,
        _: Request<SnapshotRequest>,
    ) -> Result<Response<SnapshotResponse>, Status> {
        let snapshot = self.face.snapshot().await;
        let gone = || Status::unavailable("the server is shutting down");
        snapshot.map(Response::new).ok_or_else(gone)
    }

    async fn plan(&self, request: Request<PlanRequest>) -> Result<Response<PlanResponse>, Status> {
        let plan = self.face.plan(request.into_inner().explain).await;
        plan.map(Response::new).map_err(Status::unavailable)
    }

    async fn profiles(
        &self,
        _: Request<ProfilesRequest>,
    ) -> Result<Response<ProfilesResponse>, Status> {
        let found = self.face.profiles();
        found.map(Response::new).map_err(Status::unavailable)
    }

    async fn plan_diff(
        &self,
        request: Request<PlanDiffRequest>,
    ) -> Result<Response<PlanDiffResponse>, Status> {
        let found = self.face.plan_diff(request.into_inner());
        found.map(Response::new).map_err(Status::not_found)
    }

    async fn act(&self, request: Request<ActRequest>) -> Result<Response<ActResponse>, Status> {
        let told = self.face.act(request.into_inner()).await;
        told.map(|told| Response::new(ActResponse { told }))
            .map_err(Status::failed_precondition)
    }

    type WatchPlanStream = Answers<StatusResponse>;

    async fn watch_plan(
        &self,
        request: Request<WatchPlanRequest>,
    ) -> Result<Response<Self::WatchPlanStream>, Status> {
        let mut above = request.into_inner().above_generation;
        let face = Arc::clone(&self.face);
        let statuses = WatchStream::new(face.changes()).filter_map(move |_| {
            let status = face.status();
            let is_new = status.generation > above;
            above = above.max(status.generation);
            std::future::ready(is_new.then_some(Ok(status)))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}
