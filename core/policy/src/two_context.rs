//! The two-context bandit of SplitPlace (Tuli, Casale, Jennings, IEEE TMC 2022).
//!
//! For each model an estimate R of the response of a layer-wise split is kept. A request whose SLA is
//! below R is *tight*, else *loose*; each context has its own value Q and count N of the two decisions,
//! layer and semantic, shared by all models.
//!
//! - Estimate: `R ← φ r + (1 - φ) R` for each finished layer run of response r, waiting included
//!   (paper: φ = .9; released code: φ = .1). R starts at the forecast of the first request's layer arm.
//! - Reward of one request: `([r ≤ SLA] + p) / 2` with p the accuracy, validated or told (paper). The
//!   released code's `½ [r ≤ SLA] + ½ · 10 · max(0, p - .9)` is had with `accuracy_floor = .9` and
//!   `accuracy_gain = 10`.
//! - Value: `Q ← Q + γ (O - Q)` with γ = .3 (paper), or the sample mean `γ = 1/N` (released code).
//! - Training: with probability ε any decision, uniformly, else the larger Q; ε decays by reward: when
//!   the mean reward of an interval exceeds a threshold ρ, `ε ← (1 - k) ε` and `ρ ← min(1, (1 + k) ρ)`
//!   (RBED; paper: k = .1). An interval here is a number of outcomes.
//! - Use: upper confidence bound, `argmax Q + c √(ln t / N)` with c = .5 (paper); a decision never tried
//!   comes first.
//!
//! A decision that no deployed arm offers now is left out. Of several arms of the decision *layer*
//! (the uncut model, chains) the one with the smallest forecast is taken. Arms that the paper does not
//! know (early exits, compressed variants) are taken only when there is no other.

use std::collections::BTreeMap;

use rand::Rng;
use splitplace_plan::ArmKind;

use crate::{
    ArmView, Choice, Context, Outcome, Policy, Reason, fastest,
    fixed::{uniform, unit},
};

/// Numbers of the bandit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TwoContextSettings {
    /// φ: weight of a new response in the estimate, in `(0, 1]`.
    pub phi: f64,
    /// γ: step of the value; 0 takes the sample mean.
    pub gamma: f64,
    /// c: width of the confidence bound.
    pub c: f64,
    /// ε at the beginning; 0 does without a training phase.
    pub epsilon: f64,
    /// ρ at the beginning.
    pub rho: f64,
    /// k: decay of ε and growth of ρ.
    pub k: f64,
    /// ε below which training is over and the confidence bound takes over.
    pub epsilon_end: f64,
    /// Outcomes in one interval of the decay.
    pub interval: f64,
    /// Accuracy that counts nothing.
    pub accuracy_floor: f64,
    /// Factor of the accuracy above the floor.
    pub accuracy_gain: f64,
}

impl Default for TwoContextSettings {
    /// The paper's numbers for use, but for two. With the paper's φ = .9 the estimate is hardly more than
    /// the last response, and one slow answer puts the next requests into the wrong context; with its
    /// γ = .3 three unlucky answers sink a good arm for hundreds of requests. Both are as in the released
    /// code. Training is off, because a served request is no place to learn from scratch when validated
    /// accuracies and forecasts are there.
    fn default() -> Self {
        Self {
            phi: 0.1,
            gamma: 0.0,
            c: 0.5,
            epsilon: 0.0,
            rho: 0.45,
            k: 0.1,
            epsilon_end: 0.05,
            interval: 20.0,
            accuracy_floor: 0.0,
            accuracy_gain: 1.0,
        }
    }
}

impl TwoContextSettings {
    /// Names of the numbers, as configuration has them.
    pub const PARAMS: [&'static str; 10] = [
        "phi",
        "gamma",
        "c",
        "epsilon",
        "rho",
        "k",
        "epsilon-end",
        "interval",
        "accuracy-floor",
        "accuracy-gain",
    ];

    /// The default with some numbers replaced; the name of the first unknown one otherwise.
    ///
    /// # Errors
    /// The unknown name.
    pub fn from_params(params: &BTreeMap<String, f64>) -> Result<Self, String> {
        let mut settings = Self::default();
        for (name, &value) in params {
            let slot = match name.as_str() {
                "phi" => &mut settings.phi,
                "gamma" => &mut settings.gamma,
                "c" => &mut settings.c,
                "epsilon" => &mut settings.epsilon,
                "rho" => &mut settings.rho,
                "k" => &mut settings.k,
                "epsilon-end" => &mut settings.epsilon_end,
                "interval" => &mut settings.interval,
                "accuracy-floor" => &mut settings.accuracy_floor,
                "accuracy-gain" => &mut settings.accuracy_gain,
                _ => return Err(name.clone()),
            };
            *slot = value;
        }
        Ok(settings)
    }
}

