//! `splitplace demo`: the whole story on one machine, in about a minute.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use parking_lot::Mutex;
use splitplace_orchestrator::{config::Config, fleet_file::FleetFile};
use splitplace_proto::center::{
    FeedbackRequest, HopStatus, StatusRequest, StatusResponse, WatchPlanRequest,
};
use tokio::{sync::Semaphore, time::Instant};

use super::load::{bar, groups, percent};
use crate::{
    client::{Client, Server},
    demo::{
        recovery::Recovery,
        reference::Reference,
        report::{self, Check, Claims},
    },
    fleet::{self, Fleet},
    load::{
        arrivals::{Arrivals, Gaps, SlaMix},
        engine::{self, Mode, Outcome, Run},
        payloads::Payloads,
        summary::{Quantiles, Summary},
    },
    output, shipped,
};

/// The package that is shown.
const MODEL: &str = "fashion-mnist";
/// Pictures that are sent, again and again in random order.
const PICTURES: usize = 2000;
/// Load before the predictions are believed.
const WARM_UP: Duration = Duration::from_secs(4);
/// Feedback under way.
const FEEDBACK: usize = 32;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Write the full report as JSON; docs/demo-report.md describes it.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// How long requests are sent.
    #[arg(long, short = 'd', value_parser = humantime::parse_duration, default_value = "45s")]
    duration: Duration,
    /// Requests a second.
    #[arg(long, default_value_t = 80.0)]
    rate: f64,
    /// Who chooses: slack, two-context, layer, semantic, whole, compressed, random.
    #[arg(long, default_value = "slack")]
    policy: String,
    /// Emulated fleet; the shipped one without it.
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report on standard output instead of tables.
    #[arg(long)]
    json: bool,
}

/// What the load's outcomes are folded into.
struct Story {
    summary: Summary,
    recovery: Recovery,
    reference: Reference,
    /// Outcomes until the kill is known to have happened.
    early: Vec<Outcome>,
}

pub(crate) async fn run(args: Demo) -> Result<ExitCode> {
    let scratch = tempfile::Builder::new()
        .prefix("splitplace-demo-")
        .tempdir()?;
    let fleet_path = match &args.fleet {
        Some(path) => path.clone(),
        None => {
            let path = scratch.path().join("fleet.toml");
            std::fs::write(&path, shipped::DEMO_FLEET)?;
            path
        }
    };
    let file = FleetFile::read(&fleet_path)?;
    if file.nodes.len() < 2 {
        bail!("the demo kills a node: a fleet of at least two is needed");
    }
    let packages = scratch.path().join("packages");
    shipped::write_packages(&packages, Some(MODEL))?;
    let mut pictures = shipped::pictures()?;
    let pixels = pictures.size[0] * pictures.size[1];
    pictures.pixels.truncate(PICTURES * pixels);
    pictures.labels.truncate(PICTURES);

    eprintln!(
        "splitplace demo: {} emulated nodes as processes of their own",
        file.nodes.len()
    );
    let reference = reference(&packages.join(MODEL), &pictures).await?;

    let mut config = Config {
        models: Some(packages),
        load: vec![MODEL.into()],
        store: Some(scratch.path().join("store")),
        fleet: Some(fleet_path),
        seed: Some(args.seed),
        ..Config::default()
    };
    config.policy.name = args.policy.clone();
    fleet::on_free_ports(&mut config);
    let mut fleet = Fleet::start(config, fleet::emulated_nodes(&file), true).await?;
    let told = tokio::select! {
        told = tell(&args, &mut fleet, &file, &pictures, reference) => told,
        () = fleet::asked_to_stop() => Err(anyhow::anyhow!("the demo was stopped")),
    };
    fleet.stop().await;
    let (report, is_right) = told?;
    if let Some(path) = &args.report {
        output::report(path, &report)?;
        eprintln!("the full report is in {}", path.display());
    }
    if args.json {
        output::json(&report)?;
    }
    Ok(if is_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(output::NO)
    })
}

async fn reference(package: &std::path::Path, pictures: &shipped::Pictures) -> Result<Reference> {
    let bar = bar(
        "running the whole network here, to compare with",
        Duration::ZERO,
    );
    bar.set_length(pictures.len() as u64);
    let (package, pictures) = (package.to_owned(), pictures.clone());
    let computed = tokio::task::spawn_blocking(move || {
        let computed =
            Reference::compute(&package, &pictures, |done| bar.set_position(done as u64));
        bar.finish_and_clear();
        computed
    });
    computed.await?
}

