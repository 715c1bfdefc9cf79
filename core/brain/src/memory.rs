//! Decisions kept until the client may have told the truth about them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use splitplace_lifecycle::RequestId;
use splitplace_plan::{ArmKind, ModelName};
use splitplace_policy::Outcome;

/// One answered request, as the policy learnt it.
#[derive(Clone, Debug, PartialEq)]
pub struct Learnt {
    /// The model asked for.
    pub model: ModelName,
    /// Name of the arm.
    pub arm: String,
    /// The policy's context.
    pub context: &'static str,
    /// How the arm ran.
    pub kind: ArmKind,
    /// What was promised.
    pub sla: Duration,
    /// What was expected.
    pub predicted: Duration,
    /// What it took.
    pub response: Duration,
    /// The accuracy that was assumed.
    pub accuracy: f64,
    /// The class answered for each sample; empty when the answer is not of classes.
    pub classes: Vec<u32>,
}

impl Learnt {
    /// The outcome with another accuracy.
    #[must_use]
    pub fn outcome(&self, accuracy: f64) -> Outcome<'_> {
        Outcome {
            model: self.model.as_str(),
            arm: &self.arm,
            predicted: self.predicted,
            context: self.context,
            kind: self.kind,
            sla: self.sla,
            response: Some(self.response),
            accuracy,
        }
    }
}

/// The last so many decisions; older ones are forgotten.
#[derive(Clone, Debug)]
pub struct Memory {
    limit: usize,
    by_request: BTreeMap<RequestId, Learnt>,
    order: VecDeque<RequestId>,
}

impl Memory {
    /// Remembers at most `limit` decisions.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            by_request: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Keeps a decision, and forgets the oldest when there are too many.
    pub fn keep(&mut self, request: RequestId, learnt: Learnt) {
        if self.limit == 0 || self.by_request.insert(request, learnt).is_some() {
            return;
        }
        self.order.push_back(request);
        while self.order.len() > self.limit {
            if let Some(oldest) = self.order.pop_front() {
                self.by_request.remove(&oldest);
            }
        }
    }

    /// States which classes were answered.
    pub fn classify(&mut self, request: RequestId, classes: Vec<u32>) {
        if let Some(learnt) = self.by_request.get_mut(&request) {
            learnt.classes = classes;
        }
    }

    /// The model of a decision that is remembered.
    #[must_use]
    pub fn model(&self, request: RequestId) -> Option<&ModelName> {
        self.by_request.get(&request).map(|learnt| &learnt.model)
    }

    /// Hands out a decision, once.
    pub fn take(&mut self, request: RequestId) -> Option<Learnt> {
        // Its place in the order stays and is skipped when it comes up.
        self.by_request.remove(&request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt() -> Learnt {
        Learnt {
            model: "m".into(),
            arm: "a".into(),
            context: "any",
            kind: ArmKind::Whole,
            sla: Duration::ZERO,
            predicted: Duration::ZERO,
            response: Duration::ZERO,
            accuracy: 0.5,
            classes: vec![],
        }
    }

    #[test]
    fn the_oldest_is_forgotten_and_each_is_handed_out_once() {
        let mut memory = Memory::new(2);
        for number in 0..3 {
            memory.keep(RequestId(number), learnt());
        }
        assert!(memory.take(RequestId(0)).is_none());
        assert!(memory.take(RequestId(2)).is_some());
        assert!(memory.take(RequestId(2)).is_none());
        for number in 3..100 {
            memory.keep(RequestId(number), learnt());
        }
        assert!(memory.by_request.len() <= 2 && memory.order.len() <= 2);
    }
}