/// What the paper decides between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Layer,
    Semantic,
}

impl Decision {
    const ALL: [Self; 2] = [Self::Layer, Self::Semantic];

    const fn of(kind: ArmKind) -> Option<Self> {
        match kind {
            ArmKind::Whole | ArmKind::Chain => Some(Self::Layer),
            ArmKind::Semantic => Some(Self::Semantic),
            ArmKind::Exits | ArmKind::Compressed => None,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Semantic => "semantic",
        }
    }
}

const CONTEXTS: [&str; 2] = ["tight", "loose"];

/// Value and count of one decision in one context.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Belief {
    value: f64,
    count: f64,
}

/// The bandit.
#[derive(Clone, Debug, PartialEq)]
pub struct TwoContext {
    settings: TwoContextSettings,
    /// R by model, in seconds.
    response: BTreeMap<String, f64>,
    /// By context, then decision.
    beliefs: [[Belief; 2]; 2],
    epsilon: f64,
    rho: f64,
    interval_sum: f64,
    interval_count: f64,
}

impl TwoContext {
    /// A bandit that knows nothing.
    #[must_use]
    pub fn new(settings: TwoContextSettings) -> Self {
        Self {
            settings,
            response: BTreeMap::new(),
            beliefs: Default::default(),
            epsilon: settings.epsilon,
            rho: settings.rho,
            interval_sum: 0.0,
            interval_count: 0.0,
        }
    }

    fn reward(&self, outcome: &Outcome<'_>) -> f64 {
        let held = if outcome.sla_held() { 1.0 } else { 0.0 };
        let accuracy = if outcome.response.is_some() {
            self.settings.accuracy_gain * (outcome.accuracy - self.settings.accuracy_floor).max(0.0)
        } else {
            // No answer is not right.
            0.0
        };
        (held + accuracy) / 2.0
    }

    fn is_training(&self) -> bool {
        self.settings.epsilon_end < self.epsilon
    }

    /// Score of a decision: its value, and beyond training the width of what is not known.
    fn score(&self, context: usize, decision: Decision) -> f64 {
        let belief = self.beliefs[context][decision as usize];
        if self.is_training() {
            return belief.value;
        }
        if belief.count == 0.0 {
            return f64::INFINITY;
        }
        let times: f64 = self.beliefs[context]
            .iter()
            .map(|belief| belief.count)
            .sum();
        belief.value + self.settings.c * (times.max(1.0).ln() / belief.count).sqrt()
    }

    fn belief(&mut self, outcome: &Outcome<'_>) -> Option<&mut Belief> {
        let context = CONTEXTS.iter().position(|name| *name == outcome.context)?;
        Some(&mut self.beliefs[context][Decision::of(outcome.kind)? as usize])
    }
}

