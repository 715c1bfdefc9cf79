//! The trait, and what goes in and out of it.

use std::{collections::BTreeMap, fmt, time::Duration};

use rand::Rng;
use splitplace_plan::ArmKind;

/// What is known of a request before it is sent on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Context<'a> {
    /// The model asked for. Estimates that belong to one model are kept by this name.
    pub model: &'a str,
    /// What was promised: the time from arrival to answer.
    pub sla: Duration,
    /// What is left of it now; less than `sla` for a second attempt.
    pub slack: Duration,
}

/// One arm that could answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmView<'a> {
    /// Its name within the model.
    pub name: &'a str,
    /// How it runs.
    pub kind: ArmKind,
    /// Validated share of correct answers in `[0, 1]`.
    pub accuracy: f64,
    /// Expected response now, backlog and links included.
    pub predicted: Duration,
}

/// Why an arm was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The policy always takes this one.
    Fixed,
    /// Largest score.
    Best,
    /// Taken to learn about it.
    Explored,
    /// The arms that the policy wanted cannot answer now.
    Fallback,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed => "fixed",
            Self::Best => "best",
            Self::Explored => "explored",
            Self::Fallback => "fallback",
        })
    }
}

/// A decision with its why.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Index into the arms that were offered.
    pub arm: usize,
    /// Probability with which this arm was taken, in `(0, 1]`.
    pub propensity: f64,
    /// The context as the policy names it: `tight`, `loose`, or `any`.
    pub context: &'static str,
    /// The score of each offered arm, as the policy compared them.
    pub scores: Vec<f64>,
    /// Why.
    pub reason: Reason,
}

/// How a chosen arm turned out.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<'a> {
    /// The model asked for.
    pub model: &'a str,
    /// Name of the chosen arm.
    pub arm: &'a str,
    /// The context given in the [`Choice`].
    pub context: &'static str,
    /// How the chosen arm ran.
    pub kind: ArmKind,
    /// What was promised.
    pub sla: Duration,
    /// What the response was expected to be when the arm was chosen.
    pub predicted: Duration,
    /// From arrival to answer; `None` when there was no answer.
    pub response: Option<Duration>,
    /// Validated accuracy of the arm, or, once the truth is known, the share of correct samples.
    pub accuracy: f64,
}

impl Outcome<'_> {
    /// Whether the promise was kept.
    #[must_use]
    pub fn sla_held(&self) -> bool {
        self.response.is_some_and(|response| response <= self.sla)
    }
}

/// Chooses arms and learns from how they turned out.
pub trait Policy: Send + Sync + fmt::Debug {
    /// Its name in configuration and tables.
    fn name(&self) -> &'static str;

    /// Chooses among `arms`, which are not empty. Costs O(arms), allocates only the scores.
    ///
    /// # Panics
    /// When `arms` is empty: a request that no arm can answer is refused before it comes here.
    fn choose(&self, context: &Context<'_>, arms: &[ArmView<'_>], rng: &mut dyn Rng) -> Choice;

    /// Takes in one outcome. O(1) or O(log models).
    fn learn(&mut self, outcome: &Outcome<'_>);

    /// Replaces an outcome learnt before by what is now known to be true.
    fn revise(&mut self, before: &Outcome<'_>, after: &Outcome<'_>);

    /// What it believes, as named numbers for people: counts, means, thresholds.
    fn explain(&self) -> BTreeMap<String, f64>;

    /// All of its state, such that [`restore`](Self::restore) brings it back exactly.
    fn state(&self) -> BTreeMap<String, f64>;

    /// Takes over a state saved by a policy of the same name. Unknown names are ignored, missing ones
    /// keep their initial value.
    fn restore(&mut self, state: &BTreeMap<String, f64>);
}
