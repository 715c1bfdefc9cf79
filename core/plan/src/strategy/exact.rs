//! The optimum, arm by arm.

mod fan_out;
mod line;

use std::{collections::BTreeMap, rc::Rc};

use self::line::Line;
use super::{
    Strategy, cost, lossiness,
    responses::{Turns, are_several_busy},
    slowest,
};
use crate::{
    ArmKind,
    joint::places,
    problem::{ArmProblem, Outcome, Placed, Problem, Solution, Stage},
};

/// Least expected latency under memory limits.
///
/// A chain of `k` fragments lies on `k` distinct nodes. For one chain the optimum is found by dynamic
/// programming over (nodes used, segments done, last node): latency is a sum over stages and links, so
/// the best way to reach a state is part of the best way through it. With N nodes, S segments and at
/// most K parts this costs O(C(N, ≤K) · S · N · (K + S)), some 10⁵ steps for 10 nodes, 8 segments and 4 parts;
/// what stages and links take is worked out once for an arm, O(N · S² + N² · S).
///
/// The branches of a semantic variant are assigned by exhaustive search with pruning (N^B); branches on
/// one node add up. Arms share memory, so the order in which they are placed matters: every order of up
/// to [`Exact::ORDERS`] arms is tried, and the one that places most arms, then with least total latency,
/// wins; ties go to the earlier order. Arms of a higher priority always come before those of a lower one. An arm
/// that finds the same room and the same nodes taken in another order is not placed anew.
///
/// Arms of one model are alternatives, and none waits for another. Where several models have something to do, each of
/// them is placed anew beside what the others do until nothing gets better: the optimum of each model given the
/// others, which need not be the best for all together.
///
/// [`Bounds`](crate::Bounds) only take steps away: the number of a stage is the number of nodes used
/// before it, which every state knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exact;

impl Exact {
    /// Most nodes considered for one arm.
    pub const NODES: usize = 10;
    /// Most arms whose orders are all tried; beyond, they are placed as they come.
    pub const ORDERS: usize = 5;
    /// Turns of every model at most, where several have something to do. Most settle within two.
    pub const TURNS: usize = 4;
}

impl Strategy for Exact {
    fn name(&self) -> &'static str {
        "exact"
    }

    fn solve(&self, problem: &Problem, _seed: u64) -> Solution {
        let every: Vec<usize> = (0..problem.arms.len()).collect();
        let alone = arm_by_arm(problem, &every, &Room::new(problem), Self::NODES);
        let alone = Solution { arms: alone };
        if !are_several_busy(problem) {
            return alone;
        }
        // From where each is best alone, and from an empty fleet that fills up.
        let mut turns = Turns::new(problem, places(&alone), Self::NODES);
        let judged = turns.judged();
        let best = turns.take(Self::TURNS, Some((judged, places(&alone))));
        let nowhere = vec![None; problem.arms.len()];
        let mut turns = Turns::new(problem, nowhere, Self::NODES);
        let best = turns.take(Self::TURNS, best);
        best.map_or(alone, |(_, places)| turns.solution(places))
    }
}

/// These arms in the order that places most of them best, in the room that there is: what became of each.
pub(super) fn arm_by_arm(
    problem: &Problem,
    arms: &[usize],
    room: &Room,
    most: usize,
) -> Vec<Outcome> {
    let mut planner = Planner::new(problem, most);
    let mut best: Option<(usize, f64, f64, BTreeMap<usize, Outcome>)> = None;
    for order in orders(problem, arms) {
        let found = planner.in_order(room, &order);
        let placed = found.iter().flatten();
        let (count, excess, total) = placed.fold((0, 0.0, 0.0), |(count, excess, total), one| {
            (count + 1, excess + one.excess, total + one.placed.latency)
        });
        let is_better = best.as_ref().is_none_or(|(most, lost, least, _)| {
            let is_equal = count == *most && (excess - lost).abs() <= 1e-9;
            count > *most
                || (count == *most && excess < lost - 1e-9)
                || (is_equal && total < least * (1.0 - 1e-9))
        });
        if is_better {
            best = Some((count, excess, total, planner.told(room, &order, &found)));
        }
    }
    let mut outcomes = best.map_or_else(BTreeMap::new, |(_, _, _, outcomes)| outcomes);
    let told = arms.iter().filter_map(|arm| outcomes.remove(arm));
    told.collect()
}

