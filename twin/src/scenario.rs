//! Worlds as files that people read and write.
//!
//! ```toml
//! description = "Two boards in an attic"
//! duration-s = 30
//! warm-up-s = 5
//!
//! [policy]
//! name = "two-context"
//!
//! [[node]]
//! name = "pi"
//! count = 2                     # pi-1, pi-2
//! gmacs = 2.0                   # 10^9 multiply-accumulates a second on one core
//! memory-mb = 64
//!
//! [[link]]                      # as in fleet files: `*` is every node, later entries beat earlier ones
//! from = "center"
//! to = "*"
//! rate-mbit = 100
//! delay-ms = 1
//!
//! [[model]]
//! name = "digits"
//! [[model.variant]]
//! name = "base"
//! accuracy = 0.97
//! [[model.variant.part]]
//! segments = [{ mmacs = 4.0, weights-kb = 80 }, { mmacs = 8.0, weights-kb = 900, live-kb = 40 }]
//! crossing-kb = [3.1, 21.6, 0.04]
//!
//! [[load]]
//! model = "digits"
//! rate = 40
//! sla-ms = [[30, 0.5], [150, 0.5]]   # milliseconds and weights
//! ```
//!
//! The whole format is in `docs/twin.md`. The only module that knows serde and TOML.

mod build;
mod exits;
mod file;
mod outcome;

use std::collections::BTreeMap;

use splitplace_policy::{Policy, PolicyError, by_name};

pub use outcome::{ArmOutcome, ModelOutcome, Outcome};

use crate::{
    Seed,
    planner::Strategic,
    world::{Report, World, run},
};

/// A world with everything that it takes to run it.
pub struct Scenario {
    /// For people.
    pub description: String,
    /// What is simulated.
    pub world: World,
    /// Who plans.
    pub planner: Strategic,
    policy: (String, BTreeMap<String, f64>),
    /// Of everything random.
    pub seed: Seed,
    /// Replications, unless said otherwise.
    pub replications: u64,
}

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is no scenario.
    #[error("{name}: {source}")]
    Parse {
        /// Which.
        name: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// It says something that cannot be.
    #[error("{name}: {}", wrong.join("; "))]
    Wrong {
        /// Which.
        name: String,
        /// Every mistake.
        wrong: Vec<String>,
    },
}

impl Scenario {
    /// Most nodes, models, loads, faults and so on of a scenario, copies included.
    pub const MOST: usize = 100_000;

    /// Reads and checks a text; `name` is what errors call it.
    ///
    /// # Errors
    /// [`ScenarioError`] with every mistake at once.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let file: file::File = toml::from_str(text).map_err(|source| ScenarioError::Parse {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        build::build(file).map_err(|wrong| ScenarioError::Wrong {
            name: name.to_owned(),
            wrong,
        })
    }

    /// The name of the policy that chooses arms.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy.0
    }

    /// Lets another policy choose arms.
    ///
    /// # Errors
    /// When there is no such policy, or it has no such numbers; the one before stays.
    pub fn set_policy(
        &mut self,
        name: &str,
        params: BTreeMap<String, f64>,
    ) -> Result<(), PolicyError> {
        by_name(name, &params)?;
        self.policy = (name.to_owned(), params);
        Ok(())
    }

    fn new_policy(&self) -> Box<dyn Policy> {
        let (name, params) = &self.policy;
        by_name(name, params).expect("a scenario's policy was checked")
    }

    /// One run, number `number`. The same number gives the same arrivals, promises and draws whatever
    /// else was changed about the scenario.
    #[must_use]
    pub fn replicate(&self, number: u64) -> Report {
        let seed = self.seed.child("replication", number);
        run(&self.world, self.new_policy(), &self.planner, seed)
    }
}

#[cfg(test)]
mod tests;
