//! What plans were made from has moved: links, by frames and probes, what fragments take on nodes, and load. Then a plan
//! is made anew.
//!
//! Links are compared with what the last plan was made from, so what a plan has taken in moves nothing any more. Between
//! two plans for drift alone there is a pause ([`Pauses`]). Whether arms move then is the planner's decision, which asks for more than a
//! little gain: both together keep a fleet from moving to and fro.

use std::{collections::BTreeMap, time::Duration};

use splitplace_fleet::{Links, NodeId, NodeState, Place};
use splitplace_link::{LinkShape, probe};
use splitplace_plan::{ArmPlan, FragmentId, ModelName, Route};
use splitplace_proto::control::{self, ProbeSeen, center_message};
use tokio::time::Instant;

use super::{super::demand::Seen, Control, pauses::Pauses};
use crate::{adoption, measured, planning::Load};

/// By how much, as a share of a node's time, what a load means for the busiest node has to change.
const LOAD_STEP: f64 = 0.15;
/// Share of a node's time below which load is nobody's concern.
const LOAD_FLOOR: f64 = 0.3;
/// By what factor a node has to take longer, or less long, than when it was planned for.
const SERVICE_STEP: f64 = 1.3;
/// Runs for requests that a fragment needs before it counts for that: the first are as slow as a cold cache.
const SERVICE_RUNS: f64 = 40.0;
/// Share of a response that inputs of another size have to make on some link from the centre.
const INPUT_STEP: f64 = 0.1;
/// What is planned for beyond the load that is seen: it is a mean, and the plan has to last.
const HEADROOM: f64 = 1.2;
/// Gaps that have to be seen for what they say to count as much as that they are those of Poisson arrivals.
const POISSON_GAPS: f64 = 10.0;
/// Squared coefficients of variation between which gaps may be those of Poisson arrivals.
const CLEARLY: (f64, f64) = (0.5, 2.0);
/// The most that is planned for of what bursts lengthen waiting by.
const BURSTS: f64 = 4.0;
/// The quantile of frames' times by which plans are made.
pub(super) const QUANTILE: f64 = 0.5;

/// What the last plan was made from, and when the next may be made for drift alone.
#[derive(Debug)]
pub(super) struct Drift {
    links: Links,
    rates: BTreeMap<ModelName, f64>,
    /// Bytes of a sample, as clients sent it.
    inputs: BTreeMap<ModelName, f64>,
    /// Seconds that fragments took on their nodes.
    services: BTreeMap<(NodeId, FragmentId), f64>,
    /// Links as requests are routed by them.
    observed: Links,
    pauses: Pauses,
    /// Whether the plan under way is made for drift alone.
    is_alone: bool,
}

impl Drift {
    /// Nothing planned yet.
    pub(super) fn new(links: Links, shortest: Duration) -> Self {
        Self {
            observed: links.clone(),
            links,
            rates: BTreeMap::new(),
            inputs: BTreeMap::new(),
            services: BTreeMap::new(),
            pauses: Pauses::new(shortest, Instant::now()),
            is_alone: false,
        }
    }
}

impl Control {
    /// Sends probes, and plans anew if what the last plan was made from has moved.
    pub(super) fn drift(&mut self) {
        self.send_probes();
        let links = self.inner.roads.lock().links(QUANTILE);
        if links != self.drift.observed {
            self.drift.observed = links;
            self.inner.observe(self.snapshot(true));
            self.show();
        }
        let is_idle = !self.is_rolling && self.due.is_none() && !self.plan.models.is_empty();
        if self.drift.pauses.shortest().is_zero() || !is_idle {
            return;
        }
        let mut moved = self.inner.roads.lock().moved(&self.drift.links);
        moved.retain(|link| {
            [&link.from, &link.to]
                .into_iter()
                .all(|end| self.is_there(end))
        });
        let mut causes: Vec<String> = moved.iter().map(measured::told).collect();
        let is_link = !causes.is_empty();
        causes.extend(self.services_moved());
        causes.extend(self.loads_moved());
        causes.extend(self.inputs_moved());
        if causes.is_empty() || !self.drift.pauses.is_over(Instant::now(), is_link) {
            return;
        }
        for cause in causes {
            self.because(cause);
        }
        self.drift.is_alone = true;
        self.plan_within(Duration::ZERO);
    }

    fn is_there(&self, place: &Place) -> bool {
        match place {
            Place::Center => true,
            Place::Node(node) => self
                .nodes
                .get(node)
                .is_some_and(|known| known.node.state == NodeState::Alive),
        }
    }

