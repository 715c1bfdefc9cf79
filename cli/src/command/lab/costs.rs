//! `splitplace lab costs`: what layers of each type cost, fitted on segments of real networks, and how well that tells
//! what it has not seen: other segments, other networks, and the cut that follows from it.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::json;
use splitplace_onnx::{Costs, ENGINE, speed, tables::Machine};
use splitplace_plan::{
    effects::{self, Run},
    partition::{Choice, Light, Method as _, Objective, Scene},
    predict::{Features, Predictor, Sample},
};

use super::splits::{Settings, Source, usual};
use crate::{command::model::thread_time, output};

#[derive(Debug, Args)]
pub(crate) struct LabCosts {
    /// Folders of packages and ONNX files, as for `lab splits`.
    networks: Vec<PathBuf>,
    /// Write the coefficients to this file; the shipped ones are onnx/src/costs.toml.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Parts of the segments of which each is predicted from the others.
    #[arg(long, default_value_t = 5)]
    folds: usize,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Uplinks in Mbit/s and ratios at which the cut is chosen by predicted times.
const UPLINKS: [f64; 5] = [0.5, 2.0, 10.0, 50.0, 200.0];
const RATIOS: [f64; 3] = [5.0, 10.0, 20.0];

/// Relative errors of predictions.
struct Errors(Vec<f64>);

impl Errors {
    /// `factor`: on all predictions.
    fn of(predictor: &Predictor, samples: &[Sample], factor: f64) -> Self {
        let error = |sample: &Sample| {
            (factor * predictor.predict(&sample.features).mean / sample.seconds - 1.0).abs()
        };
        let mut errors: Vec<f64> = samples.iter().map(error).collect();
        errors.sort_by(f64::total_cmp);
        Self(errors)
    }

    fn quantile(&self, share: f64) -> f64 {
        let at = (share * super::real(self.0.len())) as usize;
        self.0
            .get(at.min(self.0.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    }

    fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / super::real(self.0.len().max(1))
    }

    fn words(&self) -> String {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        format!(
            "{}, {}, {}",
            percent(self.quantile(0.5)),
            percent(self.mean()),
            percent(self.quantile(0.95))
        )
    }

    fn json(&self) -> serde_json::Value {
        json!({ "median": self.quantile(0.5), "mean": self.mean(), "p95": self.quantile(0.95) })
    }
}

pub(super) fn run(args: &LabCosts) -> anyhow::Result<ExitCode> {
    ensure!(
        (2..=100).contains(&args.folds),
        "--folds must lie in 2 to 100"
    );
    let paths = usual(&args.networks)?;
    let settings = Settings {
        codec_cost: 0.002,
        picture_bytes: 108_101,
    };
    let macs_per_second = speed::macs_per_second(20, thread_time)?;
    let mut sources = Vec::new();
    for path in &paths {
        let source = Source::open(path, settings).and_then(|mut source| {
            source.lengthen()?;
            Ok(source)
        });
        sources.push(source.with_context(|| format!("{} cannot be run", path.display()))?);
    }
    let samples: Vec<Vec<Sample>> = sources.iter().map(samples).collect();
    let all: Vec<Sample> = samples.concat();
    let predictor = Predictor::fit(&all)?;
    let mut folds = Errors(Vec::new());
    for fold in 0..args.folds {
        let (held, rest): (Vec<_>, Vec<_>) = all
            .iter()
            .enumerate()
            .partition(|(at, _)| at % args.folds == fold);
        let of = |list: Vec<(usize, &Sample)>| -> Vec<Sample> {
            list.into_iter().map(|(_, sample)| *sample).collect()
        };
        let fitted = Predictor::fit(&of(rest))?;
        folds.0.extend(Errors::of(&fitted, &of(held), 1.0).0);
    }
    folds.0.sort_by(f64::total_cmp);
    let mut rows = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let others = samples.iter().enumerate().filter(|(at, _)| *at != number);
        let others: Vec<Sample> = others.flat_map(|(_, list)| list.clone()).collect();
        // With one network there are no others.
        let fitted = Predictor::fit(&others).unwrap_or_else(|_| predictor.clone());
        let (half, factor, rest) = half_measured(&fitted, &samples[number]);
        rows.push(Row {
            name: source.name.clone(),
            unmeasured: Told::of(source, &fitted, &samples[number], 1.0)?,
            half: Told::of(source, &half, &rest, factor)?,
        });
    }
    let costs = Costs {
        machine: Machine {
            engine: ENGINE.into(),
            cores: 1,
            macs_per_second,
        },
        samples: all.len() as u64,
        predictor,
    };
    if let Some(path) = &args.write {
        output::write(path, costs.to_text())?;
    }
    tell(args, &costs, &folds, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// How a network is told by the others.
struct Row {
    name: String,
    /// Before anything of it was measured.
    unmeasured: Told,
    /// The segments in between, once every second one was.
    half: Told,
}

/// What predictions are worth.
struct Told {
    errors: Errors,
    /// Relative error of the whole network.
    whole: f64,
    /// Mean and largest.
    regret: (f64, f64),
}

impl Told {
    /// `factor`: on all predictions.
    fn of(
        source: &Source,
        predictor: &Predictor,
        samples: &[Sample],
        factor: f64,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            errors: Errors::of(predictor, samples, factor),
            whole: factor * guess(source, predictor) / source.whole - 1.0,
            regret: regret(source, predictor)?,
        })
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "segments": self.errors.0.len(),
            "error": self.errors.json(),
            "whole": self.whole,
            "regret": { "mean": self.regret.0, "largest": self.regret.1 },
        })
    }

    fn cells(&self, name: &str) -> [String; 5] {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let (mean, largest) = self.regret;
        [
            name.to_owned(),
            self.errors.0.len().to_string(),
            self.errors.words(),
            format!("{:+.0} %", self.whole * 100.0),
            format!("{}, {}", percent(mean), percent(largest)),
        ]
    }
}

