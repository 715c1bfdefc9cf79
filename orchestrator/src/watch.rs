//! What operators watch, as values: requests that ended, nodes that reported, decisions and their worth.
//!
//! A [`Book`] is told facts and an instant, and is asked for views. It has no clock and no sockets, and
//! everything in it is bounded: models, arms, seconds, requests. What does not fit is counted under
//! [`OTHER`].
//!
//! Reading order: [`histogram`], [`traffic`] (one model by the second), [`bandit`] (what decisions were
//! worth), [`requests`] (single ones), [`nodes`] (the fleet), [`view`] (all of it as JSON); [`trace`] (which
//! requests leave a trace) and [`spans`] (what it looks like).

pub mod bandit;
pub mod histogram;
pub mod nodes;
pub mod requests;
pub mod spans;
pub mod trace;
pub mod traffic;
pub mod view;

use std::{collections::BTreeMap, sync::Arc};

use splitplace_plan::ModelName;

pub use self::{
    bandit::Bandit,
    histogram::Histogram,
    nodes::{LinkUse, NodeUse, Nodes},
    requests::{HopView, RequestView, Requests},
    traffic::{Loss, Traffic},
};

/// Under what is counted that does not fit.
pub const OTHER: &str = "other";
/// Models that are told apart.
pub const MODELS: usize = 64;

/// Everything that has been seen.
#[derive(Clone, Debug, Default)]
pub struct Book {
    models: BTreeMap<ModelName, Traffic>,
    /// Decisions and what they were worth.
    pub bandit: Bandit,
    /// Single requests.
    pub requests: Requests,
    /// The fleet.
    pub nodes: Nodes,
}

impl Book {
    /// The numbers of a model; those of [`OTHER`] once there are too many.
    pub fn model(&mut self, name: &ModelName) -> &mut Traffic {
        let is_new = !self.models.contains_key(name);
        let name = if is_new && MODELS <= self.models.len() {
            ModelName::new(OTHER)
        } else {
            name.clone()
        };
        self.models.entry(name).or_default()
    }

    /// What was seen of a model.
    #[must_use]
    pub fn seen(&self, name: &str) -> Option<&Traffic> {
        self.models.get(name)
    }

    /// Every model that was seen.
    pub fn models(&self) -> impl Iterator<Item = (&ModelName, &Traffic)> {
        self.models.iter()
    }

    /// Takes in a request that has ended. `second` counts on the caller's clock and never goes back.
    pub fn ended(&mut self, second: u64, request: RequestView, loss: Option<Loss>) {
        let model = ModelName::new(&request.model);
        self.model(&model).ended(second, &request, loss);
        if !request.arm.is_empty() {
            self.bandit.learn(&request);
        }
        self.requests.push(Arc::new(request));
    }
}

#[cfg(test)]
mod tests;
