//! What the comparison says: tables, plots, JSON.

use comfy_table::{Table, presets};
use serde_json::json;

use super::grid::{Cell, Chosen, Grid, Network};
use crate::{
    output,
    svg::{Plot, Series},
};

/// Speed-ups that others have published, and where.
const PUBLISHED: &str = "\
Published, for comparison: Neurosurgeon 3.1 times (mean over eight networks, Wi-Fi, LTE and 3G, against the server \
alone, Jetson TK1 and a Tesla K40 server; ASPLOS 2017); DADS up to 6.45 times against the device alone and up to 8.08 \
times against the server alone (Raspberry Pi 3B and a server of eight cores, video, 3G to Wi-Fi; INFOCOM 2019). \
Both send tensors or raw frames, never a compressed picture: compare with the column 'server, tensor'.";

/// Everything.
pub(super) fn json(grid: &Grid, speed: f64, networks: &[Network]) -> serde_json::Value {
    let chosen = |one: &Chosen| {
        json!({
            "method": one.method,
            "cut": one.cut,
            "share_on_device": one.share,
            "bytes": one.bytes,
            "predicted_seconds": one.predicted,
            "measured_seconds": one.measured,
            "busiest_stage_seconds": one.stage,
            "loss_under_load": one.loss,
        })
    };
    let cell = |cell: &Cell| {
        json!({
            "uplink_mbit": cell.uplink,
            "ratio": cell.ratio,
            "arrivals_per_second": cell.arrivals,
            "regret": cell.regret,
            "choices": cell.choices.iter().map(chosen).collect::<Vec<_>>(),
        })
    };
    let network = |network: &Network| {
        let switches = network.switches.iter().map(|(ratio, changes)| {
            let changes = changes.iter().map(|change| {
                json!({ "uplink_mbit": change.uplink, "above": change.above, "below": change.below })
            });
            json!({ "ratio": ratio, "changes": changes.collect::<Vec<_>>() })
        });
        let exits = network.exits.iter().map(|map| {
            let entries = map.entries.iter().map(|(uplink, exit, cut, seconds, holds)| {
                json!({ "uplink_mbit": uplink, "exit": exit, "cut": cut, "seconds": seconds, "holds": holds })
            });
            json!({
                "ratio": map.ratio,
                "deadline_seconds": map.deadline,
                "map": entries.collect::<Vec<_>>(),
            })
        });
        json!({
            "network": network.name,
            "layers": network.layers,
            "down_sets": network.down_sets,
            "whole_seconds": network.whole,
            "picture_bytes": network.picture,
            "cells": network.cells.iter().map(cell).collect::<Vec<_>>(),
            "switches": switches.collect::<Vec<_>>(),
            "exits": exits.collect::<Vec<_>>(),
        })
    };
    json!({
        "macs_per_second": speed,
        "delay_seconds": grid.delay,
        "load": grid.load,
        "loss": grid.loss,
        "places": grid.places,
        "networks": networks.iter().map(network).collect::<Vec<_>>(),
    })
}

/// Tables on standard output.
pub(super) fn show(ratio: f64, networks: &[Network], markdown: bool) {
    let print = |title: &str, mut table: Table| {
        if markdown {
            table.load_style(presets::ASCII_MARKDOWN);
            println!("\n{title}\n\n{table}");
        } else {
            println!("{title}\n{table}");
        }
    };
    print(
        &format!("What each method chooses, device {ratio} times slower"),
        choices(ratio, networks),
    );
    print(
        &format!("Times of one picture, device {ratio} times slower"),
        times(ratio, networks),
    );
    print(
        "Speed-up of the best cut, measured; all ratios",
        speed_ups(networks),
    );
    print(
        &format!("Uplinks where the choice changes, device {ratio} times slower"),
        switches(ratio, networks),
    );
    if networks.iter().any(|network| !network.exits.is_empty()) {
        print(
            &format!("Exit and cut for half of the device's own time, device {ratio} times slower"),
            exits(ratio, networks),
        );
    }
    print("How well it was predicted, all cells", errors(networks));
    println!("{PUBLISHED}");
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

fn choices(ratio: f64, networks: &[Network]) -> Table {
    let mut table = output::table([
        "network",
        "Mbit/s",
        "Neurosurgeon",
        "by energy",
        "DADS light",
        "DADS heavy",
        "exact",
        "exact, busiest stage",
        "exact, under load",
    ]);
    let columns = [
        "Neurosurgeon",
        "Neurosurgeon, energy",
        "DADS light",
        "DADS heavy",
        "exact",
        "exact, busiest stage",
        "exact, under load",
    ];
    for network in networks {
        for cell in cells(network, ratio) {
            let cut = |method: &str| cell.choice(method).map_or(String::new(), |c| c.cut.clone());
            let mut row = vec![network.name.clone(), uplink(cell.uplink)];
            row.extend(columns.iter().map(|method| cut(method)));
            table.add_row(row);
        }
    }
    table
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
    ]);
    for network in networks {
        for cell in cells(network, ratio) {
            let Some(best) = cell.choice("exact") else {
                continue;
            };
            let took = |method: &str| {
                let choice = cell.choice(method);
                choice.map_or("—".into(), |choice| output::micros(choice.measured * 1e6))
            };
            let stage = cell.choice("exact, busiest stage").map_or(0.0, |c| c.stage);
            let loss = cell.choice("exact, under load").map_or(0.0, |c| c.loss);
            table.add_row([
                network.name.clone(),
                uplink(cell.uplink),
                best.cut.clone(),
                format!("{:.0} %", best.share * 100.0),
                output::bytes(best.bytes),
                output::micros(best.predicted * 1e6),
                output::micros(best.measured * 1e6),
                took("device only"),
                took("server only"),
                took("server, tensor"),
                output::micros(stage * 1e6),
                format!("{:.2} % of {:.1}/s", loss * 100.0, cell.arrivals),
            ]);
        }
    }
    table
}

