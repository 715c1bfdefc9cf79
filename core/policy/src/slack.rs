//! A bandit whose context is the slack of the request against each arm's forecast.
//!
//! The two contexts of the SplitPlace paper cannot tell a request that an arm would answer just in time
//! from one that it would answer with an hour to spare, and its two decisions cannot name more arms than
//! two. Here every arm of a model is its own, and what is learnt of it is not how often it kept promises,
//! but how its responses compare with its forecasts:
//!
//! - For each arm a histogram of `response / forecast` over quarter octaves, with forgetting. It begins
//!   as a log-normal belief around 1, worth [`SlackSettings::prior`] answers. What was never answered is
//!   in no bin.
//! - The chance that an arm keeps the promise is the share of that histogram below `slack / forecast`,
//!   the bin that is cut taken in part. So a promise never made before is judged as well as one made
//!   often, and a forecast that moves with backlog and links moves the decision at once.
//! - Accuracy is the validated one, worth [`SlackSettings::accuracy_prior`] answers, moved by the truths
//!   that clients tell.
//! - Score: `(1 - w) P(held) + w P(answered) · accuracy` with `w` = [`SlackSettings::accuracy_weight`];
//!   at the default ½ this is the expectation of the paper's reward `([r ≤ SLA] + p) / 2`.
//! - Exploration: a bonus `c √(ln(1 + t) / (1 + n))` for an arm seen `n` of `t` times, but only where the
//!   forecast leaves [`SlackSettings::safe`] times its length: nobody's promise is broken to learn. An arm
//!   that has become faster than it is believed to be is found by requests that have the time.
//!
//! - Where hardly any arm could keep the promise ([`HOPELESS`]), the one with the smallest forecast is
//!   taken: the promise is lost either way, and a slow arm would keep those behind waiting too.
//!
//! Cost of a choice: O(arms · bins).

use std::collections::BTreeMap;

use rand::Rng;

use crate::{ArmView, Choice, Context, Outcome, Policy, Reason, fastest, fixed::uniform};

/// Numbers of the policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlackSettings {
    /// c: width of the exploration bonus.
    pub c: f64,
    /// Share of what is known that one more answer makes forgotten, in `[0, 1)`.
    pub forget: f64,
    /// Answers that the first belief about responses is worth.
    pub prior: f64,
    /// Answers that a validated accuracy is worth.
    pub accuracy_prior: f64,
    /// w: what accuracy counts against keeping the promise, in `[0, 1]`.
    pub accuracy_weight: f64,
    /// How many times its forecast the slack must be for an arm to be tried for the sake of learning.
    pub safe: f64,
}

impl Default for SlackSettings {
    /// c is a tenth of the paper's: forecasts and validated accuracies leave little to find out.
    /// Forgetting 1 in 200 follows a node that slows down within some hundred answers.
    fn default() -> Self {
        Self {
            c: 0.05,
            forget: 0.005,
            prior: 8.0,
            accuracy_prior: 200.0,
            accuracy_weight: 0.5,
            safe: 2.0,
        }
    }
}

impl SlackSettings {
    /// Names of the numbers, as configuration has them.
    pub const PARAMS: [&'static str; 6] = [
        "c",
        "forget",
        "prior",
        "accuracy-prior",
        "accuracy-weight",
        "safe",
    ];

    /// The default with some numbers replaced; the name of the first unknown one otherwise.
    ///
    /// # Errors
    /// The unknown name.
    pub fn from_params(params: &BTreeMap<String, f64>) -> Result<Self, String> {
        let mut settings = Self::default();
        for (name, &value) in params {
            let slot = match name.as_str() {
                "c" => &mut settings.c,
                "forget" => &mut settings.forget,
                "prior" => &mut settings.prior,
                "accuracy-prior" => &mut settings.accuracy_prior,
                "accuracy-weight" => &mut settings.accuracy_weight,
                "safe" => &mut settings.safe,
                _ => return Err(name.clone()),
            };
            *slot = value;
        }
        Ok(settings)
    }
}

/// Bins of the histogram: quarter octaves from 1/8 to 8, what is beyond in the outer ones.
const BINS: usize = 24;
/// Bins in an octave.
const PER_OCTAVE: f64 = 4.0;
/// Standard deviation of the first belief about `log2(response / forecast)`.
const SPREAD: f64 = 0.35;
/// Below this chance of keeping the promise an arm is as good as late.
pub const HOPELESS: f64 = 0.02;
const CONTEXTS: [&str; 2] = ["tight", "loose"];

