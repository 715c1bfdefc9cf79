//! Every request in flight, and the one function that moves them on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use splitplace_fleet::{NodeId, Timestamp};
use splitplace_plan::RouteId;

use crate::event::{BranchRoute, Effect, Ending, Event, Fault, RequestId};

/// Bounds of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight; one more is refused.
    pub in_flight_max: usize,
    /// Attempts of one request that end in a transient fault before it fails.
    pub attempts_max: u32,
    /// Pause before a request that could not be routed is decided again, doubled each time up to
    /// 64-fold. A change of routes ends the pause at once.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight_max: 4096,
            attempts_max: 16,
            pause: Duration::from_millis(5),
        }
    }
}

/// How many requests came and how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All that came, refused ones included.
    pub arrived: u64,
    /// Refused at the door.
    pub refused: u64,
    /// Answered, in time or late.
    pub answered: u64,
    /// Nobody waited any more.
    pub expired: u64,
    /// Given up.
    pub failed: u64,
    /// The client went away.
    pub cancelled: u64,
    /// Attempts after a request's first.
    pub retried: u64,
}

impl Counts {
    /// Requests that ended, however.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.refused + self.answered + self.expired + self.failed + self.cancelled
    }
}

/// One branch of a running attempt.
#[derive(Clone, Debug)]
struct Branch {
    route: RouteId,
    nodes: BTreeSet<NodeId>,
    is_answered: bool,
}

#[derive(Clone, Debug)]
enum State {
    /// [`Effect::Decide`] was given and is not yet answered.
    Deciding,
    /// Nothing can run it; decided again at `until` or when routes change.
    Waiting { until: Timestamp },
    /// On its way.
    Running {
        branches: Vec<Branch>,
        partial: bool,
    },
}

#[derive(Clone, Debug)]
struct Entry {
    deadline: Timestamp,
    expiry: Timestamp,
    /// The attempt being decided or running.
    attempt: u32,
    /// Pauses taken since the routes last changed.
    pauses: u32,
    avoid: BTreeSet<RouteId>,
    last: Option<Fault>,
    state: State,
}

