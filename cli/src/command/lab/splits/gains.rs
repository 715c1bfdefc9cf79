//! What the best cut gains over running everything at one end, and what others have published.

use super::grid::{Cell, Network};

/// Least, mean and most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    pub(super) least: f64,
    pub(super) mean: f64,
    pub(super) most: f64,
}

impl Range {
    fn of(gains: impl Iterator<Item = f64>) -> Option<Self> {
        let (mut range, mut count) = (
            Self {
                least: f64::INFINITY,
                mean: 0.0,
                most: 0.0,
            },
            0.0,
        );
        for gain in gains {
            range.least = range.least.min(gain);
            range.most = range.most.max(gain);
            range.mean += gain;
            count += 1.0;
        }
        range.mean /= count;
        (count > 0.0).then_some(range)
    }
}

/// The measured times of what the exact method's choice is compared with, over its own.
#[derive(Clone, Debug)]
pub(super) struct Gain {
    pub(super) network: String,
    /// Mbit/s; `None` for all of them together.
    pub(super) uplink: Option<f64>,
    pub(super) device: Option<Range>,
    /// The server alone, sent what it is best sent: the picture's file where there is one.
    pub(super) server: Option<Range>,
    /// The server alone, sent the input's tensor.
    pub(super) tensor: Option<Range>,
    /// The better of device alone and server alone.
    pub(super) either: Option<Range>,
    /// Ratios at which the compressed picture to the server is the choice.
    pub(super) picture: Vec<f64>,
}

/// By network, for each uplink and for all, over all ratios.
pub(super) fn all(networks: &[Network]) -> Vec<Gain> {
    let mut all = Vec::new();
    for network in networks {
        let mut uplinks: Vec<f64> = network.cells.iter().map(|cell| cell.uplink).collect();
        uplinks.sort_by(f64::total_cmp);
        uplinks.dedup();
        let rows = uplinks.into_iter().map(Some).chain([None]);
        all.extend(rows.map(|uplink| gain(network, uplink)));
    }
    all
}

fn gain(network: &Network, uplink: Option<f64>) -> Gain {
    let here = || {
        let cells = network.cells.iter();
        cells.filter(move |cell| uplink.is_none_or(|at| (cell.uplink - at).abs() < 1e-12))
    };
    let over = |other: &'static str| Range::of(here().filter_map(move |cell| times(cell, other)));
    let either = |cell: &Cell| Some(times(cell, "device only")?.min(times(cell, "server only")?));
    let is_picture = |cell: &&Cell| cell.wins.0 == super::ready::Kind::Picture;
    let tensor = match network.picture {
        Some(_) => "server, tensor",
        None => "server only",
    };
    let mut picture: Vec<f64> = here().filter(is_picture).map(|cell| cell.ratio).collect();
    picture.sort_by(f64::total_cmp);
    picture.dedup();
    Gain {
        network: network.name.clone(),
        uplink,
        device: over("device only"),
        server: over("server only"),
        tensor: over(tensor),
        either: Range::of(here().filter_map(either)),
        picture,
    }
}

/// How many times as long another choice takes as the exact method's, measured.
pub(super) fn times(cell: &Cell, other: &str) -> Option<f64> {
    Some(cell.choice(other)?.measured / cell.choice("exact")?.measured)
}

/// A speed-up that others have published.
pub(super) struct Published {
    pub(super) who: &'static str,
    pub(super) device: &'static str,
    pub(super) server: &'static str,
    pub(super) conditions: &'static str,
}

/// Both are told of a server that is sent tensors or raw frames, never a compressed picture: they belong beside the
/// column of the server that is sent the tensor.
pub(super) const PUBLISHED: [Published; 2] = [
    Published {
        who: "Neurosurgeon",
        device: "—",
        server: "3.1 mean",
        conditions: "eight networks over Wi-Fi, LTE and 3G, Jetson TK1 and a server with a Tesla K40 (ASPLOS 2017)",
    },
    Published {
        who: "DADS",
        device: "6.45 at most",
        server: "8.08 at most",
        conditions: "Raspberry Pi 3B and a server of eight cores, video, 3G to Wi-Fi (INFOCOM 2019)",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_of_all_and_of_nothing_there_is_none() {
        let range = Range::of([2.0, 1.0, 6.0].into_iter()).unwrap();
        assert_eq!((range.least, range.mean, range.most), (1.0, 3.0, 6.0));
        assert_eq!(Range::of(std::iter::empty()), None);
    }
}
