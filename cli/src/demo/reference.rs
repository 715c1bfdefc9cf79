//! What answers must be: the whole network, run in this process on the same pictures.
//!
//! The network in one piece, as a chain, and at each of its exits must give the same scores as here. Where a
//! codec on the way loses something, and for other variants, there is no such reference: their answers must
//! repeat themselves while a plan is in force, and their accuracy must be what the package claims.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde::Deserialize;
use splitplace_codec::Codec;
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
    /// For each picture the scores of each exit, by its name; the end has none.
    scores: Vec<BTreeMap<String, Vec<f32>>>,
    /// Share of the pictures that the whole network gets right.
    pub(crate) accuracy: f64,
    /// First answer of everything else: by arm, plan, exit and picture.
    seen: BTreeMap<(String, u64, String, usize), Vec<f32>>,
    /// Answers compared.
    pub(crate) compared: u64,
    /// Those among them that were compared with the whole network.
    pub(crate) exact: u64,
    /// Largest difference among all.
    pub(crate) largest: f32,
    /// Answers that differ by more than rounding.
    pub(crate) wrong: u64,
    /// One of them.
    pub(crate) example: Option<String>,
}

/// What answers call the network's end.
const LAST: &str = "last";

/// What is looked at in the trail of an answer.
#[derive(Deserialize)]
struct Hop {
    #[serde(default)]
    codec: String,
}

/// Whether every codec of an answer's trail gives back what it was given.
fn is_lossless(hops: &str) -> bool {
    let hops: Vec<Hop> = serde_json::from_str(hops).unwrap_or_default();
    hops.iter().all(|hop| {
        let codec: Option<Codec> = hop.codec.parse().ok();
        codec.is_none_or(Codec::is_lossless)
    })
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
        let end = package
            .outputs
            .first()
            .context("the package gives nothing")?;
        let exits = whole
            .exits
            .iter()
            .map(|exit| (&exit.name[..], &exit.output[..]));
        let outputs: Vec<_> = exits.chain([(LAST, &end.name[..])]).collect();
        let mut scores = Vec::with_capacity(pictures.len());
        for at in 0..pictures.len() {
            scores.push(run(&prepared, pictures.floats(at).into(), &outputs)?);
            told(at + 1);
        }
        let right = scores.iter().zip(&pictures.labels);
        let right = right.filter(|(by_exit, label)| {
            let best = by_exit.get(LAST).and_then(|row| greatest(row));
            best == Some(usize::from(**label))
        });
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let accuracy = right.count() as f64 / pictures.len() as f64;
        Ok(Self {
            accuracy,
            variant: whole.name.clone(),
            scores,
            seen: BTreeMap::new(),
            compared: 0,
            exact: 0,
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
        let exit = match answered.exit.as_str() {
            "" => LAST,
            exit => exit,
        };
        let known = self.scores[picture].get(exit);
        let wanted = match known.filter(|_| is_known && is_lossless(&answered.hops)) {
            Some(known) => {
                self.exact += 1;
                known
            }
            None => {
                let exit = exit.to_owned();
                let key = (answered.arm.clone(), answered.generation, exit, picture);
                self.seen.entry(key).or_insert_with(|| scores.clone())
            }
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

/// The scores of these outputs, by the exits that they belong to.
fn run(
    prepared: &Prepared,
    picture: Bytes,
    outputs: &[(&str, &str)],
) -> Result<BTreeMap<String, Vec<f32>>> {
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
    let values = prepared.run(&[value])?;
    let of = |&(exit, output): &(&str, &str)| {
        let scores = values.iter().find(|value| value.name == output);
        let scores = scores.with_context(|| format!("the network gives no '{output}'"))?;
        Ok((exit.to_owned(), floats(&scores.chunks.concat())))
    };
    outputs.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_is_exact_if_every_codec_is() {
        assert!(is_lossless(
            r#"[{"node":"a","codec":"raw"},{"codec":"raw-zrans"}]"#
        ));
        assert!(!is_lossless(r#"[{"codec":"raw"},{"codec":"u8-rans"}]"#));
        assert!(is_lossless(""));
    }
}
