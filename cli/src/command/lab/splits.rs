//! `splitplace lab splits`: where each method parts networks, by uplink and by how much slower the device is.

mod choosing;
mod clock;
mod gains;
mod grid;
mod plots;
mod ready;
mod report;
mod sharing;
mod source;
mod switches;
mod tables;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use comfy_table::{ContentArrangement, presets};
use splitplace_onnx::speed;

pub(super) use self::source::{Settings, Source};

use self::{
    clock::Segments,
    grid::{Grid, Network},
};
use crate::{
    command::{model::thread_time, twin},
    output,
};

/// Networks that are parted when none is named, as far as they are there.
const USUAL: [&str; 5] = [
    "models/packages/fashion-mnist",
    "models/packages/cifar10",
    "models/packages/mobilenetv2-imagenet",
    "models/out/resnet50-v2/resnet50-v2.onnx",
    "models/out/inception-v3/inception-v3.onnx",
];

#[derive(Debug, Args)]
pub(crate) struct Splits {
    /// Folders of packages and ONNX files. Without any: the packages below models/packages, and what
    /// `models/big/export.py` has written to models/out.
    networks: Vec<PathBuf>,
    /// Uplinks in Mbit/s.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0.1,0.2,0.5,1,2,5,10,20,50,100,200,500,1000"
    )]
    uplink: Vec<f64>,
    /// How many times slower the device is than the server.
    #[arg(long, value_delimiter = ',', default_value = "2,5,10,20,50")]
    ratio: Vec<f64>,
    /// The ratio of the tables and plots that show one only.
    #[arg(long, default_value_t = 10.0)]
    show: f64,
    /// Milliseconds that any use of the server costs beside bytes, both ways together.
    #[arg(long, default_value_t = 5.0)]
    delay: f64,
    /// Arrivals of the choice under load, as a share of the highest rate that any cut could carry.
    #[arg(long, default_value_t = 0.8)]
    load: f64,
    /// Share of requests that may be lost under load.
    #[arg(long, default_value_t = 0.01)]
    loss: f64,
    /// Places of device, link and server under load.
    #[arg(long, default_value_t = 10)]
    places: usize,
    /// Watts of the device while it computes, and while it sends, for the choice by energy.
    #[arg(long, value_delimiter = ',', num_args = 1, default_value = "1.3,0.8")]
    watts: Vec<f64>,
    /// Loads of the server, in times as long as when it is idle, at which it is said where the choice changes.
    #[arg(long, value_delimiter = ',', default_value = "1,2,5,10")]
    server_load: Vec<f64>,
    /// Devices that share the server, on uplinks by fours around each: for IAO and the threshold search.
    #[arg(long, default_value_t = 3)]
    devices: usize,
    /// Cores of the server that they share, and that all networks share.
    #[arg(long, default_value_t = 6)]
    cores: usize,
    /// Mbit/s from the device to a node at its side, and milliseconds of delay each way: for chains.
    #[arg(long, value_delimiter = ',', num_args = 1, default_value = "1000,0.5")]
    near: Vec<f64>,
    /// Milliseconds that choosing may take: it is said whether it does.
    #[arg(long, default_value_t = 50.0)]
    bar: f64,
    /// Most accuracy that a codec may cost.
    #[arg(long, default_value_t = 0.002)]
    codec_cost: f64,
    /// Bytes of a picture's file for networks without measurements: the mean of 200 ImageNet photographs.
    #[arg(long, default_value_t = 108_101)]
    picture_bytes: u64,
    /// Write everything to this file as JSON, and beside it the tables of all ratios as Markdown and plots.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// As JSON.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Tables as Markdown.
    #[arg(long)]
    markdown: bool,
}

impl Splits {
    fn check(&self) -> anyhow::Result<()> {
        let within = |numbers: &[f64], low: f64, high: f64| {
            !numbers.is_empty() && numbers.iter().all(|number| (low..=high).contains(number))
        };
        ensure!(
            within(&self.uplink, 1e-3, 1e6),
            "--uplink must lie in 0.001 to 1000000 Mbit/s"
        );
        ensure!(
            within(&self.ratio, 0.01, 1e4),
            "--ratio must lie in 0.01 to 10000"
        );
        ensure!(
            self.ratio.contains(&self.show),
            "--show {} must be one of --ratio",
            self.show
        );
        ensure!(
            within(&[self.delay], 0.0, 1e5),
            "--delay must lie in 0 to 100000 ms"
        );
        ensure!(
            within(&[self.load], 0.01, 10.0),
            "--load must lie in 0.01 to 10"
        );
        ensure!(within(&[self.loss], 0.0, 1.0), "--loss must be a share");
        ensure!(
            (1..=1000).contains(&self.places),
            "--places must lie in 1 to 1000"
        );
        ensure!(
            self.watts.len() == 2 && within(&self.watts, 0.0, 1e6),
            "--watts must be two numbers, for computing and for sending"
        );
        ensure!(
            within(&self.server_load, 0.01, 1e4),
            "--server-load must lie in 0.01 to 10000"
        );
        ensure!(
            (1..=16).contains(&self.devices) && (1..=64).contains(&self.cores),
            "--devices must lie in 1 to 16, --cores in 1 to 64"
        );
        ensure!(
            self.near.len() == 2
                && within(&self.near[..1], 1e-3, 1e6)
                && within(&self.near[1..], 0.0, 1e5),
            "--near must be two numbers, Mbit/s and milliseconds"
        );
        ensure!(
            within(&[self.bar], 1e-3, 1e6),
            "--bar must lie in 0.001 to 1000000 ms"
        );
        Ok(())
    }

