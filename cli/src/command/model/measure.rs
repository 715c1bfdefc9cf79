//! `splitplace model measure`: what a package can do, found out with the worker's own engine.
//!
//! For each variant: its time and memory; every sample through the whole (one run a sample); some samples
//! through every cut and codec (for each cut one run of the second half for each form of numbers, since
//! codecs of one form give the same numbers back; first halves are run once). `measured.toml` is written
//! after each variant; within one, partial results are kept and taken up again.
//!
//! Reading order: `part` (a file made ready), `variant` (the two passes), `exits` (histograms),
//! `thresholds`, `state`, `tables` (numbers to tables).

mod exits;
mod part;
mod state;
mod tables;
mod thresholds;
mod variant;

pub(crate) use self::part::{seconds_here, thread_time};
pub(super) use self::variant::Answers;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use splitplace_codec::Codec;
use splitplace_onnx::{
    Limits, Package, Variant,
    package::MANIFEST_FILE,
    speed,
    tables::{DataSet as DataFacts, FILE, Machine, Tables, VariantTable},
};

use self::{state::State, variant::VariantRun};
use super::{make, replace, show};
use crate::{dataset::DataSet, output};

/// Codecs that are measured when nothing is said.
const CODECS: &str =
    "raw,raw-zstd,f16,f16-rans,u8-zrans,u8-crans,u8c-zrans,u6c-zrans,u4c-zrans,u4c-crans";

#[derive(Debug, Args)]
pub(crate) struct Measure {
    /// Folder of a package.
    folder: PathBuf,
    /// Labelled pictures: a folder of IDX files, a folder with a sub-folder for each class, a .tar or
    /// .tar.xz of one. A `test` part is taken where there is one.
    #[arg(long, value_name = "DATASET")]
    data: PathBuf,
    /// File with a line for each picture, its name and its class, when folders do not say.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Threads; 0 for one per core.
    #[arg(long, short = 'j', default_value_t = 0)]
    jobs: usize,
    /// Pictures to take, spread evenly over all; all without it.
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Pictures that go through every cut and codec, spread evenly over those taken; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    codec_samples: usize,
    /// Codecs to try at every cut.
    #[arg(long, value_delimiter = ',', default_value = CODECS, value_name = "NAME[,…]")]
    codecs: Vec<String>,
    /// Variant to measure; can be given many times. All without it.
    #[arg(long = "variant", value_name = "NAME")]
    variants: Vec<String>,
    /// Most accuracy that recommended thresholds of exits may cost.
    #[arg(long, default_value_t = 0.005, value_name = "SHARE")]
    tolerance: f64,
    /// Measure anew what was measured already.
    #[arg(long)]
    again: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Measure) -> anyhow::Result<ExitCode> {
    ensure!(
        args.folder.join(MANIFEST_FILE).is_file(),
        "{} is no package: it has no {MANIFEST_FILE}; `splitplace model make` makes one",
        args.folder.display()
    );
    ensure!(
        (0.0..=1.0).contains(&args.tolerance),
        "--tolerance must lie between 0 and 1"
    );
    let limits = Limits::default();
    let package = Package::open_unmeasured(&args.folder, &limits)?;
    for name in &args.variants {
        let is_known = package.variants.iter().any(|variant| variant.name == *name);
        ensure!(is_known, "the package has no variant '{name}'");
    }
    let codecs = codecs(&args.codecs)?;
    let classes = package
        .outputs
        .first()
        .map_or(&[][..], |output| &output.labels);
    let mut data = DataSet::open(&args.data, classes, args.labels.as_deref())?;
    if let Some(samples) = args.samples {
        ensure!(samples > 0, "--samples must be at least 1");
        data.keep(samples);
    }
    check_labels(&package, &data)?;
    let mut tables = known(args, &package, &data)?;
    let mut state = State::new(&args.folder);
    for variant in &package.variants {
        let is_asked = args.variants.is_empty() || args.variants.contains(&variant.name);
        let settings = settings(args, &package, variant, &data);
        let has = tables.variant(&variant.name);
        let is_known = !args.again && has.is_some_and(|table| table.settings == settings);
        if !is_asked || is_known {
            if is_asked && !args.json {
                println!(
                    "{}: measured already; --again measures it anew",
                    variant.name
                );
            }
            continue;
        }
        let table = measure(
            args, &package, variant, &data, &codecs, &mut state, settings,
        )?;
        put(&mut tables, table, &package);
        replace(&args.folder.join(FILE), tables.to_text().as_bytes())?;
        state.clear()?;
    }
    let measured = Package::open(&args.folder, &limits)?;
    if args.json {
        output::json(&measured.tables)?;
    } else {
        show::print(&measured, show::Place::Terminal);
    }
    Ok(ExitCode::SUCCESS)
}

