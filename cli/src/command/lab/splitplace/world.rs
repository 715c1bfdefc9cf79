//! What the experiment is made of: applications from measured packages, the paper's fleets, its promises.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use splitplace_fleet::{Link, Links, Node, NodeState, Place, Snapshot, Timestamp};
use splitplace_onnx::{
    Limits, Model as OnnxModel, Package, Variant as PackageVariant, import,
    package::VariantKind,
    tables::{Tables, VariantTable},
};
use splitplace_plan::{ArmKind, Exact, Generation, ModelName, Plan, Strategy};
use splitplace_twin::{
    Law,
    arrivals::Process,
    planner::{Model, Part, Planner as _, PlannerSettings, Segment, Strategic, Variant},
    world::{Control, Load, Settings, Worker, World},
};

use crate::command::lab::real;

/// Segments of a network at most.
const SEGMENTS: usize = 8;
/// Most fragments of a layer-wise split, as in the paper.
const PARTS: usize = 4;
/// Of the paper's hosts' memory: its networks are as many times as large as ours.
const MEMORY_SHARE: f64 = 1.0 / 250.0;
/// Promises as shares of what a layer-wise split takes on an idle fleet, each as likely: the released workload
/// draws uniformly between 0.29 and 1.57 of it.
const PROMISES: [f64; 5] = [0.3, 0.6, 0.9, 1.2, 1.5];
/// How much longer clients wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// Squared coefficient of variation of service times.
const SCV: f64 = 0.05;

/// A kind of machine: 10⁶ instructions a second, megabytes, milliseconds one way, watts at tenths of its load.
struct Kind {
    name: &'static str,
    mips: f64,
    memory_mb: f64,
    delay_ms: f64,
    watts: [f64; 11],
    /// Of ten machines.
    count: usize,
}

const SMALL: [f64; 11] = [
    75.2, 78.2, 84.1, 89.6, 94.9, 100.0, 105.0, 109.0, 112.0, 115.0, 117.0,
];
const LARGE: [f64; 11] = [
    71.0, 77.9, 83.4, 89.2, 95.6, 102.0, 108.0, 114.0, 119.0, 123.0, 126.0,
];

/// The paper's four kinds of virtual machines.
const KINDS: [Kind; 4] = [
    Kind {
        name: "b2ms",
        mips: 4029.0,
        memory_mb: 4295.0,
        delay_ms: 1.0,
        watts: SMALL,
        count: 4,
    },
    Kind {
        name: "e2asv4",
        mips: 4019.0,
        memory_mb: 4172.0,
        delay_ms: 1.0,
        watts: SMALL,
        count: 2,
    },
    Kind {
        name: "b4ms",
        mips: 8102.0,
        memory_mb: 7962.0,
        delay_ms: 1.5,
        watts: LARGE,
        count: 2,
    },
    Kind {
        name: "e4asv4",
        mips: 7962.0,
        memory_mb: 7962.0,
        delay_ms: 1.5,
        watts: LARGE,
        count: 2,
    },
];

/// One application: its package's ways to run, and its share of the requests.
pub(super) struct Application {
    pub(super) name: String,
    pub(super) share: f64,
    variants: Vec<Variant>,
}

impl Application {
    /// Of a package's folder: the network itself, its branches, the fastest compressed form; those that it has.
    pub(super) fn open(folder: &Path, share: f64) -> anyhow::Result<Self> {
        let package = Package::open(folder, &Limits::default())?;
        let tables = package.tables.as_ref();
        let tables = tables.with_context(|| {
            format!(
                "{} is not measured: run `splitplace model measure`",
                folder.display()
            )
        })?;
        let mut variants = Vec::new();
        let measured = |variant: &&PackageVariant| tables.variant(&variant.name).is_some();
        let all = || package.variants.iter().filter(measured);
        let base = all().find(|one| one.kind == VariantKind::Whole && one.technique.is_none());
        // As many branches as there are, learned groups before plain ones: the package's order.
        let semantic = all()
            .filter(|one| one.kind == VariantKind::Semantic)
            .min_by_key(|one| std::cmp::Reverse(one.parts.len()));
        let seconds =
            |one: &PackageVariant| tables.variant(&one.name).map_or(0.0, |t| t.latency.mean);
        let small = all()
            .filter(|one| one.technique.is_some())
            .min_by(|a, b| seconds(a).total_cmp(&seconds(b)));
        for one in [base, semantic, small].into_iter().flatten() {
            variants.push(variant(one, tables)?);
        }
        ensure!(
            base.is_some(),
            "{} has no network of its own",
            folder.display()
        );
        Ok(Self {
            name: package.name.clone(),
            share,
            variants,
        })
    }

    /// Multiply-accumulates of one request of the network itself.
    fn work(&self) -> f64 {
        let base = self.variants.first();
        base.map_or(0.0, |base| {
            let segments = base.parts.iter().flat_map(|part| &part.segments);
            segments.map(|segment| segment.macs).sum()
        })
    }
}

