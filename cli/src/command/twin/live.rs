//! `splitplace twin compare --live`: the twin's word against running workers.
//!
//! For each fleet and way to run a model an orchestrator and workers are started, the workers as processes of a share
//! of a core each on shaped links. A light load, which is none of those that are compared, lets the system calibrate
//! itself as it always does; from the snapshot that it gives then every other load is predicted, before any of them
//! is run. Then they are, through the public API. The twin is told when requests will come: what is compared is how the
//! system takes them, not two draws of the same process.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use splitplace_fleet::Timestamp;
use splitplace_onnx::{Limits, Package};
use splitplace_orchestrator::{config::Config, fleet_file::FleetFile};
use splitplace_plan::ArmKind;
use splitplace_proto::center::SnapshotRequest;
use splitplace_twin::{
    Seed,
    arrivals::Process,
    what_if::{Effort, Observed, as_it_is},
};

use super::compare::Compare;
use crate::{
    command::model::verify::alone,
    fleet::{self, Fleet},
    load::{
        arrivals::{self, Gaps},
        payloads::Payloads,
        summary::Times,
        trial::{self, Trial},
    },
    output,
};

/// A fleet, the way to run, and the variant that it takes.
struct Case {
    fleet: &'static str,
    fleet_file: &'static str,
    kind: ArmKind,
    variant: &'static str,
    /// What each node can hold, over what the whole variant takes.
    memory: f64,
}

/// In descriptions: megabytes of a node.
const MEMORY: &str = "MEMORY";

const ALONE: &str = r#"
[[node]]
name = "board"
speed = 0.25
memory-mb = MEMORY
[[link]]
from = "center"
to = "*"
rate-mbit = 50
delay-ms = 2
jitter-ms = 0.2
"#;

const PAIR: &str = r#"
[[node]]
name = "near"
speed = 0.2
memory-mb = MEMORY
[[node]]
name = "far"
speed = 0.15
memory-mb = MEMORY
[[link]]
from = "*"
to = "*"
rate-mbit = 20
delay-ms = 3
jitter-ms = 0.3
[[link]]
from = "center"
to = "near"
rate-mbit = 100
delay-ms = 1
"#;

const ROW: &str = r#"
[[node]]
name = "first"
speed = 0.12
memory-mb = MEMORY
[[node]]
name = "second"
speed = 0.16
memory-mb = MEMORY
[[node]]
name = "third"
speed = 0.1
memory-mb = MEMORY
[[link]]
from = "*"
to = "*"
rate-mbit = 100
delay-ms = 0.5
jitter-ms = 0.1
[[link]]
from = "center"
to = "*"
rate-mbit = 30
delay-ms = 5
jitter-ms = 0.5
"#;

const STAR: &str = r#"
[[node]]
name = "a"
speed = 0.15
memory-mb = MEMORY
[[node]]
name = "b"
speed = 0.12
memory-mb = MEMORY
[[node]]
name = "c"
speed = 0.1
memory-mb = MEMORY
[[node]]
name = "d"
speed = 0.08
memory-mb = MEMORY
[[link]]
from = "center"
to = "*"
rate-mbit = 40
delay-ms = 1.5
jitter-ms = 0.2
"#;

const CASES: [Case; 4] = [
    Case {
        fleet: "alone",
        fleet_file: ALONE,
        kind: ArmKind::Whole,
        variant: "base",
        memory: 14.0,
    },
    Case {
        fleet: "pair",
        fleet_file: PAIR,
        kind: ArmKind::Chain,
        variant: "base",
        memory: 0.8,
    },
    Case {
        fleet: "row",
        fleet_file: ROW,
        kind: ArmKind::Compressed,
        variant: "student",
        memory: 2.5,
    },
    Case {
        fleet: "star",
        fleet_file: STAR,
        kind: ArmKind::Semantic,
        variant: "semantic-learned-4",
        memory: 0.6,
    },
];

impl Case {
    /// The fleet's description for a variant that takes so many bytes.
    fn description(&self, whole: u64) -> String {
        #[expect(clippy::cast_precision_loss, reason = "bytes of a model")]
        let megabytes = self.memory * whole as f64 / 1e6;
        self.fleet_file.replace(MEMORY, &format!("{megabytes:.3}"))
    }
}

/// Promised to every request: long enough that only full queues lose any.
const SLA: Duration = Duration::from_secs(60);
/// For a fleet to be ready.
const READY: Duration = Duration::from_secs(120);
/// Silence of a worker that is put up with on a busy machine, in milliseconds.
const SILENCE_MS: u64 = 10_000;
/// Frames that may wait for a fragment: few enough that an overload is seen to lose some.
const QUEUE: u32 = 16;
/// Requests one after another before the light load: enough for every fragment's time to be known.
const PROBES: u64 = 40;
/// The light load, as a share of what the busiest node can do: none of those that are compared.
const LIGHT: f64 = 0.15;
/// Share of a run that is left out at its beginning.
const WARM_UP: f64 = 0.1;
/// Most that the median and the worst error may be.
const BARS: [f64; 2] = [0.10, 0.25];

