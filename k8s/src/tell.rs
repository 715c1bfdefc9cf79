//! What is told of a change: events, from what was said before and what is said now. Pure.

use crate::{conditions, model::EdgeModelStatus};

/// Something that happened, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// Whether somebody should do something.
    pub is_warning: bool,
    /// In one word, what.
    pub reason: String,
    /// What was being done.
    pub action: String,
    /// The whole sentence.
    pub note: String,
}

/// An event for each condition whose status or reason is another than before.
#[must_use]
pub fn changes(before: &EdgeModelStatus, after: &EdgeModelStatus) -> Vec<Happened> {
    let mut events = Vec::new();
    for condition in &after.conditions {
        let old = conditions::of(&before.conditions, &condition.type_);
        let is_new =
            old.is_none_or(|old| old.status != condition.status || old.reason != condition.reason);
        // What nobody asked for is no news, and Ready repeats what another condition said.
        let is_news = condition.reason != "NoPromise"
            && condition.reason != "NotNeeded"
            && condition.reason != "Ordered"
            && (condition.type_ != "Ready"
                || condition.status == "True"
                || !after
                    .conditions
                    .iter()
                    .any(|other| other.type_ != "Ready" && other.reason == condition.reason));
        if is_new && is_news {
            events.push(Happened {
                is_warning: condition.status == "False" && !PASSING.contains(&&*condition.reason)
                    || condition.reason == "PartlyCarriedOut",
                reason: condition.reason.clone(),
                action: condition.type_.clone(),
                note: condition.message.clone(),
            });
        }
    }
    events
}

/// Reasons that go by themselves.
const PASSING: [&str; 4] = ["Fetching", "Loading", "Draining", "Unloading"];

/// An event when fragments are on other nodes than before.
#[must_use]
pub fn moved(before: &EdgeModelStatus, after: &EdgeModelStatus) -> Option<Happened> {
    let nodes = |status: &EdgeModelStatus| {
        let mut nodes: Vec<String> = status
            .fragments
            .iter()
            .map(|place| place.node.clone())
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    };
    let (old, new) = (nodes(before), nodes(after));
    let is_move = !old.is_empty() && !new.is_empty() && old != new;
    is_move.then(|| Happened {
        is_warning: false,
        reason: "Moved".into(),
        action: "Place".into(),
        note: format!(
            "fragments moved from {} to {}",
            old.join(", "),
            new.join(", ")
        ),
    })
}
