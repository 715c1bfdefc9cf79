//! One ONNX file made ready: whole, and cut at every boundary that the orchestrator would use.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use splitplace_graph::{Chain, Element, Graph};
use splitplace_onnx::{
    Exit, Imported, Limits, Model, Package, Part, Prepared, Value, cut_layers, engine, exits,
    import, prepare, tables::Latency,
};
use splitplace_orchestrator::catalog::LoadSettings;

/// Runs before times count, and most runs and most time that are spent on one.
const WARM_RUNS: usize = 5;
const TIMED_RUNS: usize = 200;
const TIMED: Duration = Duration::from_secs(4);

/// An ONNX file ready to be measured.
pub(super) struct PartRun {
    pub(super) file: String,
    pub(super) classes: Vec<u32>,
    pub(super) imported: Imported,
    pub(super) whole: Prepared,
    /// Memory of the whole: held after loading, and the peak of one run on top of it.
    pub(super) memory_bytes: u64,
    /// Boundaries that can be cut at, from the input (0) to the end.
    pub(super) chain: Chain,
    /// `segments[i]` lies between boundaries `i` and `i + 1`.
    segments: Vec<Prepared>,
    /// Name of the output with the scores.
    scores: String,
}

/// Processor time of this thread: what a run costs, whatever else the machine does.
pub(crate) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Seconds of processor that the whole network takes for one sample on this machine, in this program. The tables of a package tell of the machine and the program that measured it.
pub(crate) fn seconds_here(part: &Part) -> anyhow::Result<f64> {
    let model = Model::from_bytes(&part.file, part.content.clone(), &Limits::default())?;
    let whole = engine::prepare_model(&model)?;
    Ok(timed(&whole, &whole.zeros())?.mean)
}

impl PartRun {
    pub(super) fn new(package: &Package, exits: &[Exit], part: &Part) -> anyhow::Result<Self> {
        let limits = Limits::default();
        let [scores] = package.outputs.as_slice() else {
            anyhow::bail!(
                "only a network with one output of scores can be measured, this has {}",
                package.outputs.len()
            );
        };
        ensure!(
            scores.element == Element::F32,
            "scores have to be FP32, '{}' is {}",
            scores.name,
            scores.element
        );
        let model = Model::from_bytes(&part.file, part.content.clone(), &limits)?;
        // As a worker does it: the file itself is not counted.
        let mut prepared = None;
        let counted = allocation_counter::measure(|| {
            prepared = Some(engine::prepare_model(&model));
        });
        let whole = prepared.context("it was not prepared")??;
        let imported = import(model, &limits)?;
        let zeros = whole.zeros();
        let mut first = None;
        let run = allocation_counter::measure(|| first = Some(whole.run(&zeros)));
        first.context("it was not run")??;
        let held = u64::try_from(counted.bytes_current).unwrap_or(0);
        let chain = usable(&imported, exits);
        let mut segments = Vec::new();
        for (number, segment) in chain.segments.iter().enumerate() {
            let layers = segment.layers.clone().collect();
            let fragment = cut_layers(&imported, &layers, number, chain.len())?;
            let name = format!("{} segment {number}", part.file);
            segments.push(prepare(&name, fragment.onnx, &limits)?);
        }
        Ok(Self {
            file: part.file.clone(),
            classes: part.classes.clone(),
            memory_bytes: held.saturating_add(run.bytes_max),
            imported,
            whole,
            chain,
            segments,
            scores: scores.name.clone(),
        })
    }

    pub(super) fn graph(&self) -> &Graph {
        &self.imported.graph
    }

    /// Names of the tensors that cross a boundary, without finished outputs.
    pub(super) fn crossing(&self, boundary: usize) -> Vec<String> {
        let outlets = self.chain.boundaries[boundary].outlets.iter();
        outlets
            .map(|&id| self.graph().outlet(id).name.clone())
            .collect()
    }

    /// The scores of one output for one sample, from what a run gave.
    pub(super) fn output(values: &[Value], name: &str) -> anyhow::Result<Vec<f32>> {
        let value = values
            .iter()
            .find(|value| value.name == name)
            .with_context(|| format!("the network gave no '{name}'"))?;
        Ok(floats(value))
    }

    /// All outputs of the whole network.
    pub(super) fn run(&self, input: &Value) -> anyhow::Result<Vec<Value>> {
        Ok(self.whole.run(std::slice::from_ref(input))?)
    }

