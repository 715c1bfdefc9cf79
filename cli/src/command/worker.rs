//! `splitplace worker`: one node.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

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
    /// In a pod: be reached by the pod's own name within this headless Service, or, when this is empty,
    /// by its address. Takes the address from the variable POD_IP.
    #[arg(long, value_name = "DOMAIN", conflicts_with = "public")]
    service: Option<String>,
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

/// A pod's address as the cluster's DNS names it within a headless Service, dots and colons as dashes;
/// the address itself without a Service. A certificate can hold such names, not the addresses to come.
fn name_in(service: &str, ip: IpAddr, port: u16) -> String {
    if service.is_empty() {
        return SocketAddr::new(ip, port).to_string();
    }
    format!(
        "{}.{service}:{port}",
        ip.to_string().replace(['.', ':'], "-")
    )
}

fn own_name(service: &str, listen: Option<SocketAddr>) -> anyhow::Result<String> {
    let ip = std::env::var("POD_IP").context("--service needs the variable POD_IP")?;
    let ip = ip
        .parse()
        .with_context(|| format!("POD_IP is {ip:?}, which is no address"))?;
    let port = listen.map(|listen| listen.port()).filter(|port| *port > 0);
    Ok(name_in(
        service,
        ip,
        port.context("--service needs --listen with a port")?,
    ))
}

pub(crate) async fn run(args: Worker) -> anyhow::Result<ExitCode> {
    let public = match &args.service {
        Some(service) => Some(own_name(service, args.listen)?),
        None => args.public,
    };
    let flags = Flags::default()
        .with("orchestrator", args.orchestrator)?
        .with("node", args.node)?
        .with("listen", args.listen)?
        .with("public", public)?
        .with("cache", args.cache)?
        .with("insecure", args.insecure.then_some(true))?;
    let config: worker::Config = settings::read(&args.sources, "SPLITPLACE_NODE_", flags)?;
    if args.sources.print_config {
        settings::print(&config)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.die_with_parent {
        fleet::die_with_parent(rustix::process::Signal::TERM)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_a_name_that_a_certificate_can_hold() {
        let ip = |text: &str| text.parse().expect("address");
        assert_eq!(
            name_in("w.edge.svc", ip("10.42.0.7"), 8010),
            "10-42-0-7.w.edge.svc:8010"
        );
        assert_eq!(
            name_in("w.edge.svc", ip("2001:db8::7"), 8010),
            "2001-db8--7.w.edge.svc:8010"
        );
        assert_eq!(name_in("", ip("10.42.0.7"), 8010), "10.42.0.7:8010");
        assert_eq!(name_in("", ip("2001:db8::7"), 8010), "[2001:db8::7]:8010");
    }
}
