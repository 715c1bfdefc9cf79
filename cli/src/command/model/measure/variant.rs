//! One variant: every sample through the whole, some samples through every cut and codec.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use anyhow::Context as _;
use indicatif::ProgressBar;
use splitplace_codec::{Codec, Element as CodecElement, Limits, Spec, decode};
use splitplace_graph::Element;
use splitplace_onnx::{
    Package, Value, Variant,
    package::{self, VariantKind},
    tables::ExitRecord,
};

use super::{
    part::{PartRun, joined, thread_time},
    state::{Cell, Partial, State},
};
use crate::dataset::DataSet;

/// Samples between two looks at whether to keep partial results.
const CHUNK: usize = 64;

/// A variant ready to be measured.
pub(super) struct VariantRun<'a> {
    pub(super) package: &'a Package,
    pub(super) variant: &'a Variant,
    pub(super) parts: Vec<PartRun>,
    pub(super) data: &'a DataSet,
    pub(super) codecs: &'a [Codec],
    pub(super) jobs: usize,
}

/// What one codec at one cut did to one sample.
#[derive(Clone, Copy, Debug, Default)]
struct Coded {
    bytes: f64,
    is_correct: bool,
    encode: f64,
    decode: f64,
}

/// What each exit of a variant, the end last, said of each sample: its confidence, and whether it was
/// right.
pub(in super::super) struct Answers(Vec<Vec<(f32, bool)>>);

impl Answers {
    /// Share of right answers when the first exit answers whose confidence reaches its threshold; the end
    /// without any.
    #[expect(clippy::cast_precision_loss, reason = "counts of samples")]
    pub(in super::super) fn accuracy(&self, thresholds: &[f32]) -> f64 {
        let right = self.0.iter().filter(|said| {
            let sure = said.iter().zip(thresholds);
            let sure = sure.filter(|((confidence, _), threshold)| *threshold <= confidence);
            let early = sure.map(|(said, _)| said).next();
            early.or(said.last()).is_some_and(|(_, is_right)| *is_right)
        });
        right.count() as f64 / self.0.len().max(1) as f64
    }
}

