//! What an operator asks for beyond "serve this model": who may answer, where, and what is promised.
//!
//! Wishes come as JSON, in the load parameter `splitplace_wishes`, and are kept in the store as they
//! came, so that a restart serves a model as it was asked for. What cannot be carried out is refused by
//! name, so that whoever asks can choose to go without; nothing is left out in silence.
//!
//! | wish | value | meaning |
//! |---|---|---|
//! | `sla` | `{"milliseconds": 50}` | what is promised to a client that says nothing |
//! | `minAccuracy` | `0.9` | arms whose validated accuracy is lower, or not known, have no place |
//! | `variants` | `["whole", "chain"]` | kinds of arms that may have a place |
//! | `exits` | `{"policy": "never"}` | no exit answers |
//! | | `{"policy": "confidence", "minConfidence": 0.9}` | an exit answers only if it is so sure, and as sure as its package says |
//! | | `{"policy": "joint", "lossTarget": 0.02}` | that controller decides, and may turn away that share of the requests |
//! | `placement.nodes` | `["attic"]` | the only nodes that may have fragments of the model |
//! | `placement.pin` | `{"0": "attic"}` | fragment of a chain, or branch, by number, on its own node |
//! | `placement.spread` | `true` | no two branches on one node, as no two fragments of a chain ever are |
//! | `priority` | `5` | given memory before models with a lower one; 0 without |
//!
//! Controllers are those of [`SERVED`] but `threshold`, which is `confidence` here; without `lossTarget` the configured
//! one holds, or the package's. What is wished for a model goes before the configuration, and that before the package.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Map, Value};
use splitplace_fleet::NodeId;
use splitplace_plan::{ArmKind, ModelName};
use splitplace_policy::exit::task::SERVED;

/// The exit policy of fixed thresholds, as configuration and packages call it.
pub(crate) const THRESHOLDS: &str = "threshold";

/// The load parameter that carries wishes.
pub const PARAMETER: &str = "splitplace_wishes";

/// Longest text of wishes, in bytes.
const TEXT_MAX: usize = 64 << 10;

/// What is asked for; by default nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// Promised to a client that says nothing; `None` leaves it to the package.
    pub sla: Option<Duration>,
    /// Least validated accuracy of an arm, from 0 to 1.
    pub min_accuracy: Option<f64>,
    /// Kinds of arms that may have a place; `None` for all.
    pub arms: Option<BTreeSet<ArmKind>>,
    /// What decides at exits, one of [`SERVED`]; `None` leaves it to the configuration and the package.
    pub exit_policy: Option<String>,
    /// Share of the requests that such a controller may turn away, above 0 and below 1.
    pub loss_target: Option<f64>,
    /// Confidence below which no exit answers, from 0 to 1.
    pub min_confidence: Option<f32>,
    /// The only nodes that may have fragments; `None` for all.
    pub nodes: Option<BTreeSet<NodeId>>,
    /// Nodes of fragments by their number in a chain, or of branches by theirs.
    pub pins: BTreeMap<usize, NodeId>,
    /// No two branches on one node.
    pub apart: bool,
    /// Given memory before lower ones.
    pub priority: i32,
    text: String,
}

/// Why wishes are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishesError {
    /// They cannot be read.
    #[error("{PARAMETER}: {0}")]
    Malformed(String),
    /// They can be read, and some cannot be carried out. Nothing was changed.
    #[error("{PARAMETER}: cannot carry out {}", .0.iter().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>().join("; "))]
    Impossible(BTreeMap<String, String>),
}

impl Wishes {
    /// Reads wishes from JSON; of an empty text there are none.
    ///
    /// # Errors
    /// [`WishesError`].
    pub fn parse(text: &str) -> Result<Self, WishesError> {
        let malformed = WishesError::Malformed;
        if text.is_empty() {
            return Ok(Self::default());
        }
        if TEXT_MAX < text.len() {
            let why = format!("{} bytes, and {TEXT_MAX} are read", text.len());
            return Err(malformed(why));
        }
        let asked: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        let mut wishes = Self::default();
        let mut impossible = BTreeMap::new();
        for (name, value) in asked {
            match wishes.take(&name, value) {
                Ok(()) => {}
                Err(Refusal::Malformed(why)) => return Err(malformed(format!("{name}: {why}"))),
                Err(Refusal::Impossible(why)) => {
                    impossible.insert(name, why);
                }
            }
        }
        if !impossible.is_empty() {
            return Err(WishesError::Impossible(impossible));
        }
        // An empty object asks for nothing.
        if wishes != Self::default() {
            text.clone_into(&mut wishes.text);
        }
        Ok(wishes)
    }

