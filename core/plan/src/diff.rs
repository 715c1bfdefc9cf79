//! What differs between two plans, arm by arm, and what has to be loaded for it.

use std::{collections::BTreeSet, ops::Range};

use splitplace_codec::Codec;
use splitplace_fleet::NodeId;

use crate::{ArmPlan, FragmentId, Hop, ModelName, Plan};

/// One arm that is not in both plans, or not the same in both.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmChange {
    /// Whose.
    pub model: ModelName,
    /// Its name.
    pub arm: String,
    /// As it was; `None` when it is new.
    pub before: Option<ArmPlan>,
    /// As it is; `None` when it is gone.
    pub after: Option<ArmPlan>,
}

impl ArmChange {
    /// Whether the network is cut at other places than before.
    #[must_use]
    pub fn is_resplit(&self) -> bool {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => cuts(before) != cuts(after),
            (Some(_), None) | (None, Some(_)) | (None, None) => false,
        }
    }

    /// Before and after in words.
    #[must_use]
    pub fn told(&self) -> String {
        let Self {
            arm, before, after, ..
        } = self;
        match (before, after) {
            (Some(before), Some(after)) => {
                format!(
                    "{arm} runs {} instead of {}",
                    described(after),
                    described(before)
                )
            }
            (None, Some(after)) => format!("{arm} runs {}", described(after)),
            (Some(before), None) => format!("{arm} runs no more {}", described(before)),
            (None, None) => format!("{arm} is as it was"),
        }
    }
}

/// What differs between two plans.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diff {
    /// By model and arm.
    pub changes: Vec<ArmChange>,
    /// Fragments that nodes have to hold which they did not hold before.
    pub loaded: BTreeSet<(NodeId, FragmentId)>,
    /// Fragments that nodes hold no more.
    pub dropped: BTreeSet<(NodeId, FragmentId)>,
    /// Fragments that stay where they are.
    pub kept: usize,
}

/// What is otherwise in `after` than in `before`. Costs O(hops log hops).
#[must_use]
pub fn diff(before: &Plan, after: &Plan) -> Diff {
    let names = |plan: &Plan| -> BTreeSet<(ModelName, String)> {
        let models = plan.models.iter();
        models
            .flat_map(|(name, model)| {
                model
                    .arms
                    .iter()
                    .map(|arm| (name.clone(), arm.name.clone()))
            })
            .collect()
    };
    let find = |plan: &Plan, model: &ModelName, arm: &str| -> Option<ArmPlan> {
        let model = plan.models.get(model)?;
        model.arms.iter().find(|known| known.name == arm).cloned()
    };
    let held = |plan: &Plan| -> BTreeSet<(NodeId, FragmentId)> {
        let hops = plan.routes().flat_map(|route| &route.hops);
        hops.map(|hop| (hop.node.clone(), hop.fragment)).collect()
    };
    let changes = &names(before) | &names(after);
    let changes = changes.into_iter().filter_map(|(model, arm)| {
        let (old, new) = (find(before, &model, &arm), find(after, &model, &arm));
        let is_same = match (&old, &new) {
            (Some(old), Some(new)) => shape(old) == shape(new),
            (Some(_), None) | (None, Some(_)) | (None, None) => false,
        };
        (!is_same).then_some(ArmChange {
            model,
            arm,
            before: old,
            after: new,
        })
    });
    let (old, new) = (held(before), held(after));
    Diff {
        changes: changes.collect(),
        loaded: &new - &old,
        dropped: &old - &new,
        kept: (&new & &old).len(),
    }
}

type HopShape<'a> = (&'a NodeId, FragmentId, Codec, Vec<(u32, u32)>);

/// What runs where, and how it is coded; not what it is expected to take.
fn shape(arm: &ArmPlan) -> Vec<Vec<HopShape<'_>>> {
    let hop = |hop: &'_ Hop| -> Vec<(u32, u32)> {
        let exits = hop.exits.iter();
        exits
            .map(|exit| (exit.number, exit.threshold.to_bits()))
            .collect()
    };
    let routes = arm.branches.iter();
    routes
        .map(|route| {
            let hops = route.hops.iter();
            hops.map(|one| (&one.node, one.fragment, one.codec, hop(one)))
                .collect()
        })
        .collect()
}

