//! A simulated worker: what is loaded, what waits, what runs, what it costs.

use std::collections::{BTreeMap, BTreeSet};

use splitplace_fleet::Timestamp;
use splitplace_plan::FragmentId;

use super::Worker;
use crate::{
    network::Discipline,
    station::{Desk, Share},
};

/// One step of one attempt of one request on one branch, as it travels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) request: u64,
    pub(super) deadline: Timestamp,
    pub(super) expiry: Timestamp,
    pub(super) attempt: u32,
    pub(super) samples: u32,
    /// Index of the plan's table.
    pub(super) table: u32,
    /// Index of the route in it.
    pub(super) route: u32,
    pub(super) branch: u16,
    /// The hop that shall run next; the number of hops for a result.
    pub(super) hop: u16,
    /// What its exits intend on this node, and how many were present when it was turned to.
    pub(super) intent: u16,
    pub(super) present: u8,
    /// Whether it goes to the network's end whatever exits say.
    pub(super) is_audited: bool,
}

impl Frame {
    /// What makes its random draws its own.
    pub(super) const fn entity(&self) -> u64 {
        self.request << 24
            | ((self.attempt & 0xff) as u64) << 16
            | ((self.branch & 0xff) as u64) << 8
            | (self.hop & 0xff) as u64
    }
}

#[derive(Clone, Debug)]
pub(super) enum Place {
    Desk(Desk<Frame>),
    Share(Share<Frame>),
}

/// A fragment that is, or was, on a node.
#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: u64,
    /// Frames that may wait for it.
    limit: u32,
    is_loaded: bool,
    waiting: u32,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) place: Place,
    pub(super) discipline: Discipline,
    pub(super) is_up: bool,
    /// Counts the lives of the worker: what a former one promised does not happen.
    pub(super) epoch: u32,
    /// How many times slower than planned it computes.
    pub(super) slow: f64,
    /// Tables that it holds.
    pub(super) tables: BTreeSet<u32>,
    slots: BTreeMap<FragmentId, u32>,
    held: Vec<Held>,
    queue_limit: u32,
    cores: u32,
    /// By how much of its time alone a frame takes longer for each other core that is busy.
    each: f64,
    watts: std::sync::Arc<[f64]>,
    since: Timestamp,
    pub(super) busy_core_seconds: f64,
    pub(super) joules: f64,
    pub(super) computed: u64,
    pub(super) expired: u64,
    pub(super) refused: u64,
}

impl Site {
    pub(super) fn new(worker: &Worker) -> Self {
        let cores = worker.node.cores.max(1);
        Self {
            place: match worker.discipline {
                Discipline::InOrder | Discipline::EarliestDeadline => Place::Desk(Desk::new(cores)),
                Discipline::Sharing => Place::Share(Share::new(cores)),
            },
            discipline: worker.discipline,
            is_up: true,
            epoch: 0,
            slow: 1.0,
            tables: BTreeSet::new(),
            slots: BTreeMap::new(),
            held: Vec::new(),
            queue_limit: worker.queue_limit.max(1),
            cores,
            each: (worker.crowding.max(1.0) - 1.0) / f64::from(cores.saturating_sub(1).max(1)),
            watts: std::sync::Arc::clone(&worker.watts),
            since: Timestamp::ZERO,
            busy_core_seconds: 0.0,
            joules: 0.0,
            computed: 0,
            expired: 0,
            refused: 0,
        }
    }

    /// The number that a fragment has on this node.
    pub(super) fn slot(&mut self, fragment: FragmentId, bytes: u64) -> u32 {
        if let Some(slot) = self.slots.get(&fragment) {
            return *slot;
        }
        let slot = self.held.len() as u32;
        self.slots.insert(fragment, slot);
        self.held.push(Held {
            bytes,
            limit: self.queue_limit,
            is_loaded: false,
            waiting: 0,
        });
        slot
    }

    /// Lets no more than so many frames wait for a fragment.
    pub(super) fn bound(&mut self, slot: u32, waiting: u32) {
        let served = match &self.place {
            Place::Desk(_) => 0,
            // Who shares a processor is served and waits.
            Place::Share(_) => self.cores,
        };
        let held = &mut self.held[slot as usize];
        held.limit = self.queue_limit.min(waiting.saturating_add(served));
    }

    /// Bytes of these that are not loaded, with their number.
    pub(super) fn missing(&self, slots: &BTreeSet<u32>) -> (u64, u32) {
        let missing = slots
            .iter()
            .filter_map(|&slot| self.held.get(slot as usize));
        missing
            .filter(|held| !held.is_loaded)
            .fold((0, 0), |(bytes, count), held| {
                (bytes + held.bytes, count + 1)
            })
    }