/// Every order of the arms in which priorities never rise, the natural one first; only that one when
/// there are too many.
fn orders(problem: &Problem, arms: &[usize]) -> Vec<Vec<usize>> {
    let count = arms.len();
    let priority = |arm: &usize| problem.arms[*arm].bounds.priority;
    if Exact::ORDERS < count {
        let mut natural = arms.to_vec();
        natural.sort_by_key(|arm| std::cmp::Reverse(priority(arm)));
        return vec![natural];
    }
    let mut all = vec![Vec::new()];
    for _ in 0..count {
        all = all
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                arms.iter()
                    .copied()
                    .filter(|next| {
                        let last = order.last().map(priority);
                        !order.contains(next) && last.is_none_or(|last| priority(next) <= last)
                    })
                    .map(|next| {
                        let mut longer = order.clone();
                        longer.push(next);
                        longer
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    // An order that began too low cannot be completed.
    all.retain(|order| order.len() == count);
    all
}

/// A placed arm, with the loss beyond what it may lose.
#[derive(Debug)]
struct Found {
    placed: Placed,
    excess: f64,
}

/// An arm, the room on each node, and the nodes that other arms use already where that matters.
type Case = (usize, Vec<u64>, Vec<bool>);

/// What is known of arms while orders are tried.
struct Planner<'a> {
    problem: &'a Problem,
    /// Nodes looked at for one arm.
    most: usize,
    /// By arm: bytes of all of it; more room than that is no other room.
    wholes: Vec<u64>,
    /// By arm and candidates.
    lines: BTreeMap<(usize, Vec<usize>), Line>,
    known: BTreeMap<Case, Option<Rc<Found>>>,
}

impl<'a> Planner<'a> {
    fn new(problem: &'a Problem, most: usize) -> Self {
        Self {
            problem,
            most,
            wholes: problem.arms.iter().map(|arm| whole(problem, arm)).collect(),
            lines: BTreeMap::new(),
            known: BTreeMap::new(),
        }
    }

    /// One arm after the other, by number; `None` for those without a place.
    fn in_order(&mut self, room: &Room, order: &[usize]) -> Vec<Option<Rc<Found>>> {
        let problem = self.problem;
        let mut room = room.clone();
        let mut found = vec![None; problem.arms.len()];
        for &index in order {
            let whole = self.wholes[index];
            let free = room.free.iter().map(|&free| free.min(whole)).collect();
            let used = if problem.spread > 0.0 {
                room.used.clone()
            } else {
                Vec::new()
            };
            let key: Case = (index, free, used);
            let one = match self.known.get(&key) {
                Some(one) => one.clone(),
                None => {
                    let one = self.place(index, &room).map(Rc::new);
                    self.known.insert(key, one.clone());
                    one
                }
            };
            if let Some(one) = &one {
                room.take(problem, &problem.arms[index], &one.placed.branches);
            }
            found[index] = one;
        }
        found
    }

    /// The same in words: with what is missing for those without a place.
    fn told(
        &self,
        room: &Room,
        order: &[usize],
        found: &[Option<Rc<Found>>],
    ) -> BTreeMap<usize, Outcome> {
        let problem = self.problem;
        let mut room = room.clone();
        let mut outcomes = BTreeMap::new();
        for &index in order {
            let arm = &problem.arms[index];
            let outcome = match &found[index] {
                Some(one) => {
                    room.take(problem, arm, &one.placed.branches);
                    Outcome::Placed(one.placed.clone())
                }
                None => Outcome::Unplaced(why_not(problem, arm, &room.free)),
            };
            outcomes.insert(index, outcome);
        }
        outcomes
    }

    fn place(&mut self, index: usize, room: &Room) -> Option<Found> {
        let problem = self.problem;
        let arm = &problem.arms[index];
        let nodes = candidates(problem, arm, &room.free, self.most);
        let factor = |node: usize| {
            if room.used[node] {
                1.0 + problem.spread
            } else {
                1.0
            }
        };
        let branches = match (&arm.kind, arm.chains.as_slice()) {
            (ArmKind::Semantic, _) => quickest(problem, arm, &factor, &|price| {
                fan_out::best(problem, arm, &nodes, (&room.free, &factor), price)
            }),
            (_, [chain]) => {
                let new = || Line::new(problem, arm, chain, nodes.clone());
                let key = (index, nodes.clone());
                let line = self.lines.entry(key).or_insert_with(new);
                quickest(problem, arm, &factor, &|price| {
                    let one = line.best(problem, chain, (&room.free, &room.used), price);
                    one.map(|one| vec![one])
                })
            }
            (_, _) => None,
        }?;
        let (latency, bottleneck) = cost(problem, arm, &branches);
        Some(Found {
            excess: excess(problem, arm, &branches),
            placed: Placed {
                branches,
                latency,
                bottleneck,
            },
        })
    }
}

/// What an arm loses beyond what it may.
pub(super) fn excess(problem: &Problem, arm: &ArmProblem, branches: &[Vec<Stage>]) -> f64 {
    (problem.loss(arm, branches) - problem.may_lose(arm)).max(0.0)
}

/// What arms have left over.
#[derive(Clone)]
pub(super) struct Room {
    /// Bytes by node.
    pub(super) free: Vec<u64>,
    /// By node: whether an arm uses it.
    used: Vec<bool>,
}

impl Room {
    pub(super) fn new(problem: &Problem) -> Self {
        Self {
            free: problem.nodes.iter().map(|node| node.memory_bytes).collect(),
            used: vec![false; problem.nodes.len()],
        }
    }

    pub(super) fn take(&mut self, problem: &Problem, arm: &ArmProblem, branches: &[Vec<Stage>]) {
        for (chain, stages) in arm.chains.iter().zip(branches) {
            for stage in stages {
                self.free[stage.node] -= problem.memory(chain, stage.segments.clone());
                self.used[stage.node] = true;
            }
        }
    }
}

/// Seconds that a loss of everything is worth to whom it is worth most.
const DEAREST: f64 = 1e9;
/// Prices tried between nothing and that at most; a few are enough, for each is where two places are worth the same.
const PRICES: usize = 12;

/// Light and heavy load as one objective: the quickest places that lose no more than is allowed, and where there are
/// none those that lose least. `find` gives the best places for a price of losses, in seconds for each `-ln(1 - loss)`;
/// the price is the multiplier of the bound, so what lies inside the convex hull of (seconds, loss) is not found; of the
/// hull's corners that keep the bound the quickest is. One solution where load is light, two where nothing keeps up,
/// some more between: the next price is the one at which the quickest that loses too much and the best that does not are
/// worth the same, until nothing is better there (LARAC: Jüttner et al., "Lagrange relaxation based method for the QoS
/// routing problem", INFOCOM 2001).
fn quickest(
    problem: &Problem,
    arm: &ArmProblem,
    factor: &dyn Fn(usize) -> f64,
    find: &dyn Fn(f64) -> Option<Vec<Vec<Stage>>>,
) -> Option<Vec<Vec<Stage>>> {
    let keeps = |branches: &[Vec<Stage>]| problem.loss(arm, branches) <= problem.may_lose(arm);
    let seen = |branches: &[Vec<Stage>]| {
        let seconds = slowest(problem, arm, branches, factor);
        (seconds, lossiness(problem, arm, branches))
    };
    let quickest = find(0.0)?;
    if keeps(&quickest) {
        return Some(quickest);
    }
    let mut best = find(DEAREST)?;
    if !keeps(&best) {
        return Some(best);
    }
    let (mut low, mut high) = (seen(&quickest), seen(&best));
    for _ in 0..PRICES {
        let price = (high.0 - low.0) / (low.1 - high.1);
        if !(price > 0.0 && price < DEAREST) {
            break;
        }
        let Some(found) = find(price) else { break };
        let between = seen(&found);
        let worth = |one: (f64, f64)| one.0 + price * one.1;
        if worth(between) >= worth(high) * (1.0 - 1e-12) {
            break;
        }
        if keeps(&found) {
            (best, high) = (found, between);
        } else {
            low = between;
        }
    }
    Some(best)
}

/// The nodes worth considering: all of them, or those on which the arm's segments would be done first
/// among those that can hold at least one.
fn candidates(problem: &Problem, arm: &ArmProblem, free: &[u64], most: usize) -> Vec<usize> {
    let is_pinned = |node: usize| arm.bounds.pins.values().any(|pin| *pin == node);
    let fits = |node: usize| {
        let allowed = arm.bounds.nodes.as_ref();
        if allowed.is_some_and(|allowed| !allowed.contains(&node)) {
            return false;
        }
        arm.chains.iter().any(|chain| {
            (0..chain.segments.len()).any(|k| problem.memory(chain, k..k + 1) <= free[node])
        })
    };
    let mut nodes: Vec<usize> = (0..problem.nodes.len())
        .filter(|&node| fits(node))
        .collect();
    if most < nodes.len() {
        // A piece of the arm there, beside what else runs there.
        let pieces = f64::from(u32::try_from(arm.parts.1.max(1)).unwrap_or(u32::MAX));
        let seconds = |node: usize| -> f64 {
            let work: f64 = arm
                .chains
                .iter()
                .flat_map(|chain| &chain.segments)
                .map(|s| s.service[node])
                .sum();
            let piece = problem.sojourn(arm, node, work / pieces);
            let entry = problem.transfer(problem.center(), node, &arm.chains[0].boundaries[0]);
            piece.seconds * pieces + entry
        };
        let seconds: BTreeMap<usize, f64> =
            nodes.iter().map(|&node| (node, seconds(node))).collect();
        nodes.sort_by(|&a, &b| {
            let pinned_first = is_pinned(b).cmp(&is_pinned(a));
            pinned_first
                .then(seconds[&a].total_cmp(&seconds[&b]))
                .then(a.cmp(&b))
        });
        nodes.truncate(most);
        nodes.sort_unstable();
    }
    nodes
}

/// Bytes of all of an arm.
fn whole(problem: &Problem, arm: &ArmProblem) -> u64 {
    let chains = arm.chains.iter();
    let bytes = chains.map(|chain| problem.memory(chain, 0..chain.segments.len()));
    bytes.fold(0, u64::saturating_add)
}

/// Why an arm has no place, with the numbers.
pub(super) fn why_not(problem: &Problem, arm: &ArmProblem, free: &[u64]) -> String {
    let whole = whole(problem, arm);
    let (fewest, most) = arm.parts;
    let shape = match arm.kind {
        ArmKind::Whole => "in one piece".to_owned(),
        ArmKind::Chain | ArmKind::Exits | ArmKind::Compressed => {
            format!("in {fewest} to {most} pieces on distinct nodes")
        }
        ArmKind::Semantic => format!("in {} branches", arm.chains.len()),
    };
    let may = |node: &usize| {
        let nodes = arm.bounds.nodes.as_ref();
        nodes.is_none_or(|nodes| nodes.contains(node))
    };
    let free: Vec<u64> = (0..free.len()).filter(may).map(|n| free[n]).collect();
    let largest = free.iter().copied().max().unwrap_or(0);
    let bound = if arm.bounds.pins.is_empty() && !arm.bounds.apart {
        ""
    } else {
        ", where it is pinned or spread to"
    };
    format!(
        "{} needs {:.1} MB {shape}{bound}; {} nodes have room, the largest {:.1} MB, together {:.1} MB",
        arm.name,
        megabytes(whole),
        free.iter().filter(|&&bytes| 0 < bytes).count(),
        megabytes(largest),
        megabytes(free.iter().fold(0, |n, &b| n.saturating_add(b))),
    )
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests;
