//! How commands speak: tables on standard output, everything else on standard error.
//!
//! Colours only where a person reads along: on a terminal, unless `NO_COLOR` is set.

use std::{io::IsTerminal as _, path::Path, process::ExitCode};

use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table, presets};
use splitplace_orchestrator::app::Addresses;
use splitplace_proto::center::{ExitControlStatus, RouteStatus, StatusResponse, TrafficStatus};
use tracing::Metadata;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::telemetry::Exporter;

/// Exit status of a command that did its work and found the answer to be "no".
pub(crate) const NO: u8 = 1;
/// Exit status of a command that could not do its work.
pub(crate) const ERROR: u8 = 2;

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One object a line.
    Json,
}

/// Sends logs to standard error as `filter` says, and the program's own spans to a collector, if there is one.
pub(crate) fn start_logging(
    filter: &str,
    format: LogFormat,
    collector: Option<&str>,
) -> anyhow::Result<Option<Exporter>> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter:?} is not a filter; try `info`"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(has_colours(std::io::stderr().is_terminal()));
    let lines = match format {
        LogFormat::Human => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let exporter = collector.map(Exporter::own).transpose()?;
    // The libraries' own spans tell nobody anything.
    let is_ours =
        |metadata: &Metadata<'_>| metadata.is_span() && metadata.target().starts_with("splitplace");
    let spans = exporter.as_ref().map(|exporter| {
        tracing_opentelemetry::layer()
            .with_tracer(exporter.tracer())
            .with_location(false)
            .with_threads(false)
            .with_filter(filter_fn(is_ours))
    });
    let registry = tracing_subscriber::registry().with(spans);
    let started = registry.with(lines.with_filter(filter)).try_init();
    started.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))?;
    Ok(exporter)
}

/// Prints an error with its causes; the exit status that goes with it.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    if let Some(code) = crate::codes::code(error) {
        eprintln!("{code}: docs/errors/{code}.md says what to do");
    }
    ExitCode::from(ERROR)
}

/// Whether to colour what goes to a stream that is, or is not, a terminal.
pub(crate) fn has_colours(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Ends the program in silence when nobody reads what it prints any more, as `splitplace … | head` does. The standard
/// library panics there; the status is that of a program that the signal for it has ended.
pub(crate) fn end_with_the_reader() {
    const SIGPIPE: i32 = 13;
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to stdout") && said.contains("Broken pipe") {
            std::process::exit(128 + SIGPIPE);
        }
        before(panic);
    }));
}

/// A table with a header row, in the house's look.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    table
}

/// Writes a file whole.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a value to a file as JSON, for `--report`.
pub(crate) fn report(path: &Path, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text =
        serde_json::to_string_pretty(value).context("the report cannot be written as JSON")?;
    write(path, text)
}

/// Prints a value as JSON on standard output.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println!(
        "{}",
        serde_json::to_string_pretty(value).context("the result cannot be written as JSON")?
    );
    Ok(())
}

/// Where an orchestrator listens, for people.
pub(crate) fn addresses(addresses: &Addresses) -> String {
    let Addresses {
        grpc,
        http,
        metrics,
        workers,
    } = addresses;
    format!(
        "gRPC on {grpc}, REST on http://{http}/v2, metrics on http://{metrics}/metrics, workers on {workers}"
    )
}

/// The same for programs.
pub(crate) fn addresses_json(addresses: &Addresses) -> serde_json::Value {
    serde_json::json!({
        "grpc": addresses.grpc.to_string(),
        "http": addresses.http.to_string(),
        "metrics": addresses.metrics.to_string(),
        "workers": addresses.workers.to_string(),
    })
}

/// A time of many sizes: `412 µs`, `3.21 ms`, `12.5 s`.
pub(crate) fn micros(micros: f64) -> String {
    match micros {
        m if m < 1e3 => format!("{m:.0} µs"),
        m if m < 1e4 => format!("{:.2} ms", m / 1e3),
        m if m < 1e5 => format!("{:.1} ms", m / 1e3),
        m if m < 1e6 => format!("{:.0} ms", m / 1e3),
        m => format!("{:.1} s", m / 1e6),
    }
}

/// A size of many sizes, in powers of ten.
pub(crate) fn bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let b = bytes as f64;
    match b {
        b if b < 1e3 => format!("{b:.0} B"),
        b if b < 1e6 => format!("{:.1} kB", b / 1e3),
        b if b < 1e9 => format!("{:.1} MB", b / 1e6),
        _ => format!("{:.2} GB", b / 1e9),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of less than a century"
)]
fn time(us: u64) -> String {
    micros(us as f64)
}

