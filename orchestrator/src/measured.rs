//! What fragments really took, where, and what that says about fragments that have not run yet.
//!
//! One table: (fragment, node) to the mean and variance of the service time of one sample and the
//! memory taken. Runs are forgotten exponentially, so that a node that has slowed down is believed
//! after a few hundred runs. Runs for requests and runs for measurement are told apart: one after
//! another in a warm cache a fragment is faster than when something else ran in between. What requests
//! take on a node over what was measured there is the node's pace, and whatever was only measured is
//! expected to be that much slower; fragments of less than a millisecond hardly say anything of it. From it come estimates, the best that is known first:
//!
//! 1. [`Source::Observed`]: the very fragment ran on the very node.
//! 2. [`Source::Scaled`]: it ran on another node; time scales with the ratio of the stated speeds, and with what the two
//!    nodes take over theirs ([`Measured::learn`]).
//! 3. [`Source::Profiled`]: its segments were measured one by one. Their sum counts the cost of calling
//!    the engine once for each and misses what the engine gains from seeing them together, and it knows
//!    nothing of what else the node is doing. So the sum is corrected by what fragments of several
//!    segments take on this node against theirs, else by what the whole part took anywhere.
//! 4. [`Source::Computed`]: predicted from what its layers do, by coefficients that are shipped and moved by what the
//!    fleet has measured, at the speed that the node has shown. Good enough to choose where to measure first, and said so.
//!
//! Values in, values out: no clock, and the same observations in the same order give the same table.

mod codings;
mod estimate;
mod learned;
mod profiles;
mod roads;
mod transfers;

use std::collections::{BTreeMap, BTreeSet};

use splitplace_fleet::{Node, NodeId};
use splitplace_onnx::Costs;
use splitplace_plan::FragmentId;
use splitplace_proto::control;

use self::learned::Learned;
pub use self::{
    codings::Codings,
    estimate::{Atom, Estimate, OnNode, PartFacts, Source},
    profiles::{Profile, Profiles},
    roads::{Moved, Probe, ProbeSettings, Roads, told},
    transfers::Transfers,
};
use crate::store::MeasurementRecord;

/// What may be chosen about measurements and estimates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasuredSettings {
    /// After this many further runs, a run counts half.
    pub half_life_runs: f64,
    /// Records kept; the one untouched for longest makes room.
    pub records: usize,
    /// Bytes that stay in memory for each byte of weights, before it was measured. The engine packs
    /// weights into its own layout and lets go of the file; padding makes it a little more.
    pub weights_factor: f64,
    /// Bytes in memory for each byte of the largest live activations, before it was measured.
    pub activations_factor: f64,
    /// Bytes that any fragment takes, before it was measured.
    pub base_bytes: u64,
    /// Factor on memory that was not measured for the very fragment: a plan that a node refuses costs
    /// more than some bytes that stay free.
    pub memory_margin: f64,
    /// Runs for requests after which they say as much as what was expected before them.
    pub settled_runs: f64,
    /// Relative deviation of what is said of a fragment that has run only as often as when it was loaded, or not at all;
    /// it shrinks with the root of the runs ([`Measured::hopeful`]).
    pub doubt: f64,
}

impl Default for MeasuredSettings {
    fn default() -> Self {
        Self {
            half_life_runs: 200.0,
            records: 100_000,
            weights_factor: 1.25,
            activations_factor: 2.0,
            base_bytes: 128 << 10,
            memory_margin: 1.1,
            settled_runs: 5.0,
            doubt: 0.5,
        }
    }
}

/// Service times of several runs, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceTime {
    count: u64,
    mean: f64,
    variance: f64,
}

impl ServiceTime {
    /// Longest mean that is believed, in seconds.
    const LONGEST: f64 = 86_400.0;

    /// `count` runs with this mean (seconds) and variance (seconds squared); `None` when there were no
    /// runs or the numbers cannot be times.
    #[must_use]
    pub fn new(count: u64, mean_seconds: f64, variance_seconds2: f64) -> Option<Self> {
        let is_time = (0.0..=Self::LONGEST).contains(&mean_seconds)
            && (0.0..=Self::LONGEST * Self::LONGEST).contains(&variance_seconds2);
        (count > 0 && is_time).then_some(Self {
            count,
            mean: mean_seconds,
            variance: variance_seconds2,
        })
    }

    /// What a worker told; `None` as for [`ServiceTime::new`].
    #[must_use]
    pub fn told(told: &control::ServiceTime) -> Option<Self> {
        Self::new(told.count, told.mean_seconds, told.variance_seconds2)
    }
}