/// Place of a ratio in the histogram, counted in bins from its beginning.
fn place(ratio: f64) -> f64 {
    let bins = BINS as f64;
    let octaves = ratio.max(f64::MIN_POSITIVE).log2() + bins / PER_OCTAVE / 2.0;
    (octaves * PER_OCTAVE).clamp(0.0, bins)
}

/// The first belief: a logistic approximation of the log-normal, exact enough for a belief.
fn prior_below(bin: f64) -> f64 {
    let octaves = bin / PER_OCTAVE - BINS as f64 / PER_OCTAVE / 2.0;
    1.0 / (1.0 + (-1.702 * octaves / SPREAD).exp())
}

/// What is known of one arm.
#[derive(Clone, Debug, PartialEq)]
struct Belief {
    ratios: [f64; BINS],
    /// Answers, forgotten ones gone.
    seen: f64,
    /// Sum over answers whose truth is known of (truth - validated accuracy), and their number.
    truth: f64,
    told: f64,
}

impl Default for Belief {
    fn default() -> Self {
        Self {
            ratios: [0.0; BINS],
            seen: 0.0,
            truth: 0.0,
            told: 0.0,
        }
    }
}

impl Belief {
    /// Chance that a response is at most `ratio` times its forecast.
    fn below(&self, ratio: f64, settings: &SlackSettings) -> f64 {
        let place = place(ratio);
        let whole = place.floor() as usize;
        let mut mass: f64 = self.ratios[..whole].iter().sum();
        if let Some(cut) = self.ratios.get(whole) {
            mass += cut * place.fract();
        }
        let prior = settings.prior.max(1e-9);
        (mass + prior * prior_below(place)) / (self.seen + prior)
    }

    fn accuracy(&self, validated: f64, settings: &SlackSettings) -> f64 {
        let weight = settings.accuracy_prior + self.told;
        if weight <= 0.0 {
            return validated;
        }
        (validated + self.truth / weight).clamp(0.0, 1.0)
    }
}

/// One arm for one request.
#[derive(Clone, Copy, Debug)]
struct Judgement {
    /// Chance that it keeps the promise.
    held: f64,
    /// Expected reward.
    expected: f64,
    /// The same with what is not known of it, where trying it is safe.
    optimistic: f64,
}

/// The bandit.
#[derive(Clone, Debug, PartialEq)]
pub struct Slack {
    settings: SlackSettings,
    /// By model, then arm.
    beliefs: BTreeMap<String, BTreeMap<String, Belief>>,
}

impl Slack {
    /// A bandit that believes the forecasts.
    #[must_use]
    pub const fn new(settings: SlackSettings) -> Self {
        Self {
            settings,
            beliefs: BTreeMap::new(),
        }
    }

    fn belief(&self, model: &str, arm: &str) -> Option<&Belief> {
        self.beliefs.get(model)?.get(arm)
    }

    fn belief_mut(&mut self, model: &str, arm: &str) -> &mut Belief {
        let arms = self.beliefs.entry(model.to_owned()).or_default();
        arms.entry(arm.to_owned()).or_default()
    }

    /// What is expected of an arm that was seen among `times` answers of its model.
    fn judge(&self, context: &Context<'_>, arm: &ArmView<'_>, times: f64) -> Judgement {
        let settings = &self.settings;
        let unknown = Belief::default();
        let belief = self.belief(context.model, arm.name).unwrap_or(&unknown);
        let forecast = arm.predicted.as_secs_f64().max(1e-9);
        let room = context.slack.as_secs_f64() / forecast;
        let held = belief.below(room, settings);
        let answered = belief.below(f64::MAX, settings);
        let accuracy = belief.accuracy(arm.accuracy, settings);
        let weight = settings.accuracy_weight;
        let expected = (1.0 - weight) * held + weight * answered * accuracy;
        let bonus = settings.c * ((1.0 + times).ln() / (1.0 + belief.seen)).sqrt();
        let is_safe = settings.safe <= room;
        Judgement {
            held,
            expected,
            optimistic: expected + if is_safe { bonus } else { 0.0 },
        }
    }
}