/// Prints the state of an orchestrator as tables.
pub(crate) fn status(status: &StatusResponse) {
    println!(
        "plan {} · policy {} · {} in flight{}",
        status.generation,
        status.policy,
        status.in_flight,
        match (status.standby, status.draining) {
            (true, _) => format!(" · said by a standby, {} ms old", status.age_ms),
            (false, true) => " · draining".to_owned(),
            (false, false) => String::new(),
        }
    );
    let mut nodes = table([
        "node",
        "state",
        "cores",
        "speed",
        "memory",
        "fragments take",
        "address",
    ]);
    for node in &status.nodes {
        let emulated = if node.emulated {
            format!(" (emulated, {:.0} %)", node.speed_share * 100.0)
        } else {
            String::new()
        };
        nodes.add_row([
            node.node.clone(),
            node.state.clone(),
            node.cores.to_string(),
            format!("{:.2} GMAC/s{emulated}", node.macs_per_second / 1e9),
            bytes(node.memory_bytes),
            bytes(node.memory_used_bytes),
            node.data_address.clone(),
        ]);
    }
    println!("{nodes}");
    for link in status.links.iter().filter(|link| !link.distrust.is_empty()) {
        println!(
            "no link from {} to {}: {} (SP409)",
            link.from, link.to, link.distrust
        );
    }
    let mut arms = table(["model", "state", "arm", "accuracy", "predicted", "route"]);
    for model in &status.models {
        let name = format!("{}/{}", model.model, model.version);
        if model.arms.is_empty() {
            let reason = model.reason.clone();
            arms.add_row([
                name,
                model.state.clone(),
                "—".into(),
                String::new(),
                String::new(),
                reason,
            ]);
            continue;
        }
        for arm in &model.arms {
            let branches: Vec<String> = arm.branches.iter().map(route).collect();
            arms.add_row([
                name.clone(),
                model.state.clone(),
                arm.arm.clone(),
                if arm.accuracy > 0.0 {
                    format!("{:.2} %", arm.accuracy * 100.0)
                } else {
                    "—".into()
                },
                if arm.available {
                    time(arm.predicted_us)
                } else {
                    "not available".into()
                },
                branches.join(" ∥ "),
            ]);
        }
    }
    println!("{arms}");
    if let Some(controls) = exit_controls(status) {
        println!("{controls}");
    }
    if !status.explanation.is_empty() {
        println!("{}", status.explanation);
    }
}

fn route(route: &RouteStatus) -> String {
    let mut told = String::new();
    for (place, hop) in route.hops.iter().enumerate() {
        let exits: String = hop
            .exits
            .iter()
            .map(|exit| format!(" {} ≥ {:.2}", exit.exit, exit.threshold))
            .collect();
        told.push_str(&format!("{} ({}{exits})", hop.node, time(hop.service_us)));
        let Some(next) = route.hops.get(place + 1) else {
            continue;
        };
        told.push_str(&match (next.node == hop.node, hop.codec.as_str()) {
            (true, _) => " · ".to_owned(),
            (false, "" | "raw") => " → ".to_owned(),
            (false, codec) => format!(" →{codec}→ "),
        });
    }
    told
}

/// What decides at an arm's exits, for programs.
fn exit_control(control: &ExitControlStatus) -> serde_json::Value {
    serde_json::json!({
        "policy": control.policy,
        "loss_target": control.loss_target,
        "rate": control.rate,
        "load": control.load,
        "expected_accuracy": control.expected_accuracy,
        "expected_loss": control.expected_loss,
        "measured_loss": control.measured_loss,
        "arrivals": control.arrivals,
        "aim": control.aim,
        "solutions": control.solutions,
        "audited": control.audited,
        "moved": control.moved,
        "trust": control.trust,
        "instead": control.instead,
    })
}

/// What decides at exits, where thresholds alone do not.
fn exit_controls(status: &StatusResponse) -> Option<Table> {
    let mut rows = table([
        "exits of",
        "decides",
        "arrivals/s",
        "load",
        "accuracy",
        "loss",
        "target",
        "made",
    ]);
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let mut is_empty = true;
    for model in &status.models {
        for arm in &model.arms {
            let Some(control) = &arm.exit_control else {
                continue;
            };
            is_empty = false;
            let decides = match control.instead.as_str() {
                "" => control.policy.clone(),
                why => format!("thresholds: {why}"),
            };
            rows.add_row([
                format!("{} {}", model.model, arm.arm),
                decides,
                format!("{:.1}", control.rate),
                format!("{:.2}", control.load),
                format!("{} expected", percent(control.expected_accuracy)),
                format!(
                    "{} of {}, {} expected",
                    percent(control.measured_loss),
                    control.arrivals,
                    percent(control.expected_loss)
                ),
                percent(control.loss_target),
                format!("{} times", control.solutions),
            ]);
        }
    }
    (!is_empty).then_some(rows)
}

