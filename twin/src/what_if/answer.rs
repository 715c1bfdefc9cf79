//! Both sides with intervals, and what lies between them, run by run.

use std::collections::BTreeMap;

use splitplace_plan::{ModelName, Plan};

use super::{Change, Shown};
use crate::{
    scenario::Outcome,
    stats::Summary,
    world::{ModelReport, Report},
};

/// One side of a question.
#[derive(Clone, Debug)]
pub struct Side {
    /// The plan that it ran under.
    pub plan: Plan,
    /// Every run.
    pub outcome: Outcome,
}

/// After minus before, a value for each run: both sides saw the same requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    /// Mean seconds to the answer.
    pub response: Summary,
    /// Its 95th percentile.
    pub p95: Summary,
    /// Share of the requests without an answer.
    pub loss: Summary,
    /// Share of the requests whose promise was not kept.
    pub violations: Summary,
    /// Share of right answers, over answers.
    pub accuracy: Summary,
    /// Answers a second.
    pub throughput: Summary,
}

/// What would happen.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked.
    pub changes: Vec<Change>,
    /// As it is.
    pub before: Side,
    /// As it would be.
    pub after: Side,
    /// By model. A model that answers nothing on one side has no difference of responses.
    pub models: BTreeMap<ModelName, Difference>,
    /// Watts of all nodes.
    pub watts: Summary,
    /// What the live system shows, to hold `before` against.
    pub shown: BTreeMap<ModelName, Shown>,
}

impl Answer {
    pub(super) fn new(
        changes: Vec<Change>,
        before: Plan,
        after: Plan,
        shown: BTreeMap<ModelName, Shown>,
    ) -> Self {
        let side = |plan| Side {
            plan,
            outcome: Outcome::default(),
        };
        Self {
            changes,
            before: side(before),
            after: side(after),
            models: BTreeMap::new(),
            watts: Summary::default(),
            shown,
        }
    }

    /// Takes in one run of each side.
    pub fn add(&mut self, reports: &[Report; 2]) {
        let [before, after] = reports;
        self.before.outcome.add(before);
        self.after.outcome.add(after);
        for (name, old) in &before.models {
            if let Some(new) = after.models.get(name) {
                let difference = self.models.entry(name.clone()).or_default();
                difference.add([old, new], before.seconds);
            }
        }
        let watts = |report: &Report| {
            report.joules() / (report.ended.as_nanos() as f64 / 1e9).max(f64::MIN_POSITIVE)
        };
        self.watts.add(watts(after) - watts(before));
    }

    /// The arms that run elsewhere or not at all afterwards, or only then: `model/arm`, the nodes before
    /// and the nodes after.
    #[must_use]
    pub fn moved(&self) -> Vec<(String, Vec<String>, Vec<String>)> {
        let places = |plan: &Plan| -> BTreeMap<String, Vec<String>> {
            let models = plan.models.iter();
            let arms =
                models.flat_map(|(name, model)| model.arms.iter().map(move |arm| (name, arm)));
            arms.map(|(name, arm)| {
                let hops = arm.branches.iter().flat_map(|route| &route.hops);
                let nodes = hops.map(|hop| hop.node.to_string()).collect();
                (format!("{name}/{}", arm.name), nodes)
            })
            .collect()
        };
        let (old, new) = (places(&self.before.plan), places(&self.after.plan));
        let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
        names.sort();
        names.dedup();
        let nodes = |of: &BTreeMap<String, Vec<String>>, name: &String| {
            of.get(name).cloned().unwrap_or_default()
        };
        names
            .into_iter()
            .map(|name| (name.clone(), nodes(&old, name), nodes(&new, name)))
            .filter(|(_, before, after)| before != after)
            .collect()
    }
}

impl Difference {
    fn add(&mut self, [old, new]: [&ModelReport; 2], seconds: f64) {
        self.loss.add(new.loss() - old.loss());
        self.violations.add(new.violations() - old.violations());
        let rate = |model: &ModelReport| model.answered as f64 / seconds;
        self.throughput.add(rate(new) - rate(old));
        if 0 < old.answered && 0 < new.answered {
            self.response.add(new.response.mean() - old.response.mean());
            self.p95
                .add(new.times.seconds(0.95) - old.times.seconds(0.95));
            self.accuracy.add(new.accuracy.mean() - old.accuracy.mean());
        }
    }
}
