//! The comparison: every method at every uplink and ratio, predicted and measured.

use anyhow::Context as _;
use splitplace_plan::partition::{
    self, Choice, DeviceOnly, Edgent, Exact, Heavy, Light, Method as _, Neurosurgeon, Objective,
    Scene, ServerOnly, User, down_sets::DownSets, exits,
};

use super::{
    clock::{Pairs, measured},
    source::Source,
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
}

impl Grid {
    /// How many cells there are.
    pub(super) fn cells(&self) -> u64 {
        (self.uplinks.len() * self.ratios.len()) as u64
    }

    fn scene(&self, uplink: f64, objective: Objective) -> Scene {
        Scene {
            rate: uplink * 1e6 / 8.0,
            delay: self.delay,
            load: 1.0,
            objective,
        }
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
    pub(super) cells: Vec<Cell>,
    /// By ratio: where Neurosurgeon's choice changes.
    pub(super) switches: Vec<(f64, Vec<Change>)>,
    /// By ratio: Edgent's map.
    pub(super) exits: Vec<ExitMap>,
}

/// One uplink and ratio.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    /// Mbit/s.
    pub(super) uplink: f64,
    pub(super) ratio: f64,
    pub(super) choices: Vec<Chosen>,
    /// Requests a second of the choice under load.
    pub(super) arrivals: f64,
    /// Measured seconds of the exact method's choice over the best of all cuts that were measured, less 1.
    pub(super) regret: f64,
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
    pub(super) method: &'static str,
    /// In words.
    pub(super) cut: String,
    /// Share of the multiply-accumulates on the device.
    pub(super) share: f64,
    /// Bytes that cross.
    pub(super) bytes: u64,
    /// Seconds of one sample in an idle system.
    pub(super) predicted: f64,
    pub(super) measured: f64,
    /// Predicted seconds of the busiest stage.
    pub(super) stage: f64,
    /// Expected loss under the cell's arrivals.
    pub(super) loss: f64,
}

/// Where a choice changes.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Mbit/s.
    pub(super) uplink: f64,
    pub(super) above: String,
    pub(super) below: String,
}

/// Which exit and cut keep a deadline.
#[derive(Clone, Debug)]
pub(super) struct ExitMap {
    pub(super) ratio: f64,
    /// Seconds.
    pub(super) deadline: f64,
    /// Mbit/s from which on, exit, cut, seconds, whether the deadline is kept.
    pub(super) entries: Vec<(f64, String, String, f64, bool)>,
}

/// A network with what its layers are called by.
struct Ready<'a> {
    source: &'a Source,
    network: partition::Network,
    layers: Vec<Option<usize>>,
    ratio: f64,
}

impl Ready<'_> {
    /// A cut in words.
    fn words(&self, first: &[bool], sent: &[(usize, usize)]) -> String {
        let has_picture = self.source.picture.is_some();
        if first.iter().all(|first| *first) {
            return "device".into();
        }
        let mut codecs: Vec<String> = sent
            .iter()
            .map(|&(tensor, way)| self.network.tensors()[tensor].ways[way].codec.to_string())
            .collect();
        codecs.dedup();
        let codecs = codecs.join("+");
        let on_device = first.iter().filter(|first| **first).count();
        match on_device {
            0 if has_picture => "picture".into(),
            0 => format!("input {codecs}"),
            1 if has_picture => format!("input {codecs}"),
            count => {
                let several = match sent.len() {
                    1 => String::new(),
                    many => format!(", {many} tensors"),
                };
                let count = count - usize::from(has_picture);
                format!("{count} layers{several}, {codecs}")
            }
        }
    }

    fn chosen(
        &self,
        method: &'static str,
        choice: &Choice,
        pairs: &mut Pairs,
        loss: f64,
    ) -> anyhow::Result<Chosen> {
        let pair = pairs.seconds(self.source, &self.layers, &choice.first)?;
        Ok(Chosen {
            method,
            cut: self.words(&choice.first, &choice.sent),
            share: self.source.share(&choice.first, &self.layers),
            bytes: choice.bytes(&self.network),
            predicted: choice.stages.latency(),
            measured: measured(choice, self.coding(choice), pair, self.ratio),
            stage: choice.stages.bottleneck(),
            loss,
        })
    }

    /// Seconds to encode on the device and to decode on the server.
    fn coding(&self, choice: &Choice) -> (f64, f64) {
        let coding = self.network.coding();
        let ways = choice.sent.iter();
        let ways = ways.map(|&(tensor, way)| self.network.tensors()[tensor].ways[way]);
        ways.fold((0.0, 0.0), |(encode, decode), way| {
            (
                encode + way.encode * coding[0],
                decode + way.decode * coding[1],
            )
        })
    }
}

