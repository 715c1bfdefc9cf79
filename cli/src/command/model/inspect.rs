//! `splitplace model inspect`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{macs, open, picture::draw, shape};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// An ONNX file.
    model: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Columns of the picture.
    #[arg(long, default_value_t = 80)]
    width: usize,
}

pub(super) fn run(args: &Inspect) -> anyhow::Result<ExitCode> {
    let imported = open(&args.model)?;
    let graph = &imported.graph;
    let count = graph.layers().len();
    let (total, weights) = (graph.macs(0..count), graph.parameter_bytes(0..count));
    let largest = graph
        .layers()
        .iter()
        .map(|layer| layer.activation_bytes)
        .max();
    let ports = |ids: &[splitplace_graph::OutletId]| -> Vec<serde_json::Value> {
        ids.iter()
            .map(|&id| {
                let outlet = graph.outlet(id);
                serde_json::json!({
                    "name": outlet.name,
                    "element": outlet.element.label(),
                    "shape": outlet.shape,
                    "bytes": outlet.bytes,
                })
            })
            .collect()
    };
    if args.json {
        let layers: Vec<_> = graph
            .layers()
            .iter()
            .enumerate()
            .map(|(position, layer)| {
                let after = graph.prefix_cut(position + 1);
                serde_json::json!({
                    "position": position,
                    "name": layer.name,
                    "operator": layer.operator,
                    "macs": layer.macs,
                    "parameter_bytes": layer.parameter_bytes,
                    "activation_bytes": layer.activation_bytes,
                    "outputs": ports(&layer.outputs),
                    "crossing_bytes": after.map(|cut| cut.bytes(graph)),
                })
            })
            .collect();
        output::json(&serde_json::json!({
            "model": args.model,
            "batched": imported.model.is_batched,
            "macs": total,
            "parameter_bytes": weights,
            "largest_activation_bytes": largest,
            "inputs": ports(graph.inputs()),
            "outputs": ports(graph.outputs()),
            "layers": layers,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::table([
        "#",
        "layer",
        "operator",
        "MACs",
        "weights",
        "activations",
        "makes",
        "bytes",
    ]);
    for (position, layer) in graph.layers().iter().enumerate() {
        let outlets = || layer.outputs.iter().map(|&id| graph.outlet(id));
        let shapes: Vec<_> = outlets().map(|outlet| shape(&outlet.shape)).collect();
        let bytes: u64 = outlets().map(|outlet| outlet.bytes).sum();
        table.add_row([
            position.to_string(),
            layer.name.clone(),
            layer.operator.clone(),
            macs(layer.macs),
            output::bytes(layer.parameter_bytes),
            output::bytes(layer.activation_bytes),
            shapes.join(" "),
            output::bytes(bytes),
        ]);
    }
    println!("{table}");
    println!("{}", draw(graph, args.width));
    println!(
        "{count} layers, {} multiply-accumulates for one sample, weights {}, largest activations {}, {}",
        macs(total),
        output::bytes(weights),
        output::bytes(largest.unwrap_or(0)),
        if imported.model.is_batched {
            "any batch"
        } else {
            "fixed batch"
        },
    );
    println!(
        "{} cuts of one tensor; `splitplace model cuts` lists them",
        graph.single_cuts().len()
    );
    Ok(ExitCode::SUCCESS)
}
