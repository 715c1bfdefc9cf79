//! A plan that was rolled out comes into force, is written down, and every model is told how it is served.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use splitplace_fleet::{NodeId, NodeState};
use splitplace_plan::{ModelName, Plan};

use super::{Control, RETRY, SHRINK};
use crate::{
    center::{
        clock, exits,
        journal::{self, PlanEvent},
        roll_out::{End, Outcome},
        served::Served,
    },
    face::LoadError,
};

impl Control {
    /// Takes in how a roll-out ended.
    pub(super) fn rolled_out(&mut self, outcome: Outcome) {
        self.is_rolling = false;
        for observed in outcome.observations {
            if let Some(known) = self.nodes.get(&observed.node) {
                observed.learn(&mut self.measured, &known.node);
            }
        }
        self.inner
            .metrics
            .planning
            .set(outcome.planned_in.as_secs_f64());
        for node in &outcome.emptied {
            if let Some(known) = self.nodes.get_mut(node) {
                known.is_settled = false;
            }
        }
        match outcome.end {
            End::Ready {
                plan,
                exits,
                unplaced,
            } => {
                let spent = (outcome.planned_in, outcome.loaded_in, outcome.sent_bytes);
                self.drift_ended(true);
                self.put_in_force(plan, exits, &unplaced, spent);
            }
            End::Same { unplaced } => {
                self.drift_ended(false);
                self.settle();
                self.inner.observe(self.snapshot(true));
                self.say(&unplaced);
            }
            End::Failed { reason, refused_by } => {
                self.failed(&reason, refused_by);
                return;
            }
        }
        self.stored = None;
        self.retry = RETRY;
        self.inner.is_settled.store(true, Ordering::Relaxed);
        self.show();
        self.inner.changed();
    }

    pub(super) fn failed(&mut self, reason: &str, refused_by: Option<NodeId>) {
        tracing::warn!(
            code = "SP402",
            reason,
            "a plan could not be carried out; the one in force stays"
        );
        if let Some(known) = refused_by.and_then(|node| self.nodes.get_mut(&node)) {
            known.trust *= SHRINK;
        }
        for served in self.inner.models.read().values() {
            *served.reason.lock() = format!("the last plan could not be carried out: {reason}");
            served.is_unplaced.store(false, Ordering::Relaxed);
        }
        // What was stored cannot be put back as it was.
        self.stored = None;
        self.plan_within(self.retry);
        self.retry = (self.retry * 2).min(RETRY * 64);
    }

    fn settle(&mut self) {
        for node in &self.planned_with {
            if let Some(known) = self.nodes.get_mut(node) {
                known.is_settled = known.node.state == NodeState::Alive;
            }
        }
    }

    /// Switches requests over to a plan that every node holds.
    fn put_in_force(
        &mut self,
        plan: Plan,
        asked: exits::Asked,
        unplaced: &BTreeMap<ModelName, Vec<String>>,
        spent: (Duration, Duration, u64),
    ) {
        self.note(&plan, spent);
        self.settle();
        let threads = |node: &NodeId| self.nodes.get(node).map_or(1, |known| known.node.cores);
        let models = self.inner.models.read().clone();
        let steering = &self.inner.steering;
        steering.follow(&plan, &models, &self.inner.config.exits, asked, threads);
        // Every node has accepted the routes: the first request finds its rules.
        self.inner.tell_rules(steering.messages());
        self.inner.with_brain(|brain, now| brain.adopt(now, &plan));
        self.inner.observe(self.snapshot(true));
        self.inner
            .metrics
            .generation
            .set(i64::try_from(plan.generation.0).unwrap_or(i64::MAX));
        self.retire_below = Some(plan.generation);
        self.inner.metrics.expect(&plan);
        self.plan = plan;
        *self.inner.plan.write() = Arc::new(self.plan.clone());
        self.say(unplaced);
    }

    /// Writes down why a plan comes into force and what it changes.
    fn note(&self, plan: &Plan, (planned_in, loaded_in, sent_bytes): (Duration, Duration, u64)) {
        let cause = if self.under_way.is_empty() {
            "what is known has changed"
        } else {
            &self.under_way
        };
        let now = self.snapshot(false);
        let (said, found) = journal::sentence(cause, &self.plan, plan, &now);
        tracing::info!(
            generation = plan.generation.0,
            said,
            sent_bytes,
            why = plan.explanation,
            "a plan is in force"
        );
        let unix_ms = u64::try_from(clock::unix_us() / 1000).unwrap_or(0);
        let event = PlanEvent {
            unix_ms,
            generation: plan.generation.0,
            parent: self.plan.generation.0,
            cause: cause.to_owned(),
            said,
            loaded: found.loaded.len(),
            kept: found.kept,
            sent_bytes,
            planned_in,
            loaded_in,
        };
        let mut journal = self.inner.journal.lock();
        journal.note(Arc::new(plan.clone()), event);
    }

    pub(super) fn has_nodes(&self) -> bool {
        let mut known = self.nodes.values();
        known.any(|known| known.node.state == NodeState::Alive)
    }

    /// Says of each model whether it is served, and why not.
    pub(super) fn say(&mut self, unplaced: &BTreeMap<ModelName, Vec<String>>) {
        let served: Vec<Arc<Served>> = self.inner.models.read().values().cloned().collect();
        let has_nodes = self.has_nodes();
        for served in served {
            if has_nodes && !self.planned_for.contains(&served.name) {
                continue;
            }
            let can_answer = self.inner.flow.lock().brain.can_answer(&served.name);
            let reason = if can_answer {
                String::new()
            } else if !has_nodes {
                "no node is connected; start a worker, and it will be placed".into()
            } else {
                let why = unplaced.get(&served.name).map(|why| why.join("; "));
                why.unwrap_or_else(|| "no arm is placed".into())
            };
            (*served.reason.lock()).clone_from(&reason);
            let is_unplaced = !can_answer && has_nodes && unplaced.contains_key(&served.name);
            served.is_unplaced.store(is_unplaced, Ordering::Relaxed);
            let name = served.name.to_string();
            self.tell(&served.name, &|| {
                if can_answer {
                    Ok(())
                } else {
                    Err(LoadError::Refused {
                        model: name.clone(),
                        reason: reason.clone(),
                    })
                }
            });
        }
    }
}