/// Every request in flight.
#[derive(Clone, Debug)]
pub struct Ledger {
    limits: Limits,
    entries: BTreeMap<RequestId, Entry>,
    counts: Counts,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            counts: zero(),
        }
    }

    /// How many came and how they ended.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Requests that have not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.entries.len()
    }

    /// Takes in one fact. Total: every fact is allowed in every state, and a stale one has no effect.
    ///
    /// Costs O(log n) for a fact about one request, O(n) for [`Event::NodeLost`] and
    /// [`Event::RoutesChanged`], with n requests in flight.
    ///
    /// # Panics
    /// When a request would be lost or end twice: a bug of this module, never of its callers.
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Arrived {
                request,
                deadline,
                expiry,
            } => {
                self.arrive(request, deadline, expiry, &mut effects);
            }
            Event::Routed {
                request,
                attempt,
                generation,
                branches,
                partial,
            } => {
                let Some(entry) = self.deciding(request, attempt) else {
                    return effects;
                };
                assert!(!branches.is_empty(), "an arm has at least one branch");
                for (branch, way) in (0u32..).zip(&branches) {
                    let route = way.route;
                    effects.push(Effect::Send {
                        request,
                        attempt,
                        branch,
                        generation,
                        route,
                    });
                }
                let branches = branches.into_iter().map(Branch::new).collect();
                entry.state = State::Running { branches, partial };
            }
            Event::Unroutable { request, attempt } => {
                self.unroutable(now, request, attempt, &mut effects);
            }
            Event::BranchAnswered {
                request,
                attempt,
                branch,
            } => {
                self.answered(request, attempt, branch, &mut effects);
            }
            Event::BranchFailed {
                request,
                attempt,
                branch,
                fault,
            } => {
                self.failed(now, request, attempt, Some(branch), fault, &mut effects);
            }
            Event::NodeLost { node } => {
                let hit: Vec<_> = self
                    .entries
                    .iter()
                    .filter(|(_, entry)| entry.depends_on(&node))
                    .map(|(&request, entry)| (request, entry.attempt))
                    .collect();
                for (request, attempt) in hit {
                    self.failed(now, request, attempt, None, Fault::NodeLost, &mut effects);
                }
            }
            Event::RoutesChanged => {
                for (&request, entry) in &mut self.entries {
                    entry.avoid.clear();
                    entry.pauses = 0;
                    if matches!(entry.state, State::Waiting { .. }) {
                        entry.decide(request, &mut effects);
                    }
                }
            }
            Event::Woke { request } => self.woke(now, request, &mut effects),
            Event::Cancelled { request } => self.finish(request, Ending::Cancelled, &mut effects),
        }
        let in_flight =
            u64::try_from(self.entries.len()).expect("a count of requests fits 64 bits");
        assert_eq!(
            self.counts.arrived,
            self.counts.ended() + in_flight,
            "a request was lost or ended twice"
        );
        effects
    }

    fn arrive(
        &mut self,
        request: RequestId,
        deadline: Timestamp,
        expiry: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        if self.entries.contains_key(&request) {
            return;
        }
        self.counts.arrived += 1;
        if self.entries.len() >= self.limits.in_flight_max {
            self.counts.refused += 1;
            effects.push(Effect::Finish {
                request,
                ending: Ending::Refused,
            });
            return;
        }
        let expiry = expiry.max(deadline);
        let mut entry = Entry {
            deadline,
            expiry,
            attempt: 0,
            pauses: 0,
            avoid: BTreeSet::new(),
            last: None,
            state: State::Deciding,
        };
        entry.decide(request, effects);
        self.entries.insert(request, entry);
        effects.push(Effect::WakeAt {
            request,
            at: deadline,
        });
    }

    fn unroutable(
        &mut self,
        now: Timestamp,
        request: RequestId,
        attempt: u32,
        effects: &mut Vec<Effect>,
    ) {
        let limits = self.limits;
        let Some(entry) = self.deciding(request, attempt) else {
            return;
        };
        // What failed before may be all that there is: after the pause every route is allowed again.
        entry.avoid.clear();
        let until = now + limits.pause * (1 << entry.pauses.min(6));
        entry.pauses += 1;
        entry.state = State::Waiting { until };
        effects.push(Effect::WakeAt {
            request,
            at: until.min(entry.expiry),
        });
    }

    fn answered(
        &mut self,
        request: RequestId,
        attempt: u32,
        branch: u32,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.entries.get_mut(&request) else {
            return;
        };
        if entry.attempt != attempt {
            return;
        }
        let State::Running { branches, .. } = &mut entry.state else {
            return;
        };
        let Some(slot) = branches.get_mut(branch as usize) else {
            return;
        };
        slot.is_answered = true;
        if branches.iter().all(|branch| branch.is_answered) {
            let ending = Ending::Answered {
                attempt,
                missing: Vec::new(),
            };
            self.finish(request, ending, effects);
        }
    }

    /// A branch (or, with `None`, some branch of the attempt) will not come back.
    fn failed(
        &mut self,
        now: Timestamp,
        request: RequestId,
        attempt: u32,
        branch: Option<u32>,
        fault: Fault,
        effects: &mut Vec<Effect>,
    ) {
        let limits = self.limits;
        let Some(entry) = self.entries.get_mut(&request) else {
            return;
        };
        if entry.attempt != attempt {
            return;
        }
        let State::Running { branches, partial } = &entry.state else {
            return;
        };
        match branch {
            Some(branch) => {
                let Some(hit) = branches.get(branch as usize) else {
                    return;
                };
                if hit.is_answered {
                    return;
                }
                entry.avoid.insert(hit.route);
            }
            None => entry
                .avoid
                .extend(branches.iter().map(|branch| branch.route)),
        }
        entry.last = Some(fault);
        let attempts = attempt + 1;
        let ending = if now >= entry.expiry || fault == Fault::Expired {
            Ending::Expired {
                last: Some(fault),
                attempts,
            }
        } else if *partial && now >= entry.deadline && entry.has_some() {
            Ending::Answered {
                attempt,
                missing: entry.missing(),
            }
        } else if attempts >= limits.attempts_max || (!fault.is_transient() && attempt > 0) {
            // What does not pass by itself is tried once more, by another way, in case it is one node's.
            Ending::Failed {
                last: fault,
                attempts,
            }
        } else {
            entry.attempt += 1;
            entry.decide(request, effects);
            self.counts.retried += 1;
            return;
        };
        self.finish(request, ending, effects);
    }

    fn woke(&mut self, now: Timestamp, request: RequestId, effects: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get_mut(&request) else {
            return;
        };
        if let State::Running { partial: true, .. } = entry.state
            && now >= entry.deadline
            && entry.has_some()
        {
            let ending = Ending::Answered {
                attempt: entry.attempt,
                missing: entry.missing(),
            };
            return self.finish(request, ending, effects);
        }
        if now >= entry.expiry {
            let attempts = entry.attempt + u32::from(matches!(entry.state, State::Running { .. }));
            let ending = Ending::Expired {
                last: entry.last,
                attempts,
            };
            return self.finish(request, ending, effects);
        }
        if let State::Waiting { until } = entry.state
            && now >= until
        {
            entry.decide(request, effects);
        }
        let next = if now < entry.deadline {
            entry.deadline
        } else {
            entry.expiry
        };
        let at = match entry.state {
            State::Waiting { until } => next.min(until),
            State::Deciding | State::Running { .. } => next,
        };
        effects.push(Effect::WakeAt { request, at });
    }

    fn deciding(&mut self, request: RequestId, attempt: u32) -> Option<&mut Entry> {
        self.entries
            .get_mut(&request)
            .filter(|entry| entry.attempt == attempt && matches!(entry.state, State::Deciding))
    }

    fn finish(&mut self, request: RequestId, ending: Ending, effects: &mut Vec<Effect>) {
        if self.entries.remove(&request).is_none() {
            return;
        }
        match ending {
            Ending::Answered { .. } => self.counts.answered += 1,
            Ending::Refused => self.counts.refused += 1,
            Ending::Expired { .. } => self.counts.expired += 1,
            Ending::Failed { .. } => self.counts.failed += 1,
            Ending::Cancelled => self.counts.cancelled += 1,
        }
        effects.push(Effect::Finish { request, ending });
    }
}

