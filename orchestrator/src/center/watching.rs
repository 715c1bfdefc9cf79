//! The centre as operators see it: it keeps the [`Book`](crate::watch::Book) and answers from it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use splitplace_brain::Report;
use splitplace_fleet::{Links, Node, NodeId, Place};
use splitplace_lifecycle::{Ending, Fault, RequestId};
use splitplace_plan::{ModelName, Plan};
use splitplace_proto::{
    center::{BeliefStatus, DecisionStatus, LinkStatus, StatusResponse, TrafficStatus},
    control,
};
use tokio::sync::{Semaphore, oneshot};

use super::{
    Center, Inner, answer,
    control::{Basis, Command},
    flow::{Part, Waiting},
    roll_out,
};
use crate::{
    face::{Answer, AskError, Face as _, LAST_EXIT, Via},
    foresight::{Foresight, Question, SeenLoad, Situation, WhatIf, moves},
    planning::{PlanningInput, plan},
    watch::{
        Book, HopView, Loss, RequestView, Traffic, requests::Order, trace::Context,
        traffic::slowest, view,
    },
    watched::{Operation, Watched, WhatIfError},
};

/// Rate that is assumed of a model that nobody asks for, so that a question has an answer.
const ASSUMED_RATE: f64 = 10.0;
/// While nobody looks, every so many comparisons is made: the metric must not cost what the requests need.
const UNWATCHED: u32 = 6;
/// Between two comparisons of the twin with what is seen.
const COMPARE: Duration = Duration::from_secs(10);
/// Comparisons that are remembered.
const COMPARISONS: usize = 90;
/// Answers within a window that a comparison needs.
const ENOUGH: u32 = 20;
/// Seconds after the last look at the dashboard that comparisons go on.
const WATCHED: u64 = 20;

/// What the centre keeps for operators.
pub(super) struct Watching {
    pub(super) book: Mutex<Book>,
    foresight: RwLock<Option<Arc<dyn Foresight>>>,
    /// One question at a time.
    asking: Semaphore,
    comparisons: Mutex<VecDeque<Value>>,
    /// Second of the last look.
    looked: AtomicU64,
}

impl Default for Watching {
    fn default() -> Self {
        Self {
            book: Mutex::default(),
            foresight: RwLock::default(),
            asking: Semaphore::new(1),
            comparisons: Mutex::default(),
            looked: AtomicU64::new(0),
        }
    }
}

const fn micros(time: Duration) -> u64 {
    let micros = time.as_micros();
    if micros > u64::MAX as u128 {
        u64::MAX
    } else {
        micros as u64
    }
}

/// Why a request that has ended has no answer; `None` when it has one.
const fn loss(ending: &Ending, is_answer: bool) -> Option<Loss> {
    match ending {
        Ending::Answered { .. } if is_answer => None,
        Ending::Answered { .. } => Some(Loss::Broken),
        Ending::Refused => Some(Loss::Overloaded),
        Ending::Expired { .. } => Some(Loss::Expired),
        Ending::Failed {
            last: Fault::Engine,
            ..
        } => Some(Loss::Broken),
        Ending::Failed { .. } => Some(Loss::Unreachable),
        Ending::Cancelled => Some(Loss::Cancelled),
    }
}

