//! What a whole solution is worth, all arms together on the nodes that they share, and how it can be
//! changed a little.
//!
//! Every node is one queue of all that runs on it before its cores ([`station`](crate::station)), so that two busy arms
//! on one node cost what they cost each other; arms of one model do not, for a request takes one of them. Links are
//! judged arm by arm. Still formulas: screening, not proof.

use std::collections::BTreeMap;

use rand::Rng;

use crate::{
    ArmKind, Beside, ChainProblem, Problem, Stage,
    problem::{ArmProblem, Outcome, Placed, Solution},
    station::{Busy, Offered},
    strategy::cost,
};

/// The stages of each arm's branches; `None` for an arm without a place.
pub type Places = Vec<Option<Vec<Vec<Stage>>>>;

/// What places are worth; less is better, in this order.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Worth {
    /// Arms without a place.
    pub unplaced: usize,
    /// Work beyond what nodes can do, in cores; 0 when all keep up.
    pub overload: f64,
    /// Expected seconds of a request, over all arms by their rates; of an idle system when all rates are 0.
    pub seconds: f64,
}

impl Worth {
    /// One number that orders as this does, as long as responses stay below an hour.
    #[must_use]
    pub fn cost(&self) -> f64 {
        const HOUR: f64 = 3600.0;
        self.unplaced as f64 * HOUR * HOUR + self.overload * HOUR + self.seconds.min(HOUR)
    }
}

/// By arm: its weight, which is its share of its model's rate, or of 1 where nothing comes for anybody.
pub(crate) fn weights(problem: &Problem) -> Vec<f64> {
    let is_idle = problem.arms.iter().all(|arm| arm.arrival_rate <= 0.0);
    let arms = problem.arms.iter().zip(problem.shares());
    arms.map(|(arm, share)| share * if is_idle { 1.0 } else { arm.arrival_rate })
        .collect()
}

/// Judges places. O(stages on a node²) for each node.
#[must_use]
pub fn worth(problem: &Problem, places: &Places) -> Worth {
    let mut works: Vec<BTreeMap<usize, Offered>> = vec![BTreeMap::new(); problem.nodes.len()];
    for (number, arm, branches) in placed(problem, places) {
        for (chain, stages) in arm.chains.iter().zip(branches) {
            for stage in stages {
                let offered = Offered::by(arm, service(chain, stage));
                *works[stage.node].entry(number).or_default() += offered;
            }
        }
    }
    // What an arm meets on a node: itself, a share of each arm of another model, and what is there besides.
    let shares = problem.shares();
    let busy = |number: usize, node: usize| -> Busy {
        let model = problem.arms[number].model;
        let mut all = problem.on_node_beside(model, node);
        for (other, offered) in &works[node] {
            if *other == number {
                all += *offered;
            } else if problem.arms[*other].model != model {
                all += offered.times(shares[*other]);
            }
        }
        problem.nodes[node].busy(all)
    };
    // A node that cannot keep up is judged by how far it is from it; its wait is that at 99.9 %.
    let overload = works.iter().enumerate().map(|(node, works)| {
        let each = works.keys().map(|number| busy(*number, node).overload);
        each.fold(0.0, f64::max)
    });
    let overload = overload.sum();
    let all_weights = weights(problem);
    let (mut total, mut weights) = (0.0, 0.0);
    for (number, arm, branches) in placed(problem, places) {
        let slowest = arm
            .chains
            .iter()
            .zip(branches)
            .map(|(chain, stages)| {
                let waits = stages.iter().map(|stage| busy(number, stage.node).wait);
                without_waits(problem, arm, chain, stages) + waits.sum::<f64>()
            })
            .fold(0.0, f64::max);
        total += all_weights[number] * slowest;
        weights += all_weights[number];
    }
    Worth {
        unplaced: places.iter().filter(|one| one.is_none()).count(),
        overload,
        seconds: if weights > 0.0 { total / weights } else { 0.0 },
    }
}

fn placed<'p>(
    problem: &'p Problem,
    places: &'p Places,
) -> impl Iterator<Item = (usize, &'p ArmProblem, &'p Vec<Vec<Stage>>)> {
    let pairs = problem.arms.iter().zip(places).enumerate();
    pairs.filter_map(|(number, (arm, place))| Some((number, arm, place.as_ref()?)))
}

pub(crate) fn service(chain: &ChainProblem, stage: &Stage) -> f64 {
    let segments = &chain.segments[stage.segments.clone()];
    segments.iter().map(|one| one.service[stage.node]).sum()
}

/// Seconds of one branch: links with what waits for them, nodes without.
pub(crate) fn without_waits(
    problem: &Problem,
    arm: &ArmProblem,
    chain: &ChainProblem,
    stages: &[Stage],
) -> f64 {
    let links = chain
        .legs(stages, problem.center())
        .map(|(from, to, crossing)| problem.carry(arm, from, to, crossing).seconds);
    let services = stages.iter().map(|stage| service(chain, stage));
    links.sum::<f64>() + services.sum::<f64>()
}