/// Sends the input's tensor, which the device has made of the picture.
fn tensor(network: &partition::Network, scene: &Scene) -> anyhow::Result<Choice> {
    let first = (0..network.layers().len()).map(|layer| layer == 0);
    Choice::at(network, scene, first.collect()).context("the input may not be sent")
}

/// Fills the grid for one network; `step` is called behind every cell.
pub(super) fn network(
    source: &Source,
    grid: &Grid,
    step: &mut dyn FnMut(),
) -> anyhow::Result<Network> {
    let (part, _) = source.network(1.0)?;
    let sets = DownSets::new(&part, DownSets::MOST).ok();
    let mut pairs = Pairs::default();
    let mut cells = Vec::new();
    let (mut switches, mut exits) = (Vec::new(), Vec::new());
    for &ratio in &grid.ratios {
        let (network, layers) = source.network(ratio)?;
        let ready = Ready {
            source,
            network,
            layers,
            ratio,
        };
        for &uplink in &grid.uplinks {
            cells.push(cell(&ready, grid, uplink, sets.as_ref(), &mut pairs)?);
            step();
        }
        switches.push((ratio, changes(&ready, grid)));
        exits.extend(exit_map(&ready, grid)?);
    }
    for cell in &mut cells {
        cell.regret = regret(source, grid, cell, &pairs)?;
    }
    Ok(Network {
        name: source.name.clone(),
        layers: part.layers().len(),
        down_sets: sets.map_or(0, |sets| sets.sets().len()),
        whole: source.whole,
        picture: source.picture.map(|(bytes, _)| bytes),
        cells,
        switches,
        exits,
    })
}

fn cell(
    ready: &Ready<'_>,
    grid: &Grid,
    uplink: f64,
    sets: Option<&DownSets>,
    pairs: &mut Pairs,
) -> anyhow::Result<Cell> {
    let network = &ready.network;
    // Where there are too many down-sets the minimum cut is as good for sums, and the heavy one comes near.
    let exact = |scene: &Scene| match (sets, scene.objective) {
        (Some(_), _) => Exact::default().choose(network, scene),
        (None, Objective::Latency) => Light.choose(network, scene),
        (None, _) => Heavy::default().choose(network, scene),
    };
    let latency = grid.scene(uplink, Objective::Latency);
    let busiest = grid.scene(uplink, Objective::Bottleneck);
    let energy = Objective::Energy {
        compute: grid.watts.0,
        radio: grid.watts.1,
    };
    let energy = grid.scene(uplink, energy);
    let fastest = exact(&busiest)?;
    let arrivals = grid.load / fastest.stages.bottleneck();
    let loaded = Objective::Loss {
        arrivals,
        places: grid.places,
        scv: 0.0,
        most: grid.loss,
    };
    let loaded = grid.scene(uplink, loaded);
    let heavy = Heavy { side: 5, rounds: 2 };
    let mut found: Vec<(&'static str, Choice)> = vec![
        ("device only", DeviceOnly.choose(network, &latency)?),
        ("server only", ServerOnly.choose(network, &latency)?),
        ("Neurosurgeon", Neurosurgeon.choose(network, &latency)?),
        (
            "Neurosurgeon, energy",
            Neurosurgeon.choose(network, &energy)?,
        ),
        ("DADS light", Light.choose(network, &latency)?),
        ("DADS heavy", heavy.choose(network, &busiest)?),
        ("exact", exact(&latency)?),
        ("exact, busiest stage", fastest),
        ("exact, under load", exact(&loaded)?),
    ];
    if ready.source.picture.is_some() {
        found.push(("server, tensor", tensor(network, &latency)?));
    }
    let choices = found.iter().map(|one| {
        let (method, choice) = (one.0, &one.1);
        let (loss, _) = loaded.queued(&choice.stages);
        ready.chosen(method, choice, pairs, loss)
    });
    Ok(Cell {
        uplink,
        ratio: ready.ratio,
        choices: choices.collect::<anyhow::Result<_>>()?,
        arrivals,
        regret: 0.0,
    })
}

