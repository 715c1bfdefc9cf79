//! One pass over everything: asks the pure functions what follows, and writes it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Node};
use kube::ResourceExt as _;

use crate::{
    HOLD_LABEL,
    center::{CenterError, Order, Seen},
    cluster::{Cluster, Error, reference},
    decide::{self, Outcome, Settings, Todo, View},
    fetch,
    model::{EdgeModel, EdgeModelStatus},
    node::{EdgeNode, EdgeNodeStatus},
    nodes::{self, NodesView},
};

/// Everything in the cluster that matters, at one moment.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Who was first comes first.
    pub models: Vec<EdgeModel>,
    /// By name.
    pub nodes: BTreeMap<String, EdgeNode>,
    /// Jobs that fetch, by name.
    pub jobs: BTreeMap<String, Job>,
    /// The cluster's nodes; `None` when they are not watched.
    pub cluster: Option<Vec<Node>>,
    /// Addresses of the load balancer before the Service for clients.
    pub outside: Vec<String>,
    /// The moment.
    pub now: Timestamp,
}

/// What a leader remembers between passes. Losing it costs a few needless writes.
#[derive(Debug, Default)]
pub struct Memory {
    outcomes: BTreeMap<String, Outcome>,
    loading: BTreeSet<String>,
    /// What was written last, which the watch may not have told yet.
    models: BTreeMap<String, EdgeModelStatus>,
    nodes: BTreeMap<String, EdgeNodeStatus>,
    /// Cluster nodes whose label was changed and to what, until the watch tells it: by name and UID.
    held: BTreeMap<(String, String), bool>,
    /// What the orchestrator answered when it was asked to drain a node: whether it is drained now, or why not.
    drained: BTreeMap<String, Result<bool, String>>,
}

impl Memory {
    /// A load has ended.
    pub fn loaded(&mut self, uid: String, outcome: Outcome) {
        self.loading.remove(&uid);
        self.outcomes.insert(uid, outcome);
    }

    /// The orchestrator has answered to a drain, or to the end of one.
    pub fn drained(&mut self, node: String, answer: Result<bool, String>) {
        self.drained.insert(node, answer);
    }
}

/// What the orchestrator is asked after a pass.
#[derive(Debug, Default)]
pub struct Asked {
    /// To be served: the resource, its generation, the order.
    pub loads: Vec<(String, i64, Order)>,
    /// To be served no more.
    pub unloads: Vec<String>,
    /// Nodes to be drained, or to be used again.
    pub drains: Vec<(String, bool)>,
}

/// One pass.
#[derive(Debug)]
pub struct Pass<'a> {
    /// Where it writes.
    pub cluster: &'a Cluster,
    /// The release.
    pub settings: &'a Settings,
    /// What it looks at.
    pub world: World,
    /// What it remembers.
    pub memory: &'a mut Memory,
    /// What could not be written; it is tried again with the next pass.
    pub errors: u64,
}

