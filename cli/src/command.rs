//! The commands, one module each.

pub(crate) mod certs;
pub(crate) mod crds;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod elect;
pub(crate) mod feedback;
pub(crate) mod fetch;
pub(crate) mod health;
pub(crate) mod infer;
pub(crate) mod lab;
pub(crate) mod load;
pub(crate) mod model;
pub(crate) mod operator;
pub(crate) mod orchestrator;
pub(crate) mod packages;
pub(crate) mod plan;
pub(crate) mod reference;
pub(crate) mod status;
pub(crate) mod top;
pub(crate) mod twin;
pub(crate) mod up;
pub(crate) mod worker;

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use splitplace_orchestrator::config::Config;

use crate::settings::{self, Flags, Sources};

/// Environment variables of the orchestrator's settings begin with this.
const ENV: &str = "SPLITPLACE_ORCHESTRATOR_";

/// What may be said about an orchestrator by flags of their own.
#[derive(Debug, Args)]
pub(crate) struct OrchestratorArgs {
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// Folder of model packages and `.onnx` files to serve.
    #[arg(long, value_name = "DIR")]
    pub(crate) models: Option<PathBuf>,
    /// Model to serve; can be given many times. Without it, every one of the folder.
    #[arg(long = "load", value_name = "MODEL")]
    pub(crate) load: Vec<String>,
    /// Folder for state that outlives the process.
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Who chooses: slack, two-context, layer, semantic, whole, compressed, random.
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Option<String>,
    /// Address for gRPC clients.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) grpc: Option<SocketAddr>,
    /// Address for REST clients.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<SocketAddr>,
    /// Address for Prometheus.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Address for workers.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) workers: Option<SocketAddr>,
    /// Take any free ports.
    #[arg(long)]
    pub(crate) free_ports: bool,
    /// Allow addresses beyond loopback without certificates.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Seed of every random choice.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

impl OrchestratorArgs {
    /// The settings that result.
    pub(crate) fn config(
        &self,
        fleet: Option<&PathBuf>,
        otlp: Option<String>,
    ) -> anyhow::Result<Config> {
        let free = self
            .free_ports
            .then(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let load = (!self.load.is_empty()).then(|| self.load.clone());
        let flags = Flags::default()
            .with("models", self.models.clone())?
            .with("load", load)?
            .with("store", self.store.clone())?
            .with("fleet", fleet)?
            .with("policy.name", self.policy.clone())?
            .with("listen.grpc", self.grpc.or(free))?
            .with("listen.http", self.http.or(free))?
            .with("listen.metrics", self.metrics.or(free))?
            .with("listen.workers", self.workers.or(free))?
            .with("traces.endpoint", crate::telemetry::endpoint(otlp))?
            .with("insecure", self.insecure.then_some(true))?
            .with("seed", self.seed)?;
        settings::read(&self.sources, ENV, flags)
    }
}
