//! What the comparison says, for people.

use comfy_table::Table;

use super::{
    choosing,
    gains::{self, PUBLISHED, Range},
    grid::{Cell, Chosen, Grid, Network},
    ready::Kind,
    sharing::{Share, Shared, Together},
    switches::Switches,
};
use crate::output;

/// A table with its title.
pub(super) type Titled = (String, Table);

/// Columns of tables with every method; after them those that look beyond device, server and the network's end.
const METHODS: [&str; 10] = [
    "Neurosurgeon",
    "Neurosurgeon, energy",
    "DADS light",
    "DADS light, energy",
    "DADS heavy",
    "exact",
    "exact, busiest stage",
    "exact, under load",
    "Edgent",
    "chain",
];

/// Everything at these ratios.
pub(super) fn all(
    grid: &Grid,
    ratios: &[f64],
    networks: &[Network],
    together: &[Together],
) -> Vec<Titled> {
    let mut all = Vec::new();
    for &ratio in ratios {
        let at = |what: &str| format!("{what}, device {ratio} times slower");
        all.push((at("What each method chooses"), choices(ratio, networks)));
        all.push((
            at("Latency of what each method chooses, predicted / measured"),
            latencies(ratio, networks),
        ));
        all.push((at("Times of one picture"), times(ratio, networks)));
        all.push((
            at("Edgent: exit and cut for half of the device's own time"),
            exits(ratio, networks),
        ));
        let (devices, cores) = (grid.devices, grid.cores);
        all.push((
            at(&format!(
                "{devices} devices share {cores} cores: the slowest, predicted / measured"
            )),
            sharing(ratio, networks),
        ));
        if !together.is_empty() {
            all.push((
                at(&format!(
                    "All networks share {cores} cores: the slowest, predicted / measured"
                )),
                shared_by_all(ratio, together),
            ));
        }
        all.push((
            at("A node at the device's side, as much faster than it as the server is than the node"),
            chains(ratio, networks),
        ));
    }
    all.push((
        "Speed-up of the best cut, measured, least to most (mean) over all ratios".into(),
        speed_ups(networks),
    ));
    all.push((
        "Uplinks where Neurosurgeon's choice changes, from fast to slow".into(),
        switches(networks),
    ));
    all.push(("Which end, or a cut inside, wins".into(), winners(networks)));
    let bar = output::micros(grid.bar * 1e6);
    all.push((
        format!("How long choosing takes, all cells; wanted below {bar}"),
        choosing(grid.bar, networks),
    ));
    all.push((
        "How well it was predicted, all cells".into(),
        errors(networks),
    ));
    all
}

/// What is plain without a table: whether the bar holds, and where the picture wins.
pub(super) fn sentences(grid: &Grid, networks: &[Network]) -> Vec<String> {
    let bar = output::micros(grid.bar * 1e6);
    let mut said: Vec<String> = Vec::new();
    let all = choosing::all(networks);
    for network in networks {
        let own = || all.iter().filter(|one| one.network == network.name);
        let over: Vec<&str> = own()
            .filter(|one| one.largest >= grid.bar)
            .map(|one| one.method)
            .collect();
        let slowest = own().max_by(|a, b| a.largest.total_cmp(&b.largest));
        let (name, most) = slowest.map_or(("—", 0.0), |one| (one.method, one.largest));
        let most = output::micros(most * 1e6);
        said.push(match &over[..] {
            [] => format!(
                "{}: every method chooses within {bar}; the longest took {most} ({name}).",
                network.name
            ),
            over => format!(
                "{}: NOT within {bar}: {}; the longest took {most} ({name}).",
                network.name,
                over.join(", ")
            ),
        });
    }
    for network in networks.iter().filter(|one| one.picture.is_some()) {
        let cells = network.cells.len();
        let count = |is: &dyn Fn(&Cell) -> bool| network.cells.iter().filter(|c| is(c)).count();
        said.push(format!(
            "{}: sending the compressed picture to the server is the best choice in {} of {cells} cells, \
             and by measured times in {}.",
            network.name,
            count(&|cell| cell.wins.0 == Kind::Picture),
            count(&|cell| cell.wins.1 == Kind::Picture),
        ));
    }
    said
}