/// A variant with what its parts take, by the tables: time on the machine that measured them, in that machine's
/// multiply-accumulates.
fn variant(variant: &PackageVariant, tables: &Tables) -> anyhow::Result<Variant> {
    let table = tables.variant(&variant.name).context("it is measured")?;
    let speed = tables.machine.macs_per_second;
    let is_semantic = variant.kind == VariantKind::Semantic;
    let mut parts = Vec::with_capacity(variant.parts.len());
    for (number, one) in variant.parts.iter().enumerate() {
        let seconds = match table.branches.get(number) {
            Some(branch) if is_semantic => branch.latency.mean,
            _ => table.latency.mean,
        };
        let limits = Limits::default();
        let model = OnnxModel::from_bytes(&one.file, one.content.clone(), &limits)?;
        let graph = import(model, &limits)?.graph;
        let chain = graph
            .chain()
            .coarsen(&graph, if is_semantic { 1 } else { SEGMENTS });
        #[expect(clippy::cast_precision_loss, reason = "layers' work is far below 2^53")]
        let macs = |at: usize| chain.segments[at].macs as f64;
        let total: f64 = (0..chain.len()).map(macs).sum();
        let memory = memory(table, number, is_semantic);
        let weights: u64 = chain.segments.iter().map(|one| one.parameter_bytes).sum();
        parts.push(Part {
            segments: (0..chain.len())
                .map(|at| Segment {
                    macs: seconds * speed * macs(at) / total.max(1.0),
                    weight_bytes: chain.segments[at].parameter_bytes,
                    // What the engine takes beside the weights, measured of the whole.
                    activation_bytes: memory
                        .saturating_sub(weights)
                        .max(chain.segments[at].activation_bytes),
                })
                .collect(),
            crossing_bytes: chain.boundaries.iter().map(|one| one.bytes).collect(),
            codings: Vec::new(),
        });
    }
    Ok(Variant {
        name: variant.name.clone(),
        accuracy: Some(table.top1),
        parts,
        is_semantic,
        is_compressed: variant.technique.is_some(),
        exits: Vec::new(),
        exits_accuracy: None,
    })
}

fn memory(table: &VariantTable, part: usize, is_semantic: bool) -> u64 {
    match table.branches.get(part) {
        Some(branch) if is_semantic => branch.memory_bytes,
        _ => table.memory_bytes,
    }
}

/// A fleet under a load, without a plan.
pub(super) struct Ground {
    pub(super) world: World,
    pub(super) models: Vec<Model>,
}

