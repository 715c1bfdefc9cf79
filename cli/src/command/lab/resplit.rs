//! `splitplace lab resplit`: the uplink falls and comes back under load, and the split follows.
//!
//! A slow node stands beside the orchestrator, a fast one behind an uplink that is slowed by the emulation. The planner
//! is told how the uplink is at the start, and nothing after that: it has to find out by what frames take. The same
//! requests at the same instants are sent to fleets that are told each rate and plan once: the best static plans. What
//! counts of a phase is what was sent [`SETTLED`] after it began. Pictures come to the slow node: the first fragment is
//! pinned there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::Serialize;
use splitplace_fleet::{Link, Links, Place};
use splitplace_onnx::{Limits, Package};
use splitplace_orchestrator::{config::Config, face::Face as _};
use splitplace_proto::center::{
    ActRequest, PlaceArm, PlanEvent, PlanResponse, PlannedArm, act_request::What,
};

use crate::{
    command::{model::seconds_here, twin},
    fleet::{self, Fleet, NodeSpec},
    load::{arrivals, engine::Outcome, payloads::Payloads, trial::Trial},
    output, shipped,
};

#[derive(Debug, Args)]
pub(crate) struct Resplit {
    /// A shipped package, or a folder with one.
    #[arg(long, default_value = "models/packages/cifar10")]
    package: String,
    /// Rates of the uplink, one phase each, in Mbit/s.
    #[arg(long, value_delimiter = ',', default_value = "100,2,100")]
    rates: Vec<f64>,
    /// One-way delay of the uplink, in milliseconds.
    #[arg(long, default_value_t = 5.0)]
    delay_ms: f64,
    /// Seconds of each phase.
    #[arg(long, default_value_t = 20.0)]
    phase: f64,
    /// Requests a second; of the slow node the default is three fifths of what it can do.
    #[arg(long, default_value_t = 15.0)]
    rate: f64,
    /// Time of the whole network on the node beside the orchestrator, in milliseconds.
    #[arg(long, default_value_t = 40.0)]
    device_ms: f64,
    /// The same on the node behind the uplink.
    #[arg(long, default_value_t = 4.0)]
    server_ms: f64,
    /// Kinds of arms that are planned.
    #[arg(long, value_delimiter = ',', default_value = "chain")]
    arms: Vec<String>,
    /// Code tensors on the uplink.
    #[arg(long)]
    codecs: bool,
    /// Leave out the static plans.
    #[arg(long)]
    no_static: bool,
    /// Phases that end when the split has followed, however long that takes, instead of after a time; two clients
    /// ask one after another. Nothing is compared with static plans.
    #[arg(long)]
    follow: bool,
    /// The whole again, with other arrivals; medians are told.
    #[arg(long, default_value_t = 1)]
    repeats: u64,
    /// The seed that all others come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write everything to this file as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What was sent later than this into a phase counts.
const SETTLED: Duration = Duration::from_secs(5);
/// For a fleet to be ready.
const READY: Duration = Duration::from_secs(180);
/// Promised to every request: long enough that nothing is given up for time alone.
const SLA: Duration = Duration::from_secs(120);
/// Requests before the first phase, one after another.
const WARM: u64 = 5;
/// Requests between two looks at the plan while it is waited for, and batches after it has followed.
const BATCH: u64 = 10;
const AFTER: u32 = 6;
/// Longest wait for it.
const PATIENCE: Duration = Duration::from_secs(180);
/// How soon plans follow links and how much of a link probes may take, where they do.
const DRIFT_MS: u64 = 1000;
const PROBE_SHARE: f64 = 0.02;
/// Memory of a node: room for everything.
const MEMORY_BYTES: u64 = 512 << 20;

/// Folder of the package, beside the fleet's description.
const MODELS: &str = "models";

const DEVICE: &str = "device";
const SERVER: &str = "server";

/// One phase as it ran, with the static plan beside it.
#[derive(Clone, Debug, Default, Serialize)]
struct Phase {
    mbit: f64,
    requests: usize,
    lost: usize,
    /// Where everything ran at the end of the phase.
    way: String,
    cuts: Vec<u32>,
    bytes_between: u64,
    /// What the plan was predicted to take when it came into force: the mean, by the orchestrator's clock.
    predicted_ms: f64,
    /// Mean by the orchestrator's clock, median and 95th percentile by the client's, of what was sent once settled.
    mean_ms: f64,
    p50_ms: f64,
    p95_ms: f64,
    /// Share by which the mean differs from what was predicted.
    off: f64,
    /// Plans that came into force, and when the first and the last did, after the phase began.
    adopted: usize,
    first_s: Option<f64>,
    last_s: Option<f64>,
    /// Why.
    said: Vec<String>,
    /// Bytes of fragments that were sent for them.
    sent_bytes: u64,
    fixed: Option<Static>,
    /// p95 over that of the static plan.
    over_static: Option<f64>,
    /// Of every answer the seconds into the phase, and its milliseconds by the client's clock and the orchestrator's.
    answers: Vec<[f64; 3]>,
}

/// A plan that was told the rate, under the same requests.
#[derive(Clone, Debug, Serialize)]
struct Static {
    way: String,
    predicted_ms: f64,
    p50_ms: f64,
    p95_ms: f64,
    lost: usize,
}

#[derive(Clone, Debug, Serialize)]
struct RunTold {
    seed: u64,
    phases: Vec<Phase>,
}

pub(crate) async fn run(args: &Resplit) -> anyhow::Result<ExitCode> {
    ensure!(!args.rates.is_empty(), "--rates needs a phase");
    let is_rate = |rate: &f64| *rate > 0.0 && rate.is_finite();
    ensure!(args.rates.iter().all(is_rate), "--rates must be above 0");
    ensure!(is_rate(&args.rate), "--rate must be above 0");
    ensure!(
        args.phase > SETTLED.as_secs_f64(),
        "--phase must be longer than {SETTLED:?}, after which requests count"
    );
    let stage = Stage::open(args)?;
    let distinct = distinct(&args.rates).len() as u64;
    let is_alone = args.no_static || args.follow;
    let each = 1 + if is_alone { 0 } else { distinct };
    let bar = twin::bar("runs", each * args.repeats);
    let mut runs = Vec::new();
    for repeat in 0..args.repeats {
        let seed = args.seed.wrapping_add(repeat.wrapping_mul(7919));
        let instants = instants(args.rate, args.phase, args.rates.len(), seed);
        let mut phases = if args.follow {
            follow(&stage, args, seed).await?
        } else {
            live(&stage, args, &instants, seed).await?
        };
        bar.inc(1);
        if !is_alone {
            for rate in self::distinct(&args.rates) {
                for (number, phase) in phases.iter_mut().enumerate() {
                    if phase.mbit.total_cmp(&rate).is_eq() && phase.fixed.is_none() {
                        let fixed = fixed(&stage, args, rate, &instants[number], seed).await?;
                        phase.over_static = Some(phase.p95_ms / fixed.p95_ms);
                        phase.fixed = Some(fixed);
                    }
                }
                bar.inc(1);
            }
        }
        runs.push(RunTold { seed, phases });
    }
    bar.finish_and_clear();
    let told = serde_json::json!({
        "package": stage.name,
        "device_ms": args.device_ms,
        "server_ms": args.server_ms,
        "delay_ms": args.delay_ms,
        "requests_per_second": args.rate,
        "phase_s": args.phase,
        "settled_s": SETTLED.as_secs(),
        "codecs": args.codecs,
        "arms": args.arms,
        "runs": runs,
    });
    if let Some(path) = &args.report {
        output::report(path, &told)?;
    }
    if args.json {
        output::json(&told)?;
    } else {
        show(&runs);
    }
    Ok(ExitCode::SUCCESS)
}

/// Rates without repetition, in the order in which they come.
fn distinct(rates: &[f64]) -> Vec<f64> {
    let mut all: Vec<f64> = Vec::new();
    for rate in rates {
        if !all.contains(rate) {
            all.push(*rate);
        }
    }
    all
}

/// Instants of Poisson arrivals, by phase, in seconds from its beginning.
fn instants(rate: f64, phase: f64, phases: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut stream = splitplace_twin::Seed(seed).stream("arrivals", 0);
    let of = |_| arrivals::poisson(rate, phase, &mut stream);
    (0..phases).map(of).collect()
}

/// A package in a repository of its own, and how slow nodes have to be for it.
struct Stage {
    name: String,
    folder: tempfile::TempDir,
    shares: [f64; 2],
}

impl Stage {
    fn open(args: &Resplit) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("splitplace-lab-")
            .tempdir()?;
        let models = folder.path().join(MODELS);
        std::fs::create_dir(&models)?;
        let given = Path::new(&args.package);
        let name = if given.is_dir() {
            let package = Package::open(given, &Limits::default())?;
            let whole = std::fs::canonicalize(given)?;
            std::os::unix::fs::symlink(whole, models.join(&package.name))?;
            package.name
        } else {
            shipped::write_packages(&models, Some(&args.package))?;
            args.package.clone()
        };
        let package = Package::open(&models.join(&name), &Limits::default())
            .with_context(|| format!("no shipped package and no folder is named {name:?}"))?;
        let base = package.variants.first().context("it has no variant")?;
        let part = base.parts.first().context("it has no file")?;
        let seconds = seconds_here(part)?;
        let share = |ms: f64| (seconds * 1e3 / ms).clamp(0.001, 1.0);
        Ok(Self {
            shares: [share(args.device_ms), share(args.server_ms)],
            name,
            folder,
        })
    }
}

