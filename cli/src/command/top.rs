//! `splitplace top`: the dashboard for those on a terminal.
//!
//! The same status that `splitplace status` prints, once a second, drawn over itself: fleet, models,
//! decisions. Without a terminal, or with `--once`, it is printed once.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use splitplace_proto::center::{ModelStatus, StatusRequest, StatusResponse};

use crate::{
    client::{Client, Server},
    output,
};

#[derive(Debug, Args)]
pub(crate) struct Top {
    #[command(flatten)]
    server: Server,
    /// Between two looks.
    #[arg(long, short = 'd', value_parser = humantime::parse_duration, default_value = "1s")]
    every: Duration,
    /// Print once and end.
    #[arg(long)]
    once: bool,
    /// One line of JSON for each look, as `status --json`.
    #[arg(long)]
    json: bool,
}

/// Decisions that are shown.
const DECISIONS: usize = 8;
/// Least time between two looks.
const LEAST: Duration = Duration::from_millis(100);

pub(crate) async fn run(args: Top) -> anyhow::Result<ExitCode> {
    let client = Client::connect(&args.server).await?;
    let is_terminal = std::io::stdout().is_terminal();
    let colours = output::has_colours(is_terminal);
    let is_once = args.once || !(is_terminal || args.json);
    let mut pause = tokio::time::interval(args.every.max(LEAST));
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let screen = Screen::enter(is_terminal && !is_once && !args.json)?;
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            _ = pause.tick() => {}
        }
        let status = client.center().status(StatusRequest {}).await?.into_inner();
        if args.json {
            println!("{}", output::status_json(&status));
        } else {
            screen.show(&page(&status, &Paint(colours)))?;
        }
        if is_once {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The terminal's other screen, given back when this is dropped.
struct Screen {
    is_taken: bool,
}

impl Screen {
    fn enter(take: bool) -> std::io::Result<Self> {
        if take {
            print!("\x1b[?1049h\x1b[?25l");
            std::io::stdout().flush()?;
        }
        Ok(Self { is_taken: take })
    }

    /// Draws over what was there: no line flickers, and no old line stays.
    fn show(&self, page: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.is_taken {
            let lines = page.lines().map(|line| format!("{line}\x1b[K\r\n"));
            write!(out, "\x1b[H{}\x1b[J", lines.collect::<String>())?;
        } else {
            writeln!(out, "{page}")?;
        }
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_taken {
            print!("\x1b[?25h\x1b[?1049l");
            // Nothing more can be done about a terminal that is gone.
            let _ = std::io::stdout().flush();
        }
    }
}

/// Colours, where a person reads along.
struct Paint(bool);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn good(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn bad(&self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn warn(&self, text: &str) -> String {
        self.with("33", text)
    }

    fn head(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn soft(&self, text: &str) -> String {
        self.with("2", text)
    }
}

/// A share as ten blocks and a number.
fn bar(share: f64, paint: &Paint) -> String {
    let share = share.clamp(0.0, 1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 80 eighths"
    )]
    let eighths = (share * 80.0).round() as usize;
    let mut text = "█".repeat(eighths / 8);
    let parts = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    text.push_str(parts[eighths % parts.len()]);
    let padded = format!("{text:<10}");
    let told = format!("{padded} {:>4.0} %", share * 100.0);
    match share {
        s if s > 0.95 => paint.bad(&told),
        s if s > 0.75 => paint.warn(&told),
        _ => told,
    }
}

/// Everything, as lines.
fn page(status: &StatusResponse, paint: &Paint) -> String {
    let mut lines = vec![headline(status, paint), String::new()];
    fleet(status, paint, &mut lines);
    models(status, paint, &mut lines);
    beliefs(status, paint, &mut lines);
    decisions(status, paint, &mut lines);
    lines.join("\n")
}

fn headline(status: &StatusResponse, paint: &Paint) -> String {
    let gone: Vec<&str> = status
        .nodes
        .iter()
        .filter(|node| node.state == "lost")
        .map(|node| &node.node[..])
        .collect();
    let is_wanted = |model: &&ModelStatus| model.state != "READY" && model.reason != "not loaded";
    let broken: Vec<&str> = status
        .models
        .iter()
        .filter(is_wanted)
        .map(|model| &model.model[..])
        .collect();
    let verdict = if status.draining {
        paint.warn("the orchestrator is leaving")
    } else if status.nodes.len() == gone.len() {
        paint.bad("no node is connected")
    } else if !broken.is_empty() {
        paint.bad(&format!("{} cannot be served", broken.join(", ")))
    } else if !gone.is_empty() {
        paint.warn(&format!(
            "{} lost; the rest serves everything",
            gone.join(", ")
        ))
    } else {
        paint.good("all is well")
    };
    format!(
        "{} {} · {verdict} · plan {} · policy {} · {} in flight",
        paint.head("SplitPlace"),
        status.version,
        status.generation,
        status.policy,
        status.in_flight
    )
}

fn fleet(status: &StatusResponse, paint: &Paint, lines: &mut Vec<String>) {
    let mut held: BTreeMap<&str, std::collections::BTreeSet<&str>> = BTreeMap::new();
    let arms = status.models.iter().flat_map(|model| &model.arms);
    for hop in arms
        .flat_map(|arm| &arm.branches)
        .flat_map(|route| &route.hops)
    {
        held.entry(&hop.node).or_default().insert(&hop.fragment);
    }
    let width = widest(status.nodes.iter().map(|node| &node.node[..]), 4);
    lines.push(paint.soft(&format!(
        "{:<width$}  {:<9} {:<17} {:<17} {:>7} {:>9} {:>9}",
        "node", "state", "CPU", "memory", "waiting", "computed", "fragments"
    )));
    for node in &status.nodes {
        let state = format!("{:<9}", node.state);
        let state = match &node.state[..] {
            "alive" => paint.good(&state),
            "lost" => paint.bad(&state),
            _ => paint.warn(&state),
        };
        #[expect(clippy::cast_precision_loss, reason = "a share of bytes")]
        let used = node.memory_used_bytes as f64 / node.memory_bytes.max(1) as f64;
        lines.push(format!(
            "{:<width$}  {state} {} {} {:>7} {:>7.1}/s {:>9}",
            node.node,
            bar(node.busy, paint),
            bar(used, paint),
            node.queued,
            node.computed_per_second,
            held.get(&node.node[..])
                .map_or(0, std::collections::BTreeSet::len)
        ));
    }
    lines.push(String::new());
}

fn models(status: &StatusResponse, paint: &Paint, lines: &mut Vec<String>) {
    let width = widest(status.models.iter().map(|model| &model.model[..]), 5);
    lines.push(paint.soft(&format!(
        "{:<width$}  {:<11} {:>9} {:>6} {:>8} {:>8} {:>8}  lost in the last minute",
        "model", "state", "requests", "kept", "p50", "p95", "p99"
    )));
    for model in &status.models {
        let state = format!("{:<11}", model.state);
        let state = if model.state == "READY" {
            paint.good(&state)
        } else {
            paint.warn(&state)
        };
        let traffic = model.traffic.clone().unwrap_or_default();
        let time = |us: u64| {
            if us == 0 {
                "—".to_owned()
            } else {
                micros(us)
            }
        };
        let kept = if traffic.answered == 0 {
            "—".to_owned()
        } else {
            format!("{:.0} %", traffic.held * 100.0)
        };
        let lost: BTreeMap<&String, &u64> = traffic.lost.iter().filter(|(_, n)| **n > 0).collect();
        let lost: Vec<String> = lost
            .iter()
            .map(|(reason, count)| format!("{count} {}", reason.replace('_', " ")))
            .collect();
        let mut told = format!(
            "{:<width$}  {state} {:>7.1}/s {kept:>6} {:>8} {:>8} {:>8}  {}",
            model.model,
            traffic.requests_per_second,
            time(traffic.p50_us),
            time(traffic.p95_us),
            time(traffic.p99_us),
            if lost.is_empty() {
                String::new()
            } else {
                paint.bad(&lost.join(", "))
            }
        );
        if !model.pinned.is_empty() {
            told.push_str(&paint.warn(&format!("pinned to {}", model.pinned)));
        }
        if !model.reason.is_empty() {
            told.push_str(&paint.soft(&model.reason));
        }
        lines.push(told);
    }
    lines.push(String::new());
}

fn beliefs(status: &StatusResponse, paint: &Paint, lines: &mut Vec<String>) {
    if status.beliefs.is_empty() {
        return;
    }
    let name = |belief: &splitplace_proto::center::BeliefStatus| {
        format!("{} {} {}", belief.model, belief.context, belief.arm)
    };
    let names: Vec<String> = status.beliefs.iter().map(name).collect();
    let width = widest(names.iter().map(|name| &name[..]), 17);
    lines.push(paint.soft(&format!(
        "{:<width$}  {:>8} {:>9} {:>6} {:>16} {:>11}",
        "model context arm", "taken", "to learn", "kept", "reward", "propensity"
    )));
    for (belief, name) in status.beliefs.iter().zip(&names) {
        let reward = if belief.confidence > 0.0 {
            format!("{:.3} ± {:.3}", belief.reward, belief.confidence)
        } else {
            format!("{:.3}", belief.reward)
        };
        lines.push(format!(
            "{name:<width$}  {:>8} {:>9} {:>4.0} % {reward:>16} {:>9.0} %",
            belief.count,
            belief.explored,
            belief.held * 100.0,
            belief.propensity * 100.0
        ));
    }
    lines.push(String::new());
}

fn decisions(status: &StatusResponse, paint: &Paint, lines: &mut Vec<String>) {
    let shown = &status.decisions[..status.decisions.len().min(DECISIONS)];
    if shown.is_empty() {
        return;
    }
    let name =
        |one: &splitplace_proto::center::DecisionStatus| format!("{} {}", one.model, one.arm);
    let names: Vec<String> = shown.iter().map(name).collect();
    let width = widest(names.iter().map(|name| &name[..]), 9);
    lines.push(paint.soft(&format!(
        "{:>10}  {:<width$}  {:<8} {:<9} {:>9} {:>9} {:>9}  outcome",
        "request", "model arm", "context", "why", "promised", "forecast", "took"
    )));
    for (one, name) in shown.iter().zip(&names) {
        let outcome = match (one.held, &one.ending[..]) {
            (true, _) => paint.good("kept"),
            (false, "answered") => paint.warn("late"),
            (false, ending) => paint.bad(ending),
        };
        lines.push(format!(
            "{:>10}  {name:<width$}  {:<8} {:<9} {:>9} {:>9} {:>9}  {outcome}",
            one.request,
            one.context,
            one.reason,
            micros(one.sla_us),
            micros(one.predicted_us),
            micros(one.response_us)
        ));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of less than a century"
)]
fn micros(us: u64) -> String {
    output::micros(us as f64)
}

fn widest<'a>(names: impl Iterator<Item = &'a str>, least: usize) -> usize {
    names
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0)
        .max(least)
}

