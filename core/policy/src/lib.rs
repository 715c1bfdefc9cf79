//! Which arm answers a request: bandits and fixed policies behind one trait.
//!
//! A policy sees a [`Context`] and the arms that could answer, and returns a [`Choice`] that says why.
//! Later it is told the [`Outcome`]. It has no clock and no source of randomness of its own, so that
//! the daemon, the tests and the twin get the same choices from the same seed.
//!
//! What is deliberately absent: knowledge of nodes, routes and models. An arm is what its
//! [`ArmView`] says of it.
//!
//! Reading order: the contract, [`fixed`], [`two_context`], [`slack`], [`by_name`]; then [`exit`], which decides not how
//! a request runs but after which exit of its network it answers.

mod contract;
pub mod exit;
pub mod fixed;
pub mod slack;
pub mod two_context;

use std::collections::BTreeMap;

pub use contract::{ArmView, Choice, Context, Outcome, Policy, Reason};
pub use fixed::{Fixed, Random, Want};
pub use slack::{Slack, SlackSettings};
pub use two_context::{TwoContext, TwoContextSettings};

/// Names that [`by_name`] knows.
pub const NAMES: [&str; 7] = [
    "slack",
    "two-context",
    "layer",
    "semantic",
    "whole",
    "compressed",
    "random",
];

/// Why a policy could not be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// No policy has this name.
    #[error("policy '{name}' is unknown; known are {}", NAMES.join(", "))]
    Unknown {
        /// As it was asked for.
        name: String,
    },
    /// A number that the policy does not have.
    #[error("policy '{policy}' has no number '{name}'; it has {known}")]
    Param {
        /// The policy.
        policy: String,
        /// The number.
        name: String,
        /// Those that it has.
        known: String,
    },
}

/// Makes a policy from its name and its numbers.
///
/// # Errors
/// [`PolicyError`] names what is unknown and what is known.
pub fn by_name(name: &str, params: &BTreeMap<String, f64>) -> Result<Box<dyn Policy>, PolicyError> {
    let none = |policy: Box<dyn Policy>| match params.keys().next() {
        Some(param) => Err(PolicyError::Param {
            policy: name.to_owned(),
            name: param.clone(),
            known: "none".into(),
        }),
        None => Ok(policy),
    };
    match name {
        "slack" => {
            let settings =
                SlackSettings::from_params(params).map_err(|param| PolicyError::Param {
                    policy: name.to_owned(),
                    name: param,
                    known: SlackSettings::PARAMS.join(", "),
                })?;
            Ok(Box::new(Slack::new(settings)))
        }
        "two-context" => {
            let settings =
                TwoContextSettings::from_params(params).map_err(|param| PolicyError::Param {
                    policy: name.to_owned(),
                    name: param,
                    known: TwoContextSettings::PARAMS.join(", "),
                })?;
            Ok(Box::new(TwoContext::new(settings)))
        }
        "layer" => none(Box::new(Fixed::new(Want::Layer))),
        "semantic" => none(Box::new(Fixed::new(Want::Semantic))),
        "whole" => none(Box::new(Fixed::new(Want::Whole))),
        "compressed" => none(Box::new(Fixed::new(Want::Compressed))),
        "random" => none(Box::new(Random)),
        _ => Err(PolicyError::Unknown {
            name: name.to_owned(),
        }),
    }
}

/// The offered arm with the smallest forecast among those that `wanted` admits.
fn fastest(arms: &[ArmView<'_>], wanted: impl Fn(&ArmView<'_>) -> bool) -> Option<usize> {
    (0..arms.len())
        .filter(|&arm| wanted(&arms[arm]))
        .min_by_key(|&arm| arms[arm].predicted)
}
