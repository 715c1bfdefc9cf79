//! `splitplace orchestrator`: the centre alone, for workers on real machines.

use std::{process::ExitCode, sync::Arc};

use clap::Args;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use splitplace_orchestrator::app::App;

use super::OrchestratorArgs;
use crate::{fleet, foresight, output, settings, telemetry};

#[derive(Debug, Args)]
pub(crate) struct Orchestrator {
    #[command(flatten)]
    pub(crate) args: OrchestratorArgs,
    /// Say where it listens as one line of JSON.
    #[arg(long)]
    json: bool,
    /// Stop when the process that started this one is gone.
    #[arg(long, hide = true)]
    die_with_parent: bool,
}

pub(crate) async fn run(args: Orchestrator, otlp: Option<String>) -> anyhow::Result<ExitCode> {
    let config = args.args.config(None, otlp)?;
    if args.args.sources.print_config {
        settings::print(&config)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.die_with_parent {
        // At once: whoever leads next needs the store, and what was acknowledged is on disk.
        fleet::die_with_parent(rustix::process::Signal::KILL)?;
    }
    let listeners = fleet::bind(&config.listen).await?;
    let registry = Arc::new(Mutex::new(Registry::default()));
    let seed = fleet::seed(&config);
    let traces = config.traces.clone();
    let app = App::start(config, listeners, &registry, seed)?;
    let traces = telemetry::export(&app, &traces)?;
    app.center().set_foresight(Arc::new(foresight::Twin));
    let addresses = app.addresses();
    if args.json {
        println!("{}", output::addresses_json(&addresses));
    } else {
        eprintln!("{}", output::addresses(&addresses));
        eprintln!(
            "workers join with: splitplace worker --orchestrator {}",
            addresses.workers
        );
    }
    fleet::asked_to_stop().await;
    eprintln!("leaving: nothing new is let in, what is in flight is finished");
    app.stop().await;
    if let Some(traces) = traces {
        traces.flush().await;
    }
    Ok(ExitCode::SUCCESS)
}
