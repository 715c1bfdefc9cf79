//! What the centre knows of the fleet, and how plans change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use splitplace_fleet::{Links, Node, NodeId, NodeState, Snapshot, Timestamp};
use splitplace_plan::{Generation, Plan, RouteId};

use super::{
    World,
    node::Site,
    report::PlanChange,
    run::{Event, Sim},
};
use crate::agenda::Queue as _;

/// One step of a route.
#[derive(Clone, Copy, Debug)]
pub(super) struct HopRow {
    pub(super) node: u32,
    /// The fragment's number on the node.
    pub(super) slot: u32,
    /// Of one sample, what it takes to code it on the way here included.
    pub(super) service: Duration,
    pub(super) bytes_in: u64,
    /// Share of requests that get here; below 1 behind an exit.
    pub(super) reach: f64,
    /// Which of the nodes along the route it is on, hops in a row on one being one.
    pub(super) station: u16,
    /// Exits of the network before the first behind this hop, and behind it.
    pub(super) first_exit: u8,
    pub(super) exits: u8,
}

/// [`RouteRow::line`] of a route of whose exits nothing is known.
pub(super) const NO_LINE: u32 = u32::MAX;

/// One route.
#[derive(Clone, Debug)]
pub(super) struct RouteRow {
    pub(super) hops: Vec<HopRow>,
    pub(super) bytes_out: u64,
    /// Number of what decides at its exits.
    pub(super) line: u32,
}

/// A plan as workers hold it.
#[derive(Debug)]
pub(super) struct Table {
    generation: Generation,
    pub(super) routes: Vec<RouteRow>,
    numbers: BTreeMap<RouteId, u32>,
    /// Fragments by node.
    parts: BTreeMap<u32, BTreeSet<u32>>,
}

impl Table {
    pub(super) fn new(plan: &Plan, nodes: &BTreeMap<NodeId, u32>, sites: &mut [Site]) -> Self {
        let mut table = Self {
            generation: plan.generation,
            routes: Vec::new(),
            numbers: BTreeMap::new(),
            parts: BTreeMap::new(),
        };
        for route in plan.routes() {
            let mut hops: Vec<HopRow> = Vec::with_capacity(route.hops.len());
            for hop in &route.hops {
                let Some(&node) = nodes.get(&hop.node) else {
                    continue;
                };
                let slot = sites[node as usize].slot(hop.fragment, hop.memory_bytes);
                table.parts.entry(node).or_default().insert(slot);
                let station = hops
                    .last()
                    .map_or(0, |before| before.station + u16::from(before.node != node));
                let first = hop.exits.first().map_or(0, |exit| exit.number.max(1) - 1);
                hops.push(HopRow {
                    station,
                    first_exit: u8::try_from(first).unwrap_or(u8::MAX),
                    exits: u8::try_from(hop.exits.len()).unwrap_or(u8::MAX),
                    node,
                    slot,
                    service: hop.service + hop.coding,
                    bytes_in: hop.bytes_in,
                    reach: hop.reach,
                });
            }
            // A route over a node that there is not is none: nothing is sent by it.
            if hops.len() == route.hops.len() && !hops.is_empty() {
                table.numbers.insert(route.id, table.routes.len() as u32);
                let bytes_out = route.bytes_out;
                table.routes.push(RouteRow {
                    hops,
                    bytes_out,
                    line: NO_LINE,
                });
            }
        }
        table
    }

    pub(super) fn route_number(&self, route: RouteId) -> Option<u32> {
        self.numbers.get(&route).copied()
    }

    fn part(&self, node: u32) -> BTreeSet<u32> {
        self.parts.get(&node).cloned().unwrap_or_default()
    }
}

/// A node as the centre sees it.
#[derive(Clone, Debug)]
struct Seen {
    node: Node,
    state: NodeState,
    /// Whether it holds its part of the plan in force.
    is_settled: bool,
}

