//! What the dashboard asks of the centre, beside the [`Face`]: views, and what an operator may do.

use std::{future::Future, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    face::Face,
    foresight::{Question, WhatIf},
    watch::{RequestView, requests::Order},
};

/// Something that an operator wants done.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "act", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Operation {
    /// Plan without a node; what runs there goes on until the next plan is in force.
    Drain {
        /// Which.
        node: String,
    },
    /// Plan with it again.
    Undrain {
        /// Which.
        node: String,
    },
    /// Have every request for a model take one arm while it can answer.
    Pin {
        /// The model.
        model: String,
        /// The arm.
        arm: String,
    },
    /// Plan an arm with these cuts and no others, or with fragments on these nodes.
    Place {
        /// The model.
        model: String,
        /// The arm.
        arm: String,
        /// Segments before each cut; of an empty list the arm is in one piece.
        #[serde(default)]
        cuts: Option<Vec<usize>>,
        /// Nodes of the fragments in order; none where the planner chooses.
        #[serde(default)]
        nodes: Vec<Option<String>>,
    },
    /// Leave the choice to the policy again, and places to the planner.
    Unpin {
        /// The model.
        model: String,
        /// Only what was laid down of this arm's place.
        #[serde(default)]
        arm: Option<String>,
    },
    /// Serve a model of the repository.
    Load {
        /// Which.
        model: String,
    },
    /// Stop serving it.
    Unload {
        /// Which.
        model: String,
    },
    /// Plan as if the question's world were the case: without the node, for that load, with that link.
    Apply {
        /// What was asked.
        question: Question,
    },
    /// Plan by what is known again; drained nodes stay drained.
    Withdraw,
}

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhatIfError {
    /// Nobody here can say.
    #[error("this orchestrator has no twin to ask")]
    Blind,
    /// One question at a time.
    #[error("the twin is thinking about another question; ask again in a moment")]
    Busy,
    /// It makes no sense.
    #[error("{0}")]
    Wrong(String),
    /// It was asked and failed.
    #[error("{0}")]
    Failed(String),
}

/// What operators see and do.
pub trait Watched: Face {
    /// What changes seldom: fleet, models, plan.
    fn structure(&self) -> serde_json::Value;

    /// What changes all the time: loads, times, decisions.
    fn pulse(&self) -> serde_json::Value;

    /// The last seconds of every model, to draw lines from.
    fn history(&self) -> serde_json::Value;

    /// One request that is remembered.
    fn request(&self, id: &str) -> Option<Arc<RequestView>>;

    /// Requests that are remembered.
    fn requests(&self, order: Order, model: Option<&str>, count: usize) -> Vec<Arc<RequestView>>;

    /// Does what an operator wants and says what will follow from it.
    ///
    /// # Errors
    /// Why not, and what to try.
    fn operate(&self, what: Operation) -> impl Future<Output = Result<String, String>> + Send;

    /// Answers a question about what would happen. One at a time.
    fn what_if(
        &self,
        question: Question,
    ) -> impl Future<Output = Result<WhatIf, WhatIfError>> + Send;
}
