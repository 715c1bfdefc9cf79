//! `splitplace model verify`: whether every way to run a package answers, when it is served, as well as its
//! tables say.
//!
//! For each variant and each kind of arm that it can be, an orchestrator and workers on this machine serve
//! the package with nothing else in it, so that no policy has a choice, and get each picture once through
//! the public API, as a file. What the tables say of other pictures proves nothing: where they were not
//! measured on the same ones, the engine runs the variant here, and that is compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde::Serialize;
use splitplace_codec::Codec;
use splitplace_onnx::{
    Limits, Package, Variant,
    package::{MANIFEST_FILE, VariantKind},
    tables,
};
use splitplace_orchestrator::{config::Config, fleet_file::FleetFile};
use splitplace_plan::ArmKind;
use splitplace_proto::center::{ArmStatus, StatusResponse};

use super::{
    measure::{self, Answers},
    replace,
    show::Place,
};
use crate::{
    client::{Client, Server},
    command::load::{bar, percent},
    dataset::DataSet,
    fleet::{self, Fleet, NodeSpec},
    load::{
        arrivals::SlaMix,
        engine::{self, Mode, Run},
        payloads::Payloads,
        summary::Summary,
    },
    output,
};

/// Most that served and measured accuracy may differ by where nothing on the way loses anything.
const TOLERANCE: f64 = 0.001;
/// What is promised for each answer: long enough that no branch is left out.
const SLA: Duration = Duration::from_secs(60);
/// Silence of a worker that is put up with, in milliseconds.
const SILENCE_MS: u64 = 10_000;
/// Time for a fleet to be ready.
const READY: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Folder of a package.
    folder: PathBuf,
    /// Labelled pictures, as for `model measure`.
    #[arg(long, value_name = "DATASET")]
    data: PathBuf,
    /// File with a line for each picture, its name and its class, when folders do not say.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Pictures to take, spread evenly over all; all without it.
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Variant to serve; can be given many times. All without it.
    #[arg(long = "variant", value_name = "NAME")]
    variants: Vec<String>,
    /// Workers to start, all alike and at full speed.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 4,
        conflicts_with = "fleet"
    )]
    nodes: usize,
    /// Emulate the nodes and links that a file describes; over slow links tensors are coded.
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
    /// Requests in flight.
    #[arg(long, default_value_t = 2)]
    concurrency: usize,
    /// A table for Markdown documents.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What one way of running the package brought back.
#[derive(Debug, Serialize)]
struct Row {
    arm: String,
    kind: String,
    /// Codecs of the links between its workers.
    codecs: BTreeSet<String>,
    /// Workers that took part.
    nodes: usize,
    pictures: usize,
    lost: u64,
    /// Share of right answers by the tables, or by the engine on the same pictures.
    expected: f64,
    is_from_tables: bool,
    served: f64,
    /// Answers by exit; only the end where there are none.
    exits: BTreeMap<String, u64>,
    /// Nothing lost, and as good as expected; where codecs lose something, the latter is not judged.
    held: bool,
}

pub(super) async fn run(args: &Verify) -> anyhow::Result<ExitCode> {
    ensure!(
        args.folder.join(MANIFEST_FILE).is_file(),
        "{} is no package: it has no {MANIFEST_FILE}",
        args.folder.display()
    );
    ensure!(
        (1..=1000).contains(&args.concurrency),
        "--concurrency must lie in 1 to 1000"
    );
    let package = Package::open(&args.folder, &Limits::default())?;
    ensure!(
        package.preprocess.is_some(),
        "{} takes no encoded pictures: its manifest has no [preprocess]",
        args.folder.display()
    );
    for name in &args.variants {
        let is_known = package.variants.iter().any(|variant| variant.name == *name);
        ensure!(is_known, "the package has no variant '{name}'");
    }
    let classes = package
        .outputs
        .first()
        .map_or(&[][..], |output| &output.labels);
    let mut data = DataSet::open(&args.data, classes, args.labels.as_deref())?;
    if let Some(samples) = args.samples {
        ensure!(samples > 0, "--samples must be at least 1");
        data.keep(samples);
    }
    let mut rows = Vec::new();
    let mut refused = Vec::new();
    for variant in &package.variants {
        if !args.variants.is_empty() && !args.variants.contains(&variant.name) {
            continue;
        }
        // One pass of the engine for all kinds of arms of the variant.
        let mut answers = None;
        for &kind in kinds(variant) {
            let served = serve(args, &package, variant, kind, &data).await?;
            let (arm, summary) = match served {
                Ok(served) => served,
                Err(why) => {
                    refused.push(format!("{}/{}: {why}", variant.name, kind.label()));
                    continue;
                }
            };
            rows.push(row(&package, variant, &data, &arm, &summary, &mut answers)?);
        }
    }
    ensure!(
        !rows.is_empty(),
        "nothing was served: {}",
        refused.join("; ")
    );
    let is_right = rows.iter().all(|row| row.held);
    if args.json {
        output::json(&serde_json::json!({
            "package": package.name, "data": data.name, "rows": rows, "refused": refused, "right": is_right,
        }))?;
    } else {
        print(
            &rows,
            if args.markdown {
                Place::Markdown
            } else {
                Place::Terminal
            },
        );
        for why in &refused {
            eprintln!("not served: {why}");
        }
    }
    Ok(if is_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(output::NO)
    })
}