impl Branch {
    fn new(way: BranchRoute) -> Self {
        Self {
            route: way.route,
            nodes: way.nodes,
            is_answered: false,
        }
    }
}

impl Entry {
    fn decide(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        self.state = State::Deciding;
        let avoid = self.avoid.clone();
        effects.push(Effect::Decide {
            request,
            attempt: self.attempt,
            avoid,
        });
    }

    /// Whether a branch that is not back yet leads through `node`.
    fn depends_on(&self, node: &NodeId) -> bool {
        match &self.state {
            State::Running { branches, .. } => branches
                .iter()
                .any(|branch| !branch.is_answered && branch.nodes.contains(node)),
            State::Deciding | State::Waiting { .. } => false,
        }
    }

    fn has_some(&self) -> bool {
        match &self.state {
            State::Running { branches, .. } => branches.iter().any(|branch| branch.is_answered),
            State::Deciding | State::Waiting { .. } => false,
        }
    }

    fn missing(&self) -> Vec<u32> {
        match &self.state {
            State::Running { branches, .. } => (0u32..)
                .zip(branches)
                .filter(|(_, branch)| !branch.is_answered)
                .map(|(index, _)| index)
                .collect(),
            State::Deciding | State::Waiting { .. } => Vec::new(),
        }
    }
}

const fn zero() -> Counts {
    Counts {
        arrived: 0,
        refused: 0,
        answered: 0,
        expired: 0,
        failed: 0,
        cancelled: 0,
        retried: 0,
    }
}

#[cfg(test)]
mod tests;