/// The codecs of these names, `raw` first, each once.
fn codecs(names: &[String]) -> anyhow::Result<Vec<Codec>> {
    let mut codecs = vec![Codec::RAW];
    for name in names.iter().filter(|name| !name.is_empty()) {
        let codec: Codec = name.parse()?;
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    Ok(codecs)
}

fn check_labels(package: &Package, data: &DataSet) -> anyhow::Result<()> {
    let Some(scores) = package.outputs.first() else {
        bail!("the package has no output");
    };
    let classes = scores.sample_shape().last().copied().unwrap_or(0);
    let beyond = (0..data.len()).map(|at| data.label(at)).max();
    if let Some(label) = beyond.filter(|&label| classes <= u64::from(label)) {
        bail!(
            "{} has class {label}, the package scores {classes} classes",
            data.name
        );
    }
    Ok(())
}

/// Tables to go on with: those that are there, if they belong to these files and these data.
fn known(args: &Measure, package: &Package, data: &DataSet) -> anyhow::Result<Tables> {
    let facts = DataFacts {
        name: data.name.clone(),
        sha256: data.sha256.clone(),
        samples: data.len() as u64,
    };
    let old = make::measured(&args.folder).filter(|old| old.data == facts);
    let speed = speed::macs_per_second(20, thread_time)?;
    let machine = Machine {
        engine: splitplace_onnx::ENGINE.into(),
        cores: std::thread::available_parallelism()
            .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
        macs_per_second: speed,
    };
    let mut tables = Tables {
        format: 1,
        data: facts,
        machine,
        variants: old.map_or(Vec::new(), |old| old.variants),
    };
    tables.keep_what_fits(package);
    Ok(tables)
}

/// A hash over everything that a variant's numbers depend on.
fn settings(args: &Measure, package: &Package, variant: &Variant, data: &DataSet) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    add(splitplace_onnx::ENGINE);
    add(&data.sha256);
    add(&format!(
        "{} {} {}",
        data.len(),
        args.codec_samples,
        args.tolerance
    ));
    add(&args.codecs.join(","));
    add(&format!("{:?}", package.preprocess));
    add(&format!("{:?} {:?}", variant.kind, variant.merge));
    for part in &variant.parts {
        add(&format!("{:?} {:?}", part.sha256, part.classes));
    }
    for exit in &variant.exits {
        add(&exit.name);
        add(&exit.output);
    }
    let digest: [u8; 32] = hash.finalize().into();
    splitplace_plan::FragmentId(digest).hex()[..16].to_owned()
}

fn measure(
    args: &Measure,
    package: &Package,
    variant: &Variant,
    data: &DataSet,
    codecs: &[Codec],
    state: &mut State,
    settings: String,
) -> anyhow::Result<VariantTable> {
    let jobs = match args.jobs {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        jobs => jobs,
    };
    let run = VariantRun::new(package, variant, data, codecs, jobs)?;
    let mut partial = match args.again {
        true => None,
        false => state.read(&settings),
    }
    .unwrap_or_default();
    partial.key.clone_from(&settings);
    let count = args.codec_samples.min(data.len());
    let chosen: Vec<usize> = (0..count).map(|at| at * data.len() / count).collect();
    let exits = run.outputs().len();
    let bar = bar(&variant.name, "samples", data.len());
    bar.set_position((partial.said.len() / exits) as u64);
    run.pass_over_all(&mut partial, state, &bar)?;
    bar.finish_and_clear();
    let bar = self::bar(&variant.name, "samples through cuts and codecs", count);
    bar.set_position(partial.coded as u64);
    run.pass_over_codecs(&chosen, &mut partial, state, &bar)?;
    bar.finish_and_clear();
    let record = run.record(&partial);
    let table = tables::table(&run, &partial, &record, args.tolerance, settings)
        .with_context(|| format!("variant '{}'", variant.name))?;
    if let Some(file) = &table.record {
        replace(&args.folder.join(&file.file), &record.to_bytes())?;
    }
    Ok(table)
}

/// What a variant says of every sample, by the engine, on every core.
pub(super) fn answers(
    package: &Package,
    variant: &Variant,
    data: &DataSet,
) -> anyhow::Result<Answers> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    VariantRun::new(package, variant, data, &[], jobs)?.answers()
}

fn bar(variant: &str, what: &str, count: usize) -> ProgressBar {
    let bar = ProgressBar::new(count as u64);
    let style = ProgressStyle::with_template(
        "{prefix} {bar:30} {pos}/{len} {msg}, {elapsed} gone, {eta} to go",
    );
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_prefix(variant.to_owned());
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// Puts a variant's table where the package's order has it.
fn put(tables: &mut Tables, table: VariantTable, package: &Package) {
    tables.variants.retain(|other| other.name != table.name);
    tables.variants.push(table);
    let order = |name: &str| {
        let mut variants = package.variants.iter();
        variants.position(|variant| variant.name == name)
    };
    tables.variants.sort_by_key(|table| order(&table.name));
}
