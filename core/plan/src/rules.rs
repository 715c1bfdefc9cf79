//! What every solution keeps, whoever made it: each arm's shape, its bounds, and the memory of the nodes.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::{
    Problem,
    problem::{ArmProblem, ChainProblem, Outcome, Solution, Stage},
};

/// A rule that a solution breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Broken {
    /// Outcomes that do not answer the arms one by one.
    #[error("{outcomes} outcomes of {arms} arms")]
    Arms {
        /// How many there are.
        outcomes: usize,
        /// How many there should be.
        arms: usize,
    },
    /// Stages that do not cover a chain in order, each segment once, on nodes that are all different, in as many pieces
    /// as the arm may have.
    #[error("{arm}: branch {branch} has no such shape: {stages}")]
    Shape {
        /// The arm's name.
        arm: String,
        /// Which of its branches.
        branch: usize,
        /// Its stages.
        stages: String,
    },
    /// An arm with more or fewer branches than it has chains.
    #[error("{arm}: {branches} branches of {chains} chains")]
    Branches {
        /// The arm's name.
        arm: String,
        /// How many branches are placed.
        branches: usize,
        /// How many there should be.
        chains: usize,
    },
    /// A pin, a node, a cut or branches apart that an operator laid down.
    #[error("{arm}: out of its bounds: {stages}")]
    Bounds {
        /// The arm's name.
        arm: String,
        /// Its stages.
        stages: String,
    },
    /// More on a node than it holds.
    #[error("node {node}: {needed} bytes of {memory}")]
    Memory {
        /// Which node.
        node: usize,
        /// Bytes of the fragments there.
        needed: u64,
        /// Bytes that there are.
        memory: u64,
    },
}

fn told(branches: &[Vec<Stage>]) -> String {
    let branch = |stages: &Vec<Stage>| {
        let stages = stages.iter().map(|stage| {
            let Stage { segments, node } = stage;
            format!("{}..{} on {node}", segments.start, segments.end)
        });
        stages.collect::<Vec<_>>().join(", ")
    };
    let branches = branches.iter().map(branch);
    branches.collect::<Vec<_>>().join("; ")
}

fn is_shaped(problem: &Problem, arm: &ArmProblem, chain: &ChainProblem, stages: &[Stage]) -> bool {
    let mut at = 0;
    let mut nodes = BTreeSet::new();
    let in_order = stages.iter().all(|stage| {
        let follows = stage.segments.start == at && at < stage.segments.end;
        at = stage.segments.end;
        follows && stage.node < problem.nodes.len() && nodes.insert(stage.node)
    });
    in_order && at == chain.segments.len() && (arm.parts.0..=arm.parts.1).contains(&stages.len())
}

