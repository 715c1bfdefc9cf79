//! What layers of each type cost, fitted on measured segments: data, shipped with a recipe to make it anew.
//!
//! Times belong to the machine whose speed on the yardstick stands beside them; for another one they are scaled by
//! the ratio of the two.

use serde::{Deserialize, Serialize};
use splitplace_plan::predict::{FEATURES, Kind, PER_KIND, Predictor};

use crate::tables::Machine;

/// The shipped coefficients: `splitplace lab costs --write` makes the file.
const SHIPPED: &str = include_str!("costs.toml");

/// Coefficients, and where they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// Where segments were run.
    pub machine: Machine,
    /// How many.
    pub samples: u64,
    /// What was fitted.
    pub predictor: Predictor,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    machine: Machine,
    samples: u64,
    relative_variance: f64,
    run: f64,
    kind: Vec<Coefficients>,
}

/// Seconds for each unit.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Coefficients {
    name: String,
    layer: f64,
    gmac: f64,
    megabyte: f64,
    weight_megabyte: f64,
}

impl Costs {
    /// What is shipped.
    ///
    /// # Errors
    /// When the shipped file is none, which a test rules out.
    pub fn shipped() -> Result<Self, String> {
        Self::from_text(SHIPPED)
    }

    /// From the text of a file.
    ///
    /// # Errors
    /// A sentence, when it is not TOML of this form, or a number is negative or none.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|why| why.to_string())?;
        if file.format != 1 {
            return Err(format!("format {} is unknown; known is 1", file.format));
        }
        let mut coefficients = vec![0.0; FEATURES];
        coefficients[0] = file.run;
        for one in &file.kind {
            let kind = Kind::ALL.into_iter().find(|kind| kind.label() == one.name);
            let kind = kind.ok_or_else(|| format!("kind \"{}\" is unknown", one.name))?;
            let at = 1 + PER_KIND * kind as usize;
            let values = [one.layer, one.gmac, one.megabyte, one.weight_megabyte];
            coefficients[at..at + PER_KIND].copy_from_slice(&values);
        }
        let is_cost = |number: &f64| number.is_finite() && *number >= 0.0;
        if !coefficients.iter().all(is_cost) || !is_cost(&file.relative_variance) {
            return Err("a coefficient is negative or no number".into());
        }
        if !(file.machine.macs_per_second.is_finite() && file.machine.macs_per_second > 0.0) {
            return Err("the machine has no speed".into());
        }
        Ok(Self {
            machine: file.machine,
            samples: file.samples,
            predictor: Predictor {
                coefficients,
                relative_variance: file.relative_variance,
            },
        })
    }

    /// As the text of a file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let of = |at: usize| self.predictor.coefficients.get(at).copied().unwrap_or(0.0);
        let mut text = format!(
            "# Seconds that layers cost, by what they are. Written by `splitplace lab costs --write FILE`.\n\
             # layer: each; gmac: 10^9 multiply-accumulates; megabyte: read and made; weight_megabyte: of weights.\n\
             format = 1\n\
             samples = {}\n\
             relative_variance = {:.5e}\n\
             run = {:.5e}\n\n\
             [machine]\nengine = {:?}\ncores = {}\nmacs_per_second = {:.1}\n",
            self.samples,
            self.predictor.relative_variance,
            of(0),
            self.machine.engine,
            self.machine.cores,
            self.machine.macs_per_second,
        );
        for kind in Kind::ALL {
            let at = 1 + PER_KIND * kind as usize;
            text.push_str(&format!(
                "\n[[kind]]\nname = {:?}\nlayer = {:.5e}\ngmac = {:.5e}\nmegabyte = {:.5e}\nweight_megabyte = {:.5e}\n",
                kind.label(),
                of(at),
                of(at + 1),
                of(at + 2),
                of(at + 3),
            ));
        }
        text
    }

    /// How many times longer a machine of that speed takes than the one that was measured.
    #[must_use]
    pub fn factor(&self, macs_per_second: f64) -> f64 {
        self.machine.macs_per_second / macs_per_second.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_what_is_wrong_is_refused() {
        let costs = Costs {
            machine: Machine {
                engine: "an engine".into(),
                cores: 2,
                macs_per_second: 1e10,
            },
            samples: 12,
            predictor: Predictor {
                coefficients: (0..FEATURES).map(|at| at as f64 * 0.5).collect(),
                relative_variance: 0.25,
            },
        };
        let text = costs.to_text();
        assert_eq!(Costs::from_text(&text), Ok(costs));
        for (right, wrong) in [
            ("format = 1", "format = 2"),
            ("name = \"pool\"", "name = \"poll\""),
            ("run = 0", "run = -1"),
            ("macs_per_second = 1", "macs_per_second = -1"),
        ] {
            let broken = text.replace(right, wrong);
            assert!(
                broken == text || Costs::from_text(&broken).is_err(),
                "{wrong}"
            );
            assert!(broken != text, "{right} is there");
        }
    }

    #[test]
    fn the_shipped_coefficients_are_sound_and_a_convolution_costs_something() {
        let costs = Costs::shipped().unwrap();
        let gmac = costs.predictor.coefficients[2];
        assert!(gmac > 0.0 && costs.samples >= 100);
        assert!((costs.factor(costs.machine.macs_per_second) - 1.0).abs() < 1e-12);
    }
}