/// Every link as at that rate: the uplink lies between the fast node and everything else.
fn links(args: &Resplit, mbit: f64) -> Links {
    let uplink = Link {
        rate_bytes_per_second: mbit * 125_000.0,
        delay: Duration::from_secs_f64(args.delay_ms / 1e3),
        jitter: Duration::ZERO,
    };
    let mut links = Links::default();
    let server = Place::Node(SERVER.into());
    for near in [Place::Center, Place::Node(DEVICE.into())] {
        links.set(near.clone(), server.clone(), uplink);
        links.set(server.clone(), near, uplink);
    }
    links
}

/// The fleet's description, told that rate.
fn fleet_file(stage: &Stage, args: &Resplit, mbit: f64) -> anyhow::Result<PathBuf> {
    let delay = args.delay_ms;
    let mut text =
        String::from("description = \"a slow node here, a fast one behind an uplink\"\n");
    for (name, share) in [DEVICE, SERVER].into_iter().zip(stage.shares) {
        text.push_str(&format!(
            "[[node]]\nname = {name:?}\nspeed = {share:?}\nmemory-mb = {}\n",
            MEMORY_BYTES / 1_000_000
        ));
    }
    for near in ["center", DEVICE] {
        text.push_str(&format!(
            "[[link]]\nfrom = {near:?}\nto = {SERVER:?}\nrate-mbit = {mbit:?}\ndelay-ms = {delay:?}\n"
        ));
    }
    let path = stage.folder.path().join(format!("fleet-{mbit}.toml"));
    std::fs::write(&path, text)?;
    Ok(path)
}

