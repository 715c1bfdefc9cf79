//! What a node's thread spends on a request beside computing: decoding what comes and encoding what leaves.
//!
//! Tensors that are not coded are copied, so this is never nothing; what is planned with knows only what codecs cost.

use std::{collections::BTreeMap, time::Duration};

use splitplace_fleet::NodeId;
use splitplace_plan::FragmentId;

use super::fade;

/// After so many further requests one counts half.
const HALF_LIFE_REQUESTS: f64 = 200.0;
/// Fragments on nodes that are kept; the one untouched for longest makes room.
const MOST: usize = 65_536;

/// Seconds of one sample.
#[derive(Clone, Copy, Debug, Default)]
struct Coding {
    weight: f64,
    mean: f64,
    touched: u64,
}

/// The table, with forgetting.
#[derive(Clone, Debug, Default)]
pub struct Codings {
    of: BTreeMap<(NodeId, FragmentId), Coding>,
    /// Counts observations.
    ticks: u64,
}

impl Codings {
    /// Takes in what one sample took of a node's thread. O(log fragments), O(fragments) when another
    /// makes room.
    pub fn observe(&mut self, node: NodeId, fragment: FragmentId, seconds: f64) {
        if !seconds.is_finite() || seconds < 0.0 {
            return;
        }
        self.ticks += 1;
        let (left, new) = fade(1, HALF_LIFE_REQUESTS);
        let coding = self.of.entry((node, fragment)).or_default();
        coding.weight = coding.weight * left + new;
        coding.mean += (seconds - coding.mean) * new / coding.weight;
        coding.touched = self.ticks;
        if self.of.len() > MOST {
            let oldest = self.of.iter().min_by_key(|(_, coding)| coding.touched);
            let oldest = oldest.map(|(key, _)| key.clone());
            self.of.retain(|key, _| Some(key) != oldest.as_ref());
        }
    }

    /// What it takes; `None` when no request showed it.
    #[must_use]
    pub fn of(&self, node: &NodeId, fragment: FragmentId) -> Option<Duration> {
        let coding = self.of.get(&(node.clone(), fragment))?;
        Duration::try_from_secs_f64(coding.mean).ok()
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
