//! From the file to a world, with every mistake named.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use splitplace_brain::Settings;
use splitplace_fleet::{Link, Links, Node, NodeId, NodeState, Place, Timestamp};
use splitplace_plan::{ArmKind, Exact, ModelName, Way};
use splitplace_policy::by_name;

use super::{
    Scenario, exits,
    file::{
        DisciplineEntry, FaultEntry, File, LinkEntry, LoadEntry, ModelEntry, NodeEntry, PartEntry,
    },
};
use crate::{
    Law, Seed,
    arrivals::{Phase, Process},
    network::Discipline,
    planner::{Model, Part, PlannerSettings, Segment, Strategic, Variant},
    strategies,
    world::{Control, Exits, Fault, Load, Worker, World},
};

/// Mistakes found so far.
#[derive(Default)]
pub(super) struct Wrong(pub(super) Vec<String>);

impl Wrong {
    /// A number of seconds, bytes and so on: finite and not negative, else a mistake and 0.
    pub(super) fn amount(&mut self, what: &str, value: f64) -> f64 {
        if (0.0..1e15).contains(&value) {
            return value;
        }
        self.0
            .push(format!("{what} = {value} must be finite and at least 0"));
        0.0
    }

    fn time(&mut self, what: &str, milliseconds: f64) -> Duration {
        let seconds = self.amount(what, milliseconds) / 1e3;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    fn rate(&mut self, what: &str, megabits: Option<f64>) -> f64 {
        match megabits {
            None => f64::INFINITY,
            Some(rate) if rate > 0.0 => rate * 1e6 / 8.0,
            Some(rate) => {
                self.0.push(format!("{what} = {rate} must be above 0"));
                1.0
            }
        }
    }
}

pub(super) fn build(file: File) -> Result<Scenario, Vec<String>> {
    let mut wrong = Wrong::default();
    let copies = usize::try_from(file.copies.max(1)).unwrap_or(1);
    let nodes: usize = file.nodes.iter().map(|node| node.count as usize).sum();
    for (what, count) in [
        ("nodes", nodes),
        ("models", file.models.len()),
        ("loads", file.loads.len()),
        ("faults", file.faults.len()),
    ] {
        if Scenario::MOST < count.saturating_mul(copies) {
            return Err(vec![format!("more than {} {what}", Scenario::MOST)]);
        }
    }
    let mut world = World {
        workers: Vec::new(),
        links: Links::default(),
        loads: Vec::new(),
        faults: Vec::new(),
        settings: settings(&file),
        control: control(&file, &mut wrong),
        exits: BTreeMap::new(),
        warm_up: wrong.time("warm-up-s", file.warm_up_s * 1e3),
        duration: wrong.time("duration-s", file.duration_s * 1e3),
    };
    let mut models = Vec::new();
    let known: Vec<_> = file
        .models
        .iter()
        .map(|entry| exits::of_model(entry, &mut wrong))
        .collect();
    for copy in 1..=copies {
        let suffix = if copies == 1 {
            String::new()
        } else {
            format!("@{copy}")
        };
        let workers = file
            .nodes
            .iter()
            .flat_map(|entry| workers(entry, &suffix, &mut wrong));
        world.workers.extend(workers.collect::<Vec<_>>());
        for (entry, known) in file.models.iter().zip(&known) {
            let model = model(entry, &suffix, known, &mut wrong);
            let exits = known.iter().map(|(variant, exits)| {
                let key = (model.name.clone(), variant.clone());
                (key, exits.clone())
            });
            world.exits.extend(exits);
            models.push(model);
        }
        world.loads.extend(
            file.loads
                .iter()
                .map(|entry| load(entry, &suffix, &mut wrong)),
        );
    }
    links(&file, &mut world, &mut wrong);
    for entry in &file.faults {
        faults(entry, copies, &mut world.faults, &mut wrong);
    }
    let known: BTreeSet<&ModelName> = models.iter().map(|model| &model.name).collect();
    for load in &world.loads {
        if !known.contains(&load.model) {
            wrong
                .0
                .push(format!("a load names {}, which is no model", load.model));
        }
    }
    if let Err(error) = by_name(&file.policy.name, &file.policy.params) {
        wrong.0.push(error.to_string());
    }
    let settings = planning(&file, &mut wrong);
    let strategy = file.planning.strategy.as_deref().unwrap_or("exact");
    let strategy = strategies::by_name(strategy).unwrap_or_else(|| {
        let known = strategies::STRATEGIES.join(", ");
        wrong.0.push(format!(
            "planning.strategy = {strategy:?}; known are {known}"
        ));
        Box::new(Exact)
    });
    if wrong.0.is_empty() {
        wrong.0 = world.check();
    }
    wrong.0.dedup();
    if !wrong.0.is_empty() {
        return Err(wrong.0);
    }
    Ok(Scenario {
        description: file.description,
        world,
        planner: Strategic {
            models,
            strategy,
            settings,
        },
        policy: (file.policy.name, file.policy.params),
        seed: Seed(file.seed),
        replications: file.replications.max(1),
    })
}

fn settings(file: &File) -> Settings {
    let mut settings = Settings::default();
    let admission = &file.admission;
    let limits = &mut settings.limits;
    limits.in_flight_max = admission.max_in_flight.unwrap_or(limits.in_flight_max);
    limits.attempts_max = admission.max_attempts.unwrap_or(limits.attempts_max).max(1);
    settings.refuse_hopeless = admission
        .refuse_hopeless
        .unwrap_or(settings.refuse_hopeless);
    settings
}

fn planning(file: &File, wrong: &mut Wrong) -> PlannerSettings {
    let mut settings = PlannerSettings::default();
    let planning = &file.planning;
    settings.max_parts = planning.max_parts.unwrap_or(settings.max_parts);
    settings.spread = planning.spread.unwrap_or(settings.spread);
    settings.overhead_bytes =
        (wrong.amount("planning.fragment-kb", planning.fragment_kb) * 1e3) as u64;
    if let Some(arms) = &planning.arms {
        let kinds = [
            ArmKind::Whole,
            ArmKind::Chain,
            ArmKind::Semantic,
            ArmKind::Exits,
            ArmKind::Compressed,
        ];
        let known = |name: &String| kinds.into_iter().find(|kind| kind.label() == name);
        settings.kinds = arms.iter().filter_map(known).collect();
        for name in arms.iter().filter(|name| known(name).is_none()) {
            wrong.0.push(format!(
                "planning.arms names {name:?}; known are whole, chain, semantic, exits, compressed"
            ));
        }
    }
    settings
}

fn control(file: &File, wrong: &mut Wrong) -> Control {
    let mut control = Control::default();
    let entry = &file.control;
    let mut set = |time: &mut Duration, what: &str, ms: Option<f64>| {
        if let Some(ms) = ms {
            *time = wrong.time(what, ms);
        }
    };
    set(&mut control.broken, "control.broken-ms", entry.broken_ms);
    set(&mut control.silence, "control.silence-ms", entry.silence_ms);
    set(&mut control.settle, "control.settle-ms", entry.settle_ms);
    set(
        &mut control.planning,
        "control.planning-ms",
        entry.planning_ms,
    );
    set(&mut control.load.0, "control.load-ms", entry.load_ms);
    if let Some(ms) = entry.load_ms_per_mb {
        control.load.1 = wrong.amount("control.load-ms-per-mb", ms) / 1e9;
    }
    if entry.fetch_mbit.is_some() {
        control.fetch_bytes_per_second = wrong.rate("control.fetch-mbit", entry.fetch_mbit);
    }
    control
}

fn workers(entry: &NodeEntry, suffix: &str, wrong: &mut Wrong) -> Vec<Worker> {
    let name = &entry.name;
    let speed = wrong.amount(&format!("{name}: gmacs"), entry.gmacs) * 1e9;
    let memory = wrong.amount(&format!("{name}: memory-mb"), entry.memory_mb) * 1e6;
    if speed == 0.0 || entry.cores == 0 || entry.count == 0 {
        wrong
            .0
            .push(format!("{name}: gmacs, cores and count must be above 0"));
    }
    if !(1.0..=1e3).contains(&entry.crowding) {
        wrong
            .0
            .push(format!("{name}: crowding must lie in 1 to 1000"));
    }
    let law = match &entry.service_factors {
        Some(factors) => Law::empirical(factors.clone()),
        None => Law::gamma(entry.slowness, entry.service_scv),
    };
    let law = law.map_err(|error| wrong.0.push(format!("{name}: {error}")));
    let mut labels = entry.labels.clone();
    if !suffix.is_empty() {
        labels.insert("site".into(), suffix.into());
    }
    let one = Worker {
        discipline: match entry.discipline {
            DisciplineEntry::EarliestDeadline => Discipline::EarliestDeadline,
            DisciplineEntry::InOrder => Discipline::InOrder,
            DisciplineEntry::Sharing => Discipline::Sharing,
        },
        queue_limit: entry.queue_limit.max(1),
        crowding: entry.crowding,
        overhead: wrong.time(&format!("{name}: overhead-ms"), entry.overhead_ms),
        uplink: wrong.rate(&format!("{name}: uplink-mbit"), entry.uplink_mbit),
        watts: entry.watts.clone().into(),
        ..Worker::new(Node {
            id: NodeId::new(name),
            state: NodeState::Alive,
            cores: entry.cores,
            macs_per_second: speed,
            memory_bytes: memory as u64,
            labels,
            emulated: true,
        })
    };
    (1..=entry.count)
        .map(|number| {
            let mut worker = one.clone();
            if let Ok(law) = &law {
                worker.service = law.clone();
            }
            let id = if entry.count == 1 {
                format!("{name}{suffix}")
            } else {
                format!("{name}-{number}{suffix}")
            };
            worker.node.id = NodeId::new(&id);
            worker
        })
        .collect()
}

fn link(entry: &LinkEntry, wrong: &mut Wrong) -> Link {
    let what = |field: &str| format!("link {} to {}: {field}", entry.from, entry.to);
    Link {
        rate_bytes_per_second: wrong.rate(&what("rate-mbit"), entry.rate_mbit),
        delay: wrong.time(&what("delay-ms"), entry.delay_ms),
        jitter: wrong.time(&what("jitter-ms"), entry.jitter_ms),
    }
}

const CENTER: &str = "center";
const ANY: &str = "*";

fn links(file: &File, world: &mut World, wrong: &mut Wrong) {
    // What every pair has is the default; the rest is written out, pair by pair within a site.
    let mut sites: BTreeMap<&str, Vec<&NodeId>> = BTreeMap::new();
    for worker in &world.workers {
        let name = worker.node.id.as_str();
        let suffix = name.split_once('@').map_or("", |(_, copy)| copy);
        sites.entry(suffix).or_default().push(&worker.node.id);
    }
    let mut known = Links::default();
    for entry in &file.links {
        let link = link(entry, wrong);
        if entry.from == ANY
            && entry.to == ANY
            && file
                .links
                .first()
                .is_some_and(|one| std::ptr::eq(one, entry))
        {
            known = Links::new(link);
            continue;
        }
        for nodes in sites.values() {
            let places = |end: &str| -> Vec<Place> {
                if end == CENTER {
                    return vec![Place::Center];
                }
                let named = |node: &&&NodeId| {
                    let name = node.as_str();
                    end == ANY || name.split_once('@').map_or(name, |(own, _)| own) == end
                };
                nodes
                    .iter()
                    .filter(named)
                    .map(|node| Place::from(*node))
                    .collect()
            };
            let (from, to) = (places(&entry.from), places(&entry.to));
            if from.is_empty() || to.is_empty() {
                wrong
                    .0
                    .push(format!("link {} to {} names no node", entry.from, entry.to));
                break;
            }
            for a in &from {
                for b in to.iter().filter(|b| *b != a) {
                    known.set(a.clone(), b.clone(), link);
                    if !entry.one_way {
                        known.set(b.clone(), a.clone(), link);
                    }
                }
            }
        }
    }
    world.links = known;
}

fn model(
    entry: &ModelEntry,
    suffix: &str,
    known: &BTreeMap<String, Exits>,
    wrong: &mut Wrong,
) -> Model {
    let name = &entry.name;
    let variants = entry.variants.iter().map(|variant| {
        let own = format!("{name}/{}", variant.name);
        if variant.parts.is_empty() || (!variant.semantic && variant.parts.len() != 1) {
            wrong
                .0
                .push(format!("{own}: one part, or several of a semantic variant"));
        }
        if variant.semantic && variant.compressed {
            wrong
                .0
                .push(format!("{own}: semantic or compressed, not both"));
        }
        if variant
            .accuracy
            .is_some_and(|share| !(0.0..=1.0).contains(&share))
        {
            wrong.0.push(format!("{own}: accuracy is a share"));
        }
        Variant {
            name: variant.name.clone(),
            accuracy: variant.accuracy,
            parts: variant
                .parts
                .iter()
                .map(|entry| part(entry, &own, wrong))
                .collect(),
            is_semantic: variant.semantic,
            is_compressed: variant.compressed,
            exits: exits::planned(variant),
            exits_accuracy: known.get(&variant.name).map(exits::accuracy),
        }
    });
    let site = (!suffix.is_empty()).then(|| suffix.to_owned());
    Model {
        name: ModelName::new(&format!("{name}{suffix}")),
        variants: variants.collect(),
        site: site.or_else(|| entry.site.clone()),
        rate_per_second: entry.planned_rate.max(0.0),
    }
}

fn part(entry: &PartEntry, own: &str, wrong: &mut Wrong) -> Part {
    if entry.segments.is_empty() || entry.crossing_kb.len() != entry.segments.len() + 1 {
        wrong.0.push(format!(
            "{own}: {} segments need {} sizes in crossing-kb, not {}",
            entry.segments.len(),
            entry.segments.len() + 1,
            entry.crossing_kb.len()
        ));
    }
    let mut bytes = |what: &str, kilobytes: f64| {
        (wrong.amount(&format!("{own}: {what}"), kilobytes) * 1e3) as u64
    };
    let segments = entry.segments.iter().map(|segment| Segment {
        macs: segment.mmacs.max(0.0) * 1e6,
        weight_bytes: bytes("weights-kb", segment.weights_kb),
        activation_bytes: bytes("live-kb", segment.live_kb),
    });
    let segments = segments.collect();
    let crossing = entry.crossing_kb.iter().map(|&kb| bytes("crossing-kb", kb));
    Part {
        segments,
        crossing_bytes: crossing.collect(),
        codings: codings(entry, own, wrong),
    }
}

fn codings(entry: &PartEntry, own: &str, wrong: &mut Wrong) -> Vec<(usize, Way)> {
    let mut codings = Vec::with_capacity(entry.codings.len());
    for coding in &entry.codings {
        if !(1..entry.segments.len()).contains(&coding.behind) {
            wrong.0.push(format!(
                "{own}: codings: behind = {} is not between two of {} segments",
                coding.behind,
                entry.segments.len()
            ));
        }
        let codec = match coding.codec.parse() {
            Ok(codec) => codec,
            Err(error) => {
                wrong.0.push(format!("{own}: codings: {error}"));
                continue;
            }
        };
        let mut amount =
            |what: &str, value| wrong.amount(&format!("{own}: codings: {what}"), value);
        let way = Way {
            codec,
            bytes: (amount("kb", coding.kb) * 1e3) as u64,
            encode: amount("encode-mmacs", coding.encode_mmacs) * 1e6,
            decode: amount("decode-mmacs", coding.decode_mmacs) * 1e6,
        };
        codings.push((coding.behind, way));
    }
    codings
}

fn load(entry: &LoadEntry, suffix: &str, wrong: &mut Wrong) -> Load {
    let own = format!("load of {}", entry.model);
    let arrivals = match (entry.rate, &entry.phases, &entry.trace_s) {
        (Some(rate), None, None) if entry.constant => Process::Constant { rate },
        (Some(rate), None, None) => Process::Poisson { rate },
        (None, Some(phases), None) => Process::Modulated(
            phases
                .iter()
                .map(|&(rate, mean_seconds)| Phase { rate, mean_seconds })
                .collect(),
        ),
        (None, None, Some(times)) => {
            let times = times
                .iter()
                .map(|&at| Timestamp::ZERO + wrong.time(&own, at * 1e3));
            Process::Trace(times.collect())
        }
        _ => {
            wrong
                .0
                .push(format!("{own}: one of rate, phases and trace-s"));
            Process::Poisson { rate: 0.0 }
        }
    };
    let slas = entry.sla_ms.iter();
    let slas = slas
        .map(|&(ms, weight)| (wrong.time(&own, ms), weight))
        .collect();
    Load {
        model: ModelName::new(&format!("{}{suffix}", entry.model)),
        arrivals,
        slas,
        patience: wrong.time(&own, entry.patience_ms),
        samples: entry.samples.max(1),
        feedback: entry.feedback,
    }
}

fn faults(
    entry: &FaultEntry,
    copies: usize,
    faults: &mut Vec<(Timestamp, Fault)>,
    wrong: &mut Wrong,
) {
    let at = Timestamp::ZERO + wrong.time("fault: at-s", entry.at_s * 1e3);
    // In a world of copies a fault names its node in full.
    let node = |name: &String| NodeId::new(name);
    let place = |name: &str| match name {
        CENTER => Place::Center,
        name => Place::Node(name.into()),
    };
    let mut found = Vec::new();
    found.extend(entry.crash.as_ref().map(|name| Fault::Crash(node(name))));
    found.extend(
        entry
            .silence
            .as_ref()
            .map(|name| Fault::Silence(node(name))),
    );
    found.extend(entry.rejoin.as_ref().map(|name| Fault::Rejoin(node(name))));
    found.extend(
        entry
            .slow
            .as_ref()
            .map(|name| Fault::Slow(node(name), entry.times)),
    );
    if let Some(entry) = &entry.link {
        let link = link(entry, wrong);
        let (from, to) = (place(&entry.from), place(&entry.to));
        if !entry.one_way {
            faults.push((at, Fault::Link(to.clone(), from.clone(), link)));
        }
        found.push(Fault::Link(from, to, link));
    }
    match <[Fault; 1]>::try_from(found) {
        Ok([fault]) => faults.push((at, fault)),
        Err(_) => wrong.0.push(format!(
            "the fault at {} s of {copies} copies: one of crash, silence, rejoin, slow and link",
            entry.at_s
        )),
    }
}
