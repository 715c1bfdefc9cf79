//! `splitplace model cuts`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use splitplace_graph::Cut;
use splitplace_onnx::Imported;

use super::{macs, open, shape};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Cuts {
    /// An ONNX file.
    model: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Tensors of one cut at most: 1 lists the cuts of one tensor only.
    #[arg(long, default_value_t = 4)]
    width: usize,
    /// Cuts of several tensors tried within one block (between two neighbouring cuts of one tensor).
    #[arg(long, default_value_t = 64)]
    per_block: usize,
}

pub(super) fn run(args: &Cuts) -> anyhow::Result<ExitCode> {
    let imported = open(&args.model)?;
    let graph = &imported.graph;
    let mut cuts = graph.single_cuts();
    if args.width > 1 {
        cuts.extend(graph.multi_cuts(args.per_block, args.width));
    }
    cuts.sort_by(|a, b| (a.before.len(), &a.outlets).cmp(&(b.before.len(), &b.outlets)));
    if args.json {
        let cuts: Vec<_> = cuts.iter().map(|cut| json(&imported, cut)).collect();
        output::json(&serde_json::json!({ "model": args.model, "cuts": cuts }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let total = graph.macs(0..graph.layers().len()).max(1);
    let mut table = output::table([
        "layers before",
        "tensors",
        "shapes",
        "bytes",
        "MACs before",
        "share",
        "",
    ]);
    for cut in &cuts {
        let outlets = || cut.outlets.iter().map(|&id| graph.outlet(id));
        let names: Vec<_> = outlets().map(|outlet| outlet.name.clone()).collect();
        let shapes: Vec<_> = outlets().map(|outlet| shape(&outlet.shape)).collect();
        let before = macs_before(&imported, cut);
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        let share = before as f64 / total as f64;
        table.add_row([
            cut.before.len().to_string(),
            names.join(","),
            shapes.join(" "),
            output::bytes(cut.bytes(graph)),
            macs(before),
            format!("{:.1} %", share * 100.0),
            if imported.is_runnable(cut) {
                String::new()
            } else {
                "shapes only: cannot run".into()
            },
        ]);
    }
    println!("{table}");
    let single = cuts.iter().filter(|cut| cut.outlets.len() == 1).count();
    println!(
        "{single} cuts of one tensor, {} of up to {} tensors; cut with `splitplace model cut {} --at \
         TENSOR[,TENSOR…]`",
        cuts.len() - single,
        args.width,
        args.model.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn macs_before(imported: &Imported, cut: &Cut) -> u64 {
    let layers = imported.graph.layers();
    cut.before
        .iter()
        .map(|&position| layers[position].macs)
        .sum()
}

fn json(imported: &Imported, cut: &Cut) -> serde_json::Value {
    let graph = &imported.graph;
    let names = |ids: &[splitplace_graph::OutletId]| -> Vec<String> {
        ids.iter()
            .map(|&id| graph.outlet(id).name.clone())
            .collect()
    };
    let shapes: Vec<_> = cut
        .outlets
        .iter()
        .map(|&id| graph.outlet(id).shape.clone())
        .collect();
    serde_json::json!({
        "layers_before": cut.before.len(),
        "tensors": names(&cut.outlets),
        "carried": names(&cut.carried),
        "shapes": shapes,
        "bytes": cut.bytes(graph),
        "macs_before": macs_before(imported, cut),
        "runnable": imported.is_runnable(cut),
    })
}