    /// Notes what the plan under way is made from.
    pub(super) fn drift_begins(&mut self, links: Links) {
        self.drift.links = links;
        self.drift.rates = self.seen_rates();
        self.drift.inputs = self.seen_inputs();
        let hops = self.plan.routes().flat_map(|route| &route.hops);
        let seen = hops.filter_map(|hop| {
            let (seconds, _) = self.measured.service(hop.fragment, &hop.node)?;
            Some(((hop.node.clone(), hop.fragment), seconds))
        });
        self.drift.services = seen.collect();
    }

    /// Notes what came of a plan.
    pub(super) fn drift_ended(&mut self, has_moved: bool) {
        let drift = &mut self.drift;
        let is_alone = std::mem::take(&mut drift.is_alone);
        drift.pauses.ended(Instant::now(), has_moved, is_alone);
    }

    /// Something of what is seen of each model.
    fn seen<T>(&self, of: impl Fn(&Seen) -> T) -> BTreeMap<ModelName, T> {
        let models = self.inner.models.read();
        let now = self.inner.clock.now();
        let seen = models.iter().filter_map(|(name, served)| {
            let seen = served.demand.lock().seen(now)?;
            Some((name.clone(), of(&seen)))
        });
        seen.collect()
    }

    /// Requests a second that are seen of each model.
    fn seen_rates(&self) -> BTreeMap<ModelName, f64> {
        self.seen(Seen::sample_rate)
    }

    /// Bytes of a sample of each model, as clients send it.
    fn seen_inputs(&self) -> BTreeMap<ModelName, f64> {
        self.seen(|seen| seen.bytes)
    }

    /// Loads to plan for: an operator's word as it is, else what is seen where it is enough to matter.
    pub(super) fn loads(&self) -> BTreeMap<ModelName, Load> {
        let mut loads = BTreeMap::new();
        if self.inner.config.planning.follow_load {
            for (model, load) in self.seen(planned_for) {
                if LOAD_FLOOR < load.rate_per_second * self.busiest(&model) {
                    loads.insert(model, load);
                }
            }
        }
        let told = self.orders.rates().into_iter();
        loads.extend(told.map(|(model, rate)| (model, Load::of(rate))));
        loads
    }

    /// Seconds that the busiest node or link of a model's lightest arm works for one request.
    fn busiest(&self, model: &ModelName) -> f64 {
        let carried = |arm: &ArmPlan| {
            let legs = arm.branches.iter().flat_map(Route::legs);
            let seconds = legs.map(|(from, to, bytes, reach)| {
                #[expect(clippy::cast_precision_loss, reason = "bytes of a tensor")]
                let bytes = bytes as f64;
                reach * bytes / self.drift.observed.get(&from, &to).rate_bytes_per_second
            });
            seconds.fold(0.0, f64::max)
        };
        let busiest = |arm: &ArmPlan| {
            let mut work: BTreeMap<&NodeId, f64> = BTreeMap::new();
            for hop in arm.branches.iter().flat_map(|route| &route.hops) {
                let cores = self
                    .nodes
                    .get(&hop.node)
                    .map_or(1, |known| known.node.cores);
                let seconds = (hop.service + hop.coding).as_secs_f64() * hop.reach;
                *work.entry(&hop.node).or_default() += seconds / f64::from(cores.max(1));
            }
            work.into_values().fold(carried(arm), f64::max)
        };
        let arms = self.plan.models.get(model).map_or(&[][..], |m| &m.arms);
        let least = arms.iter().map(busiest).min_by(f64::total_cmp);
        least.unwrap_or(0.0)
    }

    /// The nodes that are not as fast any more as when they were planned for, or faster, in words.
    fn services_moved(&self) -> Vec<String> {
        let hops = self.plan.routes().flat_map(|route| &route.hops);
        let hops = hops.filter(|hop| SERVICE_RUNS <= self.measured.served(hop.fragment, &hop.node));
        let moved = hops.filter_map(|hop| {
            let (now, _) = self.measured.service(hop.fragment, &hop.node)?;
            let key = (hop.node.clone(), hop.fragment);
            // What came with the plan under way was expected to take what the plan says.
            let before = self.drift.services.get(&key);
            let before = before.copied().unwrap_or(hop.service.as_secs_f64());
            Some((&hop.node, before, now))
        });
        slowed(moved)
    }

    /// The loads that are not any more what the last plan was made for, in words.
    fn loads_moved(&self) -> Vec<String> {
        if !self.inner.config.planning.follow_load {
            return Vec::new();
        }
        let seen = self.seen_rates();
        let models = self.plan.models.keys();
        let moved = models.filter_map(|model| {
            let now = seen.get(model).copied().unwrap_or(0.0);
            let before = self.drift.rates.get(model).copied().unwrap_or(0.0);
            let work = self.busiest(model);
            let is_heavy = LOAD_FLOOR < now.max(before) * work;
            let is_moved = LOAD_STEP < (now - before).abs() * work;
            (is_heavy && is_moved && !self.orders.rates().contains_key(model)).then(|| {
                format!("{model} is asked for {now:.1} times a second instead of {before:.1}")
            })
        });
        moved.collect()
    }

