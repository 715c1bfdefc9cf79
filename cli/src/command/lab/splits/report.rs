//! What the comparison says, for programs.

use serde_json::{Value, json};

use super::{
    choosing,
    gains::{self, Gain, PUBLISHED, Range},
    grid::{Cell, Chosen, Grid, Network},
    sharing::{Shared, Together},
    switches::{Line, Switches},
};

/// How measured times come about.
pub(super) const MEASURED: &str = "segments run on this machine as fragments of their own (one core, processor time, \
medians) times how much slower their node is; coding as run here; links and delays computed, not emulated";

/// What a server's cores are taken to do.
pub(super) const CORES: &str = "the engine runs a sample on one thread, so a server's cores answer pictures side by side: \
with n cores a picture takes the server's time over what n threads did here at once over one; beyond the cores of this \
machine by the contention that was seen";

/// Everything.
pub(super) fn json(grid: &Grid, speed: f64, networks: &[Network], all: &[Together]) -> Value {
    json!({
        "macs_per_second": speed,
        "measured": MEASURED,
        "cores": CORES,
        "delay_seconds": grid.delay,
        "load": grid.load,
        "loss": grid.loss,
        "places": grid.places,
        "watts": { "compute": grid.watts.0, "radio": grid.watts.1 },
        "sharing": { "devices": grid.devices, "cores": grid.cores },
        "edge": { "uplink_mbit": grid.near.0, "delay_seconds": grid.near.1 },
        "networks": networks.iter().map(network).collect::<Vec<_>>(),
        "together": all.iter().map(|one| json!({
            "uplink_mbit": one.uplink,
            "ratio": one.ratio,
            "sharing": one.shared.iter().map(shared).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "speed_ups": gains::all(networks).iter().map(gain).collect::<Vec<_>>(),
        "published": PUBLISHED.iter().map(|one| json!({
            "who": one.who,
            "over_device": one.device,
            "over_server": one.server,
            "conditions": one.conditions,
        })).collect::<Vec<_>>(),
        "choosing": choosing::all(networks).iter().map(|one| json!({
            "network": one.network,
            "method": one.method,
            "complexity": one.complexity,
            "median_seconds": one.median,
            "largest_seconds": one.largest,
            "bar_seconds": grid.bar,
            "holds": one.largest < grid.bar,
        })).collect::<Vec<_>>(),
    })
}

fn network(network: &Network) -> Value {
    json!({
        "network": network.name,
        "layers": network.layers,
        "down_sets": network.down_sets,
        "whole_seconds": network.whole,
        "picture_bytes": network.picture,
        "speed_up": network.speed_up.0,
        "speed_up_measured": network.speed_up.1,
        "segments_run": network.segments,
        "cells": network.cells.iter().map(cell).collect::<Vec<_>>(),
        "switches": network.switches.iter().map(switches).collect::<Vec<_>>(),
        "crossing": network.lines.iter().map(|(ratio, lines)| json!({
            "ratio": ratio,
            "lines": lines.iter().map(line).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn cell(cell: &Cell) -> Value {
    json!({
        "uplink_mbit": cell.uplink,
        "ratio": cell.ratio,
        "arrivals_per_second": cell.arrivals,
        "deadline_seconds": cell.deadline,
        "regret": cell.regret,
        "wins": cell.wins.0.name(),
        "wins_measured": cell.wins.1.name(),
        "choices": cell.choices.iter().map(chosen).collect::<Vec<_>>(),
        "sharing": cell.shared.iter().map(shared).collect::<Vec<_>>(),
    })
}

fn chosen(one: &Chosen) -> Value {
    json!({
        "method": one.method,
        "cut": one.cut,
        "kind": one.kind.name(),
        "exit": one.exit,
        "holds": one.holds,
        "share_on_device": one.share,
        "bytes": one.bytes,
        "predicted_seconds": one.predicted,
        "measured_seconds": one.measured,
        "busiest_stage_seconds": one.stage,
        "loss_under_load": one.loss,
        "device_joules": one.joules,
        "choosing_seconds": one.choosing,
    })
}

fn shared(one: &Shared) -> Value {
    let users = one.users.iter().map(|one| {
        json!({
            "network": one.network,
            "uplink_mbit": one.uplink,
            "cores": one.cores,
            "cut": one.cut,
        })
    });
    json!({
        "method": one.method,
        "users": users.collect::<Vec<_>>(),
        "slowest_predicted_seconds": one.predicted,
        "slowest_measured_seconds": one.measured,
        "choosing_seconds": one.choosing,
    })
}

fn switches(one: &Switches) -> Value {
    let changes = one.changes.iter();
    let changes =
        changes.map(|change| json!({ "uplink_mbit": change.uplink, "below": change.below }));
    json!({
        "wanted": one.wanted,
        "ratio": one.ratio,
        "server_load": one.load,
        "fastest": one.fastest,
        "changes": changes.collect::<Vec<_>>(),
    })
}

fn line(one: &Line) -> Value {
    json!({
        "cut": one.cut,
        "fixed_seconds": one.plane.fixed,
        "server_seconds": one.plane.work,
        "bytes": one.plane.bytes,
        "crossings_mbit": one.crossings,
    })
}

fn gain(gain: &Gain) -> Value {
    let range = |range: Option<Range>| {
        range.map(|one| json!({ "least": one.least, "mean": one.mean, "most": one.most }))
    };
    json!({
        "network": gain.network,
        "uplink_mbit": gain.uplink,
        "over_device": range(gain.device),
        "over_server": range(gain.server),
        "over_server_with_tensor": range(gain.tensor),
        "over_the_better_end": range(gain.either),
        "picture_wins_at_ratios": gain.picture,
    })
}