/// No places of all arms are worth less than this many seconds: every segment where it is cheapest on the
/// way, whatever else runs there and whether or not it fits. O(arms · segments · nodes²).
#[must_use]
pub fn lower_bound(problem: &Problem) -> f64 {
    let (mut total, mut weights) = (0.0, 0.0);
    for (arm, weight) in problem.arms.iter().zip(self::weights(problem)) {
        let chains = arm.chains.iter().map(|chain| shortest(problem, chain));
        total += weight * chains.fold(0.0, f64::max);
        weights += weight;
    }
    if weights > 0.0 { total / weights } else { 0.0 }
}

/// The shortest way of a chain, nodes visited as often as it likes (Viterbi).
fn shortest(problem: &Problem, chain: &ChainProblem) -> f64 {
    let (nodes, center) = (problem.nodes.len(), problem.center());
    let Some((first, rest)) = chain.segments.split_first() else {
        return 0.0;
    };
    let mut best: Vec<f64> = (0..nodes)
        .map(|n| problem.transfer(center, n, &chain.boundaries[0]) + first.service[n])
        .collect();
    for (segment, crossing) in rest.iter().zip(&chain.boundaries[1..]) {
        best = (0..nodes)
            .map(|to| {
                let ways = (0..nodes).map(|from| best[from] + problem.transfer(from, to, crossing));
                ways.fold(f64::INFINITY, f64::min) + segment.service[to]
            })
            .collect();
    }
    let back = chain.boundaries.last();
    let ends = best.iter().enumerate();
    ends.map(|(n, spent)| spent + back.map_or(0.0, |back| problem.transfer(n, center, back)))
        .fold(f64::INFINITY, f64::min)
}

/// Bytes free on each node beside these places; `None` when they do not fit.
#[must_use]
pub fn room(problem: &Problem, places: &Places) -> Option<Vec<u64>> {
    let mut free: Vec<u64> = problem.nodes.iter().map(|node| node.memory_bytes).collect();
    for (_, arm, branches) in placed(problem, places) {
        take(problem, arm, branches, &mut free)?;
    }
    Some(free)
}

/// Takes the memory of an arm off what is free.
pub(crate) fn take(
    problem: &Problem,
    arm: &ArmProblem,
    branches: &[Vec<Stage>],
    free: &mut [u64],
) -> Option<()> {
    for (chain, stages) in arm.chains.iter().zip(branches) {
        for stage in stages {
            let bytes = problem.memory(chain, stage.segments.clone());
            free[stage.node] = free[stage.node].checked_sub(bytes)?;
        }
    }
    Some(())
}

/// The problem with what each model's arms meet of the others' in these places.
pub(crate) fn met(problem: &Problem, places: &Places) -> Problem {
    let arms = placed(problem, places);
    let arms: Vec<_> = arms
        .map(|(_, arm, branches)| (arm, &branches[..]))
        .collect();
    let models = problem.arms.iter().map(|arm| arm.model + 1).max();
    let others = Beside::all(problem, models.unwrap_or(0), &arms);
    let mut met = problem.clone();
    met.meet(&others);
    met
}

/// Places as a solution; `why` is told of arms without one.
#[must_use]
pub fn solution(
    problem: &Problem,
    places: Places,
    why: &dyn Fn(&ArmProblem) -> String,
) -> Solution {
    let met = met(problem, &places);
    let pairs = problem.arms.iter().zip(places);
    let arms = pairs.map(|(arm, place)| match place {
        Some(branches) => {
            let (latency, bottleneck) = cost(&met, arm, &branches);
            if latency.is_finite() {
                Outcome::Placed(Placed {
                    branches,
                    latency,
                    bottleneck,
                })
            } else {
                Outcome::Unplaced(format!("{}: it could not keep up", arm.name))
            }
        }
        None => Outcome::Unplaced(why(arm)),
    });
    Solution {
        arms: arms.collect(),
    }
}

/// The places of a solution.
#[must_use]
pub fn places(solution: &Solution) -> Places {
    let arms = solution.arms.iter();
    arms.map(|outcome| match outcome {
        Outcome::Placed(placed) => Some(placed.branches.clone()),
        Outcome::Unplaced(_) => None,
    })
    .collect()
}

/// A number below `bound`.
pub(crate) fn below(rng: &mut dyn Rng, bound: usize) -> usize {
    let wide = u128::from(rng.next_u64()) * bound as u128;
    usize::try_from(wide >> 64).unwrap_or(0)
}

