//! `splitplace lab splits`: where each method parts networks, by uplink and by how much slower the device is.

mod clock;
mod grid;
mod report;
mod source;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use splitplace_onnx::speed;

pub(super) use self::source::{Settings, Source};

use self::grid::{Grid, Network};
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
    /// Most accuracy that a codec may cost.
    #[arg(long, default_value_t = 0.002)]
    codec_cost: f64,
    /// Bytes of a picture's file for networks without measurements: the mean of 200 ImageNet photographs.
    #[arg(long, default_value_t = 108_101)]
    picture_bytes: u64,
    /// Write everything to this file as JSON, and plots beside it.
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
    let mut networks = Vec::new();
    for path in &paths {
        let source = Source::open(path, settings)
            .with_context(|| format!("{} cannot be parted", path.display()))?;
        networks.push(fill(&source, &args.grid())?);
    }
    let told = report::json(&args.grid(), speed, &networks);
    if let Some(path) = &args.report {
        output::report(path, &told)?;
        for network in &networks {
            for (what, text) in report::plots(args.show, network) {
                draw(path, &format!("{}-{what}", network.name), &text)?;
            }
        }
    }
    if args.json {
        output::json(&told)?;
    } else {
        report::show(args.show, &networks, args.markdown);
    }
    Ok(ExitCode::SUCCESS)
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

fn fill(source: &Source, grid: &Grid) -> anyhow::Result<Network> {
    let bar = twin::bar(&format!("{} parted", source.name), grid.cells());
    let network = grid::network(source, grid, &mut || bar.inc(1));
    bar.finish_and_clear();
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_real_network_with_branches_no_method_predicts_less_than_the_exact_one() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../models/testdata/inception.onnx"
        );
        let settings = Settings {
            codec_cost: 0.002,
            picture_bytes: 3000,
        };
        let source = Source::open(Path::new(path), settings).unwrap();
        let grid = Grid {
            uplinks: vec![0.5, 50.0],
            ratios: vec![10.0],
            delay: 0.001,
            load: 0.8,
            loss: 0.01,
            places: 10,
            watts: (1.3, 0.8),
        };
        let network = fill(&source, &grid).unwrap();
        assert_eq!(network.cells.len(), 2);
        for cell in &network.cells {
            let of = |name: &str| cell.choice(name).expect("every method chooses");
            let exact = of("exact").predicted;
            for choice in &cell.choices {
                let name = choice.method;
                assert!(exact <= choice.predicted * (1.0 + 1e-9), "{name}");
                assert!(
                    choice.measured > 0.0 && choice.measured.is_finite(),
                    "{name}"
                );
            }
            assert!((of("DADS light").predicted - exact).abs() <= 1e-9 * exact + 1e-9);
            let stage = of("exact, busiest stage").stage;
            assert!(stage <= of("DADS heavy").stage * (1.0 + 1e-9));
            assert!(of("device only").share == 1.0 && of("server only").share == 0.0);
            assert!(cell.regret >= -1e-9, "the best of all is among them");
        }
        // The device needs the same whatever the link.
        let device = |cell: usize| network.cells[cell].choice("device only").unwrap().measured;
        assert!((device(0) - device(1)).abs() < 1e-9);
        let told = report::json(&grid, 1e9, std::slice::from_ref(&network));
        assert_eq!(told["networks"][0]["cells"].as_array().unwrap().len(), 2);
        assert_eq!(report::plots(10.0, &network).len(), 2);
    }
}