    /// The models whose inputs come in another form than they were planned for, in words: the time that this makes on
    /// the way to some node, whether it is used now or not, has to be a part of the response worth a plan.
    fn inputs_moved(&self) -> Vec<String> {
        let seen = self.seen_inputs();
        let alive = self
            .nodes
            .values()
            .filter(|known| known.node.state == NodeState::Alive);
        let rates = alive.map(|known| {
            let link = self
                .drift
                .links
                .get(&Place::Center, &Place::from(&known.node.id));
            link.rate_bytes_per_second
        });
        let slowest = rates.fold(f64::INFINITY, f64::min);
        let models = self.plan.models.iter();
        let moved = models.filter_map(|(model, plan)| {
            let now = *seen.get(model)?;
            let soonest = plan.arms.iter().min_by_key(|arm| arm.predicted)?;
            #[expect(clippy::cast_precision_loss, reason = "bytes of a sample")]
            let planned = soonest.branches.first()?.hops.first()?.bytes_in as f64;
            let before = self.drift.inputs.get(model).copied().unwrap_or(planned);
            let seconds = (now - before).abs() / slowest;
            (INPUT_STEP * soonest.predicted.as_secs_f64() < seconds)
                .then(|| format!("inputs of {model} come as {now:.0} bytes instead of {before:.0}"))
        });
        moved.collect()
    }

    /// Has probes sent over links that nobody uses.
    fn send_probes(&mut self) {
        let alive = self
            .nodes
            .values()
            .filter(|known| known.node.state == NodeState::Alive);
        let mut places: Vec<Place> = alive.map(|known| Place::from(&known.node.id)).collect();
        places.push(Place::Center);
        let pairs: Vec<(Place, Place)> = if places.len() <= adoption::MESHED + 1 {
            let of = |from: &Place| {
                let others = places.iter().filter(move |to| *to != from);
                others
                    .map(|to| (from.clone(), to.clone()))
                    .collect::<Vec<_>>()
            };
            places.iter().flat_map(of).collect()
        } else {
            self.used_links()
        };
        let now = self.inner.clock.now();
        let due = self.inner.roads.lock().probes(now, pairs);
        let mut asked: BTreeMap<NodeId, Vec<control::Probe>> = BTreeMap::new();
        for one in due {
            match (one.from, one.to) {
                (Place::Center, Place::Node(node)) => {
                    if let Some(outlet) = self.inner.outlets.read().get(&node) {
                        // One that cannot leave measures nothing.
                        let _ = outlet.send(probe::frame(one.bytes));
                    }
                }
                (Place::Node(from), to) => {
                    let peer = match to {
                        Place::Center => String::new(),
                        Place::Node(node) => node.to_string(),
                    };
                    let bytes = one.bytes;
                    asked
                        .entry(from)
                        .or_default()
                        .push(control::Probe { peer, bytes });
                }
                (Place::Center, Place::Center) => {}
            }
        }
        for (node, probes) in asked {
            let probes = center_message::Kind::Probes(control::Probes { probes });
            let _ = self.inner.sessions.send(&node, probes);
        }
    }

    /// The links between the places of the plan in force.
    fn used_links(&self) -> Vec<(Place, Place)> {
        let legs = self.plan.routes().flat_map(Route::legs);
        let mut used: Vec<_> = legs.map(|(from, to, ..)| (from, to)).collect();
        used.sort();
        used.dedup();
        used
    }

    /// Takes in what probes took that came to a node.
    pub(super) fn probed(&self, node: &NodeId, seen: &[ProbeSeen]) {
        let now = self.inner.clock.now();
        let offset = |node: &str| self.inner.sessions.clock_offset_us(node);
        let to = Place::from(node);
        let mut roads = self.inner.roads.lock();
        for one in seen {
            let from = match &one.from[..] {
                "" => Place::Center,
                name if self.nodes.contains_key(name) => Place::Node(NodeId::new(name)),
                _ => continue,
            };
            let ahead = if one.from.is_empty() {
                0
            } else {
                offset(&one.from)
            };
            let took = one.transfer_us - (offset(node.as_str()) - ahead);
            #[expect(clippy::cast_precision_loss, reason = "a probe is small and short")]
            let (bytes, seconds) = (one.bytes as f64, took as f64 * 1e-6);
            roads.observe(now, (&from, &to), bytes, seconds);
        }
    }
}

