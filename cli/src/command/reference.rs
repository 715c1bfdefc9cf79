//! `splitplace reference`: the parts of the documentation that are made from the program.
//!
//! What it prints is committed; a test holds it against what the program would print now.

use std::{collections::BTreeMap, fmt::Write as _, process::ExitCode};

use anyhow::Context as _;
use clap::Subcommand;
use prometheus_client::registry::Registry;
use splitplace_orchestrator::center::metrics_reference;
use splitplace_worker as worker;

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Reference {
    /// Every metric, as docs/metrics.md has it.
    Metrics,
}

pub(crate) fn run(what: Reference) -> anyhow::Result<ExitCode> {
    match what {
        Reference::Metrics => print!("{}", metrics()?),
    }
    Ok(ExitCode::SUCCESS)
}

const ABOUT: &str = "\
# Metrics

Made by `splitplace reference metrics`; a test holds it true. Served in the OpenMetrics text format at
`http://HOST:8002/metrics` by the orchestrator, and by a worker where `metrics` says. Base units: seconds and bytes.

Labels are bounded: 64 models, 16 arms of each, `other` beyond. What a plan names is there at 0 from the moment it is in
force. Histograms reach from a quarter of a millisecond (workers: a tenth) to half a minute (3 s), each bound twice the
one before. `splitplace_response_seconds` carries the trace id of sampled requests as exemplar.

Share of promises kept: `sum(rate(splitplace_promises_total{held=\"true\"}[5m])) / sum(rate(splitplace_promises_total[5m]))`.
Requests without an answer: `sum by (reason) (rate(splitplace_losses_total[5m]))`.
The 95th percentile: `histogram_quantile(0.95, sum by (le, model) (rate(splitplace_response_seconds_bucket[5m])))`.
";

#[derive(Default)]
struct Metric {
    kind: String,
    help: String,
    labels: Vec<String>,
}

/// The numbers of a registry, by name, from the text that a scrape would get.
fn read(registry: &Registry) -> anyhow::Result<BTreeMap<String, Metric>> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)
        .context("the metrics cannot be written")?;
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                last = name.to_owned();
                let metric = metrics.entry(last.clone()).or_default();
                help.trim_end_matches('.').clone_into(&mut metric.help);
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                kind.clone_into(&mut metrics.entry(name.to_owned()).or_default().kind);
            }
            (Some(sample), ..) if sample.starts_with(&last) && !last.is_empty() => {
                let metric = metrics.entry(last.clone()).or_default();
                if metric.labels.is_empty()
                    && let Some((_, labels)) = sample.split_once('{')
                {
                    let names = labels.split("=\"").filter_map(|part| {
                        let name = part.rsplit([',', '{']).next()?;
                        name.bytes()
                            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                            .then(|| name.to_owned())
                    });
                    metric.labels = names
                        .filter(|name| !name.is_empty() && name != "le")
                        .collect();
                }
            }
            _ => {}
        }
    }
    Ok(metrics)
}

fn metrics() -> anyhow::Result<String> {
    let mut text = ABOUT.to_owned();
    let mut center = Registry::default();
    metrics_reference(&mut center);
    let mut worker = Registry::default();
    worker::Metrics::reference(&mut worker);
    let center = read(&center)?;
    let (triton, center) = center
        .into_iter()
        .partition(|(name, _)| name.starts_with("nv_"));
    for (title, metrics) in [
        ("Of the orchestrator", center),
        ("Of a worker", read(&worker)?),
        (
            "Under the names of Triton, with `api.triton-metrics = true`",
            triton,
        ),
    ] {
        write!(
            text,
            "\n## {title}\n\n| name | type | labels | what it says |\n|---|---|---|---|\n"
        )?;
        for (name, metric) in metrics {
            let total = if metric.kind == "counter" {
                "_total"
            } else {
                ""
            };
            let labels: Vec<String> = metric
                .labels
                .iter()
                .map(|label| format!("`{label}`"))
                .collect();
            writeln!(
                text,
                "| `{name}{total}` | {} | {} | {} |",
                metric.kind,
                labels.join(" "),
                metric.help
            )?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_metrics_is_true() {
        let page = include_str!("../../../docs/metrics.md");
        let now = metrics().unwrap();
        assert!(
            page == now,
            "docs/metrics.md is old: splitplace reference metrics > docs/metrics.md\n{now}"
        );
    }

    #[test]
    fn every_metric_says_what_it_is_in_base_units() {
        let mut registry = Registry::default();
        metrics_reference(&mut registry);
        worker::Metrics::reference(&mut registry);
        let metrics = read(&registry).unwrap();
        assert!(metrics.len() > 20, "{}", metrics.len());
        for (name, metric) in metrics {
            assert!(!metric.help.is_empty() && !metric.kind.is_empty(), "{name}");
            let is_ours = name.starts_with("splitplace_");
            assert!(is_ours || name.starts_with("nv_"), "{name}");
            for unit in ["_ms", "_us", "_millis", "_kb", "_mb"] {
                assert!(!is_ours || !name.ends_with(unit), "{name}");
            }
            if metric.kind == "histogram" {
                assert!(name.ends_with("_seconds"), "{name}");
            }
        }
    }
}