impl Pass<'_> {
    /// Looks at everything, writes what follows.
    pub async fn run(&mut self, seen: Result<&Seen, &CenterError>) -> Asked {
        let mut asked = Asked::default();
        let models = std::mem::take(&mut self.world.models);
        let uids: BTreeSet<String> = models.iter().filter_map(|model| model.uid()).collect();
        self.memory.models.retain(|uid, _| uids.contains(uid));
        self.memory.outcomes.retain(|uid, _| uids.contains(uid));
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for mut model in models {
            let (name, served) = (model.name_any(), model.served_name().to_owned());
            let rival = names.get(&served).cloned();
            names.entry(served).or_insert_with(|| name.clone());
            let uid = model.uid().unwrap_or_default();
            if let Some(last) = self.memory.models.get(&uid) {
                model.status = Some(last.clone());
            }
            self.model(&model, &uid, rival.as_deref(), seen, &mut asked)
                .await;
        }
        asked.drains = self.nodes(seen).await;
        asked
    }

    async fn model(
        &mut self,
        model: &EdgeModel,
        uid: &str,
        rival: Option<&str>,
        seen: Result<&Seen, &CenterError>,
        asked: &mut Asked,
    ) {
        let allowed = self
            .world
            .cluster
            .as_ref()
            .and_then(|nodes| nodes::allowed(model, nodes));
        let job = fetch::job_name(model);
        let is_old = |other: &&Job| {
            let mut owners = other.owner_references().iter();
            owners.any(|owner| owner.uid == uid) && other.name_any() != job
        };
        let old_jobs = self.world.jobs.values().filter(is_old);
        let old_jobs: Vec<String> = old_jobs.map(|other| other.name_any()).collect();
        let step = decide::step(&View {
            model,
            seen,
            job: self.world.jobs.get(&job),
            old_jobs: &old_jobs,
            outcome: self.memory.outcomes.get(uid),
            is_loading: self.memory.loading.contains(uid),
            rival,
            nodes: allowed.as_deref(),
            is_blind: self.world.cluster.is_none(),
            outside: &self.world.outside,
            settings: self.settings,
            now: self.world.now,
        });
        let name = model.name_any();
        for todo in step.todo {
            let done = match todo {
                Todo::Hold => self.cluster.set_finalizer(&name, true).await,
                Todo::Release => self.cluster.set_finalizer(&name, false).await,
                Todo::Fetch(job) => self.cluster.set_job(&job).await,
                Todo::Discard(job) => self.cluster.drop_job(&job).await,
                Todo::Load(order) => {
                    self.memory.loading.insert(uid.to_owned());
                    let generation = model.metadata.generation.unwrap_or_default();
                    asked.loads.push((uid.to_owned(), generation, *order));
                    Ok(())
                }
                Todo::Unload(model) => {
                    asked.unloads.push(model);
                    Ok(())
                }
            };
            self.note(done);
        }
        if let Some(status) = step.status
            && model.status.as_ref() != Some(&status)
        {
            let done = self.cluster.set_model(&name, &status).await;
            if done.is_ok() {
                self.memory.models.insert(uid.to_owned(), status);
            } else {
                // It is said again, with its events, when it can be.
                self.note(done);
                return;
            }
        }
        for happened in &step.events {
            self.cluster.tell(&reference(model), happened).await;
        }
    }

    /// Writes what is known of nodes; gives those that the orchestrator is to drain, or to use again.
    async fn nodes(&mut self, seen: Result<&Seen, &CenterError>) -> Vec<(String, bool)> {
        for (name, last) in &self.memory.nodes {
            if let Some(node) = self.world.nodes.get_mut(name) {
                node.status = Some(last.clone());
            }
        }
        let cluster = self.world.cluster.take();
        self.holds(cluster.as_deref().unwrap_or_default()).await;
        let existing = &self.world.nodes;
        let desired = nodes::desired(&NodesView {
            seen,
            cluster: cluster.as_deref(),
            existing,
            answers: &self.memory.drained,
            settings: self.settings,
            now: self.world.now,
        });
        let gone: Vec<String> = existing
            .keys()
            .filter(|name| !desired.nodes.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            let done = self.cluster.drop_node(&name).await;
            if done.is_ok() {
                self.memory.nodes.remove(&name);
                self.memory.drained.remove(&name);
            }
            self.note(done);
        }
        for (name, status) in desired.nodes {
            let old = self.world.nodes.get(&name);
            let old = old.and_then(|node| node.status.as_ref());
            if old == Some(&status) {
                continue;
            }
            match self.cluster.set_node(&name, &status).await {
                // As the API server has it now: an event leads to an object by its UID.
                Ok(written) => {
                    if let Some(happened) = nodes::happened(old, &status) {
                        self.cluster.tell(&reference(&written), &happened).await;
                    }
                    self.memory.nodes.insert(name, status);
                }
                Err(error) => self.note(Err(error)),
            }
        }
        desired.drains
    }

    /// Labels cluster nodes that should have no worker: their DaemonSet then takes it away, it says
    /// that it leaves, and the orchestrator moves its fragments before it is gone.
    async fn holds(&mut self, cluster: &[Node]) {
        let uids: BTreeSet<String> = cluster.iter().filter_map(|node| node.uid()).collect();
        self.memory.held.retain(|(_, uid), _| uids.contains(uid));
        for node in cluster {
            let name = node.name_any();
            let why = nodes::hold(node, self.world.nodes.get(&name), self.settings);
            let key = (name.clone(), node.uid().unwrap_or_default());
            let label = node.labels().get(HOLD_LABEL).map(String::as_str);
            let is_held = match self.memory.held.get(&key) {
                Some(is_held) if *is_held != label.is_some() => *is_held,
                _ => {
                    self.memory.held.remove(&key);
                    label.is_some()
                }
            };
            if why.is_some() == is_held || (why.is_none() && label.is_some_and(|l| l != "operator"))
            {
                continue;
            }
            match self.cluster.hold(&name, why.is_some()).await {
                Ok(is_ours) => {
                    self.memory.held.insert(key, why.is_some());
                    let reason = why.map_or("", |(reason, _)| reason);
                    tracing::info!(
                        node = name,
                        reason,
                        is_ours,
                        "workers are kept off, or let back"
                    );
                }
                Err(error) => self.note(Err(error)),
            }
        }
    }

    fn note(&mut self, done: Result<(), Error>) {
        if let Err(error) = done {
            self.errors += 1;
            tracing::warn!(code = "SP501", %error, "it is tried again with the next pass");
        }
    }
}
