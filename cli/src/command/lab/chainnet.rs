//! `splitplace lab chainnet`: fragments placed anew by annealing, with each of the judges; what is lost
//! before and after is measured by a long simulation that no judge has seen. On the published systems, and on
//! five small boards, where how long a fragment takes depends on the board.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::json;
use splitplace_plan::{
    Annealing, Problem, Random, Strategy as _,
    joint::{Places, places},
};
use splitplace_twin::{
    Seed,
    chainnet::{BOARDS, Board, Judge, System, case},
    stats::Summary,
};

use crate::{
    command::twin::{
        self,
        chainnet::{AnyJudge, JudgeArg},
    },
    output,
    svg::{Bar, Bars},
};

#[derive(Debug, Args)]
pub(crate) struct Chainnet {
    /// Folder with systems in the published format; only the boards without it.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Cases drawn on five boards: two OrangePi Zero, two Raspberry Pi A+, a Raspberry Pi 3A+.
    #[arg(long, default_value_t = 50)]
    boards: u64,
    /// Systems, from the first one on.
    #[arg(long, default_value_t = 200)]
    systems: usize,
    /// Systems that each search judges.
    #[arg(long, default_value_t = 200)]
    steps: u32,
    /// Time for each search, in place of --steps: every judge gets as many steps as it has time for, going by what it
    /// took for the first systems. What comes of it is then the machine's as well as the seed's.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME", conflicts_with = "steps")]
    budget: Option<Duration>,
    /// Jobs of a simulation that judges.
    #[arg(long, default_value_t = 3000)]
    arrivals: u64,
    /// Jobs of the simulation that measures.
    #[arg(long, default_value_t = 100_000)]
    truth: u64,
    /// Systems that lose less than this to begin with are left out: nothing can be gained on them.
    #[arg(long, default_value_t = 0.01)]
    least: f64,
    /// Weights of the plain network, as `twin train` wrote them; the shipped ones without it.
    #[arg(long, value_name = "FILE")]
    plain: Option<PathBuf>,
    /// The published ChainNet's file, model.pth of GitHub imperial-qore/ChainNet: it judges too.
    #[arg(long, value_name = "FILE")]
    published: Option<PathBuf>,
    /// Of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; 0 for as many as the machine has.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Write everything to this file as JSON, and a plot beside it.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A judge by its name in the table.
type Named = (&'static str, AnyJudge);

/// Who judges; the published network where its file is named.
fn judges(args: &Chainnet) -> anyhow::Result<Vec<Named>> {
    let plain = args.plain.as_deref();
    let mut chosen = vec![
        (JudgeArg::Formulas, "formulas", None),
        (JudgeArg::Plain, "graph network, plain", plain),
        (JudgeArg::Residual, "graph network, residual", None),
        (JudgeArg::Simulation, "simulation", None),
    ];
    if let Some(path) = args.published.as_deref() {
        let published = (JudgeArg::Published, "graph network, published", Some(path));
        chosen.insert(3, published);
    }
    let named = chosen.into_iter().map(|(judge, name, weights)| {
        let judge = judge.judge(args.arrivals, weights)?;
        Ok((name, judge))
    });
    named.collect()
}

/// The fleets' names.
const PUBLISHED: &str = "chainnet-val";
const FIVE_BOARDS: &str = "five boards";

/// What came of one judge.
#[derive(Clone, Debug, Default)]
struct Row {
    /// Of annealing.
    steps: u32,
    before: Summary,
    after: Summary,
    /// (L0 - L*) / L0.
    reduction: Summary,
    seconds: Summary,
}

/// A fleet's name and what each judge achieved on it.
type Group = (&'static str, Vec<(&'static str, Row)>);

/// The loss afterwards, and the seconds of the search.
type Found = Option<(f64, f64)>;

pub(super) fn run(args: &Chainnet) -> anyhow::Result<ExitCode> {
    let judges = judges(args)?;
    let mut groups: Vec<Group> = Vec::new();
    if let Some(data) = &args.data {
        let systems = twin::chainnet::systems(data, args.systems)?;
        let system = |number: u64| systems.get(usize::try_from(number).ok()?);
        let rows = judged(
            args,
            (PUBLISHED, systems.len() as u64),
            &judges,
            |number| system(number).cloned(),
            |judge, steps, number| Some(published(args, judge, steps, system(number)?, number)),
        );
        groups.push((PUBLISHED, rows));
    }
    if 0 < args.boards {
        let rows = judged(
            args,
            (FIVE_BOARDS, args.boards),
            &judges,
            |number| Boards::drawn(args, number).begin(),
            |judge, steps, number| on_boards(args, judge, steps, number),
        );
        groups.push((FIVE_BOARDS, rows));
    }
    let told = report(args, &groups);
    if let Some(path) = &args.report {
        output::report(path, &told)?;
        let path = path.with_extension("svg");
        output::write(&path, plot(&groups).draw())?;
    }
    if args.json {
        output::json(&told)?;
    } else {
        show(args, &groups);
    }
    Ok(ExitCode::SUCCESS)
}

/// Every judge on every case that loses something to begin with. Each says on standard error when it is done: thousands
/// of cases take minutes, and where nobody watches there is no bar.
fn judged(
    args: &Chainnet,
    (fleet, cases): (&str, u64),
    judges: &[Named],
    begin: impl Fn(u64) -> Option<System> + Sync,
    one: impl Fn(&dyn Judge, u32, u64) -> Found + Sync,
) -> Vec<(&'static str, Row)> {
    let mut rows = Vec::new();
    let threads = twin::threads(args.threads);
    let start = Instant::now();
    let bar = twin::bar("before", cases);
    let before = twin::in_parallel(0..cases, threads, &bar, |number| {
        Some((number, measure(args, &begin(number)?, number)))
    });
    bar.finish_and_clear();
    let lossy = |(_, before): &(u64, f64)| args.least <= *before;
    let before: BTreeMap<u64, f64> = before.into_iter().flatten().filter(lossy).collect();
    eprintln!(
        "{fleet}: {} of {cases} lose {} or more · {:.0} s",
        before.len(),
        args.least,
        start.elapsed().as_secs_f64()
    );
    for (name, judge) in judges {
        let first = before
            .keys()
            .take(TRIED)
            .filter_map(|number| begin(*number));
        let steps = args.budget.map_or(args.steps, |budget| {
            affordable(&**judge, &first.collect::<Vec<_>>(), budget)
        });
        let bar = twin::bar(name, cases);
        let found = twin::in_parallel(0..cases, threads, &bar, |number| {
            let before = before.get(&number)?;
            let (after, seconds) = one(&**judge, steps, number)?;
            Some((*before, after, seconds))
        });
        bar.finish_and_clear();
        let mut row = Row {
            steps,
            ..Row::default()
        };
        for (before, after, seconds) in found.into_iter().flatten() {
            row.before.add(before);
            row.after.add(after);
            row.reduction.add((before - after) / before);
            row.seconds.add(seconds);
        }
        eprintln!(
            "{fleet}, {name}: {} of the loss saved, {steps} steps, {} a search · {:.0} s",
            twin::share(&row.reduction),
            twin::time(&row.seconds),
            start.elapsed().as_secs_f64()
        );
        rows.push((*name, row));
    }
    rows
}

/// Systems by which it is told how long a judge takes.
const TRIED: usize = 20;

/// How many systems a judge has time for.
fn affordable(judge: &dyn Judge, systems: &[System], budget: Duration) -> u32 {
    let begin = Instant::now();
    for system in systems {
        std::hint::black_box(judge.ratios(system, Seed(0)));
    }
    let each = begin.elapsed().as_secs_f64() / systems.len().max(1) as f64;
    let steps = budget.as_secs_f64() / each.max(1e-9);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "held within what fits"
    )]
    let steps = steps.clamp(1.0, 1e6) as u32;
    steps
}

