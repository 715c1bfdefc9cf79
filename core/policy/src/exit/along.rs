//! The exits along a route: which of its nodes hold some, and what the times mean that they report.

use splitplace_fleet::NodeId;
use splitplace_plan::Route;

use super::{
    ada_ee,
    govern::{Assumed, Governor},
};

/// What one node holds of the exits.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Which.
    pub node: NodeId,
    /// Exits there; the network's end is none of them.
    pub exits: usize,
    /// The times between them as planned, and what the node serves at once.
    pub assumed: Assumed,
}

/// What one stage took since the last report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Took {
    /// Runs.
    pub count: u64,
    /// Mean seconds.
    pub mean: f64,
    /// Variance, in seconds².
    pub variance: f64,
}

/// The nodes of a route that hold exits or the network's end, in order, with the times between them as planned.
/// `threads` says how many requests a node serves at once.
pub fn held(route: &Route, threads: impl Fn(&NodeId) -> u32) -> Vec<Held> {
    let mut all: Vec<Held> = Vec::new();
    let mut since = 0.0;
    for (place, hop) in route.hops.iter().enumerate() {
        if all.last().is_none_or(|held| held.node != hop.node) {
            since = 0.0;
            all.push(Held {
                node: hop.node.clone(),
                exits: 0,
                assumed: Assumed {
                    stages: Vec::new(),
                    servers: threads(&hop.node),
                },
            });
        }
        let Some(held) = all.last_mut() else { continue };
        since += (hop.service + hop.coding).as_secs_f64();
        for _ in &hop.exits {
            held.exits += 1;
            held.assumed.stages.push(std::mem::take(&mut since));
        }
        if place + 1 == route.hops.len() {
            held.assumed.stages.push(since);
        }
    }
    all.retain(|held| !held.assumed.stages.is_empty());
    all
}

/// By exit: the share of the time from the first exit to the last that is spent, as planned.
#[must_use]
pub fn spent(nodes: &[Held]) -> Vec<f64> {
    let mut all = 0.0;
    let times = nodes.iter().flat_map(|held| &held.assumed.stages);
    let to: Vec<f64> = times
        .map(|stage| {
            all += stage;
            all
        })
        .collect();
    ada_ee::shares(&to)
}

impl Held {
    /// Tells a governor what the stages of its `place`-th node took: up to each exit, and behind the last one.
    pub fn tell(&self, governor: &mut Governor, place: usize, stages: &[Took]) {
        let stage = |number: usize| stages.get(number).filter(|stage| stage.count > 0);
        let is_end = self.assumed.stages.len() > self.exits;
        // What follows the last exit here belongs to it where another node goes on.
        let behind = stage(self.exits).filter(|_| !is_end);
        for number in 0..self.assumed.stages.len() {
            let Some(time) = stage(number) else { continue };
            let last = number + 1 == self.exits;
            let more = behind.filter(|_| last).map_or(0.0, |stage| stage.mean);
            governor.took(place, number, time.count, time.mean + more, time.variance);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use splitplace_plan::{ExitRule, FragmentId, Hop, RouteId};

    use super::*;

    fn hop(node: &str, millis: u64, exits: u32) -> Hop {
        let exit = |number| ExitRule {
            number,
            name: format!("exit{number}"),
            output: format!("exit{number}"),
            threshold: 0.9,
        };
        Hop {
            service: Duration::from_millis(millis),
            exits: (0..exits).map(exit).collect(),
            ..Hop::new(NodeId::new(node), FragmentId([0; 32]), 0..1)
        }
    }

    #[test]
    fn stages_lie_between_exits_and_nodes_without_any_are_no_stations() {
        let route = Route {
            id: RouteId(1),
            hops: vec![
                hop("door", 1, 0),
                hop("a", 2, 1),
                hop("a", 3, 1),
                hop("b", 4, 0),
                hop("b", 5, 1),
                hop("b", 6, 0),
            ],
            bytes_out: 0,
        };
        let held = held(&route, |_| 2);
        let stages: Vec<_> = held
            .iter()
            .map(|held| (held.node.as_str(), held.exits, held.assumed.stages.clone()))
            .collect();
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        assert_eq!(stages.len(), 2);
        assert_eq!((stages[0].0, stages[0].1), ("a", 2));
        assert!(close(&stages[0].2, &[0.002, 0.003]));
        assert_eq!((stages[1].0, stages[1].1), ("b", 1));
        assert!(close(&stages[1].2, &[0.009, 0.006]));
        assert_eq!(held[0].assumed.servers, 2);
    }
}