/// A number in `[0, 1)`.
pub(crate) fn unit(rng: &mut dyn Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Other branches of one drawn arm: a stage on another node, two stages of a chain exchanged, a border
/// moved, a stage cut in two or two made one. `None` where the draw gives nothing that is allowed; memory
/// is not looked at.
pub fn step(
    problem: &Problem,
    places: &Places,
    rng: &mut dyn Rng,
) -> Option<(usize, Vec<Vec<Stage>>)> {
    let arm = below(rng, problem.arms.len());
    let spec = &problem.arms[arm];
    let Some(old) = &places[arm] else {
        return Some((arm, anywhere(problem, spec, rng)?));
    };
    let new = moved(problem, spec, old, rng)?;
    spec.bounds.hold(&new).then_some((arm, new))
}

/// A little otherwise, whatever the bounds.
fn moved(
    problem: &Problem,
    spec: &ArmProblem,
    old: &[Vec<Stage>],
    rng: &mut dyn Rng,
) -> Option<Vec<Vec<Stage>>> {
    let mut new = old.to_vec();
    let branch = below(rng, new.len());
    let segments = spec.chains[branch].segments.len();
    let stages = &mut new[branch];
    let at = below(rng, stages.len());
    let node = below(rng, problem.nodes.len());
    let is_used = |stages: &[Stage], node: usize| stages.iter().any(|one| one.node == node);
    match (below(rng, 6), spec.kind) {
        (0..=2, _) | (_, ArmKind::Whole | ArmKind::Semantic) => {
            if let Some(other) = stages.iter().position(|one| one.node == node) {
                if other == at {
                    return None;
                }
                let here = stages[at].node;
                stages[other].node = here;
            }
            stages[at].node = node;
        }
        (3, _) => {
            let (left, right) = (stages.get(at)?.clone(), stages.get(at + 1)?.clone());
            let border =
                left.segments.start + 1 + below(rng, right.segments.end - left.segments.start - 1);
            stages[at].segments.end = border;
            stages[at + 1].segments.start = border;
        }
        (4, _) => {
            let one = stages[at].segments.clone();
            if one.len() < 2 || stages.len() >= spec.parts.1.min(segments) || is_used(stages, node)
            {
                return None;
            }
            let border = one.start + 1 + below(rng, one.len() - 1);
            stages[at].segments.end = border;
            let segments = border..one.end;
            stages.insert(at + 1, Stage { segments, node });
        }
        (_, _) => {
            if stages.len() <= spec.parts.0 || at + 1 == stages.len() {
                return None;
            }
            let gone = stages.remove(at + 1);
            stages[at].segments.end = gone.segments.end;
            if below(rng, 2) == 0 {
                stages[at].node = gone.node;
            }
        }
    }
    Some(new)
}

/// Random branches of an arm within its bounds; `None` when it needs more nodes or cuts than it may have.
pub(crate) fn anywhere(
    problem: &Problem,
    arm: &ArmProblem,
    rng: &mut dyn Rng,
) -> Option<Vec<Vec<Stage>>> {
    let mut branches = Vec::with_capacity(arm.chains.len());
    // Of a fan-out whose branches are to be apart, the nodes of those before.
    let mut taken: Vec<usize> = Vec::new();
    for (branch, chain) in arm.chains.iter().enumerate() {
        let count = chain.segments.len();
        let mut borders: Vec<usize> = (1..count).filter(|at| arm.bounds.may_cut(*at)).collect();
        let most = arm.parts.1.min(borders.len() + 1).min(problem.nodes.len());
        let parts = arm.parts.0 + below(rng, (most + 1).checked_sub(arm.parts.0)?.max(1));
        if most < parts {
            return None;
        }
        let mut nodes: Vec<usize> = (0..problem.nodes.len()).collect();
        shuffle(&mut borders, rng);
        shuffle(&mut nodes, rng);
        borders.truncate(parts - 1);
        borders.sort_unstable();
        borders.push(count);
        let number = |place: usize| if arm.chains.len() > 1 { branch } else { place };
        // A node that a later stage is pinned to is kept for it.
        let is_kept = |node: usize, place: usize| {
            let later = (0..parts).filter(|later| *later != place);
            let mut pins = later.filter_map(|later| arm.bounds.pins.get(&number(later)));
            arm.chains.len() == 1 && pins.any(|pin| *pin == node)
        };
        let mut stages: Vec<Stage> = Vec::with_capacity(parts);
        let mut start = 0;
        for (place, end) in borders.into_iter().enumerate() {
            let may = |node: &usize| {
                arm.bounds.allow(number(place), *node)
                    && !is_kept(*node, place)
                    && !taken.contains(node)
                    && stages.iter().all(|stage| stage.node != *node)
            };
            let node = nodes.iter().copied().find(may)?;
            let segments = start..end;
            stages.push(Stage { segments, node });
            start = end;
        }
        if arm.bounds.apart {
            taken.extend(stages.iter().map(|stage| stage.node));
        }
        branches.push(stages);
    }
    Some(branches)
}

pub(crate) fn shuffle<T>(all: &mut [T], rng: &mut dyn Rng) {
    for at in (1..all.len()).rev() {
        all.swap(at, below(rng, at + 1));
    }
}
