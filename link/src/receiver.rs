//! The receiving end: a gRPC service whose request body is read here.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use tonic::{Code, body::Body, server::NamedService};
use tower::Service;

use crate::{Decoder, Frame, WireLimits, sender::PEER_HEADER};

/// Takes the frames of every peer.
pub trait Sink: Send + Sync + 'static {
    /// A frame arrived. Must not block: it is called on the socket's own task.
    fn frame(&self, peer: &str, frame: Frame);
}

/// The service `splitplace.data.v1.DataPlane`. Mount it beside generated services.
#[derive(Debug)]
pub struct Receiver<S> {
    sink: Arc<S>,
    limits: WireLimits,
}

impl<S> Clone for Receiver<S> {
    fn clone(&self) -> Self {
        Self {
            sink: Arc::clone(&self.sink),
            limits: self.limits,
        }
    }
}

impl<S: Sink> Receiver<S> {
    /// Gives every frame to `sink`.
    #[must_use]
    pub const fn new(sink: Arc<S>, limits: WireLimits) -> Self {
        Self { sink, limits }
    }
}

impl<S> NamedService for Receiver<S> {
    const NAME: &'static str = "splitplace.data.v1.DataPlane";
}

impl<S: Sink> Service<Request<Body>> for Receiver<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != "/splitplace.data.v1.DataPlane/Stream" {
            let status = tonic::Status::unimplemented("this service has one call, Stream");
            return ready(Ok(status.into_http()));
        }
        let sink = Arc::clone(&self.sink);
        let limits = self.limits;
        // The response is opened at once and closed, with a status, when the stream of frames ends.
        let closing = futures::stream::once(async move {
            let (code, message) = read(request, &*sink, limits).await;
            Ok::<_, tonic::Status>(http_body::Frame::trailers(trailers(code, &message)))
        });
        let mut response = Response::new(Body::new(StreamBody::new(closing)));
        let grpc = HeaderValue::from_static("application/grpc");
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, grpc);
        ready(Ok(response))
    }
}

async fn read<S: Sink>(request: Request<Body>, sink: &S, limits: WireLimits) -> (Code, String) {
    let (head, mut body) = request.into_parts();
    let peer = head
        .headers
        .get(PEER_HEADER)
        .and_then(|name| name.to_str().ok())
        .unwrap_or("unnamed")
        .to_owned();
    let mut decoder = Decoder::new(limits);
    loop {
        match body.frame().await {
            Some(Ok(frame)) => {
                let Ok(piece) = frame.into_data() else {
                    continue;
                };
                decoder.push(piece);
            }
            Some(Err(error)) => return (Code::Cancelled, error.to_string()),
            None if decoder.is_midway() => {
                return (
                    Code::InvalidArgument,
                    "the stream ended within a frame".into(),
                );
            }
            None => return (Code::Ok, String::new()),
        }
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => sink.frame(&peer, frame),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(code = "SP407", peer, %error, "closing the stream of a peer");
                    return (Code::InvalidArgument, error.to_string());
                }
            }
        }
    }
}

fn trailers(code: Code, message: &str) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert("grpc-status", HeaderValue::from(code as i32));
    let plain: String = message
        .chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .collect();
    if !plain.is_empty()
        && let Ok(value) = HeaderValue::from_str(&plain)
    {
        map.insert("grpc-message", value);
    }
    map
}
