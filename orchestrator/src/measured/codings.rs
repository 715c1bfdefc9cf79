//! What a node's thread spends on a request beside computing: decoding what comes and encoding what leaves.
//!
//! Tensors that are not coded are copied, so this is never nothing; what is planned with knows only what codecs cost.

use std::{collections::BTreeMap, time::Duration};

use splitplace_fleet::NodeId;
use splitplace_plan::FragmentId;

/// After so many further requests one counts half.
const HALF_LIFE_REQUESTS: f64 = 200.0;
/// Fragments on nodes that are kept; the first by name makes room.
const MOST: usize = 65_536;

/// Seconds of one sample, with forgetting.
#[derive(Clone, Debug, Default)]
pub struct Codings {
    means: BTreeMap<(NodeId, FragmentId), (f64, f64)>,
}

impl Codings {
    /// Takes in what one sample took of a node's thread. O(log fragments).
    pub fn observe(&mut self, node: NodeId, fragment: FragmentId, seconds: f64) {
        if !seconds.is_finite() || seconds < 0.0 {
            return;
        }
        let (weight, mean) = self.means.entry((node, fragment)).or_default();
        *weight = *weight * 0.5f64.powf(1.0 / HALF_LIFE_REQUESTS) + 1.0;
        *mean += (seconds - *mean) / *weight;
        if self.means.len() > MOST {
            self.means.pop_first();
        }
    }

    /// What it takes; `None` when no request showed it.
    #[must_use]
    pub fn of(&self, node: &NodeId, fragment: FragmentId) -> Option<Duration> {
        let (_, mean) = self.means.get(&(node.clone(), fragment))?;
        Duration::try_from_secs_f64(*mean).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_and_is_each_fragments_own() {
        let (a, one) = (NodeId::new("a"), FragmentId([1; 32]));
        let mut codings = Codings::default();
        assert_eq!(codings.of(&a, one), None);
        codings.observe(a.clone(), one, 0.25);
        codings.observe(a.clone(), one, 0.75);
        let found = codings.of(&a, one).unwrap().as_secs_f64();
        assert!((found - 0.5).abs() < 1e-3);
        for _ in 0..4000 {
            codings.observe(a.clone(), one, 2.0);
        }
        for odd in [f64::NAN, -1.0] {
            codings.observe(a.clone(), one, odd);
        }
        let found = codings.of(&a, one).unwrap().as_secs_f64();
        assert!((found - 2.0).abs() < 1e-3);
        assert_eq!(codings.of(&a, FragmentId([2; 32])), None);
    }
}
