//! How long an arm would take now: its idle response, what waits before it, and a correction learnt
//! from how wrong the forecast was before.

use std::{collections::BTreeMap, time::Duration};

use splitplace_fleet::{Link, Links, NodeId, Place, Snapshot};
use splitplace_plan::{ArmPlan, Hop, Route};

/// Seconds of computing sent to each node and not yet known to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backlog {
    seconds: BTreeMap<NodeId, f64>,
}

impl Backlog {
    /// A route was sent on its way.
    pub fn add(&mut self, route: &Route, samples: u32) {
        for hop in &route.hops {
            let work = work(hop, samples);
            match self.seconds.get_mut(&hop.node) {
                Some(seconds) => *seconds += work,
                None => {
                    self.seconds.insert(hop.node.clone(), work);
                }
            }
        }
    }

    /// A route is done, or given up.
    pub fn remove(&mut self, route: &Route, samples: u32) {
        for hop in &route.hops {
            let work = work(hop, samples);
            if let Some(seconds) = self.seconds.get_mut(&hop.node) {
                // Rounding must not leave a node with less than nothing to do.
                *seconds = (*seconds - work).max(0.0);
            }
        }
    }

    /// A node is gone and everything on its way to it.
    pub fn forget(&mut self, node: &NodeId) {
        self.seconds.remove(node);
    }

    /// Seconds of work before `node`.
    #[must_use]
    pub fn seconds(&self, node: &NodeId) -> f64 {
        self.seconds.get(node).copied().unwrap_or(0.0)
    }
}

/// Expected seconds of computing that a hop means: behind an exit only a share of requests gets there.
fn work(hop: &Hop, samples: u32) -> f64 {
    (hop.service + hop.coding).as_secs_f64() * hop.reach * f64::from(samples)
}

/// Expected response of `samples` samples by `arm`: the slowest branch of the semantic fan-out.
///
/// For each route: transfers over its links, service on its nodes, and the wait at the node that has
/// most to do. Requests ahead on the same route drain through all stages at once, so only the busiest
/// stage delays a newcomer (a tandem of queues fed by one stream; reference: the bottleneck bound of
/// operational analysis). Branches that share a node add up there. What lies behind an exit counts with
/// the share of requests that get there; the way back is the same from every hop. Costs O(hops).
#[must_use]
pub fn response(arm: &ArmPlan, samples: u32, backlog: &Backlog, snapshot: &Snapshot) -> Duration {
    let mut shared: BTreeMap<&NodeId, f64> = BTreeMap::new();
    for hop in arm.branches.iter().flat_map(|route| &route.hops) {
        *shared.entry(&hop.node).or_default() += work(hop, samples);
    }
    let seconds = arm
        .branches
        .iter()
        .map(|route| route_seconds(route, samples, backlog, snapshot, &shared))
        .fold(0.0, f64::max);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

fn route_seconds(
    route: &Route,
    samples: u32,
    backlog: &Backlog,
    snapshot: &Snapshot,
    shared: &BTreeMap<&NodeId, f64>,
) -> f64 {
    let mut mine: BTreeMap<&NodeId, f64> = BTreeMap::new();
    for hop in &route.hops {
        *mine.entry(&hop.node).or_default() += work(hop, samples);
    }
    let mut from = Place::Center;
    let mut seconds = 0.0;
    let mut wait = 0.0_f64;
    for hop in &route.hops {
        let to = Place::from(&hop.node);
        if from != to {
            let seconds_in = transfer(&snapshot.links, &from, &to, hop.bytes_in, samples);
            seconds += hop.reach * seconds_in;
        }
        seconds += work(hop, samples);
        let cores = snapshot
            .nodes
            .get(&hop.node)
            .map_or(1, |node| node.cores.max(1));
        // Work of sibling branches on the same node delays this one by half on average.
        let siblings = (shared[&hop.node] - mine[&hop.node]).max(0.0) / 2.0;
        wait = wait.max((backlog.seconds(&hop.node) + siblings) / f64::from(cores));
        from = to;
    }
    seconds
        + wait
        + transfer(
            &snapshot.links,
            &from,
            &Place::Center,
            route.bytes_out,
            samples,
        )
}

fn transfer(links: &Links, from: &Place, to: &Place, bytes: u64, samples: u32) -> f64 {
    let link: Link = links.get(from, to);
    link.transfer(bytes.saturating_mul(u64::from(samples)))
        .as_secs_f64()
}

/// How much longer answers took than forecast, by arm, with forgetting.
///
/// A forecast from service times and links leaves out scheduling, copying and whatever else the
/// machine does; the ratio of observed to forecast is steady enough to take it back in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correction {
    ratio: f64,
    seen: u32,
}

impl Default for Correction {
    fn default() -> Self {
        Self {
            ratio: 1.0,
            seen: 0,
        }
    }
}

impl Correction {
    /// Weight of one observation once there are many; the first ones count as a plain mean.
    const WEIGHT: f64 = 0.05;
    /// An observation counts at most this factor up or down: one stall must not blind an arm.
    const LIMIT: f64 = 4.0;

