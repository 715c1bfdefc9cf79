//! Seconds on this machine: of a fragment, of segments, of a codec; what several cores do. Processor time of one thread,
//! so that what else runs counts little; medians.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use splitplace_codec::{Codec, Element as Kind, Limits as CodecLimits, Spec, decode};
use splitplace_graph::Element;
use splitplace_onnx::{Prepared, Value};

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

/// Segments as fragments of their own, each run once.
#[derive(Default)]
pub(super) struct Segments {
    known: BTreeMap<BTreeSet<usize>, f64>,
}

impl Segments {
    /// Seconds of these layers on this machine; `None` stands for making the input of the picture.
    pub(super) fn seconds(
        &mut self,
        source: &Source,
        layers: &[Option<usize>],
    ) -> anyhow::Result<f64> {
        let set: BTreeSet<usize> = layers.iter().copied().flatten().collect();
        let has_picture = layers.iter().any(Option::is_none);
        let picture = source.picture.filter(|_| has_picture);
        let picture = picture.map_or(0.0, |(_, seconds)| seconds);
        if set.is_empty() {
            return Ok(picture);
        }
        if let Some(known) = self.known.get(&set) {
            return Ok(picture + known);
        }
        let took = seconds(&source.prepared(&set)?)?;
        self.known.insert(set, took);
        Ok(picture + took)
    }

    /// How many were run.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

/// How many times as much is done with 1, 2, … `most` cores as with one, and how many of them were measured: as many
/// as this machine has.
///
/// With `n` cores `n` threads run the fragment at once; what a run costs each of them (processor time) grows with what
/// they take from one another. Beyond what was measured, contention is taken to grow as it did: `n / (1 + s (n - 1))`
/// with the last one's `s`. Without a second core there is nothing to go on, and more cores are no faster.
pub(super) fn curve(prepared: &Prepared, most: usize) -> anyhow::Result<(Vec<f64>, usize)> {
    let here = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let measured = most.clamp(1, here);
    let alone = seconds(prepared)?;
    let mut curve = vec![1.0];
    for threads in 2..=measured {
        let each = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..threads)
                .map(|_| scope.spawn(|| seconds(prepared)))
                .collect();
            let runs = runs.into_iter().map(|run| match run.join() {
                Ok(seconds) => seconds,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            runs.collect::<anyhow::Result<Vec<f64>>>()
        })?;
        let each = each.iter().sum::<f64>() / threads as f64;
        curve.push(threads as f64 * (alone / each).min(1.0));
    }
    Ok((extended(curve, most), measured))
}

fn extended(mut curve: Vec<f64>, most: usize) -> Vec<f64> {
    let (count, last) = (curve.len() as f64, curve.last().copied().unwrap_or(1.0));
    if curve.len() > 1 {
        let contention = ((count / last - 1.0) / (count - 1.0)).max(0.0);
        for cores in curve.len() + 1..=most {
            let cores = cores as f64;
            curve.push(cores / (1.0 + contention * (cores - 1.0)));
        }
    }
    curve
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_contends_as_what_was() {
        // 2 / (1 + s) = 1.6: s = 0.25, so 3 / 1.5 and 4 / 1.75.
        let curve = extended(vec![1.0, 1.6], 4);
        for (found, expected) in curve.iter().zip([1.0, 1.6, 2.0, 4.0 / 1.75]) {
            assert!((found - expected).abs() < 1e-12, "{curve:?}");
        }
        assert_eq!(curve.len(), 4);
        assert_eq!(
            extended(vec![1.0], 4),
            [1.0],
            "one core says nothing of two"
        );
        assert_eq!(extended(vec![1.0, 2.0, 3.0], 4)[3], 4.0);
    }
}