struct Served {
    fleet: Fleet,
    trial: Trial,
}

impl Served {
    /// A fleet that is told that rate. One that stays as it is plans once.
    async fn start(
        stage: &Stage,
        args: &Resplit,
        mbit: f64,
        is_fixed: bool,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let mut config = Config {
            models: Some(stage.folder.path().join(MODELS)),
            load: vec![stage.name.clone()],
            fleet: Some(fleet_file(stage, args, mbit)?),
            seed: Some(seed),
            ..Config::default()
        };
        fleet::on_free_ports(&mut config);
        config.planning.arms.clone_from(&args.arms);
        config.planning.codecs = args.codecs;
        // A machine that is busy with something else must not make nodes look lost.
        config.workers.silence_ms = 10_000;
        if is_fixed {
            // It is told the load as it is told the links, and stays.
            config.planning.drift_ms = 0;
            config.planning.rate_per_second = args.rate;
        } else {
            config.planning.drift_ms = DRIFT_MS;
            config.planning.probe_share = PROBE_SHARE;
        }
        let node = |(name, share): (&str, f64)| NodeSpec {
            name: name.to_owned(),
            config: splitplace_worker::Config {
                node: name.to_owned(),
                cores: 1,
                memory_bytes: MEMORY_BYTES,
                speed_share: share,
                emulated: true,
                // Weights that a node had before are not sent again.
                cache: Some(
                    stage
                        .folder
                        .path()
                        .join(format!("cache-{name}-{mbit}-{is_fixed}-{seed}")),
                ),
                ..splitplace_worker::Config::default()
            },
        };
        let nodes = [DEVICE, SERVER].into_iter().zip(stage.shares);
        let mut fleet = Fleet::start(config, nodes.map(node).collect(), true).await?;
        fleet.ready(READY).await?;
        let payloads = |metadata: &_| Payloads::noise(metadata, 1, seed);
        let trial = Trial::open(fleet.addresses().grpc, &stage.name, SLA, payloads).await?;
        let served = Self { fleet, trial };
        served.pin(stage).await?;
        let warm = served.trial.closed(1, seed);
        served.trial.run(warm, SLA, WARM, |_| {}).await;
        Ok(served)
    }