/// What is told of a load: mean and 95th percentile in seconds, answers a second, share lost.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Told {
    mean: f64,
    p95: f64,
    throughput: f64,
    loss: f64,
}

/// One load on one fleet.
#[derive(Clone, Debug, Serialize)]
struct Row {
    fleet: &'static str,
    model: String,
    arm: String,
    /// Of what the busiest node can do.
    load: f64,
    rate: f64,
    predicted: Told,
    measured: Told,
    requests: u64,
    /// Seconds of one request on the busiest node: as they were when it was predicted, and right after the run. Where
    /// they differ, the machine has changed and not the twin erred.
    busy: [f64; 2],
}

impl Row {
    /// Relative errors of mean, 95th percentile and throughput; of the loss the difference.
    fn errors(&self) -> [f64; 4] {
        let relative = |said: f64, seen: f64| (said - seen).abs() / seen.max(1e-12);
        let (said, seen) = (&self.predicted, &self.measured);
        [
            relative(said.mean, seen.mean),
            relative(said.p95, seen.p95),
            relative(said.throughput, seen.throughput),
            (said.loss - seen.loss).abs(),
        ]
    }
}

/// Median and worst of errors.
fn summary(mut errors: Vec<f64>) -> [f64; 2] {
    errors.sort_by(f64::total_cmp);
    let worst = errors.last().copied().unwrap_or(f64::NAN);
    let middle = errors.len() / 2;
    let median = match errors.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => errors[middle],
        _ => f64::midpoint(errors[middle - 1], errors[middle]),
    };
    [median, worst]
}

pub(crate) async fn run(args: &Compare) -> anyhow::Result<ExitCode> {
    ensure!(
        args.load.iter().all(|load| (0.01..=3.0).contains(load)),
        "--load must lie in 0.01 to 3"
    );
    ensure!(
        args.duration >= Duration::from_secs(1),
        "--duration must be a second at least"
    );
    let (folder, _kept) = fleet::packages(args.packages.as_deref())?;
    let mut rows = Vec::new();
    for model in &args.model {
        for case in &CASES {
            if args.fleet.is_empty() || args.fleet.iter().any(|name| name == case.fleet) {
                rows.extend(one(args, &folder, model, case).await?);
            }
        }
    }
    ensure!(
        !rows.is_empty(),
        "nothing was run: is --fleet one of alone, pair, row, star?"
    );
    let of = |figure: usize| summary(rows.iter().map(|row| row.errors()[figure]).collect());
    let times = [0, 1, 2].map(of);
    let all = rows.iter().flat_map(|row| row.errors()[..3].to_vec());
    let together = summary(all.collect());
    let holds = together[0] <= BARS[0] && together[1] <= BARS[1];
    let told = serde_json::json!({
        "seed": args.seed,
        "seconds": args.duration.as_secs_f64(),
        "rows": rows,
        "errors": {
            "mean": times[0], "p95": times[1], "throughput": times[2], "together": together, "loss": of(3),
        },
        "bars": BARS,
        "holds": holds,
    });
    if let Some(path) = &args.report {
        output::report(path, &told)?;
    }
    if args.json {
        output::json(&told)?;
    } else {
        show(&rows, &times, together, of(3), holds);
    }
    Ok(if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(output::NO)
    })
}

fn show(rows: &[Row], times: &[[f64; 2]; 3], together: [f64; 2], loss: [f64; 2], holds: bool) {
    let mut table = output::table([
        "fleet",
        "arm",
        "load",
        "per second",
        "mean: said",
        "seen",
        "p95: said",
        "seen",
        "answers/s: said",
        "seen",
        "lost: said",
        "seen",
        "worst error",
    ]);
    let time = |seconds: f64| output::micros(seconds * 1e6);
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    for row in rows {
        let (said, seen) = (&row.predicted, &row.measured);
        let worst = row.errors()[..3].iter().copied().fold(0.0, f64::max);
        table.add_row([
            row.fleet.to_owned(),
            format!("{} {}", row.model, row.arm),
            row.load.to_string(),
            format!("{:.1}", row.rate),
            time(said.mean),
            time(seen.mean),
            time(said.p95),
            time(seen.p95),
            format!("{:.1}", said.throughput),
            format!("{:.1}", seen.throughput),
            percent(said.loss),
            percent(seen.loss),
            percent(worst),
        ]);
    }
    println!("{table}");
    let mut table = output::table(["", "median error", "worst"]);
    for (name, [median, worst]) in ["mean", "p95", "throughput"].iter().zip(times) {
        table.add_row([(*name).to_owned(), percent(*median), percent(*worst)]);
    }
    table.add_row([
        "all three".to_owned(),
        percent(together[0]),
        percent(together[1]),
    ]);
    table.add_row([
        "loss, points".to_owned(),
        percent(loss[0]),
        percent(loss[1]),
    ]);
    println!("{table}");
    println!(
        "wanted: a median of at most {} and at worst {} over mean, p95 and throughput: {}",
        percent(BARS[0]),
        percent(BARS[1]),
        if holds { "held" } else { "not held" }
    );
}

