//! `splitplace model cut`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use sha2::{Digest as _, Sha256};
use splitplace_onnx::{Imported, cut_many};

use super::{
    macs,
    manifest::{Entry, Manifest},
    open,
};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct CutModel {
    /// An ONNX file.
    model: PathBuf,
    /// Cut through these tensors; given again, cut once more further on.
    #[arg(
        long,
        value_name = "TENSOR[,TENSOR…]",
        required_unless_present = "parts"
    )]
    at: Vec<String>,
    /// Cut into this many fragments with work as even as possible.
    #[arg(long, conflicts_with = "at")]
    parts: Option<usize>,
    /// Folder for the fragments; it is made.
    #[arg(long, short = 'o', value_name = "DIR")]
    output: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CutModel) -> anyhow::Result<ExitCode> {
    let imported = open(&args.model)?;
    let cuts: Vec<Vec<String>> = match args.parts {
        Some(parts) => even(&imported, parts)?,
        None => args
            .at
            .iter()
            .map(|at| at.split(',').map(|name| name.trim().to_owned()).collect())
            .collect(),
    };
    let fragments = cut_many(&imported, &cuts)?;
    std::fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot make {}", args.output.display()))?;
    let mut entries = Vec::new();
    for (number, fragment) in fragments.iter().enumerate() {
        let file = format!("{number}.onnx");
        let path = args.output.join(&file);
        output::write(&path, &fragment.onnx)?;
        let names =
            |ports: &[splitplace_onnx::Port]| ports.iter().map(|port| port.name.clone()).collect();
        entries.push(Entry {
            file,
            sha256: fragment.id.hex(),
            inputs: names(&fragment.inputs),
            outputs: names(&fragment.outputs),
            macs: fragment.macs,
            parameter_bytes: fragment.parameter_bytes,
        });
    }
    let model = std::fs::canonicalize(&args.model)
        .with_context(|| format!("cannot find {}", args.model.display()))?;
    let content =
        std::fs::read(&model).with_context(|| format!("cannot read {}", model.display()))?;
    let digest: [u8; 32] = Sha256::digest(&content).into();
    let manifest = Manifest {
        model,
        model_sha256: splitplace_plan::FragmentId(digest).hex(),
        fragments: entries,
    };
    manifest.write(&args.output)?;
    if args.json {
        output::json(&manifest)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::table(["file", "MACs", "weights", "bytes", "takes", "makes"]);
    for (entry, fragment) in manifest.fragments.iter().zip(&fragments) {
        table.add_row([
            entry.file.clone(),
            macs(entry.macs),
            output::bytes(entry.parameter_bytes),
            output::bytes(fragment.onnx.len() as u64),
            entry.inputs.join(", "),
            entry.outputs.join(", "),
        ]);
    }
    println!("{table}");
    println!(
        "{} fragments in {}; `splitplace model check {}` compares them with the whole",
        fragments.len(),
        args.output.display(),
        args.output.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Cuts of one tensor for `parts` fragments with work as even as possible.
fn even(imported: &Imported, parts: usize) -> anyhow::Result<Vec<Vec<String>>> {
    let graph = &imported.graph;
    let chain = graph.chain();
    let may = |at: usize| {
        let cut = graph.prefix_cut(chain.boundaries[at].position);
        cut.is_some_and(|cut| imported.is_runnable(&cut))
    };
    let cuts = chain.balanced(parts, may).with_context(|| {
        format!(
            "the network cannot be cut into {parts} parts: it has {} cuts of one tensor; --at cuts \
             through several",
            chain.len().saturating_sub(1)
        )
    })?;
    let names = |&at: &usize| {
        let boundary = &chain.boundaries[at];
        boundary
            .outlets
            .iter()
            .map(|&id| graph.outlet(id).name.clone())
            .collect()
    };
    Ok(cuts.iter().map(names).collect())
}