/// A plan on its way.
#[derive(Debug)]
struct Rolling {
    number: u32,
    plan: Plan,
    /// Its place among the tables, once it is made.
    table: u32,
    since: Timestamp,
    /// Nodes alive when it was begun.
    with: BTreeSet<u32>,
    /// Nodes that have to load their part yet.
    left: BTreeSet<u32>,
    /// Nodes that let go of the plan in force.
    emptied: BTreeSet<u32>,
    is_made: bool,
    is_void: bool,
}

/// What the centre knows.
#[derive(Debug)]
pub(super) struct Centre {
    seen: Vec<Seen>,
    links: Links,
    plan: Plan,
    tables: Vec<Option<Arc<Table>>>,
    /// The table in force.
    current: u32,
    due: Option<Timestamp>,
    /// Since when there is something to plan for.
    wanted: Option<Timestamp>,
    rolling: Option<Rolling>,
    rolls: u32,
    retry: Duration,
    is_ticking: bool,
}

/// Tables kept after they were retired, for frames that are still on their way.
const KEPT: u32 = 4;

impl Centre {
    pub(super) fn new(world: &World) -> Self {
        let seen = world.workers.iter().map(|worker| Seen {
            node: worker.node.clone(),
            state: worker.node.state,
            is_settled: true,
        });
        Self {
            seen: seen.collect(),
            links: world.links.clone(),
            plan: Plan::default(),
            tables: Vec::new(),
            current: 0,
            due: None,
            wanted: None,
            rolling: None,
            rolls: 0,
            retry: world.control.retry,
            is_ticking: false,
        }
    }

    pub(super) fn number_of(&self, generation: Generation) -> Option<u32> {
        let is_it = |table: &Option<Arc<Table>>| {
            table
                .as_ref()
                .is_some_and(|table| table.generation == generation)
        };
        let number = self.tables.iter().rposition(is_it)?;
        u32::try_from(number).ok()
    }

    /// The number that the next table will have.
    pub(super) fn number_of_next(&self) -> u32 {
        self.tables.len() as u32
    }

    pub(super) fn table(&self, number: u32) -> Option<&Arc<Table>> {
        self.tables.get(number as usize)?.as_ref()
    }

    /// Whether there is a stream from the centre to a node, as far as the centre knows.
    pub(super) fn is_connected(&self, node: u32) -> bool {
        self.seen[node as usize].state != NodeState::Lost
    }

    /// Whether workers can open streams to a node: they notice when the centre does.
    pub(super) fn is_reachable(&self, node: u32) -> bool {
        self.is_connected(node)
    }

    /// The fleet; requests must not go to nodes that do not hold their part of the plan.
    fn snapshot(&self, now: Timestamp, for_requests: bool) -> Snapshot {
        let mut snapshot = Snapshot::empty(now);
        snapshot.links = self.links.clone();
        for seen in &self.seen {
            let mut node = seen.node.clone();
            node.state = seen.state;
            if for_requests && !seen.is_settled && node.state == NodeState::Alive {
                node.state = NodeState::Lost;
            }
            snapshot.nodes.insert(node.id.clone(), node);
        }
        snapshot
    }
}

