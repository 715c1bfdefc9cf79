//! What would happen to a live system if something were different.
//!
//! A [`Observed`] is what the centre knows of itself: its fleet, what the arms cost where, what comes, the
//! plan in force. [`what_if`] runs it as it is and as it would be, on the same random numbers, and tells
//! both with intervals. After a change the fleet is planned anew by the production strategy, and running
//! arms stay where they are under the same rule as in the live planner; what is compared is how the system
//! runs before and afterwards, not the change itself.

mod answer;
mod change;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use splitplace_brain::Settings;
use splitplace_fleet::{Links, Node, Snapshot, Timestamp};
use splitplace_plan::{ModelName, Plan};
use splitplace_policy::{Policy, PolicyError, by_name};

pub use answer::{Answer, Difference, Side};
pub use change::{Change, ChangeError, End};

use crate::{
    Seed,
    planner::{Fixed, Offered, Planner as _},
    world::{Control, Load, Report, Worker, World, run},
};

/// What a live system has shown of one model lately.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shown {
    /// Mean seconds to the answer.
    pub response: f64,
    /// Share of the requests without an answer.
    pub loss: f64,
    /// Share of the requests whose promise was not kept.
    pub violations: f64,
    /// Requests behind these figures, forgetting counted.
    pub weight: f64,
}

/// A live system at one moment.
#[derive(Debug)]
pub struct Observed {
    /// Its nodes; the columns of [`Offered::nodes`] are among them.
    pub workers: Vec<Worker>,
    /// Its links.
    pub links: Links,
    /// The plan in force.
    pub plan: Plan,
    /// What could be planned.
    pub planner: Offered,
    /// What comes. A model without requests has no load.
    pub loads: Vec<Load>,
    /// What was seen of each model.
    pub shown: BTreeMap<ModelName, Shown>,
    /// Of the brain.
    pub settings: Settings,
    /// Of the centre.
    pub control: Control,
    /// The policy's name, its parameters, and what it has learnt.
    pub policy: (String, BTreeMap<String, f64>, BTreeMap<String, f64>),
}

/// How much is simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// Seconds of requests that count.
    pub measured: Duration,
    /// Seconds before them.
    pub warm_up: Duration,
    /// Runs of each side, at least 2.
    pub runs: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            measured: Duration::from_secs(20),
            warm_up: Duration::from_secs(2),
            runs: 8,
        }
    }
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WhatIfError {
    /// A change does not fit the system.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The policy is none of ours.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Nothing comes.
    #[error("no request was seen lately: send some, or say rate=[MODEL:]PER_SECOND")]
    Idle,
    /// The observed world cannot be run.
    #[error("the observed system cannot be simulated: {}", .0.join("; "))]
    Wrong(Vec<String>),
}

/// A question ready to be run, replication by replication.
#[derive(Debug)]
pub struct Question {
    before: World,
    after: World,
    plans: [Plan; 2],
    policy: (String, BTreeMap<String, f64>, BTreeMap<String, f64>),
    changes: Vec<Change>,
    shown: BTreeMap<ModelName, Shown>,
    effort: Effort,
    seed: Seed,
}

/// Answers a question: the same arguments give the same answer.
///
/// Costs twice [`Effort::runs`] simulations, 5 to 20 µs a request each.
///
/// # Errors
/// [`WhatIfError`], before anything is simulated.
pub fn what_if(
    observed: &Observed,
    changes: &[Change],
    effort: Effort,
    seed: Seed,
) -> Result<Answer, WhatIfError> {
    let question = Question::new(observed, changes, effort, seed)?;
    let mut answer = question.unanswered();
    for number in 0..question.runs() {
        answer.add(&question.replicate(number));
    }
    Ok(answer)
}

/// What the system does under the plan that it has: one side of a question, for whoever brings a plan of its own.
///
/// Costs [`Effort::runs`] simulations, 5 to 20 µs a request each.
///
/// # Errors
/// [`WhatIfError`], before anything is simulated.
pub fn as_it_is(observed: &Observed, effort: Effort, seed: Seed) -> Result<Side, WhatIfError> {
    let question = Question::new(observed, &[], effort, seed)?;
    let mut side = question.unanswered().before;
    for number in 0..question.runs() {
        side.outcome.add(&question.side(0, number));
    }
    Ok(side)
}

