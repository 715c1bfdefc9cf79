//! Seconds on this machine: of a fragment, of both sides of a cut, of a codec. Processor time of one thread, so that
//! what else runs counts little; medians.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use splitplace_codec::{Codec, Element as Kind, Limits as CodecLimits, Spec, decode};
use splitplace_graph::Element;
use splitplace_onnx::{Limits, Prepared, Value, cut_layers, prepare};
use splitplace_plan::partition::Choice;

use super::source::Source;
use crate::command::model::thread_time;

/// Fewest and most runs of one thing, and time after which there are no more.
const RUNS: (usize, usize) = (3, 60);
const TIME: Duration = Duration::from_millis(150);

/// The median of the seconds that `work` takes, after one run to warm up.
pub(super) fn median(mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    work()?;
    let (begin, mut times) = (Instant::now(), Vec::new());
    while times.len() < RUNS.0 || (times.len() < RUNS.1 && begin.elapsed() < TIME) {
        let before = thread_time();
        work()?;
        times.push(thread_time().saturating_sub(before).as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Seconds of one sample through a fragment.
pub(super) fn seconds(prepared: &Prepared) -> anyhow::Result<f64> {
    let inputs: Vec<Value> = prepared
        .zeros()
        .into_iter()
        .map(|mut value| {
            if value.element == Element::F32 {
                let elements: u64 = value.shape.iter().product();
                value.chunks = vec![activations(elements).into()];
            }
            value
        })
        .collect();
    median(|| Ok(prepared.run(&inputs).map(drop)?))
}

/// Made-up activations as after a ReLU: half of them zero, the others from a sum of uniform numbers.
fn activations(elements: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut unit = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    };
    let value = (0..elements).map(|_| (unit() + unit() + unit()).max(0.0));
    value.flat_map(f32::to_le_bytes).collect()
}

/// Seconds of codecs by bytes, each measured once.
#[derive(Default)]
pub(super) struct Coding {
    /// Encode and decode of a large tensor and of a small one.
    known: BTreeMap<Codec, [(f64, f64); 2]>,
}

/// Elements of the two tensors that a codec's speed is measured with.
const ELEMENTS: [u64; 2] = [1024, 131_072];

impl Coding {
    /// To encode and to decode so many bytes of f32, by a line through two sizes.
    pub(super) fn seconds(&mut self, codec: Codec, bytes: u64) -> anyhow::Result<(f64, f64)> {
        let known = match self.known.get(&codec) {
            Some(known) => *known,
            None => {
                let mut known = [(0.0, 0.0); 2];
                for (slot, elements) in known.iter_mut().zip(ELEMENTS) {
                    *slot = code(codec, elements)?;
                }
                self.known.insert(codec, known);
                known
            }
        };
        let at = (bytes as f64 / 4.0 - ELEMENTS[0] as f64) / (ELEMENTS[1] - ELEMENTS[0]) as f64;
        let line = |small: f64, large: f64| (small + at * (large - small)).max(1e-7);
        let [small, large] = known;
        Ok((line(small.0, large.0), line(small.1, large.1)))
    }
}

/// Encodes and decodes once and again.
fn code(codec: Codec, elements: u64) -> anyhow::Result<(f64, f64)> {
    let shape = [1, 32, i64::try_from(elements / 32)?];
    let spec = Spec {
        element: Kind::F32,
        shape: &shape,
    };
    let tensor = activations(elements / 32 * 32);
    let mut coded = Vec::new();
    let encode = median(|| {
        coded.clear();
        codec.encode(&spec, &tensor, &mut coded)?;
        Ok(())
    })?;
    let decode = median(|| Ok(decode(&coded, &spec, CodecLimits::default()).map(drop)?))?;
    Ok((encode, decode))
}

/// Both sides of cuts, each run once as fragments of their own.
#[derive(Default)]
pub(super) struct Pairs {
    known: BTreeMap<Vec<bool>, (f64, f64)>,
}

impl Pairs {
    /// Seconds of what is before and behind a cut on this machine, coding left out.
    pub(super) fn seconds(
        &mut self,
        source: &Source,
        layers: &[Option<usize>],
        first: &[bool],
    ) -> anyhow::Result<(f64, f64)> {
        if let Some(known) = self.known.get(first) {
            return Ok(*known);
        }
        let side = |is_first: bool| -> anyhow::Result<f64> {
            let on_it = layers
                .iter()
                .zip(first)
                .filter(|(_, first)| **first == is_first);
            let set: BTreeSet<usize> = on_it.clone().filter_map(|(layer, _)| *layer).collect();
            let has_picture = on_it.into_iter().any(|(layer, _)| layer.is_none());
            let picture = source
                .picture
                .filter(|_| has_picture)
                .map_or(0.0, |(_, s)| s);
            if set.is_empty() {
                return Ok(picture);
            }
            let fragment = cut_layers(&source.imported, &set, 0, 2)?;
            let prepared = prepare(&source.name, fragment.onnx, &Limits::default())?;
            Ok(picture + seconds(&prepared)?)
        };
        let pair = (side(true)?, side(false)?);
        self.known.insert(first.to_vec(), pair);
        Ok(pair)
    }

    /// All cuts that were run.
    pub(super) fn known(&self) -> impl Iterator<Item = (&Vec<bool>, &(f64, f64))> {
        self.known.iter()
    }
}

/// What a choice would take when both sides take these seconds instead of the predicted ones.
pub(super) fn measured(choice: &Choice, coding: (f64, f64), pair: (f64, f64), ratio: f64) -> f64 {
    let (encode, decode) = coding;
    pair.0 * ratio + encode + choice.stages.link + decode + pair.1 + choice.stages.delay
}