impl<'a> VariantRun<'a> {
    pub(super) fn new(
        package: &'a Package,
        variant: &'a Variant,
        data: &'a DataSet,
        codecs: &'a [Codec],
        jobs: usize,
    ) -> anyhow::Result<Self> {
        let parts = variant
            .parts
            .iter()
            .map(|part| {
                PartRun::new(package, &variant.exits, part)
                    .with_context(|| format!("variant '{}'", variant.name))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        if let Some(part) = parts.first() {
            package
                .check_exits(variant, part.graph())
                .map_err(|reason| anyhow::anyhow!("variant '{}': {reason}", variant.name))?;
        }
        Ok(Self {
            package,
            variant,
            parts,
            data,
            codecs,
            jobs,
        })
    }

    /// Names of the outputs that answer, in order, the end last.
    pub(super) fn outputs(&self) -> Vec<&str> {
        let end = self
            .package
            .outputs
            .first()
            .map(|output| output.name.as_str());
        let exits = self.variant.exits.iter().map(|exit| exit.output.as_str());
        exits.chain(end).collect()
    }

    pub(super) fn input(&self, sample: usize) -> anyhow::Result<Value> {
        let spec = match &self.package.preprocess {
            Some(preprocess) => {
                let mut inputs = self.package.inputs.iter();
                inputs.find(|input| input.name == preprocess.input)
            }
            None => self.package.inputs.first(),
        };
        let spec = spec.context("the package has no input")?;
        anyhow::ensure!(
            self.package.inputs.len() == 1 && spec.element == Element::F32,
            "only a network with one input of FP32 can be measured on pictures"
        );
        let bytes = self
            .data
            .values(sample, spec, self.package.preprocess.as_ref())?;
        Ok(Value {
            name: spec.name.clone(),
            element: spec.element,
            shape: spec.sample_shape(),
            chunks: vec![bytes],
        })
    }

    /// The answer to one sample from the scores of each part; `None` where a branch is missing.
    fn answer(&self, scores: &[Option<&[f32]>]) -> Option<usize> {
        match (self.variant.kind, &self.variant.merge) {
            (VariantKind::Semantic, Some(merge)) => {
                let shape = self
                    .package
                    .outputs
                    .first()
                    .map(|output| output.sample_shape());
                let classes = shape.and_then(|shape| shape.last().copied()).unwrap_or(0);
                let groups = self.parts.iter().map(|part| &part.classes[..]);
                let branches: Vec<_> = groups.zip(scores.iter().copied()).collect();
                package::best(&merge.join(usize::try_from(classes).unwrap_or(0), &branches))
            }
            _ => scores.first().copied().flatten().and_then(package::best),
        }
    }

    fn is_correct(&self, sample: usize, scores: &[Option<&[f32]>]) -> bool {
        self.answer(scores) == Some(self.data.label(sample) as usize)
    }

    /// Every sample through the whole: what each exit says, and what is left when a branch is missing.
    pub(super) fn pass_over_all(
        &self,
        partial: &mut Partial,
        state: &mut State,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let exits = self.outputs().len();
        partial.missing.resize(self.branches(), 0);
        while partial.said.len() / exits < self.data.len() {
            let begin = partial.said.len() / exits;
            let end = self.data.len().min(begin + CHUNK * self.jobs);
            let samples: Vec<usize> = (begin..end).collect();
            let seen = in_parallel(self.jobs, &samples, |sample| {
                let seen = self.see(sample);
                bar.inc(1);
                seen
            })?;
            for (said, missing) in seen {
                partial.said.extend(said);
                for (sum, is_correct) in partial.missing.iter_mut().zip(missing) {
                    *sum += u64::from(is_correct);
                }
            }
            state.keep(partial)?;
        }
        Ok(())
    }

    /// What is said of every sample.
    pub(super) fn answers(&self) -> anyhow::Result<Answers> {
        let samples: Vec<usize> = (0..self.data.len()).collect();
        let said = in_parallel(self.jobs, &samples, |sample| Ok(self.see(sample)?.0))?;
        Ok(Answers(said))
    }

    fn branches(&self) -> usize {
        match self.variant.kind {
            VariantKind::Semantic => self.parts.len(),
            VariantKind::Whole => 0,
        }
    }

    #[expect(clippy::type_complexity, reason = "exits, and branches")]
    fn see(&self, sample: usize) -> anyhow::Result<(Vec<(f32, bool)>, Vec<bool>)> {
        let input = self.input(sample)?;
        let outputs = self.outputs();
        if self.variant.kind == VariantKind::Whole {
            let values = self.parts[0].run(&input)?;
            let mut said = Vec::with_capacity(outputs.len());
            for name in outputs {
                let scores = PartRun::output(&values, name)?;
                let is_correct = package::best(&scores) == Some(self.data.label(sample) as usize);
                said.push((package::confidence(&scores), is_correct));
            }
            return Ok((said, Vec::new()));
        }
        let scores = self.branch_scores(&input)?;
        let all: Vec<Option<&[f32]>> = scores.iter().map(|scores| Some(&scores[..])).collect();
        let missing = (0..all.len()).map(|branch| {
            let mut left = all.clone();
            left[branch] = None;
            self.is_correct(sample, &left)
        });
        // No softmax over branches: they were trained apart.
        let said = vec![(0.0, self.is_correct(sample, &all))];
        Ok((said, missing.collect()))
    }

    fn branch_scores(&self, input: &Value) -> anyhow::Result<Vec<Vec<f32>>> {
        let outputs = self.outputs();
        let name = outputs.last().copied().unwrap_or_default();
        let runs = self.parts.iter();
        runs.map(|part| PartRun::output(&part.run(input)?, name))
            .collect()
    }

    /// The chosen samples through every cut and codec: the part's first half once, then for each cut
    /// and each form of number the second half.
    pub(super) fn pass_over_codecs(
        &self,
        samples: &[usize],
        partial: &mut Partial,
        state: &mut State,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        partial.cells.resize(self.parts.len(), Vec::new());
        for (part, cells) in self.parts.iter().zip(&mut partial.cells) {
            cells.resize(part.chain.len(), vec![Cell::default(); self.codecs.len()]);
        }
        while partial.coded < samples.len() {
            let end = samples.len().min(partial.coded + CHUNK);
            let chunk = &samples[partial.coded..end];
            let seen = in_parallel(self.jobs, chunk, |sample| {
                let seen = self.code(sample);
                bar.inc(1);
                seen
            })?;
            for (is_correct, picture, parts) in seen {
                partial.exact += u64::from(is_correct);
                partial.picture_bytes.push(picture);
                let sums = partial.cells.iter_mut().flatten().flatten();
                for (sum, coded) in sums.zip(parts.into_iter().flatten().flatten()) {
                    sum.correct += u64::from(coded.is_correct);
                    sum.bytes.push(coded.bytes);
                    sum.encode += coded.encode;
                    sum.decode += coded.decode;
                }
            }
            partial.coded = end;
            state.keep(partial)?;
        }
        Ok(())
    }

    /// One sample: whether it is correct without codecs, the bytes of its picture's file, and by part, cut
    /// and codec what that did.
    #[expect(clippy::type_complexity, reason = "parts, cuts, codecs")]
    #[expect(clippy::cast_precision_loss, reason = "bytes of a tensor")]
    fn code(&self, sample: usize) -> anyhow::Result<(bool, f64, Vec<Vec<Vec<Coded>>>)> {
        let input = self.input(sample)?;
        let mut crossings = Vec::new();
        let mut scores = Vec::new();
        for part in &self.parts {
            let (crossing, end) = part.walk(&input)?;
            crossings.push(crossing);
            scores.push(end);
        }
        let exact: Vec<Option<&[f32]>> = scores.iter().map(|scores| Some(&scores[..])).collect();
        let is_correct = self.is_correct(sample, &exact);
        let mut parts = Vec::new();
        for (number, part) in self.parts.iter().enumerate() {
            let mut cuts = Vec::new();
            for (boundary, values) in crossings[number].iter().enumerate() {
                // Codecs that differ in how symbols become bytes give the same numbers back.
                let mut known: Vec<(Vec<Value>, bool)> = vec![(values.clone(), is_correct)];
                let mut row = Vec::with_capacity(self.codecs.len());
                for &codec in self.codecs {
                    let (mut coded, back) = round_trip(codec, values)?;
                    let same = known.iter().find(|(values, _)| *values == back);
                    coded.is_correct = if let Some((_, is_correct)) = same {
                        *is_correct
                    } else {
                        let end = part.finish(boundary, &back)?;
                        let mut all = exact.clone();
                        all[number] = Some(&end);
                        let is_correct = self.is_correct(sample, &all);
                        known.push((back, is_correct));
                        is_correct
                    };
                    row.push(coded);
                }
                cuts.push(row);
            }
            parts.push(cuts);
        }
        let picture = match self.package.preprocess {
            Some(_) => self.data.encoded(sample)?.len() as f64,
            None => 0.0,
        };
        Ok((is_correct, picture, parts))
    }

    /// What was said so far, as it is kept with the package.
    pub(super) fn record(&self, partial: &Partial) -> ExitRecord {
        let exits = self.outputs().len();
        let mut record = ExitRecord::new(exits);
        for said in partial.said.chunks_exact(exits) {
            record.push(said);
        }
        record
    }
}

/// Values through a codec and back, each in one piece.
#[expect(clippy::cast_precision_loss, reason = "bytes of a tensor")]
fn round_trip(codec: Codec, values: &[Value]) -> anyhow::Result<(Coded, Vec<Value>)> {
    let mut coded = Coded::default();
    let mut back = Vec::with_capacity(values.len());
    for value in values {
        let shape: Vec<i64> = value
            .shape
            .iter()
            .map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX))
            .collect();
        let spec = Spec {
            element: match value.element {
                Element::F32 => CodecElement::F32,
                other => CodecElement::Other {
                    bytes: u8::try_from(other.bytes()).unwrap_or(u8::MAX),
                },
            },
            shape: &shape,
        };
        let plain = joined(value);
        let wrong = || format!("tensor '{}' through {codec}", value.name);
        let mut wire = Vec::new();
        let begin = thread_time();
        codec.encode(&spec, &plain, &mut wire).with_context(wrong)?;
        let between = thread_time();
        let limits = Limits {
            tensor_bytes: plain.len().max(1),
        };
        let decoded = decode(&wire, &spec, limits).with_context(wrong)?;
        coded.encode += between.saturating_sub(begin).as_secs_f64();
        coded.decode += thread_time().saturating_sub(between).as_secs_f64();
        coded.bytes += wire.len() as f64;
        back.push(Value {
            chunks: vec![decoded.into()],
            ..value.clone()
        });
    }
    Ok((coded, back))
}