/// What a fleet of one node learns of a network from every second segment: coefficients, the factor that is left on all
/// of them, and the other segments.
fn half_measured(known: &Predictor, samples: &[Sample]) -> (Predictor, f64, Vec<Sample>) {
    let every_second = |from: usize| samples.iter().skip(from).step_by(2);
    let features: Vec<Features> = every_second(0).map(|sample| sample.features).collect();
    let run = |(segment, sample): (usize, &Sample)| Run {
        segment,
        node: 0,
        seconds: sample.seconds,
    };
    let runs: Vec<Run> = every_second(0).enumerate().map(run).collect();
    let (predictor, effects) = effects::learn(known, &features, &runs);
    let node = effects.nodes.first().map_or(0.0, |(node, _)| *node);
    let factor = (effects.common + node).exp();
    (predictor, factor, every_second(1).copied().collect())
}

fn tell(args: &LabCosts, costs: &Costs, folds: &Errors, rows: &[Row]) -> anyhow::Result<()> {
    if args.json {
        let rows = rows.iter().map(|row| {
            json!({
                "network": row.name,
                "unmeasured": row.unmeasured.json(),
                "half_measured": row.half.json(),
            })
        });
        return output::json(&json!({
            "samples": costs.samples,
            "macs_per_second": costs.machine.macs_per_second,
            "relative_variance": costs.predictor.relative_variance,
            "coefficients": costs.predictor.coefficients,
            "held_out_segments": folds.json(),
            "held_out_networks": rows.collect::<Vec<_>>(),
        }));
    }
    let mut table = output::table([
        "held out",
        "segments",
        "error: median, mean, 95 %",
        "whole network",
        "regret of the cut: mean, largest",
    ]);
    table.add_row([
        format!("every {}th segment", args.folds),
        costs.samples.to_string(),
        folds.words(),
        String::new(),
        String::new(),
    ]);
    for row in rows {
        table.add_row(row.unmeasured.cells(&row.name));
        table.add_row(row.half.cells("  half measured"));
    }
    println!("{table}");
    println!(
        "each network predicted from all others, then its other segments once every second one was measured; \
         the cut is chosen by predicted times over {} uplinks and {} ratios and judged by measured ones",
        UPLINKS.len(),
        RATIOS.len()
    );
    Ok(())
}

fn samples(source: &Source) -> Vec<Sample> {
    let graph = &source.imported.graph;
    let segments = source.segments.iter();
    let segments = segments.filter(|(_, seconds)| *seconds > 0.0);
    let sample = |(layers, seconds): &(std::collections::BTreeSet<usize>, f64)| Sample {
        features: Features::of(graph, layers.iter().copied()),
        seconds: *seconds,
    };
    segments.map(sample).collect()
}

/// Predicted seconds of the whole network.
fn guess(source: &Source, predictor: &Predictor) -> f64 {
    let whole = source
        .segments
        .iter()
        .max_by_key(|(layers, _)| layers.len());
    let layers = whole
        .into_iter()
        .flat_map(|(layers, _)| layers.iter().copied());
    predictor
        .predict(&Features::of(&source.imported.graph, layers))
        .mean
}

/// Mean and largest regret: what the cut chosen by predicted times takes by measured ones, over the best by measured
/// ones, less 1.
fn regret(source: &Source, predictor: &Predictor) -> anyhow::Result<(f64, f64)> {
    let graph = &source.imported.graph;
    let alone = |layer: usize| {
        let mut features = Features::of(graph, [layer]);
        // A call more is not what a layer costs.
        features.0[0] = 0.0;
        predictor.predict(&features).mean
    };
    let guessed: Vec<f64> = (0..graph.layers().len()).map(alone).collect();
    let (mut sum, mut most, mut count) = (0.0, 0.0f64, 0usize);
    for ratio in RATIOS {
        let (predicted, _) = source.network_of(&[ratio, 1.0], &guessed)?;
        let (measured, _) = source.network(&[ratio, 1.0])?;
        for uplink in UPLINKS {
            let scene = Scene {
                rate: uplink * 1e6 / 8.0,
                delay: 0.005,
                load: 1.0,
                objective: Objective::Latency,
            };
            let chosen = Light.choose(&predicted, &scene)?;
            let own = Choice::at(&measured, &scene, chosen.first);
            let own = own.context("both networks have the same cuts")?;
            let best = Light.choose(&measured, &scene)?;
            let regret = own.worth.cost / best.worth.cost - 1.0;
            (sum, most, count) = (sum + regret, most.max(regret), count + 1);
        }
    }
    Ok((sum / super::real(count), most))
}
