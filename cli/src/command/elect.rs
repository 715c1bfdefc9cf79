//! `splitplace elect`: an orchestrator that works only while a Lease is held.
//!
//! A standby waits here, without a store, and answers reads with what it sees of the leader. When it
//! leads, it starts this binary again with the given command, which finds the state that the one before
//! it left. When the Lease is lost, the command is ended before anybody else may have taken over: two
//! never have the store open.

use std::{
    net::SocketAddr,
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, FromArgMatches as _};
use rustix::process::{Pid, Signal, kill_process};
use splitplace_k8s::{
    cluster::{self, Cluster},
    lease::{self, LeaseOptions, Standing},
    operator::Pulse,
};
use splitplace_orchestrator::config::Config;
use splitplace_proto::inference::ServerReadyRequest;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::watch,
};

use crate::{
    client::{Client, Server},
    command::orchestrator::Orchestrator,
    fleet,
    operator::pulse,
    standby::Waiting,
};

#[derive(Debug, Args)]
pub(crate) struct Elect {
    /// Where the leader answers, whoever it is: what a standby reads from.
    #[command(flatten)]
    leader: Server,
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
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=600))]
    lease_seconds: u64,
    /// Seconds without any answer of the own orchestrator after which it is ended, for another to take over.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..=3600))]
    hung_seconds: u64,
    /// Label the own pod while leading, so that Services lead to it.
    #[arg(long)]
    label_pod: bool,
    /// The other pods that may lead: one that died with its node cannot take its label off. Can be given
    /// many times; the own name among them is left alone.
    #[arg(long = "other", value_name = "POD", requires = "label_pod")]
    others: Vec<String>,
    /// Address for probes and Prometheus.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8004")]
    listen: SocketAddr,
    /// The orchestrator's command, as `-- orchestrator --config FILE`.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Between two looks at whether the orchestrator is ready.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: Elect) -> Result<ExitCode> {
    let config = config(&args.command)?;
    let client = cluster::connect().await?;
    let cluster = Cluster::new(client.clone(), &args.namespace, &args.name);
    let pulse = Arc::new(Pulse::default());
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen on {}: choose another with --listen",
            args.listen
        )
    })?;
    tokio::spawn(pulse::serve(listener, Arc::clone(&pulse), "elect"));
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
    let (standing, mut stands) = watch::channel(Standing::Unknown);
    let (stop, mut stopped) = watch::channel(false);
    let election = tokio::spawn(lease::elect(client, options, standing, async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    }));
    eprintln!("waiting for the Lease {}", args.lease);
    let mut asked = asked();
    let leads = wait(&args, &config, &mut stands, &mut asked, &pulse).await?;
    let code = if leads {
        lead(&args, &config, &cluster, stands, asked, &pulse).await?
    } else {
        ExitCode::SUCCESS
    };
    let _ = stop.send(true);
    let _ = election.await;
    Ok(code)
}

/// Whether this process was asked to stop. One who looks now and then misses no signal in between.
fn asked() -> watch::Receiver<bool> {
    let (said, asked) = watch::channel(false);
    tokio::spawn(async move {
        fleet::asked_to_stop().await;
        said.send_replace(true);
    });
    asked
}

/// The settings that the orchestrator will have.
fn config(command: &[String]) -> Result<Config> {
    let Some(("orchestrator", arguments)) = command
        .split_first()
        .map(|(name, rest)| (name.as_str(), rest))
    else {
        bail!(
            "after -- the orchestrator's command is expected, as `-- orchestrator --config FILE`"
        );
    };
    let own = clap::Command::new("orchestrator").no_binary_name(true);
    let matches = Orchestrator::augment_args(own).try_get_matches_from(arguments)?;
    let config = Orchestrator::from_arg_matches(&matches)?
        .args
        .config(None, None)?;
    if config.store.is_none() {
        bail!("without a store (--store) nothing could be taken over");
    }
    Ok(config)
}

/// Answers reads until this one leads; false when it is asked to stop before.
async fn wait(
    args: &Elect,
    config: &Config,
    stands: &mut watch::Receiver<Standing>,
    asked: &mut watch::Receiver<bool>,
    pulse: &Pulse,
) -> Result<bool> {
    let waiting = Waiting::start(config, args.leader.clone()).await?;
    let leads = loop {
        tokio::select! {
            _ = asked.wait_for(|asked| *asked) => break false,
            changed = stands.changed() => changed.context("the election ended")?,
        }
        let now = *stands.borrow_and_update();
        pulse.ready(now != Standing::Unknown);
        if now == Standing::Leads {
            break true;
        }
    };
    waiting.stop().await;
    Ok(leads)
}