#[cfg(test)]
mod tests {
    use splitplace_proto::center::{DecisionStatus, NodeStatus, TrafficStatus};

    use super::*;

    fn status() -> StatusResponse {
        StatusResponse {
            generation: 4,
            policy: "slack".into(),
            nodes: vec![
                NodeStatus {
                    node: "attic".into(),
                    state: "alive".into(),
                    busy: 0.5,
                    memory_bytes: 100,
                    memory_used_bytes: 97,
                    queued: 3,
                    ..NodeStatus::default()
                },
                NodeStatus {
                    node: "board".into(),
                    state: "lost".into(),
                    ..NodeStatus::default()
                },
            ],
            models: vec![ModelStatus {
                model: "m".into(),
                state: "READY".into(),
                traffic: Some(TrafficStatus {
                    requests_per_second: 12.5,
                    answered: 10,
                    held: 0.9,
                    p50_us: 9_000,
                    lost: [("expired".to_owned(), 2), ("broken".to_owned(), 0)].into(),
                    ..TrafficStatus::default()
                }),
                ..ModelStatus::default()
            }],
            decisions: vec![DecisionStatus {
                request: 77,
                model: "m".into(),
                arm: "base/chain".into(),
                reason: "best".into(),
                held: true,
                ..DecisionStatus::default()
            }],
            ..StatusResponse::default()
        }
    }

    #[test]
    fn a_page_says_what_is_wrong_first() {
        let page = page(&status(), &Paint(false));
        let first = page.lines().next().unwrap();
        assert!(
            first.contains("board lost") && first.contains("plan 4"),
            "{first}"
        );
        assert!(!page.contains('\x1b'), "no colours without a terminal");
        for wanted in [
            "█████        50 %",
            "97 %",
            "12.5/s",
            "90 %",
            "9.00 ms",
            "2 expired",
            "77",
            "kept",
        ] {
            assert!(page.contains(wanted), "{wanted} is missing in\n{page}");
        }
        assert!(!page.contains("broken"));
    }

    #[test]
    fn colours_are_taken_back() {
        let page = page(&status(), &Paint(true));
        assert_eq!(
            page.matches("\x1b[0m").count() * 2,
            page.matches("\x1b[").count()
        );
    }
}
