//! What became of plans: the last ones that were in force, why each was made, what it changed and what that took.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use splitplace_brain::forecast::{self, Backlog};
use splitplace_fleet::Snapshot;
use splitplace_plan::{Diff, Plan, diff};

/// Plans and events that are remembered.
const REMEMBERED: usize = 64;

/// A plan that came into force, or one that was made and moved nothing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlanEvent {
    pub(super) unix_ms: u64,
    /// In force from then on.
    pub(super) generation: u64,
    /// In force before.
    pub(super) parent: u64,
    /// Why it was made.
    pub(super) cause: String,
    /// Cause and outcome in one sentence.
    pub(super) said: String,
    /// Fragments that nodes had to load, and those that stayed where they were.
    pub(super) loaded: usize,
    pub(super) kept: usize,
    /// Bytes of fragments that went to nodes for it.
    pub(super) sent_bytes: u64,
    pub(super) planned_in: Duration,
    pub(super) loaded_in: Duration,
}

/// The last plans and events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Journal {
    events: VecDeque<PlanEvent>,
    plans: VecDeque<Arc<Plan>>,
}

impl Journal {
    /// Notes a plan that came into force.
    pub(super) fn note(&mut self, plan: Arc<Plan>, event: PlanEvent) {
        bounded(&mut self.plans, plan);
        bounded(&mut self.events, event);
    }

    /// The events, oldest first.
    pub(super) fn events(&self) -> impl Iterator<Item = &PlanEvent> {
        self.events.iter()
    }

    /// The plan of that generation, if it is remembered.
    pub(super) fn plan(&self, generation: u64) -> Option<Arc<Plan>> {
        let mut plans = self.plans.iter();
        plans.find(|plan| plan.generation.0 == generation).cloned()
    }

    /// Generations that are remembered, oldest first.
    pub(super) fn generations(&self) -> Vec<u64> {
        self.plans.iter().map(|plan| plan.generation.0).collect()
    }
}

fn bounded<T>(all: &mut VecDeque<T>, one: T) {
    if all.len() == REMEMBERED {
        all.pop_front();
    }
    all.push_back(one);
}

/// What changes with a plan, in one sentence for an operator: why, what runs where instead, what that gains under the
/// conditions of now, and what has to be moved for it.
pub(super) fn sentence(cause: &str, before: &Plan, after: &Plan, now: &Snapshot) -> (String, Diff) {
    let found = diff(before, after);
    let mut told = Vec::new();
    for change in &found.changes {
        let mut text = format!("{} {}", change.model, change.told());
        if let Some(after) = &change.after {
            let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
            text.push_str(&format!(", {} expected", millis(after.predicted)));
            if let Some(before) = &change.before {
                let stay = forecast::response(before, 1, &Backlog::default(), now);
                let are_there = before.nodes().iter().all(|node| now.is_alive(node));
                if are_there {
                    text.push_str(&format!(" instead of {}", millis(stay)));
                }
            }
        }
        told.push(text);
    }
    if told.is_empty() {
        told.push("nothing moves".into());
    }
    let what = told.join("; ");
    let (loaded, kept) = (found.loaded.len(), found.kept);
    let fragments = |count: usize| if count == 1 { "fragment" } else { "fragments" };
    let said = format!(
        "{cause}: {what}; {loaded} {} to load, {kept} stay where they are",
        fragments(loaded)
    );
    (said, found)
}

#[cfg(test)]
mod tests {
    use splitplace_fleet::Timestamp;
    use splitplace_plan::Generation;

    use super::*;

    #[test]
    fn the_last_plans_are_remembered_and_no_more() {
        let mut journal = Journal::default();
        for generation in 1..=100u64 {
            let plan = Plan {
                generation: Generation(generation),
                ..Plan::default()
            };
            let (said, _) = sentence(
                "a node joined",
                &Plan::default(),
                &plan,
                &Snapshot::empty(Timestamp::ZERO),
            );
            assert_eq!(
                said,
                "a node joined: nothing moves; 0 fragments to load, 0 stay where they are"
            );
            let event = PlanEvent {
                unix_ms: 0,
                generation,
                parent: generation - 1,
                cause: "a node joined".into(),
                said,
                loaded: 0,
                kept: 0,
                sent_bytes: 0,
                planned_in: Duration::ZERO,
                loaded_in: Duration::ZERO,
            };
            journal.note(Arc::new(plan), event);
        }
        assert_eq!(journal.events().count(), REMEMBERED);
        assert_eq!(journal.generations().first(), Some(&37));
        assert!(journal.plan(36).is_none() && journal.plan(100).is_some());
    }
}
