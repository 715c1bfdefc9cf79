//! `splitplace twin generate`.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use splitplace_twin::{
    Seed,
    chainnet::{System, write},
    surrogate::{LAW, Label, draw},
};

use crate::output;

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Systems of queues, for the graph network.
    Systems,
    /// Requests placed on fleets, for the surrogates of placement.
    Placements,
}

#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// Folder for the data, in the published text format; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What is drawn: systems of queues, or requests placed on fleets.
    #[arg(long, value_enum, default_value = "systems")]
    what: What,
    /// Systems, drawn by the law of the published ones.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    systems: u64,
    /// Jobs or requests that come to each.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(10..=10_000_000))]
    arrivals: u64,
    /// Of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; 0 for as many as the machine has.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

pub(super) fn run(args: &Generate) -> anyhow::Result<ExitCode> {
    if args.what == What::Placements {
        return placements(args);
    }
    let begin = Instant::now();
    let bar = super::bar("systems", args.systems);
    let threads = super::threads(args.threads);
    let seed = Seed(args.seed);
    let systems = super::in_parallel(0..args.systems, threads, &bar, |number| {
        System::draw(seed, number).labelled(args.arrivals, seed.child("label", number))
    });
    bar.finish_and_clear();
    let folder = &args.out;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, text) in write(&systems) {
        let path = folder.join(name);
        output::write(&path, text)?;
    }
    println!(
        "{} systems in {} · {:.1} s",
        systems.len(),
        folder.display(),
        begin.elapsed().as_secs_f64()
    );
    Ok(ExitCode::SUCCESS)
}

/// The file of placements within a folder.
pub(crate) const PLACEMENTS: &str = "placements.txt";

/// The law, the seed and the requests, then a line for each placement: its number, and for each of its arms
/// mean seconds and share lost. The placements themselves follow from seed and number.
fn placements(args: &Generate) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let bar = super::bar("placements", args.systems);
    let seed = Seed(args.seed);
    let lines = super::in_parallel(
        0..args.systems,
        super::threads(args.threads),
        &bar,
        |number| {
            let labels = draw(seed, number).label(args.arrivals, seed.child("label", number));
            line(number, &labels)
        },
    );
    bar.finish_and_clear();
    let folder = &args.out;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(PLACEMENTS);
    let text = format!("{}\n{}", head(args.seed), lines.concat());
    output::write(&path, text)?;
    println!(
        "{} placements of {} requests in {} · {:.1} s",
        args.systems,
        args.arrivals,
        path.display(),
        begin.elapsed().as_secs_f64()
    );
    Ok(ExitCode::SUCCESS)
}

/// The first line: which placements the numbers stand for.
pub(crate) fn head(seed: u64) -> String {
    format!("splitplace placements law {LAW} seed {seed}")
}

fn line(number: u64, labels: &[Label]) -> String {
    use std::fmt::Write as _;
    let mut text = number.to_string();
    for label in labels {
        let response = label.response.unwrap_or(f64::NAN);
        let _ = write!(text, " {response:.6e} {:.6}", label.loss);
    }
    text.push('\n');
    text
}

/// What [`line()`] wrote.
pub(crate) fn labels(text: &str) -> Option<(u64, Vec<Label>)> {
    let mut words = text.split(' ');
    let number = words.next()?.parse().ok()?;
    let numbers: Vec<f64> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
    let pairs = numbers.as_chunks::<2>();
    if !pairs.1.is_empty() {
        return None;
    }
    let label = |&[response, loss]: &[f64; 2]| Label {
        response: (response > 0.0).then_some(response),
        loss,
    };
    Some((number, pairs.0.iter().map(label).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_back_as_they_were() {
        let known = [
            Label {
                response: Some(0.012_5),
                loss: 0.25,
            },
            Label {
                response: None,
                loss: 1.0,
            },
        ];
        let text = line(7, &known);
        assert_eq!(labels(text.trim_end()), Some((7, known.to_vec())));
        assert_eq!(labels("7 0.1"), None);
        assert_eq!(labels("seven 0.1 0.2"), None);
    }
}