pub(super) fn seen(
    request: RequestId,
    waiting: &Waiting,
    report: &Report,
    outcome: &Result<Answer, AskError>,
    unix_ms: u64,
) -> RequestView {
    let mut view = RequestView {
        id: request.0.to_string(),
        unix_ms,
        model: waiting.served.name.to_string(),
        samples: waiting.samples,
        sla_us: micros(report.sla),
        response_us: micros(report.response),
        ending: answer::ending(&report.ending).to_owned(),
        held: report.sla_held && outcome.is_ok(),
        ..RequestView::default()
    };
    if let Some(decision) = &report.decision {
        view.arm.clone_from(&decision.arm.name);
        decision.arm.kind.label().clone_into(&mut view.kind);
        view.generation = decision.generation.0;
        decision.context.clone_into(&mut view.context);
        view.reason = decision.reason.to_string();
        view.propensity = decision.propensity;
        view.accuracy = decision.arm.accuracy.unwrap_or(0.0);
        view.predicted_us = micros(decision.predicted);
    }
    match outcome {
        Ok(answer) => {
            view.exit = answer.exit.clone().unwrap_or_else(|| LAST_EXIT.into());
            view.attempts = answer.attempts;
            view.missing.clone_from(&answer.missing);
            let hop = |hop: &crate::face::HopRecord| HopView {
                node: hop.node.clone(),
                branch: hop.branch,
                hop: hop.hop,
                codec: hop.codec.clone(),
                transfer_us: micros(hop.transfer),
                queue_us: micros(hop.queue),
                compute_us: micros(hop.compute),
                encode_us: micros(hop.encode + hop.outbox),
            };
            view.hops = answer.hops.iter().map(hop).collect();
        }
        Err(error) => {
            view.error = error.to_string();
            if let Ending::Failed { attempts, .. } = report.ending {
                view.attempts = attempts;
            }
        }
    }
    view
}

impl Inner {
    /// Notes what a node reported, and what has gone to it.
    pub(super) fn note_report(&self, node: &Node, report: &control::Report) {
        let name = node.id.as_str();
        let at = self.seconds();
        let outlet = self.outlets.read().get(&node.id).cloned();
        let mut book = self.watching.book.lock();
        book.nodes.reported(at, name, node.cores, report);
        if let Some(outlet) = outlet {
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let tallies = outlet.tallies();
            let (frames, bytes) = (read(&tallies.frames), read(&tallies.bytes));
            book.nodes
                .link(at, ("", name), frames, bytes, read(&tallies.reconnects));
        }
    }

    /// Requests a second of a model, as they come now.
    pub(super) fn seen_rate(&self, model: &ModelName) -> f64 {
        let book = self.watching.book.lock();
        let seen = book.seen(model.as_str());
        seen.map_or(0.0, |seen| view::rate(seen, self.second()))
    }

    /// Whole seconds on the centre's clock.
    fn second(&self) -> u64 {
        self.clock.now().as_nanos() / 1_000_000_000
    }

    /// Seconds on the centre's clock.
    fn seconds(&self) -> f64 {
        Duration::from_nanos(self.clock.now().as_nanos()).as_secs_f64()
    }

    /// Notes a request that has ended.
    pub(super) fn note_ended(
        &self,
        model: &ModelName,
        ending: &Ending,
        view: RequestView,
        is_answer: bool,
    ) {
        let loss = loss(ending, is_answer);
        match loss {
            Some(loss) => self.metrics.lost(model, loss),
            None => self.metrics.stages(model, slowest(&view)),
        }
        let second = self.second();
        self.watching.book.lock().ended(second, view, loss);
    }

    /// Notes what the exits of an audited request said, and whether the network's end agreed.
    pub(super) fn note_audited(&self, model: &ModelName, report: &Report, part: &Part, class: u32) {
        let Some(decision) = &report.decision else {
            return;
        };
        let routes = decision.arm.branches.iter();
        let exits: BTreeMap<u32, &str> = routes
            .flat_map(|route| &route.hops)
            .flat_map(|hop| &hop.exits)
            .map(|exit| (exit.number, &exit.name[..]))
            .collect();
        let said = part.trail.iter().flat_map(|timing| &timing.exits);
        let said = said.filter_map(|said| {
            let exit = exits.get(&said.number)?;
            Some((*exit, said.class == class))
        });
        let mut book = self.watching.book.lock();
        book.model(model).audited(said);
    }

