//! What the comparison looks like.

use super::grid::{Cell, Network};
use crate::svg::{Plot, Series};

fn cells(network: &Network, ratio: f64) -> impl Iterator<Item = &Cell> {
    let is_it = move |cell: &&Cell| (cell.ratio - ratio).abs() < 1e-9;
    network.cells.iter().filter(is_it)
}

/// The best cut against the uplink, times against the uplink, and where the candidates cross.
pub(super) fn all(ratio: f64, network: &Network) -> Vec<(&'static str, String)> {
    vec![
        ("cut", cut(network).draw_log_x()),
        ("time", time(ratio, network).draw_log_x()),
        ("crossing", crossing(ratio, network).draw_log_x()),
    ]
}

fn cut(network: &Network) -> Plot {
    let mut ratios: Vec<f64> = network.cells.iter().map(|cell| cell.ratio).collect();
    ratios.dedup();
    let series = ratios.iter().map(|&ratio| Series {
        name: format!("1:{ratio}"),
        points: cells(network, ratio)
            .filter_map(|cell| {
                let best = cell.choice("exact")?;
                // Hollow: the picture's file is sent.
                Some((cell.uplink, best.share * 100.0, best.cut != "picture"))
            })
            .collect(),
    });
    Plot {
        title: format!("{}: work left on the device by the best cut", network.name),
        x: "uplink, Mbit/s",
        y: "% of multiply-accumulates",
        log: false,
        line: None,
        series: series.collect(),
    }
}

fn time(ratio: f64, network: &Network) -> Plot {
    let methods = [
        "device only",
        "server only",
        "server, tensor",
        "Neurosurgeon",
        "exact",
        "Edgent",
        "chain",
    ];
    let series = methods.iter().map(|&method| Series {
        name: method.to_owned(),
        points: cells(network, ratio)
            .filter_map(|cell| Some((cell.uplink, cell.choice(method)?.measured * 1e3, true)))
            .collect(),
    });
    let what = format!("one picture, device {ratio} times slower, measured");
    times(network, &what, series.collect())
}

/// The lines whose lowest is the choice; marks are filled where they cross.
fn crossing(ratio: f64, network: &Network) -> Plot {
    let of = network
        .lines
        .iter()
        .find(|(own, _)| (own - ratio).abs() < 1e-9);
    let lines = of.map_or(&[][..], |(_, lines)| &lines[..]);
    let uplinks: Vec<f64> = cells(network, ratio).map(|cell| cell.uplink).collect();
    let series = lines.iter().map(|line| {
        let ms = |uplink: f64| line.plane.cost(8.0 / (uplink * 1e6), 1.0) * 1e3;
        let grid = uplinks.iter().map(|&uplink| (uplink, ms(uplink), false));
        let crossings = line.crossings.iter();
        let crossings = crossings.map(|&uplink| (uplink, ms(uplink), true));
        let mut points: Vec<(f64, f64, bool)> = grid.chain(crossings).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series {
            name: line.cut.clone(),
            points,
        }
    });
    let what = format!("where the best cut changes, device {ratio} times slower, predicted");
    times(network, &what, series.collect())
}

/// Milliseconds against the uplink.
fn times(network: &Network, what: &str, series: Vec<Series>) -> Plot {
    Plot {
        title: format!("{}: {what}", network.name),
        x: "uplink, Mbit/s",
        y: "ms",
        log: true,
        line: None,
        series,
    }
}
