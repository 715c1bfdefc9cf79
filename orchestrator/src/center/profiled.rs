//! What fragments take on nodes: told by workers, asked for by people.

use std::collections::BTreeMap;

use splitplace_fleet::NodeId;
use splitplace_proto::{
    center::{ProfiledFragment, ProfiledSetting, ProfilesResponse},
    control::{FragmentReport, FragmentStatus},
};

use super::Inner;

impl Inner {
    /// Takes in what a node says of fragments that it has loaded.
    pub(super) fn profiled(&self, node: &NodeId, statuses: &[FragmentStatus]) {
        let mut profiles = self.profiles.lock();
        for status in statuses {
            profiles.loaded(node, status);
        }
    }

    /// Takes in what is new on a node.
    pub(super) fn note_profiles(&self, node: &NodeId, reports: &[FragmentReport]) {
        let mut profiles = self.profiles.lock();
        for report in reports {
            profiles.reported(node, report);
        }
    }
}

/// Everything that is known, by model and place in it, then by node.
pub(super) fn profiles(inner: &Inner) -> ProfilesResponse {
    let models: Vec<_> = inner.models.read().values().cloned().collect();
    let mut places = BTreeMap::new();
    for served in &models {
        for (id, place) in served.loaded.places() {
            places.entry(id).or_insert((served.name.to_string(), place));
        }
    }
    let mut fragments: Vec<ProfiledFragment> = Vec::new();
    for (node, id, profile) in inner.profiles.lock().iter() {
        let settings = profile.settings.iter();
        let settings = settings.map(|(&(batch, threads), setting)| ProfiledSetting {
            batch,
            threads,
            runs: setting.runs,
            mean_seconds: setting.mean,
            variance_seconds2: setting.variance,
            p95_seconds: setting.p95,
            speed_up: profile.speed_up(batch, threads).unwrap_or(0.0),
        });
        let mut row = ProfiledFragment {
            id: id.0.to_vec().into(),
            node: node.to_string(),
            memory_bytes: profile.memory_bytes,
            peak_bytes: profile.peak_bytes,
            settings: settings.collect(),
            ..ProfiledFragment::default()
        };
        if let Some((model, place)) = places.get(&id) {
            let segment = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            row.model.clone_from(model);
            row.variant.clone_from(&place.variant);
            row.part.clone_from(&place.part);
            row.first_segment = segment(place.segments.start);
            row.end_segment = segment(place.segments.end);
        }
        fragments.push(row);
    }
    let key = |row: &ProfiledFragment| {
        let place = (row.first_segment, row.end_segment, row.node.clone());
        (
            row.model.clone(),
            row.variant.clone(),
            row.part.clone(),
            place,
        )
    };
    fragments.sort_by_cached_key(key);
    ProfilesResponse { fragments }
}