    /// Bytes of what is loaded and of these together.
    pub(super) fn bytes_with(&self, slots: &BTreeSet<u32>) -> u64 {
        let all = (0u32..).zip(&self.held);
        all.filter(|(slot, held)| held.is_loaded || slots.contains(slot))
            .map(|(_, held)| held.bytes)
            .sum()
    }

    /// From now on the node holds a table and these fragments.
    pub(super) fn accept(&mut self, table: u32, slots: &BTreeSet<u32>) {
        self.tables.insert(table);
        for &slot in slots {
            self.held[slot as usize].is_loaded = true;
        }
    }

    /// Forgets tables before `first`, and every fragment but these.
    pub(super) fn retire(&mut self, first: u32, slots: &BTreeSet<u32>) {
        self.tables = self.tables.split_off(&first);
        for (slot, held) in (0u32..).zip(&mut self.held) {
            held.is_loaded &= slots.contains(&slot);
        }
    }

    /// Takes a frame that waits for a fragment, unless as many wait as may.
    pub(super) fn wait(&mut self, slot: u32) -> bool {
        let held = &mut self.held[slot as usize];
        if held.limit <= held.waiting {
            self.refused += 1;
            return false;
        }
        held.waiting += 1;
        true
    }

    /// A frame that is here already is with the next fragment.
    pub(super) fn stay(&mut self, slot: u32) {
        self.held[slot as usize].waiting += 1;
    }

    /// How many times as long as alone one takes that begins now.
    pub(super) fn crowding(&self) -> f64 {
        match &self.place {
            Place::Desk(desk) => 1.0 + self.each * desk.running() as f64,
            Place::Share(_) => 1.0,
        }
    }

    /// A frame waits no more.
    pub(super) fn begin(&mut self, slot: u32) {
        let waiting = &mut self.held[slot as usize].waiting;
        *waiting = waiting.saturating_sub(1);
    }

    /// Whether nothing waits and nothing runs.
    pub(super) fn is_idle(&self) -> bool {
        match &self.place {
            Place::Desk(desk) => desk.waiting() == 0 && desk.running() == 0,
            Place::Share(share) => share.is_empty(),
        }
    }

    /// Everything on it is gone.
    pub(super) fn crash(&mut self, now: Timestamp) {
        self.account(now);
        self.is_up = false;
        self.epoch = self.epoch.wrapping_add(1);
        self.tables.clear();
        match &mut self.place {
            Place::Desk(desk) => drop(desk.clear()),
            Place::Share(share) => drop(share.clear()),
        }
        for held in &mut self.held {
            (held.is_loaded, held.waiting) = (false, 0);
        }
    }

    /// It is there again, empty.
    pub(super) fn rejoin(&mut self, now: Timestamp) {
        if self.is_up {
            self.crash(now);
        }
        self.account(now);
        self.is_up = true;
    }

    /// Adds up work and energy since the last time; to be called before the number of busy cores
    /// changes.
    pub(super) fn account(&mut self, now: Timestamp) {
        let seconds = now.since(self.since).as_secs_f64();
        self.since = now;
        if !self.is_up || seconds == 0.0 {
            return;
        }
        let running = match &self.place {
            Place::Desk(desk) => desk.running(),
            Place::Share(share) => share.len(),
        };
        let busy = running.min(self.cores as usize) as f64;
        self.busy_core_seconds += busy * seconds;
        self.joules += seconds * power(&self.watts, busy / f64::from(self.cores));
    }
}

/// Watts at a share of busy cores, between evenly spaced points.
fn power(watts: &[f64], share: f64) -> f64 {
    let Some(last) = watts.len().checked_sub(1) else {
        return 0.0;
    };
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = place as usize;
    let above = watts[(below + 1).min(last)];
    watts[below] + (place - below as f64) * (above - watts[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_read_between_the_points() {
        assert_eq!(power(&[], 0.5), 0.0);
        assert_eq!(power(&[3.0], 0.5), 3.0);
        let table = [
            75.2, 78.2, 84.1, 89.6, 94.9, 100.0, 105.0, 109.0, 112.0, 115.0, 117.0,
        ];
        assert!((power(&table, 0.25) - 86.85).abs() < 1e-9);
        assert_eq!(power(&table, 1.0), 117.0);
        assert_eq!(power(&table, 7.0), 117.0);
    }
}
