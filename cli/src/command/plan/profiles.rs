//! `splitplace plan profiles`: what fragments take, as it was measured.

use clap::Args;
use serde_json::{Value, json};
use splitplace_plan::FragmentId;
use splitplace_proto::center::{ProfiledFragment, ProfiledSetting, ProfilesRequest};

use super::text::some_bytes;
use crate::{
    client::{Client, Server},
    output::{self, micros, table},
};

#[derive(Debug, Args)]
pub(crate) struct ProfilesArgs {
    #[command(flatten)]
    server: Server,
    /// Only this model.
    model: Option<String>,
    /// Only this node.
    #[arg(long)]
    node: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &ProfilesArgs) -> anyhow::Result<()> {
    let client = Client::connect(&args.server).await?;
    let answer = client.center().profiles(ProfilesRequest {}).await?;
    let mut fragments = answer.into_inner().fragments;
    let is_wanted = |wanted: &Option<String>, has: &str| wanted.as_deref().is_none_or(|w| w == has);
    fragments.retain(|one| is_wanted(&args.model, &one.model) && is_wanted(&args.node, &one.node));
    if args.json {
        output::json(&fragments.iter().map(told).collect::<Vec<_>>())?;
        return Ok(());
    }
    let mut rows = table([
        "fragment",
        "node",
        "holds",
        "a run takes",
        "batch",
        "threads",
        "runs",
        "mean",
        "deviation",
        "95 of 100",
        "speed-up",
    ]);
    for one in &fragments {
        for (number, setting) in one.settings.iter().enumerate() {
            let first = |text: String| if number == 0 { text } else { String::new() };
            rows.add_row([
                first(label(one)),
                first(one.node.clone()),
                first(some_bytes(one.memory_bytes)),
                first(some_bytes(one.peak_bytes)),
                setting.batch.to_string(),
                setting.threads.to_string(),
                setting.runs.to_string(),
                time(setting.mean_seconds),
                time(setting.variance_seconds2.max(0.0).sqrt()),
                time(setting.p95_seconds),
                match setting.speed_up {
                    unknown if unknown <= 0.0 => "–".into(),
                    speed_up => format!("{speed_up:.2}"),
                },
            ]);
        }
    }
    println!("{rows}");
    println!("times are of one sample; speed-up is over one thread with one sample a call");
    Ok(())
}

fn label(one: &ProfiledFragment) -> String {
    if one.model.is_empty() {
        return FragmentId::from_slice(&one.id).map_or_else(String::new, |id| id.to_string());
    }
    format!(
        "{}/{}/{} {}-{}",
        one.model, one.variant, one.part, one.first_segment, one.end_segment
    )
}

fn time(seconds: f64) -> String {
    micros(seconds * 1e6)
}

fn told(one: &ProfiledFragment) -> Value {
    let setting = |setting: &ProfiledSetting| {
        json!({
            "batch": setting.batch,
            "threads": setting.threads,
            "runs": setting.runs,
            "mean_seconds": setting.mean_seconds,
            "variance_seconds2": setting.variance_seconds2,
            "p95_seconds": setting.p95_seconds,
            "speed_up": (setting.speed_up > 0.0).then_some(setting.speed_up),
        })
    };
    json!({
        "id": FragmentId::from_slice(&one.id).map(|id| id.hex()),
        "model": one.model,
        "variant": one.variant,
        "part": one.part,
        "segments": [one.first_segment, one.end_segment],
        "node": one.node,
        "memory_bytes": one.memory_bytes,
        "peak_bytes": one.peak_bytes,
        "settings": one.settings.iter().map(setting).collect::<Vec<_>>(),
    })
}
