//! `splitplace crds`: the custom resources' definitions.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, anyhow};
use clap::Args;

use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Crds {
    /// Write one file each into this folder, instead of all to standard output.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Crds) -> Result<ExitCode> {
    for (file, text) in splitplace_k8s::crds::yaml().map_err(|error| anyhow!(error))? {
        match &args.dir {
            None => print!("---\n{text}"),
            Some(folder) => {
                let path = folder.join(file);
                output::write(&path, text)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