fn cells(network: &Network, ratio: f64) -> impl Iterator<Item = &Cell> {
    let is_it = move |cell: &&Cell| (cell.ratio - ratio).abs() < 1e-9;
    network.cells.iter().filter(is_it)
}

fn uplink(mbit: f64) -> String {
    match mbit {
        m if m < 9.95 => format!("{m:.2}"),
        m => format!("{m:.0}"),
    }
}

fn seconds(seconds: f64) -> String {
    output::micros(seconds * 1e6)
}

fn both(predicted: f64, measured: f64) -> String {
    format!("{} / {}", seconds(predicted), seconds(measured))
}

/// One column for each method.
fn by_method(
    ratio: f64,
    networks: &[Network],
    last: Option<&str>,
    tell: impl Fn(&Chosen) -> String,
) -> Table {
    let mut table = output::table([]);
    let header = ["network", "Mbit/s"].into_iter().chain(METHODS);
    table.set_header(header.chain(last));
    for network in networks {
        for cell in cells(network, ratio) {
            let mut row = vec![network.name.clone(), uplink(cell.uplink)];
            let tell = |method: &&str| cell.choice(method).map_or("—".into(), &tell);
            row.extend(METHODS.iter().map(tell));
            row.extend(last.map(|_| cell.wins.0.words().to_owned()));
            table.add_row(row);
        }
    }
    table
}

fn choices(ratio: f64, networks: &[Network]) -> Table {
    by_method(ratio, networks, Some("what wins"), |one| {
        match (&one.exit, one.holds) {
            (Some(exit), true) => format!("{exit}: {}", one.cut),
            (Some(exit), false) => format!("{exit}: {} (too late)", one.cut),
            (None, true) => one.cut.clone(),
            (None, false) if one.method == "Edgent" => format!("{} (too late)", one.cut),
            (None, false) => format!("{} (loses too much)", one.cut),
        }
    })
}

fn latencies(ratio: f64, networks: &[Network]) -> Table {
    by_method(ratio, networks, None, |one| {
        both(one.predicted, one.measured)
    })
}

fn times(ratio: f64, networks: &[Network]) -> Table {
    let mut table = output::table([
        "network",
        "Mbit/s",
        "best cut",
        "on the device",
        "bytes",
        "predicted",
        "measured",
        "device only",
        "server only",
        "server, tensor",
        "busiest stage",
        "under load: loss",
        "what wins (measured)",
    ]);
    for network in networks {
        for cell in cells(network, ratio) {
            let Some(best) = cell.choice("exact") else {
                continue;
            };
            let took = |method: &str| {
                let choice = cell.choice(method);
                choice.map_or("—".into(), |choice| seconds(choice.measured))
            };
            let stage = cell.choice("exact, busiest stage").map_or(0.0, |c| c.stage);
            let loss = cell.choice("exact, under load").map_or(0.0, |c| c.loss);
            table.add_row([
                network.name.clone(),
                uplink(cell.uplink),
                best.cut.clone(),
                format!("{:.0} %", best.share * 100.0),
                output::bytes(best.bytes),
                seconds(best.predicted),
                seconds(best.measured),
                took("device only"),
                took("server only"),
                took("server, tensor"),
                seconds(stage),
                format!("{:.2} % of {:.1}/s", loss * 100.0, cell.arrivals),
                cell.wins.1.words().to_owned(),
            ]);
        }
    }
    table
}

