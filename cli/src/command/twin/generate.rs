//! `splitplace twin generate`.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Context as _;
use clap::Args;
use splitplace_twin::{
    Seed,
    chainnet::{System, write},
};

#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// Folder for the data, in the published text format; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Systems, drawn by the law of the published ones.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    systems: u64,
    /// Jobs that come to each.
    #[arg(long, default_value_t = 20_000)]
    arrivals: u64,
    /// Of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; 0 for as many as the machine has.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

pub(super) fn run(args: &Generate) -> anyhow::Result<ExitCode> {
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
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!(
        "{} systems in {} · {:.1} s",
        systems.len(),
        folder.display(),
        begin.elapsed().as_secs_f64()
    );
    Ok(ExitCode::SUCCESS)
}
