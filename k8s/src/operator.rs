//! The operator's edge: watches, one pass over everything, and the hands that carry out what follows.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Node};
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{WatchStreamExt as _, reflector, reflector::Store, watcher},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::{
    center::Center,
    cluster::{Cluster, Error},
    decide::{Outcome, Settings},
    lease::{self, LeaseOptions, Standing},
    model::EdgeModel,
    node::EdgeNode,
    pass::{Memory, Pass, World},
};

/// What may be chosen about an operator.
#[derive(Clone, Debug)]
pub struct Options {
    /// The release.
    pub settings: Settings,
    /// Who leads.
    pub lease: LeaseOptions,
    /// Between two passes when nothing happens.
    pub resync: Duration,
    /// After something happened, how long to wait for more.
    pub settle: Duration,
    /// Watch the cluster's nodes.
    pub watch_nodes: bool,
}

/// Numbers of an operator, for probes and Prometheus.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Whether it leads.
    pub is_leader: AtomicBool,
    /// Whether it reaches the API server.
    pub is_ready: AtomicBool,
    /// Passes made.
    pub passes: AtomicU64,
    /// Things that could not be carried out.
    pub errors: AtomicU64,
    /// Microseconds that the last pass took.
    pub pass_micros: AtomicU64,
    /// When the last pass began, while it leads.
    turned: Mutex<Option<Instant>>,
}

/// A pass that is longer than this never ends: no request of one is waited for so long.
const HUNG: Duration = Duration::from_secs(600);

impl Pulse {
    /// Says whether it leads.
    pub fn leads(&self, leads: bool) {
        self.is_leader.store(leads, Relaxed);
        if !leads {
            *self.turned.lock() = None;
        }
    }

    /// Says that a pass begins.
    pub fn turns(&self, now: Instant) {
        *self.turned.lock() = Some(now);
    }

    /// Whether a leader's passes have stopped.
    #[must_use]
    pub fn is_hung(&self, now: Instant) -> bool {
        let turned = *self.turned.lock();
        turned.is_some_and(|at| HUNG < now.saturating_duration_since(at))
    }

    /// Says whether it does its duty, as leader or waiting.
    pub fn ready(&self, ready: bool) {
        self.is_ready.store(ready, Relaxed);
    }
}

/// Longest wait for the first listing of a kind.
const LISTING: Duration = Duration::from_secs(30);

/// Runs an operator until `shutdown`: waits for the Lease, then leads; whoever loses it waits again.
///
/// # Errors
/// [`Error::NotWatched`] when the resources cannot be listed. Everything else is tried again.
pub async fn run<C: Center>(
    client: Client,
    options: Options,
    center: Arc<C>,
    pulse: Arc<Pulse>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let (leader, mut standing) = watch::channel(Standing::Unknown);
    let (stop, mut stopped) = watch::channel(false);
    // Ends with this function, however that ends: who does not lead must not renew.
    let mut election = JoinSet::new();
    election.spawn(lease::elect(
        client.clone(),
        options.lease.clone(),
        leader,
        async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        },
    ));
    let cluster = Cluster::new(client, &options.settings.namespace, &options.lease.holder);
    let mut shutdown = pin!(shutdown);
    let ended = loop {
        tokio::select! {
            () = shutdown.as_mut() => break Ok(()),
            changed = standing.changed() => {
                if changed.is_err() {
                    break Ok(());
                }
            }
        }
        let now = *standing.borrow_and_update();
        pulse.ready(now != Standing::Unknown);
        if now != Standing::Leads {
            continue;
        }
        pulse.leads(true);
        let mut lost = standing.clone();
        let led = tokio::select! {
            () = shutdown.as_mut() => break Ok(()),
            _ = lost.wait_for(|now| *now != Standing::Leads) => Ok(()),
            led = lead(&cluster, &options, &center, &pulse) => led,
        };
        pulse.leads(false);
        if led.is_err() {
            break led;
        }
    };
    let _ = stop.send(true);
    while election.join_next().await.is_some() {}
    ended
}

/// Everything that is watched, kept up to date by tasks that end with it.
struct Watched {
    models: Store<EdgeModel>,
    nodes: Store<EdgeNode>,
    jobs: Store<Job>,
    cluster: Option<Store<Node>>,
    _tasks: JoinSet<()>,
}

fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    wake: &Arc<Notify>,
    tasks: &mut JoinSet<()>,
) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    K: serde::de::DeserializeOwned,
{
    let (store, writer) = reflector::store();
    let wake = Arc::clone(wake);
    // Bookmarks, expired versions and broken streams are the watcher's business.
    let changes = watcher(api, config).default_backoff().reflect(writer);
    tasks.spawn(async move {
        let mut changes = pin!(changes);
        while let Some(change) = changes.next().await {
            if let Err(error) = change {
                tracing::debug!(%error, kind = %K::kind(&()), "a watch broke and is opened again");
            }
            wake.notify_one();
        }
    });
    store
}

