//! `splitplace twin chainnet`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;
use splitplace_twin::{
    Seed,
    chainnet::{ChainNet, Kind, Score, System, Texts, Thinned, read},
    net::Weights,
};

use crate::output;

/// A judge of systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Judge {
    /// Event simulation.
    Simulation,
    /// M/G/1/K stations, thinned.
    Formulas,
    /// The graph network that knows no formulas.
    Plain,
    /// The graph network on top of the formulas.
    Residual,
}

impl Judge {
    /// The network behind it, if there is one: with the weights of a file that `twin train` wrote for a network of
    /// the usual size, or with the shipped ones.
    pub(crate) fn net(self, weights: Option<&Path>) -> anyhow::Result<Option<ChainNet>> {
        let kind = match self {
            Self::Simulation | Self::Formulas => return Ok(None),
            Self::Plain => Kind::Plain,
            Self::Residual => Kind::Residual,
        };
        let shipped = ChainNet::shipped(kind)?;
        let Some(path) = weights else {
            return Ok(Some(shipped));
        };
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let net = Weights::from_bytes(&bytes).and_then(|own| ChainNet::with(shipped.shape(), own));
        Ok(Some(net.with_context(|| path.display().to_string())?))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Chainnet {
    /// Folder with the data's text files.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Systems, from the first one on; all without it.
    #[arg(long, value_name = "N")]
    systems: Option<usize>,
    /// Jobs that come to each system.
    #[arg(long, default_value_t = 400_000)]
    arrivals: u64,
    /// Who says what becomes of the jobs.
    #[arg(long, value_enum, default_value = "simulation")]
    judge: Judge,
    /// Weights of the network that judges, as `twin train` wrote them; the shipped ones without it.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; 0 for as many as the machine has.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Largest mean relative errors that count as agreement at 400 000 arrivals.
const THROUGHPUT: f64 = 0.005;
const LATENCY: f64 = 0.01;

/// Reads systems in the published format.
pub(crate) fn systems(folder: &Path, most: usize) -> anyhow::Result<Vec<System>> {
    let mut texts = Vec::new();
    for name in Texts::NAMES {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path);
        texts.push(text.with_context(|| format!("cannot read {}", path.display()))?);
    }
    let texts = Texts {
        nodes: &texts[0],
        classes: &texts[1],
        capacity: &texts[2],
        arrival: &texts[3],
        path: &texts[4],
        service: &texts[5],
        latency: &texts[6],
        throughput: &texts[7],
    };
    Ok(read(&texts, most)?)
}

pub(super) fn run(args: &Chainnet) -> anyhow::Result<ExitCode> {
    let systems = systems(&args.data, args.systems.unwrap_or(usize::MAX))?;
    let begin = Instant::now();
    let bar = super::bar("systems", systems.len() as u64);
    let threads = super::threads(args.threads);
    ensure!(
        args.weights.is_none() || matches!(args.judge, Judge::Plain | Judge::Residual),
        "--weights are those of a network: choose --judge plain or residual"
    );
    let net = args.judge.net(args.weights.as_deref())?;
    let found = super::in_parallel(0..systems.len() as u64, threads, &bar, |number| {
        let seed = Seed(args.seed).child("system", number);
        let system = usize::try_from(number).ok().and_then(|at| systems.get(at));
        let Some(system) = system else {
            return Vec::new();
        };
        match (args.judge, &net) {
            (Judge::Formulas, _) => Thinned::of(system).ratios(system),
            (_, Some(net)) => net.predict(&[system]).pop().unwrap_or_default(),
            (_, None) => system.simulate(args.arrivals, seed),
        }
    });
    bar.finish_and_clear();
    let seconds = begin.elapsed().as_secs_f64();
    let mut score = Score::default();
    for (system, found) in systems.iter().zip(&found) {
        score.add(system, found);
    }
    let agrees = score.throughput.mean() <= THROUGHPUT && score.latency.mean() <= LATENCY;
    if args.json {
        output::json(&json!({
            "systems": score.systems,
            "chains": score.throughput.count(),
            "judge": format!("{:?}", args.judge).to_lowercase(),
            "arrivals": (args.judge == Judge::Simulation).then_some(args.arrivals),
            "seed": args.seed,
            "throughput_ratio_mape": score.throughput.mean(),
            "latency_ratio_mape": score.latency.mean(),
            "system_loss_mae": score.loss.mean(),
            "agrees": agrees,
            "wall_seconds": seconds,
        }))?;
    } else {
        let mut table = output::table(["", "mean error", "worst", "bar"]);
        for (name, summary, bar) in [
            ("throughput ratio, relative", &score.throughput, "0.50 %"),
            ("latency ratio, relative", &score.latency, "1.00 %"),
            ("system loss, absolute", &score.loss, ""),
        ] {
            let worst = summary.extremes().map_or(0.0, |(_, most)| most);
            table.add_row([
                name.to_owned(),
                format!("{:.3} %", summary.mean() * 100.0),
                format!("{:.2} %", worst * 100.0),
                bar.to_owned(),
            ]);
        }
        println!("{table}");
        println!(
            "{} systems, {} chains, by {:?} · {seconds:.1} s, {:.3} ms a system on {threads} threads",
            score.systems,
            score.throughput.count(),
            args.judge,
            seconds * 1e3 / score.systems.max(1) as f64,
        );
    }
    Ok(
        if agrees || args.judge != Judge::Simulation || args.arrivals < 400_000 {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(output::NO)
        },
    )
}
