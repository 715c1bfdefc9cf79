//! Controllers that look at nothing, or at confidence alone.

use std::collections::BTreeMap;

use super::{At, ExitPolicy, Intent, Intents};

/// Always the same exit: the last one, and the network is as if it had none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedExit {
    exit: u16,
    name: &'static str,
}

impl FixedExit {
    /// Always this exit.
    #[must_use]
    pub fn new(exit: usize) -> Self {
        Self {
            exit: u16::try_from(exit).unwrap_or(u16::MAX),
            name: "fixed-exit",
        }
    }

    /// Always the last exit.
    #[must_use]
    pub const fn last() -> Self {
        Self {
            exit: u16::MAX,
            name: "last-exit",
        }
    }
}

impl ExitPolicy for FixedExit {
    fn name(&self) -> &'static str {
        self.name
    }

    fn intents(&self, _: usize) -> Intents {
        Intents::one(Intent(self.exit))
    }

    fn stop(&self, at: &At) -> f64 {
        f64::from(u8::from(at.exit >= usize::from(self.exit)))
    }

    fn explain(&self) -> BTreeMap<String, f64> {
        BTreeMap::from([("exit".into(), f64::from(self.exit))])
    }
}

/// Answers at the first exit whose confidence reaches its threshold, whatever the load.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    of: Vec<f64>,
    name: &'static str,
}

impl Thresholds {
    /// One threshold for each exit; exits without one are passed.
    #[must_use]
    pub const fn new(of: Vec<f64>) -> Self {
        Self {
            of,
            name: "threshold",
        }
    }

    /// The same under another name: how they were found.
    #[must_use]
    pub(crate) fn named(self, name: &'static str) -> Self {
        Self { of: self.of, name }
    }

    /// The thresholds.
    #[must_use]
    pub fn of(&self) -> &[f64] {
        &self.of
    }
}

impl ExitPolicy for Thresholds {
    fn name(&self) -> &'static str {
        self.name
    }

    fn stop(&self, at: &At) -> f64 {
        let reached = self.of.get(at.exit).is_some_and(|&t| at.confidence >= t);
        f64::from(u8::from(reached))
    }

    fn explain(&self) -> BTreeMap<String, f64> {
        let named = |(exit, &t): (usize, &f64)| (format!("threshold-{exit}"), t);
        self.of.iter().enumerate().map(named).collect()
    }
}
