//! Every placement there is, on small problems: what the others are held against.

use super::Strategy;
use crate::{
    Problem, Solution, Stage,
    joint::{Places, solution, take, worth},
    problem::{ArmProblem, ChainProblem},
};

/// The best of all places of all arms together by [`worth`]: the optimum of those formulas, not of a simulation.
///
/// Costs as many judgements as there are placements, which is why it answers small problems only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BruteForce {
    /// Placements that it looks at; a problem that may have more is refused.
    pub most: usize,
}

impl Default for BruteForce {
    /// A second or so.
    fn default() -> Self {
        Self { most: 500_000 }
    }
}

impl BruteForce {
    /// The best places and what they cost ([`Worth::cost`](crate::joint::Worth::cost)); of equal ones the first. Arms
    /// have none where not all find room. `None` where the problem may have more placements than
    /// [`most`](BruteForce::most).
    #[must_use]
    pub fn best(&self, problem: &Problem) -> Option<(f64, Places)> {
        let mut choices = Vec::with_capacity(problem.arms.len());
        let mut all = 1usize;
        for arm in &problem.arms {
            let of_arm = self.choices(problem, arm)?;
            all = all.checked_mul(of_arm.len() + 1)?;
            choices.push(of_arm);
        }
        if self.most < all {
            return None;
        }
        let mut search = Search {
            problem,
            choices,
            places: vec![None; problem.arms.len()],
            best: (f64::INFINITY, vec![None; problem.arms.len()]),
        };
        let free: Vec<u64> = problem.nodes.iter().map(|node| node.memory_bytes).collect();
        search.from(0, &free);
        Some(search.best)
    }

    /// Every place that an arm may have, whatever else is there.
    fn choices(&self, problem: &Problem, arm: &ArmProblem) -> Option<Vec<Vec<Vec<Stage>>>> {
        let mut branches: Vec<Vec<Vec<Stage>>> = vec![Vec::new()];
        for chain in &arm.chains {
            let ways = self.ways(arm, chain, problem.nodes.len())?;
            if self.most < branches.len().checked_mul(ways.len())? {
                return None;
            }
            let longer = branches.iter().flat_map(|before| {
                let one = |way: &Vec<Stage>| [&before[..], std::slice::from_ref(way)].concat();
                ways.iter().map(one)
            });
            branches = longer.collect();
        }
        branches.retain(|one| arm.bounds.hold(one));
        Some(branches)
    }

    /// Every split of a chain on every sequence of distinct nodes.
    fn ways(
        &self,
        arm: &ArmProblem,
        chain: &ChainProblem,
        nodes: usize,
    ) -> Option<Vec<Vec<Stage>>> {
        let count = chain.segments.len();
        let most = arm.parts.1.min(nodes);
        let (mut open, mut done) = (vec![Vec::<Stage>::new()], Vec::new());
        while let Some(stages) = open.pop() {
            let start = stages.last().map_or(0, |stage| stage.segments.end);
            if start == count {
                if (arm.parts.0..=arm.parts.1).contains(&stages.len()) {
                    done.push(stages);
                }
                if self.most < done.len() {
                    return None;
                }
                continue;
            }
            // The last piece that there may be takes all that is left.
            let is_last = stages.len() + 1 >= most;
            let first = if is_last { count } else { start + 1 };
            for end in (first..=count).filter(|_| stages.len() < most) {
                for node in (0..nodes).filter(|node| stages.iter().all(|one| one.node != *node)) {
                    let segments = start..end;
                    let mut longer = stages.clone();
                    longer.push(Stage { segments, node });
                    open.push(longer);
                }
            }
        }
        Some(done)
    }
}

/// Arm after arm in each of its places, and in none, as far as memory goes.
struct Search<'p> {
    problem: &'p Problem,
    choices: Vec<Vec<Vec<Vec<Stage>>>>,
    places: Places,
    best: (f64, Places),
}

impl Search<'_> {
    fn from(&mut self, number: usize, free: &[u64]) {
        let Some(arm) = self.problem.arms.get(number) else {
            let cost = worth(self.problem, &self.places).cost();
            if cost < self.best.0 {
                self.best = (cost, self.places.clone());
            }
            return;
        };
        for at in 0..self.choices[number].len() {
            let branches = self.choices[number][at].clone();
            let mut left = free.to_vec();
            if take(self.problem, arm, &branches, &mut left).is_some() {
                self.places[number] = Some(branches);
                self.from(number + 1, &left);
            }
        }
        self.places[number] = None;
        self.from(number + 1, free);
    }
}

impl Strategy for BruteForce {
    fn name(&self) -> &'static str {
        "brute-force"
    }

    fn solve(&self, problem: &Problem, _: u64) -> Solution {
        let nowhere = vec![None; problem.arms.len()];
        match self.best(problem) {
            Some((_, places)) => solution(problem, places, &|arm| {
                format!("{}: all arms together find no room", arm.name)
            }),
            None => solution(problem, nowhere, &|arm| {
                format!(
                    "{}: there may be more than {} placements, too many to try each",
                    arm.name, self.most
                )
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ArmKind, Bounds, NodeSpec, Outcome, SegmentSpec};

    /// One arm of as many equal segments, in up to as many pieces.
    fn problem(nodes: usize, segments: usize, parts: usize) -> Problem {
        let segment = SegmentSpec {
            weight_bytes: 1,
            activation_bytes: 0,
            service: vec![1.0; nodes],
        };
        Problem {
            nodes: vec![NodeSpec::of(100); nodes],
            links: vec![vec![(1e3, 0.0); nodes + 1]; nodes + 1],
            coding: vec![0.0; nodes + 1],
            arms: vec![ArmProblem {
                name: "a".into(),
                model: 0,
                kind: ArmKind::Chain,
                parts: (1, parts),
                chains: vec![ChainProblem {
                    segments: vec![segment; segments],
                    boundaries: vec![1.into(); segments + 1],
                }],
                arrival_rate: 0.0,
                arrival_scv: 1.0,
                bounds: Bounds::default(),
            }],
            overhead_bytes: 0,
            spread: 0.0,
            places: Problem::PLACES,
            loss_target: Problem::LOSS,
            beside: Vec::new(),
        }
    }

    /// Of k pieces there are C(segments - 1, k - 1) splits on nodes! / (nodes - k)! sequences of nodes.
    #[test]
    fn every_placement_is_counted_once() {
        for (nodes, segments, parts, count) in [
            (2, 8, 4, 2 + 14),
            (3, 8, 4, 3 + 42 + 126),
            (4, 4, 4, 136),
            (3, 1, 2, 3),
        ] {
            let problem = problem(nodes, segments, parts);
            let all = BruteForce::default().choices(&problem, &problem.arms[0]);
            let mut all = all.expect("they are few");
            assert_eq!(all.len(), count);
            all.sort_by_key(|one| format!("{one:?}"));
            all.dedup();
            assert_eq!(all.len(), count);
        }
    }

    #[test]
    fn too_many_are_refused_in_words() {
        let problem = problem(3, 8, 4);
        assert!(BruteForce { most: 172 }.best(&problem).is_some());
        for most in [171, 100, 1] {
            assert_eq!(BruteForce { most }.best(&problem), None);
            let solution = BruteForce { most }.solve(&problem, 0);
            let Outcome::Unplaced(why) = &solution.arms[0] else {
                panic!("{solution:?}");
            };
            assert!(
                why.contains(&format!("more than {most} placements")),
                "{why}"
            );
        }
    }
}
