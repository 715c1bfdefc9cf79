//! `splitplace twin train`.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use splitplace_twin::{
    Seed,
    chainnet::{ChainNet, Kind, Score, Shape, Trainer, Training},
};

use super::chainnet::systems;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum KindArg {
    /// Fed and read as published.
    Plain,
    /// Predicts by how much the formulas are wrong.
    Residual,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Plain => Self::Plain,
            KindArg::Residual => Self::Residual,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    /// Folder with labelled systems, as `twin generate` writes them.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// What the network is fed and what it predicts.
    #[arg(long, value_enum, default_value = "residual")]
    kind: KindArg,
    /// Columns of every state.
    #[arg(long, default_value_t = 32)]
    hidden: usize,
    /// Rounds of messages.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Times that every system is seen.
    #[arg(long, default_value_t = 14)]
    epochs: u32,
    /// Systems of one step.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Largest step.
    #[arg(long, default_value_t = 0.003)]
    rate: f64,
    /// Share of the systems, the last ones, that is held out and only judged.
    #[arg(long, default_value_t = 0.05)]
    held_out: f64,
    /// Of first weights and order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File for the weights.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Written after each epoch; a training goes on from it when it is there.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

pub(super) fn run(args: &Train) -> anyhow::Result<ExitCode> {
    ensure!(
        (1..=512).contains(&args.hidden) && (1..=32).contains(&args.rounds),
        "--hidden must lie in 1 to 512 and --rounds in 1 to 32"
    );
    let all = systems(&args.data, usize::MAX)?;
    ensure!(all.len() >= 20, "too few systems: 20 at least");
    ensure!(
        (0.0..=0.5).contains(&args.held_out),
        "--held-out must lie in 0 to 0.5"
    );
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count"
    )]
    let kept_back = (all.len() as f64 * args.held_out) as usize;
    let (known, held_out) = all.split_at(all.len() - kept_back);
    let shape = Shape {
        kind: args.kind.into(),
        hidden: args.hidden,
        rounds: args.rounds,
    };
    let training = Training {
        epochs: args.epochs,
        batch: args.batch,
        rate: args.rate,
        seed: Seed(args.seed),
    };
    let mut trainer = Trainer::new(ChainNet::new(shape, Seed(args.seed)), training);
    if let Some(path) = args.checkpoint.as_ref().filter(|path| path.exists()) {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        trainer = trainer.resume(&bytes)?;
        println!("going on after epoch {}", trainer.epoch());
    }
    println!(
        "{} systems, {} held out, {} weights",
        known.len(),
        held_out.len(),
        trainer.net.weights().count()
    );
    let begin = Instant::now();
    while !trainer.is_done() {
        let bar = super::bar("systems", known.len() as u64);
        let epoch = trainer.epoch_over(known, |seen| bar.set_position(seen));
        bar.finish_and_clear();
        let score = trainer.net.score(held_out);
        println!(
            "epoch {} of {} · loss {:.5} · held out: {} · {:.0} s",
            epoch.number,
            args.epochs,
            epoch.loss,
            told(&score),
            begin.elapsed().as_secs_f64()
        );
        if let Some(path) = &args.checkpoint {
            // Whole or not at all.
            let new = path.with_extension("new");
            std::fs::write(&new, trainer.checkpoint())
                .and_then(|()| std::fs::rename(&new, path))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    std::fs::write(&args.out, trainer.net.weights().to_bytes())
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    println!("weights in {}", args.out.display());
    Ok(ExitCode::SUCCESS)
}

/// The measures that ChainNet is judged by.
pub(super) fn told(score: &Score) -> String {
    let (throughput, latency) = (score.throughput.mean(), score.latency.mean());
    format!(
        "throughput {:.2} %, latency {:.2} %, pooled {:.2} %, loss of a system {:.5}",
        throughput * 100.0,
        latency * 100.0,
        (throughput + latency) * 50.0,
        score.loss.mean()
    )
}
