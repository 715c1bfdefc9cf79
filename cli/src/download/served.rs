//! A server of this process for tests: it answers as the test says, breaks off, falls silent, and remembers who asked.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::certificates::{self, Signed};

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As it should.
    Whole,
    /// The connection breaks.
    Broken,
    /// Nothing more comes, and nothing breaks.
    Silent,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<Bytes>,
    end: End,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: vec![body.into()],
            end: End::Whole,
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    /// A file that can be asked for in parts.
    pub(crate) fn file(whole: &Bytes, asked: &HeaderMap) -> Self {
        let from = asked.get(header::RANGE).map(|range| {
            let from = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
            from.strip_suffix('-').unwrap().parse::<usize>().unwrap()
        });
        let length = whole.len();
        match from {
            None => Self::new(200, whole.clone()),
            Some(from) if length <= from => Self::new(416, ""),
            Some(from) => Self::new(206, whole.slice(from..)).with(
                "content-range",
                &format!("bytes {from}-{}/{length}", length - 1),
            ),
        }
    }

    /// Only the first bytes, though all are promised.
    pub(crate) fn after(mut self, count: usize, end: End) -> Self {
        let whole = self.body.concat();
        self.headers
            .insert(header::CONTENT_LENGTH, whole.len().into());
        self.body = vec![Bytes::from(whole).slice(..count)];
        self.end = end;
        self
    }

    /// The same chunk many times: a body that is not in memory.
    pub(crate) fn times(mut self, count: usize) -> Self {
        self.body = vec![self.body[0].clone(); count];
        self
    }
}

type Log = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// A running server. Dropping it ends it.
pub(crate) struct Served {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    log: Log,
    task: JoinHandle<()>,
}

impl Served {
    /// Over HTTP, on loopback.
    pub(crate) async fn http(
        answer: impl Fn(&str, &HeaderMap) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, answer).await
    }

    /// Over HTTPS, with a certificate for `localhost` that `authority` has signed.
    pub(crate) async fn https(
        authority: &Signed,
        answer: impl Fn(&str, &HeaderMap) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let now = crate::command::certs::now();
        let signed = certificates::sign(authority, "s", &["localhost".into()], 1, now).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(signed.cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).unwrap(),
            );
        Self::start(Some(TlsAcceptor::from(Arc::new(config.unwrap()))), answer).await
    }

    async fn start(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&str, &HeaderMap) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (log, answer) = (Log::default(), Arc::new(answer));
        let asked = Arc::clone(&log);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (log, answer, tls) = (Arc::clone(&asked), Arc::clone(&answer), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => connection(stream, log, answer).await,
                        Some(tls) => {
                            // Who does not trust us goes away.
                            if let Ok(stream) = tls.accept(stream).await {
                                connection(stream, log, answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, log, task }
    }

    /// Paths that were asked for, in order.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.log
            .lock()
            .iter()
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// A header of every request, empty where there was none.
    pub(crate) fn headers(&self, name: &str) -> Vec<String> {
        let log = self.log.lock();
        let values = log.iter().map(|(_, headers)| {
            let value = headers.get(name).map(|value| value.to_str().unwrap());
            value.unwrap_or_default().to_owned()
        });
        values.collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    log: Log,
    answer: Arc<impl Fn(&str, &HeaderMap) -> Reply>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let path = request.uri().path_and_query().unwrap().to_string();
        let reply = answer(&path, request.headers());
        log.lock().push((path, request.headers().clone()));
        async move { Ok::<_, Infallible>(response(reply)) }
    });
    // A connection that breaks is the client's business.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn response(reply: Reply) -> Response<UnsyncBoxBody<Bytes, std::io::Error>> {
    let frames = stream::iter(reply.body).map(|data| Ok(Frame::data(data)));
    let end = stream::once(async move {
        match reply.end {
            End::Silent => std::future::pending().await,
            _ => {
                // What was said before is sent while the body has nothing to say.
                tokio::task::yield_now().await;
                Err(std::io::Error::other("the line is cut"))
            }
        }
    });
    let body = if reply.end == End::Whole {
        StreamBody::new(frames).boxed_unsync()
    } else {
        StreamBody::new(frames.chain(end)).boxed_unsync()
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}
