//! `splitplace model check`.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use clap::Args;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest as _, Sha256};
use splitplace_graph::Element;
use splitplace_onnx::{Limits, Model, Prepared, Value, engine, prepare};

use super::manifest::Manifest;
use crate::{load::engine::floats, output};

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// A folder that `splitplace model cut` wrote.
    folder: PathBuf,
    /// Samples to run.
    #[arg(long, default_value_t = 1)]
    batch: u64,
    /// Largest difference that counts as the same, relative to the largest element.
    #[arg(long, default_value_t = 1e-5)]
    tolerance: f64,
    /// Seed of the input's noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Check) -> anyhow::Result<ExitCode> {
    let limits = Limits::default();
    let manifest = Manifest::read(&args.folder)?;
    let model = Model::open(&manifest.model, &limits)?;
    let whole = engine::prepare_model(&model)?;
    let given = noise(&whole, args.batch, args.seed)?;
    let wanted = whole.run(&given)?;
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    known.extend(given.into_iter().map(|value| (value.name.clone(), value)));
    for entry in &manifest.fragments {
        let path = args.folder.join(&entry.file);
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        ensure!(
            splitplace_plan::FragmentId(digest).hex() == entry.sha256,
            "{} is not the fragment that was written: its hash differs",
            path.display()
        );
        let prepared = prepare(&entry.file, bytes.into(), &limits)?;
        let inputs = prepared.inputs.iter().map(|port| {
            let value = known.get(&port.name).cloned();
            value.with_context(|| {
                format!("{} takes '{}', which nothing made", entry.file, port.name)
            })
        });
        let inputs: Vec<Value> = inputs.collect::<anyhow::Result<_>>()?;
        for value in prepared.run(&inputs)? {
            known.insert(value.name.clone(), value);
        }
    }
    let mut largest = 0.0_f64;
    let mut table = output::table(["output", "shape", "largest difference"]);
    let mut rows = Vec::new();
    for value in &wanted {
        let got = known
            .get(&value.name)
            .with_context(|| format!("no fragment made output '{}'", value.name))?;
        let difference = difference(value, got);
        largest = if difference.is_nan() {
            f64::INFINITY
        } else {
            largest.max(difference)
        };
        table.add_row([
            value.name.clone(),
            super::shape(&value.shape),
            format!("{difference:.2e}"),
        ]);
        rows.push(serde_json::json!({ "output": value.name, "difference": difference }));
    }
    let is_same = largest <= args.tolerance;
    if args.json {
        output::json(&serde_json::json!({
            "fragments": manifest.fragments.len(),
            "largest_difference": largest,
            "tolerance": args.tolerance,
            "same": is_same,
            "outputs": rows,
        }))?;
    } else {
        println!("{table}");
        println!(
            "{} fragments, largest difference {largest:.2e}, relative to the largest element: {}",
            manifest.fragments.len(),
            if is_same { "the same" } else { "NOT the same" }
        );
    }
    Ok(if is_same {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(output::NO)
    })
}

/// Seeded inputs between 0 and 1, or small whole numbers.
fn noise(prepared: &Prepared, batch: u64, seed: u64) -> anyhow::Result<Vec<Value>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut values = Vec::new();
    for port in &prepared.inputs {
        let mut shape = port.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first *= batch;
        }
        let count: u64 = shape.iter().product();
        let mut bytes = Vec::new();
        for _ in 0..count {
            match port.element {
                Element::F32 => bytes.extend(rng.random::<f32>().to_le_bytes()),
                Element::F64 => bytes.extend(rng.random::<f64>().to_le_bytes()),
                Element::I32 => bytes.extend(rng.random_range(0..8_i32).to_le_bytes()),
                Element::I64 => bytes.extend(rng.random_range(0..8_i64).to_le_bytes()),
                Element::U8 => bytes.push(rng.random()),
                other => anyhow::bail!(
                    "input '{}' has type {other}, which is not made here",
                    port.name
                ),
            }
        }
        values.push(Value {
            name: port.name.clone(),
            element: port.element,
            shape,
            chunks: vec![bytes.into()],
        });
    }
    Ok(values)
}

/// Largest difference of two tensors over the largest element of the first.
fn difference(a: &Value, b: &Value) -> f64 {
    let (left, right) = (a.chunks.concat(), b.chunks.concat());
    if a.element != Element::F32 {
        return if left == right { 0.0 } else { f64::INFINITY };
    }
    let (left, right) = (floats(&left), floats(&right));
    if left.len() != right.len() {
        return f64::INFINITY;
    }
    let scale = left
        .iter()
        .fold(1e-6_f64, |most, x| most.max(f64::from(x.abs())));
    let mut most = 0.0_f64;
    for (x, y) in left.iter().zip(&right) {
        let difference = (f64::from(*x) - f64::from(*y)).abs();
        if difference.is_nan() {
            return f64::NAN;
        }
        most = most.max(difference);
    }
    most / scale
}
