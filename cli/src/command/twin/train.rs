//! `splitplace twin train`.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use splitplace_twin::{
    Seed,
    chainnet::{ChainNet, Kind, Score, Shape},
    net::{Learner, Trainer, Training},
    surrogate::{Awareness, Example, Surrogate, draw},
};

use super::{
    chainnet::systems,
    generate::{PLACEMENTS, head, labels},
};

use crate::output;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum KindArg {
    /// Judges systems, knowing nothing of formulas.
    Plain,
    /// Predicts by how much the formulas are wrong.
    Residual,
    /// Judges placements, not knowing how requests are split.
    Gobi,
    /// Judges placements, fed how requests are split.
    Daso,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    /// Folder with labelled systems or placements, as `twin generate` writes them.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// What the network is fed and what it predicts.
    #[arg(long, value_enum, default_value = "residual")]
    kind: KindArg,
    /// Columns of every state; of the graph network.
    #[arg(long, default_value_t = 32)]
    hidden: usize,
    /// Rounds of messages; of the graph network.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Times that every one is seen.
    #[arg(long, default_value_t = 14)]
    epochs: u32,
    /// As many of them in one step.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Largest step.
    #[arg(long, default_value_t = 0.003)]
    rate: f64,
    /// Share of them, the last ones, that is held out and only judged.
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
    ensure!(
        (0.0..=0.5).contains(&args.held_out),
        "--held-out must lie in 0 to 0.5"
    );
    match args.kind {
        KindArg::Plain => graph(args, Kind::Plain),
        KindArg::Residual => graph(args, Kind::Residual),
        KindArg::Gobi => surrogate(args, Awareness::Unaware),
        KindArg::Daso => surrogate(args, Awareness::Aware),
    }
}

fn graph(args: &Train, kind: Kind) -> anyhow::Result<ExitCode> {
    let all = systems(&args.data, usize::MAX)?;
    let (known, held_out) = split(args, &all)?;
    let shape = Shape {
        kind,
        hidden: args.hidden,
        rounds: args.rounds,
    };
    let net = ChainNet::new(shape, Seed(args.seed));
    let trainer = train(args, net, known, held_out, &|net| {
        told(&net.score(held_out))
    })?;
    save(args, trainer.net.weights().to_bytes())
}

fn surrogate(args: &Train, awareness: Awareness) -> anyhow::Result<ExitCode> {
    let all = placements(args, awareness)?;
    let (known, held_out) = split(args, &all)?;
    let net = Surrogate::new(awareness, Seed(args.seed));
    let told = |[response, loss]: [f64; 2]| {
        format!("root mean squared error of ln(response) {response:.3}, of the loss {loss:.4}")
    };
    let mut trainer = train(args, net, known, held_out, &|net| told(net.score(held_out)))?;
    trainer.net.hold_against(held_out);
    save(args, Learner::weights(&trainer.net).to_bytes())
}

/// The placements of a file of `twin generate`, drawn anew.
fn placements(args: &Train, awareness: Awareness) -> anyhow::Result<Vec<Example>> {
    let path = args.data.join(PLACEMENTS);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read {}; `twin generate --what placements` makes it",
            path.display()
        )
    })?;
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let seed = first.rsplit(' ').next().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.filter(|&seed| head(seed) == first).with_context(|| {
        format!(
            "{} is of another law: make it anew with `twin generate`",
            path.display()
        )
    })?;
    let mut examples = Vec::new();
    for (number, line) in lines.enumerate() {
        let wrong = || {
            format!(
                "{}, line {}: this is no placement",
                path.display(),
                number + 2
            )
        };
        let (number, labels) = labels(line).with_context(wrong)?;
        let drawn = draw(Seed(seed), number);
        ensure!(labels.len() == drawn.problem.arms.len(), wrong());
        examples.extend(drawn.example(&labels, awareness));
    }
    Ok(examples)
}

/// What is learnt from, and what is held out.
fn split<'a, T>(args: &Train, all: &'a [T]) -> anyhow::Result<(&'a [T], &'a [T])> {
    ensure!(all.len() >= 20, "too few to learn from: 20 at least");
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count"
    )]
    let kept_back = (all.len() as f64 * args.held_out) as usize;
    Ok(all.split_at(all.len() - kept_back))
}

/// All epochs, from a checkpoint on where there is one.
fn train<L: Learner>(
    args: &Train,
    net: L,
    known: &[L::Example],
    held_out: &[L::Example],
    told: &dyn Fn(&L) -> String,
) -> anyhow::Result<Trainer<L>> {
    let training = Training {
        epochs: args.epochs,
        batch: args.batch,
        rate: args.rate,
        seed: Seed(args.seed),
    };
    let mut trainer = Trainer::new(net, training);
    if let Some(path) = args.checkpoint.as_ref().filter(|path| path.exists()) {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        trainer = trainer.resume(&bytes)?;
        println!("going on after epoch {}", trainer.epoch());
    }
    println!(
        "{} to learn from, {} held out, {} weights",
        known.len(),
        held_out.len(),
        trainer.net.weights().count()
    );
    let begin = Instant::now();
    while !trainer.is_done() {
        let bar = super::bar("examples", known.len() as u64);
        let epoch = trainer.epoch_over(known, |seen| bar.set_position(seen));
        bar.finish_and_clear();
        println!(
            "epoch {} of {} · loss {:.5} · held out: {} · {:.0} s",
            epoch.number,
            args.epochs,
            epoch.loss,
            told(&trainer.net),
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
    Ok(trainer)
}

fn save(args: &Train, weights: Vec<u8>) -> anyhow::Result<ExitCode> {
    output::write(&args.out, weights)?;
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
