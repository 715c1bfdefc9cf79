//! The loop over events: facts to the brain, orders to the world.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use splitplace_brain::{Arrival, Brain, Order, Report as Ended};
use splitplace_fleet::{Links, NodeId, Timestamp};
use splitplace_lifecycle::{Ending, Event as Fact, Fault as Trouble, RequestId};
use splitplace_plan::{ArmKind, Plan};
use splitplace_policy::Policy;

use super::{
    Fault, World,
    carry::Pipe,
    control::{Centre, Table},
    exits::Line,
    node::{Frame, Site},
    report::{ModelReport, NodeReport, Report},
    steering::Steering,
    window::Window,
};
use crate::{
    Seed, Stream, TraceHash,
    agenda::{Agenda, Queue as _},
    arrivals::Arrivals,
    planner::Planner,
    wire::Wire,
};

/// What happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// The next request of a load comes.
    Comes(u32),
    /// A frame, or with `trouble` the word that it goes no further, reaches the other end of a pipe.
    Reaches {
        frame: Frame,
        pipe: u32,
        epoch: u32,
        trouble: Option<Trouble>,
    },
    /// A thread of a node is done.
    Done { node: u32, server: u32, epoch: u32 },
    /// A request's alarm rings.
    Wake(u64),
    /// A fault of the world's list.
    Strikes(u32),
    /// The centre notices that a node is gone.
    Noticed { node: u32, epoch: u32 },
    /// Time to plan.
    Due,
    /// A plan is made.
    Planned,
    /// A node that is to let go of the old plan first may be idle.
    Emptied { node: u32, roll: u32 },
    /// A node holds its part of the plan under way.
    Loaded { node: u32, epoch: u32, roll: u32 },
    /// Time to look at what may be retired.
    Tick,
    /// Time to look at what has moved for the controllers of exits.
    Look,
    /// New rules for an arm's exits are on its nodes.
    Ruled(u32),
}

/// A request that has not ended.
pub(super) struct Waiting {
    pub(super) load: u32,
    pub(super) attempt: u32,
    /// Share of its samples that its answer is right about, where an exit or the end behind some answered.
    pub(super) right: Option<f32>,
}

pub(super) struct Sim<'w> {
    pub(super) world: &'w World,
    pub(super) planner: &'w dyn Planner,
    pub(super) agenda: Agenda<Event>,
    pub(super) brain: Brain,
    pub(super) sites: Vec<Site>,
    pub(super) numbers: BTreeMap<NodeId, u32>,
    pub(super) centre: Centre,
    pub(super) links: Links,
    pub(super) pipes: Vec<Pipe>,
    pub(super) pipe_of: BTreeMap<(u32, u32), u32>,
    pub(super) uplinks: Vec<Option<Wire>>,
    pub(super) requests: Window<Waiting>,
    arrivals: Vec<Arrivals>,
    promises: Vec<Stream>,
    pub(super) services: Stream,
    pub(super) jitter: Stream,
    pub(super) hardness: Stream,
    pub(super) intents: Stream,
    pub(super) choices: Stream,
    pub(super) steering: Steering,
    truths: Stream,
    coming: usize,
    pub(super) report: Report,
    pub(super) trace: TraceHash,
}

/// Runs a world from its beginning, with the planner's first plan in force and loaded, to the end of the
/// last request.
///
/// Costs some microseconds for each request, most of them the brain's, and 0.1 to 0.3 for each hop.
/// Memory is linear in nodes, routes, and requests in flight.
///
/// # Panics
/// When [`World::check`] finds something.
pub fn run(world: &World, policy: Box<dyn Policy>, planner: &dyn Planner, seed: Seed) -> Report {
    let wrong = world.check();
    assert!(wrong.is_empty(), "the world cannot be run: {wrong:?}");
    let mut sim = Sim::new(world, policy, planner, seed);
    sim.begin();
    while let Some((now, event)) = sim.agenda.pop() {
        sim.report.events += 1;
        sim.report.ended = now;
        sim.trace.add(now.as_nanos());
        sim.happen(now, event);
        if sim.coming == 0 && sim.requests.is_empty() {
            break;
        }
    }
    sim.finish()
}