async fn lead(
    args: &Elect,
    config: &Config,
    cluster: &Cluster,
    mut stands: watch::Receiver<Standing>,
    mut asked: watch::Receiver<bool>,
    pulse: &Arc<Pulse>,
) -> Result<ExitCode> {
    pulse.leads(true);
    pulse.ready(false);
    let own = std::env::current_exe().context("cannot find the own binary")?;
    let mut child = Command::new(own)
        .args(&args.command)
        .arg("--die-with-parent")
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the command")?;
    let patience = Duration::from_secs(args.hung_seconds);
    let serve = async {
        if args.label_pod {
            for other in args.others.iter().filter(|other| **other != args.name) {
                cluster.mark_leader(other, false).await?;
            }
            cluster.mark_leader(&args.name, true).await?;
        }
        look(config, &args.leader, patience, pulse).await;
        bail!("the orchestrator has answered nothing for {patience:?}; starting again as a standby")
    };
    let mut lost = pin!(stands.wait_for(|now| *now != Standing::Leads));
    // The Lease is looked at from the first moment: where the API server is away, labels cannot be put on either.
    tokio::select! {
        _ = asked.wait_for(|asked| *asked) => {}
        _ = lost.as_mut() => return give_up(args, child).await,
        status = child.wait() => {
            bail!("the orchestrator ended by itself with {}", status?)
        }
        failed = serve => {
            // One that hangs would not hear a request to stop either.
            child.kill().await?;
            return failed;
        }
    }
    pulse.ready(false);
    // It drains; its own limits bound that, and the Lease is renewed meanwhile. Where it cannot be, somebody else may lead.
    terminate(&child);
    let status = tokio::select! {
        status = child.wait() => status?,
        _ = lost => return give_up(args, child).await,
    };
    if args.label_pod {
        let _ = cluster.mark_leader(&args.name, false).await;
    }
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Ends an orchestrator without a Lease before anybody else may start one.
async fn give_up(args: &Elect, mut child: Child) -> Result<ExitCode> {
    let patience = Duration::from_secs(args.lease_seconds) / 4;
    terminate(&child);
    if tokio::time::timeout(patience, child.wait()).await.is_err() {
        child.kill().await?;
    }
    bail!(
        "the Lease {} was lost; starting again as a standby",
        args.lease
    )
}

/// Keeps it known whether the orchestrator is ready, which the pod is then. Ends when it has answered once, and then
/// nothing for so long.
async fn look(config: &Config, leader: &Server, patience: Duration, pulse: &Pulse) {
    let own = Server {
        address: format!("localhost:{}", config.listen.grpc.port()),
        ..leader.clone()
    };
    let ask = async || {
        let client = Client::connect(&own).await?;
        let ready = client
            .inference()
            .server_ready(ServerReadyRequest {})
            .await?;
        anyhow::Ok(ready.into_inner().ready)
    };
    let mut answered: Option<Instant> = None;
    loop {
        let mut asked = pin!(ask());
        let soon = tokio::time::timeout(LOOK, asked.as_mut()).await;
        let answer = match soon {
            Ok(answer) => answer,
            // Late is not never, on a machine that is busy.
            Err(late) => {
                pulse.ready(false);
                let rest = tokio::time::timeout(patience, asked).await;
                rest.unwrap_or(Err(late.into()))
            }
        };
        pulse.ready(matches!(answer, Ok(true)));
        if answer.is_ok() {
            answered = Some(Instant::now());
        }
        if answered.is_some_and(|at| patience < at.elapsed()) {
            return;
        }
        tokio::time::sleep(LOOK).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_orchestrator_with_a_store_can_be_taken_over() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let found = config(&words("orchestrator --store /s --grpc 127.0.0.1:7")).expect("settings");
        assert_eq!(found.listen.grpc.port(), 7);
        assert!(config(&words("orchestrator")).is_err());
        assert!(config(&words("worker --store /s")).is_err());
        assert!(config(&words("orchestrator --stoer /s")).is_err());
    }
}
