//! Every fact about requests, nodes and plans comes in here; every order goes out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use rand_chacha::ChaCha8Rng;
use splitplace_fleet::{NodeId, Snapshot, Timestamp};
use splitplace_lifecycle::{BranchRoute, Counts, Effect, Ending, Event, Fault, Ledger, RequestId};
use splitplace_plan::{ArmKind, ArmPlan, Generation, ModelName, Plan, Route, RouteId};
use splitplace_policy::{ArmView, Choice, Context, Outcome, Policy};

use crate::{
    facts::{Arrival, Decision, Order, Refusal, Report, Settings},
    forecast::{self, Backlog, Correction},
    memory::{Learnt, Memory},
};

#[derive(Clone, Debug)]
struct Flight {
    model: ModelName,
    samples: u32,
    arrived: Timestamp,
    deadline: Timestamp,
    expiry: Timestamp,
    attempt: u32,
    decision: Option<Decision>,
    /// Forecast before correction, to learn the correction from.
    raw: Duration,
    /// Branches whose work counts in the backlog.
    counted: BTreeSet<u32>,
    /// The generation in which the running attempt counts.
    held: Option<Generation>,
    min_accuracy: f64,
}

#[derive(Clone, Debug)]
struct Arm {
    plan: Arc<ArmPlan>,
    routes: BTreeSet<RouteId>,
    correction: Correction,
}

/// Requests, plan, nodes and policy together.
#[derive(Debug)]
pub struct Brain {
    settings: Settings,
    ledger: Ledger,
    policy: Box<dyn Policy>,
    rng: ChaCha8Rng,
    generation: Generation,
    arms: BTreeMap<ModelName, Vec<Arm>>,
    snapshot: Snapshot,
    backlog: Backlog,
    flights: BTreeMap<RequestId, Flight>,
    in_generation: BTreeMap<Generation, usize>,
    memory: Memory,
    /// Nodes that have to let go of the plan in force before they can take the next one.
    suspended: BTreeSet<NodeId>,
    /// Arms that an operator wants taken while they can be.
    pins: BTreeMap<ModelName, String>,
}

impl Brain {
    /// A brain without a plan. `rng` is the stream of randomness for the policy's choices.
    #[must_use]
    pub fn new(settings: Settings, policy: Box<dyn Policy>, rng: ChaCha8Rng) -> Self {
        Self {
            settings,
            ledger: Ledger::new(settings.limits),
            policy,
            rng,
            generation: Generation::default(),
            arms: BTreeMap::new(),
            snapshot: Snapshot::empty(Timestamp::ZERO),
            backlog: Backlog::default(),
            flights: BTreeMap::new(),
            in_generation: BTreeMap::new(),
            memory: Memory::new(settings.memory),
            suspended: BTreeSet::new(),
            pins: BTreeMap::new(),
        }
    }