/// The measured time of a baseline over that of the exact method's choice.
fn gain(cell: &Cell, over: &str) -> Option<f64> {
    Some(cell.choice(over)?.measured / cell.choice("exact")?.measured)
}

fn speed_ups(networks: &[Network]) -> Table {
    let mut table = output::table([
        "network",
        "Mbit/s",
        "over device only: least to most",
        "over server only (picture)",
        "over server, tensor",
        "over the better of device and picture",
        "the picture wins at",
    ]);
    for network in networks {
        let mut uplinks: Vec<f64> = network.cells.iter().map(|cell| cell.uplink).collect();
        uplinks.dedup();
        uplinks.sort_by(f64::total_cmp);
        uplinks.dedup();
        for at in uplinks {
            let here = || {
                network
                    .cells
                    .iter()
                    .filter(|cell| (cell.uplink - at).abs() < 1e-12)
            };
            let range = |gain: &dyn Fn(&Cell) -> Option<f64>| {
                let gains: Vec<f64> = here().filter_map(gain).collect();
                let low = gains.iter().copied().fold(f64::INFINITY, f64::min);
                let high = gains.iter().copied().fold(0.0, f64::max);
                match gains.len() {
                    0 => "—".to_owned(),
                    _ => format!("{low:.2} to {high:.2}"),
                }
            };
            let either = |cell: &Cell| {
                let device = gain(cell, "device only")?;
                Some(device.min(gain(cell, "server only")?))
            };
            let wins = here().filter(|cell| {
                cell.choice("exact")
                    .is_some_and(|choice| choice.cut == "picture")
            });
            let wins: Vec<String> = wins.map(|cell| format!("1:{}", cell.ratio)).collect();
            table.add_row([
                network.name.clone(),
                uplink(at),
                range(&|cell| gain(cell, "device only")),
                range(&|cell| gain(cell, "server only")),
                range(&|cell| gain(cell, "server, tensor")),
                range(&either),
                if wins.is_empty() {
                    "—".into()
                } else {
                    wins.join(" ")
                },
            ]);
        }
    }
    table
}

fn switches(ratio: f64, networks: &[Network]) -> Table {
    let mut table = output::table(["network", "above", "Mbit/s", "below"]);
    for network in networks {
        let of = network
            .switches
            .iter()
            .filter(|(own, _)| (own - ratio).abs() < 1e-9);
        for change in of.flat_map(|(_, changes)| changes) {
            table.add_row([
                network.name.clone(),
                change.above.clone(),
                uplink(change.uplink),
                change.below.clone(),
            ]);
        }
    }
    table
}

fn exits(ratio: f64, networks: &[Network]) -> Table {
    let mut table = output::table([
        "network",
        "deadline",
        "from Mbit/s",
        "exit",
        "cut",
        "predicted",
        "",
    ]);
    for network in networks {
        let maps = network
            .exits
            .iter()
            .filter(|map| (map.ratio - ratio).abs() < 1e-9);
        for map in maps {
            for (from, exit, cut, seconds, holds) in &map.entries {
                table.add_row([
                    network.name.clone(),
                    output::micros(map.deadline * 1e6),
                    uplink(*from),
                    exit.clone(),
                    cut.clone(),
                    output::micros(seconds * 1e6),
                    if *holds { "" } else { "too late" }.to_owned(),
                ]);
            }
        }
    }
    table
}

fn errors(networks: &[Network]) -> Table {
    let mut table = output::table([
        "network",
        "layers",
        "down-sets",
        "whole, server",
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
        table.add_row([
            network.name.clone(),
            network.layers.to_string(),
            network.down_sets.to_string(),
            output::micros(network.whole * 1e6),
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

/// The best cut against the uplink, and times against the uplink.
pub(super) fn plots(ratio: f64, network: &Network) -> Vec<(&'static str, String)> {
    let mut ratios: Vec<f64> = network.cells.iter().map(|cell| cell.ratio).collect();
    ratios.dedup();
    let cut = ratios.iter().map(|&ratio| Series {
        name: format!("1:{ratio}"),
        points: cells(network, ratio)
            .filter_map(|cell| {
                let best = cell.choice("exact")?;
                // Hollow: the picture's file is sent.
                Some((cell.uplink, best.share * 100.0, best.cut != "picture"))
            })
            .collect(),
    });
    let cut = Plot {
        title: format!("{}: work left on the device by the best cut", network.name),
        x: "uplink, Mbit/s",
        y: "% of multiply-accumulates",
        log: false,
        line: None,
        series: cut.collect(),
    };
    let methods = [
        "device only",
        "server only",
        "server, tensor",
        "Neurosurgeon",
        "exact",
    ];
    let times = methods.iter().map(|&method| Series {
        name: method.to_owned(),
        points: cells(network, ratio)
            .filter_map(|cell| Some((cell.uplink, cell.choice(method)?.measured * 1e3, true)))
            .collect(),
    });
    let times = Plot {
        title: format!(
            "{}: one picture, device {ratio} times slower, measured",
            network.name
        ),
        x: "uplink, Mbit/s",
        y: "ms",
        log: true,
        line: None,
        series: times.collect(),
    };
    vec![("cut", cut.draw_log_x()), ("time", times.draw_log_x())]
}