/// The kinds of arms that a variant can be.
fn kinds(variant: &Variant) -> &'static [ArmKind] {
    let may_exit = variant.exits.iter().any(|exit| exit.threshold <= 1.0);
    match (variant.kind, variant.technique) {
        (VariantKind::Semantic, _) => &[ArmKind::Semantic],
        (VariantKind::Whole, Some(_)) => &[ArmKind::Compressed],
        (VariantKind::Whole, None) if may_exit => &[ArmKind::Whole, ArmKind::Chain, ArmKind::Exits],
        (VariantKind::Whole, None) => &[ArmKind::Whole, ArmKind::Chain],
    }
}

/// Serves one variant as arms of one kind and sends every picture; or says why there is no such arm.
async fn serve(
    args: &Verify,
    package: &Package,
    variant: &Variant,
    kind: ArmKind,
    data: &DataSet,
) -> anyhow::Result<Result<(ArmStatus, Summary), String>> {
    let scratch = tempfile::Builder::new()
        .prefix("splitplace-verify-")
        .tempdir()?;
    alone(package, variant, &scratch.path().join(&package.name))?;
    let nodes = match &args.fleet {
        Some(path) => fleet::emulated_nodes(&FleetFile::read(path)?),
        None => fleet::equal_nodes(args.nodes),
    };
    let mut fleet = start(args, scratch.path(), &package.name, kind, nodes).await?;
    let result = async {
        if let Err(error) = fleet.ready(READY).await {
            return Ok(Err(format!("{error:#}")));
        }
        let Some(arm) = only_arm(&fleet.status(), &package.name) else {
            return Ok(Err("it has no place on this fleet".to_owned()));
        };
        let client = Client::connect(&Server::local(fleet.addresses().grpc)).await?;
        let metadata = client.metadata(&package.name).await?;
        let payloads = Arc::new(Payloads::files(&metadata, data)?);
        anyhow::Ok(Ok((
            arm.clone(),
            send(args, client, payloads, &arm.arm).await,
        )))
    }
    .await;
    fleet.stop().await;
    result
}

async fn start(
    args: &Verify,
    models: &Path,
    name: &str,
    kind: ArmKind,
    nodes: Vec<NodeSpec>,
) -> anyhow::Result<Fleet> {
    let mut config = Config {
        models: Some(models.to_owned()),
        load: vec![name.to_owned()],
        fleet: args.fleet.clone(),
        seed: Some(1),
        ..Config::default()
    };
    config.planning.arms = vec![kind.label().to_owned()];
    // No node dies here, and a busy machine must not look like it.
    config.workers.silence_ms = SILENCE_MS;
    fleet::on_free_ports(&mut config);
    Fleet::start(config, nodes, false).await
}

fn only_arm(status: &StatusResponse, name: &str) -> Option<ArmStatus> {
    let model = status.models.iter().find(|model| model.model == name)?;
    model.arms.first().cloned()
}

async fn send(args: &Verify, client: Client, payloads: Arc<Payloads>, arm: &str) -> Summary {
    let mut summary = Summary::new(Duration::ZERO, None);
    let bar = bar(arm, Duration::ZERO);
    bar.set_length(payloads.len() as u64);
    let run = Run {
        connections: vec![client],
        mode: Mode::Closed {
            clients: args.concurrency,
            slas: SlaMix::new(vec![(SLA, 1.0)]),
            seed: 1,
        },
        // As long as it takes.
        duration: Duration::from_secs(86_400),
        requests: payloads.len() as u64,
        in_order: true,
        timeout: SLA,
        in_flight: args.concurrency,
        payloads,
    };
    engine::run(run, |outcome| {
        summary.add(&outcome);
        bar.inc(1);
    })
    .await;
    bar.finish_and_clear();
    summary
}