/// Edgent's map: neighbours with the same exit and cut once.
fn exits(ratio: f64, networks: &[Network]) -> Table {
    let mut table = output::table([
        "network",
        "deadline",
        "from Mbit/s",
        "exit",
        "cut",
        "predicted / measured there",
        "",
    ]);
    for network in networks {
        let mut before: Option<&Chosen> = None;
        for cell in cells(network, ratio) {
            let Some(own) = cell.choice("Edgent") else {
                continue;
            };
            let is_same = before.is_some_and(|one| {
                (&one.exit, &one.cut, one.holds) == (&own.exit, &own.cut, own.holds)
            });
            before = Some(own);
            if is_same {
                continue;
            }
            table.add_row([
                network.name.clone(),
                seconds(cell.deadline),
                uplink(cell.uplink),
                own.exit.clone().unwrap_or_else(|| "end".into()),
                own.cut.clone(),
                both(own.predicted, own.measured),
                if own.holds { "" } else { "too late" }.to_owned(),
            ]);
        }
    }
    table
}

/// Columns behind those that say who shares.
const SHARING: [&str; 6] = [
    "even shares",
    "IAO",
    "threshold search",
    "cores by IAO",
    "cuts by IAO",
    "gain over even shares, measured",
];

fn shares(shared: &[Shared]) -> Option<[String; 6]> {
    let of = |method: &str| shared.iter().find(|one| one.method == method);
    let (even, iao, search) = (of("even shares")?, of("IAO")?, of("threshold search")?);
    let tell = |one: &Shared| both(one.predicted, one.measured);
    let cores: Vec<String> = iao.users.iter().map(|one| one.cores.to_string()).collect();
    let cuts: Vec<&str> = iao.users.iter().map(|one| &one.cut[..]).collect();
    Some([
        tell(even),
        tell(iao),
        tell(search),
        cores.join(" + "),
        cuts.join("; "),
        format!("{:.2}", even.measured / iao.measured),
    ])
}

fn sharing(ratio: f64, networks: &[Network]) -> Table {
    let mut table = output::table([]);
    table.set_header(
        ["network", "Mbit/s in the middle"]
            .into_iter()
            .chain(SHARING),
    );
    for network in networks {
        for cell in cells(network, ratio) {
            let Some(shares) = shares(&cell.shared) else {
                continue;
            };
            let begin = [network.name.clone(), uplink(cell.uplink)];
            table.add_row(begin.into_iter().chain(shares));
        }
    }
    table
}

fn shared_by_all(ratio: f64, together: &[Together]) -> Table {
    let mut table = output::table([]);
    table.set_header(["networks", "Mbit/s"].into_iter().chain(SHARING));
    for one in together
        .iter()
        .filter(|one| (one.ratio - ratio).abs() < 1e-9)
    {
        let Some(shares) = shares(&one.shared) else {
            continue;
        };
        let users: &[Share] = one.shared.first().map_or(&[], |shared| &shared.users);
        let names: Vec<&str> = users.iter().map(|user| &user.network[..]).collect();
        let begin = [names.join(", "), uplink(one.uplink)];
        table.add_row(begin.into_iter().chain(shares));
    }
    table
}

fn chains(ratio: f64, networks: &[Network]) -> Table {
    let mut table = output::table([
        "network",
        "Mbit/s",
        "chain",
        "predicted / measured",
        "best cut without it, measured",
        "gain, measured",
    ]);
    for network in networks {
        for cell in cells(network, ratio) {
            let (Some(chain), Some(cut)) = (cell.choice("chain"), cell.choice("exact")) else {
                continue;
            };
            table.add_row([
                network.name.clone(),
                uplink(cell.uplink),
                chain.cut.clone(),
                both(chain.predicted, chain.measured),
                seconds(cut.measured),
                format!("{:.2}", cut.measured / chain.measured),
            ]);
        }
    }
    table
}

fn speed_ups(networks: &[Network]) -> Table {
    let mut table = output::table([
        "network",
        "Mbit/s",
        "over device only",
        "over server only (picture)",
        "over server, tensor",
        "over the better of device and picture",
        "the picture wins at",
    ]);
    let range = |range: Option<Range>| {
        range.map_or("—".into(), |one| {
            format!("{:.2} to {:.2} ({:.2})", one.least, one.most, one.mean)
        })
    };
    for gain in gains::all(networks) {
        let wins = gain.picture.iter().map(|ratio| format!("1:{ratio}"));
        let wins: Vec<String> = wins.collect();
        table.add_row([
            gain.network.clone(),
            gain.uplink.map_or("all".into(), uplink),
            range(gain.device),
            range(gain.server),
            range(gain.tensor),
            range(gain.either),
            if wins.is_empty() {
                "—".into()
            } else {
                wins.join(" ")
            },
        ]);
    }
    for one in &PUBLISHED {
        table.add_row([
            format!("published: {}", one.who),
            one.conditions.to_owned(),
            one.device.to_owned(),
            "—".into(),
            one.server.to_owned(),
            "—".into(),
            "never tried".into(),
        ]);
    }
    table
}

