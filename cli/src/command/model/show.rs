//! `splitplace model show`: a package and its measurements, for people.

mod text;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use splitplace_onnx::{Limits, Package, Variant, package::VariantKind};

pub(super) use self::text::{Place, print, smallest};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Folder of a package, or an ONNX file.
    folder: PathBuf,
    /// Every codec at every cut, and the histograms of exits.
    #[arg(long)]
    all: bool,
    /// Tables for Markdown documents.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Show) -> anyhow::Result<ExitCode> {
    let package = Package::open(&args.folder, &Limits::default())?;
    if args.json {
        output::json(&json(&package))?;
        return Ok(ExitCode::SUCCESS);
    }
    let place = match args.markdown {
        true => Place::Markdown,
        false => Place::Terminal,
    };
    print(&package, place);
    if args.all {
        for variant in package.tables.iter().flat_map(|tables| &tables.variants) {
            text::print_histograms(variant, place);
            text::print_codecs(variant, place);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn json(package: &Package) -> serde_json::Value {
    let variants = package.variants.iter().map(|variant| {
        serde_json::json!({
            "name": variant.name,
            "kind": kind(variant),
            "technique": variant.technique.map(splitplace_onnx::Technique::label),
            "files": variant.parts.iter().map(|part| &part.file).collect::<Vec<_>>(),
            "exits": variant.exits.iter().map(|exit| serde_json::json!({
                "name": exit.name, "output": exit.output, "threshold": exit.threshold,
            })).collect::<Vec<_>>(),
            "accuracy": variant.accuracy,
        })
    });
    serde_json::json!({
        "name": package.name,
        "version": package.version,
        "description": package.description,
        "licence": package.licence,
        "default_sla_ms": package.default_sla.as_secs_f64() * 1e3,
        "preprocess": package.preprocess,
        "variants": variants.collect::<Vec<_>>(),
        "measured": package.tables,
    })
}

fn kind(variant: &Variant) -> &'static str {
    match variant.kind {
        VariantKind::Whole => "whole",
        VariantKind::Semantic => "semantic",
    }
}
