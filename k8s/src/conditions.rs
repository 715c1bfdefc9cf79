//! Standard conditions: set without touching the time of what did not change.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// One thing that can be said of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `Accepted`, `Fetched`, `Placed`, `PromiseKept`, `Ready`.
    pub kind: &'static str,
    /// `None` when it cannot be known now.
    pub is_true: Option<bool>,
    /// In one word, why.
    pub reason: &'static str,
    /// For people: what is, and what to do about it.
    pub message: String,
}

impl Said {
    /// It is so.
    #[must_use]
    pub fn yes(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            is_true: Some(true),
            reason,
            message: message.into(),
        }
    }

    /// It is not so.
    #[must_use]
    pub fn no(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            is_true: Some(false),
            reason,
            message: message.into(),
        }
    }

    /// Nobody knows.
    #[must_use]
    pub fn unknown(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            is_true: None,
            reason,
            message: message.into(),
        }
    }

    /// The word in a condition's status.
    #[must_use]
    pub const fn status(&self) -> &'static str {
        match self.is_true {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

/// Conditions of an EdgeModel: all of them are always there.
pub const OF_MODELS: [&str; 5] = ["Accepted", "Fetched", "Placed", "PromiseKept", "Ready"];

/// What was said, and of everything else that it cannot be known, for the reason why the model is not `Ready`.
#[must_use]
pub fn complete(said: Vec<Said>) -> Vec<Said> {
    let ready = said.iter().find(|one| one.kind == "Ready").cloned();
    let Some(ready) = ready else { return said };
    let all = OF_MODELS.iter().map(|kind| {
        let own = said.iter().find(|one| one.kind == *kind).cloned();
        own.unwrap_or_else(|| Said {
            kind,
            is_true: None,
            message: format!("not known now: {}", ready.message),
            ..ready.clone()
        })
    });
    all.collect()
}

/// Longest message: a condition's own limit.
const MESSAGE_MAX: usize = 32_768;

/// The conditions that are true now, with the times of those whose status was the same before.
#[must_use]
pub fn set(
    before: &[Condition],
    said: &[Said],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |said: &Said| {
        let old = before.iter().find(|old| old.type_ == said.kind);
        let since = old
            .filter(|old| old.status == said.status())
            .map_or(Time(now), |old| old.last_transition_time.clone());
        let mut message = said.message.clone();
        if MESSAGE_MAX < message.len() {
            let end = (0..=MESSAGE_MAX)
                .rev()
                .find(|at| message.is_char_boundary(*at));
            message.truncate(end.unwrap_or_default());
        }
        Condition {
            type_: said.kind.into(),
            status: said.status().into(),
            reason: said.reason.into(),
            message,
            last_transition_time: since,
            observed_generation: generation,
        }
    };
    said.iter().map(condition).collect()
}

/// The condition of a kind.
#[must_use]
pub fn of<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_known_says_why_and_a_remedy() {
        let ready = Said::no("Ready", "FetchFailed", "kubectl logs job/x says why");
        let fetched = Said {
            kind: "Fetched",
            ..ready.clone()
        };
        let all = complete(vec![fetched.clone(), ready.clone()]);
        let kinds: Vec<_> = all.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, OF_MODELS);
        assert_eq!((&all[1], &all[4]), (&fetched, &ready));
        for one in [&all[0], &all[2], &all[3]] {
            assert_eq!((one.is_true, one.reason), (None, "FetchFailed"));
            assert!(one.message.contains("kubectl logs"), "{one:?}");
        }
    }

    #[test]
    fn the_time_changes_with_the_status_alone() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = set(&[], &[Said::no("Ready", "Waiting", "a")], Some(1), at(10));
        let same = set(
            &first,
            &[Said::no("Ready", "Fetching", "b")],
            Some(2),
            at(20),
        );
        assert_eq!(same[0].last_transition_time, Time(at(10)));
        assert_eq!(
            (same[0].reason.as_str(), same[0].observed_generation),
            ("Fetching", Some(2))
        );
        let other = set(&same, &[Said::yes("Ready", "Served", "")], Some(2), at(30));
        assert_eq!(other[0].last_transition_time, Time(at(30)));
        let long = set(
            &[],
            &[Said::no("Ready", "Long", "é".repeat(40_000))],
            None,
            at(0),
        );
        assert!(long[0].message.len() <= MESSAGE_MAX);
    }
}