    /// Notes a request that was not let in.
    pub(super) fn note_refused(&self, model: &str, error: &AskError, call: (Option<Context>, Via)) {
        let loss = match error {
            AskError::NotReady { .. } => Loss::NotReady,
            AskError::Hopeless { .. } => Loss::Hopeless,
            AskError::Overloaded { .. } | AskError::Draining => Loss::Overloaded,
            // Mistakes of the client are no losses.
            AskError::UnknownModel { .. }
            | AskError::UnknownVersion { .. }
            | AskError::Invalid(_)
            | AskError::Inaccurate { .. }
            | AskError::Expired { .. }
            | AskError::Failed(_) => return,
        };
        self.traced_refusal(model, error, call);
        let model = ModelName::new(model);
        self.metrics.lost(&model, loss);
        let second = self.second();
        self.watching
            .book
            .lock()
            .model(&model)
            .refused(second, loss);
    }

    /// Adds to a status what was seen.
    pub(super) fn tell_seen(&self, status: &mut StatusResponse) {
        let now = self.second();
        let book = self.watching.book.lock();
        for node in &mut status.nodes {
            let seen = book.nodes.node(&node.node);
            node.busy = seen.busy;
            node.queued = seen.queued;
            node.computed_per_second = seen.computed_per_second;
        }
        for model in &mut status.models {
            let seen = book.seen(&model.model);
            model.traffic = seen.map(|seen| traffic(seen, now));
        }
        let links = book.nodes.links();
        status.links = links
            .filter(|(from, to, seen)| {
                seen.frames_per_second > 0.0 || !book.nodes.distrust(from, to).is_empty()
            })
            .map(|(from, to, seen)| LinkStatus {
                distrust: book.nodes.distrust(from, to).to_owned(),
                from: from.to_owned(),
                to: to.to_owned(),
                frames_per_second: seen.frames_per_second,
                bytes_per_second: seen.bytes_per_second,
                reconnects: seen.reconnects,
            })
            .collect();
        let newest = book.requests.list(Order::Newest, None, view::DECISIONS);
        let decision = |one: &Arc<RequestView>| DecisionStatus {
            request: one.id.parse().unwrap_or(0),
            unix_ms: one.unix_ms,
            model: one.model.clone(),
            arm: one.arm.clone(),
            context: one.context.clone(),
            reason: one.reason.clone(),
            propensity: one.propensity,
            sla_us: one.sla_us,
            predicted_us: one.predicted_us,
            response_us: one.response_us,
            ending: one.ending.clone(),
            held: one.held,
        };
        status.decisions = newest.iter().map(decision).collect();
        let belief = |row: crate::watch::bandit::Row| BeliefStatus {
            model: row.model,
            context: row.context,
            arm: row.arm,
            count: row.count,
            explored: row.explored,
            held: row.held,
            reward: row.reward,
            confidence: row.confidence.unwrap_or(0.0),
            propensity: row.propensity,
        };
        status.beliefs = book.bandit.rows().into_iter().map(belief).collect();
    }

    /// What a world with this fleet, plan and load is worth is asked with this.
    fn situation(&self, basis: &Basis, loads: Vec<SeenLoad>) -> Situation {
        let links = self.links.clone().unwrap_or_default();
        let (pace, overhead) = calibrate(&self.watching.book.lock(), &basis.start.parent, &links);
        Situation {
            pace,
            overhead,
            snapshot: basis.start.snapshot.clone(),
            plan: basis.start.parent.clone(),
            loads,
            policy: (
                self.config.policy.name.clone(),
                self.config.policy.params.clone(),
            ),
            learnt: self.flow.lock().brain.policy().state(),
            in_flight_max: self.config.admission.max_in_flight,
            queue_limit: self.config.workers.queue_limit,
            variation: variation(basis),
        }
    }

