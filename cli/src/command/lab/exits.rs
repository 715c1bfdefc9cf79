//! `splitplace lab exits`: every exit controller by network, arrivals and load.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::Serialize;
use splitplace_queueing::Arrivals;

use super::{
    cells::{self, Cell, Settings},
    line::{self, LineCell},
    live::{self, LiveCell, LiveSettings, Stage, Step},
    sources::{self, Source},
};
use crate::{
    output, shipped,
    svg::{Plot, Series},
};

/// Arguments of `splitplace lab exits`.
#[derive(Debug, Args)]
pub(crate) struct Exits {
    /// Folder of a measured package; can be given many times. Without it, the shipped ones that were measured.
    #[arg(long = "package", value_name = "DIR")]
    packages: Vec<PathBuf>,
    /// A record of exits, and the seconds to each of them.
    #[arg(long = "record", value_name = "NAME=FILE@S,S,…")]
    records: Vec<String>,
    /// Leave the made-up network of nine exits out.
    #[arg(long)]
    no_synthetic: bool,
    /// Loads to try: 1 keeps the server just busy if every request runs to the last exit.
    #[arg(long, value_delimiter = ',', default_value = "0.5,0.8,1,1.5,2,3")]
    load: Vec<f64>,
    /// Rate of a burst over the mean rate, share of the time, and mean length in service times of the whole network.
    #[arg(
        long,
        value_delimiter = ',',
        num_args = 1,
        default_value = "2.5,0.2,20"
    )]
    burst: Vec<f64>,
    /// Requests that fit at the station, the one in service included.
    #[arg(long, default_value_t = 11)]
    places: usize,
    /// Share of the requests that may be turned away.
    #[arg(long, default_value_t = 0.01)]
    target: f64,
    /// Share of the target by which controllers are made to lose less than it: what is known of a network comes from
    /// some thousand inputs.
    #[arg(long, default_value_t = 0.1)]
    margin: f64,
    /// Bins of confidence.
    #[arg(long, default_value_t = 10)]
    bins: usize,
    /// Inputs of each half that are used, to make controllers and to judge them.
    #[arg(long, default_value_t = 5000)]
    inputs: usize,
    /// Requests of one simulated run.
    #[arg(long, default_value_t = 20_000)]
    requests: usize,
    /// Simulated runs of each cell.
    #[arg(long, default_value_t = 20)]
    runs: u64,
    /// Nodes of the line that the distributed controller is tried on; 0 leaves it out.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Loads of the line: 1 keeps its busiest node just busy if every request runs to the last exit.
    #[arg(long, value_delimiter = ',', default_value = "0.5,0.8,1,1.2")]
    line_load: Vec<f64>,
    /// How many times longer each node of the line takes; the last number is for all further nodes.
    #[arg(long, value_delimiter = ',', default_value = "1,1.5,1.5")]
    slower: Vec<f64>,
    /// Places of each node of the line.
    #[arg(long, default_value_t = 8)]
    node_places: usize,
    /// Seed of all that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Labelled pictures, as for `model measure`: run cells live too, on workers of this machine, for each
    /// `--package` in turn (give one for each package, in the same order).
    #[arg(long, value_name = "DATASET", requires = "packages")]
    live: Vec<PathBuf>,
    /// Only what is live.
    #[arg(long, requires = "live")]
    only_live: bool,
    /// Policies to run live.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "threshold,knapsack,queueing-lp,data-driven,joint"
    )]
    live_policies: Vec<String>,
    /// Policies to run live on a line of `--live-nodes`.
    #[arg(long, value_delimiter = ',', default_value = "data-driven,apart,joint")]
    live_line_policies: Vec<String>,
    /// Loads to run live.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    live_load: Vec<f64>,
    /// Length of a live cell, and before it the time that rules have to settle.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "300s")]
    live_duration: Duration,
    /// See there.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "60s")]
    live_warm_up: Duration,
    /// Time of the whole network that live nodes are slowed to: the longer, the less a busy machine disturbs.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "150ms")]
    live_service: Duration,
    /// Live cells at the same time.
    #[arg(long, default_value_t = 4)]
    live_at_once: usize,
    /// Nodes of the live line; 1 leaves it out.
    #[arg(long, default_value_t = 3)]
    live_nodes: usize,
    /// Leave the live step of the rate out.
    #[arg(long)]
    no_step: bool,
    /// Write the report here as JSON, and plots beside it as SVG.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    target: f64,
    margin: f64,
    places: usize,
    bins: usize,
    requests: usize,
    runs: u64,
    seed: u64,
    burst: Vec<f64>,
    cells: Vec<Cell>,
    line: Vec<LineCell>,
    live: Vec<LiveCell>,
    steps: Vec<Step>,
    /// Cells of which exact and simulated are not the same.
    disagree: usize,
    /// Cells in which the joint controller is worse than another that loses no more.
    joint_worse: usize,
    /// The joint controller's largest loss in simulation.
    joint_loss: f64,
    /// The same for cells in which the target can be kept at all, by the first exit for everybody.
    joint_loss_feasible: f64,
}