/// A running case.
struct Served {
    fleet: Fleet,
    trial: Trial,
    /// Holds package and fleet file.
    _scratch: tempfile::TempDir,
}

impl Served {
    async fn start(
        args: &Compare,
        packages: &Path,
        model: &str,
        case: &Case,
    ) -> anyhow::Result<Self> {
        let package = Package::open(&packages.join(model), &Limits::default())?;
        let variant = package.variants.iter().find(|one| one.name == case.variant);
        let variant =
            variant.with_context(|| format!("{model} has no variant {:?}", case.variant))?;
        let tables = package.tables.iter().flat_map(|tables| &tables.variants);
        let measured = tables.into_iter().find(|one| one.name == case.variant);
        let measured = measured.with_context(|| format!("{model} is not measured"))?;
        let scratch = tempfile::Builder::new()
            .prefix("splitplace-live-")
            .tempdir()?;
        let models = scratch.path().join("models");
        alone(&package, variant, &models.join(&package.name))?;
        let path = scratch.path().join("fleet.toml");
        std::fs::write(&path, case.description(measured.memory_bytes))?;
        let file = FleetFile::read(&path)?;
        let mut config = Config {
            models: Some(models),
            load: vec![package.name.clone()],
            fleet: Some(path),
            seed: Some(args.seed),
            ..Config::default()
        };
        config.planning.arms = vec![case.kind.label().to_owned()];
        // What was predicted for is what has to run.
        config.planning.drift_ms = 0;
        config.workers.silence_ms = SILENCE_MS;
        config.workers.queue_limit = QUEUE;
        trial::lossy(&mut config);
        fleet::on_free_ports(&mut config);
        let mut fleet = Fleet::start(config, fleet::emulated_nodes(&file), true).await?;
        if let Err(error) = fleet.ready(READY).await {
            fleet.stop().await;
            return Err(error.context(format!("{model} on the fleet {:?}", case.fleet)));
        }
        let payloads = |metadata: &_| Payloads::noise(metadata, 1, args.seed);
        let trial = Trial::open(fleet.addresses().grpc, &package.name, SLA, payloads).await?;
        Ok(Self {
            fleet,
            trial,
            _scratch: scratch,
        })
    }

    async fn snapshot(&self) -> anyhow::Result<Observed> {
        let told = self
            .trial
            .client
            .center()
            .snapshot(SnapshotRequest {})
            .await?;
        super::snapshot::observed(&told.into_inner())
    }
}

/// Seconds of one request on the busiest node of the plan in force.
fn busy(observed: &Observed) -> f64 {
    let mut nodes = std::collections::BTreeMap::new();
    let arms = observed.plan.models.values().flat_map(|model| &model.arms);
    for hop in arms
        .flat_map(|arm| &arm.branches)
        .flat_map(|route| &route.hops)
    {
        *nodes.entry(&hop.node).or_insert(0.0) +=
            hop.reach * (hop.service + hop.coding).as_secs_f64();
    }
    nodes.into_values().fold(0.0, f64::max)
}

async fn one(
    args: &Compare,
    packages: &Path,
    model: &str,
    case: &Case,
) -> anyhow::Result<Vec<Row>> {
    let served = Served::start(args, packages, model, case).await?;
    let rows = rows(args, &served, model, case).await;
    served.fleet.stop().await;
    rows
}

