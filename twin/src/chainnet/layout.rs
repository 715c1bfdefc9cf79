//! Several systems as one graph: who is next to whom, and in which rows everything lies.

use std::sync::Arc;

use ndarray::Array2;

use super::{Ratios, System};
use crate::net::Matrix;

/// Numbers of rows.
pub(super) type Rows = Arc<[usize]>;

/// Several systems as one graph. Chains lie by length, the longest first, and fragments step by step in the order of
/// their chains, so that what goes on from a step are its first rows. Devices lie in the systems' order.
pub(super) struct Layout {
    /// By fragment: its device and its chain.
    pub(super) device: Rows,
    pub(super) chain: Rows,
    /// By step: how many chains get there.
    pub(super) counts: Rows,
    /// By chain: the row of its last fragment.
    pub(super) last: Rows,
    pub(super) devices: usize,
    /// Where the systems' chains lie, in their order.
    pub(super) places: Vec<usize>,
    /// Which of the systems' fragments, chain after chain, lies in a row; and which of their chains.
    fragments: Vec<usize>,
    chains: Vec<usize>,
}

impl Layout {
    /// Of these systems.
    pub(super) fn of(systems: &[&System]) -> Self {
        // (step, chain, device), to be put in order of the steps.
        let mut rows: Vec<(usize, usize, usize)> = Vec::new();
        let mut lengths = Vec::new();
        let mut devices = 0;
        for system in systems {
            for chain in &system.chains {
                let steps = chain.path.iter().enumerate();
                rows.extend(steps.map(|(step, &device)| (step, lengths.len(), devices + device)));
                lengths.push(chain.path.len());
            }
            devices += system.capacities.len();
        }
        let mut chains: Vec<usize> = (0..lengths.len()).collect();
        chains.sort_by_key(|&chain| std::cmp::Reverse(lengths[chain]));
        let mut places = vec![0; lengths.len()];
        for (place, &chain) in chains.iter().enumerate() {
            places[chain] = place;
        }
        let mut fragments: Vec<usize> = (0..rows.len()).collect();
        fragments.sort_by_key(|&row| (rows[row].0, places[rows[row].1]));
        let device = fragments.iter().map(|&row| rows[row].2);
        let chain: Rows = fragments.iter().map(|&row| places[rows[row].1]).collect();
        let mut last = vec![0; lengths.len()];
        (0..)
            .zip(&*chain)
            .for_each(|(row, &chain)| last[chain] = row);
        let steps = lengths.iter().max().copied().unwrap_or(0);
        let get_to = |step: usize| lengths.iter().filter(|length| step < **length).count();
        Self {
            device: device.collect(),
            chain,
            counts: (0..steps).map(get_to).collect(),
            last: last.into(),
            devices,
            places,
            fragments,
            chains,
        }
    }

    /// What belongs to the systems' fragments, as their rows lie.
    pub(super) fn fragments_as_they_lie<T: Copy>(&self, all: &[T]) -> impl Iterator<Item = T> {
        self.fragments.iter().map(|&row| all[row])
    }

    /// What belongs to the systems' chains, as their rows lie.
    pub(super) fn chains_as_they_lie<T: Copy>(&self, all: &[T]) -> impl Iterator<Item = T> {
        self.chains.iter().map(|&chain| all[chain])
    }

    /// What was found of the chains as they lie, by system.
    pub(super) fn by_system(&self, systems: &[&System], found: &[Ratios]) -> Vec<Vec<Ratios>> {
        let mut places = self.places.iter();
        let of = |system: &&System| {
            let own = places.by_ref().take(system.chains.len());
            own.map(|&place| found[place]).collect()
        };
        systems.iter().map(of).collect()
    }
}

/// Rows of features.
pub(super) fn matrix<const N: usize>(rows: impl Iterator<Item = [f32; N]>) -> Matrix {
    let rows: Vec<[f32; N]> = rows.collect();
    Array2::from(rows)
}