    /// The load that was seen, and what had to be assumed of it.
    fn loads(&self, basis: &Basis) -> (Vec<SeenLoad>, String) {
        let now = self.second();
        let book = self.watching.book.lock();
        let mut assumed = Vec::new();
        let mut loads = Vec::new();
        for served in &basis.start.models {
            let seen = book.seen(served.name.as_str());
            let seen_rate = seen.map_or(0.0, |seen| view::rate(seen, now));
            let is_seen = 0.0 < seen_rate;
            let slas: Vec<(Duration, f64)> = seen
                .into_iter()
                .flat_map(Traffic::slas)
                .map(|(us, weight)| (Duration::from_micros(us), weight))
                .collect();
            if !is_seen {
                assumed.push(served.name.to_string());
            }
            loads.push(SeenLoad {
                model: served.name.clone(),
                rate_per_second: if is_seen { seen_rate } else { ASSUMED_RATE },
                slas: if slas.is_empty() {
                    vec![(served.loaded.default_sla(), 1.0)]
                } else {
                    slas
                },
                patience: Duration::from_millis(self.config.admission.patience_ms),
                samples: seen.map_or(1, Traffic::samples),
            });
        }
        if loads.len() > assumed.len() {
            // A model that nobody asks for does not load the fleet while others do.
            loads.retain(|load| !assumed.contains(&load.model.to_string()));
            assumed.clear();
        }
        let told = if assumed.is_empty() {
            String::new()
        } else {
            format!(
                "nobody asks for anything now: as if {ASSUMED_RATE:.0} requests a second came to {}",
                assumed.join(" and ")
            )
        };
        (loads, told)
    }

    pub(super) async fn basis(&self) -> Result<Basis, String> {
        let (told, basis) = oneshot::channel();
        let gone = || "the server is shutting down".to_owned();
        let asked = self.commands.send(Command::Basis { told });
        asked.await.map_err(|_| gone())?;
        basis.await.map_err(|_| gone())
    }
}