    /// Has the first fragment of every arm that is cut on the slow node, and waits until that is in force.
    async fn pin(&self, stage: &Stage) -> anyhow::Result<()> {
        let begins_here = |arm: &PlannedArm| {
            let first = arm.way.split(" → ").next().unwrap_or_default();
            first.ends_with(DEVICE)
        };
        let plan = self.plan().await?;
        let arms = plan.models.iter().flat_map(|model| &model.arms);
        let cut: Vec<String> = arms
            .filter(|arm| arm.kind != "whole" && arm.kind != "semantic")
            .map(|arm| arm.arm.clone())
            .collect();
        for arm in &cut {
            let place = PlaceArm {
                model: stage.name.clone(),
                arm: arm.clone(),
                cuts: None,
                nodes: [(0, DEVICE.to_owned())].into(),
            };
            let what = Some(What::Place(place));
            let told = self.fleet.center().act(ActRequest { what }).await;
            told.map_err(anyhow::Error::msg)?;
        }
        let mut changes = self.fleet.center().changes();
        let until = tokio::time::Instant::now() + READY;
        loop {
            let plan = self.plan().await?;
            let arms = plan.models.iter().flat_map(|model| &model.arms);
            let mut pinned = arms.filter(|arm| cut.contains(&arm.arm));
            if pinned.all(begins_here) {
                return Ok(());
            }
            let look = tokio::time::Instant::now() + Duration::from_millis(200);
            let _ = tokio::time::timeout_at(look, changes.changed()).await;
            ensure!(
                tokio::time::Instant::now() < until,
                "the first fragments were not placed on {DEVICE} within {READY:?}"
            );
        }
    }

    async fn plan(&self) -> anyhow::Result<PlanResponse> {
        self.look(false).await
    }

    /// With what is expected of it by what is known now.
    async fn explained(&self) -> anyhow::Result<PlanResponse> {
        self.look(true).await
    }

    async fn look(&self, explain: bool) -> anyhow::Result<PlanResponse> {
        let plan = self.fleet.center().plan(explain).await;
        plan.map_err(anyhow::Error::msg)
    }
}

/// Sends the requests of all phases in a row and slows the uplink as they begin.
async fn live(
    stage: &Stage,
    args: &Resplit,
    instants: &[Vec<f64>],
    seed: u64,
) -> anyhow::Result<Vec<Phase>> {
    let first = *args.rates.first().context("--rates needs a phase")?;
    let served = Served::start(stage, args, first, false, seed).await?;
    let before = served.plan().await?.events.len();
    let mut trace = Vec::new();
    for (number, phase) in instants.iter().enumerate() {
        let begins = super::real(number) * args.phase;
        trace.extend(phase.iter().map(|at| begins + at));
    }
    let mut phases: Vec<Phase> = args
        .rates
        .iter()
        .map(|&mbit| Phase {
            mbit,
            ..Phase::default()
        })
        .collect();
    // Of each phase the plan that was in force at its end, as it was seen when it came into force.
    let mut ends: Vec<PlanResponse> = Vec::new();
    let mut begins_ms = Vec::new();
    let slow = async {
        let mut changes = served.fleet.center().changes();
        let mut in_force = served.explained().await?;
        for &rate in &args.rates {
            begins_ms.push(unix_ms());
            served.fleet.center().reshape(links(args, rate));
            let until = tokio::time::Instant::now() + Duration::from_secs_f64(args.phase);
            while let Ok(changed) = tokio::time::timeout_at(until, changes.changed()).await {
                changed?;
                if served.plan().await?.generation != in_force.generation {
                    in_force = served.explained().await?;
                }
            }
            ends.push(in_force.clone());
        }
        anyhow::Ok(())
    };
    let send = async {
        let mode = served.trial.at(&trace, seed)?;
        let phase_of = |at: Duration| at.as_secs_f64() / args.phase;
        served
            .trial
            .run(mode, SLA, u64::MAX, |outcome| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a phase's number"
                )]
                let number = phase_of(outcome.intended) as usize;
                if let Some(phase) = phases.get_mut(number) {
                    let into = outcome.intended.as_secs_f64() - super::real(number) * args.phase;
                    note(phase, into, &outcome);
                }
            })
            .await;
        anyhow::Ok(())
    };
    let (slowed, sent) = tokio::join!(slow, send);
    slowed?;
    sent?;
    let events: Vec<PlanEvent> = served.plan().await?.events.split_off(before);
    served.fleet.stop().await;
    for (number, (phase, end)) in phases.iter_mut().zip(&ends).enumerate() {
        settle(phase, end, SETTLED.as_secs_f64());
        let begins = begins_ms.get(number).copied().unwrap_or(0);
        let ends = begins_ms.get(number + 1).copied().unwrap_or(u64::MAX);
        let within = events
            .iter()
            .filter(|event| begins <= event.unix_ms && event.unix_ms < ends);
        for event in within {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of a phase")]
            let at = (event.unix_ms - begins) as f64 / 1e3;
            phase.first_s.get_or_insert(at);
            phase.last_s = Some(at);
            phase.adopted += 1;
            phase.sent_bytes += event.sent_bytes;
            phase.said.push(event.said.clone());
        }
    }
    Ok(phases)
}