/// Why a fragment ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// To be measured: one run after another.
    Alone,
    /// For requests.
    Served,
}

/// Moments of runs that are forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Runs {
    weight: f64,
    mean: f64,
    variance: f64,
}

/// What is kept for one fragment on one node.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    macs_per_second: f64,
    alone: Runs,
    served: Runs,
    memory_bytes: Option<u64>,
    touched: u64,
}

/// Seconds that requests took on a node, those that the same runs would have taken alone, and how many count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Pace {
    took: f64,
    alone: f64,
    weight: f64,
}

/// Runs by which a fragment is measured while it is loaded.
const FIRST_RUNS: f64 = 5.0;
/// Seconds of a run that wake-ups, caches and clocks blur: a fragment of less says little of how a node fares with others.
const BLUR: f64 = 5e-4;
/// Bounds of a pace, so that one odd measurement does not make a node look free or useless.
const PACES: (f64, f64) = (0.25, 4.0);

/// The table.
#[derive(Clone, Debug)]
pub struct Measured {
    settings: MeasuredSettings,
    learned: Learned,
    by_fragment: BTreeMap<FragmentId, BTreeMap<NodeId, Entry>>,
    paces: BTreeMap<NodeId, Pace>,
    /// How many times as long a sample takes while all cores of a node are busy.
    crowding: BTreeMap<NodeId, f64>,
    /// Whether what is hardly known is said to be as good as it may well be.
    is_hopeful: bool,
    count: usize,
    /// Counts observations, for finding the record untouched for longest.
    ticks: u64,
    changed: BTreeSet<(FragmentId, NodeId)>,
}

impl Measured {
    /// An empty table. `costs` is what predictions start from.
    #[must_use]
    pub fn new(settings: MeasuredSettings, costs: Costs) -> Self {
        Self {
            settings,
            learned: Learned::new(costs),
            by_fragment: BTreeMap::new(),
            paces: BTreeMap::new(),
            crowding: BTreeMap::new(),
            is_hopeful: false,
            count: 0,
            ticks: 0,
            changed: BTreeSet::new(),
        }
    }

    /// The table that these records describe; impossible ones are left out.
    #[must_use]
    pub fn restore(
        settings: MeasuredSettings,
        costs: Costs,
        records: &[MeasurementRecord],
    ) -> Self {
        let mut measured = Self::new(settings, costs);
        for record in records {
            let is_runs = |runs: &Runs| {
                runs.weight.is_finite()
                    && runs.weight >= 0.0
                    && ServiceTime::new(1, runs.mean, runs.variance).is_some()
            };
            let served = Runs {
                weight: record.weight,
                mean: record.mean_seconds,
                variance: record.variance_seconds2,
            };
            let alone = Runs {
                weight: record.alone_weight,
                mean: record.alone_seconds,
                variance: 0.0,
            };
            if is_runs(&served) && is_runs(&alone) {
                measured.ticks += 1;
                let entry = Entry {
                    macs_per_second: record.macs_per_second,
                    alone,
                    served,
                    memory_bytes: record.memory_bytes,
                    touched: measured.ticks,
                };
                measured.insert(record.fragment, &record.node, entry);
                if alone.weight > 0.0 && served.weight > 0.0 {
                    let pace = measured.paces.entry(record.node.clone()).or_default();
                    pace.merge((1.0, served.weight), served.mean, alone.mean);
                }
            }
        }
        measured
    }

    /// What was chosen.
    #[must_use]
    pub const fn settings(&self) -> &MeasuredSettings {
        &self.settings
    }

    /// Takes in runs of `fragment` on `node` and the memory it takes there, whichever is told.
    /// O(log records), O(records) when the bound makes another record go.
    pub fn observe(
        &mut self,
        node: &Node,
        fragment: FragmentId,
        ran: Ran,
        service: Option<ServiceTime>,
        memory_bytes: Option<u64>,
    ) {
        if service.is_none() && memory_bytes.is_none() {
            return;
        }
        self.ticks += 1;
        let before = self.entry(fragment, &node.id);
        let mut entry = before.map_or(
            Entry {
                macs_per_second: node.macs_per_second,
                alone: Runs::default(),
                served: Runs::default(),
                memory_bytes: None,
                touched: 0,
            },
            |before| before.at_speed(node.macs_per_second),
        );
        if let Some(service) = service {
            let half_life = self.settings.half_life_runs;
            match ran {
                Ran::Alone => entry.alone.merge(service, half_life),
                Ran::Served => {
                    entry.served.merge(service, half_life);
                    self.keep_pace(node, service, &entry.alone);
                }
            }
        }
        entry.memory_bytes = memory_bytes.or(entry.memory_bytes);
        entry.touched = self.ticks;
        self.insert(fragment, &node.id, entry);
        self.changed.insert((fragment, node.id.clone()));
    }

