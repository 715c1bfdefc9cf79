//! `splitplace model plot`: accuracy against work, time, memory and bytes, as SVG.

mod svg;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use clap::Args;
use splitplace_onnx::{
    Limits, Package,
    tables::{CutTable, Setting, Tables, VariantTable},
};

use self::svg::{Chart, Mark, Point, Series};
use super::{replace, show::smallest};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Plot {
    /// Folders of measured packages.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// Folder for the pictures; it is made.
    #[arg(long, short = 'o', value_name = "DIR")]
    output: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Plot) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot make {}", args.output.display()))?;
    let mut written = Vec::new();
    for folder in &args.folders {
        let package = Package::open(folder, &Limits::default())?;
        let tables = package.tables.as_ref().with_context(|| {
            format!(
                "{} was not measured; `splitplace model measure` does",
                folder.display()
            )
        })?;
        let charts = [
            ("work", against_work(&package, tables)),
            ("time", against_time(&package, tables)),
            ("memory", against_memory(&package, tables)),
            ("bytes", against_bytes(&package, tables)),
        ];
        for (name, chart) in charts {
            let path = args.output.join(format!("{}-{name}.svg", package.name));
            ensure!(
                !written.contains(&path),
                "two packages are named '{}'; plot them into different folders",
                package.name
            );
            replace(&path, chart.draw().as_bytes())?;
            written.push(path);
        }
    }
    if args.json {
        output::json(&written)?;
    } else {
        written
            .iter()
            .for_each(|path| println!("{}", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is drawn along the horizontal axis.
type Cost = fn(&VariantTable) -> f64;

#[expect(clippy::cast_precision_loss, reason = "a place on paper")]
fn against_work(package: &Package, tables: &Tables) -> Chart {
    let mut chart = chart(
        package,
        tables,
        "million multiply-accumulates of one sample",
    );
    variants(&mut chart, package, tables, |variant| {
        variant.macs as f64 / 1e6
    });
    exits(&mut chart, tables, |macs, _| macs / 1e6);
    chart
}

fn against_time(package: &Package, tables: &Tables) -> Chart {
    let mut chart = chart(
        package,
        tables,
        "milliseconds of one core for one sample, slowest branch",
    );
    variants(&mut chart, package, tables, |variant| {
        variant.latency.mean * 1e3
    });
    exits(&mut chart, tables, |_, seconds| seconds * 1e3);
    chart
}

#[expect(clippy::cast_precision_loss, reason = "a place on paper")]
fn against_memory(package: &Package, tables: &Tables) -> Chart {
    let mut chart = chart(
        package,
        tables,
        "megabytes that the engine takes, largest branch",
    );
    variants(&mut chart, package, tables, |variant| {
        let branches = variant.branches.iter().map(|branch| branch.memory_bytes);
        branches.max().unwrap_or(variant.memory_bytes) as f64 / 1e6
    });
    chart
}

/// The codecs at the first variant's cuts: every form at every cut with the fewest bytes.
fn against_bytes(package: &Package, tables: &Tables) -> Chart {
    let mut chart = chart(package, tables, "bytes of one sample on the link");
    chart.is_logarithmic = true;
    let Some(variant) = tables
        .variants
        .iter()
        .find(|variant| !variant.cuts.is_empty())
    else {
        return chart;
    };
    chart.title = format!(
        "{}, variant {}: cuts and codecs",
        package.name, variant.name
    );
    let inner = || variant.cuts.iter().filter(|cut| 0 < cut.position);
    let forms = [
        ("raw", "exact"),
        ("f16", "f16"),
        ("u8", "8 bits"),
        ("u6", "6 bits"),
        ("u4", "4 bits"),
    ];
    for (prefix, name) in forms {
        let best = |cut: &CutTable| {
            let codec = smallest(cut, |codec| codec.name.starts_with(prefix))?;
            Some(Point {
                x: codec.bytes,
                y: codec.top1 * 100.0,
                label: String::new(),
            })
        };
        chart.series.push(Series {
            name: name.into(),
            mark: Mark::Dots,
            points: inner().filter_map(best).collect(),
        });
    }
    let input = variant.cuts.iter().find(|cut| cut.position == 0);
    if let Some(picture) = input.and_then(|cut| cut.codec("picture")) {
        chart.series.push(Series {
            name: "the picture's file".into(),
            mark: Mark::Dots,
            points: vec![Point {
                x: picture.bytes,
                y: picture.top1 * 100.0,
                label: String::new(),
            }],
        });
    }
    chart
}

fn chart(package: &Package, tables: &Tables, x: &str) -> Chart {
    Chart {
        title: format!("{} on {}", package.name, tables.data.name),
        x: x.into(),
        y: "correct answers, %".into(),
        is_logarithmic: false,
        series: Vec::new(),
    }
}

/// A point for each variant, by kind.
fn variants(chart: &mut Chart, package: &Package, tables: &Tables, cost: Cost) {
    for (name, is_it) in [
        ("whole", [true, false, false]),
        ("semantic", [false, true, false]),
        ("compressed", [false, false, true]),
    ] {
        let points: Vec<Point> = tables
            .variants
            .iter()
            .filter(|table| {
                let mut all = package.variants.iter();
                let variant = all.find(|variant| variant.name == table.name);
                let is_compressed = variant.is_some_and(|variant| variant.technique.is_some());
                let is_semantic = !table.branches.is_empty();
                is_it
                    == [
                        !is_compressed && !is_semantic,
                        is_semantic,
                        is_compressed && !is_semantic,
                    ]
            })
            .map(|table| Point {
                x: cost(table),
                y: table.top1 * 100.0,
                label: table.name.clone(),
            })
            .collect();
        if !points.is_empty() {
            chart.series.push(Series {
                name: name.into(),
                mark: Mark::Dots,
                points,
            });
        }
    }
}

/// Of the first variant with exits: if everybody left at one of them, as a line; and what the recommended
/// thresholds do, as points. Other variants' exits would lie on top of these.
fn exits(chart: &mut Chart, tables: &Tables, cost: fn(f64, f64) -> f64) {
    let mut with_exits = tables
        .variants
        .iter()
        .filter(|variant| !variant.exits.is_empty());
    let Some(variant) = with_exits.next() else {
        return;
    };
    #[expect(clippy::cast_precision_loss, reason = "a place on paper")]
    let costs: Vec<f64> = variant
        .exits
        .iter()
        .map(|exit| cost(exit.macs as f64, exit.latency.mean))
        .collect();
    chart.series.push(Series {
        name: format!("{}: all leave at one exit", variant.name),
        mark: Mark::Line,
        points: variant
            .exits
            .iter()
            .zip(&costs)
            .map(|(exit, &x)| Point {
                x,
                y: exit.top1 * 100.0,
                label: match exit.next.is_empty() {
                    true => String::new(),
                    false => exit.name.clone(),
                },
            })
            .collect(),
    });
    if let Some(thresholds) = &variant.thresholds {
        let mean = |setting: &Setting| setting.leave.iter().zip(&costs).map(|(s, c)| s * c).sum();
        let point = |setting: &Setting, label: &str| Point {
            x: mean(setting),
            y: setting.top1 * 100.0,
            label: label.into(),
        };
        chart.series.push(Series {
            name: format!("{}: leave by confidence, mean", variant.name),
            mark: Mark::Diamonds,
            points: vec![
                point(&thresholds.common, "one threshold"),
                point(&thresholds.each, "one each"),
            ],
        });
    }
}