async fn tell(
    args: &Demo,
    fleet: &mut Fleet,
    file: &FleetFile,
    pictures: &shipped::Pictures,
    reference: Reference,
) -> Result<(serde_json::Value, bool)> {
    fleet.ready(Duration::from_secs(60)).await?;
    let server = Server::local(fleet.addresses().grpc);
    let client = Client::connect(&server).await?;
    let metadata = client.metadata(MODEL).await?;
    let payloads = Arc::new(Payloads::pictures(&metadata, pictures, 1)?);
    warm_up(args, &client, &payloads).await?;
    let before = client.center().status(StatusRequest {}).await?.into_inner();
    if !args.json {
        output::status(&before);
    }
    let (tight, loose) = promises(&before)?;
    let victim = victim(&before, fleet).context("no node of the plan has a process to kill")?;
    eprintln!(
        "sending {:.0} requests a second for {:?}: half are promised {}, half {}; {victim} dies halfway",
        args.rate,
        args.duration,
        output::micros(tight.as_secs_f64() * 1e6),
        output::micros(loose.as_secs_f64() * 1e6),
    );
    let slas = SlaMix::new(vec![(tight, 0.5), (loose, 0.5)]);
    let arrivals = Arrivals::new(Gaps::Poisson, args.rate, slas, args.seed)?;
    let connections = vec![client.clone(), Client::connect(&server).await?];
    let run = Run {
        connections,
        payloads: Arc::clone(&payloads),
        mode: Mode::Open(Box::new(arrivals)),
        duration: args.duration,
        requests: u64::MAX,
        timeout: Duration::from_secs(30),
        in_flight: 10_000,
        in_order: false,
    };
    let story = Arc::new(Mutex::new(Story {
        summary: Summary::new(Duration::ZERO, None),
        recovery: Recovery::of(&victim),
        reference,
        early: Vec::new(),
    }));
    let begin = Instant::now();
    let bar = bar("load", args.duration);
    let told = Arc::new(Semaphore::new(FEEDBACK));
    let sending = engine::run(run, |outcome| {
        let mut story = story.lock();
        if let Ok(answered) = &outcome.result {
            story.reference.compare(outcome.payload, answered);
            if let Some(request) = answered.request {
                let labels = payloads.labels(outcome.payload).to_vec();
                feedback(&client, &told, FeedbackRequest { request, labels });
            }
        }
        story.summary.add(&outcome);
        bar.set_position(u64::try_from(outcome.ended.as_millis()).unwrap_or(0));
        bar.set_message(format!(
            "{} answered, {} lost, SLA held {}",
            story.summary.all.count,
            story.summary.lost(),
            percent(story.summary.all.held())
        ));
        match story.recovery.at {
            None => story.early.push(outcome),
            Some(_) => story.recovery.add(&outcome),
        }
    });
    let killing = async {
        tokio::time::sleep_until(begin + args.duration / 2).await;
        let running = client.center().status(StatusRequest {}).await?.into_inner();
        let watching = tokio::spawn(replanned(
            client.clone(),
            running.generation,
            victim.clone(),
            begin,
        ));
        let at = begin.elapsed();
        fleet.kill(&victim).await?;
        bar.println(format!(
            "node {victim} was killed after {:.1} s",
            at.as_secs_f64()
        ));
        let mut story = story.lock();
        story.recovery.at = Some(at);
        for outcome in std::mem::take(&mut story.early) {
            story.recovery.add(&outcome);
        }
        anyhow::Ok((at, watching))
    };
    let ((), killed) = tokio::join!(sending, killing);
    let (killed, watching) = killed?;
    bar.finish_and_clear();
    if let Ok(Ok(Ok(Some((at, generation))))) =
        tokio::time::timeout(Duration::from_secs(5), watching).await
    {
        let mut story = story.lock();
        story.recovery.replanned = Some(at.saturating_sub(killed));
        story.recovery.generation = generation;
    }
    let after = client.center().status(StatusRequest {}).await?.into_inner();
    let story = story.lock();
    let claims = claims(&before);
    let checks = report::checks(&story.summary, &story.recovery, &story.reference, &claims);
    if !args.json {
        output::status(&after);
        show(&story, &checks);
    }
    let is_right = checks.iter().all(|check| check.held);
    let report = serde_json::json!({
        "format": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "seed": args.seed,
        "policy": args.policy,
        "emulated": true,
        "fleet": file,
        "rate": args.rate,
        "duration_s": args.duration.as_secs_f64(),
        "sla": { "tight_ms": tight.as_secs_f64() * 1e3, "loose_ms": loose.as_secs_f64() * 1e3 },
        "pictures": pictures.len(),
        "plan_before": output::status_json(&before),
        "plan_after": output::status_json(&after),
        "load": story.summary.json(),
        "kill": story.recovery.json(),
        "reference": {
            "compared": story.reference.compared,
            "exact": story.reference.exact,
            "wrong": story.reference.wrong,
            "accuracy": story.reference.accuracy,
            "largest_difference": f64::from(story.reference.largest),
        },
        "claims": claims,
        "checks": checks,
        "right": is_right,
    });
    Ok((report, is_right))
}