/// What is planned for by what is seen. Poisson arrivals, unless the gaps between requests clearly vary otherwise: less by
/// far where a client asks again once it was answered, more where requests come in bursts. What is regular needs less
/// headroom, for nothing is to be feared from chance. Samples of one request come together, however even requests are.
fn planned_for(seen: &Seen) -> Load {
    let weight = seen.gaps + POISSON_GAPS;
    let scv = (seen.gaps * seen.gaps_scv + POISSON_GAPS) / weight;
    let clear = if scv < 1.0 {
        (scv / CLEARLY.0).min(1.0)
    } else {
        (scv / CLEARLY.1).clamp(1.0, BURSTS)
    };
    let gaps_scv = if seen.samples > 1.5 {
        clear.max(1.0)
    } else {
        clear
    };
    Load {
        rate_per_second: seen.sample_rate(),
        headroom: 1.0 + (HEADROOM - 1.0) * gaps_scv.min(1.0),
        gaps_scv,
    }
}

/// Of fragments' nodes with what these took before and take now: the nodes on which all of them together take another
/// time by [`SERVICE_STEP`], in words.
fn slowed<'a>(fragments: impl Iterator<Item = (&'a NodeId, f64, f64)>) -> Vec<String> {
    let mut sums: BTreeMap<&NodeId, (f64, f64)> = BTreeMap::new();
    for (node, before, now) in fragments {
        let sum = sums.entry(node).or_default();
        *sum = (sum.0 + before, sum.1 + now);
    }
    let told = sums.into_iter().filter_map(|(node, (before, now))| {
        let times = now / before;
        let is_moved = times.is_finite() && SERVICE_STEP < times.max(1.0 / times);
        is_moved
            .then(|| format!("{node} takes {times:.2} times as long as when it was planned for"))
    });
    told.collect()
}

impl super::super::Center {
    /// Slows an emulated fleet's links otherwise, from the next frame on, without telling whoever plans: that has to be
    /// found out, as with real links. Links that were not emulated when they were opened stay as they are.
    pub fn reshape(&self, links: Links) {
        let inner = &self.inner;
        for (node, outlet) in inner.outlets.read().iter() {
            let link = links.get(&Place::Center, &Place::from(node));
            outlet.reshape(Some(LinkShape::from(link)));
        }
        let nodes: Vec<NodeId> = inner.sessions.addresses().into_keys().collect();
        for node in &nodes {
            let from = Place::from(node);
            let peer = |name: String, to: &Place| control::Peer {
                node: name,
                data_address: String::new(),
                shape: Some(adoption::shape(&links, &from, to)),
            };
            let others = nodes.iter().filter(|other| *other != node);
            let peers = others
                .map(|other| peer(other.to_string(), &Place::from(other)))
                .chain([peer(String::new(), &Place::Center)]);
            let reshape = control::Reshape {
                peers: peers.collect(),
            };
            let _ = inner
                .sessions
                .send(node, center_message::Kind::Reshape(reshape));
        }
        *inner.shapes.write() = Some(links);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_taken_for_those_of_poisson_arrivals_unless_they_clearly_are_not() {
        let of = |gaps: f64, gaps_scv: f64, samples: f64| {
            planned_for(&Seen {
                rate: 10.0,
                samples,
                gaps,
                gaps_scv,
                ..Seen::default()
            })
        };
        for scv in [0.6, 1.0, 1.8] {
            let load = of(400.0, scv, 1.0);
            assert_eq!((load.gaps_scv, load.headroom), (1.0, HEADROOM));
        }
        // One client after another, with little and with much to go by.
        assert_eq!(of(4.0, 0.0, 1.0).gaps_scv, 1.0);
        let steady = of(400.0, 0.0, 1.0);
        assert!(
            steady.gaps_scv < 0.06 && steady.headroom < 1.02,
            "{steady:?}"
        );
        assert_eq!(of(400.0, 0.0, 8.0).gaps_scv, 1.0);
        let (wild, wilder) = (of(400.0, 6.0, 1.0), of(400.0, 60.0, 1.0));
        assert!(2.5 < wild.gaps_scv && wilder.gaps_scv == BURSTS);
        assert_eq!(wild.headroom, HEADROOM);
    }

    #[test]
    fn a_node_has_moved_when_all_of_its_fragments_together_have() {
        let [slow, fast, mixed, idle] = ["slow", "fast", "mixed", "idle"].map(NodeId::new);
        let fragments = [
            (&slow, 0.010, 0.012),
            (&slow, 0.020, 0.034),
            (&fast, 0.010, 0.006),
            // One longer, one shorter.
            (&mixed, 0.010, 0.015),
            (&mixed, 0.020, 0.017),
            (&idle, 0.0, 0.0),
        ];
        assert_eq!(
            slowed(fragments.into_iter()),
            [
                "fast takes 0.60 times as long as when it was planned for",
                "slow takes 1.53 times as long as when it was planned for",
            ]
        );
    }
}
