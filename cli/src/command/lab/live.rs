//! Cells run for real: an orchestrator, emulated workers as processes, the public API, pictures with known classes.
//!
//! A node's speed is a share of one core, so that the network takes a time that can be timed on a busy machine, and
//! every part of the way is the one that users have. Pictures are those that no rule was made from.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use splitplace_onnx::{Limits, Package};
use splitplace_orchestrator::config::Config;
use splitplace_proto::center::ExitControlStatus;

use super::cells::Live;
use crate::{
    dataset::DataSet,
    fleet::{self, Fleet, NodeSpec},
    load::{
        engine::Outcome,
        payloads::Payloads,
        summary::Times,
        trial::{self, Trial},
    },
};

/// Long enough that nothing is given up for time alone.
const SLA: Duration = Duration::from_secs(120);
/// For a fleet to be ready, and for the first rules.
const READY: Duration = Duration::from_secs(120);
/// Memory of an emulated node: room for everything.
const MEMORY_BYTES: u64 = 512 << 20;
/// Requests one after another by which a node's time is measured.
const PROBES: u64 = 60;

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct LiveSettings {
    pub(crate) policies: Vec<String>,
    pub(crate) loads: Vec<f64>,
    /// Of each cell, after the warm-up.
    pub(crate) duration: Duration,
    pub(crate) warm_up: Duration,
    /// Time of the whole network that nodes are slowed to.
    pub(crate) service: Duration,
    pub(crate) places: usize,
    pub(crate) target: f64,
    /// Rate of a burst over the mean, share of the time, length in service times.
    pub(crate) burst: [f64; 3],
    /// Cells that run at the same time.
    pub(crate) at_once: usize,
    pub(crate) seed: u64,
}

/// A measured package and pictures for it.
pub(crate) struct Stage {
    folder: PathBuf,
    name: String,
    payloads_of: DataSet,
    /// Names of the exits, the network's end left out.
    exits: Vec<String>,
    /// Share of one core at which the network takes the wanted time.
    speed: f64,
}

impl Stage {
    /// Of a package's folder, with labelled pictures; those that rules are made from are left out.
    pub(crate) fn open(
        folder: PathBuf,
        data: &std::path::Path,
        service: Duration,
    ) -> anyhow::Result<Self> {
        let package = Package::open(&folder, &Limits::default())?;
        let labels = package.outputs.first().map_or(&[][..], |o| &o.labels);
        let mut data = DataSet::open(data, labels, None)?;
        let tables = package
            .tables
            .as_ref()
            .context("the package is not measured")?;
        let measured = tables.variants.iter().find(|table| table.exits.len() > 1);
        let measured = measured.context("no variant has exits")?;
        let (last, exits) = measured
            .exits
            .split_last()
            .context("no variant has exits")?;
        // Rules are made from every k-th picture that was measured; the one after each of them is fresh.
        data.keep_every(splitplace_policy::exit::govern::stride(data.len()), 1);
        Ok(Self {
            name: package.name.clone(),
            speed: (last.latency.mean / service.as_secs_f64()).clamp(0.001, 1.0),
            payloads_of: data,
            exits: exits.iter().map(|exit| exit.name.clone()).collect(),
            folder,
        })
    }
}

/// A fleet that serves the package's exits only, under one policy.
struct Served {
    fleet: Fleet,
    trial: Trial,
    /// Holds the package.
    _scratch: tempfile::TempDir,
}