    /// What a worker remembers of a fragment, of requests from before it or the orchestrator was started: it counts where
    /// nothing else is known of it there. O(log records).
    pub fn recall(&mut self, node: &Node, fragment: FragmentId, kept: ServiceTime) {
        let known = self.entry(fragment, &node.id);
        if known.is_none_or(|known| !known.has_run()) {
            self.observe(node, fragment, Ran::Served, Some(kept), None);
        }
    }

    fn keep_pace(&mut self, node: &Node, batch: ServiceTime, alone: &Runs) {
        let is_known = self.paces.contains_key(&node.id);
        if alone.weight <= 0.0 || (!is_known && self.paces.len() >= self.settings.records.max(1)) {
            return;
        }
        let faded = fade(batch.count, self.settings.half_life_runs);
        let pace = self.paces.entry(node.id.clone()).or_default();
        pace.merge(faded, batch.mean, alone.mean);
    }

    /// What requests take on a node over what was measured there; 1 before there were any.
    #[must_use]
    pub fn pace(&self, node: &NodeId) -> f64 {
        let Some(pace) = self.paces.get(node).filter(|pace| pace.alone > 0.0) else {
            return 1.0;
        };
        let settled = self.settings.settled_runs;
        let blurred = |sum: f64| sum + pace.weight * BLUR;
        let ratio = blurred(pace.took) / blurred(pace.alone);
        let ratio = (pace.weight * ratio + settled) / (pace.weight + settled);
        ratio.clamp(PACES.0, PACES.1)
    }

    /// The same with what profiles say of how much the cores of nodes get in each other's way ([`Profiles::crowding`]).
    #[must_use]
    pub fn crowded(mut self, crowding: BTreeMap<NodeId, f64>) -> Self {
        self.crowding = crowding;
        self
    }

    /// The same, but that of fragments which have hardly run it is hoped that they take less by a deviation than what is
    /// known promises. What a plan made so would change is worth a try; it is not worth adopting before it was tried.
    #[must_use]
    pub fn hopeful(mut self) -> Self {
        self.is_hopeful = true;
        self
    }

    /// By how much less a fragment may well take, as a factor, of which so many runs are known.
    fn hope(&self, runs: f64) -> f64 {
        if self.is_hopeful {
            let doubt = self.settings.doubt * (FIRST_RUNS / runs.max(FIRST_RUNS)).sqrt();
            1.0 / (1.0 + doubt)
        } else {
            1.0
        }
    }

    /// How many times as long a sample takes while all cores of a node are busy as alone; 1 where that was not measured.
    #[must_use]
    pub fn crowding(&self, node: &NodeId) -> f64 {
        self.crowding.get(node).copied().unwrap_or(1.0)
    }

    /// Mean and variance of the service time of `fragment` on `node`, in seconds, when it ran there.
    #[must_use]
    pub fn service(&self, fragment: FragmentId, node: &NodeId) -> Option<(f64, f64)> {
        let entry = self.entry(fragment, node)?;
        let runs = entry.expected(self.pace(node), self.settings.settled_runs)?;
        Some((runs.mean, runs.variance))
    }

    /// Runs of `fragment` on `node` for requests, those long ago counting less.
    #[must_use]
    pub fn served(&self, fragment: FragmentId, node: &NodeId) -> f64 {
        let entry = self.entry(fragment, node);
        entry.map_or(0.0, |entry| entry.served.weight)
    }

    /// Number of records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing was ever measured.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether `fragment` has run anywhere.
    #[must_use]
    pub fn knows(&self, fragment: &FragmentId) -> bool {
        self.by_fragment
            .get(fragment)
            .is_some_and(|nodes| nodes.values().any(Entry::has_run))
    }

    /// Every record, by fragment and node.
    #[must_use]
    pub fn records(&self) -> Vec<MeasurementRecord> {
        self.by_fragment
            .iter()
            .flat_map(|(fragment, nodes)| {
                nodes
                    .iter()
                    .map(|(node, entry)| entry.record(*fragment, node))
            })
            .collect()
    }

