//! The comparison: every method at every uplink and ratio, predicted and measured.

use std::collections::BTreeSet;

use anyhow::Context as _;
use splitplace_plan::partition::{
    Exit, Links, Method, Objective, Part, Question, Scene, User, down_sets::DownSets,
};

use super::{
    clock::Segments,
    ready::{Given, Kind, Placed, Ready},
    sharing::{self, Shared, Sharer, named, solved},
    source::Source,
    switches::{self, Line, Switches},
};

/// What is compared where.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    /// Mbit/s.
    pub(super) uplinks: Vec<f64>,
    /// Device seconds over server seconds.
    pub(super) ratios: Vec<f64>,
    /// Seconds.
    pub(super) delay: f64,
    /// Share of the highest rate.
    pub(super) load: f64,
    pub(super) loss: f64,
    pub(super) places: usize,
    pub(super) watts: (f64, f64),
    /// Loads of the server at which it is said where choices change.
    pub(super) loads: Vec<f64>,
    /// Devices that share the server, and its cores.
    pub(super) devices: usize,
    pub(super) cores: usize,
    /// Mbit/s from the device to the node at its side, and seconds of delay each way.
    pub(super) near: (f64, f64),
    /// Seconds that choosing may take.
    pub(super) bar: f64,
}

impl Grid {
    /// How many cells there are.
    pub(super) fn cells(&self) -> u64 {
        (self.uplinks.len() * self.ratios.len()) as u64
    }

    pub(super) fn scene(&self, uplink: f64, objective: Objective) -> Scene {
        Scene {
            rate: uplink * 1e6 / 8.0,
            delay: self.delay,
            load: 1.0,
            objective,
        }
    }

    pub(super) const fn energy(&self) -> Objective {
        Objective::Energy {
            compute: self.watts.0,
            radio: self.watts.1,
        }
    }

    /// Device, server, and a node at the device's side, from which the uplink goes on.
    fn links(&self, uplink: f64) -> Links {
        let up = uplink * 1e6 / 8.0;
        let (near, late) = (self.near.0 * 1e6 / 8.0, self.near.1);
        Links {
            pairs: vec![
                vec![(0.0, 0.0), (up, self.delay), (near, late)],
                vec![(up, 0.0), (0.0, 0.0), (up, 0.0)],
                vec![(near, late), (up, self.delay), (0.0, 0.0)],
            ],
        }
    }

    /// Mbit/s of the devices that share the server: one has `uplink`, one four times more, one four times less, …
    fn uplinks_of(&self, uplink: f64) -> Vec<f64> {
        let middle = (self.devices - 1) as f64 / 2.0;
        let devices = (0..self.devices).map(|number| number as f64 - middle);
        devices.map(|step| uplink * 4f64.powf(step)).collect()
    }
}

/// One network over the grid.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) layers: usize,
    pub(super) down_sets: usize,
    /// Seconds of the whole on this machine.
    pub(super) whole: f64,
    /// Bytes of the picture's file.
    pub(super) picture: Option<u64>,
    /// What the server does with 1, 2, … cores, and how many of these were measured.
    pub(super) speed_up: (Vec<f64>, usize),
    /// Segments that were run for what is measured.
    pub(super) segments: usize,
    pub(super) cells: Vec<Cell>,
    /// Where Neurosurgeon's choice changes.
    pub(super) switches: Vec<Switches>,
    /// By ratio: the candidates that cross there.
    pub(super) lines: Vec<(f64, Vec<Line>)>,
}

/// One uplink and ratio.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    /// Mbit/s.
    pub(super) uplink: f64,
    pub(super) ratio: f64,
    pub(super) choices: Vec<Chosen>,
    /// Devices with this network that share the server.
    pub(super) shared: Vec<Shared>,
    /// Requests a second of the choice under load.
    pub(super) arrivals: f64,
    /// Seconds within which Edgent has to answer.
    pub(super) deadline: f64,
    /// Measured seconds of the exact method's choice over the best of all cuts that were measured, less 1.
    pub(super) regret: f64,
    /// What has the least predicted and the least measured latency.
    pub(super) wins: (Kind, Kind),
}

impl Cell {
    /// What a method chose.
    pub(super) fn choice(&self, method: &str) -> Option<&Chosen> {
        self.choices.iter().find(|one| one.method == method)
    }
}

/// What one method chose.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// The method, and what it was asked for if that was not latency.
    pub(super) method: &'static str,
    pub(super) complexity: &'static str,
    /// In words.
    pub(super) cut: String,
    pub(super) kind: Kind,
    /// Name of the exit that answers; `None` for the end.
    pub(super) exit: Option<String>,
    /// Whether the deadline and the loss that were asked for are kept.
    pub(super) holds: bool,
    /// Share of the multiply-accumulates on the device.
    pub(super) share: f64,
    /// Bytes that leave the device.
    pub(super) bytes: u64,
    /// Seconds of one sample in an idle system.
    pub(super) predicted: f64,
    pub(super) measured: f64,
    /// Predicted seconds of the busiest stage.
    pub(super) stage: f64,
    /// Expected loss under the cell's arrivals.
    pub(super) loss: f64,
    /// Predicted joules of the device.
    pub(super) joules: f64,
    /// Seconds of processor that choosing took.
    pub(super) choosing: f64,
}