impl Ground {
    /// `nodes` of the paper's machines in its proportions, a tenth as many copies of every application, and
    /// requests for so many times what the fleet could do if each ran uncut wherever there is time.
    pub(super) fn new(
        applications: &[Application],
        nodes: usize,
        load: f64,
        requests: u64,
        warm_up: u64,
    ) -> anyhow::Result<Self> {
        let copies = (nodes / 10).max(1);
        let workers = (0..nodes).map(|number| worker(number, nodes));
        let workers: Vec<Worker> = workers.collect::<anyhow::Result<_>>()?;
        let able: f64 = workers
            .iter()
            .map(|worker| worker.node.macs_per_second)
            .sum();
        let work: f64 = applications.iter().map(|one| one.share * one.work()).sum();
        let rate = load * able / work;
        let mut models = Vec::new();
        let mut rates = Vec::new();
        for copy in 1..=copies {
            for one in applications {
                let own = rate * one.share / real(copies);
                models.push(Model {
                    name: ModelName::new(&format!("{}@{copy}", one.name)),
                    variants: one.variants.clone(),
                    site: None,
                    rate_per_second: own,
                });
                rates.push(own);
            }
        }
        let mut links = Links::new(Link {
            rate_bytes_per_second: 1e9 / 8.0,
            delay: Duration::from_millis(1),
            jitter: Duration::from_micros(200),
        });
        for worker in &workers {
            let place = Place::from(&worker.node.id);
            let kind = KINDS
                .iter()
                .find(|kind| worker.node.id.as_str().starts_with(kind.name));
            let delay = Duration::from_secs_f64(kind.map_or(1.0, |kind| kind.delay_ms) / 1e3);
            let link = Link {
                delay,
                ..links.get(&Place::Center, &place)
            };
            links.set(Place::Center, place.clone(), link);
            links.set(place, Place::Center, link);
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of a run")]
        let [counted, before] =
            [requests, warm_up].map(|n| Duration::from_secs_f64(n as f64 / rate));
        let mut ground = Self {
            world: World {
                workers,
                links,
                loads: Vec::new(),
                faults: Vec::new(),
                settings: Settings::default(),
                control: Control::default(),
                exits: BTreeMap::new(),
                warm_up: before,
                duration: before + counted,
            },
            models,
        };
        let idle = ground.layer_seconds();
        let loads = ground
            .models
            .iter()
            .zip(&rates)
            .zip(idle)
            .map(|((model, &rate), idle)| Load {
                model: model.name.clone(),
                arrivals: Process::Poisson { rate },
                slas: PROMISES
                    .map(|share| (Duration::from_secs_f64(share * idle), 1.0))
                    .into(),
                patience: PATIENCE,
                samples: 1,
                feedback: 0.0,
            });
        ground.world.loads = loads.collect();
        let wrong = ground.world.check();
        ensure!(
            wrong.is_empty(),
            "the experiment cannot be run: {}",
            wrong.join("; ")
        );
        Ok(ground)
    }

    /// A plan of these ways to run.
    pub(super) fn plan(&self, strategy: Box<dyn Strategy>, seed: u64) -> Plan {
        self.planned(self.models.clone(), strategy, seed)
    }

    fn planned(&self, models: Vec<Model>, strategy: Box<dyn Strategy>, seed: u64) -> Plan {
        let mut snapshot = Snapshot::empty(Timestamp::ZERO);
        snapshot.links = self.world.links.clone();
        let nodes = self.world.workers.iter().map(|worker| worker.node.clone());
        snapshot.nodes = nodes.map(|node| (node.id.clone(), node)).collect();
        let planner = Strategic {
            models,
            strategy,
            settings: PlannerSettings {
                max_parts: PARTS,
                spread: 0.0,
                kinds: [ArmKind::Chain, ArmKind::Semantic, ArmKind::Compressed].into(),
                overhead_bytes: 100_000,
                seed,
            },
        };
        planner.plan(&snapshot, &Plan::default(), Generation(1))
    }

    /// What a layer-wise split of each model takes when nothing else runs.
    fn layer_seconds(&self) -> Vec<f64> {
        let idle = |model: &Model| {
            let alone = Model {
                rate_per_second: 0.0,
                ..model.clone()
            };
            let plan = self.planned(vec![alone], Box::new(Exact), 0);
            let arms = plan.models.values().flat_map(|model| &model.arms);
            let layer = arms.filter(|arm| arm.kind == ArmKind::Chain);
            layer
                .map(|arm| arm.predicted.as_secs_f64())
                .fold(f64::NAN, f64::min)
        };
        let own = self.models.iter().map(idle);
        own.map(|seconds| if seconds.is_finite() { seconds } else { 1.0 })
            .collect()
    }
}

/// Machine number `number` of a fleet: kinds in turn, in their proportions.
fn worker(number: usize, nodes: usize) -> anyhow::Result<Worker> {
    let place = number * 10 / nodes.max(1);
    let mut seen = 0;
    let kind = KINDS.iter().find(|kind| {
        seen += kind.count;
        place < seen
    });
    let kind = kind.unwrap_or(&KINDS[0]);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some megabytes"
    )]
    let memory_bytes = (kind.memory_mb * 1e6 * MEMORY_SHARE) as u64;
    Ok(Worker {
        service: Law::gamma(1.0, SCV)?,
        watts: Arc::from(kind.watts),
        ..Worker::new(Node {
            id: format!("{}-{number}", kind.name)[..].into(),
            state: NodeState::Alive,
            // An inference takes all cores of its host, as in the paper: one server of their speed.
            cores: 1,
            macs_per_second: kind.mips * 1e6,
            memory_bytes,
            labels: BTreeMap::new(),
            emulated: false,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fleets_have_the_papers_proportions() {
        for nodes in [10, 50] {
            let workers: Vec<Worker> = (0..nodes)
                .map(|number| worker(number, nodes).unwrap())
                .collect();
            for kind in &KINDS {
                let own = workers
                    .iter()
                    .filter(|one| one.node.id.as_str().starts_with(kind.name));
                assert_eq!(own.count(), kind.count * nodes / 10, "{}", kind.name);
            }
        }
    }

    #[test]
    fn applications_are_what_their_tables_say() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages/fashion-mnist");
        let fashion = Application::open(&folder, 1.0).unwrap();
        let names: Vec<_> = fashion.variants.iter().map(|one| &one.name[..]).collect();
        assert_eq!(names, ["base", "semantic-learned-4", "student"]);
        let package = Package::open(&folder, &Limits::default()).unwrap();
        let tables = package.tables.unwrap();
        for variant in &fashion.variants {
            let table = tables.variant(&variant.name).unwrap();
            assert_eq!(variant.accuracy, Some(table.top1));
        }
        let base = &tables.variant("base").unwrap().latency;
        let seconds = fashion.work() / tables.machine.macs_per_second;
        assert!((seconds / base.mean - 1.0).abs() < 1e-6);
        let ground = Ground::new(&[fashion], 10, 0.5, 1000, 100).unwrap();
        let plan = ground.plan(Box::new(Exact), 1);
        let kinds: Vec<ArmKind> = plan.models["fashion-mnist@1"]
            .arms
            .iter()
            .map(|arm| arm.kind)
            .collect();
        assert_eq!(
            kinds,
            [ArmKind::Semantic, ArmKind::Chain, ArmKind::Compressed]
        );
    }
}
