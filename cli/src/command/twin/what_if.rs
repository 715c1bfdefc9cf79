//! `splitplace twin what-if`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use serde_json::json;
use splitplace_proto::center::SnapshotRequest;
use splitplace_twin::{
    Seed,
    scenario::ModelOutcome,
    stats::Summary,
    what_if::{Answer, Change, Difference, Effort, Question, Side},
};

use crate::{
    client::{Client, Server},
    output,
    svg::Bars,
};

#[derive(Debug, Args)]
pub(crate) struct WhatIf {
    #[command(flatten)]
    server: Server,
    /// What would be different: remove=NODE, add=NODE:LIKE, slow=NODE:TIMES, `load=[MODEL:]TIMES`,
    /// `rate=[MODEL:]PER_SECOND`, link=FROM:TO:TIMES, delay=FROM:TO:MS, `sla=[MODEL:]MS`. Ends of links are
    /// `center`, a node, or `*`. Several happen together.
    #[arg(value_name = "CHANGE", required = true)]
    changes: Vec<Change>,
    /// Runs of each side.
    #[arg(long, value_name = "N", default_value_t = 8)]
    seeds: u64,
    /// The seed that all others come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests that count come for this long in each run.
    #[arg(long, short = 'd', value_parser = humantime::parse_duration, default_value = "20s")]
    duration: Duration,
    /// Threads; 0 for as many as the machine has.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Draw before and after into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Write everything to this file as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: WhatIf) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        (2..=10_000).contains(&args.seeds),
        "--seeds must lie in 2 to 10000"
    );
    let client = Client::connect(&args.server).await?;
    let told = client.center().snapshot(SnapshotRequest {}).await?;
    let observed = super::snapshot::observed(&told.into_inner())?;
    let effort = Effort {
        measured: args.duration,
        warm_up: args.duration / 10,
        runs: args.seeds,
    };
    let question = Question::new(&observed, &args.changes, effort, Seed(args.seed))?;
    let answer = tokio::task::block_in_place(|| ask(&question, args.threads));
    let told = report(&answer);
    if let Some(path) = &args.report {
        output::report(path, &told)?;
    }
    if let Some(path) = &args.plot {
        let text = plot(&answer).draw();
        output::write(path, text)?;
    }
    if args.json {
        output::json(&told)?;
    } else {
        show(&answer);
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(question: &Question, threads: usize) -> Answer {
    let bar = super::bar("runs", question.runs());
    let threads = super::threads(threads);
    let pairs = super::in_parallel(0..question.runs(), threads, &bar, |n| question.replicate(n));
    bar.finish_and_clear();
    let mut answer = question.unanswered();
    pairs.iter().for_each(|pair| answer.add(pair));
    answer
}

fn title(answer: &Answer) -> String {
    let changes: Vec<String> = answer.changes.iter().map(ToString::to_string).collect();
    changes.join(" ")
}

fn side(model: &ModelOutcome) -> serde_json::Value {
    json!({
        "offered_per_second": super::json(&model.offered),
        "answers_per_second": super::json(&model.throughput),
        "response_seconds": super::json(&model.mean),
        "p95_seconds": super::json(&model.p95),
        "loss": super::json(&model.loss),
        "sla_violations": super::json(&model.violations),
        "accuracy": super::json(&model.accuracy),
    })
}

fn report(answer: &Answer) -> serde_json::Value {
    let models = answer.models.iter().map(|(name, difference)| {
        let of = |side_of: &Side| side_of.outcome.models.get(name).map(side);
        let shown = answer.shown.get(name).map(|shown| {
            json!({
                "response_seconds": shown.response,
                "loss": shown.loss,
                "sla_violations": shown.violations,
                "requests": shown.weight,
            })
        });
        let told = json!({
            "shown": shown,
            "before": of(&answer.before),
            "after": of(&answer.after),
            "difference": {
                "response_seconds": super::json(&difference.response),
                "p95_seconds": super::json(&difference.p95),
                "loss": super::json(&difference.loss),
                "sla_violations": super::json(&difference.violations),
                "accuracy": super::json(&difference.accuracy),
                "answers_per_second": super::json(&difference.throughput),
            },
        });
        (name.to_string(), told)
    });
    let moved = answer.moved();
    let moved = moved
        .iter()
        .map(|(arm, before, after)| json!({ "arm": arm, "before": before, "after": after }));
    json!({
        "changes": answer.changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "generation": answer.before.plan.generation.0,
        "runs": answer.before.outcome.runs(),
        "confidence": super::CONFIDENCE,
        "models": models.collect::<serde_json::Map<_, _>>(),
        "moved": moved.collect::<Vec<_>>(),
        "plan": answer.after.plan.explanation,
    })
}

fn show(answer: &Answer) {
    let mut table = output::table([
        "model",
        "",
        "answers/s",
        "mean",
        "p95",
        "lost",
        "SLA missed",
        "accuracy",
    ]);
    for (name, difference) in &answer.models {
        if let Some(shown) = answer.shown.get(name) {
            table.add_row([
                name.to_string(),
                "shown live".into(),
                String::new(),
                output::micros(shown.response * 1e6),
                String::new(),
                format!("{:.2} %", shown.loss * 100.0),
                format!("{:.2} %", shown.violations * 100.0),
                String::new(),
            ]);
        }
        for (what, side) in [("before", &answer.before), ("after", &answer.after)] {
            if let Some(model) = side.outcome.models.get(name) {
                table.add_row([
                    name.to_string(),
                    what.to_owned(),
                    super::number(&model.throughput),
                    super::time(&model.mean),
                    super::time(&model.p95),
                    super::share(&model.loss),
                    super::share(&model.violations),
                    super::share(&model.accuracy),
                ]);
            }
        }
        table.add_row(row(difference));
    }
    println!("what if {}", title(answer));
    println!("{table}");
    for (arm, before, after) in answer.moved() {
        let told = |nodes: &[String]| match nodes {
            [] => "nowhere".to_owned(),
            nodes => nodes.join(" → "),
        };
        println!("{arm}: {} ⇒ {}", told(&before), told(&after));
    }
    if answer
        .after
        .plan
        .models
        .values()
        .all(|one| one.arms.is_empty())
    {
        println!("no arm has a place afterwards");
    }
    println!(
        "{} runs of each side on the same requests; 95 % intervals; a star: the interval leaves out 0",
        answer.before.outcome.runs()
    );
}

fn row(difference: &Difference) -> [String; 8] {
    let signed = |summary: &Summary, times: f64, unit: &str| {
        let estimate = summary.estimate(super::CONFIDENCE);
        if estimate.count == 0 {
            return "—".into();
        }
        let (mean, half) = (estimate.mean * times, estimate.half_width * times);
        let star = if mean.abs() > half { " *" } else { "" };
        format!("{mean:+.2}{unit} ± {half:.2}{star}")
    };
    [
        String::new(),
        "difference".into(),
        signed(&difference.throughput, 1.0, ""),
        signed(&difference.response, 1e3, " ms"),
        signed(&difference.p95, 1e3, " ms"),
        signed(&difference.loss, 100.0, ""),
        signed(&difference.violations, 100.0, ""),
        signed(&difference.accuracy, 100.0, ""),
    ]
}

fn plot(answer: &Answer) -> Bars {
    let mut groups = Vec::new();
    for name in answer.models.keys() {
        let sides = [&answer.before, &answer.after].map(|side| side.outcome.models.get(name));
        for (figure, of) in [
            ("mean", (|one| &one.mean) as fn(&ModelOutcome) -> &Summary),
            ("p95", |one| &one.p95),
        ] {
            let bars = sides.map(|model| super::drawn(model.map(of), 1e3));
            groups.push((format!("{name} {figure}"), bars.to_vec()));
        }
    }
    Bars {
        title: format!("what if {}", title(answer)),
        y: "ms".into(),
        series: vec!["before".into(), "after".into()],
        groups,
    }
}