impl Served {
    async fn start(
        stage: &Stage,
        policy: &str,
        nodes: usize,
        settings: &LiveSettings,
    ) -> anyhow::Result<Self> {
        let scratch = tempfile::Builder::new()
            .prefix("splitplace-lab-")
            .tempdir()?;
        let folder = std::fs::canonicalize(&stage.folder)?;
        std::os::unix::fs::symlink(folder, scratch.path().join(&stage.name))?;
        let mut config = Config {
            models: Some(scratch.path().to_owned()),
            seed: Some(settings.seed),
            ..Config::default()
        };
        fleet::on_free_ports(&mut config);
        config.exits.policy = Some(policy.to_owned());
        config.exits.loss_target = Some(settings.target);
        config.exits.places = u32::try_from(settings.places)?;
        config.planning.arms = vec!["exits".into()];
        config.planning.max_parts = nodes;
        if nodes > 1 {
            // More than one node can carry.
            config.planning.rate_per_second = 1.2 / settings.service.as_secs_f64();
        }
        trial::lossy(&mut config);
        config.workers.queue_limit = u32::try_from(settings.places.saturating_sub(1).max(1))?;
        let node = |number: usize| {
            let name = format!("node-{number}");
            let config = splitplace_worker::Config {
                node: name.clone(),
                cores: 1,
                memory_bytes: MEMORY_BYTES,
                speed_share: stage.speed,
                emulated: true,
                ..splitplace_worker::Config::default()
            };
            NodeSpec { name, config }
        };
        let mut fleet = Fleet::start(config, (1..=nodes).map(node).collect(), true).await?;
        fleet.ready(READY).await?;
        let payloads = |metadata: &_| Payloads::files(metadata, &stage.payloads_of);
        let trial = Trial::open(fleet.addresses().grpc, &stage.name, SLA, payloads).await?;
        Ok(Self {
            fleet,
            trial,
            _scratch: scratch,
        })
    }

    fn control(&self) -> Option<ExitControlStatus> {
        let status = self.fleet.status();
        let mut arms = status.models.into_iter().flat_map(|model| model.arms);
        arms.find_map(|arm| arm.exit_control)
    }
}

/// Seconds that the whole network takes on its busiest node, everything included: what load 1 means.
async fn busy(stage: &Stage, nodes: usize, settings: &LiveSettings) -> anyhow::Result<f64> {
    let served = Served::start(stage, "last-exit", nodes, settings).await?;
    let mode = served.trial.closed(1, settings.seed);
    served.trial.run(mode, SLA, PROBES, |_| {}).await;
    // The report of the last request has to come in.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let control = served.control().context("the exits are not controlled")?;
    served.fleet.stop().await;
    ensure!(
        control.rate > 0.0 && control.load > 0.0,
        "nothing was measured"
    );
    Ok(control.load / control.rate)
}

/// Arrival instants: Poisson, or bursts of more and calms of less around the same mean rate.
fn instants(rate: f64, burst: Option<[f64; 3]>, service: f64, until: f64, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut gap = |rate: f64| -(-rng.random::<f64>()).ln_1p() / rate;
    let mut all = Vec::new();
    let mut now = 0.0;
    let Some([factor, share, dwell]) = burst else {
        while now < until {
            now += gap(rate);
            all.push(now);
        }
        return all;
    };
    let rates = [rate * (1.0 - factor * share) / (1.0 - share), rate * factor];
    let stays = [dwell * service * (1.0 - share) / share, dwell * service];
    let (mut phase, mut ends) = (0, gap(1.0 / stays[0]));
    while now < until {
        // Without memory: a gap that reaches beyond the phase begins anew in the next.
        let next = now + gap(rates[phase].max(1e-9));
        if next > ends {
            now = ends;
            phase = 1 - phase;
            ends = now + gap(1.0 / stays[phase]);
        } else {
            now = next;
            all.push(now);
        }
    }
    all
}