/// Sends some requests that promise nothing in particular, so that predictions rest on what nodes do
/// under load.
async fn warm_up(args: &Demo, client: &Client, payloads: &Arc<Payloads>) -> Result<()> {
    let arrivals = Arrivals::new(Gaps::Poisson, args.rate, SlaMix::default(), !args.seed)?;
    let run = Run {
        connections: vec![client.clone()],
        payloads: Arc::clone(payloads),
        mode: Mode::Open(Box::new(arrivals)),
        duration: WARM_UP,
        requests: u64::MAX,
        timeout: Duration::from_secs(30),
        in_flight: 10_000,
        in_order: false,
    };
    let bar = bar("warming up", WARM_UP);
    engine::run(run, |outcome| {
        bar.set_position(u64::try_from(outcome.ended.as_millis()).unwrap_or(0));
    })
    .await;
    bar.finish_and_clear();
    Ok(())
}

/// A promise that only the fast arms can keep, and one that all can.
fn promises(status: &StatusResponse) -> Result<(Duration, Duration)> {
    let model = status.models.iter().find(|model| model.model == MODEL);
    let model = model.context("the model is not there")?;
    let times: Vec<u64> = model
        .arms
        .iter()
        .filter(|arm| arm.available)
        .map(|arm| arm.predicted_us)
        .collect();
    let fastest = *times
        .iter()
        .min()
        .context("no arm of the model can answer")?;
    let slowest = *times.iter().max().unwrap_or(&fastest);
    let tight = (fastest * 8 / 5).max(u64::midpoint(fastest, slowest));
    Ok((
        Duration::from_micros(tight),
        Duration::from_micros(slowest * 8),
    ))
}

/// Every hop of the plan.
fn hops(status: &StatusResponse) -> impl Iterator<Item = &HopStatus> {
    let arms = status.models.iter().flat_map(|model| &model.arms);
    arms.flat_map(|arm| &arm.branches)
        .flat_map(|branch| &branch.hops)
}

/// The node that most hops of the plan are on.
fn victim(status: &StatusResponse, fleet: &Fleet) -> Option<String> {
    let processes = fleet.processes();
    let count = |node: &str| hops(status).filter(|hop| hop.node == node).count();
    processes
        .into_keys()
        .max_by_key(|node| count(node))
        .filter(|node| count(node) > 0)
}

/// When the next plan was in force that has nothing on the lost node, and its generation.
async fn replanned(
    client: Client,
    above_generation: u64,
    lost: String,
    begin: Instant,
) -> Result<Option<(Duration, u64)>> {
    let request = WatchPlanRequest { above_generation };
    let mut changes = client.center().watch_plan(request).await?.into_inner();
    while let Some(status) = changes.message().await? {
        if hops(&status).all(|hop| hop.node != lost) {
            return Ok(Some((begin.elapsed(), status.generation)));
        }
    }
    Ok(None)
}

/// Tells the truth about an answer, unless much of it is on its way already.
fn feedback(client: &Client, told: &Arc<Semaphore>, request: FeedbackRequest) {
    let Ok(place) = Arc::clone(told).try_acquire_owned() else {
        return;
    };
    let mut center = client.center();
    tokio::spawn(async move {
        if let Err(error) = center.feedback(request).await {
            tracing::debug!(%error, "feedback was not taken");
        }
        drop(place);
    });
}

fn claims(status: &StatusResponse) -> Claims {
    let arms = status.models.iter().filter(|model| model.model == MODEL);
    arms.flat_map(|model| &model.arms)
        .filter(|arm| arm.accuracy > 0.0)
        .map(|arm| (arm.arm.clone(), arm.accuracy))
        .collect()
}

fn show(story: &Story, checks: &[Check]) {
    println!("\nwhat was promised and what was measured, by arm and context:");
    println!("{}", groups(&story.summary.groups));
    let mut table = output::table([
        "", "answers", "lost", "SLA held", "p50", "p95", "p99", "retried",
    ]);
    let time = |quantiles: &Option<Quantiles>, of: fn(&Quantiles) -> f64| {
        quantiles
            .as_ref()
            .map_or_else(|| "—".into(), |q| output::micros(of(q)))
    };
    for (name, answers, lost) in story.recovery.rows() {
        let quantiles = answers.latency.quantiles();
        table.add_row([
            name.to_owned(),
            answers.count.to_string(),
            lost.to_string(),
            percent(answers.held()),
            time(&quantiles, |q| q.p50_us),
            time(&quantiles, |q| q.p95_us),
            time(&quantiles, |q| q.p99_us),
            answers.retried.to_string(),
        ]);
    }
    println!("the death of {}:\n{table}", story.recovery.node);
    for ((code, admitted), count) in &story.summary.losses {
        let door = if *admitted == Some(true) {
            "after it was let in"
        } else {
            "at the door"
        };
        let example = story.summary.examples.get(code).map_or("", String::as_str);
        println!("{count} × {code} {door}, as: {example}");
    }
    for check in checks {
        let mark = if check.held { "yes" } else { "NO " };
        println!("{mark}  {}: {}", check.name, check.detail);
    }
}
