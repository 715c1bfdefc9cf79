//! What takes long: fetching, loading and measuring fragments, and streams to new peers; one after another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use splitplace_link::{LinkShape, Security, Sender, SenderConfig};
use splitplace_plan::{FragmentId, Generation};
use splitplace_proto::control::{
    self, Assignment, FragmentSpec, Profile, WorkerMessage, control_client::ControlClient,
    worker_message,
};
use tokio::sync::mpsc;
use tonic::transport::Channel;

use super::message;
use crate::{
    curve::curve,
    fragments::Loaded,
    node::{CENTER, Node},
};

/// What the loader does, one after another.
pub(super) enum Load {
    Assignment(Assignment),
    Profile(Profile),
}

/// Does what the session is told, so that the session keeps beating.
pub(super) struct Loader {
    pub(super) node: Arc<Node>,
    pub(super) client: ControlClient<Channel>,
    pub(super) outbox: mpsc::Sender<WorkerMessage>,
    pub(super) center: String,
    pub(super) peer_queue: usize,
    pub(super) max_fragment_bytes: u64,
    pub(super) security: Option<Security>,
    pub(super) cores: u32,
}

impl Loader {
    pub(super) async fn one(&mut self, load: Load) {
        let kind = match load {
            Load::Assignment(assignment) => {
                let generation = assignment.generation;
                let mut fragments = Vec::with_capacity(assignment.fragments.len());
                let ids = assignment.fragments.iter();
                self.node
                    .expect(ids.filter_map(|spec| id_of(spec).ok()).collect());
                // What a plan that came to nothing has left here must not take the room of this one.
                self.node
                    .routes
                    .write()
                    .abandon(Generation(assignment.in_force), Generation(generation));
                self.node.fragments.retain(self.node.needed());
                let outcome = self.assign(assignment, &mut fragments).await;
                self.node.expect(BTreeSet::new());
                if outcome.is_err() {
                    self.node.fragments.retain(self.node.needed());
                }
                // What was measured on the way to a refusal is worth knowing for the next plan.
                let refusal = outcome.err().unwrap_or_default();
                worker_message::Kind::Assignment(control::AssignmentStatus {
                    generation,
                    refusal,
                    fragments,
                })
            }
            Load::Profile(profile) => {
                let id = profile.id;
                let (refusal, fragments) = match self.profile(profile).await {
                    Ok(fragments) => (String::new(), fragments),
                    Err(refusal) => (refusal, Vec::new()),
                };
                worker_message::Kind::Profile(control::ProfileResult {
                    id,
                    refusal,
                    fragments,
                })
            }
        };
        // A closed outbox is a broken session: whoever opens the next one assigns anew.
        let _ = self.outbox.send(message(kind)).await;
    }

    async fn assign(
        &mut self,
        assignment: Assignment,
        statuses: &mut Vec<control::FragmentStatus>,
    ) -> Result<(), String> {
        let generation = Generation(assignment.generation);
        let newest = self.node.routes.read().newest();
        if generation < newest {
            return Err(format!(
                "generation {generation} is older than {newest}, which this worker has accepted"
            ));
        }
        for spec in assignment.fragments {
            let id = id_of(&spec)?;
            let loaded = match self.node.fragments.get(id) {
                Some(loaded) => loaded,
                None => {
                    let bytes = self.bytes(&spec, id).await?;
                    let node = Arc::clone(&self.node);
                    let load = move || node.fragments.load(&spec, id, bytes);
                    let loaded = tokio::task::spawn_blocking(load).await;
                    loaded
                        .map_err(|error| error.to_string())?
                        .map_err(|refused| {
                            statuses.extend(refused.measured.map(|measured| *measured));
                            refused.reason
                        })?
                }
            };
            statuses.push(loaded.status());
        }
        self.peers(&assignment.peers)?;
        self.node
            .routes
            .write()
            .accept(generation, &assignment.routes, &self.node.name)
    }

    /// Opens streams to new peers, keeps the ones that are as they should be, closes the rest.
    fn peers(&self, wanted: &[control::Peer]) -> Result<(), String> {
        let mut peers: BTreeMap<String, Arc<Sender>> = BTreeMap::new();
        let known = self.node.peers.read().clone();
        for (number, peer) in (0u64..).zip(wanted) {
            let address = if peer.node == CENTER {
                &self.center
            } else {
                &peer.data_address
            };
            let shape = peer.shape.map(shape_of);
            let same = known
                .get(&peer.node)
                .filter(|sender| sender.address == *address && sender.reshape(shape));
            let sender = match same {
                Some(sender) => Arc::clone(sender),
                None => {
                    let config = SenderConfig {
                        own_name: self.node.name.clone(),
                        address: address.clone(),
                        security: self.security.clone(),
                        queue_frames: self.peer_queue,
                        shape,
                        seed: number,
                        pause_max: Duration::from_millis(500),
                    };
                    let sender = Sender::open(config, &peer.node, self.node.events());
                    Arc::new(sender.map_err(|error| {
                        format!(
                            "the address '{address}' of '{}' is none: {error}",
                            peer.node
                        )
                    })?)
                }
            };
            peers.insert(peer.node.clone(), sender);
        }
        *self.node.peers.write() = peers;
        Ok(())
    }

    /// Measures of a fragment what it does with more samples and threads, while nobody needs the node and nothing
    /// `waiting` is to be loaded. What is found out goes with the next report.
    pub(super) async fn curve(&self, loaded: Arc<Loaded>, waiting: mpsc::WeakSender<Load>) {
        let (node, cores) = (Arc::clone(&self.node), self.cores);
        // An ended session has nobody who sends.
        let nothing_waits = move || {
            let loads = waiting.upgrade();
            loads.is_some_and(|loads| loads.capacity() == loads.max_capacity())
        };
        let is_free = move || node.queue.is_idle() && nothing_waits();
        let measure = move || curve(&loaded, cores, is_free);
        if let Err(error) = tokio::task::spawn_blocking(measure).await {
            tracing::warn!(code = "SP403", %error, "a fragment could not be measured");
        }
    }

    async fn profile(&mut self, profile: Profile) -> Result<Vec<control::FragmentStatus>, String> {
        let mut statuses = Vec::with_capacity(profile.fragments.len());
        for spec in profile.fragments {
            let id = id_of(&spec)?;
            let bytes = self.bytes(&spec, id).await?;
            let node = Arc::clone(&self.node);
            let cores = self.cores;
            let measure = move || {
                let measured = node.fragments.measure(&spec, id, bytes)?;
                curve(&measured, cores, || node.queue.is_idle());
                Ok::<_, String>(measured.status())
            };
            let measured = tokio::task::spawn_blocking(measure)
                .await
                .map_err(|error| error.to_string())??;
            statuses.push(measured);
        }
        Ok(statuses)
    }
}

pub(super) fn shape_of(shape: control::LinkShape) -> LinkShape {
    LinkShape {
        rate_bytes_per_second: match shape.rate_bytes_per_second {
            rate if rate > 0.0 => rate,
            _ => f64::INFINITY,
        },
        delay: Duration::from_micros(shape.delay_us),
        jitter: Duration::from_micros(shape.jitter_us),
    }
}

fn id_of(spec: &FragmentSpec) -> Result<FragmentId, String> {
    FragmentId::from_slice(&spec.id)
        .ok_or_else(|| format!("'{}' is named by something that is no hash", spec.label))
}