    /// How many requests came and how they ended.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    /// Requests that have not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.ledger.in_flight()
    }

    /// The plan in force.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The oldest plan that a request in flight was sent under, or the one in force.
    #[must_use]
    pub fn oldest_generation(&self) -> Generation {
        self.in_generation
            .keys()
            .next()
            .copied()
            .map_or(self.generation, |oldest| oldest.min(self.generation))
    }

    /// The policy, for its state and its explanation.
    #[must_use]
    pub fn policy(&self) -> &dyn Policy {
        &*self.policy
    }

    /// The arms of a model that can answer now, with their forecasts for one sample.
    #[must_use]
    pub fn forecasts(&self, model: &ModelName) -> Vec<(Arc<ArmPlan>, Option<Duration>)> {
        let arms = self.arms.get(model).map_or(&[][..], Vec::as_slice);
        arms.iter()
            .map(|arm| {
                let forecast = self.is_usable(arm).then(|| self.forecast(arm, 1).1);
                (Arc::clone(&arm.plan), forecast)
            })
            .collect()
    }

    /// Chooses no arm through these nodes until the next plan is adopted. Requests for models that are
    /// left without an arm wait.
    pub fn suspend(&mut self, nodes: BTreeSet<NodeId>) {
        self.suspended = nodes;
    }

    /// Has every request for a model take one arm while it can answer; `None` leaves it to the policy
    /// again. The policy is still asked, with this arm alone, and learns from it.
    pub fn pin(&mut self, model: ModelName, arm: Option<String>) {
        match arm {
            Some(arm) => self.pins.insert(model, arm),
            None => self.pins.remove(&model),
        };
    }

    /// The arm that was pinned.
    #[must_use]
    pub fn pinned(&self, model: &ModelName) -> Option<&str> {
        self.pins.get(model).map(String::as_str)
    }

    /// The model of an answered request that is remembered.
    #[must_use]
    pub fn remembered(&self, request: RequestId) -> Option<&ModelName> {
        self.memory.model(request)
    }

    /// Whether some arm of the model can answer now.
    #[must_use]
    pub fn can_answer(&self, model: &ModelName) -> bool {
        self.arms
            .get(model)
            .is_some_and(|arms| arms.iter().any(|arm| self.is_usable(arm)))
    }

    /// Lets a request in or says why not. `request` must be new.
    ///
    /// # Errors
    /// [`Refusal`]; nothing of the request is kept then.
    pub fn arrive(
        &mut self,
        now: Timestamp,
        request: RequestId,
        arrival: Arrival,
    ) -> Result<Vec<Order>, Refusal> {
        let patience = arrival.patience.max(arrival.sla);
        let arms = self.arms.get(&arrival.model).ok_or(Refusal::NotReady)?;
        let fastest = arms
            .iter()
            .filter(|arm| self.is_usable(arm))
            .map(|arm| self.forecast(arm, arrival.samples).1)
            .min();
        match fastest {
            // A model whose arms all died a moment ago is about to be planned anew: worth waiting for.
            None if arms.is_empty() => return Err(Refusal::NotReady),
            Some(fastest) if self.settings.refuse_hopeless && fastest > patience => {
                return Err(Refusal::Hopeless { fastest });
            }
            None | Some(_) => {}
        }
        let is_enough = |arm: &Arm| self.is_accurate(arm, arrival.min_accuracy);
        if !arms.is_empty() && !arms.iter().any(is_enough) {
            let best = arms
                .iter()
                .map(|arm| self.accuracy(arm))
                .fold(0.0, f64::max);
            return Err(Refusal::Inaccurate { best });
        }
        if self.ledger.in_flight() >= self.settings.limits.in_flight_max {
            return Err(Refusal::Overloaded);
        }
        let (deadline, expiry) = (now + arrival.sla, now + patience);
        let flight = Flight {
            model: arrival.model,
            samples: arrival.samples.max(1),
            arrived: now,
            deadline,
            expiry,
            attempt: 0,
            decision: None,
            raw: Duration::ZERO,
            counted: BTreeSet::new(),
            held: None,
            min_accuracy: arrival.min_accuracy,
        };
        self.flights.insert(request, flight);
        Ok(self.step(
            now,
            Event::Arrived {
                request,
                deadline,
                expiry,
            },
        ))
    }

    /// Takes in a fact and says what to do about it. Costs O(arms + log requests); a lost node or a
    /// new plan costs O(requests).
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Order> {
        let mut orders = Vec::new();
        let mut facts = VecDeque::from([event]);
        while let Some(fact) = facts.pop_front() {
            self.note(&fact);
            for effect in self.ledger.step(now, fact) {
                match effect {
                    Effect::Decide {
                        request,
                        attempt,
                        avoid,
                    } => {
                        facts.push_back(self.decide(now, request, attempt, &avoid));
                    }
                    Effect::Send {
                        request,
                        attempt,
                        branch,
                        generation,
                        route,
                    } => {
                        orders.extend(self.send(now, request, attempt, branch, generation, route));
                    }
                    Effect::WakeAt { request, at } => orders.push(Order::WakeAt { request, at }),
                    Effect::Finish { request, ending } => {
                        orders.extend(self.finish(now, request, ending));
                    }
                }
            }
        }
        orders
    }

    /// Puts a plan in force: from now on new attempts go by its routes. The interpreter has made sure
    /// that the workers hold them.
    pub fn adopt(&mut self, now: Timestamp, plan: &Plan) -> Vec<Order> {
        let mut known: BTreeMap<(ModelName, String), Correction> = BTreeMap::new();
        for (model, arms) in &self.arms {
            for arm in arms {
                known.insert((model.clone(), arm.plan.name.clone()), arm.correction);
            }
        }
        self.generation = plan.generation;
        self.suspended.clear();
        self.arms = plan
            .models
            .iter()
            .map(|(model, planned)| {
                let arms = planned.arms.iter().map(|arm| Arm {
                    routes: arm.branches.iter().map(|route| route.id).collect(),
                    correction: known
                        .get(&(model.clone(), arm.name.clone()))
                        .copied()
                        .unwrap_or_default(),
                    plan: Arc::new(arm.clone()),
                });
                (model.clone(), arms.collect())
            })
            .collect();
        self.step(now, Event::RoutesChanged)
    }

    /// Replaces what is known of nodes and links. Nodes that were alive and are so no more are lost.
    pub fn observe(&mut self, now: Timestamp, snapshot: Snapshot) -> Vec<Order> {
        let lost: Vec<NodeId> = self
            .snapshot
            .nodes
            .keys()
            .filter(|node| {
                let state = snapshot.nodes.get(*node).map(|node| node.state);
                state.is_none_or(|state| state == splitplace_fleet::NodeState::Lost)
                    && self.snapshot.nodes[*node].state != splitplace_fleet::NodeState::Lost
            })
            .cloned()
            .collect();
        let gained = snapshot
            .alive()
            .any(|node| !self.snapshot.is_alive(&node.id));
        self.snapshot = snapshot;
        let mut orders = Vec::new();
        for node in lost {
            orders.extend(self.step(now, Event::NodeLost { node: node.clone() }));
            self.backlog.forget(&node);
        }
        if gained {
            orders.extend(self.step(now, Event::RoutesChanged));
        }
        orders
    }

    /// States which classes an answer named, so that feedback can be compared with it.
    pub fn classify(&mut self, request: RequestId, classes: Vec<u32>) {
        self.memory.classify(request, classes);
    }

    /// Learns the truth about an answered request: how many samples were right, or `None` when the
    /// request is no longer remembered or its answer named no classes.
    pub fn feedback(&mut self, request: RequestId, labels: &[u32]) -> Option<u32> {
        let learnt = self.memory.take(request)?;
        if learnt.classes.is_empty() || learnt.classes.len() != labels.len() {
            self.memory.keep(request, learnt);
            return None;
        }
        let right = learnt
            .classes
            .iter()
            .zip(labels)
            .filter(|(a, b)| a == b)
            .count();
        #[expect(clippy::cast_precision_loss, reason = "a share of few samples")]
        let truth = right as f64 / labels.len() as f64;
        self.policy
            .revise(&learnt.outcome(learnt.accuracy), &learnt.outcome(truth));
        u32::try_from(right).ok()
    }

    fn is_usable(&self, arm: &Arm) -> bool {
        arm.plan
            .nodes()
            .iter()
            .all(|node| self.snapshot.is_alive(node) && !self.suspended.contains(*node))
    }

    /// Share of correct answers that an arm promises.
    fn accuracy(&self, arm: &Arm) -> f64 {
        arm.plan.accuracy.unwrap_or(self.settings.accuracy_unknown)
    }

    /// Whether an arm may answer a request that asks for so much.
    fn is_accurate(&self, arm: &Arm, least: f64) -> bool {
        arm.plan.kind == ArmKind::Exits || self.accuracy(arm) >= least
    }

    /// The forecast before and after correction.
    fn forecast(&self, arm: &Arm, samples: u32) -> (Duration, Duration) {
        let raw = forecast::response(&arm.plan, samples, &self.backlog, &self.snapshot);
        (raw, arm.correction.apply(raw))
    }

    /// Keeps the backlog true to a fact before the ledger sees it.
    fn note(&mut self, fact: &Event) {
        let (request, attempt, branch) = match *fact {
            Event::BranchAnswered {
                request,
                attempt,
                branch,
            }
            | Event::BranchFailed {
                request,
                attempt,
                branch,
                ..
            } => (request, attempt, branch),
            Event::Arrived { .. }
            | Event::Routed { .. }
            | Event::Unroutable { .. }
            | Event::NodeLost { .. }
            | Event::RoutesChanged
            | Event::Woke { .. }
            | Event::Cancelled { .. } => return,
        };
        let Some(flight) = self.flights.get_mut(&request) else {
            return;
        };
        if flight.attempt == attempt && flight.counted.remove(&branch) {
            let samples = flight.samples;
            if let Some(route) = route_of(flight, branch) {
                self.backlog.remove(route, samples);
            }
        }
    }

    fn decide(
        &mut self,
        now: Timestamp,
        request: RequestId,
        attempt: u32,
        avoid: &BTreeSet<RouteId>,
    ) -> Event {
        self.release(request);
        let Some(flight) = self.flights.get(&request) else {
            return Event::Unroutable { request, attempt };
        };
        let arms = self.arms.get(&flight.model).map_or(&[][..], Vec::as_slice);
        let mut offered: Vec<(&Arm, Duration, Duration)> = arms
            .iter()
            .filter(|arm| self.is_usable(arm) && arm.routes.is_disjoint(avoid))
            .filter(|arm| self.is_accurate(arm, flight.min_accuracy))
            .map(|arm| {
                let (raw, corrected) = self.forecast(arm, flight.samples);
                (arm, raw, corrected)
            })
            .collect();
        if let Some(pinned) = self.pins.get(&flight.model)
            && offered.iter().any(|(arm, ..)| arm.plan.name == *pinned)
        {
            offered.retain(|(arm, ..)| arm.plan.name == *pinned);
        }
        if offered.is_empty() {
            return Event::Unroutable { request, attempt };
        }
        let views: Vec<ArmView<'_>> = offered
            .iter()
            .map(|(arm, _, predicted)| ArmView {
                name: &arm.plan.name,
                kind: arm.plan.kind,
                accuracy: self.accuracy(arm),
                predicted: *predicted,
            })
            .collect();
        let context = Context {
            model: flight.model.as_str(),
            sla: flight.deadline.since(flight.arrived),
            slack: now.until(flight.deadline),
        };
        let choice: Choice = self.policy.choose(&context, &views, &mut self.rng);
        let (arm, raw, predicted) = offered[choice.arm];
        let plan = Arc::clone(&arm.plan);
        let branches = plan
            .branches
            .iter()
            .map(|route| BranchRoute {
                route: route.id,
                nodes: route.hops.iter().map(|hop| hop.node.clone()).collect(),
            })
            .collect();
        let elapsed = now.since(flight.arrived);
        let partial = plan.kind == ArmKind::Semantic && flight.min_accuracy <= 0.0;
        let generation = self.generation;
        for route in &plan.branches {
            self.backlog.add(route, flight.samples);
        }
        let counted = (0u32..)
            .zip(&plan.branches)
            .map(|(branch, _)| branch)
            .collect();
        let decision = Decision {
            generation,
            arm: plan,
            context: choice.context,
            reason: choice.reason,
            propensity: choice.propensity,
            predicted: elapsed + predicted,
        };
        if let Some(flight) = self.flights.get_mut(&request) {
            flight.attempt = attempt;
            flight.decision = Some(decision);
            flight.raw = raw;
            flight.counted = counted;
            flight.held = Some(generation);
            *self.in_generation.entry(generation).or_default() += 1;
        }
        Event::Routed {
            request,
            attempt,
            generation,
            branches,
            partial,
        }
    }

    /// Takes what is left of a request's last attempt out of the backlog.
    fn release(&mut self, request: RequestId) {
        let Some(flight) = self.flights.get_mut(&request) else {
            return;
        };
        let counted = std::mem::take(&mut flight.counted);
        let held = flight.held.take();
        for branch in counted {
            if let Some(route) = route_of(flight, branch) {
                self.backlog.remove(route, flight.samples);
            }
        }
        if let Some(generation) = held
            && let Some(count) = self.in_generation.get_mut(&generation)
        {
            *count -= 1;
            if *count == 0 {
                self.in_generation.remove(&generation);
            }
        }
    }

    fn send(
        &self,
        now: Timestamp,
        request: RequestId,
        attempt: u32,
        branch: u32,
        generation: Generation,
        route: RouteId,
    ) -> Option<Order> {
        let flight = self.flights.get(&request)?;
        let node = route_of(flight, branch)?.hops.first()?.node.clone();
        let slack = now.until(flight.deadline);
        let patience = now.until(flight.expiry);
        Some(Order::Send {
            request,
            attempt,
            branch,
            generation,
            route,
            node,
            slack,
            patience,
        })
    }

    fn finish(&mut self, now: Timestamp, request: RequestId, ending: Ending) -> Option<Order> {
        self.release(request);
        let flight = self.flights.remove(&request)?;
        let response = now.since(flight.arrived);
        let sla = flight.deadline.since(flight.arrived);
        let answered = matches!(ending, Ending::Answered { .. });
        let sla_held = answered && response <= sla;
        if let Some(decision) = &flight.decision {
            let arm = &decision.arm;
            let missing = match &ending {
                Ending::Answered { missing, .. } => missing.len(),
                _ => 0,
            };
            let accuracy = arm.accuracy_without(missing, self.settings.accuracy_unknown);
            let counts = match ending {
                Ending::Answered { .. } | Ending::Expired { .. } => true,
                // Not the arm's doing.
                Ending::Failed { last, .. } => last != Fault::Engine,
                Ending::Refused | Ending::Cancelled => false,
            };
            if counts {
                self.policy.learn(&Outcome {
                    model: flight.model.as_str(),
                    arm: &arm.name,
                    context: decision.context,
                    kind: arm.kind,
                    sla,
                    predicted: decision.predicted,
                    response: answered.then_some(response),
                    accuracy,
                });
            }
            if let Ending::Answered { attempt, .. } = ending {
                if attempt == 0 {
                    self.correct(&flight, response);
                }
                let learnt = Learnt {
                    model: flight.model.clone(),
                    arm: arm.name.clone(),
                    context: decision.context,
                    kind: arm.kind,
                    sla,
                    predicted: decision.predicted,
                    response,
                    accuracy,
                    classes: Vec::new(),
                };
                self.memory.keep(request, learnt);
            }
        }
        let report = Report {
            ending,
            decision: flight.decision,
            response,
            sla,
            sla_held,
        };
        Some(Order::Finish { request, report })
    }

    fn correct(&mut self, flight: &Flight, response: Duration) {
        let Some(decision) = &flight.decision else {
            return;
        };
        let arms = self
            .arms
            .get_mut(&flight.model)
            .map_or(&mut [][..], Vec::as_mut_slice);
        if let Some(arm) = arms
            .iter_mut()
            .find(|arm| arm.plan.name == decision.arm.name)
        {
            arm.correction.observe(flight.raw, response);
        }
    }
}

fn route_of(flight: &Flight, branch: u32) -> Option<&Route> {
    flight.decision.as_ref()?.arm.branches.get(branch as usize)
}

#[cfg(test)]
mod tests;