impl Watched {
    async fn open(cluster: &Cluster, options: &Options, wake: &Arc<Notify>) -> Result<Self, Error> {
        let mut tasks = JoinSet::new();
        let all = watcher::Config::default();
        let jobs = all.clone().labels("app.kubernetes.io/component=fetch");
        let watched = Self {
            models: follow(cluster.of::<EdgeModel>(), all.clone(), wake, &mut tasks),
            nodes: follow(cluster.of::<EdgeNode>(), all.clone(), wake, &mut tasks),
            jobs: follow(cluster.of::<Job>(), jobs, wake, &mut tasks),
            cluster: options
                .watch_nodes
                .then(|| follow(cluster.nodes(), all, wake, &mut tasks)),
            _tasks: tasks,
        };
        listed("EdgeModels", watched.models.wait_until_ready()).await?;
        listed("EdgeNodes", watched.nodes.wait_until_ready()).await?;
        listed("Jobs", watched.jobs.wait_until_ready()).await?;
        if let Some(nodes) = &watched.cluster {
            listed("cluster's nodes", nodes.wait_until_ready()).await?;
        }
        Ok(watched)
    }

    /// Everything as it is known now.
    fn world(&self, outside: Vec<String>) -> World {
        let mut models: Vec<EdgeModel> = self
            .models
            .state()
            .iter()
            .map(|model| (**model).clone())
            .collect();
        // Who was first keeps a name.
        models.sort_by_key(|model| {
            let since = model.metadata.creation_timestamp.clone().map(|time| time.0);
            (since, model.name_any())
        });
        let owned =
            |store: &Store<Node>| store.state().iter().map(|node| (**node).clone()).collect();
        World {
            models,
            nodes: self
                .nodes
                .state()
                .iter()
                .map(|node| (node.name_any(), (**node).clone()))
                .collect(),
            jobs: self
                .jobs
                .state()
                .iter()
                .map(|job| (job.name_any(), (**job).clone()))
                .collect(),
            cluster: self.cluster.as_ref().map(owned),
            outside,
            now: Timestamp::now(),
        }
    }
}

async fn listed<T>(name: &'static str, ready: impl Future<Output = T>) -> Result<(), Error> {
    match tokio::time::timeout(LISTING, ready).await {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::NotWatched(name, LISTING.as_secs())),
    }
}

async fn lead<C: Center>(
    cluster: &Cluster,
    options: &Options,
    center: &Arc<C>,
    pulse: &Pulse,
) -> Result<(), Error> {
    let wake = Arc::new(Notify::new());
    let watched = Watched::open(cluster, options, &wake).await?;
    let mut memory = Memory::default();
    let mut loads: JoinSet<(String, Outcome)> = JoinSet::new();
    let mut generation = 0;
    let mut balanced: Option<(Instant, Vec<String>)> = None;
    loop {
        let begin = Instant::now();
        pulse.turns(begin);
        if let Some(service) = &options.settings.service
            && balanced
                .as_ref()
                .is_none_or(|(at, _)| options.resync <= at.elapsed())
        {
            let found = cluster.balanced(service).await;
            let found = found.unwrap_or_else(|error| {
                pulse.errors.fetch_add(1, Relaxed);
                tracing::warn!(code = "SP501", %error, "what was known of the load balancer stays");
                balanced.take().map(|(_, last)| last).unwrap_or_default()
            });
            balanced = Some((begin, found));
        }
        let seen = center.look().await;
        generation = seen.as_ref().map_or(generation, |seen| seen.generation);
        let mut pass = Pass {
            cluster,
            settings: &options.settings,
            world: watched.world(
                balanced
                    .as_ref()
                    .map(|(_, found)| found.clone())
                    .unwrap_or_default(),
            ),
            memory: &mut memory,
            errors: 0,
        };
        let asked = pass.run(seen.as_ref()).await;
        pulse.errors.fetch_add(pass.errors, Relaxed);
        for (uid, generation, order) in asked.loads {
            let center = Arc::clone(center);
            loads.spawn(async move {
                let asked = order.wishes();
                let result = center.load(&order).await;
                (
                    uid,
                    Outcome {
                        generation,
                        at: Timestamp::now(),
                        asked,
                        result,
                    },
                )
            });
        }
        for name in asked.unloads {
            if let Err(error) = center.unload(&name).await {
                pulse.errors.fetch_add(1, Relaxed);
                tracing::warn!(code = "SP307", %error, model = name, "could not be unloaded; it is tried again");
            }
        }
        for (node, is_drained) in asked.drains {
            let done = center.drain(&node, is_drained).await;
            if let Err(error) = &done {
                pulse.errors.fetch_add(1, Relaxed);
                tracing::warn!(code = "SP307", %error, node, is_drained, "the node's fragments could not be ordered; it is tried again");
            }
            let done = done.map(|()| is_drained);
            memory.drained(node, done.map_err(|error| error.to_string()));
        }
        pulse.passes.fetch_add(1, Relaxed);
        let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        pulse.pass_micros.store(micros, Relaxed);
        tokio::select! {
            () = wake.notified() => {}
            () = center.changed(generation) => {}
            () = tokio::time::sleep(options.resync) => {}
            Some(done) = loads.join_next(), if !loads.is_empty() => {
                if let Ok((uid, outcome)) = done {
                    memory.loaded(uid, outcome);
                }
            }
        }
        tokio::time::sleep(options.settle).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_whose_passes_have_stopped_is_hung_and_one_that_waits_is_not() {
        let (pulse, begin) = (Pulse::default(), Instant::now());
        let later = begin + HUNG + Duration::from_secs(1);
        assert!(!pulse.is_hung(later));
        pulse.leads(true);
        pulse.turns(begin);
        assert!(!pulse.is_hung(begin + HUNG) && pulse.is_hung(later));
        pulse.turns(later);
        assert!(!pulse.is_hung(later));
        pulse.leads(false);
        assert!(!pulse.is_hung(later + 2 * HUNG));
    }
}