async fn rows(
    args: &Compare,
    served: &Served,
    model: &str,
    case: &Case,
) -> anyhow::Result<Vec<Row>> {
    let probes = served.trial.closed(1, args.seed);
    served.trial.run(probes, SLA, PROBES, |_| {}).await;
    let known = busy(&served.snapshot().await?);
    ensure!(
        known > 0.0,
        "nothing was measured of {model} on {:?}",
        case.fleet
    );
    eprintln!(
        "{model} on {}: {:.1} ms a request at the busiest node",
        case.fleet,
        known * 1e3
    );
    let light = LIGHT / known;
    let light = served.trial.open_loop(Gaps::Poisson, light, args.seed)?;
    let nothing = |_| {};
    served
        .trial
        .run(light, args.duration, u64::MAX, nothing)
        .await;
    let mut observed = served.snapshot().await?;
    let busy = busy(&observed);
    let arms = observed.plan.models.values().flat_map(|model| &model.arms);
    let arm = arms
        .map(|arm| arm.name.clone())
        .next()
        .context("no arm is in force")?;
    let end = args.duration.mul_f64(1.0 + WARM_UP).as_secs_f64();
    let mut predicted = Vec::new();
    for (number, &load) in (0..).zip(&args.load) {
        let mut stream = Seed(args.seed).stream("arrivals", number);
        let instants = arrivals::poisson(load / busy, end, &mut stream);
        let told = tokio::task::block_in_place(|| predict(args, &mut observed, &instants))?;
        predicted.push((load, instants, told));
    }
    let mut rows = Vec::new();
    for (load, instants, predicted) in predicted {
        let (measured, requests) = measure(args, served, &instants).await?;
        let afterwards = self::busy(&served.snapshot().await?);
        eprintln!(
            "  load {load}: mean {:.1} ms said, {:.1} ms seen; {:.2} ms a request at the busiest node, {:.2} ms afterwards",
            predicted.mean * 1e3,
            measured.mean * 1e3,
            busy * 1e3,
            afterwards * 1e3,
        );
        rows.push(Row {
            fleet: case.fleet,
            model: model.to_owned(),
            arm: arm.clone(),
            load,
            rate: load / busy,
            predicted,
            measured,
            requests,
            busy: [busy, afterwards],
        });
    }
    Ok(rows)
}

/// The twin's word for requests that come then, in seconds.
fn predict(args: &Compare, observed: &mut Observed, instants: &[f64]) -> anyhow::Result<Told> {
    let instants = instants.iter();
    let trace = instants.map(|&at| Timestamp::ZERO + Duration::from_secs_f64(at));
    let load = observed.loads.first_mut();
    load.context("the system has seen no request")?.arrivals = Process::Trace(trace.collect());
    let effort = Effort {
        measured: args.duration,
        warm_up: args.duration.mul_f64(WARM_UP),
        runs: args.seeds.unwrap_or(8).max(2),
    };
    let side = as_it_is(observed, effort, Seed(args.seed))?;
    let model = side.outcome.models.values().next();
    let model = model.context("the twin says nothing of the model")?;
    Ok(Told {
        mean: model.mean.mean(),
        p95: model.p95.mean(),
        throughput: model.throughput.mean(),
        loss: model.loss.mean(),
    })
}

/// What a run shows, its beginning left out; times as the centre sees them, which is what the twin predicts.
async fn measure(args: &Compare, served: &Served, instants: &[f64]) -> anyhow::Result<(Told, u64)> {
    let warm_up = args.duration.mul_f64(WARM_UP);
    let all = args.duration + warm_up;
    let (mut sent, mut answered, mut sum, mut times) = (0u64, 0u64, 0.0, Times::default());
    let mode = served.trial.at(instants, args.seed)?;
    served
        .trial
        .run(mode, all, u64::MAX, |outcome| {
            if outcome.intended < warm_up {
                return;
            }
            sent += 1;
            if let Ok(answer) = &outcome.result {
                let response = answer.response.unwrap_or_else(|| outcome.latency());
                answered += 1;
                sum += response.as_secs_f64();
                times.add(response);
            }
        })
        .await;
    ensure!(answered > 0, "no request was answered");
    #[expect(clippy::cast_precision_loss, reason = "counts of a run")]
    let [some, many] = [answered, sent].map(|count| count as f64);
    let told = Told {
        mean: sum / some,
        p95: times.quantile(0.95) / 1e6,
        throughput: some / args.duration.as_secs_f64(),
        loss: 1.0 - some / many,
    };
    Ok((told, sent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_worst_are_of_all_errors() {
        assert_eq!(summary(vec![0.3, 0.1, 0.2]), [0.2, 0.3]);
        assert_eq!(summary(vec![0.4, 0.1, 0.2, 0.3]), [0.25, 0.4]);
        assert!(summary(Vec::new())[0].is_nan());
    }

    #[test]
    fn fleets_can_be_read_and_make_a_dozen_cells() {
        let folder = tempfile::tempdir().unwrap();
        for case in &CASES {
            let path = folder.path().join(case.fleet);
            std::fs::write(&path, case.description(4_000_000)).unwrap();
            let file = FleetFile::read(&path).unwrap();
            let shares: f64 = file.nodes.iter().map(|node| node.speed).sum();
            assert!(
                shares <= 0.6,
                "{}: a machine of two cores must have room beside it",
                case.fleet
            );
        }
        assert!(CASES.len() * super::super::compare::LOADS.len() >= 12);
    }
}
