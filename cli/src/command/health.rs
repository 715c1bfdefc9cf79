//! `splitplace health`: whether something works, as an exit status; what probes and hooks call.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use splitplace_proto::{
    center::StatusRequest,
    inference::{ModelReadyRequest, ServerReadyRequest},
};

use crate::{
    client::{Client, Server},
    output,
};

#[derive(Debug, Args)]
pub(crate) struct Health {
    #[command(flatten)]
    server: Server,
    /// Is this model ready? Without it, is everything?
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["node", "own_node"])]
    model: Option<String>,
    /// Is this node part of the fleet?
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// The same for the node that the variable NODE_NAME names.
    #[arg(long, conflicts_with = "node")]
    own_node: bool,
    /// Ask again until it is so, for this long.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    wait: Duration,
}

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// For one answer.
const ANSWER: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: Health) -> Result<ExitCode> {
    let node = match (&args.node, args.own_node) {
        (Some(node), _) => Some(node.clone()),
        (None, true) => {
            Some(std::env::var("NODE_NAME").context("--own-node needs the variable NODE_NAME")?)
        }
        (None, false) => None,
    };
    let until = tokio::time::Instant::now() + args.wait;
    loop {
        let asked = tokio::time::timeout(ANSWER, ask(&args, node.as_deref())).await;
        let why = match asked {
            Ok(Ok(None)) => return Ok(ExitCode::SUCCESS),
            Ok(Ok(Some(why))) => why,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("{} did not answer within {ANSWER:?}", args.server.address),
        };
        if until <= tokio::time::Instant::now() {
            eprintln!("{why}");
            return Ok(ExitCode::from(output::NO));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What is not as it should be.
async fn ask(args: &Health, node: Option<&str>) -> Result<Option<String>> {
    let client = Client::connect(&args.server).await?;
    if let Some(name) = node {
        let status = client.center().status(StatusRequest {}).await?.into_inner();
        let found = status.nodes.iter().find(|node| node.node == name);
        return Ok(match found {
            Some(node) if node.state == "alive" => None,
            Some(node) => Some(format!("node {name} is {}", node.state)),
            None => Some(format!("node {name} is not part of the fleet")),
        });
    }
    let mut inference = client.inference();
    if let Some(model) = &args.model {
        let asked = ModelReadyRequest {
            name: model.clone(),
            version: String::new(),
        };
        let ready = inference.model_ready(asked).await?.into_inner().ready;
        return Ok((!ready).then(|| format!("{model} is not ready; `splitplace status` says why")));
    }
    let ready = inference
        .server_ready(ServerReadyRequest {})
        .await?
        .into_inner()
        .ready;
    Ok((!ready).then(|| "not everything is ready; `splitplace status` says why".into()))
}
