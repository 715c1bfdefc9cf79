//! What is done with a plan until one comes into force: loading a fragment measures it, and that may change the plan.
//!
//! Where nothing is urgent, a plan is made again once its fragments were loaded and measured, and comes into force when
//! the same comes out. Where nothing would move, fragments that have hardly run are given a chance once: the plan that
//! would be the best if they took less than what is known promises is loaded and measured, without coming into force.

use splitplace_plan::{Generation, Plan, diff};

/// Plans that are loaded until one comes into force, at most.
const MOST: u32 = 3;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Leave everything as it is.
    Stay,
    /// Look for a plan that is worth a try, and load it.
    Hope,
    /// Load this one.
    Load,
    /// Put this one in force: every node holds it, under this number.
    Adopt(Generation),
}

/// What was done so far.
#[derive(Clone, Debug)]
pub struct Tries {
    is_calm: bool,
    has_hoped: bool,
    /// Whether what is loaded now is only tried.
    is_hoping: bool,
    loaded: Option<Plan>,
    loads: u32,
}

impl Tries {
    /// Nothing was done. `is_calm` says whether the plan in force serves everything: else the first plan that is loaded
    /// comes into force.
    #[must_use]
    pub const fn new(is_calm: bool) -> Self {
        Self {
            is_calm,
            has_hoped: false,
            is_hoping: false,
            loaded: None,
            loads: 0,
        }
    }

    /// With a plan from what is known now; `stays` says whether it is the plan in force.
    pub fn next(&mut self, plan: &Plan, stays: bool) -> Step {
        if stays {
            self.is_hoping = self.is_calm && !self.has_hoped && self.loads < MOST;
            self.has_hoped = true;
            return if self.is_hoping {
                Step::Hope
            } else {
                Step::Stay
            };
        }
        self.is_hoping = false;
        match &self.loaded {
            Some(loaded) if same_places(loaded, plan) => Step::Adopt(loaded.generation),
            Some(_) | None => Step::Load,
        }
    }

    /// A plan was loaded, and something was measured that was not known before. Says whether it comes into force at once:
    /// one that is only tried does not.
    pub fn loaded(&mut self, plan: &Plan, has_news: bool) -> bool {
        self.loads += 1;
        self.loaded = Some(plan.clone());
        !self.is_hoping && (!self.is_calm || !has_news || self.loads >= MOST)
    }

    /// A plan could not be loaded. Says whether everything stays as it is, and well: nobody needs what was only tried.
    #[must_use]
    pub const fn is_well_without(&self) -> bool {
        self.is_hoping
    }
}

/// Whether two plans run the same fragments at the same places by the same arms, with the same codecs and exits between
/// them. O(hops log hops).
#[must_use]
pub fn same_places(a: &Plan, b: &Plan) -> bool {
    let versions = |plan: &Plan| -> Vec<_> {
        let models = plan.models.iter();
        models
            .map(|(name, model)| (name.clone(), model.version.clone()))
            .collect()
    };
    versions(a) == versions(b) && diff(a, b).changes.is_empty()
}

#[cfg(test)]
mod tests {
    use std::{ops::Range, time::Duration};

    use splitplace_plan::{ArmKind, ArmPlan, FragmentId, Hop, ModelPlan, Route, RouteId};

    use super::*;

    /// One arm that is cut there.
    fn cut_at(generation: u64, cut: usize) -> Plan {
        let hop = |node: &str, segments: Range<usize>| {
            let name = u8::try_from(segments.start * 16 + segments.end).unwrap_or(0);
            Hop::new(node.into(), FragmentId([name; 32]), segments)
        };
        let route = Route {
            id: RouteId(0),
            hops: vec![hop("attic", 0..cut), hop("cellar", cut..9)],
            bytes_out: 40,
        };
        let arm = ArmPlan {
            name: "base/chain".into(),
            variant: "base".into(),
            kind: ArmKind::Chain,
            accuracy: None,
            predicted: Duration::from_millis(5),
            branches: vec![route],
        };
        let model = ModelPlan {
            version: "1".into(),
            arms: vec![arm],
        };
        Plan {
            generation: Generation(generation),
            models: [("digits".into(), model)].into(),
            ..Plan::default()
        }
    }

    #[test]
    fn a_plan_comes_into_force_when_it_comes_out_again_once_it_was_measured() {
        let mut tries = Tries::new(true);
        assert_eq!(tries.next(&cut_at(5, 3), false), Step::Load);
        assert!(!tries.loaded(&cut_at(5, 3), true));
        // What was measured speaks for another cut.
        assert_eq!(tries.next(&cut_at(6, 4), false), Step::Load);
        assert!(!tries.loaded(&cut_at(6, 4), true));
        assert_eq!(tries.next(&cut_at(7, 4), false), Step::Adopt(Generation(6)));
    }

    #[test]
    fn what_is_known_already_and_what_is_urgent_comes_into_force_at_once() {
        let mut known = Tries::new(true);
        assert_eq!(known.next(&cut_at(5, 3), false), Step::Load);
        assert!(known.loaded(&cut_at(5, 3), false));
        let mut urgent = Tries::new(false);
        assert_eq!(urgent.next(&cut_at(5, 3), false), Step::Load);
        assert!(urgent.loaded(&cut_at(5, 3), true));
        assert_eq!(Tries::new(false).next(&cut_at(5, 3), true), Step::Stay);
    }

    #[test]
    fn a_plan_is_hoped_for_once_and_comes_into_force_only_if_it_holds() {
        let mut tries = Tries::new(true);
        assert_eq!(tries.next(&cut_at(5, 3), true), Step::Hope);
        assert!(!tries.loaded(&cut_at(6, 4), true));
        let mut in_vain = tries.clone();
        assert_eq!(in_vain.next(&cut_at(7, 3), true), Step::Stay);
        assert_eq!(tries.next(&cut_at(7, 4), false), Step::Adopt(Generation(6)));
    }

    #[test]
    fn what_was_only_tried_may_be_refused() {
        let mut tries = Tries::new(true);
        assert_eq!(tries.next(&cut_at(5, 3), true), Step::Hope);
        assert!(tries.is_well_without());
        // Nothing new was measured, and it still does not come into force.
        assert!(!tries.loaded(&cut_at(6, 4), false));
        // What is needed may not.
        assert_eq!(tries.next(&cut_at(7, 5), false), Step::Load);
        assert!(!tries.is_well_without());
    }

    #[test]
    fn it_ends() {
        let mut tries = Tries::new(true);
        let mut loads = 0;
        // Every time another plan comes out.
        for (number, cut) in (5..).zip(1..9) {
            let plan = cut_at(number, cut);
            assert_eq!(tries.next(&plan, false), Step::Load);
            loads += 1;
            if tries.loaded(&plan, true) {
                break;
            }
        }
        assert_eq!(loads, MOST);
    }
}