    /// The JSON that they were read from; empty when nothing is asked for.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether an arm of that kind may have a place.
    #[must_use]
    pub fn allow(&self, kind: ArmKind) -> bool {
        self.arms.as_ref().is_none_or(|arms| arms.contains(&kind))
    }

    fn take(&mut self, name: &str, value: Value) -> Result<(), Refusal> {
        match name {
            "sla" => {
                let sla: Sla = read(value)?;
                let is_sane = 0.0 < sla.milliseconds && sla.milliseconds <= 86_400_000.0;
                if !is_sane {
                    return Err(Refusal::Malformed("more than 0 ms, at most a day".into()));
                }
                self.sla = Some(Duration::from_secs_f64(sla.milliseconds / 1e3));
            }
            "minAccuracy" => self.min_accuracy = Some(share(value)?),
            "variants" => {
                let names: Vec<String> = read(value)?;
                let mut arms = self.arms.take().unwrap_or(BTreeSet::from(ArmKind::ALL));
                let kinds = names.iter().map(|name| {
                    ArmKind::from_label(name)
                        .ok_or_else(|| Refusal::Impossible(format!("there is no kind '{name}'")))
                });
                let kinds: BTreeSet<ArmKind> = kinds.collect::<Result<_, _>>()?;
                arms.retain(|kind| kinds.contains(kind));
                self.arms = Some(arms);
            }
            "exits" => self.exits(&read(value)?)?,
            "placement.nodes" => {
                let names: Vec<String> = read(value)?;
                self.nodes = Some(names.iter().map(|name| NodeId::new(name)).collect());
            }
            "placement.pin" => {
                let pins: BTreeMap<usize, String> = read(value)?;
                let pins = pins.iter();
                self.pins = pins
                    .map(|(number, node)| (*number, NodeId::new(node)))
                    .collect();
            }
            "placement.spread" => self.apart = read(value)?,
            "priority" => self.priority = read(value)?,
            _ => return Err(Refusal::Impossible("not known here".into())),
        }
        Ok(())
    }

    fn exits(&mut self, exits: &Exits) -> Result<(), Refusal> {
        let malformed = |why: &str| Err(Refusal::Malformed(why.into()));
        let policy = exits.policy.as_str();
        let is_controller = policy != THRESHOLDS && SERVED.contains(&policy);
        if exits.loss_target.is_some() && ["never", "confidence"].contains(&policy) {
            return malformed("lossTarget is for controllers; without one nothing is turned away");
        }
        if exits.min_confidence.is_some() && policy != "confidence" {
            return malformed("minConfidence is for the policy confidence");
        }
        match (policy, exits.min_confidence, exits.loss_target) {
            ("never", ..) => {
                let arms = self
                    .arms
                    .get_or_insert_with(|| BTreeSet::from(ArmKind::ALL));
                arms.remove(&ArmKind::Exits);
            }
            ("confidence", Some(least), _) if (0.0..=1.0).contains(&least) => {
                self.min_confidence = Some(least);
                self.exit_policy = Some(THRESHOLDS.into());
            }
            ("confidence", ..) => {
                return malformed("the policy confidence needs minConfidence, from 0 to 1");
            }
            (_, _, Some(target)) if !(0.0 < target && target < 1.0) => {
                return malformed("lossTarget is a share of requests, above 0 and below 1");
            }
            (controller, _, target) if is_controller => {
                self.exit_policy = Some(controller.into());
                self.loss_target = target;
            }
            (other, ..) => {
                let all: Vec<&str> = SERVED.into_iter().filter(|p| *p != THRESHOLDS).collect();
                return Err(Refusal::Impossible(format!(
                    "there is no policy '{other}'; known are never, confidence, {}",
                    all.join(", ")
                )));
            }
        }
        Ok(())
    }
}

enum Refusal {
    Malformed(String),
    Impossible(String),
}

#[derive(Deserialize)]
struct Sla {
    milliseconds: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exits {
    policy: String,
    min_confidence: Option<f32>,
    loss_target: Option<f64>,
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|error| Refusal::Malformed(error.to_string()))
}

fn share(value: Value) -> Result<f64, Refusal> {
    let share: f64 = read(value)?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(Refusal::Malformed("a number from 0 to 1".into()))
    }
}

