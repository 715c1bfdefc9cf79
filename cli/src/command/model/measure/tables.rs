//! From what was counted to a variant's table.

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use splitplace_onnx::{
    Value,
    exits::costs,
    package::VariantKind,
    tables::{
        BranchTable, CodecTable, CutTable, ExitRecord, ExitTable, FINAL, Latency, Record,
        VariantTable,
    },
};
use splitplace_plan::FragmentId;

use super::{
    exits::{histogram, share, top1, transitions},
    part::{PartRun, mean, percentile},
    state::Partial,
    thresholds::thresholds,
    variant::VariantRun,
};

/// Samples that times are taken on.
const TIMED_SAMPLES: usize = 32;

/// Everything that was measured of a variant; times are taken here, with nothing else running.
pub(super) fn table(
    run: &VariantRun<'_>,
    partial: &Partial,
    record: &ExitRecord,
    tolerance: f64,
    settings: String,
) -> anyhow::Result<VariantTable> {
    let package = run.package;
    let inputs = (0..TIMED_SAMPLES.min(run.data.len()))
        .map(|at| run.input(at * run.data.len() / TIMED_SAMPLES.min(run.data.len())))
        .collect::<anyhow::Result<Vec<Value>>>()?;
    let mut branches = Vec::new();
    for part in &run.parts {
        let layers = 0..part.graph().layers().len();
        branches.push(BranchTable {
            file: part.file.clone(),
            macs: part.graph().macs(layers.clone()),
            parameter_bytes: part.graph().parameter_bytes(layers),
            memory_bytes: part.memory_bytes,
            latency: part.latency(&inputs)?,
        });
    }
    let sum = |of: fn(&BranchTable) -> u64| branches.iter().map(of).sum();
    let slowest = branches.iter().map(|branch| branch.latency);
    let slowest = slowest.reduce(|a, b| match a.mean < b.mean {
        true => b,
        false => a,
    });
    let exits = exits(run, record, &inputs)?;
    let macs: Vec<u64> = exits.iter().map(|exit| exit.macs).collect();
    let has_exits = !exits.is_empty();
    let bytes = record.to_bytes();
    Ok(VariantTable {
        name: run.variant.name.clone(),
        settings,
        files: run
            .variant
            .parts
            .iter()
            .map(|part| (part.file.clone(), FragmentId(part.sha256).hex()))
            .collect(),
        top1: top1(record, record.exits() - 1),
        macs: sum(|branch| branch.macs),
        parameter_bytes: sum(|branch| branch.parameter_bytes),
        file_bytes: run
            .parts
            .iter()
            .map(|part| PartRun::file_bytes(package, &part.file))
            .sum(),
        memory_bytes: sum(|branch| branch.memory_bytes),
        latency: slowest.context("it has no part")?,
        branches_missing: partial
            .missing
            .iter()
            .map(|&right| share(usize::try_from(right).unwrap_or(0), record.samples()))
            .collect(),
        branches: match run.variant.kind {
            VariantKind::Semantic => branches,
            VariantKind::Whole => Vec::new(),
        },
        thresholds: has_exits.then(|| thresholds(record, &macs, tolerance)),
        record: has_exits.then(|| Record {
            file: format!("exits-{}.bin", run.variant.name),
            sha256: FragmentId(Sha256::digest(&bytes).into()).hex(),
        }),
        exits,
        cuts: cuts(run, partial),
    })
}

fn exits(
    run: &VariantRun<'_>,
    record: &ExitRecord,
    inputs: &[Value],
) -> anyhow::Result<Vec<ExitTable>> {
    if run.variant.exits.is_empty() {
        return Ok(Vec::new());
    }
    let part = &run.parts[0];
    let outputs = run.outputs();
    let ids = outputs.iter().map(|name| {
        let found = part.graph().find(name);
        found.with_context(|| format!("the network has no '{name}'"))
    });
    let ids = ids.collect::<anyhow::Result<Vec<_>>>()?;
    let costs = costs(part.graph(), &ids);
    let histograms: Vec<_> = (0..outputs.len()).map(|at| histogram(record, at)).collect();
    let names = run.variant.exits.iter().map(|exit| exit.name.as_str());
    let mut tables = Vec::new();
    for (at, (name, output)) in names.chain([FINAL]).zip(&outputs).enumerate() {
        let here = &histograms[at];
        let is_end = at + 1 == outputs.len();
        tables.push(ExitTable {
            name: name.to_owned(),
            output: (*output).to_owned(),
            macs: costs[at].macs,
            head_macs: costs[at].head_macs,
            latency: match is_end {
                true => part.latency(inputs)?,
                false => part.exit_latency(&costs[at], inputs)?,
            },
            top1: top1(record, at),
            edges: here.edges.clone(),
            share: here.share.clone(),
            correct: here.correct.clone(),
            next: histograms
                .get(at + 1)
                .map_or(Vec::new(), |next| transitions(here, next)),
        });
    }
    // Times are noisy; to come further never takes less.
    let mut least = Latency {
        mean: 0.0,
        p95: 0.0,
    };
    for table in &mut tables {
        least.mean = least.mean.max(table.latency.mean);
        least.p95 = least.p95.max(table.latency.p95);
        table.latency = least;
    }
    Ok(tables)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes"
)]
#[expect(clippy::cast_precision_loss, reason = "counts of samples")]
fn cuts(run: &VariantRun<'_>, partial: &Partial) -> Vec<CutTable> {
    let samples = partial.coded;
    let correct = |right: u64| share(usize::try_from(right).unwrap_or(0), samples);
    let exact = correct(partial.exact);
    let mut tables = Vec::new();
    for (number, part) in run.parts.iter().enumerate() {
        let graph = part.graph();
        for (boundary, cells) in partial.cells[number].iter().enumerate() {
            let at = &part.chain.boundaries[boundary];
            let outlets = at.outlets.iter().map(|&id| graph.outlet(id));
            let mut codecs: Vec<CodecTable> = Vec::new();
            for (codec, cell) in run.codecs.iter().zip(cells) {
                if samples == 0 {
                    continue;
                }
                codecs.push(CodecTable {
                    name: codec.to_string(),
                    bytes: mean(&cell.bytes),
                    bytes_p95: percentile(&mut cell.bytes.clone(), 95) as u64,
                    top1: correct(cell.correct),
                    encode: cell.encode / samples as f64,
                    decode: cell.decode / samples as f64,
                });
            }
            if boundary == 0 && samples > 0 && run.package.preprocess.is_some() {
                codecs.push(CodecTable {
                    name: PICTURE.into(),
                    bytes: mean(&partial.picture_bytes),
                    bytes_p95: percentile(&mut partial.picture_bytes.clone(), 95) as u64,
                    top1: exact,
                    encode: 0.0,
                    decode: 0.0,
                });
            }
            tables.push(CutTable {
                part: u32::try_from(number).unwrap_or(u32::MAX),
                position: at.position as u64,
                tensors: part.crossing(boundary),
                raw_bytes: outlets.map(|outlet| outlet.bytes).sum(),
                macs_before: graph.macs(0..at.position),
                samples: samples as u64,
                top1: exact,
                codecs,
            });
        }
    }
    tables
}

/// Not a codec of tensors: the input crosses as the picture's own file.
const PICTURE: &str = "picture";