/// What a long simulation loses.
fn measure(args: &Chainnet, system: &System, number: u64) -> f64 {
    let found = system.simulate(args.truth, Seed(args.seed).child("truth", number));
    system.loss(found.iter().map(|one| one.throughput))
}

/// What a judge says is lost.
fn loss(judge: &dyn Judge, system: &System, seed: Seed) -> f64 {
    let ratios = judge.ratios(system, seed);
    system.loss(ratios.iter().map(|one| one.throughput))
}

fn published(
    args: &Chainnet,
    judge: &dyn Judge,
    steps: u32,
    system: &System,
    number: u64,
) -> (f64, f64) {
    let seed = Seed(args.seed).child("search", number);
    let begin = Instant::now();
    let mut of = |system: &System| loss(judge, system, seed);
    let (better, _) = system.improve(steps, seed, &mut of);
    let seconds = begin.elapsed().as_secs_f64();
    (measure(args, &better, number), seconds)
}

/// A case on the five boards.
struct Boards {
    seed: Seed,
    problem: Problem,
    /// Random places to begin with.
    begin_at: Places,
}

impl Boards {
    fn drawn(args: &Chainnet, number: u64) -> Self {
        let seed = Seed(args.seed).child("boards", number);
        let problem = case(Seed(args.seed), number);
        Self {
            begin_at: places(&Random.solve(&problem.idle(), seed.0)),
            problem,
            seed,
        }
    }