/// Phases that end when the split has followed.
async fn follow(stage: &Stage, args: &Resplit, seed: u64) -> anyhow::Result<Vec<Phase>> {
    let first = *args.rates.first().context("--rates needs a phase")?;
    let served = Served::start(stage, args, first, false, seed).await?;
    let mut phases = Vec::new();
    let mut last = first;
    for &mbit in &args.rates {
        let before = served.plan().await?;
        served.fleet.center().reshape(links(args, mbit));
        let began = tokio::time::Instant::now();
        let mut phase = Phase {
            mbit,
            ..Phase::default()
        };
        // Where nothing changes nothing has to be followed.
        let mut is_followed = mbit.total_cmp(&last).is_eq();
        let (mut left, mut since) = (AFTER, 0.0);
        let end = loop {
            let clients = served.trial.closed(2, seed);
            let into = began.elapsed().as_secs_f64();
            served
                .trial
                .run(clients, SLA, BATCH, |outcome| {
                    note(&mut phase, into + outcome.intended.as_secs_f64(), &outcome);
                })
                .await;
            let now = served.plan().await?;
            if !is_followed && ways(&now) != ways(&before) {
                is_followed = true;
                since = began.elapsed().as_secs_f64();
            }
            left -= u32::from(is_followed);
            if left == 0 || PATIENCE < began.elapsed() {
                break served.explained().await?;
            }
        };
        settle(&mut phase, &end, since);
        for event in &end.events[before.events.len()..] {
            phase.adopted += 1;
            phase.sent_bytes += event.sent_bytes;
            phase.said.push(event.said.clone());
        }
        phases.push(phase);
        last = mbit;
    }
    served.fleet.stop().await;
    Ok(phases)
}

/// Where everything runs.
fn ways(plan: &PlanResponse) -> Vec<(&str, &str)> {
    let arms = plan.models.iter().flat_map(|model| &model.arms);
    arms.map(|arm| (&arm.arm[..], &arm.way[..])).collect()
}

/// The requests of one phase on a fleet that is told the rate.
async fn fixed(
    stage: &Stage,
    args: &Resplit,
    mbit: f64,
    instants: &[f64],
    seed: u64,
) -> anyhow::Result<Static> {
    let served = Served::start(stage, args, mbit, true, seed).await?;
    let mut phase = Phase::default();
    let mode = served.trial.at(instants, seed)?;
    served
        .trial
        .run(mode, SLA, u64::MAX, |outcome| {
            let into = outcome.intended.as_secs_f64();
            note(&mut phase, into, &outcome);
        })
        .await;
    settle(
        &mut phase,
        &served.explained().await?,
        SETTLED.as_secs_f64(),
    );
    served.fleet.stop().await;
    Ok(Static {
        way: phase.way,
        predicted_ms: phase.predicted_ms,
        p50_ms: phase.p50_ms,
        p95_ms: phase.p95_ms,
        lost: phase.lost,
    })
}

fn note(phase: &mut Phase, into: f64, outcome: &Outcome) {
    phase.requests += 1;
    match &outcome.result {
        Ok(answer) => {
            let latency = outcome.latency();
            let response = answer.response.unwrap_or(latency);
            let [client, centre] = [latency, response].map(|time| time.as_secs_f64() * 1e3);
            phase.answers.push([into, client, centre]);
        }
        Err(refused) => {
            phase.lost += 1;
            tracing::warn!(code = "SP309", why = refused.message, "a request was lost");
        }
    }
}