/// What the catalogue found out about the wishes that it keeps.
#[must_use]
pub(crate) fn stored(model: &ModelName, text: &str) -> Wishes {
    Wishes::parse(text).unwrap_or_else(|error| {
        // Written by a later version; serving without is better than not serving.
        tracing::error!(code = "SP307", %model, %error, "the wishes in the store are not carried out");
        Wishes::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn impossible(text: &str) -> Vec<String> {
        match Wishes::parse(text) {
            Err(WishesError::Impossible(names)) => names.into_keys().collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everything_that_can_be_asked_for_is_read() {
        let text = r#"{"sla":{"milliseconds":50,"share":0.9},"minAccuracy":0.9,
            "variants":["whole","chain","exits"],"exits":{"policy":"confidence","minConfidence":0.8},
            "placement.nodes":["attic","cellar"],"placement.pin":{"1":"cellar"},
            "placement.spread":true,"priority":-3}"#;
        let wishes = Wishes::parse(text).unwrap();
        assert_eq!(wishes.sla, Some(Duration::from_millis(50)));
        assert_eq!(wishes.min_accuracy, Some(0.9));
        assert!(wishes.allow(ArmKind::Exits) && !wishes.allow(ArmKind::Semantic));
        assert_eq!(wishes.min_confidence, Some(0.8));
        assert_eq!(wishes.exit_policy.as_deref(), Some("threshold"));
        assert_eq!(wishes.nodes.as_ref().map(BTreeSet::len), Some(2));
        assert_eq!(wishes.pins, BTreeMap::from([(1, "cellar".into())]));
        assert!(wishes.apart);
        assert_eq!(wishes.priority, -3);
        assert_eq!(wishes.text(), text);
    }

    #[test]
    fn nothing_asked_is_nothing_kept() {
        for text in ["", "{}", r#"{"priority":0}"#] {
            assert_eq!(Wishes::parse(text).unwrap(), Wishes::default());
        }
    }

    #[test]
    fn no_exits_and_some_variants_together() {
        for text in [
            r#"{"exits":{"policy":"never"},"variants":["exits","whole"]}"#,
            r#"{"variants":["exits","whole"],"exits":{"policy":"never"}}"#,
        ] {
            let arms = Wishes::parse(text).unwrap().arms;
            assert_eq!(arms, Some(BTreeSet::from([ArmKind::Whole])));
        }
    }

    #[test]
    fn a_controller_is_taken_with_its_loss() {
        let text = r#"{"exits":{"policy":"joint","lossTarget":0.02}}"#;
        let wishes = Wishes::parse(text).unwrap();
        assert_eq!(wishes.exit_policy.as_deref(), Some("joint"));
        assert_eq!(wishes.loss_target, Some(0.02));
        for policy in SERVED.into_iter().filter(|policy| *policy != THRESHOLDS) {
            let wishes = Wishes::parse(&format!(r#"{{"exits":{{"policy":"{policy}"}}}}"#)).unwrap();
            assert_eq!(wishes.exit_policy.as_deref(), Some(policy));
            assert_eq!(wishes.loss_target, None);
        }
    }

    #[test]
    fn what_cannot_be_carried_out_is_named_and_the_rest_is_not() {
        let text = r#"{"priority":1,"exits":{"policy":"hasty"},"energy":3}"#;
        assert_eq!(impossible(text), ["energy", "exits"]);
        // One word for one thing: thresholds are `confidence` here.
        let thresholds = r#"{"exits":{"policy":"threshold"}}"#;
        assert_eq!(impossible(thresholds), ["exits"]);
        assert_eq!(impossible(r#"{"variants":["rounded"]}"#), ["variants"]);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let long = format!(r#"{{"variants":["{}"]}}"#, "a".repeat(TEXT_MAX));
        for text in [
            "[]",
            "x",
            r#"{"sla":{"milliseconds":0}}"#,
            r#"{"minAccuracy":1.5}"#,
            r#"{"exits":{"policy":"confidence"}}"#,
            r#"{"exits":{"policy":"confidence","minConfidence":0.5,"lossTarget":0.1}}"#,
            r#"{"exits":{"policy":"never","lossTarget":0.1}}"#,
            r#"{"exits":{"policy":"joint","minConfidence":0.5}}"#,
            r#"{"exits":{"policy":"joint","lossTarget":0}}"#,
            r#"{"exits":{"policy":"joint","lossTarget":1}}"#,
            r#"{"placement.pin":{"first":"a"}}"#,
            &long,
        ] {
            let refused = Wishes::parse(text);
            assert!(matches!(refused, Err(WishesError::Malformed(_))), "{text}");
        }
    }
}
