//! Connections with certificates: handshakes happen beside the listener, so that a slow one delays nobody.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

/// Handshakes under way.
const HANDSHAKES: usize = 256;
/// Time for one.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that wait to be served.
const READY: usize = 64;
/// After the listener could not accept (too many files are open, say), until it is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections of a listener that have finished their handshake. Dropping it closes the listener.
#[derive(Debug)]
pub struct Secured {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    accepting: AbortHandle,
}

impl Secured {
    /// Accepts from now on; must be called within a tokio runtime. `config` is asked for each connection.
    pub fn new(
        listener: TcpListener,
        config: impl Fn() -> Arc<ServerConfig> + Send + 'static,
    ) -> Self {
        let (done, ready) = mpsc::channel(READY);
        let accepting = tokio::spawn(accept(listener, config, done)).abort_handle();
        Self { ready, accepting }
    }

    /// The next connection, and who it is from.
    pub async fn accept(&mut self) -> Option<(TlsStream<TcpStream>, SocketAddr)> {
        self.ready.recv().await
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Stream for Secured {
    type Item = io::Result<TlsStream<TcpStream>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let ready = self.ready.poll_recv(cx);
        ready.map(|connection| connection.map(|(stream, _)| Ok(stream)))
    }
}

async fn accept(
    listener: TcpListener,
    config: impl Fn() -> Arc<ServerConfig>,
    done: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(code = "SP405", %error, "a connection could not be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Nagle's delay costs a small message 40 ms.
        let _ = stream.set_nodelay(true);
        let (acceptor, done) = (TlsAcceptor::from(config()), done.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    // The server may have stopped.
                    let _ = done.send((stream, peer)).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "handshake failed"),
                Err(_) => tracing::debug!(%peer, "handshake took too long"),
            }
            drop(place);
        });
    }
}
