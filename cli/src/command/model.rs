//! `splitplace model`: what a network costs, where it can be cut, fragments on disk; packages made,
//! measured, shown and plotted.
//!
//! Reading order: `inspect`, `cuts`, `cut`, `check`; `make`, `measure`, `show`, `plot`, `verify`.

mod check;
mod cut;
mod cuts;
mod inspect;
mod make;
mod manifest;
mod measure;
mod picture;
mod plot;
mod show;
pub(crate) mod verify;

pub(crate) use self::measure::{seconds_here, thread_time};

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
use clap::Subcommand;
use splitplace_onnx::{Imported, Limits, Model, import};

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Show layers, costs, totals, and a picture of bytes and work along the network.
    Inspect(inspect::Inspect),
    /// List where the network can be cut.
    Cuts(cuts::Cuts),
    /// Write fragments as ONNX files of their own.
    Cut(cut::CutModel),
    /// Run fragments one after another against the whole network.
    Check(check::Check),
    /// Make a package from a description and its ONNX files, or from one plain ONNX file.
    Make(Box<make::Make>),
    /// Run every variant, exit, cut and codec of a package on labelled pictures, and write its tables.
    Measure(measure::Measure),
    /// Show what a package is and what was measured of it.
    Show(show::Show),
    /// Draw accuracy against work, time, memory and bytes.
    Plot(plot::Plot),
    /// Serve every way to run a package and compare its answers with the tables.
    Verify(verify::Verify),
}

pub(crate) async fn run(command: ModelCommand) -> anyhow::Result<ExitCode> {
    match command {
        ModelCommand::Inspect(args) => inspect::run(&args),
        ModelCommand::Cuts(args) => cuts::run(&args),
        ModelCommand::Cut(args) => cut::run(&args),
        ModelCommand::Check(args) => check::run(&args),
        ModelCommand::Make(args) => make::run(&args),
        ModelCommand::Measure(args) => measure::run(&args),
        ModelCommand::Show(args) => show::run(&args),
        ModelCommand::Plot(args) => plot::run(&args),
        ModelCommand::Verify(args) => verify::run(&args).await,
    }
}

fn open(path: &Path) -> anyhow::Result<Imported> {
    let limits = Limits::default();
    Ok(import(Model::open(path, &limits)?, &limits)?)
}

/// Writes a file beside its place first, so that nobody ever sees half of it.
fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&beside)?;
        std::io::Write::write_all(&mut file, content)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A count of multiply-accumulates for people.
fn macs(macs: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let m = macs as f64;
    match m {
        m if m < 1e3 => format!("{m:.0}"),
        m if m < 1e6 => format!("{:.1} k", m / 1e3),
        m if m < 1e9 => format!("{:.1} M", m / 1e6),
        _ => format!("{:.2} G", m / 1e9),
    }
}

fn shape(shape: &[u64]) -> String {
    let dims: Vec<_> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(", "))
}