impl Policy for TwoContext {
    fn name(&self) -> &'static str {
        "two-context"
    }

    fn choose(&self, context: &Context<'_>, arms: &[ArmView<'_>], rng: &mut dyn Rng) -> Choice {
        let best_of =
            |decision: Decision| fastest(arms, |arm| Decision::of(arm.kind) == Some(decision));
        let estimate = self
            .response
            .get(context.model)
            .copied()
            .or_else(|| best_of(Decision::Layer).map(|arm| arms[arm].predicted.as_secs_f64()));
        let is_tight = estimate.is_some_and(|estimate| context.sla.as_secs_f64() < estimate);
        let place = usize::from(!is_tight);
        let scores: Vec<f64> = arms
            .iter()
            .map(|arm| Decision::of(arm.kind).map_or(f64::NEG_INFINITY, |d| self.score(place, d)))
            .collect();
        let choice = |arm, propensity, reason| Choice {
            arm,
            propensity,
            context: CONTEXTS[place],
            scores: scores.clone(),
            reason,
        };
        let (Some(layer), Some(semantic)) = (best_of(Decision::Layer), best_of(Decision::Semantic))
        else {
            let arm = fastest(arms, |_| true).expect("a policy is offered at least one arm");
            return choice(arm, 1.0, Reason::Fallback);
        };
        let candidates = [layer, semantic];
        let (a, b) = (scores[layer], scores[semantic]);
        // Equal scores (both untried, say) are settled by a coin, or one would never be tried first.
        let greedy = if a > b {
            Some(0)
        } else if b > a {
            Some(1)
        } else {
            None
        };
        let epsilon = if self.is_training() {
            self.epsilon
        } else {
            0.0
        };
        let probability = |which: usize| match greedy {
            Some(best) if best == which => 1.0 - epsilon / 2.0,
            Some(_) => epsilon / 2.0,
            None => 0.5,
        };
        let is_exploring = unit(rng) < epsilon;
        let which = match greedy {
            Some(best) if !is_exploring => best,
            _ => uniform(2, rng),
        };
        let reason = if greedy == Some(which) {
            Reason::Best
        } else {
            Reason::Explored
        };
        choice(candidates[which], probability(which), reason)
    }

    fn learn(&mut self, outcome: &Outcome<'_>) {
        let reward = self.reward(outcome);
        if Decision::of(outcome.kind) == Some(Decision::Layer)
            && let Some(response) = outcome.response
        {
            let (phi, seconds) = (self.settings.phi, response.as_secs_f64());
            let known = self
                .response
                .entry(outcome.model.to_owned())
                .or_insert(seconds);
            *known = phi * seconds + (1.0 - phi) * *known;
        }
        let gamma = self.settings.gamma;
        if let Some(belief) = self.belief(outcome) {
            belief.count += 1.0;
            let step = if 0.0 < gamma && 1.0 < belief.count {
                gamma
            } else {
                1.0 / belief.count
            };
            belief.value += step * (reward - belief.value);
        }
        self.interval_sum += reward;
        self.interval_count += 1.0;
        if self.settings.interval <= self.interval_count {
            if self.rho <= self.interval_sum / self.interval_count {
                self.epsilon *= 1.0 - self.settings.k;
                self.rho = (self.rho * (1.0 + self.settings.k)).min(1.0);
            }
            (self.interval_sum, self.interval_count) = (0.0, 0.0);
        }
    }

    /// Exact for sample means. With a fixed step the outcome's remaining weight is taken to be that of
    /// the newest, `γ`; feedback that comes late then counts a little too much.
    fn revise(&mut self, before: &Outcome<'_>, after: &Outcome<'_>) {
        let change = self.reward(after) - self.reward(before);
        let gamma = self.settings.gamma;
        if let Some(belief) = self.belief(before)
            && 0.0 < belief.count
        {
            let weight = if 0.0 < gamma {
                gamma.min(1.0)
            } else {
                1.0 / belief.count
            };
            belief.value += weight * change;
        }
    }

    fn explain(&self) -> BTreeMap<String, f64> {
        let mut told = BTreeMap::from([
            ("epsilon".to_owned(), self.epsilon),
            ("rho".to_owned(), self.rho),
        ]);
        for (context, beliefs) in CONTEXTS.iter().zip(&self.beliefs) {
            for (decision, belief) in Decision::ALL.iter().zip(beliefs) {
                let name = format!("{context}.{}", decision.label());
                told.insert(format!("{name}.value"), belief.value);
                told.insert(format!("{name}.count"), belief.count);
            }
        }
        for (model, seconds) in &self.response {
            told.insert(format!("response_seconds.{model}"), *seconds);
        }
        told
    }

    fn state(&self) -> BTreeMap<String, f64> {
        let mut state = self.explain();
        state.insert("interval_sum".into(), self.interval_sum);
        state.insert("interval_count".into(), self.interval_count);
        state
    }

    fn restore(&mut self, state: &BTreeMap<String, f64>) {
        let get = |name: &str, or: f64| state.get(name).copied().unwrap_or(or);
        self.epsilon = get("epsilon", self.epsilon);
        self.rho = get("rho", self.rho);
        self.interval_sum = get("interval_sum", 0.0);
        self.interval_count = get("interval_count", 0.0);
        for (context, beliefs) in CONTEXTS.iter().zip(&mut self.beliefs) {
            for (decision, belief) in Decision::ALL.iter().zip(beliefs) {
                let name = format!("{context}.{}", decision.label());
                belief.value = get(&format!("{name}.value"), belief.value);
                belief.count = get(&format!("{name}.count"), belief.count);
            }
        }
        for (name, seconds) in state {
            if let Some(model) = name.strip_prefix("response_seconds.") {
                self.response.insert(model.to_owned(), *seconds);
            }
        }
    }
}

#[cfg(test)]
mod tests;
