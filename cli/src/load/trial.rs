//! Requests that measure a fleet of this machine: none is given up for time alone, and what is lost is lost.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use splitplace_orchestrator::config::Config;
use splitplace_proto::inference::ModelMetadataResponse;

use super::{
    arrivals::{Arrivals, Gaps, SlaMix},
    engine::{self, Mode, Outcome, Run},
    payloads::Payloads,
};
use crate::client::{Client, Server};

/// Requests that may be under way: more than any fleet here can hold.
const IN_FLIGHT: usize = 100_000;

/// Has an orchestrator lose what is lost: no second attempt, nothing refused at the door.
pub(crate) fn lossy(config: &mut Config) {
    config.admission.max_attempts = 1;
    config.admission.refuse_hopeless = false;
    config.admission.max_in_flight = IN_FLIGHT;
}

/// A connection, what is sent over it, and the time that every request is promised.
#[derive(Clone)]
pub(crate) struct Trial {
    pub(crate) client: Client,
    payloads: Arc<Payloads>,
    promised: Duration,
}

impl Trial {
    /// With a server of this machine; `payloads` makes what is sent from what the model says of itself.
    pub(crate) async fn open(
        server: SocketAddr,
        model: &str,
        promised: Duration,
        payloads: impl FnOnce(&ModelMetadataResponse) -> anyhow::Result<Payloads>,
    ) -> anyhow::Result<Self> {
        let client = Client::connect(&Server::local(server)).await?;
        let metadata = client.metadata(model).await?;
        Ok(Self {
            client,
            payloads: Arc::new(payloads(&metadata)?),
            promised,
        })
    }

    fn promise(&self) -> SlaMix {
        SlaMix::new(vec![(self.promised, 1.0)])
    }

    /// So many clients that each wait for their answer.
    pub(crate) fn closed(&self, clients: usize, seed: u64) -> Mode {
        Mode::Closed {
            clients,
            slas: self.promise(),
            seed,
        }
    }

    /// Requests with these gaps, `rate` a second (1 for a trace as it is).
    pub(crate) fn open_loop(&self, gaps: Gaps, rate: f64, seed: u64) -> anyhow::Result<Mode> {
        let arrivals = Arrivals::new(gaps, rate, self.promise(), seed)?;
        Ok(Mode::Open(Box::new(arrivals)))
    }

    /// Requests at these instants, in seconds.
    pub(crate) fn at(&self, instants: &[f64], seed: u64) -> anyhow::Result<Mode> {
        let times = instants.iter();
        let times = times.map(|&at| (Duration::from_secs_f64(at), Some(self.promised)));
        self.open_loop(Gaps::Trace(times.collect()), 1.0, seed)
    }

    /// Sends until `duration` is over or `requests` were sent, and tells each outcome.
    pub(crate) async fn run(
        &self,
        mode: Mode,
        duration: Duration,
        requests: u64,
        each: impl FnMut(Outcome),
    ) {
        let run = Run {
            connections: vec![self.client.clone()],
            payloads: Arc::clone(&self.payloads),
            mode,
            duration,
            requests,
            in_order: false,
            timeout: self.promised,
            in_flight: IN_FLIGHT,
        };
        engine::run(run, each).await;
    }
}