/// What `work` gives for each item, in order; on the first error everything stops.
fn in_parallel<T: Send>(
    jobs: usize,
    items: &[usize],
    work: impl Fn(usize) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let one = || -> anyhow::Result<Vec<(usize, T)>> {
        let mut done = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(&item) = items.get(at) else { break };
            match work(item) {
                Ok(value) => done.push((at, value)),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(done)
    };
    let mut all = thread::scope(|scope| -> anyhow::Result<Vec<(usize, T)>> {
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(one)).collect();
        let mut all = Vec::with_capacity(items.len());
        for thread in threads {
            let done = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a measuring thread panicked"))?;
            all.extend(done?);
        }
        Ok(all)
    })?;
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, value)| value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_exit_that_is_sure_answers() {
        let answers = Answers(vec![
            vec![(0.9, true), (0.5, false), (0.6, false)],
            vec![(0.4, true), (0.8, false), (0.6, true)],
            vec![(0.4, false), (0.5, false), (0.6, true)],
            vec![(0.8, false), (0.5, false), (0.6, true)],
        ]);
        assert_eq!(answers.accuracy(&[]), 0.75);
        assert_eq!(answers.accuracy(&[0.8, 0.8]), 0.5);
        assert_eq!(answers.accuracy(&[1.01, 1.01]), 0.75);
    }
}