/// Checks a solution against all rules; arms without a place break none. O(stages · log stages).
///
/// # Errors
/// The first rule that is broken.
pub fn check(problem: &Problem, solution: &Solution) -> Result<(), Broken> {
    let (outcomes, arms) = (solution.arms.len(), problem.arms.len());
    if outcomes != arms {
        return Err(Broken::Arms { outcomes, arms });
    }
    let mut needed = vec![0u64; problem.nodes.len()];
    for (arm, outcome) in problem.arms.iter().zip(&solution.arms) {
        let Outcome::Placed(placed) = outcome else {
            continue;
        };
        let (branches, chains) = (placed.branches.len(), arm.chains.len());
        let name = || arm.name.clone();
        if branches != chains {
            let arm = name();
            return Err(Broken::Branches {
                arm,
                branches,
                chains,
            });
        }
        for (branch, (chain, stages)) in arm.chains.iter().zip(&placed.branches).enumerate() {
            if !is_shaped(problem, arm, chain, stages) {
                return Err(Broken::Shape {
                    arm: name(),
                    branch,
                    stages: told(&placed.branches[branch..=branch]),
                });
            }
            for stage in stages {
                let bytes = problem.memory(chain, stage.segments.clone());
                needed[stage.node] = needed[stage.node].saturating_add(bytes);
            }
        }
        if !arm.bounds.hold(&placed.branches) {
            return Err(Broken::Bounds {
                arm: name(),
                stages: told(&placed.branches),
            });
        }
    }
    for (node, (needed, spec)) in needed.into_iter().zip(&problem.nodes).enumerate() {
        let memory = spec.memory_bytes;
        if memory < needed {
            return Err(Broken::Memory {
                node,
                needed,
                memory,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ArmKind, Bounds, NodeSpec, Placed, SegmentSpec};

    /// Three segments of ten bytes in one or two pieces, on two nodes of twenty bytes and the centre.
    fn problem() -> Problem {
        let segment = SegmentSpec {
            weight_bytes: 10,
            activation_bytes: 0,
            service: vec![1.0; 2],
        };
        Problem {
            nodes: vec![NodeSpec::of(20); 2],
            links: vec![vec![(1e3, 0.0); 3]; 3],
            coding: vec![0.0; 3],
            arms: vec![ArmProblem {
                name: "a".into(),
                model: 0,
                kind: ArmKind::Chain,
                parts: (1, 2),
                chains: vec![ChainProblem {
                    segments: vec![segment; 3],
                    boundaries: vec![1.into(); 4],
                }],
                arrival_rate: 0.0,
                arrival_scv: 1.0,
                bounds: Bounds {
                    cuts: Some([1, 2].into()),
                    nodes: Some([0, 1].into()),
                    ..Bounds::default()
                },
            }],
            overhead_bytes: 0,
            spread: 0.0,
            places: Problem::PLACES,
            loss_target: Problem::LOSS,
            beside: Vec::new(),
        }
    }

    fn solution(stages: &[(usize, usize, usize)]) -> Solution {
        let stages = stages.iter().map(|&(start, end, node)| Stage {
            segments: start..end,
            node,
        });
        Solution {
            arms: vec![Outcome::Placed(Placed {
                branches: vec![stages.collect()],
                latency: 1.0,
                bottleneck: 1.0,
            })],
        }
    }

    #[test]
    fn what_keeps_every_rule_is_sound() {
        let problem = problem();
        assert_eq!(check(&problem, &solution(&[(0, 1, 0), (1, 3, 1)])), Ok(()));
        let nowhere = Solution {
            arms: vec![Outcome::Unplaced("full".into())],
        };
        assert_eq!(check(&problem, &nowhere), Ok(()));
    }

    #[test]
    fn every_broken_rule_is_named() {
        let mut problem = problem();
        let none = Solution { arms: Vec::new() };
        assert_eq!(
            check(&problem, &none),
            Err(Broken::Arms {
                outcomes: 0,
                arms: 1
            })
        );
        for shape in [
            &[][..],
            &[(0, 2, 0)],
            &[(0, 1, 0), (2, 3, 1)],
            &[(0, 2, 0), (1, 3, 1)],
            &[(0, 1, 0), (1, 3, 0)],
            &[(0, 1, 0), (1, 3, 2)],
            &[(0, 1, 0), (1, 1, 1), (1, 3, 1)],
            &[(0, 1, 0), (1, 2, 1), (2, 3, 0)],
        ] {
            let broken = check(&problem, &solution(shape));
            assert!(matches!(broken, Err(Broken::Shape { .. })), "{broken:?}");
        }
        let mut twice = solution(&[(0, 1, 0), (1, 3, 1)]);
        if let Outcome::Placed(placed) = &mut twice.arms[0] {
            placed.branches.push(placed.branches[0].clone());
        }
        let broken = check(&problem, &twice);
        assert!(matches!(broken, Err(Broken::Branches { .. })), "{broken:?}");
        let broken = check(&problem, &solution(&[(0, 3, 1)]));
        assert_eq!(
            broken,
            Err(Broken::Memory {
                node: 1,
                needed: 30,
                memory: 20
            })
        );
        problem.arms[0].bounds.cuts = Some([2].into());
        let broken = check(&problem, &solution(&[(0, 1, 0), (1, 3, 1)]));
        let broken = broken.expect_err("the cut is not allowed").to_string();
        assert_eq!(broken, "a: out of its bounds: 0..1 on 0, 1..3 on 1");
    }
}