/// Writes the package with that variant only, and what was measured of it.
pub(crate) fn alone(package: &Package, variant: &Variant, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut one = package.clone();
    one.variants.retain(|other| other.name == variant.name);
    one.records.retain(|record| record.variant == variant.name);
    for (file, _, content) in one.files() {
        let path = folder.join(file);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        replace(&path, content)?;
    }
    if let Some(measured) = &package.tables {
        let mut measured = measured.clone();
        measured.variants.retain(|table| table.name == variant.name);
        if !measured.variants.is_empty() {
            replace(&folder.join(tables::FILE), measured.to_text().as_bytes())?;
        }
    }
    replace(
        &folder.join(MANIFEST_FILE),
        one.written_manifest().as_bytes(),
    )
}

fn row(
    package: &Package,
    variant: &Variant,
    data: &DataSet,
    arm: &ArmStatus,
    summary: &Summary,
    answers: &mut Option<Answers>,
) -> anyhow::Result<Row> {
    let has_exits = arm.kind == ArmKind::Exits.label();
    let is_from_tables = package.tables.as_ref().is_some_and(|measured| {
        let is_same = measured.data.sha256 == data.sha256
            && usize::try_from(measured.data.samples).is_ok_and(|count| count == data.len());
        is_same && measured.variant(&variant.name).is_some()
    });
    let expected = if is_from_tables {
        arm.accuracy
    } else {
        if answers.is_none() {
            *answers = Some(measure::answers(package, variant, data)?);
        }
        let Some(answers) = answers else {
            bail!("nothing was answered here");
        };
        let thresholds = variant.exits.iter().map(|exit| exit.threshold);
        let thresholds: Vec<f32> = if has_exits {
            thresholds.collect()
        } else {
            Vec::new()
        };
        answers.accuracy(&thresholds)
    };
    let hops = || arm.branches.iter().flat_map(|branch| &branch.hops);
    // The last hop's codec is that of the way back, where nothing is coded.
    let codecs: BTreeSet<String> = arm
        .branches
        .iter()
        .flat_map(|branch| branch.hops.windows(2))
        .filter(|pair| pair[0].node != pair[1].node)
        .map(|pair| pair[0].codec.clone())
        .collect();
    let is_lossless = codecs.iter().all(|codec| {
        let codec: Option<Codec> = codec.parse().ok();
        codec.is_some_and(Codec::is_lossless)
    });
    let served = summary.all.accuracy().unwrap_or(0.0);
    Ok(Row {
        arm: arm.arm.clone(),
        kind: arm.kind.clone(),
        nodes: hops().map(|hop| &hop.node).collect::<BTreeSet<_>>().len(),
        codecs,
        pictures: data.len(),
        lost: summary.lost(),
        expected,
        is_from_tables,
        served,
        exits: summary.all.exits.clone(),
        held: summary.lost() == 0 && (!is_lossless || (served - expected).abs() < TOLERANCE),
    })
}

fn print(rows: &[Row], place: Place) {
    let mut table = place.table([
        "arm",
        "nodes",
        "codecs",
        "pictures",
        "lost",
        "expected",
        "served",
        "difference",
        "answers by exit",
        "held",
    ]);
    for row in rows {
        let exits = row
            .exits
            .iter()
            .map(|(name, count)| format!("{name} {count}"));
        let exits = exits.collect::<Vec<_>>().join(", ");
        let codecs = row.codecs.iter().cloned().collect::<Vec<_>>().join(", ");
        table.add_row([
            row.arm.clone(),
            row.nodes.to_string(),
            codecs,
            row.pictures.to_string(),
            row.lost.to_string(),
            format!(
                "{}{}",
                percent(Some(row.expected)),
                if row.is_from_tables {
                    ""
                } else {
                    " by the engine"
                }
            ),
            percent(Some(row.served)),
            format!("{:+.2}", (row.served - row.expected) * 100.0),
            if row.exits.len() > 1 {
                exits
            } else {
                String::new()
            },
            if row.held { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    place.show(&table);
}