/// The state of an orchestrator for programs, on one line.
pub(crate) fn status_json(status: &StatusResponse) -> serde_json::Value {
    let nodes = status.nodes.iter().map(|node| {
        serde_json::json!({
            "node": node.node,
            "state": node.state,
            "cores": node.cores,
            "macs_per_second": node.macs_per_second,
            "memory_bytes": node.memory_bytes,
            "memory_used_bytes": node.memory_used_bytes,
            "emulated": node.emulated,
            "speed_share": node.speed_share,
            "data_address": node.data_address,
            "busy": node.busy,
            "queued": node.queued,
            "computed_per_second": node.computed_per_second,
        })
    });
    let route = |route: &RouteStatus| {
        let hops = route.hops.iter().map(|hop| {
            serde_json::json!({
                "node": hop.node,
                "fragment": hop.fragment,
                "service_us": hop.service_us,
                "memory_bytes": hop.memory_bytes,
                "codec": hop.codec,
                "reach": hop.reach,
                "exits": hop.exits.iter().map(|exit| serde_json::json!({
                    "exit": exit.exit,
                    "threshold": exit.threshold,
                })).collect::<Vec<_>>(),
            })
        });
        hops.collect::<Vec<_>>()
    };
    let models = status.models.iter().map(|model| {
        let arms = model.arms.iter().map(|arm| {
            serde_json::json!({
                "arm": arm.arm,
                "kind": arm.kind,
                "variant": arm.variant,
                "technique": arm.technique,
                "exits": arm.exits.iter().collect::<std::collections::BTreeMap<_, _>>(),
                "accuracy": arm.accuracy,
                "predicted_us": arm.predicted_us,
                "available": arm.available,
                "exit_control": arm.exit_control.as_ref().map(exit_control),
                "branches": arm.branches.iter().map(route).collect::<Vec<_>>(),
            })
        });
        serde_json::json!({
            "model": model.model,
            "version": model.version,
            "state": model.state,
            "reason": model.reason,
            "default_sla_us": model.default_sla_us,
            "pinned": model.pinned,
            "traffic": model.traffic.as_ref().map(traffic_json),
            "answered": model.answered,
            "held": model.held,
            "lost": model.lost,
            "wishes": serde_json::from_str::<serde_json::Value>(&model.wishes).unwrap_or_default(),
            "arms": arms.collect::<Vec<_>>(),
        })
    });
    serde_json::json!({
        "version": status.version,
        "generation": status.generation,
        "policy": status.policy,
        "in_flight": status.in_flight,
        "draining": status.draining,
        "standby": status.standby,
        "age_ms": status.age_ms,
        "explanation": status.explanation,
        "policy_state": status.policy_state.iter().collect::<std::collections::BTreeMap<_, _>>(),
        "nodes": nodes.collect::<Vec<_>>(),
        "models": models.collect::<Vec<_>>(),
        "links": status.links.iter().map(|link| serde_json::json!({
            "from": link.from,
            "to": link.to,
            "frames_per_second": link.frames_per_second,
            "bytes_per_second": link.bytes_per_second,
            "reconnects": link.reconnects,
            "distrust": link.distrust,
        })).collect::<Vec<_>>(),
        "decisions": status.decisions.iter().map(|one| serde_json::json!({
            // A text: the number uses all 64 bits.
            "request": one.request.to_string(),
            "unix_ms": one.unix_ms,
            "model": one.model,
            "arm": one.arm,
            "context": one.context,
            "reason": one.reason,
            "propensity": one.propensity,
            "sla_us": one.sla_us,
            "predicted_us": one.predicted_us,
            "response_us": one.response_us,
            "ending": one.ending,
            "held": one.held,
        })).collect::<Vec<_>>(),
        "beliefs": status.beliefs.iter().map(|one| serde_json::json!({
            "model": one.model,
            "context": one.context,
            "arm": one.arm,
            "count": one.count,
            "explored": one.explored,
            "held": one.held,
            "reward": one.reward,
            "confidence": one.confidence,
            "propensity": one.propensity,
        })).collect::<Vec<_>>(),
    })
}

/// The last minute of a model, for programs.
fn traffic_json(traffic: &TrafficStatus) -> serde_json::Value {
    serde_json::json!({
        "requests_per_second": traffic.requests_per_second,
        "answered": traffic.answered,
        "held": traffic.held,
        "p50_us": traffic.p50_us,
        "p95_us": traffic.p95_us,
        "p99_us": traffic.p99_us,
        "lost": traffic.lost.iter().collect::<std::collections::BTreeMap<_, _>>(),
        "feedback_accuracy": traffic.feedback_accuracy,
        "feedback_samples": traffic.feedback_samples,
    })
}