/// The exact method's choice, measured, over the best of all cuts that were measured anywhere.
fn regret(source: &Source, grid: &Grid, cell: &Cell, pairs: &Pairs) -> anyhow::Result<f64> {
    let (network, layers) = source.network(cell.ratio)?;
    let ready = Ready {
        source,
        network,
        layers,
        ratio: cell.ratio,
    };
    let scene = grid.scene(cell.uplink, Objective::Latency);
    let of = |(first, pair): (&Vec<bool>, &(f64, f64))| {
        let choice = Choice::at(&ready.network, &scene, first.clone())?;
        Some(measured(&choice, ready.coding(&choice), *pair, cell.ratio))
    };
    let best = pairs.known().filter_map(of).fold(f64::INFINITY, f64::min);
    let own = cell.choice("exact").context("it always chooses")?.measured;
    Ok(own / best - 1.0)
}

/// The envelope's switches.
fn changes(ready: &Ready<'_>, grid: &Grid) -> Vec<Change> {
    let slow = grid.uplinks.iter().copied().fold(f64::INFINITY, f64::min);
    let scene = grid.scene(slow, Objective::Latency);
    let table = Neurosurgeon::table(&ready.network, &scene, scene.rate, (0.5, 2.0));
    let words = |plane: usize| {
        let candidate = &table.candidates[plane];
        let count = ready.network.layers().len();
        let first: Vec<bool> = (0..count).map(|layer| layer < candidate.position).collect();
        ready.words(&first, &candidate.sent)
    };
    let switches = table.envelope.switches(1.0).into_iter();
    switches
        .map(|switch| Change {
            uplink: switch.rate * 8.0 / 1e6,
            above: words(switch.above),
            below: words(switch.below),
        })
        .collect()
}

/// Edgent's map for a deadline of half of what the device would take alone.
fn exit_map(ready: &Ready<'_>, grid: &Grid) -> anyhow::Result<Option<ExitMap>> {
    let source = ready.source;
    if source.exits.is_empty() {
        return Ok(None);
    }
    let full = source.full(ready.ratio)?;
    let list: Vec<_> = source.exits.iter().map(|(_, exit)| exit.clone()).collect();
    let scene = grid.scene(1.0, Objective::Latency);
    let deadline = DeviceOnly.choose(&ready.network, &scene)?.stages.latency() / 2.0;
    let user = User {
        exits: &list,
        deadline,
        ..User::new(&full, scene)
    };
    let rates: Vec<f64> = grid
        .uplinks
        .iter()
        .map(|uplink| uplink * 1e6 / 8.0)
        .collect();
    let map = exits::map(&Edgent::default(), &user, 1, &rates)?;
    let shift = usize::from(source.picture.is_some());
    let entries = map.into_iter().map(|entry| {
        let part = entry.part;
        let on_device = part.stops[0].layers.len();
        let cut = match on_device {
            0 if shift == 1 => "picture".to_owned(),
            _ if part.is_device_only() => "device".to_owned(),
            count => format!("{} layers", count.saturating_sub(shift)),
        };
        let exit = part.exit.map_or("end", |exit| &source.exits[exit].0);
        let uplink = entry.rate * 8.0 / 1e6;
        (uplink, exit.to_owned(), cut, part.latency(), part.holds)
    });
    Ok(Some(ExitMap {
        ratio: ready.ratio,
        deadline,
        entries: entries.collect(),
    }))
}