/// What is asked of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Latency,
    Energy,
    Stage,
    Load,
    Exit,
    Nodes,
}

/// Which method is asked for what; the first is what tables call it.
const ROWS: [(&str, &str, Want); 13] = [
    ("device only", "device only", Want::Latency),
    ("server only", "server only", Want::Latency),
    ("server, tensor", "", Want::Latency),
    ("Neurosurgeon", "Neurosurgeon", Want::Latency),
    ("Neurosurgeon, energy", "Neurosurgeon", Want::Energy),
    ("DADS light", "DADS light", Want::Latency),
    ("DADS light, energy", "DADS light", Want::Energy),
    ("DADS heavy", "DADS heavy", Want::Stage),
    ("exact", "exact", Want::Latency),
    ("exact, busiest stage", "exact", Want::Stage),
    ("exact, under load", "exact", Want::Load),
    ("Edgent", "Edgent", Want::Exit),
    ("chain", "chain", Want::Nodes),
];

/// What each cell is filled from.
struct Filling<'a> {
    grid: &'a Grid,
    exits: Vec<Exit>,
    speed_up: Vec<f64>,
    /// Whether there are too many down-sets to list.
    is_wide: bool,
    segments: &'a mut Segments,
    /// Cuts between device and server that were run.
    cuts: BTreeSet<Vec<bool>>,
}

/// Fills the grid for one network; `step` is called behind every cell.
pub(super) fn network(
    source: &Source,
    grid: &Grid,
    segments: &mut Segments,
    step: &mut dyn FnMut(),
) -> anyhow::Result<Network> {
    let (part, _) = source.network(&[1.0, 1.0])?;
    let sets = DownSets::new(&part, DownSets::MOST).ok();
    let (speed_up, measured) = source.speed_up(grid.cores)?;
    let mut filling = Filling {
        grid,
        exits: source.exits.iter().map(|(_, exit)| exit.clone()).collect(),
        speed_up: speed_up.clone(),
        is_wide: sets.is_none(),
        segments,
        cuts: BTreeSet::new(),
    };
    let mut cells = Vec::new();
    let (mut switches, mut lines) = (Vec::new(), Vec::new());
    for &ratio in &grid.ratios {
        let ready = Ready::new(source, ratio)?;
        for &uplink in &grid.uplinks {
            cells.push(filling.cell(&ready, uplink)?);
            step();
        }
        let (found, crossing) = switches::all(&ready, grid);
        switches.extend(found);
        lines.push((ratio, crossing));
    }
    // Behind the last cell, for what was run for one is known for all.
    for cell in &mut cells {
        let ready = Ready::new(source, cell.ratio)?;
        cell.regret = filling.regret(&ready, cell)?;
    }
    Ok(Network {
        name: source.name.clone(),
        layers: part.layers().len(),
        down_sets: sets.map_or(0, |sets| sets.count()),
        whole: source.whole,
        picture: source.picture.map(|(bytes, _)| bytes),
        speed_up: (speed_up, measured),
        segments: filling.segments.len(),
        cells,
        switches,
        lines,
    })
}

/// The answer about one network.
fn alone(method: &dyn Method, user: User<'_>) -> anyhow::Result<(Part, f64)> {
    let question = Question {
        users: &[user],
        cores: 1,
    };
    let (mut parts, took) = solved(method, &question)?;
    let part = parts.pop().context("a method answers for each network")?;
    Ok((part, took))
}

