//! Counts and times by chain, after the warm-up.

use std::time::Duration;

use splitplace_fleet::Timestamp;

use super::{Loss, Observer};
use crate::stats::Summary;

/// What became of the jobs of one chain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChainTally {
    /// Seconds from arrival to end of those delivered.
    pub response: Summary,
    /// Lost for want of room.
    pub full: u64,
    /// Lost with a station.
    pub down: u64,
    /// Lost with a wire.
    pub cut: u64,
}

impl ChainTally {
    /// Jobs that came, after the warm-up.
    #[must_use]
    pub const fn arrived(&self) -> u64 {
        self.response.count() + self.lost()
    }

    /// Jobs that were lost.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.full + self.down + self.cut
    }

    /// Share of the jobs that were delivered; 1 when none came.
    #[must_use]
    pub fn delivered_share(&self) -> f64 {
        if self.arrived() == 0 {
            return 1.0;
        }
        self.response.count() as f64 / self.arrived() as f64
    }
}

/// One [`ChainTally`] for each chain; jobs born within the warm-up do not count.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    warm: Timestamp,
    /// By number of the chain.
    pub chains: Vec<ChainTally>,
}

impl Tally {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(chains: usize, warm_up: Duration) -> Self {
        Self {
            warm: Timestamp::ZERO + warm_up,
            chains: vec![ChainTally::default(); chains],
        }
    }

    /// Share of all jobs that were lost.
    #[must_use]
    pub fn loss(&self) -> f64 {
        let arrived: u64 = self.chains.iter().map(ChainTally::arrived).sum();
        let lost: u64 = self.chains.iter().map(ChainTally::lost).sum();
        lost as f64 / arrived.max(1) as f64
    }
}

impl Observer for Tally {
    fn delivered(&mut self, chain: usize, born: Timestamp, now: Timestamp) {
        if self.warm <= born {
            let nanos = now.as_nanos() - born.as_nanos();
            self.chains[chain].response.add(nanos as f64 / 1e9);
        }
    }

    fn lost(&mut self, chain: usize, _: usize, born: Timestamp, why: Loss) {
        if self.warm <= born {
            let tally = &mut self.chains[chain];
            match why {
                Loss::Full => tally.full += 1,
                Loss::Down => tally.down += 1,
                Loss::Cut => tally.cut += 1,
            }
        }
    }
}
