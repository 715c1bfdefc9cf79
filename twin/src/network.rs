//! A network of queues: chains of steps over shared stations and wires, without a brain.
//!
//! What learned surrogates and formulas are compared with, and what runs when nobody decides anything:
//! every job takes its chain's way, and is lost where there is no room or the station is down.

mod run;
mod tally;

use std::time::Duration;

use splitplace_fleet::{Link, Timestamp};

pub use run::{Observer, run};
pub use tally::{ChainTally, Tally};

use crate::{Law, arrivals::Process};

/// Who is served next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discipline {
    /// First come, first served.
    InOrder,
    /// Earliest deadline first, over what waits.
    EarliestDeadline,
    /// Everybody at once, at a share of the speed.
    Sharing,
}

/// A station.
#[derive(Clone, Debug)]
pub struct StationSpec {
    /// Who is next.
    pub discipline: Discipline,
    /// Jobs served at the same time at full speed.
    pub servers: u32,
    /// Jobs waiting and in service; one more is lost.
    pub capacity: usize,
    /// When it is down, from and until. A failure takes every job inside with it.
    pub outages: Vec<(Timestamp, Timestamp)>,
    /// Random failures: seconds of working and seconds of being down.
    pub failures: Option<(Law, Law)>,
}

impl StationSpec {
    /// One server, first come first served, that never fails.
    #[must_use]
    pub const fn in_order(capacity: usize) -> Self {
        Self {
            discipline: Discipline::InOrder,
            servers: 1,
            capacity,
            outages: Vec::new(),
            failures: None,
        }
    }
}

/// A wire and what is known of its failures.
#[derive(Clone, Debug)]
pub struct WireSpec {
    /// Rate, delay, jitter.
    pub link: Link,
    /// When it is cut: what would begin to leave then is lost.
    pub outages: Vec<(Timestamp, Timestamp)>,
}

/// A step of a chain: over a wire, then a service.
#[derive(Clone, Debug)]
pub struct Step {
    /// The wire to it, and the bytes; none is no time.
    pub over: Option<(usize, u64)>,
    /// Where.
    pub station: usize,
    /// Seconds of service.
    pub service: Law,
}

/// A way that jobs of one kind take.
#[derive(Clone, Debug)]
pub struct Chain {
    /// When they come.
    pub arrivals: Process,
    /// Where they go; at least one step.
    pub steps: Vec<Step>,
    /// The wire back, and the bytes.
    pub back: Option<(usize, u64)>,
    /// From arrival to the deadline that [`Discipline::EarliestDeadline`] goes by.
    pub promise: Duration,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Shared by the chains.
    pub stations: Vec<StationSpec>,
    /// Shared by the chains: a wire that several name is a shared uplink.
    pub wires: Vec<WireSpec>,
    /// What comes.
    pub chains: Vec<Chain>,
}

impl Network {
    /// What is wrong with it; nothing when it can be run. O(size).
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (number, chain) in self.chains.iter().enumerate() {
            if chain.steps.is_empty() {
                wrong.push(format!("chain {number} has no step"));
            }
            wrong.extend(
                chain
                    .arrivals
                    .check()
                    .map(|why| format!("chain {number}: {why}")),
            );
            for step in &chain.steps {
                if self.stations.len() <= step.station {
                    wrong.push(format!("chain {number} names station {}", step.station));
                }
            }
            let over = chain.steps.iter().filter_map(|step| step.over);
            for (wire, _) in over.chain(chain.back) {
                if self.wires.len() <= wire {
                    wrong.push(format!("chain {number} names wire {wire}"));
                }
            }
        }
        wrong
    }
}

/// Why a job was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// No room at a station.
    Full,
    /// A station was down, or went down with it.
    Down,
    /// A wire was cut.
    Cut,
}

/// How long to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until {
    /// No arrivals from then on.
    pub time: Timestamp,
    /// Nor after this many.
    pub arrivals: u64,
}

#[cfg(test)]
mod tests;
