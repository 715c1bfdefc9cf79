//! Certificates for both ends of every connection between parts.

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// An authority, and a certificate that it signed, all in PEM.
#[derive(Clone)]
pub struct Security {
    ca: String,
    cert: String,
    key: String,
}

impl Security {
    /// From the contents of the three files.
    #[must_use]
    pub const fn new(ca: String, cert: String, key: String) -> Self {
        Self { ca, cert, key }
    }

    /// For a server that admits only clients whose certificate the authority signed.
    #[must_use]
    pub fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.cert, &self.key))
            .client_ca_root(Certificate::from_pem(&self.ca))
    }

    /// For a server that admits any client; who they are is somebody else's question.
    #[must_use]
    pub fn server_for_anyone(&self) -> ServerTlsConfig {
        ServerTlsConfig::new().identity(Identity::from_pem(&self.cert, &self.key))
    }

    /// For a client that trusts only servers whose certificate the authority signed.
    #[must_use]
    pub fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(Identity::from_pem(&self.cert, &self.key))
            .ca_certificate(Certificate::from_pem(&self.ca))
    }
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Security(keys not shown)")
    }
}
