//! `splitplace doctor`: whether a machine or a cluster is fit, and what to mend.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;

use crate::{
    doctor::{
        Finding, Level,
        cluster::{self, Place},
        links, machine,
    },
    fleet, output,
};

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Look at the cluster that the kubeconfig names, instead of this machine.
    #[arg(long)]
    cluster: bool,
    /// Namespace of the release.
    #[arg(long, short = 'n', env = "POD_NAMESPACE", default_value = "default")]
    namespace: String,
    /// Helm's name of the release; without it, every part of SplitPlace in the namespace.
    #[arg(long)]
    release: Option<String>,
    /// Secret with a certificate, instead of those that carry SplitPlace's label; can be given many times.
    #[arg(long = "certificate", value_name = "SECRET")]
    certificates: Vec<String>,
    /// Port that should be free; can be given many times.
    #[arg(long = "port", value_name = "PORT", default_values_t = [8000, 8001, 8002, 8003, 8010])]
    ports: Vec<u16>,
    /// Name that should lead somewhere; can be given many times.
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// Folder with certificates.
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// Measure the way to a machine where `--listen` runs; can be given many times.
    #[arg(long = "link", value_name = "HOST:PORT")]
    links: Vec<String>,
    /// Be the other end of such a measurement, until stopped.
    #[arg(long, value_name = "ADDRESS", exclusive = true)]
    listen: Option<SocketAddr>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Doctor) -> Result<ExitCode> {
    if let Some(address) = args.listen {
        tokio::select! {
            ended = links::listen(address) => ended?,
            () = fleet::asked_to_stop() => {}
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut findings = if args.cluster {
        cluster::look(&Place {
            namespace: args.namespace,
            release: args.release,
            certificates: args.certificates,
            // Every pod is told where the API server is.
            is_inside: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        })
        .await?
    } else {
        machine::look(&args.ports, &args.names, args.certs.as_ref()).await
    };
    for peer in &args.links {
        findings.push(links::measure(peer).await);
    }
    if args.json {
        let found = findings.iter().map(|finding| {
            serde_json::json!({
                "what": finding.what,
                "level": finding.level.label(),
                "seen": finding.seen,
                "mend": finding.mend,
            })
        });
        output::json(&found.collect::<Vec<_>>())?;
    } else {
        show(&findings);
    }
    let is_bad = findings.iter().any(|finding| finding.level == Level::Bad);
    Ok(if is_bad {
        ExitCode::from(output::NO)
    } else {
        ExitCode::SUCCESS
    })
}

fn show(findings: &[Finding]) {
    let mut table = output::table(["", "what", "seen", "what to do"]);
    for finding in findings {
        table.add_row([
            finding.level.label().to_owned(),
            finding.what.clone(),
            finding.seen.clone(),
            finding.mend.clone(),
        ]);
    }
    println!("{table}");
}