impl Sim<'_> {
    /// Time 0: the first plan is made, loaded and in force.
    pub(super) fn start_with_first_plan(&mut self) {
        let now = Timestamp::ZERO;
        let snapshot = self.centre.snapshot(now, false);
        let plan = self
            .planner
            .plan(&snapshot, &Plan::default(), Generation(1));
        let table = self.tabulate(&plan);
        for (node, site) in (0u32..).zip(&mut self.sites) {
            site.accept(0, &table.part(node));
        }
        self.centre.tables.push(Some(table));
        self.follow(now, &plan, 0);
        let orders = self.brain.observe(now, snapshot);
        self.obey(now, orders);
        let orders = self.brain.adopt(now, &plan);
        self.obey(now, orders);
        self.centre.plan = plan;
    }

    fn observe(&mut self, now: Timestamp) {
        let snapshot = self.centre.snapshot(now, true);
        let orders = self.brain.observe(now, snapshot);
        self.obey(now, orders);
    }

    fn plan_within(&mut self, now: Timestamp, wait: Duration) {
        let at = now + wait;
        self.centre.wanted.get_or_insert(now);
        if self.centre.due.is_none_or(|due| at < due) {
            self.centre.due = Some(at);
            self.agenda.push(at, Event::Due);
        }
    }

    pub(super) fn noticed(&mut self, now: Timestamp, node: u32, epoch: u32) {
        if self.sites[node as usize].epoch != epoch || self.sites[node as usize].is_up {
            return;
        }
        let seen = &mut self.centre.seen[node as usize];
        seen.state = NodeState::Lost;
        seen.is_settled = false;
        if let Some(rolling) = &mut self.centre.rolling {
            rolling.is_void |= rolling.with.contains(&node);
        }
        self.plan_within(now, self.world.control.after_loss);
        self.observe(now);
    }

    pub(super) fn joined(&mut self, now: Timestamp, node: u32) {
        let seen = &mut self.centre.seen[node as usize];
        seen.state = NodeState::Alive;
        seen.is_settled = false;
        if let Some(rolling) = &mut self.centre.rolling {
            rolling.is_void |= rolling.with.contains(&node);
        }
        self.centre.retry = self.world.control.retry;
        self.plan_within(now, self.world.control.settle);
        self.observe(now);
    }

    pub(super) fn due(&mut self, now: Timestamp) {
        if self.centre.due != Some(now) || self.centre.rolling.is_some() {
            return;
        }
        self.centre.due = None;
        let snapshot = self.centre.snapshot(now, false);
        let with: BTreeSet<u32> = snapshot
            .alive()
            .filter_map(|node| self.numbers.get(&node.id).copied())
            .collect();
        if with.is_empty() {
            return;
        }
        let generation = self.centre.plan.generation.next();
        let plan = self.planner.plan(&snapshot, &self.centre.plan, generation);
        self.centre.rolls += 1;
        self.centre.rolling = Some(Rolling {
            number: self.centre.rolls,
            plan,
            table: 0,
            since: self.centre.wanted.take().unwrap_or(now),
            with,
            left: BTreeSet::new(),
            emptied: BTreeSet::new(),
            is_made: false,
            is_void: false,
        });
        self.agenda
            .push(now + self.world.control.planning, Event::Planned);
    }

    /// The plan is made: every node fetches and loads its part, those that cannot hold both plans after
    /// they have let go of the old one.
    pub(super) fn planned(&mut self, now: Timestamp) {
        let Some(mut rolling) = self.centre.rolling.take() else {
            return;
        };
        let table = self.tabulate(&rolling.plan);
        rolling.table = self.centre.tables.len() as u32;
        rolling.is_made = true;
        rolling.left.clone_from(&rolling.with);
        let (roll, with) = (rolling.number, rolling.with.clone());
        let mut crowded = BTreeSet::new();
        for &node in &with {
            let part = table.part(node);
            let needed = self.sites[node as usize].bytes_with(&part);
            if self.world.workers[node as usize].node.memory_bytes < needed && !part.is_empty() {
                crowded.insert(node);
            }
        }
        self.centre.tables.push(Some(table));
        self.centre.rolling = Some(rolling);
        if !crowded.is_empty() {
            let names = crowded
                .iter()
                .map(|&node| self.world.workers[node as usize].node.id.clone());
            self.brain.suspend(names.collect());
        }
        for node in with {
            if crowded.contains(&node) {
                self.agenda.push(now, Event::Emptied { node, roll });
            } else {
                self.load(now, node, roll);
            }
        }
    }

    pub(super) fn emptied(&mut self, now: Timestamp, node: u32, roll: u32) {
        let Some(rolling) = self
            .centre
            .rolling
            .as_ref()
            .filter(|one| one.number == roll)
        else {
            return;
        };
        let table = rolling.table;
        if self.sites[node as usize].is_idle() {
            self.sites[node as usize].retire(table, &BTreeSet::new());
            self.load(now, node, roll);
        } else {
            let again = now + Duration::from_millis(5);
            self.agenda.push(again, Event::Emptied { node, roll });
        }
    }

    fn load(&mut self, now: Timestamp, node: u32, roll: u32) {
        let Some(rolling) = &self.centre.rolling else {
            return;
        };
        let Some(table) = self.centre.table(rolling.table) else {
            return;
        };
        let site = &self.sites[node as usize];
        let (bytes, count) = site.missing(&table.part(node));
        let control = self.world.control;
        let (fixed, each) = control.load;
        let seconds = bytes as f64 * (1.0 / control.fetch_bytes_per_second + each);
        let took = fixed * count + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
        let epoch = site.epoch;
        self.agenda
            .push(now + took, Event::Loaded { node, epoch, roll });
    }

    pub(super) fn loaded(&mut self, now: Timestamp, node: u32, epoch: u32, roll: u32) {
        let Some(mut rolling) = self.centre.rolling.take() else {
            return;
        };
        let site = &mut self.sites[node as usize];
        if rolling.number != roll {
            self.centre.rolling = Some(rolling);
            return;
        }
        if site.epoch == epoch && site.is_up {
            if let Some(table) = self.centre.table(rolling.table) {
                site.accept(rolling.table, &table.part(node));
            }
        } else {
            rolling.is_void = true;
        }
        rolling.left.remove(&node);
        if !rolling.left.is_empty() {
            self.centre.rolling = Some(rolling);
        } else if rolling.is_void {
            self.fell_through(now, &rolling);
        } else {
            self.put_in_force(now, rolling);
        }
    }

    fn fell_through(&mut self, now: Timestamp, rolling: &Rolling) {
        self.centre.wanted = Some(rolling.since);
        for &node in &rolling.emptied {
            self.centre.seen[node as usize].is_settled = false;
        }
        self.brain.suspend(BTreeSet::new());
        self.observe(now);
        let retry = self.centre.retry;
        self.centre.retry = (retry * 2).min(self.world.control.retry * 64);
        // Something else is due already, perhaps in the past, when this plan was under way.
        let due = self
            .centre
            .due
            .take()
            .map_or(now + retry, |due| due.max(now));
        self.centre.due = Some(due);
        self.agenda.push(due, Event::Due);
    }

    fn put_in_force(&mut self, now: Timestamp, rolling: Rolling) {
        for &node in &rolling.with {
            let seen = &mut self.centre.seen[node as usize];
            seen.is_settled = seen.state == NodeState::Alive;
        }
        self.trace.add(rolling.plan.generation.0);
        self.follow(now, &rolling.plan, rolling.table);
        let orders = self.brain.adopt(now, &rolling.plan);
        self.obey(now, orders);
        self.observe(now);
        self.report.plans.push(PlanChange {
            at: now,
            generation: rolling.plan.generation,
            took: now.since(rolling.since),
        });
        self.centre.current = rolling.table;
        self.centre.plan = rolling.plan;
        self.centre.retry = self.world.control.retry;
        if !self.centre.is_ticking {
            self.centre.is_ticking = true;
            self.agenda.push(now + self.world.control.tick, Event::Tick);
        }
        if let Some(due) = self.centre.due {
            let due = due.max(now);
            self.centre.due = Some(due);
            self.agenda.push(due, Event::Due);
        }
    }

    /// Retires what nothing runs under any more.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if self.brain.oldest_generation() < self.centre.plan.generation {
            self.agenda.push(now + self.world.control.tick, Event::Tick);
            return;
        }
        self.centre.is_ticking = false;
        let current = self.centre.current;
        let Some(table) = self.centre.table(current).cloned() else {
            return;
        };
        let coming = self
            .centre
            .rolling
            .as_ref()
            .filter(|rolling| rolling.is_made);
        let coming = coming
            .and_then(|rolling| self.centre.table(rolling.table))
            .cloned();
        for (node, site) in (0u32..).zip(&mut self.sites) {
            let mut part = table.part(node);
            part.extend(coming.iter().flat_map(|table| table.part(node)));
            site.retire(current, &part);
        }
        let old = current.saturating_sub(KEPT) as usize;
        self.centre.tables[..old]
            .iter_mut()
            .for_each(|table| *table = None);
        self.steering.forget(old as u32);
    }
}