    fn system(&self, places: &Places) -> Option<System> {
        let capacities = BOARDS.map(|board: Board| board.capacity());
        System::of_places(&self.problem, places, &capacities)
    }

    fn begin(&self) -> Option<System> {
        self.system(&self.begin_at)
    }
}

fn on_boards(args: &Chainnet, judge: &dyn Judge, steps: u32, number: u64) -> Found {
    let boards = Boards::drawn(args, number);
    let (problem, seed) = (&boards.problem, boards.seed);
    let annealing = Annealing {
        steps,
        ..Annealing::default()
    };
    let mut of = |places: &Places| {
        let system = boards.system(places);
        system.map_or(1.0, |system| loss(judge, &system, seed))
    };
    let begin = Instant::now();
    let (better, _) = annealing.improve(problem, boards.begin_at.clone(), &mut of, seed.0);
    let seconds = begin.elapsed().as_secs_f64();
    Some((measure(args, &boards.system(&better)?, number), seconds))
}

fn report(args: &Chainnet, groups: &[Group]) -> serde_json::Value {
    let rows = groups
        .iter()
        .flat_map(|(fleet, rows)| rows.iter().map(move |row| (fleet, row)));
    let rows = rows.map(|(fleet, (name, row))| {
        json!({
            "fleet": fleet,
            "judge": name,
            "steps": row.steps,
            "systems": row.before.count(),
            "loss_before": twin::json(&row.before),
            "loss_after": twin::json(&row.after),
            "reduction": twin::json(&row.reduction),
            "seconds_a_search": twin::json(&row.seconds),
        })
    });
    json!({
        "seed": args.seed,
        "budget_seconds": args.budget.map(|budget| budget.as_secs_f64()),
        "arrivals": args.arrivals,
        "truth_arrivals": args.truth,
        "least_loss": args.least,
        "confidence": twin::CONFIDENCE,
        "judges": rows.collect::<Vec<_>>(),
    })
}

fn show(args: &Chainnet, groups: &[Group]) {
    let mut table = output::table([
        "fleet",
        "cases",
        "judge",
        "loss before",
        "loss after",
        "(L0 - L*) / L0",
        "steps",
        "a search takes",
    ]);
    let rows = groups
        .iter()
        .flat_map(|(fleet, rows)| rows.iter().map(move |row| (fleet, row)));
    for (fleet, (name, row)) in rows {
        table.add_row([
            (*fleet).to_owned(),
            row.before.count().to_string(),
            (*name).to_owned(),
            twin::share(&row.before),
            twin::share(&row.after),
            twin::share(&row.reduction),
            row.steps.to_string(),
            twin::time(&row.seconds),
        ]);
    }
    println!("{table}");
    println!(
        "cases that lose at least {} of their jobs; steps of annealing in each search; measured by {} arrivals; \
         95 % intervals",
        args.least, args.truth
    );
}

fn plot(groups: &[Group]) -> Bars {
    let bars = |rows: &[(&str, Row)]| {
        let bars = rows.iter().map(|(_, row)| {
            let estimate = row.reduction.estimate(twin::CONFIDENCE);
            Bar {
                height: estimate.mean,
                half_width: estimate.half_width,
            }
        });
        bars.collect()
    };
    Bars {
        title: "share of the loss that placing anew saves".into(),
        y: "(L0 - L*) / L0".into(),
        series: groups.first().map_or_else(Vec::new, |(_, rows)| {
            rows.iter().map(|(name, _)| (*name).to_owned()).collect()
        }),
        groups: groups
            .iter()
            .map(|(fleet, rows)| ((*fleet).to_owned(), bars(rows)))
            .collect(),
    }
}
