//! Networks with exits to compare controllers on: measured packages, records, a made-up one.

use std::path::Path;

use anyhow::{Context as _, ensure};
use splitplace_onnx::{ExitRecord, Limits, Package, tables::Latency};
use splitplace_policy::exit::{Records, synthetic::Synthetic};
use splitplace_queueing::Service;

/// A network: what each exit says of each input, and how long it takes to get there.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// For tables and file names.
    pub(crate) name: String,
    /// Inputs that controllers are made from.
    pub(crate) known: Records,
    /// Inputs that they are judged on.
    pub(crate) fresh: Records,
    /// Times between exits.
    pub(crate) stages: Vec<Service>,
}

impl Source {
    /// The network's mean service time to its end, in seconds.
    pub(crate) fn longest(&self) -> f64 {
        self.stages.iter().map(Service::mean).sum()
    }

    /// Every second input is known; at most `limit` of each half are kept.
    fn new(name: String, records: &Records, stages: Vec<Service>, limit: usize) -> Self {
        Self {
            name,
            known: records.filter(|input| input % 2 == 0 && input / 2 < limit),
            fresh: records.filter(|input| input % 2 == 1 && input / 2 < limit),
            stages,
        }
    }
}

/// The made-up network: nine exits, 60 to 360 ms.
pub(crate) fn made_up(limit: usize) -> anyhow::Result<Source> {
    let network = Synthetic {
        inputs: 2 * limit,
        ..Synthetic::default()
    };
    let name = "synthetic".to_owned();
    Ok(Source::new(
        name,
        &network.records()?,
        network.stages()?,
        limit,
    ))
}

/// A package's folder, when a variant of it has a record of its exits.
pub(crate) fn package(folder: &Path, limit: usize) -> anyhow::Result<Option<Source>> {
    let package = Package::open(folder, &Limits::default())?;
    let Some(tables) = &package.tables else {
        return Ok(None);
    };
    for table in tables.variants.iter().filter(|table| table.exits.len() > 1) {
        let Some(record) = package.exit_record(&table.name)? else {
            continue;
        };
        ensure!(
            record.exits() == table.exits.len(),
            "{}: {} exits measured, {} recorded",
            folder.display(),
            table.exits.len(),
            record.exits()
        );
        let latencies: Vec<Latency> = table.exits.iter().map(|exit| exit.latency).collect();
        let name = package.name.clone();
        let records = read(&record)?;
        return Ok(Some(Source::new(
            name,
            &records,
            stages(&latencies)?,
            limit,
        )));
    }
    Ok(None)
}

/// `NAME=FILE@SECONDS,SECONDS,…`: a record, and the time to each exit.
pub(crate) fn record(text: &str, limit: usize) -> anyhow::Result<Source> {
    let parts = || {
        let (name, rest) = text.split_once('=')?;
        let (file, times) = rest.rsplit_once('@')?;
        Some((name, file, times))
    };
    let (name, file, times) =
        parts().with_context(|| format!("{text:?} is not NAME=FILE@SECONDS,SECONDS,…"))?;
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
    let record = ExitRecord::from_bytes(&bytes).map_err(|why| anyhow::anyhow!("{file}: {why}"))?;
    let seconds: Vec<f64> = times
        .split(',')
        .map(|t| {
            t.parse()
                .with_context(|| format!("{t:?} is not a number of seconds"))
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(
        seconds.len() == record.exits(),
        "{file} has {} exits, but {} times are given",
        record.exits(),
        seconds.len()
    );
    let constant = |&mean: &f64| Latency { mean, p95: mean };
    let latencies: Vec<Latency> = seconds.iter().map(constant).collect();
    Ok(Source::new(
        name.to_owned(),
        &read(&record)?,
        stages(&latencies)?,
        limit,
    ))
}

fn read(record: &ExitRecord) -> anyhow::Result<Records> {
    splitplace_orchestrator::catalog::records(record).map_err(anyhow::Error::msg)
}

/// Times between exits from the times up to each: means subtract, and so do variances (from the 95th percentile of a
/// normal law), as far as they are positive.
fn stages(latencies: &[Latency]) -> anyhow::Result<Vec<Service>> {
    let (mut mean, mut variance) = (0.0, 0.0);
    let mut stages = Vec::with_capacity(latencies.len());
    for latency in latencies {
        let deviation = ((latency.p95 - latency.mean) / 1.645).max(0.0);
        let own = (latency.mean - mean).max(1e-9);
        let spread = (deviation * deviation - variance).max(0.0);
        stages.push(Service::gamma(own, spread / (own * own))?);
        mean = mean.max(latency.mean);
        variance = variance.max(deviation * deviation);
    }
    Ok(stages)
}
