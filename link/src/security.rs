//! Certificates for both ends of every connection between parts, read again when their files change.
//!
//! Whoever renews them (a hook, cert-manager, a person) replaces files and tells nobody. So the files are looked at when
//! a connection begins, and no more often than every [`LOOK`]: what has begun goes on with what it began with, what
//! begins has the new ones, and nobody has to be started again. Files that do not go together, as in the middle of a
//! change, are read again at the next look; what was good stays until then.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Between two looks at the files.
pub const LOOK: Duration = Duration::from_secs(10);

/// Where certificates are, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Of the authority, or of several while one takes over from another.
    pub ca: PathBuf,
    /// A chain that it signed, the own certificate first.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no PEM, or has not in it what it should.
    #[error("{path} is not a PEM certificate or key: {source}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file has no certificate in it, or one that cannot be understood.
    #[error("{path} holds no certificate that can be used")]
    Certificate {
        /// Which.
        path: PathBuf,
    },
    /// Certificate and key do not go together, or are of a kind that is not supported.
    #[error("certificate and key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
    /// The authority cannot vouch for clients.
    #[error("the authority cannot be used: {0}")]
    Authority(#[from] VerifierBuilderError),
}

/// An authority and a certificate that it signed, as the files have them now.
#[derive(Clone)]
pub struct Security {
    files: Arc<Files>,
    look: Duration,
    state: Arc<Mutex<State>>,
}

struct State {
    loaded: Arc<Loaded>,
    looked: Instant,
}

/// What the files said when they were last good.
struct Loaded {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
    for_anyone: Arc<ServerConfig>,
    for_parts: Arc<ServerConfig>,
    expiry: i64,
}

impl Security {
    /// From files that are good now.
    ///
    /// # Errors
    /// [`SecurityError`].
    pub fn open(files: Files) -> Result<Self, SecurityError> {
        Self::looking(files, LOOK)
    }