/// What counts of a run, and when.
#[derive(Default)]
struct Tally {
    sent: u64,
    lost: u64,
    correct: u64,
    exits: BTreeMap<String, u64>,
    response: Times,
    sum: Duration,
    /// Of the last one: there are some, and what they say.
    trouble: String,
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        self.sent += 1;
        match &outcome.result {
            Ok(answered) => {
                self.correct += u64::from(answered.correct.unwrap_or(0));
                *self.exits.entry(answered.exit.clone()).or_default() += 1;
                let response = answered.response.unwrap_or_else(|| outcome.latency());
                self.response.add(response);
                self.sum += response;
            }
            Err(refused) => {
                self.lost += 1;
                self.trouble.clone_from(&refused.message);
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a run")]
    fn live(&self, exits: &[String]) -> Live {
        let answered = (self.sent - self.lost).max(1) as f64;
        // What is none of the package's exits is the network's end.
        let number = |name: &String| exits.iter().position(|exit| exit == name);
        let number = |name| number(name).unwrap_or(exits.len());
        let mean = self
            .exits
            .iter()
            .map(|(name, &n)| number(name) as f64 * n as f64);
        Live {
            requests: self.sent,
            accuracy: self.correct as f64 / answered,
            loss: self.lost as f64 / self.sent.max(1) as f64,
            response_s: self.sum.as_secs_f64() / answered,
            response_p95_s: self.response.quantile(0.95) / 1e6,
            mean_exit: mean.sum::<f64>() / answered,
        }
    }
}

/// One cell as it ran.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LiveCell {
    pub(crate) package: String,
    pub(crate) nodes: usize,
    pub(crate) arrivals: &'static str,
    pub(crate) load: f64,
    pub(crate) rate: f64,
    /// Seconds of the whole network on the busiest node, as measured.
    pub(crate) busy_s: f64,
    pub(crate) policy: String,
    #[serde(flatten)]
    pub(crate) live: Live,
    /// The load by what nodes reported while it ran, beside other cells: what the rules were made for.
    pub(crate) load_seen: f64,
    /// Target of the last rules as a share of the target: below 1 where too much was lost.
    pub(crate) aim: f64,
    /// Times that rules were made.
    pub(crate) solutions: u64,
    /// What the last rules should have achieved.
    pub(crate) expected_accuracy: f64,
    pub(crate) expected_loss: f64,
}

/// Every policy at every load on a fleet of `nodes`, several at a time.
pub(crate) async fn cells(
    stage: &Stage,
    nodes: usize,
    settings: &LiveSettings,
) -> anyhow::Result<Vec<LiveCell>> {
    let busy = busy(stage, nodes, settings).await?;
    let mut wanted = Vec::new();
    for (arrivals, burst) in [("poisson", None), ("bursty", Some(settings.burst))] {
        for &load in &settings.loads {
            for policy in &settings.policies {
                wanted.push(cell(
                    stage,
                    (nodes, busy),
                    settings,
                    (arrivals, burst),
                    load,
                    policy,
                ));
            }
        }
    }
    let cells = futures::stream::iter(wanted).buffered(settings.at_once.max(1));
    cells.try_collect().await
}

async fn cell(
    stage: &Stage,
    (nodes, busy): (usize, f64),
    settings: &LiveSettings,
    (arrivals, burst): (&'static str, Option<[f64; 3]>),
    load: f64,
    policy: &str,
) -> anyhow::Result<LiveCell> {
    let rate = load / busy;
    let all = settings.warm_up + settings.duration;
    let instants = instants(rate, burst, busy, all.as_secs_f64(), settings.seed);
    let served = Served::start(stage, policy, nodes, settings).await?;
    let mut tally = Tally::default();
    let mode = served.trial.at(&instants, settings.seed)?;
    served
        .trial
        .run(mode, all, u64::MAX, |outcome| {
            if outcome.intended >= settings.warm_up {
                tally.add(&outcome);
            }
        })
        .await;
    let control = served.control().unwrap_or_default();
    served.fleet.stop().await;
    if !tally.trouble.is_empty() {
        tracing::info!(trouble = tally.trouble, "requests were lost");
    }
    let live = tally.live(&stage.exits);
    eprintln!(
        "live: {} on {nodes}, {arrivals} at load {load} ({:.2} seen), {policy}: {:.2} % right, {:.2} % lost of {} \
         ({:.2} % expected)",
        stage.name,
        control.load,
        100.0 * live.accuracy,
        100.0 * live.loss,
        live.requests,
        100.0 * control.expected_loss
    );
    Ok(LiveCell {
        package: stage.name.clone(),
        nodes,
        arrivals,
        load,
        rate,
        busy_s: busy,
        policy: policy.to_owned(),
        live,
        load_seen: control.load,
        aim: control.aim,
        solutions: control.solutions,
        expected_accuracy: control.expected_accuracy,
        expected_loss: control.expected_loss,
    })
}

/// One second of a step of the rate.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Second {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) correct: u64,
}

/// The rate steps from half of what the last exit can hold to three times that.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    pub(crate) package: String,
    pub(crate) policy: String,
    pub(crate) busy_s: f64,
    /// When the rate steps, in seconds.
    pub(crate) at_s: u64,
    /// By second of sending.
    pub(crate) seconds: Vec<Second>,
    /// Share lost of what was sent from ten seconds after the step on.
    pub(crate) loss_after_10_s: f64,
}

