//! What workers say of their fragments: by samples in a call and by threads, with the tail and the peak of memory.
//!
//! Workers keep it over restarts and tell all of it when they load a fragment, so it is not kept here. People see all of
//! it; planning takes how much longer a sample takes while a node's other cores work ([`Profiles::crowding`]).

use std::collections::BTreeMap;

use splitplace_fleet::NodeId;
use splitplace_plan::FragmentId;
use splitplace_proto::control::{FragmentReport, FragmentStatus, ProfilePoint};

use super::ServiceTime;

/// Settings of one fragment on one node that are believed; a worker keeps no more.
const SETTINGS: usize = 64;

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// Runs that still count.
    pub runs: u64,
    /// Seconds of one sample.
    pub mean: f64,
    /// Seconds squared.
    pub variance: f64,
    /// Seconds that 95 of 100 samples did not exceed.
    pub p95: f64,
}

/// A fragment on a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Bytes held, one run included; 0 when it was not told.
    pub memory_bytes: u64,
    /// Bytes of one run.
    pub peak_bytes: u64,
    /// By samples in a call and threads that run at once.
    pub settings: BTreeMap<(u32, u32), Setting>,
}

impl Profile {
    /// How many times the work of one thread with one sample a call is done in a setting: threads by what a sample takes
    /// there over what it takes alone. `None` when either was not measured.
    #[must_use]
    pub fn speed_up(&self, batch: u32, threads: u32) -> Option<f64> {
        let alone = self.settings.get(&(1, 1))?.mean;
        let mean = self.settings.get(&(batch, threads))?.mean;
        (mean > 0.0).then(|| f64::from(threads) * alone / mean)
    }

    fn take(&mut self, points: &[ProfilePoint]) {
        for point in points {
            let key = (point.batch, point.threads);
            let is_full = self.settings.len() >= SETTINGS && !self.settings.contains_key(&key);
            let service = point.service.as_ref().and_then(ServiceTime::told);
            let is_setting = point.batch > 0 && point.threads > 0 && point.p95_seconds >= 0.0;
            if let (Some(service), true, false) = (service, is_setting, is_full) {
                let setting = Setting {
                    runs: service.count,
                    mean: service.mean,
                    variance: service.variance,
                    p95: point.p95_seconds,
                };
                self.settings.insert(key, setting);
            }
        }
    }
}

/// Every profile that was told.
#[derive(Clone, Debug)]
pub struct Profiles {
    most: usize,
    by_node: BTreeMap<(NodeId, FragmentId), (u64, Profile)>,
    ticks: u64,
}

impl Profiles {
    /// Of so many fragments on nodes at most; the one told of longest ago makes room.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self {
            most,
            by_node: BTreeMap::new(),
            ticks: 0,
        }
    }

    /// Takes in what a node says of a fragment that it has loaded.
    pub fn loaded(&mut self, node: &NodeId, status: &FragmentStatus) {
        if let Some(profile) = self.of(node, &status.id) {
            profile.memory_bytes = status.memory_bytes;
            profile.peak_bytes = status.peak_bytes;
            profile.take(&status.profile);
        }
    }

    /// Takes in what is new on a node.
    pub fn reported(&mut self, node: &NodeId, report: &FragmentReport) {
        if report.profile.is_empty() {
            return;
        }
        if let Some(profile) = self.of(node, &report.id) {
            profile.take(&report.profile);
        }
    }

    /// By node and fragment.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, FragmentId, &Profile)> {
        let all = self.by_node.iter();
        all.map(|((node, fragment), (_, profile))| (node, *fragment, profile))
    }

    /// By node, how many times as long a sample takes while the most threads that were measured run as alone: over its
    /// fragments, weighted with what they take, and at least 1. Nodes that were measured with one thread only are left
    /// out. O(settings).
    #[must_use]
    pub fn crowding(&self) -> BTreeMap<NodeId, f64> {
        let mut sums: BTreeMap<NodeId, (u32, f64, f64)> = BTreeMap::new();
        for ((node, _), (_, profile)) in &self.by_node {
            let alone = profile.settings.get(&(1, 1));
            let crowd = profile
                .settings
                .iter()
                .rfind(|((batch, threads), _)| *batch == 1 && *threads > 1);
            let (Some(alone), Some(((_, threads), crowd))) = (alone, crowd) else {
                continue;
            };
            let sum = sums.entry(node.clone()).or_default();
            // What was measured with fewer threads says less of a full node.
            if sum.0 < *threads {
                *sum = (*threads, 0.0, 0.0);
            }
            if sum.0 == *threads {
                sum.1 += alone.mean;
                sum.2 += crowd.mean;
            }
        }
        let measured = sums.into_iter().filter(|(_, (_, alone, _))| *alone > 0.0);
        measured
            .map(|(node, (_, alone, crowd))| (node, (crowd / alone).max(1.0)))
            .collect()
    }

    /// Seconds that one sample takes on a node while nothing else runs there; `None` when that was never so.
    #[must_use]
    pub fn alone(&self, node: &NodeId, fragment: FragmentId) -> Option<f64> {
        let (_, profile) = self.by_node.get(&(node.clone(), fragment))?;
        Some(profile.settings.get(&(1, 1))?.mean)
    }

    fn of(&mut self, node: &NodeId, id: &[u8]) -> Option<&mut Profile> {
        let key = (node.clone(), FragmentId::from_slice(id)?);
        self.ticks += 1;
        if self.by_node.len() >= self.most.max(1) && !self.by_node.contains_key(&key) {
            let oldest = self.by_node.iter().min_by_key(|(_, (told, _))| *told);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.by_node.remove(&oldest);
            }
        }
        let (told, profile) = self.by_node.entry(key).or_default();
        *told = self.ticks;
        Some(profile)
    }
}

