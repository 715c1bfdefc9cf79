//! The receiving end: a gRPC service whose request body is read here.

use std::{
    convert::Infallible,
    future::{Future, Ready, pending, ready},
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use tonic::{Code, body::Body, server::NamedService};
use tower::Service;

use crate::{Backlog, Decoder, Frame, WireLimits, receipt, sender::PEER_HEADER};

/// Takes the frames of every peer.
pub trait Sink: Send + Sync + 'static {
    /// A frame arrived. Must not block: it is called on the socket's own task.
    fn frame(&self, peer: &str, frame: Frame);

    /// Waits for what the peer shall be told. It may be dropped while it waits, and loses nothing by that.
    fn news(&self, peer: &str) -> impl Future<Output = Vec<Backlog>> + Send {
        let _ = peer;
        pending()
    }
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
        let peer = peer(&request);
        // The response is opened at once, tells news while frames are read, and is closed, with a status, when
        // the stream of frames ends.
        let reading = {
            let (sink, peer) = (Arc::clone(&sink), peer.clone());
            Box::pin(async move { read(request, &peer, &*sink, limits).await })
        };
        let answers = futures::stream::unfold(Some(reading), move |reading| {
            let (sink, peer) = (Arc::clone(&sink), peer.clone());
            async move {
                let mut reading = reading?;
                let frame = tokio::select! {
                    biased;
                    (code, message) = &mut reading => {
                        let end = http_body::Frame::trailers(trailers(code, &message));
                        return Some((Ok::<_, tonic::Status>(end), None));
                    }
                    news = sink.news(&peer) => http_body::Frame::data(receipt::encode(&news)),
                };
                Some((Ok(frame), Some(reading)))
            }
        });
        let mut response = Response::new(Body::new(StreamBody::new(answers)));
        let grpc = HeaderValue::from_static("application/grpc");
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, grpc);
        ready(Ok(response))
    }
}

fn peer(request: &Request<Body>) -> String {
    let named = request.headers().get(PEER_HEADER);
    let named = named.and_then(|name| name.to_str().ok());
    named.unwrap_or("unnamed").to_owned()
}

async fn read<S: Sink>(
    request: Request<Body>,
    peer: &str,
    sink: &S,
    limits: WireLimits,
) -> (Code, String) {
    let mut body = request.into_body();
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
                Ok(Some(frame)) => sink.frame(peer, frame),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(peer, %error, "closing the stream of a peer");
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