    fn looking(files: Files, look: Duration) -> Result<Self, SecurityError> {
        let state = State {
            loaded: Arc::new(Loaded::read(&files)?),
            looked: Instant::now(),
        };
        Ok(Self {
            files: Arc::new(files),
            look,
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// As the files are, or as they were when they were last good.
    fn loaded(&self) -> Arc<Loaded> {
        let mut state = self.state.lock();
        if self.look <= state.looked.elapsed() {
            state.looked = Instant::now();
            match Loaded::read(&self.files) {
                Ok(loaded) if loaded.is_as(&state.loaded) => {}
                Ok(loaded) => {
                    tracing::info!(
                        cert = %self.files.cert.display(),
                        expires_unix = loaded.expiry,
                        "certificates are other ones now; what connects has the new ones"
                    );
                    state.loaded = Arc::new(loaded);
                }
                Err(error) => {
                    tracing::warn!(code = "SP105", %error, "certificates cannot be read again; those from before stay");
                }
            }
        }
        Arc::clone(&state.loaded)
    }

    /// For a server that admits only clients whose certificate the authority signed, over HTTP/2.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded().for_parts)
    }

    /// For a server that admits any client, over HTTP/2 or HTTP/1.1; who they are is somebody else's question.
    #[must_use]
    pub fn server_for_anyone(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded().for_anyone)
    }

    /// For a client that trusts only servers whose certificate the authority signed. For one connection: the next one
    /// may need another.
    #[must_use]
    pub fn client(&self) -> ClientTlsConfig {
        let loaded = self.loaded();
        ClientTlsConfig::new()
            .identity(Identity::from_pem(&loaded.cert, &loaded.key))
            .ca_certificate(Certificate::from_pem(&loaded.ca))
    }

    /// Seconds since the Unix epoch from which the own certificate holds no more.
    #[must_use]
    pub fn expiry(&self) -> i64 {
        self.loaded().expiry
    }
}

impl Loaded {
    fn read(files: &Files) -> Result<Self, SecurityError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| SecurityError::File {
                path: path.to_owned(),
                source,
            })
        };
        let (ca, cert, key) = (read(&files.ca)?, read(&files.cert)?, read(&files.key)?);
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |source| SecurityError::Pem { path, source }
        };
        let authorities: Vec<_> = CertificateDer::pem_slice_iter(&ca)
            .collect::<Result<_, _>>()
            .map_err(wrong(&files.ca))?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&cert)
            .collect::<Result<_, _>>()
            .map_err(wrong(&files.cert))?;
        let private = PrivateKeyDer::from_pem_slice(&key).map_err(wrong(&files.key))?;
        let expiry = chain.first().and_then(|own| {
            let (_, own) = x509_parser::parse_x509_certificate(own).ok()?;
            Some(own.validity().not_after.timestamp())
        });
        let expiry = expiry.ok_or_else(|| SecurityError::Certificate {
            path: files.cert.clone(),
        })?;
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()?;
        let builder = || {
            ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
        };
        let mut for_anyone = builder()?
            .with_no_client_auth()
            .with_single_cert(chain.clone(), private.clone_key())?;
        for_anyone.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut for_parts = builder()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, private)?;
        for_parts.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            ca,
            cert,
            key,
            for_anyone: Arc::new(for_anyone),
            for_parts: Arc::new(for_parts),
            expiry,
        })
    }

    fn is_as(&self, other: &Self) -> bool {
        (&self.ca, &self.cert, &self.key) == (&other.ca, &other.cert, &other.key)
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Security({}; keys not shown)", self.files.cert.display())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, Issuer, KeyPair};

    use super::*;

    /// A folder with an authority and a certificate until a year, and how to make others.
    struct Folder(tempfile::TempDir, Issuer<'static, KeyPair>);

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let ca = params.self_signed(&key).unwrap();
            fs::write(folder.path().join("ca.crt"), ca.pem()).unwrap();
            let made = Self(folder, Issuer::new(params, key));
            made.renew(2030);
            made
        }

        fn files(&self) -> Files {
            let path = |name: &str| self.0.path().join(name);
            Files {
                ca: path("ca.crt"),
                cert: path("tls.crt"),
                key: path("tls.key"),
            }
        }

        fn renew(&self, year: i32) {
            let mut params = CertificateParams::new(vec!["center".into()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let key = KeyPair::generate().unwrap();
            let cert = params.signed_by(&key, &self.1).unwrap();
            fs::write(self.files().cert, cert.pem()).unwrap();
            fs::write(self.files().key, key.serialize_pem()).unwrap();
        }
    }

    /// 1 January of 2030 and of 2031.
    const BEFORE: i64 = 1_893_456_000;
    const AFTER: i64 = 1_924_992_000;

    #[test]
    fn what_is_renewed_is_used_and_what_is_broken_is_not() {
        let folder = Folder::new();
        let security = Security::looking(folder.files(), Duration::ZERO).unwrap();
        let first = security.server();
        assert_eq!(security.expiry(), BEFORE);
        assert!(Arc::ptr_eq(&first, &security.server()), "nothing changed");
        // In the middle of a change: the new certificate is there, its key is not yet.
        let old = fs::read(folder.files().key).unwrap();
        folder.renew(2031);
        let new = fs::read(folder.files().key).unwrap();
        fs::write(folder.files().key, old).unwrap();
        assert_eq!(security.expiry(), BEFORE);
        assert!(Arc::ptr_eq(&first, &security.server()));
        fs::write(folder.files().key, new).unwrap();
        assert_eq!(security.expiry(), AFTER);
        assert!(!Arc::ptr_eq(&first, &security.server()));
        // A file that is gone changes nothing either.
        fs::remove_file(folder.files().ca).unwrap();
        assert_eq!(security.expiry(), AFTER);
        assert!(Security::open(folder.files()).is_err());
    }

    #[test]
    fn files_are_not_read_for_each_connection() {
        let folder = Folder::new();
        let security = Security::looking(folder.files(), Duration::from_secs(3600)).unwrap();
        folder.renew(2031);
        assert_eq!(security.expiry(), BEFORE);
    }

    #[test]
    fn what_is_wrong_names_the_file() {
        let folder = Folder::new();
        let said = |security: Result<Security, SecurityError>| security.unwrap_err().to_string();
        fs::write(folder.files().cert, "no certificate").unwrap();
        let why = said(Security::open(folder.files()));
        assert!(why.contains("tls.crt"), "{why}");
        fs::remove_file(folder.files().key).unwrap();
        let why = said(Security::open(folder.files()));
        assert!(why.contains("tls.key"), "{why}");
    }
}
