//! `splitplace worker`: one node.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::Args;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use splitplace_worker as worker;
use tokio::net::TcpListener;

use crate::{
    fleet,
    settings::{self, Flags, Sources},
};

#[derive(Debug, Args)]
pub(crate) struct Worker {
    #[command(flatten)]
    sources: Sources,
    /// The orchestrator's address for workers.
    #[arg(long, value_name = "HOST:PORT")]
    orchestrator: Option<String>,
    /// The node's name, unique in the fleet; the machine's name without it.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Where frames are received.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where other nodes reach that, when it is not the same.
    #[arg(long, value_name = "HOST:PORT")]
    public: Option<String>,
    /// Folder for fragments that were fetched.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Allow addresses beyond loopback without certificates.
    #[arg(long)]
    insecure: bool,
    /// Address for Prometheus; none without it.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "SPLITPLACE_WORKER_METRICS_ADDRESS"
    )]
    metrics: Option<SocketAddr>,
    /// End when the process that started this one does.
    #[arg(long, hide = true)]
    die_with_parent: bool,
}

pub(crate) async fn run(args: Worker) -> anyhow::Result<ExitCode> {
    let flags = Flags::default()
        .with("orchestrator", args.orchestrator)?
        .with("node", args.node)?
        .with("listen", args.listen)?
        .with("public", args.public)?
        .with("cache", args.cache)?
        .with("insecure", args.insecure.then_some(true))?;
    let config: worker::Config = settings::read(&args.sources, "SPLITPLACE_NODE_", flags)?;
    if args.sources.print_config {
        settings::print(&config)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.die_with_parent {
        die_with_parent()?;
    }
    let registry = Arc::new(Mutex::new(Registry::default()));
    let metrics = worker::Metrics::register(&mut registry.lock());
    if let Some(address) = args.metrics {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} for metrics"))?;
        let routes = splitplace_orchestrator::api::metrics(registry);
        tokio::spawn(splitplace_orchestrator::api::serve_plain(listener, routes));
    }
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} for frames", config.listen))?;
    worker::run(config, listener, &metrics, fleet::asked_to_stop()).await?;
    Ok(ExitCode::SUCCESS)
}

fn die_with_parent() -> anyhow::Result<()> {
    let signal = Some(rustix::process::Signal::TERM);
    rustix::process::set_parent_process_death_signal(signal)
        .context("the parent's death cannot be watched")?;
    Ok(())
}
