//! `splitplace plan`: what runs, why, what it was before, and what an operator wants of it.

mod profiles;
mod text;

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use splitplace_proto::center::{
    ActRequest, Cuts, DrainNode, PinArm, PlaceArm, PlanDiffRequest, PlanDiffResponse, PlanRequest,
    PlanResponse, Unpin, act_request::What,
};

use crate::{
    client::{Client, Server},
    output,
};

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Where every arm runs, how it is cut, and what it is expected to take.
    Show(Show),
    /// Why: the runner-up of each arm, by how much it lost, and the rates of links at which the choice would change.
    Explain(Explain),
    /// What fragments take on the nodes that ran them: mean and tail, by samples in a call and by threads, and memory.
    Profiles(profiles::ProfilesArgs),
    /// What differs between two plans; without numbers, what the plan in force changed.
    Diff(Diff),
    /// Have requests take an arm, or the planner cut it so and have its fragments there.
    Pin(Pin),
    /// Take pins away: the policy chooses and the planner places again.
    Unpin(UnpinArgs),
    /// Plan without a node: its fragments move, and it finishes what it has.
    Drain(Drain),
    /// Plan with a drained node again.
    Undrain(Drain),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    server: Server,
    /// Only this model.
    model: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    server: Server,
    /// Only this model.
    model: Option<String>,
    /// The last plans that are told of.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 5)]
    events: usize,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    server: Server,
    /// Generation of the earlier plan.
    #[arg(default_value_t = 0, hide_default_value = true)]
    before: u64,
    /// Generation of the later plan; the one in force without it.
    #[arg(default_value_t = 0, hide_default_value = true)]
    after: u64,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Pin {
    #[command(flatten)]
    server: Server,
    /// The model.
    model: String,
    /// The arm, as `plan show` names it: `base/chain`.
    arm: String,
    /// Segments before each cut, as `4` or `4,9`; `none` for one piece. Requests are not pinned by this.
    #[arg(long, value_name = "SEGMENTS")]
    cut: Option<String>,
    /// Nodes of the fragments in order, as `attic,cellar`; `*` leaves one to the planner. Requests are not pinned by
    /// this.
    #[arg(long, value_name = "NODES")]
    on: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UnpinArgs {
    #[command(flatten)]
    server: Server,
    /// The model.
    model: String,
    /// Only what is pinned of this arm.
    arm: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    server: Server,
    /// The node.
    node: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(command: PlanCommand) -> anyhow::Result<ExitCode> {
    match command {
        PlanCommand::Show(args) => {
            let plan = ask(&args.server, false, args.model.as_deref()).await?;
            if args.json {
                output::json(&shown(&plan))?;
            } else {
                text::show(&plan);
            }
        }
        PlanCommand::Explain(args) => {
            let mut plan = ask(&args.server, true, args.model.as_deref()).await?;
            let old = plan.events.len().saturating_sub(args.events);
            plan.events.drain(..old);
            if args.json {
                output::json(&explained(&plan))?;
            } else {
                text::explain(&plan);
            }
        }
        PlanCommand::Profiles(args) => profiles::run(&args).await?,
        PlanCommand::Diff(args) => {
            let client = Client::connect(&args.server).await?;
            let asked = PlanDiffRequest {
                before: args.before,
                after: args.after,
            };
            let found = client.center().plan_diff(asked).await?.into_inner();
            if args.json {
                output::json(&differs(&found))?;
            } else {
                text::diff(&found);
            }
        }
        PlanCommand::Pin(args) => {
            let what = pin(&args)?;
            act(&args.server, what, args.json).await?;
        }
        PlanCommand::Unpin(args) => {
            let what = What::Unpin(Unpin {
                model: args.model,
                arm: args.arm.unwrap_or_default(),
            });
            act(&args.server, what, args.json).await?;
        }
        PlanCommand::Drain(args) => {
            let what = What::Drain(DrainNode { node: args.node });
            act(&args.server, what, args.json).await?;
        }
        PlanCommand::Undrain(args) => {
            let what = What::Undrain(DrainNode { node: args.node });
            act(&args.server, what, args.json).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(server: &Server, explain: bool, model: Option<&str>) -> anyhow::Result<PlanResponse> {
    let client = Client::connect(server).await?;
    let mut plan = client
        .center()
        .plan(PlanRequest { explain })
        .await?
        .into_inner();
    if let Some(model) = model {
        let names: Vec<String> = plan
            .models
            .iter()
            .map(|known| known.model.clone())
            .collect();
        plan.models.retain(|known| known.model == model);
        anyhow::ensure!(
            !plan.models.is_empty(),
            "the plan has no model {model:?}; it has: {}",
            names.join(", ")
        );
    }
    Ok(plan)
}

async fn act(server: &Server, what: What, is_json: bool) -> anyhow::Result<()> {
    let client = Client::connect(server).await?;
    let asked = ActRequest { what: Some(what) };
    let told = client.center().act(asked).await?.into_inner().told;
    if is_json {
        output::json(&json!({ "told": told }))?;
    } else {
        println!("{told}");
    }
    Ok(())
}

fn pin(args: &Pin) -> anyhow::Result<What> {
    let (model, arm) = (args.model.clone(), args.arm.clone());
    if args.cut.is_none() && args.on.is_none() {
        return Ok(What::Pin(PinArm { model, arm }));
    }
    let cuts = match args.cut.as_deref() {
        None => None,
        Some("none") => Some(Cuts::default()),
        Some(text) => {
            let numbers = text.split(',').map(|number| number.trim().parse::<u32>());
            let segments: Result<Vec<u32>, _> = numbers.collect();
            let segments = segments.with_context(|| {
                format!("--cut {text:?}: numbers of segments are expected, as 4,9")
            })?;
            Some(Cuts { segments })
        }
    };
    let mut nodes = BTreeMap::new();
    for (number, node) in (0u32..).zip(args.on.iter().flat_map(|text| text.split(','))) {
        if node.trim() != "*" {
            nodes.insert(number, node.trim().to_owned());
        }
    }
    Ok(What::Place(PlaceArm {
        model,
        arm,
        cuts,
        nodes: nodes.into_iter().collect(),
    }))
}

fn shown(plan: &PlanResponse) -> Value {
    let models = plan.models.iter().map(|model| {
        let arms = model.arms.iter().map(|arm| {
            json!({
                "arm": arm.arm,
                "kind": arm.kind,
                "way": arm.way,
                "cuts": arm.cuts,
                "bytes_between": arm.bytes_between,
                "predicted_us": arm.predicted_us,
                "accuracy": arm.accuracy,
                "pinned": arm.pinned,
            })
        });
        json!({
            "model": model.model,
            "version": model.version,
            "taken": model.taken,
            "arms": arms.collect::<Vec<_>>(),
        })
    });
    json!({
        "generation": plan.generation,
        "parent": plan.parent,
        "explanation": plan.explanation,
        "models": models.collect::<Vec<_>>(),
        "drained": plan.drained,
        "assumed": plan.assumed,
        "remembered": plan.remembered,
        "links": links(plan),
    })
}

fn explained(plan: &PlanResponse) -> Value {
    let mut value = shown(plan);
    for (told, model) in value["models"]
        .as_array_mut()
        .into_iter()
        .flatten()
        .zip(&plan.models)
    {
        for (told, arm) in told["arms"]
            .as_array_mut()
            .into_iter()
            .flatten()
            .zip(&model.arms)
        {
            let Some(why) = &arm.why else { continue };
            let switches = why.switches.iter().map(|switch| {
                json!({
                    "from": switch.from,
                    "to": switch.to,
                    "now_mbit": mbit(switch.now_bytes_per_second),
                    "at_mbit": mbit(switch.at_bytes_per_second),
                    "becomes": switch.becomes,
                })
            });
            told["why"] = json!({
                "expected_us": why.expected_us,
                "runner_up": why.runner_up,
                "runner_up_us": why.runner_up_us,
                "switches": switches.collect::<Vec<_>>(),
            });
        }
    }
    let events = plan.events.iter().map(|event| {
        json!({
            "unix_ms": event.unix_ms,
            "generation": event.generation,
            "parent": event.parent,
            "cause": event.cause,
            "said": event.said,
            "loaded": event.loaded,
            "kept": event.kept,
            "sent_bytes": event.sent_bytes,
            "planned_us": event.planned_us,
            "loaded_us": event.loaded_us,
        })
    });
    value["events"] = events.collect();
    value
}

fn links(plan: &PlanResponse) -> Vec<Value> {
    let links = plan.links.iter().map(|link| {
        json!({
            "from": link.from,
            "to": link.to,
            "mbit": mbit(link.bytes_per_second),
            "delay_us": link.delay_us,
            "late_mbit": mbit(link.late_bytes_per_second),
            "late_delay_us": link.late_delay_us,
        })
    });
    links.collect()
}

fn differs(found: &PlanDiffResponse) -> Value {
    let changes = found.changes.iter().map(|change| {
        json!({
            "model": change.model,
            "arm": change.arm,
            "before": change.before,
            "after": change.after,
            "before_us": change.before_us,
            "after_us": change.after_us,
            "resplit": change.resplit,
        })
    });
    json!({
        "before": found.before,
        "after": found.after,
        "changes": changes.collect::<Vec<_>>(),
        "loaded": found.loaded,
        "dropped": found.dropped,
        "kept": found.kept,
    })
}

/// Megabits a second; `null` when nothing limits them.
fn mbit(bytes_per_second: f64) -> Option<f64> {
    bytes_per_second
        .is_finite()
        .then_some(bytes_per_second * 8e-6)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Told {
        #[command(subcommand)]
        command: PlanCommand,
    }

    fn what(arguments: &[&str]) -> anyhow::Result<What> {
        let all = ["plan", "pin", "m", "base/chain"].iter().chain(arguments);
        let told = Told::try_parse_from(all)?;
        let PlanCommand::Pin(args) = told.command else {
            anyhow::bail!("another command");
        };
        pin(&args)
    }

    #[test]
    fn pins_are_of_requests_or_of_places() {
        assert!(matches!(what(&[]).unwrap(), What::Pin(_)));
        let What::Place(place) = what(&["--cut", "4, 9", "--on", "attic,*,cellar"]).unwrap() else {
            panic!("a place is laid down");
        };
        assert_eq!(place.cuts.unwrap().segments, [4, 9]);
        let nodes: BTreeMap<u32, String> = place.nodes.into_iter().collect();
        assert_eq!(
            nodes,
            BTreeMap::from([(0, "attic".into()), (2, "cellar".into())])
        );
        let What::Place(place) = what(&["--cut", "none"]).unwrap() else {
            panic!("a place is laid down");
        };
        assert_eq!(place.cuts.unwrap().segments, Vec::<u32>::new());
        assert!(what(&["--cut", "four"]).is_err());
    }
}
