//! `splitplace status`: nodes, models, and where everything runs.

use std::process::ExitCode;

use clap::Args;
use splitplace_proto::center::{StatusRequest, WatchPlanRequest};

use crate::{
    client::{Client, Server},
    output,
};

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    server: Server,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Stay, and print again whenever the plan changes.
    #[arg(long, short = 'w')]
    watch: bool,
}

pub(crate) async fn run(args: Status) -> anyhow::Result<ExitCode> {
    let client = Client::connect(&args.server).await?;
    let show = |status: &_| {
        if args.json {
            println!("{}", output::status_json(status));
        } else {
            output::status(status);
        }
    };
    let status = client.center().status(StatusRequest {}).await?.into_inner();
    show(&status);
    if args.watch {
        let above = WatchPlanRequest {
            above_generation: status.generation,
        };
        let mut changes = client.center().watch_plan(above).await?.into_inner();
        while let Some(status) = changes.message().await? {
            show(&status);
        }
    }
    Ok(ExitCode::SUCCESS)
}