impl<'w> Sim<'w> {
    fn new(
        world: &'w World,
        policy: Box<dyn Policy>,
        planner: &'w dyn Planner,
        seed: Seed,
    ) -> Self {
        let numbers = (0u32..).zip(&world.workers);
        let loads = || (0u64..).zip(&world.loads);
        let mut report = Report {
            models: BTreeMap::new(),
            nodes: Vec::new(),
            plans: Vec::new(),
            counts: splitplace_lifecycle::Counts::default(),
            seconds: world.duration.saturating_sub(world.warm_up).as_secs_f64(),
            events: 0,
            ended: Timestamp::ZERO,
            learnt: BTreeMap::new(),
            trace: 0,
        };
        for load in &world.loads {
            report.models.entry(load.model.clone()).or_default();
        }
        Self {
            agenda: Agenda::default(),
            brain: Brain::new(world.settings, policy, seed.chacha("policy")),
            sites: world.workers.iter().map(Site::new).collect(),
            numbers: numbers
                .map(|(number, one)| (one.node.id.clone(), number))
                .collect(),
            centre: Centre::new(world),
            links: world.links.clone(),
            pipes: Vec::new(),
            pipe_of: BTreeMap::new(),
            uplinks: world
                .workers
                .iter()
                .map(|worker| {
                    let link = splitplace_fleet::Link {
                        rate_bytes_per_second: worker.uplink,
                        delay: Duration::ZERO,
                        jitter: Duration::ZERO,
                    };
                    worker.uplink.is_finite().then(|| Wire::new(&link))
                })
                .collect(),
            requests: Window::default(),
            arrivals: loads()
                .map(|(id, load)| Arrivals::new(load.arrivals.clone(), seed.stream("arrivals", id)))
                .collect(),
            promises: loads().map(|(id, _)| seed.stream("promises", id)).collect(),
            services: seed.stream("service", 0),
            jitter: seed.stream("jitter", 0),
            hardness: seed.stream("hardness", 0),
            intents: seed.stream("intents", 0),
            choices: seed.stream("exits", 0),
            steering: Steering::default(),
            truths: seed.stream("truth", 0),
            coming: 0,
            report,
            trace: TraceHash::default(),
            world,
            planner,
        }
    }

    fn begin(&mut self) {
        self.start_with_first_plan();
        for (number, (at, _)) in (0u32..).zip(&self.world.faults) {
            self.agenda.push(*at, Event::Strikes(number));
        }
        for load in 0..self.world.loads.len() {
            self.coming += 1;
            self.expect(load);
        }
    }

    fn finish(mut self) -> Report {
        let seconds = self.report.ended.as_nanos() as f64 / 1e9;
        for (worker, site) in self.world.workers.iter().zip(&mut self.sites) {
            site.account(self.report.ended);
            let cores = f64::from(worker.node.cores.max(1));
            self.report.nodes.push(NodeReport {
                node: worker.node.id.clone(),
                utilisation: site.busy_core_seconds / (seconds * cores).max(1e-9),
                joules: site.joules,
                computed: site.computed,
                expired: site.expired,
                refused: site.refused,
            });
        }
        self.report.counts = self.brain.counts();
        self.report.learnt = self.brain.policy().state();
        self.report.trace = self.trace.get();
        self.report
    }

    /// Puts a load's next request on the agenda, or notes that it has no more.
    fn expect(&mut self, load: usize) {
        match self.arrivals[load].next() {
            Some(at) if at < Timestamp::ZERO + self.world.duration => {
                self.agenda.push(at, Event::Comes(load as u32));
            }
            Some(_) | None => self.coming -= 1,
        }
    }