/// Seconds before and after the step.
const BEFORE: u64 = 30;
const AFTER: u64 = 60;

/// Runs it under a policy.
pub(crate) async fn step(
    stage: &Stage,
    policy: &str,
    settings: &LiveSettings,
) -> anyhow::Result<Step> {
    let busy = busy(stage, 1, settings).await?;
    let calm = instants(0.5 / busy, None, busy, BEFORE as f64, settings.seed);
    let rush = instants(3.0 / busy, None, busy, AFTER as f64, settings.seed ^ 1);
    let calm = calm.into_iter().filter(|&at| at < BEFORE as f64);
    let instants: Vec<f64> = calm
        .chain(rush.iter().map(|at| at + BEFORE as f64))
        .collect();
    let served = Served::start(stage, policy, 1, settings).await?;
    let mut seconds = vec![Second::default(); usize::try_from(BEFORE + AFTER)?];
    let all = Duration::from_secs(BEFORE + AFTER);
    let mode = served.trial.at(&instants, settings.seed)?;
    served
        .trial
        .run(mode, all, u64::MAX, |outcome| {
            let second = usize::try_from(outcome.intended.as_secs()).unwrap_or(usize::MAX);
            let Some(second) = seconds.get_mut(second) else {
                return;
            };
            second.sent += 1;
            match &outcome.result {
                Ok(answered) => second.correct += u64::from(answered.correct.unwrap_or(0)),
                Err(_) => second.lost += 1,
            }
        })
        .await;
    served.fleet.stop().await;
    let late = &seconds[usize::try_from(BEFORE + 10)?..];
    let (sent, lost) = late
        .iter()
        .fold((0, 0), |(s, l), x| (s + x.sent, l + x.lost));
    Ok(Step {
        package: stage.name.clone(),
        policy: policy.to_owned(),
        busy_s: busy,
        at_s: BEFORE,
        loss_after_10_s: lost as f64 / (sent as f64).max(1.0),
        seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_have_the_rate_that_they_should_and_bursts_vary_more() {
        let (rate, until) = (20.0, 4_000.0);
        let counts = |burst| {
            let all = instants(rate, burst, 0.1, until, 7);
            assert!(all.is_sorted());
            assert!((all.len() as f64 / (rate * until) - 1.0).abs() < 0.08);
            let mut counts = vec![0.0; 2_000];
            for at in all {
                if let Some(count) = counts.get_mut((at / 2.0) as usize) {
                    *count += 1.0;
                }
            }
            let mean = counts.iter().sum::<f64>() / 2_000.0;
            counts.iter().map(|n| (n - mean) * (n - mean)).sum::<f64>() / 2_000.0 / mean
        };
        let (poisson, bursty) = (counts(None), counts(Some([2.5, 0.2, 20.0])));
        assert!((poisson - 1.0).abs() < 0.15, "{poisson}");
        assert!(bursty > 5.0, "{bursty}");
    }
}
