//! What is told of a change: events, from what was said before and what is said now. Pure.

use crate::{conditions, model::EdgeModelStatus, status};

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

/// An event for each reason that a condition has now and had not before, or had with another status. Where several
/// conditions have the same reason, the one that it comes from is told of, once.
#[must_use]
pub fn changes(before: &EdgeModelStatus, after: &EdgeModelStatus) -> Vec<Happened> {
    let mut told: Vec<&str> = Vec::new();
    let mut events = Vec::new();
    for condition in &after.conditions {
        let reason = condition.reason.as_str();
        if SILENT.contains(&reason) || told.contains(&reason) {
            continue;
        }
        told.push(reason);
        // What is not known for this reason did not bring it about.
        let mut alike = after.conditions.iter().filter(|one| one.reason == reason);
        let origin = alike.find(|one| one.status != "Unknown");
        let ready =
            || conditions::of(&after.conditions, "Ready").filter(|one| one.reason == reason);
        let origin = origin.or_else(ready).unwrap_or(condition);
        let old = conditions::of(&before.conditions, &origin.type_);
        if old.is_some_and(|old| old.status == origin.status && old.reason == origin.reason) {
            continue;
        }
        events.push(Happened {
            is_warning: origin.status == "False" && !PASSING.contains(&reason)
                || WARNING.contains(&reason),
            reason: reason.to_owned(),
            action: origin.type_.clone(),
            note: origin.message.clone(),
        });
    }
    events
}

/// Reasons that are no news: nobody asked for them, or the next one follows at once.
const SILENT: [&str; 3] = ["NoPromise", "NotNeeded", "Ordered"];

/// Reasons that go by themselves.
const PASSING: [&str; 5] = ["Fetching", "Loading", "Draining", "Unloading", "NoPlan"];

/// Reasons that somebody should look at, although nothing is false.
const WARNING: [&str; 3] = ["PartlyCarriedOut", status::UNREACHABLE, "NotServed"];

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