impl Question {
    /// Checks everything and plans both sides.
    ///
    /// # Errors
    /// [`WhatIfError`].
    pub fn new(
        observed: &Observed,
        changes: &[Change],
        effort: Effort,
        seed: Seed,
    ) -> Result<Self, WhatIfError> {
        let (name, params, _) = &observed.policy;
        by_name(name, params)?;
        let mut before = world(observed, effort);
        let mut offered = Offered {
            nodes: observed.planner.nodes.clone(),
            offers: observed.planner.offers.clone(),
            strategy: Arc::clone(&observed.planner.strategy),
            settings: observed.planner.settings.clone(),
            inertia: observed.planner.inertia,
        };
        let mut after = before.clone();
        let mut parent = observed.plan.clone();
        for change in changes {
            change.apply(&mut after, &mut offered, &mut parent)?;
        }
        // A load that only the question knows of has nothing to be compared with.
        for load in &after.loads {
            if !before.loads.iter().any(|one| one.model == load.model) {
                before.loads.push(load.clone());
            }
        }
        let is_idle = |world: &World| world.loads.iter().all(|one| one.arrivals.rate() <= 0.0);
        if is_idle(&before) || is_idle(&after) {
            return Err(WhatIfError::Idle);
        }
        let wrong: Vec<String> = before.check().into_iter().chain(after.check()).collect();
        if !wrong.is_empty() {
            return Err(WhatIfError::Wrong(wrong));
        }
        // What comes is no part of a plan; nodes and links are.
        let nodes = |world: &World| -> Vec<Node> {
            world.workers.iter().map(|one| one.node.clone()).collect()
        };
        let is_same_fleet = nodes(&before) == nodes(&after) && before.links == after.links;
        let planned = if is_same_fleet {
            parent
        } else {
            let next = parent.generation.next();
            offered.plan(&snapshot(&after), &parent, next)
        };
        Ok(Self {
            before,
            after,
            plans: [observed.plan.clone(), planned],
            policy: observed.policy.clone(),
            changes: changes.to_vec(),
            shown: observed.shown.clone(),
            effort,
            seed,
        })
    }

    /// Runs of each side.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.effort.runs.max(2)
    }

    /// One run of each side. Runs may be made in any order, and side by side.
    #[must_use]
    pub fn replicate(&self, number: u64) -> [Report; 2] {
        [0, 1].map(|side| self.side(side, number))
    }

    /// A run of the side before (0) or after (1).
    fn side(&self, side: usize, number: u64) -> Report {
        let seed = self.seed.child("replication", number);
        let world = [&self.before, &self.after][side];
        let plan = Fixed(self.plans[side].clone());
        run(world, self.new_policy(), &plan, seed)
    }

    /// The answer before the first run.
    #[must_use]
    pub fn unanswered(&self) -> Answer {
        let [before, after] = self.plans.clone();
        Answer::new(self.changes.clone(), before, after, self.shown.clone())
    }

    fn new_policy(&self) -> Box<dyn Policy> {
        let (name, params, state) = &self.policy;
        let mut policy = by_name(name, params).expect("checked when the question was made");
        policy.restore(state);
        policy
    }
}

fn world(observed: &Observed, effort: Effort) -> World {
    World {
        workers: observed.workers.clone(),
        links: observed.links.clone(),
        loads: observed.loads.clone(),
        faults: Vec::new(),
        settings: observed.settings,
        control: observed.control,
        exits: BTreeMap::new(),
        warm_up: effort.warm_up,
        duration: effort.warm_up + effort.measured,
    }
}

fn snapshot(world: &World) -> Snapshot {
    let mut snapshot = Snapshot::empty(Timestamp::ZERO);
    snapshot.links = world.links.clone();
    let nodes = world.workers.iter().map(|worker| worker.node.clone());
    snapshot.nodes = nodes.map(|node| (node.id.clone(), node)).collect();
    snapshot
}

#[cfg(test)]
mod tests;