/// What a plan says that was in force at the end of a phase, and what was sent from so many seconds into it on.
fn settle(phase: &mut Phase, end: &PlanResponse, since: f64) {
    let settled = phase.answers.iter().filter(|[into, ..]| since <= *into);
    let (mut times, centre): (Vec<f64>, Vec<f64>) =
        settled.map(|&[_, client, centre]| (client, centre)).unzip();
    times.sort_by(f64::total_cmp);
    (phase.p50_ms, phase.p95_ms) = (quantile(&times, 0.5), quantile(&times, 0.95));
    phase.mean_ms = centre.iter().sum::<f64>() / super::real(centre.len().max(1));
    let arms = end.models.iter().flat_map(|model| &model.arms);
    // With what waits at the load that was seen then.
    let expected = |arm: &PlannedArm| {
        let now = arm.why.as_ref().map(|why| why.expected_us);
        now.unwrap_or(arm.predicted_us)
    };
    // The one that promises most is the one that is taken.
    if let Some(arm) = arms.min_by_key(|arm| expected(arm)) {
        phase.way.clone_from(&arm.way);
        phase.cuts.clone_from(&arm.cuts);
        phase.bytes_between = arm.bytes_between;
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a request")]
        let predicted = expected(arm) as f64 / 1e3;
        phase.predicted_ms = predicted;
        phase.off = (phase.mean_ms / predicted - 1.0).abs();
    }
}

/// Of sorted values; 0 of none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let place = (share * super::real(last)).round() as usize;
    sorted[place.min(last)]
}

fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// The median of each number over the runs, and what was said in the first.
fn show(runs: &[RunTold]) {
    let count = runs.first().map_or(0, |run| run.phases.len());
    let mut rows = output::table([
        "uplink",
        "runs",
        "sends",
        "predicted",
        "mean",
        "p50",
        "p95",
        "static p95",
        "ratio",
        "lost",
        "plans",
        "first after",
    ]);
    let mut said: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for number in 0..count {
        let phases: Vec<&Phase> = runs
            .iter()
            .filter_map(|run| run.phases.get(number))
            .collect();
        let median = |of: &dyn Fn(&Phase) -> Option<f64>| {
            let mut all: Vec<f64> = phases.iter().filter_map(|phase| of(phase)).collect();
            all.sort_by(f64::total_cmp);
            (!all.is_empty()).then(|| quantile(&all, 0.5))
        };
        let ms = |of: &dyn Fn(&Phase) -> Option<f64>| {
            median(of).map_or("–".into(), |ms| format!("{ms:.1} ms"))
        };
        let Some(first) = phases.first() else {
            continue;
        };
        let requests: usize = phases.iter().map(|phase| phase.requests).sum();
        let lost: usize = phases.iter().map(|phase| phase.lost).sum();
        let plans: Vec<String> = phases
            .iter()
            .map(|phase| phase.adopted.to_string())
            .collect();
        rows.add_row([
            format!("{} Mbit/s", first.mbit),
            first.way.clone(),
            output::bytes(first.bytes_between),
            ms(&|phase| Some(phase.predicted_ms)),
            ms(&|phase| Some(phase.mean_ms)),
            ms(&|phase| Some(phase.p50_ms)),
            ms(&|phase| Some(phase.p95_ms)),
            ms(&|phase| phase.fixed.as_ref().map(|fixed| fixed.p95_ms)),
            median(&|phase| phase.over_static).map_or("–".into(), |ratio| format!("{ratio:.2}")),
            format!("{lost} of {requests}"),
            plans.join(" "),
            median(&|phase| phase.first_s).map_or("–".into(), |s| format!("{s:.1} s")),
        ]);
        said.insert(number, first.said.clone());
    }
    println!("{rows}");
    for (number, said) in said {
        for sentence in said {
            println!("phase {}: {sentence}", number + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_in_every_phase_and_the_same_for_a_seed() {
        let all = instants(5.0, 20.0, 3, 4);
        assert_eq!(all, instants(5.0, 20.0, 3, 4));
        assert_ne!(all, instants(5.0, 20.0, 3, 5));
        for phase in &all {
            assert!(phase.is_sorted() && phase.iter().all(|at| (0.0..20.0).contains(at)));
            assert!((60..140).contains(&phase.len()), "{}", phase.len());
        }
    }

    #[test]
    fn quantiles_are_of_what_there_is() {
        assert!(quantile(&[], 0.5).abs() < 1e-12);
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert!((quantile(&values, 0.95) - 95.0).abs() < 1e-12);
        assert_eq!(distinct(&[100.0, 2.0, 100.0]), [100.0, 2.0]);
    }
}
