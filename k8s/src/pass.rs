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
    nodes,
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
    /// Cluster nodes whose label was changed, and to what.
    held: BTreeMap<String, bool>,
}

impl Memory {
    /// A load has ended.
    pub fn loaded(&mut self, uid: String, outcome: Outcome) {
        self.loading.remove(&uid);
        self.outcomes.insert(uid, outcome);
    }
}

/// What the orchestrator is asked after a pass.
#[derive(Debug, Default)]
pub struct Asked {
    /// To be served: the resource, its generation, the order.
    pub loads: Vec<(String, i64, Order)>,
    /// To be served no more.
    pub unloads: Vec<String>,
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
        if let Ok(seen) = seen {
            self.nodes(seen).await;
        }
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

    async fn nodes(&mut self, seen: &Seen) {
        for (name, last) in &self.memory.nodes {
            if let Some(node) = self.world.nodes.get_mut(name) {
                node.status = Some(last.clone());
            }
        }
        let cluster = self.world.cluster.clone().unwrap_or_default();
        self.holds(&cluster).await;
        let existing = &self.world.nodes;
        let desired = nodes::desired(seen, &cluster, existing, self.settings, self.world.now);
        let gone: Vec<String> = existing
            .keys()
            .filter(|name| !desired.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            self.memory.nodes.remove(&name);
            let done = self.cluster.drop_node(&name).await;
            self.note(done);
        }
        for (name, status) in desired {
            let before = self.world.nodes.get(&name).cloned();
            let old = before.as_ref().and_then(|node| node.status.clone());
            if old.as_ref() == Some(&status) {
                continue;
            }
            let done = self.cluster.set_node(&name, &status).await;
            let is_written = done.is_ok();
            self.note(done);
            if !is_written {
                continue;
            }
            if let Some(happened) = nodes::happened(old.as_ref(), &status) {
                let mut about = before.as_ref().map(reference).unwrap_or_default();
                if about.name.is_none() {
                    let mut node = EdgeNode::default();
                    node.metadata.name = Some(name.clone());
                    node.metadata.namespace = Some(self.settings.namespace.clone());
                    about = reference(&node);
                }
                self.cluster.tell(&about, &happened).await;
            }
            self.memory.nodes.insert(name, status);
        }
    }

    /// Labels cluster nodes that should have no worker: their DaemonSet then takes it away, it says
    /// that it leaves, and the orchestrator moves its fragments before it is gone.
    async fn holds(&mut self, cluster: &[Node]) {
        for node in cluster {
            let name = node.name_any();
            let why = nodes::hold(node, self.world.nodes.get(&name), self.settings);
            let label = node.labels().get(HOLD_LABEL).map(String::as_str);
            let is_held = self
                .memory
                .held
                .get(&name)
                .copied()
                .unwrap_or(label.is_some());
            if why.is_some() == is_held || (why.is_none() && label.is_some_and(|l| l != "operator"))
            {
                continue;
            }
            match self.cluster.hold(&name, why.is_some()).await {
                Ok(is_ours) => {
                    self.memory.held.insert(name.clone(), why.is_some());
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
