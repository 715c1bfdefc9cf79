//! A client of the public API: what `infer`, `load`, `status` and `demo` speak through.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use splitplace_proto::{
    center::center_client::CenterClient,
    inference::{
        ModelMetadataRequest, ModelMetadataResponse,
        grpc_inference_service_client::GrpcInferenceServiceClient,
    },
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

/// Largest message in either direction.
const MESSAGE_BYTES: usize = 256 << 20;

/// Which server, and how it lets us in.
#[derive(Clone, Debug, Args)]
pub(crate) struct Server {
    /// The server's gRPC address.
    #[arg(
        long = "server",
        short = 's',
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8001",
        env = "SPLITPLACE_SERVER"
    )]
    pub(crate) address: String,
    /// Client token.
    #[arg(long, env = "SPLITPLACE_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Certificate authority in PEM, for a server that uses certificates.
    #[arg(long, value_name = "FILE", env = "SPLITPLACE_CA")]
    pub(crate) ca: Option<PathBuf>,
}

impl Server {
    /// A local server without certificates or tokens.
    pub(crate) fn local(address: std::net::SocketAddr) -> Self {
        Self {
            address: address.to_string(),
            token: None,
            ca: None,
        }
    }
}

/// Adds the token to every call.
#[derive(Clone)]
pub(crate) struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        crate::telemetry::inject(request.metadata_mut());
        Ok(request)
    }
}

type Through = InterceptedService<Channel, Token>;

/// A connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    channel: Channel,
    token: Token,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(server: &Server) -> anyhow::Result<Self> {
        let endpoint = endpoint(server)?;
        let channel = endpoint
            .connect()
            .await
            .with_context(|| format!("no server answers at {}: is it running?", server.address))?;
        let token = match &server.token {
            None => None,
            Some(token) => {
                let mut value = MetadataValue::try_from(format!("Bearer {token}"))
                    .context("the token has characters that a header cannot carry")?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self {
            channel,
            token: Token(token),
        })
    }

    /// The inference service.
    pub(crate) fn inference(&self) -> GrpcInferenceServiceClient<Through> {
        GrpcInferenceServiceClient::with_interceptor(self.channel.clone(), self.token.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// What a model says of itself, in its newest version.
    pub(crate) async fn metadata(&self, model: &str) -> Result<ModelMetadataResponse, Status> {
        let asked = ModelMetadataRequest {
            name: model.to_owned(),
            version: String::new(),
        };
        let told = self.inference().model_metadata(asked).await?;
        Ok(told.into_inner())
    }

    /// What the centre offers beside it.
    pub(crate) fn center(&self) -> CenterClient<Through> {
        CenterClient::with_interceptor(self.channel.clone(), self.token.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
    }
}

fn endpoint(server: &Server) -> anyhow::Result<Endpoint> {
    let scheme = if server.ca.is_some() { "https" } else { "http" };
    let address = server
        .address
        .trim_start_matches("http://")
        .trim_start_matches("https://");
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .with_context(|| format!("{address:?} is no address; HOST:PORT is expected"))?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(5))
        .initial_stream_window_size(16 << 20)
        .initial_connection_window_size(32 << 20);
    if let Some(ca) = &server.ca {
        let pem = std::fs::read(ca).with_context(|| format!("cannot read {}", ca.display()))?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        endpoint = endpoint.tls_config(tls)?;
    }
    Ok(endpoint)
}
