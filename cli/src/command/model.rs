//! `splitplace model`: what a network costs, where it can be cut, and fragments on disk.
//!
//! Reading order: `inspect`, `cuts`, `cut`, `check`.

mod check;
mod cut;
mod cuts;
mod inspect;
mod manifest;
mod picture;

use std::{path::Path, process::ExitCode};

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
}

pub(crate) fn run(command: ModelCommand) -> anyhow::Result<ExitCode> {
    match command {
        ModelCommand::Inspect(args) => inspect::run(&args),
        ModelCommand::Cuts(args) => cuts::run(&args),
        ModelCommand::Cut(args) => cut::run(&args),
        ModelCommand::Check(args) => check::run(&args),
    }
}

fn open(path: &Path) -> anyhow::Result<Imported> {
    let limits = Limits::default();
    Ok(import(Model::open(path, &limits)?, &limits)?)
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
