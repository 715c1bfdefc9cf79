//! `splitplace elect`: runs a command of ours only while a Lease is held.
//!
//! A standby waits here, with nothing opened. When it leads, it starts this binary again with the given
//! command, which finds the state that the one before it left. When the Lease is lost, the command is
//! ended before anybody else may have taken over: two never have the store open.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use splitplace_k8s::{
    cluster::{self, Cluster},
    lease::{self, LeaseOptions},
};
use tokio::{
    process::{Child, Command},
    sync::watch,
};

use crate::fleet;

#[derive(Debug, Args)]
pub(crate) struct Elect {
    /// The Lease.
    #[arg(long)]
    lease: String,
    /// Its namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    namespace: String,
    /// Own name, as its holder.
    #[arg(long, env = "POD_NAME")]
    name: String,
    /// Seconds without renewal after which somebody else may take over.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(3..=600))]
    lease_seconds: u64,
    /// Label the own pod while leading, so that Services lead to it.
    #[arg(long)]
    label_pod: bool,
    /// The command, as `-- orchestrator --config FILE`.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(crate) async fn run(args: Elect) -> Result<ExitCode> {
    let client = cluster::connect().await?;
    let cluster = Cluster::new(client.clone(), &args.namespace, &args.name);
    if args.label_pod {
        // A container that was started again may still carry the label.
        cluster.mark_leader(&args.name, false).await?;
    }
    let length = Duration::from_secs(args.lease_seconds);
    let options = LeaseOptions {
        namespace: args.namespace.clone(),
        name: args.lease.clone(),
        holder: args.name.clone(),
        length,
    };
    let (leader, mut leads) = watch::channel(false);
    let (stop, mut stopped) = watch::channel(false);
    let election = tokio::spawn(lease::elect(client, options, leader, async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    }));
    eprintln!("waiting for the Lease {}", args.lease);
    let ended = tokio::select! {
        () = fleet::asked_to_stop() => None,
        led = leads.wait_for(|leads| *leads) => led.ok().map(|_| ()),
    };
    let code = match ended {
        None => ExitCode::SUCCESS,
        Some(()) => lead(&args, &cluster, leads.clone(), length).await?,
    };
    let _ = stop.send(true);
    let _ = election.await;
    Ok(code)
}

async fn lead(
    args: &Elect,
    cluster: &Cluster,
    mut leads: watch::Receiver<bool>,
    length: Duration,
) -> Result<ExitCode> {
    let own = std::env::current_exe().context("cannot find the own binary")?;
    let mut child = Command::new(own)
        .args(&args.command)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the command")?;
    if args.label_pod {
        cluster.mark_leader(&args.name, true).await?;
    }
    tokio::select! {
        () = fleet::asked_to_stop() => {
            // It drains; its own limits bound that, and the Lease is renewed meanwhile.
            terminate(&child);
            let status = child.wait().await?;
            if args.label_pod {
                let _ = cluster.mark_leader(&args.name, false).await;
            }
            Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        _ = leads.wait_for(|leads| !*leads) => {
            terminate(&child);
            if tokio::time::timeout(length / 4, child.wait()).await.is_err() {
                child.kill().await?;
            }
            bail!("the Lease {} was lost; starting again as a standby", args.lease)
        }
        status = child.wait() => bail!("the command ended by itself with {}", status?),
    }
}

fn terminate(child: &Child) {
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
}
