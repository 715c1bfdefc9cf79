//! `splitplace up`: an orchestrator and its workers on this machine.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use splitplace_orchestrator::fleet_file::FleetFile;

use super::OrchestratorArgs;
use crate::{fleet, output, settings, shipped};

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    args: OrchestratorArgs,
    /// Workers to start, all alike and at full speed.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 3,
        conflicts_with = "fleet"
    )]
    nodes: usize,
    /// Emulate the nodes and links that a file describes; `demo` is the demo's fleet.
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
    /// Start each worker as a process of its own.
    #[arg(long)]
    processes: bool,
    /// Keep fetched fragments in this folder.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Seconds to wait until every model can be served.
    #[arg(long, default_value_t = 60)]
    wait: u64,
    /// Say where it listens as one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Up, otlp: Option<String>) -> anyhow::Result<ExitCode> {
    let scratch = tempfile::tempdir()?;
    let fleet_path = match &args.fleet {
        Some(name) if name.as_os_str() == "demo" && !name.exists() => {
            let path = scratch.path().join("demo.toml");
            std::fs::write(&path, shipped::DEMO_FLEET)?;
            Some(path)
        }
        other => other.clone(),
    };
    let mut config = args.args.config(fleet_path.as_ref(), otlp)?;
    if args.args.sources.print_config {
        settings::print(&config)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut nodes = match &config.fleet {
        Some(path) => {
            let file = FleetFile::read(path)?;
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            #[expect(clippy::cast_precision_loss, reason = "a machine has few cores")]
            if file.speed() > cores as f64 {
                eprintln!(
                    "warning: the fleet wants {:.2} cores and this machine has {cores}: under full \
                     load its nodes will be slower than described",
                    file.speed()
                );
            }
            fleet::emulated_nodes(&file)
        }
        None => fleet::equal_nodes(args.nodes),
    };
    if let Some(cache) = &args.cache {
        for node in &mut nodes {
            node.config.cache = Some(cache.join(&node.name));
        }
    }
    let (models, _unpacked) = fleet::packages(config.models.as_deref())?;
    config.models = Some(models);
    let mut fleet = fleet::Fleet::start(config, nodes, args.processes).await?;
    let addresses = fleet.addresses();
    if !args.json {
        eprintln!("{}", output::addresses(&addresses));
        eprintln!("dashboard on {}", fleet.dashboard());
    }
    let is_ready = tokio::select! {
        ready = fleet.ready(Duration::from_secs(args.wait)) => Some(ready),
        () = fleet::asked_to_stop() => None,
    };
    match is_ready {
        None => {
            fleet.stop().await;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Err(error)) => {
            let error = error.to_string();
            if args.json {
                fleet.stop().await;
                anyhow::bail!("{error}");
            }
            eprintln!("warning: {error}; going on, a later change of the fleet may help");
        }
        Some(Ok(())) => {}
    }
    if args.json {
        let mut line = output::addresses_json(&addresses);
        line["dashboard"] = serde_json::json!(fleet.dashboard());
        line["processes"] = serde_json::json!(fleet.processes());
        line["nodes"] = serde_json::json!(
            fleet
                .status()
                .nodes
                .iter()
                .map(|node| &node.node)
                .collect::<Vec<_>>()
        );
        println!("{line}");
    } else {
        output::status(&fleet.status());
        eprintln!("ready; Ctrl-C drains and ends");
    }
    fleet::asked_to_stop().await;
    eprintln!("leaving: nothing new is let in, what is in flight is finished");
    fleet.stop().await;
    Ok(ExitCode::SUCCESS)
}
