//! HTTP with certificates, those of now for each connection.

use std::{io, net::SocketAddr};

use axum::serve::Listener;
use splitplace_link::{Secured, Security};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

/// A listener whose connections have finished their handshake.
#[derive(Debug)]
pub struct TlsListener {
    address: SocketAddr,
    secured: Secured,
}

impl TlsListener {
    /// Wraps a listener; any client is admitted.
    ///
    /// # Errors
    /// When the listener is broken.
    pub fn new(listener: TcpListener, security: &Security) -> io::Result<Self> {
        let security = security.clone();
        Ok(Self {
            address: listener.local_addr()?,
            secured: Secured::new(listener, move || security.server_for_anyone()),
        })
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.secured.accept().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