    /// What crosses each boundary, from the input on, and the scores at the end.
    pub(super) fn walk(&self, input: &Value) -> anyhow::Result<(Vec<Vec<Value>>, Vec<f32>)> {
        let mut crossings = vec![vec![input.clone()]];
        for at in 0..self.segments.len() {
            let next = self.step(at, &crossings[at])?;
            crossings.push(next);
        }
        let last = crossings.pop().unwrap_or_default();
        let scores = Self::output(&last, &self.scores)?;
        Ok((crossings, scores))
    }

    /// The scores when these values cross a boundary.
    pub(super) fn finish(&self, boundary: usize, values: &[Value]) -> anyhow::Result<Vec<f32>> {
        let mut values = values.to_vec();
        for at in boundary..self.segments.len() {
            values = self.step(at, &values)?;
        }
        Self::output(&values, &self.scores)
    }

    /// One segment: from what crosses the boundary before it to what crosses the one behind.
    fn step(&self, at: usize, values: &[Value]) -> anyhow::Result<Vec<Value>> {
        let made = self.segments[at].run(values)?;
        let is_needed = |value: &&Value| {
            let next = &self.chain.boundaries[at + 1];
            let mut needed = next.outlets.iter().map(|&id| &self.graph().outlet(id).name);
            needed.any(|name| *name == value.name)
        };
        let passing = values.iter().filter(is_needed).filter(|value| {
            let is_same = |other: &Value| other.name == value.name;
            !made.iter().any(is_same)
        });
        Ok(made
            .iter()
            .filter(is_needed)
            .chain(passing)
            .cloned()
            .collect())
    }

    /// Time of the whole.
    pub(super) fn latency(&self, inputs: &[Value]) -> anyhow::Result<Latency> {
        timed(&self.whole, inputs)
    }

    /// Time up to an exit, with its own head and those before.
    pub(super) fn exit_latency(
        &self,
        cost: &exits::ExitCost,
        inputs: &[Value],
    ) -> anyhow::Result<Latency> {
        let fragment = cut_layers(&self.imported, &cost.layers, 0, 1)?;
        let name = format!("{} up to an exit", self.file);
        timed(&prepare(&name, fragment.onnx, &Limits::default())?, inputs)
    }

    /// Bytes of the file.
    pub(super) fn file_bytes(package: &Package, file: &str) -> u64 {
        let mut files = package.files();
        files
            .find(|(name, ..)| *name == file)
            .map_or(0, |(_, _, content)| content.len() as u64)
    }
}

/// Processor time of one sample over some samples, one after another on this thread.
fn timed(prepared: &Prepared, inputs: &[Value]) -> anyhow::Result<Latency> {
    let mut times = Vec::new();
    let begin = Instant::now();
    for (number, input) in inputs.iter().cycle().enumerate() {
        let before = thread_time();
        prepared.run(std::slice::from_ref(input))?;
        if WARM_RUNS <= number {
            times.push(thread_time().saturating_sub(before).as_secs_f64());
        }
        if times.len() == TIMED_RUNS || (TIMED < begin.elapsed() && !times.is_empty()) {
            break;
        }
    }
    Ok(Latency {
        mean: mean(&times),
        p95: percentile(&mut times, 95),
    })
}

/// The boundaries that the orchestrator tells apart, without those that cannot be cut at.
fn usable(imported: &Imported, exits: &[Exit]) -> Chain {
    let graph = &imported.graph;
    let heads = exits.iter().filter_map(|exit| graph.find(&exit.output));
    let heads: Vec<_> = heads.collect();
    let (chain, _) = graph.chain_with_exits(LoadSettings::default().segments, &heads);
    let last = graph.layers().len();
    let positions: BTreeSet<usize> = chain
        .boundaries
        .iter()
        .map(|boundary| boundary.position)
        .filter(|&position| {
            let cut = graph.prefix_cut(position);
            position == 0 || position == last || cut.is_some_and(|cut| imported.is_runnable(&cut))
        })
        .collect();
    graph.chain_at(&positions.into_iter().collect::<Vec<_>>())
}

/// Elements of a value of floats.
pub(super) fn floats(value: &Value) -> Vec<f32> {
    let bytes = joined(value);
    let (floats, _) = bytes.as_chunks::<4>();
    floats
        .iter()
        .map(|&float| f32::from_le_bytes(float))
        .collect()
}

/// The bytes of a value in one piece.
pub(super) fn joined(value: &Value) -> Bytes {
    match value.chunks.as_slice() {
        [only] => only.clone(),
        many => many.concat().into(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of runs")]
pub(super) fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len().max(1) as f64
}

/// A percentile by the nearest rank; 0 of nothing.
pub(super) fn percentile(numbers: &mut [f64], percent: usize) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let rank = (numbers.len() * percent).div_ceil(100);
    numbers.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}
