//! Policies that learn nothing: always the same kind of arm, or any at random.

use std::collections::BTreeMap;

use rand::Rng;
use splitplace_plan::ArmKind;

use crate::{ArmView, Choice, Context, Outcome, Policy, Reason, fastest};

/// What a fixed policy always takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A layer-wise chain.
    Layer,
    /// Parallel branches.
    Semantic,
    /// The uncut model.
    Whole,
    /// A compressed form of the model.
    Compressed,
}

/// Always the same kind of arm, the fastest of it; any other only when there is none of that kind.
#[derive(Clone, Debug)]
pub struct Fixed {
    want: Want,
}

impl Fixed {
    /// A policy that always wants this.
    #[must_use]
    pub const fn new(want: Want) -> Self {
        Self { want }
    }
}

impl Policy for Fixed {
    fn name(&self) -> &'static str {
        match self.want {
            Want::Layer => "layer",
            Want::Semantic => "semantic",
            Want::Whole => "whole",
            Want::Compressed => "compressed",
        }
    }

    fn choose(&self, _: &Context<'_>, arms: &[ArmView<'_>], _: &mut dyn Rng) -> Choice {
        let kind = match self.want {
            Want::Layer => ArmKind::Chain,
            Want::Semantic => ArmKind::Semantic,
            Want::Whole => ArmKind::Whole,
            Want::Compressed => ArmKind::Compressed,
        };
        let wanted = fastest(arms, |arm| arm.kind == kind);
        let reason = if wanted.is_some() {
            Reason::Fixed
        } else {
            Reason::Fallback
        };
        let arm = wanted
            .or_else(|| fastest(arms, |_| true))
            .expect("a policy is offered at least one arm");
        Choice {
            arm,
            propensity: 1.0,
            context: "any",
            scores: vec![0.0; arms.len()],
            reason,
        }
    }

    fn learn(&mut self, _: &Outcome<'_>) {}

    fn revise(&mut self, _: &Outcome<'_>, _: &Outcome<'_>) {}

    fn explain(&self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    fn state(&self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    fn restore(&mut self, _: &BTreeMap<String, f64>) {}
}

/// Any offered arm, each with the same probability.
#[derive(Clone, Copy, Debug)]
pub struct Random;

impl Policy for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn choose(&self, _: &Context<'_>, arms: &[ArmView<'_>], rng: &mut dyn Rng) -> Choice {
        assert!(!arms.is_empty(), "a policy is offered at least one arm");
        let arm = uniform(arms.len(), rng);
        #[expect(clippy::cast_precision_loss, reason = "a handful of arms")]
        let propensity = 1.0 / arms.len() as f64;
        let scores = vec![0.0; arms.len()];
        Choice {
            arm,
            propensity,
            context: "any",
            scores,
            reason: Reason::Explored,
        }
    }

    fn learn(&mut self, _: &Outcome<'_>) {}

    fn revise(&mut self, _: &Outcome<'_>, _: &Outcome<'_>) {}

    fn explain(&self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    fn state(&self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    fn restore(&mut self, _: &BTreeMap<String, f64>) {}
}

/// A number below `count`, uniformly: the high half of a 64-bit product (Lemire 2019; the bias of
/// `count / 2^64` is left in).
pub(crate) fn uniform(count: usize, rng: &mut dyn Rng) -> usize {
    let wide = u128::from(rng.next_u64()) * count as u128;
    usize::try_from(wide >> 64).unwrap_or(0)
}

/// A number in `[0, 1)`.
pub(crate) fn unit(rng: &mut dyn Rng) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    let bits = (rng.next_u64() >> 11) as f64;
    bits / (1u64 << 53) as f64
}
