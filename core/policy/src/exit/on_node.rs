//! How a node decides at its exits: by their thresholds until a rule comes, then by the rule, or by a bandit that
//! learns there.
//!
//! The worker asks it, and the simulated worker of the twin. Whoever asks knows the number present, the backlog behind
//! and the instants; random numbers are a parameter.

use rand::Rng;

use super::{
    AdaEe, AdaEeSettings, At, ExitChoice, ExitOutcome, ExitPolicy, Intent, Nested, NestedSettings,
    Rule, audit,
};

/// Share of the places that may be taken when a request is audited: under load nobody is kept for calibration's sake.
const AUDIT_BACKLOG: f64 = 0.5;

/// The exits of one route on one node.
#[derive(Debug, Default)]
pub struct OnNode {
    control: Option<Control>,
}

/// How exits decide in the place of their thresholds.
#[derive(Debug)]
struct Control {
    rule: Rule,
    /// One that learns here; it decides, the rule only promises.
    learner: Option<Box<dyn ExitPolicy>>,
    audit_share: f64,
    /// Most that may be present for one to be audited.
    audit_present: f64,
}

impl Control {
    fn policy(&self) -> &dyn ExitPolicy {
        self.learner.as_deref().unwrap_or(&self.rule)
    }
}

impl OnNode {
    /// Takes a rule in, made for the controller of that name. `spent` is by exit of the network the share of the time
    /// from the first exit to the last ([`ada_ee::shares`](super::ada_ee::shares)), `audit_share` the share of the
    /// requests that go to the network's end, `places` K. What a bandit of the same name has learnt is kept.
    pub fn take(&mut self, rule: Rule, policy: &str, spent: &[f64], audit_share: f64, places: u32) {
        let before = self.control.take().and_then(|old| old.learner);
        let learner: Option<Box<dyn ExitPolicy>> = match (policy, before) {
            ("ada-ee" | "nested", Some(old)) if old.name() == policy => Some(old),
            ("ada-ee", _) => Some(Box::new(AdaEe::over(spent, AdaEeSettings::default()))),
            ("nested", _) => Some(Box::new(Nested::over(spent, NestedSettings::default()))),
            _ => None,
        };
        self.control = Some(Control {
            rule,
            learner,
            audit_share: audit_share.clamp(0.0, 1.0),
            audit_present: AUDIT_BACKLOG * f64::from(places),
        });
    }

    /// A service begins with so many present, this one included: what is intended, and whether the request goes to the
    /// network's end whatever the exits say.
    pub fn begin(&self, present: u32, rng: &mut dyn Rng) -> (Intent, bool) {
        let Some(control) = &self.control else {
            return (Intent(u16::MAX), false);
        };
        let intent = control.policy().begin(present.max(1) as usize, rng);
        let is_calm = f64::from(present) <= control.audit_present;
        let is_audited = is_calm && audit::audited(control.audit_share, rng);
        (intent, is_audited)
    }

    /// Whether an exit answers that is as confident as `at` says: `threshold` holds where no rule does; `behind` is the
    /// number present at the next node as last heard, `floor` the least share of correct answers that was asked for.
    /// O(log bins), no allocation.
    pub fn stops(
        &self,
        at: &At,
        threshold: f64,
        behind: Option<usize>,
        floor: f64,
        rng: &mut dyn Rng,
    ) -> bool {
        let Some(control) = &self.control else {
            // Thresholds promise nothing that could be compared with a floor.
            return at.confidence >= threshold && floor <= 0.0;
        };
        let p = match &control.learner {
            Some(learner) => learner.stop(at),
            None => control.rule.stop(at, behind),
        };
        let promised = control.rule.promised(at.exit, at.confidence);
        ExitChoice::drawn(p, rng).stop
            && (floor <= 0.0 || promised.is_some_and(|promised| promised >= floor))
    }

    /// A request was answered here.
    pub fn answered(&mut self, outcome: &ExitOutcome<'_>) {
        let control = self.control.as_mut();
        if let Some(learner) = control.and_then(|control| control.learner.as_mut()) {
            learner.learn(outcome);
        }
    }

    /// Whether what is answered here is learnt from.
    #[must_use]
    pub const fn learns(&self) -> bool {
        matches!(
            self.control,
            Some(Control {
                learner: Some(_),
                ..
            })
        )
    }

    /// What decides, while thresholds do not.
    #[must_use]
    pub fn policy(&self) -> Option<&dyn ExitPolicy> {
        self.control.as_ref().map(Control::policy)
    }
}