impl Policy for Slack {
    fn name(&self) -> &'static str {
        "slack"
    }

    fn choose(&self, context: &Context<'_>, arms: &[ArmView<'_>], rng: &mut dyn Rng) -> Choice {
        assert!(!arms.is_empty(), "a policy is offered at least one arm");
        let seen = |arm: &ArmView<'_>| self.belief(context.model, arm.name).map_or(0.0, |b| b.seen);
        let times = arms.iter().map(seen).sum();
        let judged: Vec<Judgement> = arms
            .iter()
            .map(|arm| self.judge(context, arm, times))
            .collect();
        let most =
            |of: fn(&Judgement) -> f64| judged.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        let best = most(|arm| arm.optimistic);
        let tied: Vec<usize> = (0..arms.len())
            .filter(|&arm| best <= judged[arm].optimistic)
            .collect();
        let drawn = tied[uniform(tied.len(), rng).min(tied.len() - 1)];
        let (arm, propensity, reason) = match fastest(arms, |_| true) {
            Some(first) if most(|arm| arm.held) < HOPELESS => (first, 1.0, Reason::Fallback),
            _ => {
                let is_greedy = most(|arm| arm.expected) <= judged[drawn].expected;
                let reason = if is_greedy {
                    Reason::Best
                } else {
                    Reason::Explored
                };
                (drawn, 1.0 / tied.len() as f64, reason)
            }
        };
        // For people: what the fastest exact arm would have promised.
        let exact = fastest(arms, |arm| arm.kind.is_exact());
        let is_tight = exact.is_some_and(|exact| context.slack < arms[exact].predicted);
        Choice {
            arm,
            propensity,
            context: CONTEXTS[usize::from(!is_tight)],
            scores: judged.iter().map(|arm| arm.optimistic).collect(),
            reason,
        }
    }

    fn learn(&mut self, outcome: &Outcome<'_>) {
        let keep = 1.0 - self.settings.forget.clamp(0.0, 0.999);
        let forecast = outcome.predicted.as_secs_f64().max(1e-9);
        let ratio = outcome
            .response
            .map(|response| response.as_secs_f64() / forecast);
        let belief = self.belief_mut(outcome.model, outcome.arm);
        belief.ratios.iter_mut().for_each(|mass| *mass *= keep);
        belief.seen = belief.seen * keep + 1.0;
        belief.truth *= keep;
        belief.told *= keep;
        // What was never answered is in no bin.
        if let Some(ratio) = ratio {
            belief.ratios[(place(ratio).floor() as usize).min(BINS - 1)] += 1.0;
        }
    }

    fn revise(&mut self, before: &Outcome<'_>, after: &Outcome<'_>) {
        let belief = self.belief_mut(before.model, before.arm);
        belief.truth += after.accuracy - before.accuracy;
        belief.told += 1.0;
    }

    fn explain(&self) -> BTreeMap<String, f64> {
        let mut told = BTreeMap::new();
        for (model, arms) in &self.beliefs {
            for (arm, belief) in arms {
                let name = format!("{model}.{arm}");
                told.insert(format!("{name}.count"), belief.seen);
                let on_time = belief.below(1.0, &self.settings);
                told.insert(format!("{name}.within_forecast"), on_time);
                let late = belief.below(2.0, &self.settings);
                told.insert(format!("{name}.within_twice_the_forecast"), late);
                told.insert(format!("{name}.truths"), belief.told);
            }
        }
        told
    }

    fn state(&self) -> BTreeMap<String, f64> {
        let mut state = BTreeMap::new();
        for (model, arms) in &self.beliefs {
            for (arm, belief) in arms {
                // Names of models and arms hold no colon.
                let name = format!("{model}:{arm}");
                state.insert(format!("{name}:seen"), belief.seen);
                state.insert(format!("{name}:truth"), belief.truth);
                state.insert(format!("{name}:told"), belief.told);
                for (bin, mass) in belief.ratios.iter().enumerate() {
                    state.insert(format!("{name}:{bin}"), *mass);
                }
            }
        }
        state
    }

    fn restore(&mut self, state: &BTreeMap<String, f64>) {
        for (name, &value) in state {
            let mut words = name.split(':');
            let (Some(model), Some(arm), Some(what), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            if !value.is_finite() {
                continue;
            }
            let belief = self.belief_mut(model, arm);
            match what {
                "seen" => belief.seen = value,
                "truth" => belief.truth = value,
                "told" => belief.told = value,
                bin => {
                    let mass = bin
                        .parse()
                        .ok()
                        .and_then(|bin: usize| belief.ratios.get_mut(bin));
                    if let Some(mass) = mass {
                        *mass = value;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