    /// The records that changed since this was last called: what the store does not have yet.
    pub fn take_changed(&mut self) -> Vec<MeasurementRecord> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .filter_map(|(fragment, node)| {
                let entry = self.entry(fragment, &node)?;
                Some(entry.record(fragment, &node))
            })
            .collect()
    }

    fn entry(&self, fragment: FragmentId, node: &NodeId) -> Option<Entry> {
        self.by_fragment.get(&fragment)?.get(node).copied()
    }

    fn insert(&mut self, fragment: FragmentId, node: &NodeId, entry: Entry) {
        let nodes = self.by_fragment.entry(fragment).or_default();
        if nodes.insert(node.clone(), entry).is_none() {
            self.count += 1;
        }
        while self.count > self.settings.records.max(1) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .by_fragment
            .iter()
            .flat_map(|(fragment, nodes)| {
                nodes
                    .iter()
                    .map(|(node, entry)| (entry.touched, *fragment, node.clone()))
            })
            .min();
        let Some((_, fragment, node)) = oldest else {
            return;
        };
        if let Some(nodes) = self.by_fragment.get_mut(&fragment) {
            nodes.remove(&node);
            if nodes.is_empty() {
                self.by_fragment.remove(&fragment);
            }
        }
        self.changed.remove(&(fragment, node));
        self.count -= 1;
    }
}

/// By what the weight of earlier runs is lessened by `count` further ones, and the weight that these add: with `f` the
/// factor of one, `f^n` and `1 + f + … + f^(n-1)`.
fn fade(count: u64, half_life_runs: f64) -> (f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "a count of runs")]
    let count = count as f64;
    let fade = (-1.0 / half_life_runs.max(1e-3)).exp2();
    let left = fade.powf(count);
    (left, (1.0 - left) / (1.0 - fade))
}

impl Pace {
    /// Takes in runs that took so long for requests and would have alone; `left` of what was there counts on, the runs
    /// count `new`.
    fn merge(&mut self, (left, new): (f64, f64), took: f64, alone: f64) {
        self.took = self.took * left + new * took;
        self.alone = self.alone * left + new * alone;
        self.weight = self.weight * left + new;
    }
}

impl Runs {
    /// Takes in a batch; means and variances combine as those of two weighted sets.
    fn merge(&mut self, batch: ServiceTime, half_life_runs: f64) {
        let (left, new) = fade(batch.count, half_life_runs);
        let old = self.weight * left;
        let weight = old + new;
        let apart = batch.mean - self.mean;
        self.mean += apart * new / weight;
        self.variance = (old * self.variance + new * batch.variance) / weight
            + apart * apart * old * new / (weight * weight);
        self.weight = weight;
    }

    /// The same runs, all that much longer.
    fn times(self, factor: f64) -> Self {
        Self {
            mean: self.mean * factor,
            variance: self.variance * factor * factor,
            ..self
        }
    }
}

impl Entry {
    /// The same runs as they would have been at another stated speed.
    fn at_speed(self, macs_per_second: f64) -> Self {
        let ratio = speed_ratio(self.macs_per_second, macs_per_second);
        Self {
            macs_per_second,
            alone: self.alone.times(ratio),
            served: self.served.times(ratio),
            ..self
        }
    }

    const fn has_run(&self) -> bool {
        self.weight() > 0.0
    }

    /// Runs that still count.
    const fn weight(&self) -> f64 {
        self.alone.weight + self.served.weight
    }

    /// What a request is expected to take on a node with that pace: what requests took, and as long as they were few
    /// what was measured, at that pace.
    fn expected(&self, pace: f64, settled_runs: f64) -> Option<Runs> {
        if !self.has_run() {
            return None;
        }
        if self.alone.weight <= 0.0 {
            return Some(self.served);
        }
        let before = self.alone.times(pace);
        let share = self.served.weight / (self.served.weight + settled_runs.max(1e-9));
        let mix = |served: f64, before: f64| share * served + (1.0 - share) * before;
        Some(Runs {
            weight: self.weight(),
            mean: mix(self.served.mean, before.mean),
            variance: mix(self.served.variance, before.variance),
        })
    }

    fn record(self, fragment: FragmentId, node: &NodeId) -> MeasurementRecord {
        MeasurementRecord {
            fragment,
            node: node.clone(),
            macs_per_second: self.macs_per_second,
            weight: self.served.weight,
            mean_seconds: self.served.mean,
            variance_seconds2: self.served.variance,
            alone_weight: self.alone.weight,
            alone_seconds: self.alone.mean,
            memory_bytes: self.memory_bytes,
        }
    }
}

/// Factor on time when moving from a node of one stated speed to another; 1 when either is unknown.
fn speed_ratio(from: f64, to: f64) -> f64 {
    let ratio = from / to;
    if from > 0.0 && ratio.is_finite() && ratio > 0.0 {
        ratio
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests;