    fn happen(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Comes(load) => self.comes(now, load),
            Event::Reaches {
                frame,
                pipe,
                epoch,
                trouble,
            } => self.reaches(now, frame, pipe, epoch, trouble),
            Event::Done {
                node,
                server,
                epoch,
            } => self.done(now, node, server, epoch),
            Event::Wake(request) => {
                if self.requests.get_mut(request).is_some() {
                    let request = RequestId(request);
                    self.tell(now, Fact::Woke { request });
                }
            }
            Event::Strikes(number) => self.strikes(now, number),
            Event::Noticed { node, epoch } => self.noticed(now, node, epoch),
            Event::Due => self.due(now),
            Event::Planned => self.planned(now),
            Event::Emptied { node, roll } => self.emptied(now, node, roll),
            Event::Loaded { node, epoch, roll } => self.loaded(now, node, epoch, roll),
            Event::Tick => self.tick(now),
            Event::Look => self.look(now),
            Event::Ruled(arm) => self.ruled(arm),
        }
    }

    fn comes(&mut self, now: Timestamp, number: u32) {
        let load = &self.world.loads[number as usize];
        let waiting = Waiting {
            load: number,
            attempt: 0,
            right: None,
        };
        let request = self.requests.push(waiting);
        let sla = draw(&load.slas, &mut self.promises[number as usize].of(request));
        self.trace.add(request);
        if self.counts(now) {
            self.model(number).arrived += 1;
        }
        let arrival = Arrival {
            min_accuracy: 0.0,
            model: load.model.clone(),
            samples: load.samples,
            sla,
            patience: sla + load.patience,
        };
        match self.brain.arrive(now, RequestId(request), arrival) {
            Ok(orders) => self.obey(now, orders),
            Err(refusal) => {
                self.requests.remove(request);
                self.trace.add(u64::MAX);
                if self.counts(now) {
                    self.model(number).refused(refusal);
                }
            }
        }
        self.expect(number as usize);
    }

    fn counts(&self, born: Timestamp) -> bool {
        Timestamp::ZERO + self.world.warm_up <= born
    }

    fn model(&mut self, load: u32) -> &mut ModelReport {
        let name = &self.world.loads[load as usize].model;
        self.report
            .models
            .get_mut(name)
            .expect("every load has a report")
    }

    /// Tells the brain a fact and does what it orders.
    pub(super) fn tell(&mut self, now: Timestamp, fact: Fact) {
        let orders = self.brain.step(now, fact);
        self.obey(now, orders);
    }

    /// Does what the brain ordered. A frame that cannot leave is a fact of its own, told at once.
    pub(super) fn obey(&mut self, now: Timestamp, orders: Vec<Order>) {
        let mut orders = VecDeque::from(orders);
        while let Some(order) = orders.pop_front() {
            match order {
                Order::Send { .. } => {
                    if let Some(fact) = self.leave(now, &order) {
                        orders.extend(self.brain.step(now, fact));
                    }
                }
                Order::WakeAt { request, at } => self.agenda.push(at, Event::Wake(request.0)),
                Order::Finish { request, report } => self.ended(now, request, &report),
            }
        }
    }

    fn ended(&mut self, now: Timestamp, request: RequestId, ended: &Ended) {
        let Some(waiting) = self.requests.remove(request.0) else {
            return;
        };
        self.trace.add(request.0);
        self.trace
            .add(matches!(ended.ending, Ending::Answered { .. }).into());
        let mut share = 0.0;
        if let (Ending::Answered { missing, .. }, Some(decision)) = (&ended.ending, &ended.decision)
        {
            self.trace.add_text(&decision.arm.name);
            let unknown = self.world.settings.accuracy_unknown;
            share = decision.arm.accuracy_without(missing.len(), unknown);
            if let Some(right) = waiting.right {
                share = f64::from(right);
                self.trace.add(u64::from(right.to_bits()));
            }
            self.feedback(request, waiting.load, share);
        }
        let born = now - ended.response;
        if self.counts(born) {
            self.model(waiting.load).ended(ended, share);
        }
    }

    /// Some clients tell the truth.
    fn feedback(&mut self, request: RequestId, load: u32, share: f64) {
        let load = &self.world.loads[load as usize];
        if load.feedback <= 0.0 {
            return;
        }
        let mut stream = self.truths.of(request.0);
        if load.feedback <= stream.unit() {
            return;
        }
        let labels: Vec<u32> = (0..load.samples)
            .map(|_| u32::from(share <= stream.unit()))
            .collect();
        self.brain.classify(request, vec![0; labels.len()]);
        self.brain.feedback(request, &labels);
    }

    fn strikes(&mut self, now: Timestamp, number: u32) {
        let (_, fault) = &self.world.faults[number as usize];
        let control = self.world.control;
        self.trace.add(u64::from(number));
        match fault {
            Fault::Crash(node) => self.dies(now, node, control.broken),
            Fault::Silence(node) => self.dies(now, node, control.silence),
            Fault::Rejoin(node) => {
                let node = self.numbers[node];
                self.sites[node as usize].rejoin(now);
                self.joined(now, node);
            }
            Fault::Slow(node, times) => {
                self.sites[self.numbers[node] as usize].slow = *times;
            }
            Fault::Link(from, to, link) => {
                self.links.set(from.clone(), to.clone(), *link);
                for pipe in 0..self.pipes.len() {
                    let Pipe { from: a, to: b, .. } = self.pipes[pipe];
                    if (self.end(a), self.end(b)) == (from.clone(), to.clone()) {
                        self.pipes[pipe].wire.reshape(link);
                    }
                }
            }
        }
    }

    fn dies(&mut self, now: Timestamp, node: &NodeId, after: Duration) {
        let node = self.numbers[node];
        let site = &mut self.sites[node as usize];
        if site.is_up {
            site.crash(now);
            let epoch = site.epoch;
            self.steering.crash(node);
            self.agenda
                .push(now + after, Event::Noticed { node, epoch });
        }
    }

    /// The tables of a plan, for workers.
    pub(super) fn tabulate(&mut self, plan: &Plan) -> Arc<Table> {
        let mut table = Table::new(plan, &self.numbers, &mut self.sites);
        let number = self.centre.number_of_next();
        for (model, planned) in &plan.models {
            for arm in planned.arms.iter().filter(|arm| arm.kind == ArmKind::Exits) {
                let known = (model.clone(), arm.variant.clone());
                let (Some(exits), [route]) = (self.world.exits.get(&known), &arm.branches[..])
                else {
                    continue;
                };
                let Some(row) = table.route_number(route.id) else {
                    continue;
                };
                let row = &mut table.routes[row as usize];
                row.line = self.steering.lines.len() as u32;
                for hop in &row.hops {
                    if let Some(waiting) = exits.waiting() {
                        self.sites[hop.node as usize].bound(hop.slot, waiting);
                    }
                }
                let delay = |from, to| self.links.get(&self.end(from), &self.end(to)).delay;
                let line = Line::new(exits.clone(), row, number, delay);
                self.steering.lines.push(Some(line));
            }
        }
        Arc::new(table)
    }
}

/// One of the promises, by weight.
fn draw(slas: &[(Duration, f64)], stream: &mut Stream) -> Duration {
    let [(only, _)] = slas else {
        let total: f64 = slas.iter().map(|(_, weight)| weight).sum();
        let mut left = stream.unit() * total;
        for (sla, weight) in slas {
            left -= weight;
            if left < 0.0 {
                return *sla;
            }
        }
        return slas.last().map_or(Duration::ZERO, |(sla, _)| *sla);
    };
    *only
}