/// Where each branch is cut: ends of its fragments but the last.
fn cuts(arm: &ArmPlan) -> Vec<Vec<usize>> {
    let routes = arm.branches.iter();
    routes
        .map(|route| {
            let inner = route.hops.len().saturating_sub(1);
            let ends = route.hops.iter().take(inner);
            ends.map(|hop| hop.segments.end).collect()
        })
        .collect()
}

/// An arm's way in words: `on attic`, `0–4 on attic → 4–9 on cellar as u8-rans`, branches between bars.
#[must_use]
pub fn described(arm: &ArmPlan) -> String {
    let branches = arm.branches.iter().map(|route| {
        let hops = &route.hops;
        in_words(hops.iter().enumerate().map(|(place, hop)| {
            let next = hops.get(place + 1);
            let is_sent = next.is_some_and(|next| next.node != hop.node);
            let codec = if is_sent { hop.codec } else { Codec::RAW };
            (hop.segments.clone(), &hop.node, codec)
        }))
    });
    branches.collect::<Vec<_>>().join(" | ")
}

/// A branch as in [`described`], of what runs where and how it is coded on the link behind it.
#[must_use]
pub fn in_words<'a>(
    hops: impl ExactSizeIterator<Item = (Range<usize>, &'a NodeId, Codec)>,
) -> String {
    let is_whole = hops.len() == 1;
    let hops = hops.map(|(segments, node, codec)| {
        if is_whole {
            return format!("on {node}");
        }
        let Range { start, end } = segments;
        if codec == Codec::RAW {
            format!("{start}–{end} on {node}")
        } else {
            format!("{start}–{end} on {node} as {codec}")
        }
    });
    hops.collect::<Vec<_>>().join(" → ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{ArmKind, ModelPlan, Route, RouteId};

    fn plan(hops: &[(&str, u8, usize)]) -> Plan {
        let mut start = 0;
        let hops = hops.iter().map(|&(node, content, end)| {
            let segments = start..end;
            start = end;
            Hop::new(node.into(), FragmentId([content; 32]), segments)
        });
        let arm = ArmPlan {
            name: "base/chain".into(),
            variant: "base".into(),
            kind: ArmKind::Chain,
            accuracy: None,
            predicted: Duration::ZERO,
            branches: vec![Route {
                id: RouteId(0),
                hops: hops.collect(),
                bytes_out: 0,
            }],
        };
        let mut plan = Plan::default();
        let model = ModelPlan {
            version: "1".into(),
            arms: vec![arm],
        };
        plan.models.insert("m".into(), model);
        plan
    }

    #[test]
    fn a_cut_that_moved_is_told_with_what_it_takes() {
        let before = plan(&[("a", 1, 2), ("b", 2, 9)]);
        let after = plan(&[("a", 3, 7), ("b", 4, 9)]);
        let diff = diff(&before, &after);
        assert_eq!(
            (diff.loaded.len(), diff.dropped.len(), diff.kept),
            (2, 2, 0)
        );
        assert_eq!(diff.changes.len(), 1);
        assert!(diff.changes[0].is_resplit());
        assert_eq!(
            diff.changes[0].told(),
            "base/chain runs 0–7 on a → 7–9 on b instead of 0–2 on a → 2–9 on b"
        );
    }

    #[test]
    fn times_alone_are_no_difference_and_a_codec_is() {
        let before = plan(&[("a", 1, 2), ("b", 2, 9)]);
        let mut after = before.clone();
        let changed = &mut after.models.get_mut("m").unwrap().arms[0];
        changed.predicted = Duration::from_secs(1);
        assert_eq!(diff(&before, &after).changes, []);
        let changed = &mut after.models.get_mut("m").unwrap().arms[0];
        changed.branches[0].hops[0].codec = Codec::from_number(1).unwrap();
        let found = diff(&before, &after);
        assert_eq!(found.changes.len(), 1);
        assert!(!found.changes[0].is_resplit());
        assert_eq!((found.loaded.len(), found.kept), (0, 2));
        assert!(found.changes[0].told().contains(" as "));
    }

    #[test]
    fn arms_that_come_and_go_are_told() {
        let some = plan(&[("a", 1, 2)]);
        let gone = diff(&some, &Plan::default());
        assert_eq!(gone.changes[0].told(), "base/chain runs no more on a");
        let new = diff(&Plan::default(), &some);
        assert_eq!(new.changes[0].told(), "base/chain runs on a");
        assert_eq!(new.loaded.len(), 1);
    }
}
