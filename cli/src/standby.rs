//! What a standby does while it waits: it watches the leader, and answers reads with what it saw.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use splitplace_orchestrator::{api::standby::Standby, app::Reads, config::Config};
use splitplace_proto::center::StatusRequest;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::client::{Client, Server};

/// Between two looks at the leader.
const LOOK: Duration = Duration::from_secs(1);
/// For one answer of it.
const ANSWER: Duration = Duration::from_secs(5);

/// A standby at work.
pub(crate) struct Waiting {
    reads: Reads,
    watch: JoinHandle<()>,
}

impl Waiting {
    /// Answers on the addresses that the orchestrator will have when it leads.
    pub(crate) async fn start(config: &Config, leader: Server) -> Result<Self> {
        let bind = |address| async move {
            let bound = TcpListener::bind(address).await;
            bound.with_context(|| format!("cannot listen on {address} as a standby"))
        };
        let listeners = (
            bind(config.listen.grpc).await?,
            bind(config.listen.http).await?,
        );
        let standby = Arc::new(Standby::new(&leader.address));
        let reads = Reads::start(config, listeners, &standby)?;
        let watch = tokio::spawn(watch(leader, standby));
        Ok(Self { reads, watch })
    }

    /// Makes room for the orchestrator.
    pub(crate) async fn stop(self) {
        self.watch.abort();
        self.reads.stop().await;
    }
}

async fn watch(leader: Server, standby: Arc<Standby>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut client = None;
    loop {
        ticks.tick().await;
        let looked = tokio::time::timeout(ANSWER, look(&mut client, &leader, &standby)).await;
        let error = match looked {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("no answer within {ANSWER:?}"),
        };
        // What was seen last stays, and its age is told.
        tracing::debug!(error, "the leader cannot be seen");
        client = None;
    }
}

async fn look(client: &mut Option<Client>, leader: &Server, standby: &Standby) -> Result<()> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Client::connect(leader).await?),
    };
    let status = client.center().status(StatusRequest {}).await?.into_inner();
    if status.standby {
        // A name that leads to another standby, or to this one.
        return Ok(());
    }
    let mut metadata = Vec::with_capacity(status.models.len());
    for model in &status.models {
        // One that is gone meanwhile has none.
        if let Ok(found) = client.metadata(&model.model).await {
            metadata.push(found);
        }
    }
    standby.tell(status, metadata);
    Ok(())
}
