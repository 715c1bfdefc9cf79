//! A model that is served, with what requests need to know of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use parking_lot::Mutex;
use splitplace_onnx::package::{self, Preprocess, Technique, VariantKind};
use splitplace_plan::{ArmKind, ModelName};

use super::{demand::Demand, merge::Merge};
use crate::{
    adoption::Interface,
    catalog::Loaded,
    face::{Answer, AskError, LAST_EXIT, ModelFacts, ModelState, ModelTallies, TensorFacts},
    wishes::{self, Wishes},
};

/// A model that is wanted and loaded.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) name: ModelName,
    pub(super) loaded: Arc<Loaded>,
    pub(super) wishes: Wishes,
    pub(super) inputs: Vec<TensorFacts>,
    pub(super) outputs: Vec<TensorFacts>,
    merges: BTreeMap<String, Merge>,
    tallies: Mutex<ModelTallies>,
    /// Samples by arm and exit.
    exits: Mutex<BTreeMap<String, BTreeMap<String, u64>>>,
    /// Why it cannot answer, as of the last plan.
    pub(super) reason: Mutex<String>,
    /// Whether that is because the last plan found no place for any arm.
    pub(super) is_unplaced: AtomicBool,
    /// What comes for it.
    pub(super) demand: Mutex<Demand>,
}

impl Served {
    pub(super) fn new(loaded: Arc<Loaded>, wishes: Wishes) -> Self {
        let outputs = loaded.outputs();
        let merges = loaded
            .variants()
            .iter()
            .map(|variant| {
                let merge = match (variant.kind, variant.merge) {
                    (VariantKind::Semantic, Some(package::Merge::LogOdds { missing_score })) => {
                        let groups: Vec<Vec<u32>> = variant
                            .parts
                            .iter()
                            .map(|part| part.classes.clone())
                            .collect();
                        Merge::LogOdds {
                            classes: groups.iter().map(Vec::len).sum(),
                            groups,
                            missing: missing_score,
                            output: outputs.first().map(|o| o.name.clone()).unwrap_or_default(),
                        }
                    }
                    _ => Merge::Single,
                };
                (variant.name.clone(), merge)
            })
            .collect();
        Self {
            name: loaded.name().clone(),
            inputs: loaded.inputs(),
            outputs,
            merges,
            tallies: Mutex::default(),
            exits: Mutex::default(),
            reason: Mutex::new("it is being placed".into()),
            is_unplaced: AtomicBool::new(false),
            demand: Mutex::default(),
            loaded,
            wishes,
        }
    }

    /// What is promised to a client that says nothing.
    pub(super) fn default_sla(&self) -> Duration {
        self.wishes.sla.unwrap_or_else(|| self.loaded.default_sla())
    }

    /// How a variant's branches become one answer.
    pub(super) fn merge(&self, variant: &str) -> &Merge {
        self.merges.get(variant).unwrap_or(&Merge::Single)
    }

    /// The input that may hold encoded pictures.
    pub(super) fn pictures(&self) -> Option<&str> {
        let preprocess = self.loaded.package().preprocess.as_ref()?;
        Some(&preprocess.input)
    }

    /// What workers have to know of the model's interface.
    pub(super) fn interface(&self) -> Interface {
        let preprocess = self.loaded.package().preprocess.as_ref();
        Interface {
            answer: self
                .outputs
                .first()
                .map(|o| o.name.clone())
                .unwrap_or_default(),
            preprocess: preprocess.map(Preprocess::to_text).unwrap_or_default(),
        }
    }

    /// How a variant was made smaller; empty when it was not.
    pub(super) fn technique(&self, variant: &str) -> &'static str {
        let technique = self
            .loaded
            .variant(variant)
            .and_then(|variant| variant.technique);
        technique.map_or("", Technique::label)
    }

    /// Samples that each exit of an arm has answered.
    pub(super) fn exits(&self, arm: &str) -> BTreeMap<String, u64> {
        self.exits.lock().get(arm).cloned().unwrap_or_default()
    }

    /// Adds one ended request to the model's numbers.
    pub(super) fn count(
        &self,
        outcome: &Result<Answer, AskError>,
        response: Duration,
        samples: u32,
        unix_ms: u64,
    ) {
        let mut tallies = self.tallies.lock();
        tallies.last_inference_unix_ms = unix_ms;
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match outcome {
            Ok(answer) => {
                if answer.kind == ArmKind::Exits {
                    let mut exits = self.exits.lock();
                    let arm = exits.entry(answer.arm.clone()).or_default();
                    let exit = answer.exit.clone().unwrap_or_else(|| LAST_EXIT.into());
                    *arm.entry(exit).or_default() += u64::from(samples);
                }
                tallies.samples += u64::from(samples);
                tallies.success.count += 1;
                tallies.held += u64::from(answer.sla_held);
                tallies.success.nanos += nanos(response);
                for hop in &answer.hops {
                    tallies.queue.nanos += nanos(hop.queue);
                    tallies.compute_input.nanos += nanos(hop.transfer);
                    tallies.compute_infer.nanos += nanos(hop.compute);
                    tallies.compute_output.nanos += nanos(hop.encode);
                }
                tallies.queue.count += 1;
                tallies.compute_input.count += 1;
                tallies.compute_infer.count += 1;
                tallies.compute_output.count += 1;
            }
            Err(_) => {
                tallies.fail.count += 1;
                tallies.fail.nanos += nanos(response);
            }
        }
    }

    fn properties(&self) -> BTreeMap<String, String> {
        let mut properties = self.loaded.properties();
        if !self.wishes.text().is_empty() {
            properties.insert(wishes::PARAMETER.into(), self.wishes.text().into());
        }
        properties
    }

    /// The model as the inference API shows it.
    pub(super) fn facts(&self, can_answer: bool) -> ModelFacts {
        let reason = if can_answer {
            String::new()
        } else {
            self.reason.lock().clone()
        };
        ModelFacts {
            name: self.name.to_string(),
            version: self.loaded.version().to_owned(),
            state: if can_answer {
                ModelState::Ready
            } else {
                ModelState::Loading
            },
            reason,
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            default_sla: self.default_sla(),
            properties: self.properties(),
            tallies: *self.tallies.lock(),
        }
    }
}