    fn grid(&self) -> Grid {
        Grid {
            uplinks: self.uplink.clone(),
            ratios: self.ratio.clone(),
            delay: self.delay / 1e3,
            load: self.load,
            loss: self.loss,
            places: self.places,
            watts: (self.watts[0], self.watts[1]),
            loads: self.server_load.clone(),
            devices: self.devices,
            cores: self.cores,
            near: (self.near[0], self.near[1] / 1e3),
            bar: self.bar / 1e3,
        }
    }
}

pub(super) fn run(args: &Splits) -> anyhow::Result<ExitCode> {
    args.check()?;
    let paths = usual(&args.networks)?;
    let settings = Settings {
        codec_cost: args.codec_cost,
        picture_bytes: args.picture_bytes,
    };
    let speed = speed::macs_per_second(20, thread_time)?;
    let grid = args.grid();
    let (mut sources, mut segments, mut networks) = (Vec::new(), Vec::new(), Vec::new());
    for path in &paths {
        let source = Source::open(path, settings)
            .with_context(|| format!("{} cannot be parted", path.display()))?;
        let mut ran = Segments::default();
        networks.push(fill(&source, &grid, &mut ran)?);
        sources.push(source);
        segments.push(ran);
    }
    let together = sharing::together(&sources, &mut segments, &networks, &grid)?;
    let told = report::json(&grid, speed, &networks, &together);
    if let Some(path) = &args.report {
        output::report(path, &told)?;
        let tables = tables::all(&grid, &grid.ratios, &networks, &together);
        let said = tables::sentences(&grid, &networks);
        output::write(&path.with_extension("md"), markdown(tables, &said))?;
        for network in &networks {
            for (what, text) in plots::all(args.show, network) {
                draw(path, &format!("{}-{what}", network.name), &text)?;
            }
        }
    }
    if args.json {
        output::json(&told)?;
        return Ok(ExitCode::SUCCESS);
    }
    let tables = tables::all(&grid, &[args.show], &networks, &together);
    let said = tables::sentences(&grid, &networks);
    if args.markdown {
        println!("{}", markdown(tables, &said));
    } else {
        for (title, table) in tables {
            println!("{title}\n{table}");
        }
        for sentence in said.iter().map(String::as_str).chain(NOTES) {
            println!("{sentence}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How the numbers came about.
const NOTES: [&str; 2] = [report::MEASURED, report::CORES];

fn markdown(tables: Vec<tables::Titled>, said: &[String]) -> String {
    let mut text = String::new();
    for (title, mut table) in tables {
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_content_arrangement(ContentArrangement::Disabled);
        _ = write!(text, "\n### {title}\n\n{table}\n");
    }
    text.push('\n');
    for sentence in said.iter().map(String::as_str).chain(NOTES) {
        _ = writeln!(text, "- {sentence}");
    }
    text
}

/// The networks that are named, or else those of [`USUAL`] that are there.
pub(super) fn usual(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = named.to_vec();
    if paths.is_empty() {
        paths.extend(USUAL.iter().map(PathBuf::from).filter(|path| path.exists()));
    }
    ensure!(
        !paths.is_empty(),
        "there is no network here: name packages or ONNX files, or run this where models/packages is"
    );
    Ok(paths)
}

fn draw(beside: &Path, what: &str, text: &str) -> anyhow::Result<()> {
    let path = beside.with_extension(format!("{what}.svg"));
    output::write(&path, text)
}

fn fill(source: &Source, grid: &Grid, segments: &mut Segments) -> anyhow::Result<Network> {
    let bar = twin::bar(&format!("{} parted", source.name), grid.cells());
    let network = grid::network(source, grid, segments, &mut || bar.inc(1));
    bar.finish_and_clear();
    network
}

#[cfg(test)]
mod tests;
