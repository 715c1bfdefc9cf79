//! `splitplace operator`: between a cluster's custom resources and an orchestrator.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use splitplace_k8s::{
    cluster,
    decide::Settings,
    fetch::{FetchPod, FetchSettings},
    lease::LeaseOptions,
    operator::{self, Options, Pulse},
};
use tokio::net::TcpListener;

use crate::{
    client::Server,
    fleet,
    operator::{center::Remote, pulse},
};

#[derive(Debug, Args)]
pub(crate) struct Operator {
    #[command(flatten)]
    server: Server,
    /// Namespace that is looked after.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    namespace: String,
    /// Own name, as holder of the Lease.
    #[arg(long, env = "POD_NAME", default_value = "operator")]
    name: String,
    /// Values of app.kubernetes.io/name and app.kubernetes.io/instance of the release's pods.
    #[arg(long, num_args = 2, value_names = ["NAME", "INSTANCE"], default_values_t = ["splitplace".to_owned(), "splitplace".to_owned()])]
    app: Vec<String>,
    /// The Lease of whoever leads.
    #[arg(long, default_value = "splitplace-operator")]
    lease: String,
    /// Seconds without renewal after which another operator may take over.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(2..=600))]
    lease_seconds: u64,
    /// Seconds between two looks at everything when nothing happens.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    resync_seconds: u64,
    /// Watch the cluster's nodes, and keep workers off those that are cordoned or tainted.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    watch_nodes: bool,
    /// Key of a taint that the workers tolerate, `*` for all; can be given many times.
    #[arg(long = "tolerated", value_name = "KEY")]
    tolerated: Vec<String>,
    /// Where clients ask over gRPC, as status shows it.
    #[arg(long, value_name = "HOST:PORT", default_value = "")]
    public_grpc: String,
    /// Where clients ask over HTTP.
    #[arg(long, value_name = "HOST:PORT", default_value = "")]
    public_http: String,
    /// Service whose load balancer's addresses status shows too.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Where a proxy lets clients in from outside with a certificate of its own, as status shows it.
    #[arg(long, value_name = "HOST:PORT")]
    route: Option<String>,
    /// Image of jobs that fetch packages.
    #[arg(long, value_name = "IMAGE", default_value = "splitplace")]
    fetch_image: String,
    /// How it is pulled.
    #[arg(long, value_name = "POLICY", default_value = "IfNotPresent")]
    fetch_pull_policy: String,
    /// Claim with the orchestrator's folder of models; without it nothing can be fetched.
    #[arg(long, value_name = "CLAIM")]
    models_claim: Option<String>,
    /// The folder on it.
    #[arg(long, value_name = "DIR", default_value = "")]
    models_path: String,
    /// What the pods of these jobs need besides, as JSON: ca (secret or configMap, and key), imagePullSecrets,
    /// nodeSelector, tolerations.
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = fetch_pod)]
    fetch_pod: FetchPod,
    /// Address for probes and Prometheus.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

/// After something happened, how long to wait for more.
const SETTLE: Duration = Duration::from_millis(100);

fn fetch_pod(text: &str) -> Result<FetchPod, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

pub(crate) async fn run(args: Operator) -> Result<ExitCode> {
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen on {}: choose another with --listen",
            args.listen
        )
    })?;
    let pulse = Arc::new(Pulse::default());
    tokio::spawn(pulse::serve(listener, Arc::clone(&pulse), "operator"));
    let client = cluster::connect().await?;
    let mut app = args.app.into_iter();
    let app = (
        app.next().unwrap_or_default(),
        app.next().unwrap_or_default(),
    );
    let options = Options {
        lease: LeaseOptions {
            namespace: args.namespace.clone(),
            name: args.lease,
            holder: args.name,
            length: Duration::from_secs(args.lease_seconds),
        },
        resync: Duration::from_secs(args.resync_seconds),
        settle: SETTLE,
        watch_nodes: args.watch_nodes,
        settings: Settings {
            namespace: args.namespace,
            app,
            public_grpc: args.public_grpc,
            public_http: args.public_http,
            service: args.service,
            route: args.route,
            tls: args.server.ca.is_some(),
            fetch: args.models_claim.map(|claim| FetchSettings {
                image: args.fetch_image,
                pull_policy: args.fetch_pull_policy,
                claim,
                path: args.models_path,
                pod: args.fetch_pod,
            }),
            tolerated: args.tolerated,
        },
    };
    let center = Arc::new(Remote::new(args.server));
    operator::run(client, options, center, pulse, fleet::asked_to_stop()).await?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chart's values come as they are.
    #[test]
    fn a_fetching_pods_needs_are_read_and_a_misspelt_one_is_refused() {
        let text = r#"{"ca": {"secret": "house", "configMap": "", "key": "ca.crt"}, "imagePullSecrets": [{"name": "r"}],
            "nodeSelector": {"disk": "large"}, "tolerations": [{"key": "edge", "operator": "Exists"}]}"#;
        let pod = fetch_pod(text).unwrap();
        assert_eq!(
            (
                pod.ca.secret.as_str(),
                pod.image_pull_secrets[0].name.as_str()
            ),
            ("house", "r")
        );
        assert_eq!(pod.tolerations[0].key.as_deref(), Some("edge"));
        assert!(fetch_pod(r#"{"pullSecrets": []}"#).is_err());
    }
}
