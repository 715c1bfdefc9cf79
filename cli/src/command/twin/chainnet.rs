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
    chainnet::{
        ChainNet, Formulas, Judge, Kind, Published, Score, Simulation, System, Texts, read,
    },
    net::Weights,
    stats::Summary,
};

use crate::output;

/// A judge of systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum JudgeArg {
    /// Event simulation.
    Simulation,
    /// M/G/1/K stations, thinned.
    Formulas,
    /// The graph network that knows no formulas.
    Plain,
    /// The graph network on top of the formulas.
    Residual,
    /// ChainNet as its authors published it; `--weights` names their file.
    Published,
}

/// A judge, for any number of threads.
pub(crate) type AnyJudge = Box<dyn Judge + Sync>;

impl JudgeArg {
    /// Who judges. A simulation has so many arrivals; a network has the weights of a file, which `twin train` wrote for
    /// a network of the usual size or the authors of ChainNet published, or else the shipped ones.
    pub(crate) fn judge(self, arrivals: u64, weights: Option<&Path>) -> anyhow::Result<AnyJudge> {
        let kind = match self {
            Self::Simulation => return Ok(Box::new(Simulation { arrivals })),
            Self::Formulas => return Ok(Box::new(Formulas)),
            Self::Plain => Kind::Plain,
            Self::Residual => Kind::Residual,
            Self::Published => {
                let path = weights.context(
                    "the published network does not come with this program: name its file, model.pth of GitHub \
                     imperial-qore/ChainNet, by --weights",
                )?;
                let net = Published::read(&bytes(path)?);
                return Ok(Box::new(net.with_context(|| path.display().to_string())?));
            }
        };
        let shipped = ChainNet::shipped(kind)?;
        let Some(path) = weights else {
            return Ok(Box::new(shipped));
        };
        let weights = Weights::from_bytes(&bytes(path)?);
        let net = weights.and_then(|own| ChainNet::with(shipped.shape(), own));
        Ok(Box::new(net.with_context(|| path.display().to_string())?))
    }
}

fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
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
    judge: JudgeArg,
    /// Weights of the network that judges, as `twin train` wrote them, the shipped ones without it; of the published
    /// network as its authors saved them.
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
    let bar = super::bar("systems", systems.len() as u64);
    let threads = super::threads(args.threads);
    ensure!(
        args.weights.is_none() || !matches!(args.judge, JudgeArg::Simulation | JudgeArg::Formulas),
        "--weights are those of a network: choose --judge plain, residual or published"
    );
    let judge = args.judge.judge(args.arrivals, args.weights.as_deref())?;
    let begin = Instant::now();
    let found = super::in_parallel(0..systems.len() as u64, threads, &bar, |number| {
        let seed = Seed(args.seed).child("system", number);
        let system = usize::try_from(number).ok().and_then(|at| systems.get(at));
        system.map_or_else(Vec::new, |system| judge.ratios(system, seed))
    });
    bar.finish_and_clear();
    let seconds = begin.elapsed().as_secs_f64();
    let mut score = Score::default();
    for (system, found) in systems.iter().zip(&found) {
        score.add(system, found);
    }
    let pooled = f64::midpoint(score.throughput.mean(), score.latency.mean());
    let agrees = score.throughput.mean() <= THROUGHPUT && score.latency.mean() <= LATENCY;
    if args.json {
        output::json(&json!({
            "systems": score.systems,
            "chains": score.throughput.count(),
            "judge": format!("{:?}", args.judge).to_lowercase(),
            "arrivals": (args.judge == JudgeArg::Simulation).then_some(args.arrivals),
            "seed": args.seed,
            "throughput_ratio_mape": score.throughput.mean(),
            "latency_ratio_mape": score.latency.mean(),
            "pooled_mape": pooled,
            "system_loss_mae": score.loss.mean(),
            "agrees": agrees,
            "threads": threads,
            "wall_seconds": seconds,
            "wall_seconds_a_system": seconds / score.systems.max(1) as f64,
        }))?;
    } else {
        let mut table = output::table(["", "mean error", "worst", "bar"]);
        let worst = |summary: &Summary| summary.extremes().map_or(0.0, |(_, most)| most);
        let [throughput, latency, loss] =
            [&score.throughput, &score.latency, &score.loss].map(|one| (one.mean(), worst(one)));
        let both = (pooled, throughput.1.max(latency.1));
        for (name, (mean, worst), bar) in [
            ("throughput ratio, relative", throughput, "0.50 %"),
            ("latency ratio, relative", latency, "1.00 %"),
            ("both ratios, pooled", both, ""),
            ("system loss, absolute", loss, ""),
        ] {
            table.add_row([
                name.to_owned(),
                format!("{:.3} %", mean * 100.0),
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
        if agrees || args.judge != JudgeArg::Simulation || args.arrivals < 400_000 {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(output::NO)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(weights: Option<&Path>) -> String {
        let judge = JudgeArg::Published.judge(1, weights);
        format!("{:#}", judge.map(|_| ()).unwrap_err())
    }

    #[test]
    fn the_published_network_needs_its_file() {
        assert!(refusal(None).contains("model.pth of GitHub imperial-qore/ChainNet"));
        let nowhere = Path::new("no-such-file.pth");
        assert!(refusal(Some(nowhere)).starts_with("cannot read no-such-file.pth"));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../twin");
        let own = folder.join("weights/chainnet-plain.bin");
        let told = refusal(Some(&own));
        assert!(
            told.contains("chainnet-plain.bin: the file: no whole zip archive"),
            "{told}"
        );
        let published = folder.join("tests/data/chainnet-published/model.pth");
        assert!(JudgeArg::Published.judge(1, Some(&published)).is_ok());
        // And the other way round: it is none of our networks.
        assert!(JudgeArg::Plain.judge(1, Some(&published)).is_err());
    }
}