fn switches(networks: &[Network]) -> Table {
    let mut table = output::table([
        "network",
        "least",
        "ratio",
        "server's load",
        "choice > Mbit/s > choice below it",
    ]);
    let path = |one: &Switches| {
        let changes = one.changes.iter();
        let changes =
            changes.map(|change| format!(" > {} > {}", uplink(change.uplink), change.below));
        format!("{}{}", one.fastest, changes.collect::<String>())
    };
    for network in networks {
        for one in &network.switches {
            table.add_row([
                network.name.clone(),
                one.wanted.to_owned(),
                format!("1:{}", one.ratio),
                one.load.map_or("any".into(), |load| load.to_string()),
                path(one),
            ]);
        }
    }
    table
}

fn winners(networks: &[Network]) -> Table {
    let kinds = [Kind::Picture, Kind::Input, Kind::Device, Kind::Inside];
    let mut table = output::table([]);
    let header = ["network".to_owned(), "cells".to_owned()].into_iter();
    table.set_header(
        header.chain(kinds.map(|kind| format!("{}: predicted, measured", kind.words()))),
    );
    for network in networks {
        let count = |is: &dyn Fn(&Cell) -> bool| network.cells.iter().filter(|c| is(c)).count();
        let mut row = vec![network.name.clone(), network.cells.len().to_string()];
        row.extend(kinds.map(|kind| {
            let predicted = count(&|cell| cell.wins.0 == kind);
            let measured = count(&|cell| cell.wins.1 == kind);
            format!("{predicted}, {measured}")
        }));
        table.add_row(row);
    }
    table
}

fn choosing(bar: f64, networks: &[Network]) -> Table {
    let mut table = output::table([
        "network",
        "method",
        "expected",
        "median",
        "largest",
        "below the bar",
    ]);
    for one in choosing::all(networks) {
        table.add_row([
            one.network,
            one.method.to_owned(),
            one.complexity.to_owned(),
            seconds(one.median),
            seconds(one.largest),
            if one.largest < bar { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    table
}

fn errors(networks: &[Network]) -> Table {
    let mut table = output::table([
        "network",
        "layers",
        "down-sets",
        "whole, server",
        "segments run",
        "speed-up by cores (measured)",
        "error of the prediction: median, largest",
        "regret of the choice: mean, largest",
    ]);
    for network in networks {
        let error = |chosen: &Chosen| (chosen.predicted / chosen.measured - 1.0).abs();
        let mut all: Vec<f64> = network
            .cells
            .iter()
            .flat_map(|cell| &cell.choices)
            .map(error)
            .collect();
        all.sort_by(f64::total_cmp);
        let regrets = || network.cells.iter().map(|cell| cell.regret);
        let mean = regrets().sum::<f64>() / network.cells.len().max(1) as f64;
        let largest = regrets().fold(0.0, f64::max);
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let (curve, measured) = &network.speed_up;
        let curve: Vec<String> = curve.iter().map(|times| format!("{times:.2}")).collect();
        table.add_row([
            network.name.clone(),
            network.layers.to_string(),
            network.down_sets.to_string(),
            seconds(network.whole),
            network.segments.to_string(),
            format!("{} ({measured})", curve.join(" ")),
            format!(
                "{}, {}",
                percent(all.get(all.len() / 2).copied().unwrap_or(0.0)),
                percent(all.last().copied().unwrap_or(0.0))
            ),
            format!("{}, {}", percent(mean), percent(largest)),
        ]);
    }
    table
}