pub(crate) async fn run(args: &Exits) -> anyhow::Result<ExitCode> {
    let [factor, share, dwell] = args.burst[..] else {
        anyhow::bail!("--burst wants three numbers, as 2.5,0.2,20");
    };
    ensure!(
        !args.load.is_empty() && args.inputs > 0 && args.runs > 1,
        "nothing to compare"
    );
    let settings = Settings {
        places: args.places,
        target: args.target,
        margin: args.margin,
        bins: args.bins,
        requests: args.requests,
        runs: args.runs,
        seed: args.seed,
    };
    let (mut all, mut lines) = (Vec::new(), Vec::new());
    let sources = find(args)?;
    let computed = if args.only_live {
        &[][..]
    } else {
        &sources[..]
    };
    for source in computed {
        // At load 1 a request comes every `busy` seconds.
        let processes = |load: f64, busy: f64| -> anyhow::Result<_> {
            let rate = load / busy;
            let bursts = Arrivals::bursty(rate, factor, share, dwell * source.longest());
            let bursts = bursts.context("--burst makes no arrivals")?;
            Ok([("poisson", Arrivals::poisson(rate)?), ("bursty", bursts)])
        };
        for &load in &args.load {
            for process in processes(load, source.longest())? {
                eprintln!("{} at load {load}, {}", source.name, process.0);
                all.extend(cells::compute(source, process, load, &settings)?);
            }
        }
        if args.nodes == 0 {
            continue;
        }
        let nodes = line::spread(source, args.nodes, args.node_places, &args.slower);
        for &load in &args.line_load {
            for process in processes(load, line::busiest(&nodes))? {
                let shape = line::shape(&nodes);
                eprintln!(
                    "{} at load {load}, {}, on a line of {shape}",
                    source.name, process.0
                );
                lines.extend(line::compute(source, process, load, &nodes, &settings)?);
            }
        }
    }
    let (mut live, mut steps) = (Vec::new(), Vec::new());
    ensure!(
        args.live.is_empty() || args.live.len() == args.packages.len(),
        "--live needs one set of pictures for each --package"
    );
    for (folder, data) in args.packages.iter().zip(&args.live) {
        let settings = LiveSettings {
            policies: args.live_policies.clone(),
            loads: args.live_load.clone(),
            duration: args.live_duration,
            warm_up: args.live_warm_up,
            service: args.live_service,
            places: args.places,
            target: args.target,
            burst: [factor, share, dwell],
            at_once: args.live_at_once,
            seed: args.seed,
        };
        let stage = Stage::open(folder.clone(), data, args.live_service)?;
        live.extend(live::cells(&stage, 1, &settings).await?);
        if args.live_nodes > 1 {
            let line = LiveSettings {
                policies: args.live_line_policies.clone(),
                places: args.node_places,
                ..settings.clone()
            };
            live.extend(live::cells(&stage, args.live_nodes, &line).await?);
        }
        if !args.no_step {
            for policy in ["last-exit", "joint"] {
                steps.push(live::step(&stage, policy, &settings).await?);
            }
        }
    }
    show(&all, &lines);
    show_live(&live, &steps);
    let mut report = conclude(args, &settings, all, lines);
    (report.live, report.steps) = (live, steps);
    if let Some(path) = &args.report {
        save(path, &report, &sources)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn find(args: &Exits) -> anyhow::Result<Vec<Source>> {
    let mut found = Vec::new();
    let is_named = !args.packages.is_empty() || !args.records.is_empty();
    let shipped = tempfile::tempdir()?;
    let mut folders = args.packages.clone();
    if !is_named {
        shipped::write_packages(shipped.path(), None)?;
        for entry in fs::read_dir(shipped.path())? {
            folders.push(entry?.path());
        }
        folders.sort();
    }
    for folder in folders {
        match sources::package(&folder, args.inputs)? {
            Some(source) => found.push(source),
            None if is_named => anyhow::bail!(
                "{}: no variant with measured exits; `splitplace model measure` makes them",
                folder.display()
            ),
            None => {}
        }
    }
    for record in &args.records {
        found.push(sources::record(record, args.inputs)?);
    }
    if !args.no_synthetic {
        found.push(sources::made_up(args.inputs)?);
    }
    ensure!(!found.is_empty(), "no network with measured exits");
    Ok(found)
}

fn percent(value: f64) -> String {
    format!("{:.2} %", value * 100.0)
}

fn show(all: &[Cell], lines: &[LineCell]) {
    let mut table = output::table([
        "network",
        "arrivals",
        "load",
        "controller",
        "accuracy",
        "loss",
        "response",
        "p95",
        "exit",
        "simulated",
        "same",
        "joint gains",
    ]);
    for cell in all {
        let simulated = &cell.simulated;
        table.add_row([
            cell.package.clone(),
            cell.arrivals.to_owned(),
            cell.load.to_string(),
            cell.policy.to_owned(),
            percent(cell.exact.accuracy),
            percent(cell.exact.loss),
            output::micros(cell.exact.response_s * 1e6),
            output::micros(simulated.response_p95_s.mean * 1e6),
            format!("{:.2}", cell.exact.mean_exit + 1.0),
            format!(
                "{}, {}",
                percent(simulated.accuracy.mean),
                percent(simulated.loss.mean)
            ),
            if cell.agree { "yes" } else { "NO" }.to_owned(),
            gains(cell.joint_gains),
        ]);
    }
    println!("{table}");
    if lines.is_empty() {
        return;
    }
    let mut table = output::table([
        "network",
        "arrivals",
        "load",
        "on a line",
        "accuracy",
        "loss",
        "response",
        "p95",
        "exit",
        "priced gains",
    ]);
    for cell in lines {
        table.add_row([
            cell.package.clone(),
            cell.arrivals.to_owned(),
            cell.load.to_string(),
            cell.policy.to_owned(),
            percent(cell.accuracy.mean),
            percent(cell.loss.mean),
            output::micros(cell.response_s.mean * 1e6),
            output::micros(cell.response_p95_s.mean * 1e6),
            format!("{:.2}", cell.mean_exit.mean + 1.0),
            gains(cell.priced_gains),
        ]);
    }
    println!("{table}");
}

fn show_live(cells: &[LiveCell], steps: &[Step]) {
    if !cells.is_empty() {
        let mut table = output::table([
            "live", "nodes", "arrivals", "load", "policy", "accuracy", "loss", "expected",
            "response", "p95", "exit", "of", "solved",
        ]);
        for cell in cells {
            let live = &cell.live;
            table.add_row([
                cell.package.clone(),
                cell.nodes.to_string(),
                cell.arrivals.to_owned(),
                cell.load.to_string(),
                cell.policy.clone(),
                percent(live.accuracy),
                percent(live.loss),
                format!(
                    "{}, {}",
                    percent(cell.expected_accuracy),
                    percent(cell.expected_loss)
                ),
                output::micros(live.response_s * 1e6),
                output::micros(live.response_p95_s * 1e6),
                format!("{:.2}", live.mean_exit + 1.0),
                live.requests.to_string(),
                cell.solutions.to_string(),
            ]);
        }
        println!("{table}");
    }
    for step in steps {
        let lost: Vec<String> = step
            .seconds
            .iter()
            .skip(usize::try_from(step.at_s).unwrap_or(0))
            .take(15)
            .map(|second| {
                let sent = second.sent.max(1) as f64;
                format!("{:.0}", 100.0 * second.lost as f64 / sent)
            })
            .collect();
        println!(
            "{}, {}: the rate steps from half to three times what the last exit can hold; lost in each \
             second after it, in per cent: {}; from the tenth second on {}",
            step.package,
            step.policy,
            lost.join(" "),
            percent(step.loss_after_10_s)
        );
    }
}

fn gains(gains: Option<cells::Mean>) -> String {
    gains.map_or_else(String::new, |gain| {
        format!("{:+.2} ± {:.2}", gain.mean * 100.0, gain.error * 200.0)
    })
}

fn conclude(args: &Exits, settings: &Settings, cells: Vec<Cell>, line: Vec<LineCell>) -> Report {
    let joint = || cells.iter().filter(|cell| cell.policy == "joint");
    let largest = |cells: &mut dyn Iterator<Item = &Cell>| {
        cells
            .map(|cell| cell.simulated.loss.mean)
            .fold(0.0, f64::max)
    };
    let mut feasible = joint().filter(|cell| cell.feasible);
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        target: settings.target,
        margin: settings.margin,
        places: settings.places,
        bins: settings.bins,
        requests: settings.requests,
        runs: settings.runs,
        seed: settings.seed,
        burst: args.burst.clone(),
        disagree: cells.iter().filter(|cell| !cell.agree).count(),
        joint_worse: cells::worse(&cells).len(),
        joint_loss: largest(&mut joint()),
        joint_loss_feasible: largest(&mut feasible),
        cells,
        line,
        live: Vec::new(),
        steps: Vec::new(),
    };
    if report.cells.is_empty() {
        return report;
    }
    println!(
        "exact and simulated differ in {} of {} cells; the joint controller is worse than another that loses \
         no more in {}; its largest simulated loss is {} ({} where the target can be kept)",
        report.disagree,
        report.cells.len(),
        report.joint_worse,
        percent(report.joint_loss),
        percent(report.joint_loss_feasible),
    );
    report
}

fn save(path: &Path, report: &Report, sources: &[Source]) -> anyhow::Result<()> {
    let cannot = |path: &Path| format!("cannot write {}", path.display());
    fs::write(path, serde_json::to_vec_pretty(report)?).with_context(|| cannot(path))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if !report.steps.is_empty() {
        let of = |step: &Step| Series {
            name: format!("{}, {}", step.package, step.policy),
            points: (0u32..)
                .zip(&step.seconds)
                .map(|(second, x)| {
                    (
                        f64::from(second),
                        x.lost as f64 / (x.sent as f64).max(1.0),
                        true,
                    )
                })
                .collect(),
        };
        let plot = Plot {
            title: "Live: the rate steps from half to three times what the last exit holds".into(),
            x: "seconds",
            y: "share lost",
            log: false,
            line: Some(0.02),
            series: report.steps.iter().map(of).collect(),
        };
        let path = path.with_file_name(format!("{stem}-step.svg"));
        fs::write(&path, plot.draw()).with_context(|| cannot(&path))?;
    }
    for source in sources {
        for arrivals in ["poisson", "bursty"] {
            let cells = report.cells.iter();
            let cells = cells.filter(|c| c.package == source.name && c.arrivals == arrivals);
            let cells: Vec<&Cell> = cells.collect();
            let title = |what: &str| format!("{}, {arrivals}: {what}", source.name);
            let target = report.target;
            let accuracy = Plot {
                title: title("accuracy (hollow: loses more than the target)"),
                x: "load",
                y: "accuracy",
                log: false,
                line: None,
                series: series(&cells, |c| (c.exact.accuracy, c.exact.loss <= target * 1.2)),
            };
            let loss = Plot {
                title: title("loss"),
                x: "load",
                y: "loss",
                log: true,
                line: Some(target),
                series: series(&cells, |c| (c.exact.loss, true)),
            };
            for (what, plot) in [("accuracy", accuracy), ("loss", loss)] {
                let name = format!("{stem}-{}-{arrivals}-{what}.svg", source.name);
                let path = path.with_file_name(name);
                fs::write(&path, plot.draw()).with_context(|| cannot(&path))?;
            }
        }
    }
    Ok(())
}

/// One line for each controller.
fn series(cells: &[&Cell], of: impl Fn(&Cell) -> (f64, bool)) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for cell in cells {
        let (y, is_filled) = of(cell);
        let point = (cell.load, y, is_filled);
        match all.iter_mut().find(|series| series.name == cell.policy) {
            Some(series) => series.points.push(point),
            None => all.push(Series {
                name: cell.policy.to_owned(),
                points: vec![point],
            }),
        }
    }
    all
}
