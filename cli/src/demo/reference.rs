//! What answers must be: the whole network, run in this process on the same pictures.
//!
//! A chain must give the same scores as the whole network. A semantic variant has no such reference; its
//! answers must repeat themselves, and their accuracy must be what its package claims.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use splitplace_onnx::{Limits, Package, Prepared, Value, VariantKind, prepare};

use crate::{
    load::engine::{Answered, floats, greatest},
    shipped::Pictures,
};

/// Largest difference of two scores that count as the same. Scores are logarithms of probabilities;
/// fragments and the whole network differ by the rounding of 32-bit floats.
const TOLERANCE: f32 = 1e-3;

/// Scores that answers are compared with, and what the comparison found.
#[derive(Debug)]
pub(crate) struct Reference {
    /// Variant whose answers are known in advance.
    variant: String,
    scores: Vec<Vec<f32>>,
    /// Share of the pictures that the whole network gets right.
    pub(crate) accuracy: f64,
    /// First answer of every other arm to each picture.
    seen: BTreeMap<(String, usize), Vec<f32>>,
    /// Answers compared.
    pub(crate) compared: u64,
    /// Largest difference among them.
    pub(crate) largest: f32,
    /// Answers that differ by more than rounding.
    pub(crate) wrong: u64,
    /// One of them.
    pub(crate) example: Option<String>,
}

impl Reference {
    /// Runs the whole network of a package over pictures. `told` hears how many are done.
    pub(crate) fn compute(
        package: &std::path::Path,
        pictures: &Pictures,
        mut told: impl FnMut(usize),
    ) -> Result<Self> {
        let package = Package::open(package, &Limits::default())?;
        let whole = package
            .variants
            .iter()
            .find(|variant| variant.kind == VariantKind::Whole);
        let whole = whole.context("the package has no whole network to compare with")?;
        let part = whole
            .parts
            .first()
            .context("the whole network has no file")?;
        let prepared = prepare(&whole.name, part.content.clone(), &Limits::default())?;
        let mut scores = Vec::with_capacity(pictures.len());
        for at in 0..pictures.len() {
            scores.push(run(&prepared, pictures.floats(at).into())?);
            told(at + 1);
        }
        let right = scores.iter().zip(&pictures.labels);
        let right = right.filter(|(row, label)| greatest(row) == Some(usize::from(**label)));
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let accuracy = right.count() as f64 / pictures.len() as f64;
        Ok(Self {
            accuracy,
            variant: whole.name.clone(),
            scores,
            seen: BTreeMap::new(),
            compared: 0,
            largest: 0.0,
            wrong: 0,
            example: None,
        })
    }

    /// Compares an answer to a picture.
    pub(crate) fn compare(&mut self, picture: usize, answered: &Answered) {
        if !answered.missing.is_empty() {
            return;
        }
        let scores = floats(&answered.scores);
        let is_known =
            answered.arm == self.variant || answered.arm.starts_with(&format!("{}/", self.variant));
        let wanted = if is_known {
            &self.scores[picture]
        } else {
            let key = (answered.arm.clone(), picture);
            self.seen.entry(key).or_insert_with(|| scores.clone())
        };
        self.compared += 1;
        let difference = if wanted.len() == scores.len() {
            let pairs = wanted.iter().zip(&scores);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        } else {
            f32::INFINITY
        };
        self.largest = self.largest.max(difference);
        // Not a number is wrong too.
        if !matches!(difference.partial_cmp(&TOLERANCE), Some(order) if order.is_le()) {
            self.wrong += 1;
            self.example.get_or_insert_with(|| {
                format!(
                    "picture {picture} by {}: {scores:?} instead of {wanted:?}",
                    answered.arm
                )
            });
        }
    }
}

fn run(prepared: &Prepared, picture: Bytes) -> Result<Vec<f32>> {
    let port = prepared
        .inputs
        .first()
        .context("the network takes nothing")?;
    let value = Value {
        name: port.name.clone(),
        element: port.element,
        shape: port.shape.clone(),
        chunks: vec![picture],
    };
    let outputs = prepared.run(&[value])?;
    let scores = outputs.first().context("the network gives nothing")?;
    Ok(floats(&scores.chunks.concat()))
}
