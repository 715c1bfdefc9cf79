//! Where Neurosurgeon's choice changes: the lower envelope of the planes over bandwidth and the server's load, read off
//! for latency and for energy.

use splitplace_plan::partition::{
    Method as _, Neurosurgeon, Objective, Part, Plane, Question, Scene, User, neurosurgeon::Table,
};

use super::{
    grid::Grid,
    ready::{Given, Placed, Ready},
};

/// The choices from the fastest link to the slowest, at one ratio and load.
#[derive(Clone, Debug)]
pub(super) struct Switches {
    /// What is least: `latency` or `energy`.
    pub(super) wanted: &'static str,
    pub(super) ratio: f64,
    /// How many times as long the server takes as when it is idle; `None` where that is nothing to what is wanted.
    pub(super) load: Option<f64>,
    /// What is chosen on the fastest links.
    pub(super) fastest: String,
    /// By falling rate.
    pub(super) changes: Vec<Change>,
}

/// Where a choice changes.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Mbit/s.
    pub(super) uplink: f64,
    pub(super) below: String,
}

/// A candidate that is best somewhere at load 1, for the figure in which they cross.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) cut: String,
    pub(super) plane: Plane,
    /// Mbit/s at which it crosses its neighbours.
    pub(super) crossings: Vec<f64>,
}

/// The envelope of a network at one ratio.
pub(super) fn all(ready: &Ready<'_>, grid: &Grid) -> (Vec<Switches>, Vec<Line>) {
    let loads = grid.loads.iter().copied();
    let reach = (
        loads.clone().fold(1.0, f64::min),
        loads.clone().fold(1.0, f64::max),
    );
    let slowest = grid.uplinks.iter().copied().fold(f64::INFINITY, f64::min);
    let placed = &ready.end;
    let table = |objective: Objective| {
        let scene = grid.scene(slowest, objective);
        let table = Neurosurgeon::table(&placed.network, &scene, scene.rate, reach);
        (scene, table)
    };
    let (scene, latency) = table(Objective::Latency);
    let mut found: Vec<Switches> = loads
        .map(|load| {
            read(
                placed,
                &scene,
                &latency,
                ("latency", ready.ratio, Some(load)),
            )
        })
        .collect();
    let lines = lines(placed, &scene, &latency);
    let (scene, energy) = table(grid.energy());
    found.push(read(placed, &scene, &energy, ("energy", ready.ratio, None)));
    (found, lines)
}

fn read(
    placed: &Placed<'_>,
    scene: &Scene,
    table: &Table,
    (wanted, ratio, load): (&'static str, f64, Option<f64>),
) -> Switches {
    let at = load.unwrap_or(1.0);
    let words = |plane: usize| words(placed, scene, table, plane);
    let changes = table.envelope.switches(at);
    let fastest = match changes.first() {
        Some(change) => words(change.above),
        None => {
            let only = table.envelope.choose(scene.rate, at);
            only.map_or_else(String::new, words)
        }
    };
    let changes = changes.iter().map(|change| Change {
        uplink: change.rate * 8.0 / 1e6,
        below: words(change.below),
    });
    Switches {
        wanted,
        ratio,
        load,
        fastest,
        changes: changes.collect(),
    }
}

/// A plane's cut in words, in the way that is the plane's.
fn words(placed: &Placed<'_>, scene: &Scene, table: &Table, plane: usize) -> String {
    let candidate = &table.candidates[plane];
    let count = placed.network.layers().len();
    let first = (0..count).map(|layer| layer < candidate.position);
    let question = Question {
        users: &[User::new(&placed.network, *scene)],
        cores: 1,
    };
    let part: Option<Part> = Given(first.collect())
        .solve(&question)
        .ok()
        .and_then(|mut parts| parts.pop());
    let Some(mut part) = part else {
        return String::new();
    };
    if let Some(stop) = part.stops.get_mut(1) {
        stop.received.clone_from(&candidate.sent);
    }
    placed.words(&part)
}

fn lines(placed: &Placed<'_>, scene: &Scene, table: &Table) -> Vec<Line> {
    let changes = table.envelope.switches(1.0);
    let mut planes: Vec<usize> = changes.iter().map(|change| change.above).collect();
    planes.extend(changes.last().map(|change| change.below));
    if planes.is_empty() {
        planes.extend(table.envelope.choose(scene.rate, 1.0));
    }
    let line = |plane: usize| {
        let is_its = |change: &&splitplace_plan::partition::Switch| {
            change.above == plane || change.below == plane
        };
        Line {
            cut: words(placed, scene, table, plane),
            plane: table.envelope.planes()[plane],
            crossings: changes
                .iter()
                .filter(is_its)
                .map(|change| change.rate * 8.0 / 1e6)
                .collect(),
        }
    };
    planes.into_iter().map(line).collect()
}
