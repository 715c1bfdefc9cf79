//! Where the stages of an arm may be, when an operator has laid that down.

use std::collections::{BTreeMap, BTreeSet};

use crate::problem::Stage;

/// Bounds of an arm's placement. By default there are none.
///
/// Stages are numbered along a chain, from 0; of a fan-out the branches are numbered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// Nodes that may be used; `None` when all may.
    pub nodes: Option<BTreeSet<usize>>,
    /// Stages with a node of their own. A number that an arm does not have binds nothing.
    pub pins: BTreeMap<usize, usize>,
    /// Boundaries, counted in segments before them, at which a chain may be cut; `None` for all.
    pub cuts: Option<BTreeSet<usize>>,
    /// Whether every branch of a fan-out has a node for itself. Stages of a chain always have.
    pub apart: bool,
    /// Arms with a higher one are given memory before those with a lower one.
    pub priority: i32,
    /// Share of the samples that may be lost on the way; `None` for [`Problem::loss_target`](crate::Problem::loss_target).
    pub loss: Option<f64>,
}

impl Bounds {
    /// Whether the stage of that number may be on a node.
    #[must_use]
    pub fn allow(&self, number: usize, node: usize) -> bool {
        let is_pinned_elsewhere = self.pins.get(&number).is_some_and(|pin| *pin != node);
        !is_pinned_elsewhere
            && self
                .nodes
                .as_ref()
                .is_none_or(|nodes| nodes.contains(&node))
    }

    /// Whether a chain may be cut after so many segments.
    #[must_use]
    pub fn may_cut(&self, segments: usize) -> bool {
        self.cuts
            .as_ref()
            .is_none_or(|cuts| cuts.contains(&segments))
    }

    /// Whether a whole placement keeps within them.
    #[must_use]
    pub fn hold(&self, branches: &[Vec<Stage>]) -> bool {
        let mut used = BTreeSet::new();
        let are_cuts_allowed = match branches {
            [stages] => {
                let inner = stages.len().saturating_sub(1);
                let mut ends = stages.iter().take(inner);
                ends.all(|stage| self.may_cut(stage.segments.end))
            }
            // A fan-out is not cut.
            _ => true,
        };
        are_cuts_allowed
            && branches.iter().enumerate().all(|(branch, stages)| {
                stages.iter().enumerate().all(|(place, stage)| {
                    let number = if branches.len() > 1 { branch } else { place };
                    let is_free = used.insert(stage.node) || !self.apart;
                    is_free && self.allow(number, stage.node)
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(node: usize) -> Stage {
        Stage {
            segments: 0..1,
            node,
        }
    }

    #[test]
    fn a_chain_is_numbered_by_stages_and_a_fan_out_by_branches() {
        let bounds = Bounds {
            nodes: Some(BTreeSet::from([0, 1, 2])),
            pins: BTreeMap::from([(1, 2), (7, 0)]),
            ..Bounds::default()
        };
        assert!(bounds.hold(&[vec![stage(0), stage(2)]]));
        assert!(!bounds.hold(&[vec![stage(2), stage(0)]]));
        assert!(!bounds.hold(&[vec![stage(3)]]));
        assert!(bounds.hold(&[vec![stage(2)], vec![stage(2)]]));
        assert!(!bounds.hold(&[vec![stage(2)], vec![stage(1)]]));
        let apart = Bounds {
            apart: true,
            ..bounds
        };
        assert!(!apart.hold(&[vec![stage(2)], vec![stage(2)]]));
        assert!(Bounds::default().hold(&[vec![stage(9)], vec![stage(9)]]));
        let cut = Bounds {
            cuts: Some(BTreeSet::from([1])),
            ..Bounds::default()
        };
        assert!(cut.hold(&[vec![stage(0), stage(1)]]));
        let elsewhere = Stage {
            segments: 0..2,
            node: 0,
        };
        assert!(!cut.hold(&[vec![elsewhere.clone(), stage(1)]]));
        assert!(cut.hold(&[vec![elsewhere.clone()], vec![elsewhere]]));
    }
}