impl Filling<'_> {
    fn cell(&mut self, ready: &Ready<'_>, uplink: f64) -> anyhow::Result<Cell> {
        let grid = self.grid;
        let latency = grid.scene(uplink, Objective::Latency);
        let busiest = grid.scene(uplink, Objective::Bottleneck);
        let end = |scene: Scene| User::new(&ready.end.network, scene);
        let (fastest, _) = alone(&*self.method(ready, "exact", Want::Stage)?, end(busiest))?;
        let arrivals = grid.load / fastest.bottleneck();
        let loaded = grid.scene(
            uplink,
            Objective::Loss {
                arrivals,
                places: grid.places,
                scv: 0.0,
                most: grid.loss,
            },
        );
        let (own, _) = alone(&*named("device only")?, end(latency))?;
        let deadline = own.latency() / 2.0;
        let links = grid.links(uplink);
        let exits = std::mem::take(&mut self.exits);
        let mut choices = Vec::new();
        for (label, name, want) in ROWS {
            if name.is_empty() && ready.end.source.picture.is_none() {
                // There the server alone is sent the tensor already.
                continue;
            }
            let (placed, user) = match want {
                Want::Latency => (&ready.end, end(latency)),
                Want::Energy => (&ready.end, end(grid.scene(uplink, grid.energy()))),
                Want::Stage => (&ready.end, end(busiest)),
                Want::Load => (&ready.end, end(loaded)),
                Want::Exit if exits.is_empty() => {
                    let user = User {
                        deadline,
                        ..end(latency)
                    };
                    (&ready.end, user)
                }
                Want::Exit => {
                    let user = User {
                        exits: &exits,
                        deadline,
                        ..User::new(&ready.exits.network, latency)
                    };
                    (&ready.exits, user)
                }
                Want::Nodes => {
                    let user = User {
                        links: Some(&links),
                        ..User::new(&ready.three.network, latency)
                    };
                    (&ready.three, user)
                }
            };
            let method = self.method(ready, name, want)?;
            let (part, choosing) = alone(&*method, user)?;
            let chosen = self.chosen(label, &*method, placed, &part, &loaded)?;
            choices.push(Chosen { choosing, ..chosen });
            if std::ptr::eq(placed, &ready.end) {
                self.cuts.insert(first(&part, ready.end.layers.len()));
            }
        }
        self.exits = exits;
        let shared = self.shared(ready, uplink)?;
        Ok(Cell {
            uplink,
            ratio: ready.ratio,
            wins: wins(&choices).context("the exact method always chooses")?,
            choices,
            shared,
            arrivals,
            deadline,
            regret: 0.0,
        })
    }

    /// A row's method. Where there are too many down-sets the minimum cut is as good for sums, and the heavy one comes
    /// near.
    fn method(&self, ready: &Ready<'_>, name: &str, want: Want) -> anyhow::Result<Box<dyn Method>> {
        match name {
            "" => {
                let layers = ready.end.layers.iter();
                Ok(Box::new(Given(layers.map(Option::is_none).collect())))
            }
            "exact" if self.is_wide => named(if want == Want::Latency {
                "DADS light"
            } else {
                "DADS heavy"
            }),
            name => named(name),
        }
    }

    fn chosen(
        &mut self,
        label: &'static str,
        method: &dyn Method,
        placed: &Placed<'_>,
        part: &Part,
        loaded: &Scene,
    ) -> anyhow::Result<Chosen> {
        let (compute, radio) = self.grid.watts;
        let exits = &placed.source.exits;
        Ok(Chosen {
            method: label,
            complexity: method.complexity(),
            cut: placed.words(part),
            kind: placed.kind(part),
            exit: part.exit.map(|exit| exits[exit].0.clone()),
            holds: part.holds,
            share: placed.share(part),
            bytes: part.bytes(&placed.network),
            predicted: part.latency(),
            measured: placed.measured(part, 1.0, self.segments)?,
            stage: part.bottleneck(),
            loss: part.under(loaded).0,
            joules: part.joules(compute, radio),
            choosing: 0.0,
        })
    }

    /// Devices with this network, on uplinks around this one, and the server's cores between them.
    fn shared(&mut self, ready: &Ready<'_>, uplink: f64) -> anyhow::Result<Vec<Shared>> {
        let uplinks = self.grid.uplinks_of(uplink);
        let speed_up = self.speed_up.clone();
        let sharers: Vec<Sharer<'_>> = uplinks
            .into_iter()
            .map(|uplink| Sharer {
                ready,
                uplink,
                speed_up: &speed_up,
            })
            .collect();
        sharing::share(self.grid, &sharers, |_, part, speed| {
            ready.end.measured(part, speed, self.segments)
        })
    }

    /// The exact method's choice, measured, over the best of all cuts that were measured anywhere.
    fn regret(&mut self, ready: &Ready<'_>, cell: &Cell) -> anyhow::Result<f64> {
        let scene = self.grid.scene(cell.uplink, Objective::Latency);
        let mut best = f64::INFINITY;
        for cut in &self.cuts {
            let user = User::new(&ready.end.network, scene);
            let (part, _) = alone(&Given(cut.clone()), user)?;
            best = best.min(ready.end.measured(&part, 1.0, self.segments)?);
        }
        let own = cell.choice("exact").context("it always chooses")?.measured;
        Ok(own / best - 1.0)
    }
}

/// Which layers the device runs.
fn first(part: &Part, layers: usize) -> Vec<bool> {
    let mut first = vec![false; layers];
    for &layer in &part.stops[0].layers {
        first[layer] = true;
    }
    first
}

/// What is least, predicted and measured, of all that has the whole network between device and server.
fn wins(choices: &[Chosen]) -> Option<(Kind, Kind)> {
    let is_alike = |one: &&Chosen| !["Edgent", "chain"].contains(&one.method);
    let exact = choices.iter().find(|one| one.method == "exact")?;
    let measured = choices
        .iter()
        .filter(is_alike)
        .min_by(|a, b| a.measured.total_cmp(&b.measured))?;
    Some((exact.kind, measured.kind))
}
