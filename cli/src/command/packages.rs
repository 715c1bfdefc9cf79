//! `splitplace packages`: the packages that travel in the binary, as files.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use crate::shipped;

#[derive(Debug, Args)]
pub(crate) struct Packages {
    /// Where to: each package gets a folder of its own there.
    folder: PathBuf,
    /// Only this one.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

pub(crate) fn run(args: &Packages) -> anyhow::Result<ExitCode> {
    shipped::write_packages(&args.folder, args.only.as_deref())?;
    Ok(ExitCode::SUCCESS)
}