#[cfg(test)]
mod tests {
    use splitplace_proto::control::ServiceTime as Told;

    use super::*;

    fn point(batch: u32, threads: u32, mean: f64) -> ProfilePoint {
        ProfilePoint {
            batch,
            threads,
            service: Some(Told {
                count: 10,
                mean_seconds: mean,
                variance_seconds2: 0.0,
            }),
            p95_seconds: mean,
        }
    }

    fn report(id: u8, profile: Vec<ProfilePoint>) -> FragmentReport {
        FragmentReport {
            id: vec![id; 32].into(),
            profile,
            ..FragmentReport::default()
        }
    }

    #[test]
    fn two_threads_that_get_in_each_others_way_do_less_than_twice_the_work() {
        let mut profiles = Profiles::new(10);
        let node = NodeId::new("a");
        profiles.reported(&node, &report(1, vec![point(1, 1, 0.5)]));
        profiles.reported(
            &node,
            &report(1, vec![point(1, 2, 0.625), point(4, 1, 0.5)]),
        );
        let (_, _, profile) = profiles.iter().next().unwrap();
        assert_eq!(profile.speed_up(1, 1), Some(1.0));
        assert_eq!(profile.speed_up(1, 2), Some(1.6));
        assert_eq!(profile.speed_up(4, 1), Some(1.0));
        assert_eq!(profile.speed_up(1, 4), None);
    }

    #[test]
    fn a_node_is_crowded_as_its_fragments_are_at_the_most_threads() {
        let mut profiles = Profiles::new(10);
        let [a, b] = ["a", "b"].map(NodeId::new);
        let points =
            |two: f64, four: f64| vec![point(1, 1, 0.5), point(1, 2, two), point(1, 4, four)];
        profiles.reported(&a, &report(1, points(0.6, 1.0)));
        profiles.reported(&a, &report(2, points(0.6, 0.75)));
        // Two threads only: it says nothing of four.
        profiles.reported(&a, &report(3, points(9.0, 0.0)[..2].to_vec()));
        // Batches are no threads.
        profiles.reported(&b, &report(1, vec![point(1, 1, 0.5), point(4, 1, 0.7)]));
        assert_eq!(profiles.crowding(), BTreeMap::from([(a.clone(), 1.75)]));
        // Less than alone is noise.
        profiles.reported(&b, &report(1, vec![point(1, 2, 0.4)]));
        assert_eq!(profiles.crowding()[&b], 1.0);
    }

    #[test]
    fn what_cannot_be_is_not_believed_and_the_book_is_bounded() {
        let mut profiles = Profiles::new(3);
        let node = NodeId::new("a");
        let wrong = [point(0, 1, 1.0), point(1, 1, f64::NAN), point(1, 1, -1.0)];
        profiles.reported(&node, &report(0, wrong.to_vec()));
        assert!(
            profiles
                .iter()
                .all(|(_, _, profile)| profile.settings.is_empty())
        );
        for id in 1..9 {
            let many = (1..200).map(|batch| point(batch, 1, 1.0)).collect();
            profiles.reported(&node, &report(id, many));
        }
        assert_eq!(profiles.iter().count(), 3);
        assert!(
            profiles
                .iter()
                .all(|(_, id, profile)| id.0[0] > 5 && profile.settings.len() == SETTINGS)
        );
    }
}
