//! The two nodes of the lab: one beside the orchestrator, one behind the uplink.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use splitplace_fleet::{Link, Links, Place};
use splitplace_onnx::{Limits, Package};
use splitplace_orchestrator::{config::Config, face::Face as _};
use splitplace_proto::center::{ActRequest, PlaceArm, PlanResponse, PlannedArm, act_request::What};

use super::{Resplit, SLA};
use crate::{
    command::model::seconds_here,
    fleet::{self, Fleet, NodeSpec},
    load::{payloads::Payloads, trial::Trial},
    shipped,
};

/// For a fleet to be ready.
const READY: Duration = Duration::from_secs(180);
/// Requests before the first phase, one after another.
const WARM: u64 = 5;
/// How soon plans follow links and how much of a link probes may take, where they do.
const DRIFT_MS: u64 = 1000;
const PROBE_SHARE: f64 = 0.02;
/// Memory of a node: room for everything.
const MEMORY_BYTES: u64 = 512 << 20;

/// Folder of the package, beside the fleet's description.
const MODELS: &str = "models";

const DEVICE: &str = "device";
const SERVER: &str = "server";

/// A package in a repository of its own, and how slow nodes have to be for it.
pub(super) struct Stage {
    pub(super) name: String,
    folder: tempfile::TempDir,
    shares: [f64; 2],
}

impl Stage {
    pub(super) fn open(args: &Resplit) -> anyhow::Result<Self> {
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
pub(super) fn links(args: &Resplit, mbit: f64) -> Links {
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

/// A fleet that serves the package.
pub(super) struct Served {
    pub(super) fleet: Fleet,
    pub(super) trial: Trial,
}

impl Served {
    /// A fleet that is told that rate. One that stays as it is plans once.
    pub(super) async fn start(
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

    pub(super) async fn plan(&self) -> anyhow::Result<PlanResponse> {
        self.look(false).await
    }

    /// With what is expected of it by what is known now.
    pub(super) async fn explained(&self) -> anyhow::Result<PlanResponse> {
        self.look(true).await
    }

    async fn look(&self, explain: bool) -> anyhow::Result<PlanResponse> {
        let plan = self.fleet.center().plan(explain).await;
        plan.map_err(anyhow::Error::msg)
    }
}
