//! What happened at the kill.

use std::time::Duration;

use serde_json::json;

use crate::load::{
    engine::Outcome,
    summary::{Group, share},
};

/// After the kill, the time whose answers are shown on their own.
const AFTERMATH: Duration = Duration::from_secs(3);

/// Answers before the kill, just after it, and later.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// Which node died.
    pub(crate) node: String,
    /// When, from the start of the load.
    pub(crate) at: Option<Duration>,
    /// From the kill to the next plan in force.
    pub(crate) replanned: Option<Duration>,
    /// Generation of that plan.
    pub(crate) generation: u64,
    /// Requests in flight when the node died.
    pub(crate) in_flight: u64,
    /// Those among them that were answered.
    pub(crate) survived: u64,
    /// Slowest of those.
    pub(crate) slowest: Duration,
    phases: [Phase; 3],
}

#[derive(Debug, Default)]
struct Phase {
    answers: Group,
    lost: u64,
}

const PHASES: [&str; 3] = ["before the kill", "3 s after it", "later"];

impl Recovery {
    /// For a node that will die.
    pub(crate) fn of(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            ..Self::default()
        }
    }

    /// Adds an outcome. Those from before `at` was known are told again by the caller's own record.
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        let phase = match self.at {
            None => 0,
            Some(at) if outcome.intended < at => 0,
            Some(at) if outcome.intended < at + AFTERMATH => 1,
            Some(_) => 2,
        };
        let phase = &mut self.phases[phase];
        match &outcome.result {
            Ok(answered) => phase.answers.add(outcome, answered),
            Err(_) => phase.lost += 1,
        }
        if let Some(at) = self.at
            && outcome.begun <= at
            && outcome.ended > at
        {
            self.in_flight += 1;
            if outcome.result.is_ok() {
                self.survived += 1;
                self.slowest = self.slowest.max(outcome.service());
            }
        }
    }

    /// Rows for people: name, answers, lost, share of promises that held, median and 95th percentile
    /// in microseconds.
    pub(crate) fn rows(&self) -> Vec<(&'static str, &Group, u64)> {
        PHASES
            .iter()
            .zip(&self.phases)
            .map(|(name, phase)| (*name, &phase.answers, phase.lost))
            .collect()
    }

    /// For the report.
    pub(crate) fn json(&self) -> serde_json::Value {
        let phases: Vec<_> = self
            .rows()
            .into_iter()
            .map(|(name, answers, lost)| {
                let mut phase = answers.json();
                phase["phase"] = name.into();
                phase["lost"] = lost.into();
                phase
            })
            .collect();
        json!({
            "node": self.node,
            "at_s": self.at.map(|at| at.as_secs_f64()),
            "replanned_after_s": self.replanned.map(|time| time.as_secs_f64()),
            "generation_after": self.generation,
            "in_flight": self.in_flight,
            "in_flight_answered": self.survived,
            "in_flight_answered_share": share(self.survived, self.in_flight),
            "in_flight_slowest_s": self.slowest.as_secs_f64(),
            "phases": phases,
        })
    }
}