/// The last minute of a model.
fn traffic(seen: &Traffic, now: u64) -> TrafficStatus {
    let window = seen.window(now, view::WINDOW);
    let (right, samples) = seen.told();
    let us = |q| {
        let seconds = window.parts.response.quantile(q).unwrap_or(0.0);
        micros(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    };
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    let feedback_accuracy = right as f64 / samples.max(1) as f64;
    TrafficStatus {
        requests_per_second: view::rate(seen, now),
        answered: u64::from(window.answered),
        held: view::share(window.held, window.answered).unwrap_or(0.0),
        p50_us: us(0.5),
        p95_us: us(0.95),
        p99_us: us(0.99),
        lost: Loss::ALL
            .into_iter()
            .zip(window.lost)
            .map(|(loss, count)| (loss.label().to_owned(), u64::from(count)))
            .collect(),
        feedback_accuracy,
        feedback_samples: samples,
    }
}

/// How service times compare with the plan's, by node, and what a frame takes beyond its link.
fn calibrate(book: &Book, plan: &Plan, links: &Links) -> (BTreeMap<NodeId, f64>, Duration) {
    let mut paces: BTreeMap<NodeId, (f64, f64)> = BTreeMap::new();
    let (mut beyond, mut weights) = (0.0, 0.0);
    for (model, planned) in &plan.models {
        let Some(seen) = book.seen(model.as_str()) else {
            continue;
        };
        for ((arm, branch, at, node), mean) in seen.hops() {
            let arm = planned.arms.iter().find(|known| known.name == *arm);
            let route = arm.and_then(|arm| arm.branches.get(*branch as usize));
            let at = *at as usize;
            let Some(hop) = route.and_then(|route| route.hops.get(at)) else {
                continue;
            };
            if hop.node.as_str() != node {
                continue;
            }
            let from = match at.checked_sub(1).and_then(|at| route?.hops.get(at)) {
                Some(before) => Place::from(&before.node),
                None => Place::Center,
            };
            let expected = (hop.service + hop.coding).as_secs_f64() * 1e6;
            let (took, planned) = paces.entry(hop.node.clone()).or_default();
            *took += mean.weight * mean.compute_us;
            *planned += mean.weight * expected;
            let link = links.get(&from, &Place::from(&hop.node));
            let carried = link.transfer(hop.bytes_in).as_secs_f64() * 1e6;
            beyond += mean.weight * (mean.transfer_us - carried).max(0.0);
            weights += mean.weight;
        }
    }
    let pace = |(node, (took, planned)): (NodeId, (f64, f64))| {
        (0.0 < planned).then(|| (node, (took / planned).clamp(0.1, 10.0)))
    };
    let overhead = if weights > 0.0 {
        Duration::try_from_secs_f64(beyond / weights / 1e6).unwrap_or_default()
    } else {
        Duration::ZERO
    };
    (paces.into_iter().filter_map(pace).collect(), overhead)
}

/// Squared coefficient of variation of service times, by node, weighted by runs.
fn variation(basis: &Basis) -> BTreeMap<NodeId, f64> {
    let mut sums: BTreeMap<NodeId, (f64, f64)> = BTreeMap::new();
    for record in basis.start.measured.records() {
        let square = record.mean_seconds * record.mean_seconds;
        if square > 0.0 && record.weight > 0.0 {
            let (sum, weight) = sums.entry(record.node).or_default();
            *sum += record.weight * record.variance_seconds2 / square;
            *weight += record.weight;
        }
    }
    let mean = |(node, (sum, weight)): (NodeId, (f64, f64))| (node, sum / weight);
    sums.into_iter().map(mean).collect()
}

impl Center {
    /// Gives the centre somebody to ask what would happen.
    pub fn set_foresight(&self, foresight: Arc<dyn Foresight>) {
        *self.inner.watching.foresight.write() = Some(foresight);
    }
}

/// Compares the twin with what is seen: often while somebody looks, now and then for the metric otherwise.
pub(super) async fn compare(inner: Arc<Inner>) {
    let mut pause = tokio::time::interval(COMPARE);
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut rounds = 0;
    loop {
        pause.tick().await;
        let foresight = inner.watching.foresight.read().clone();
        let looked = inner.watching.looked.load(Ordering::Relaxed);
        let is_watched = looked > 0 && inner.second() < looked + WATCHED;
        rounds = (rounds + 1) % UNWATCHED;
        let (Some(foresight), true) = (foresight, is_watched || rounds == 0) else {
            continue;
        };
        let Ok(basis) = inner.basis().await else {
            return;
        };
        let (loads, assumed) = inner.loads(&basis);
        if !assumed.is_empty() || loads.is_empty() {
            continue;
        }
        let Ok(_permit) = inner.watching.asking.try_acquire() else {
            continue;
        };
        let situation = inner.situation(&basis, loads);
        let seed = inner.seed;
        let foreseen =
            tokio::task::spawn_blocking(move || foresight.foresee(&situation, seed)).await;
        let Ok(Ok(forecast)) = foreseen else {
            continue;
        };
        let now = inner.second();
        let book = inner.watching.book.lock();
        for (model, predicted) in &forecast.models {
            let Some(seen) = book.seen(model) else {
                continue;
            };
            let window = seen.window(now, view::RATE_WINDOW);
            if window.answered < ENOUGH {
                continue;
            }
            let mean = window.response / f64::from(window.answered);
            let error = (predicted.response_seconds.mean - mean) / mean;
            inner.metrics.predictions.compared(model, error);
            let told = json!({
                "second": now,
                "model": model,
                "predicted": predicted,
                "observed": {
                    "offered_per_second": view::rate(seen, now),
                    "response_seconds": mean,
                    "p95_seconds": window.parts.response.quantile(0.95),
                    "held": view::share(window.held, window.ended),
                    "loss": view::share(window.ended - window.answered, window.ended),
                    "accuracy": window.accuracy / f64::from(window.answered),
                },
                // Of the mean response, as a share of what was seen.
                "error": error,
            });
            let mut comparisons = inner.watching.comparisons.lock();
            if COMPARISONS <= comparisons.len() {
                comparisons.pop_front();
            }
            comparisons.push_back(told);
        }
    }
}

impl Watched for Center {
    fn structure(&self) -> Value {
        let inner = &self.inner;
        let links = inner.links.clone().unwrap_or_default();
        let mut told = view::structure(&self.status(), &links, inner.links.is_some());
        told["assumed"] = json!(inner.fleet.read().assumed);
        told["foresight"] = json!(inner.watching.foresight.read().is_some());
        told
    }

    fn pulse(&self) -> Value {
        let inner = &self.inner;
        let now = inner.second();
        inner.watching.looked.store(now, Ordering::Relaxed);
        let status = self.status();
        let mut told = view::pulse(&inner.watching.book.lock(), &status, now);
        told["twin"] = json!(*inner.watching.comparisons.lock());
        told
    }

    fn history(&self) -> Value {
        view::history(&self.inner.watching.book.lock(), self.inner.second())
    }

    fn request(&self, id: &str) -> Option<Arc<RequestView>> {
        self.inner.watching.book.lock().requests.find(id)
    }

    fn requests(&self, order: Order, model: Option<&str>, count: usize) -> Vec<Arc<RequestView>> {
        let book = self.inner.watching.book.lock();
        book.requests.list(order, model, count)
    }

    async fn operate(&self, what: Operation) -> Result<String, String> {
        match what {
            Operation::Load { model } => {
                let loaded = self.load(&model, None).await;
                loaded.map_err(|error| error.to_string())?;
                Ok(format!("{model} is served"))
            }
            Operation::Unload { model } => {
                let unloaded = self.unload(&model).await;
                unloaded.map_err(|error| error.to_string())?;
                Ok(format!("{model} is not served any more"))
            }
            what => {
                let gone = || "the server is shutting down".to_owned();
                let (told, answer) = oneshot::channel();
                let asked = self.inner.commands.send(Command::Operate { what, told });
                asked.await.map_err(|_| gone())?;
                answer.await.map_err(|_| gone())?
            }
        }
    }

    async fn what_if(&self, question: Question) -> Result<WhatIf, WhatIfError> {
        let inner = &self.inner;
        let foresight = inner.watching.foresight.read().clone();
        let foresight = foresight.ok_or(WhatIfError::Blind)?;
        let _permit = inner
            .watching
            .asking
            .try_acquire()
            .map_err(|_| WhatIfError::Busy)?;
        let mut basis = inner.basis().await.map_err(WhatIfError::Failed)?;
        let checked = question.check(&basis.start.snapshot);
        checked.map_err(WhatIfError::Wrong)?;
        let (loads, assumed) = inner.loads(&basis);
        if loads.is_empty() {
            return Err(WhatIfError::Wrong("no model is served".into()));
        }
        let (center, began) = (Arc::clone(inner), Instant::now());
        let work = move || -> Result<WhatIf, String> {
            basis.start.learn();
            let before = center.situation(&basis, loads);
            let mut after = before.clone();
            question.change(&mut after.snapshot);
            for load in &mut after.loads {
                load.rate_per_second *= question.load_factor(load.model.as_str());
            }
            let mut wishes = roll_out::wishes(&center, &basis.start);
            if let Question::Load { .. } = question {
                for wish in &mut wishes {
                    let load = after
                        .loads
                        .iter()
                        .find(|load| load.model == *wish.loaded.name());
                    let rate = &mut wish.load.rate_per_second;
                    *rate = load.map_or(*rate, |load| load.rate_per_second);
                }
            }
            let output = plan(&PlanningInput {
                parent: &before.plan,
                generation: before.plan.generation.next(),
                snapshot: &after.snapshot,
                wishes: &wishes,
                measured: &basis.start.measured,
                strategy: center.strategy.as_ref(),
                settings: roll_out::settings(&center),
                seed: center.seed,
            });
            let output = output.map_err(|error| error.to_string())?;
            after.plan = output.plan;
            Ok(WhatIf {
                before: foresight.foresee(&before, center.seed)?,
                after: foresight.foresee(&after, center.seed)?,
                moves: moves(&before.plan, &after.plan),
                explanation: after.plan.explanation.clone(),
                unplaced: output
                    .unplaced
                    .into_iter()
                    .map(|(model, why)| (model.to_string(), why))
                    .collect(),
                question,
                assumed,
                took_seconds: began.elapsed().as_secs_f64(),
            })
        };
        let worked = tokio::task::spawn_blocking(work).await;
        worked
            .map_err(|error| WhatIfError::Failed(error.to_string()))?
            .map_err(WhatIfError::Failed)
    }
}
