//! Who says what becomes of a system's jobs: simulation, formulas, graph networks, behind one trait.

use super::{ChainNet, Published, Ratios, System, Thinned};
use crate::Seed;

/// Judges systems.
pub trait Judge {
    /// What becomes of the jobs of each chain. The same arguments give the same answer; only who draws random numbers
    /// looks at the seed.
    fn ratios(&self, system: &System, seed: Seed) -> Vec<Ratios>;
}

/// By event simulation; see [`System::simulate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simulation {
    /// Jobs that come to a system.
    pub arrivals: u64,
}

/// By formulas; see [`Thinned`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formulas;

impl Judge for Simulation {
    fn ratios(&self, system: &System, seed: Seed) -> Vec<Ratios> {
        system.simulate(self.arrivals, seed)
    }
}

impl Judge for Formulas {
    fn ratios(&self, system: &System, _: Seed) -> Vec<Ratios> {
        Thinned::of(system).ratios(system)
    }
}

impl Judge for ChainNet {
    fn ratios(&self, system: &System, _: Seed) -> Vec<Ratios> {
        self.predict(&[system]).pop().unwrap_or_default()
    }
}

impl Judge for Published {
    fn ratios(&self, system: &System, _: Seed) -> Vec<Ratios> {
        self.predict(&[system]).pop().unwrap_or_default()
    }
}