    /// Takes in one answer.
    pub fn observe(&mut self, forecast: Duration, observed: Duration) {
        let forecast = forecast.as_secs_f64();
        if forecast <= 0.0 {
            return;
        }
        let ratio = (observed.as_secs_f64() / forecast).clamp(1.0 / Self::LIMIT, Self::LIMIT);
        self.seen = self.seen.saturating_add(1);
        let weight = Self::WEIGHT.max(1.0 / f64::from(self.seen));
        self.ratio += weight * (ratio - self.ratio);
    }

    /// The forecast as experience would have it.
    #[must_use]
    pub fn apply(&self, forecast: Duration) -> Duration {
        Duration::try_from_secs_f64(forecast.as_secs_f64() * self.ratio).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use splitplace_fleet::{Node, NodeState, Timestamp};
    use splitplace_plan::{ArmKind, FragmentId, Hop, RouteId};

    use super::*;

    fn hop(node: &str, service_ms: u64, bytes_in: u64) -> Hop {
        Hop {
            service: Duration::from_millis(service_ms),
            bytes_in,
            ..Hop::new(node.into(), FragmentId([0; 32]), 0..1)
        }
    }

    fn arm(branches: Vec<Vec<Hop>>) -> ArmPlan {
        let branches = (0..)
            .zip(branches)
            .map(|(id, hops)| Route {
                id: RouteId(id),
                hops,
                bytes_out: 0,
            })
            .collect();
        ArmPlan {
            name: "a".into(),
            variant: "a".into(),
            kind: ArmKind::Chain,
            accuracy: None,
            predicted: Duration::ZERO,
            branches,
        }
    }

    fn fleet(names: &[&str]) -> Snapshot {
        let mut snapshot = Snapshot::empty(Timestamp::ZERO);
        snapshot.links = Links::new(Link {
            rate_bytes_per_second: 1e6,
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
        });
        for &name in names {
            let node = Node {
                id: name.into(),
                state: NodeState::Alive,
                cores: 1,
                macs_per_second: 1e9,
                memory_bytes: 1 << 30,
                labels: BTreeMap::new(),
                emulated: false,
            };
            snapshot.nodes.insert(node.id.clone(), node);
        }
        snapshot
    }

    #[test]
    fn an_idle_chain_costs_its_links_and_its_services() {
        let arm = arm(vec![vec![hop("a", 10, 2000), hop("b", 20, 1000)]]);
        let response = response(&arm, 1, &Backlog::default(), &fleet(&["a", "b"]));
        // 1 + 2 ms to a, 10 there, 1 + 1 to b, 20 there, 1 back.
        assert_eq!(response.as_micros(), 36_000);
    }

    #[test]
    fn behind_an_exit_only_a_share_counts() {
        let mut arm = arm(vec![vec![
            hop("a", 10, 0),
            hop("a", 8, 500),
            hop("b", 20, 1000),
        ]]);
        arm.branches[0].hops[1].reach = 0.5;
        arm.branches[0].hops[2].reach = 0.25;
        let response = response(&arm, 1, &Backlog::default(), &fleet(&["a", "b"]));
        // 1 to a, 10 and half of 8 there (nothing crosses a link), a quarter of 2 + 20, 1 back.
        assert_eq!(response.as_micros(), 1000 + 10_000 + 4000 + 5500 + 1000);
    }

    #[test]
    fn only_the_busiest_stage_delays_a_newcomer() {
        let arm = arm(vec![vec![hop("a", 10, 0), hop("b", 20, 0)]]);
        let mut backlog = Backlog::default();
        backlog.add(&arm.branches[0], 1);
        backlog.add(&arm.branches[0], 1);
        let busy = response(&arm, 1, &backlog, &fleet(&["a", "b"]));
        assert_eq!(busy.as_millis(), 33 + 40);
        backlog.remove(&arm.branches[0], 1);
        backlog.remove(&arm.branches[0], 1);
        assert_eq!(backlog.seconds(&"b".into()), 0.0);
    }

    #[test]
    fn branches_run_side_by_side_unless_they_share_a_node() {
        let idle = Backlog::default();
        let apart = arm(vec![vec![hop("a", 10, 0)], vec![hop("b", 20, 0)]]);
        let together = arm(vec![vec![hop("a", 10, 0)], vec![hop("a", 20, 0)]]);
        let fleet = fleet(&["a", "b"]);
        assert_eq!(response(&apart, 1, &idle, &fleet).as_millis(), 22);
        assert!(response(&together, 1, &idle, &fleet).as_millis() > 22);
    }

    #[test]
    fn a_correction_converges_to_the_ratio_and_shrugs_off_one_stall() {
        let mut correction = Correction::default();
        for _ in 0..200 {
            correction.observe(Duration::from_millis(10), Duration::from_millis(13));
        }
        let corrected = correction.apply(Duration::from_millis(10)).as_secs_f64();
        assert!((corrected - 0.013).abs() < 1e-4);
        correction.observe(Duration::from_millis(10), Duration::from_secs(100));
        assert!(correction.apply(Duration::from_millis(10)) < Duration::from_millis(15));
    }
}
