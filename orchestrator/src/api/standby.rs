//! A standby's face: it plans nothing and answers no inference, but says what the leader said last.
//!
//! Whoever watches the leader tells it what it saw ([`Standby::tell`]). Reads (status, models, their
//! metadata) are answered from that, and say how old it is; everything else is refused in a way that
//! clients retry elsewhere.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use splitplace_proto::{
    center::{self, ModelStatus, StatusResponse},
    inference::{ModelMetadataResponse, model_metadata_response::TensorMetadata},
};
use tokio::sync::watch;

use super::tensors::Datatype;
use crate::{
    face::{
        Answer, Ask, AskError, Face, LoadError, ModelFacts, ModelState, ModelTallies, TensorFacts,
    },
    wishes::Wishes,
};

/// What the leader said, and when that was.
#[derive(Debug, Default)]
struct Known {
    status: StatusResponse,
    models: BTreeMap<String, ModelFacts>,
    told: Option<Instant>,
}

/// Answers reads in the leader's place.
#[derive(Debug)]
pub struct Standby {
    leader: String,
    known: RwLock<Known>,
    changes: watch::Sender<u64>,
}

impl Standby {
    /// Nothing is known yet. `leader` says where the leader is reached, for whoever asks too much.
    #[must_use]
    pub fn new(leader: &str) -> Self {
        Self {
            leader: leader.to_owned(),
            known: RwLock::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Takes over what the leader says now: its state, and its models' metadata.
    pub fn tell(&self, status: StatusResponse, metadata: Vec<ModelMetadataResponse>) {
        let mut metadata: BTreeMap<String, ModelMetadataResponse> = metadata
            .into_iter()
            .map(|one| (one.name.clone(), one))
            .collect();
        let models = status.models.iter().map(|model| {
            let metadata = metadata.remove(&model.model).unwrap_or_default();
            (model.model.clone(), facts(model, metadata))
        });
        let known = Known {
            models: models.collect(),
            told: Some(Instant::now()),
            status,
        };
        *self.known.write() = known;
        self.changes.send_modify(|version| *version += 1);
    }

    fn refusal(&self) -> String {
        format!(
            "this is a standby, which answers reads only; ask the leader at {}",
            self.leader
        )
    }

    fn refuse_load(&self, model: &str) -> LoadError {
        LoadError::Refused {
            model: model.to_owned(),
            reason: self.refusal(),
        }
    }
}

fn facts(model: &ModelStatus, metadata: ModelMetadataResponse) -> ModelFacts {
    let tensor = |tensor: TensorMetadata| {
        let Some(Datatype::Plain(dtype)) = Datatype::parse(&tensor.datatype) else {
            return None;
        };
        Some(TensorFacts {
            name: tensor.name,
            dtype,
            shape: tensor.shape,
            labels: Vec::new(),
        })
    };
    ModelFacts {
        name: model.model.clone(),
        version: model.version.clone(),
        state: match model.state.as_str() {
            "READY" => ModelState::Ready,
            "LOADING" => ModelState::Loading,
            "UNLOADING" => ModelState::Unloading,
            _ => ModelState::Unavailable,
        },
        reason: model.reason.clone(),
        inputs: metadata.inputs.into_iter().filter_map(tensor).collect(),
        outputs: metadata.outputs.into_iter().filter_map(tensor).collect(),
        default_sla: Duration::from_micros(model.default_sla_us),
        properties: metadata.properties.into_iter().collect(),
        tallies: ModelTallies::default(),
    }
}

impl Face for Standby {
    async fn ask(&self, ask: Ask) -> Result<Answer, AskError> {
        Err(AskError::NotReady {
            model: ask.model,
            reason: self.refusal(),
        })
    }

    fn model(&self, name: &str, version: &str) -> Result<ModelFacts, AskError> {
        let found = self.known.read().models.get(name).cloned();
        let found = found.ok_or_else(|| AskError::UnknownModel {
            model: name.to_owned(),
        })?;
        if version.is_empty() || version == found.version {
            Ok(found)
        } else {
            Err(AskError::UnknownVersion {
                model: name.to_owned(),
                version: version.to_owned(),
            })
        }
    }

    fn models(&self) -> Vec<ModelFacts> {
        self.known.read().models.values().cloned().collect()
    }

    fn is_ready(&self) -> bool {
        false
    }

    async fn load(&self, model: &str, _: Option<Wishes>) -> Result<(), LoadError> {
        Err(self.refuse_load(model))
    }

    async fn unload(&self, model: &str) -> Result<(), LoadError> {
        Err(self.refuse_load(model))
    }

    async fn feedback(&self, _: center::FeedbackRequest) -> center::FeedbackResponse {
        center::FeedbackResponse {
            used: false,
            correct: 0,
        }
    }

    fn status(&self) -> StatusResponse {
        let known = self.known.read();
        let age = known.told.map(|told| told.elapsed());
        StatusResponse {
            standby: true,
            // Nothing was ever heard: as old as can be.
            age_ms: age.map_or(u64::MAX, |age| {
                u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
            }),
            ..known.status.clone()
        }
    }

    async fn snapshot(&self) -> Option<center::SnapshotResponse> {
        // It has no store open and no workers: nothing to plan from.
        None
    }

    async fn plan(&self, _: bool) -> Result<center::PlanResponse, String> {
        Err(self.refusal())
    }

    fn profiles(&self) -> Result<center::ProfilesResponse, String> {
        Err(self.refusal())
    }

    fn plan_diff(&self, _: center::PlanDiffRequest) -> Result<center::PlanDiffResponse, String> {
        Err(self.refusal())
    }

    async fn act(&self, _: center::ActRequest) -> Result<String, String> {
        Err(self.refusal())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_are_answered_and_nothing_else() {
        let standby = Standby::new("center:8001");
        assert_eq!(standby.status().age_ms, u64::MAX);
        let status = StatusResponse {
            generation: 7,
            models: vec![ModelStatus {
                model: "net".into(),
                version: "1".into(),
                state: "READY".into(),
                default_sla_us: 20_000,
                ..ModelStatus::default()
            }],
            ..StatusResponse::default()
        };
        let metadata = ModelMetadataResponse {
            name: "net".into(),
            inputs: vec![TensorMetadata {
                name: "image".into(),
                datatype: "FP32".into(),
                shape: vec![-1, 4],
            }],
            ..ModelMetadataResponse::default()
        };
        let mut changes = standby.changes();
        standby.tell(status, vec![metadata]);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        let told = standby.status();
        assert!(told.standby && told.generation == 7 && told.age_ms < 60_000);
        let net = standby.model("net", "").unwrap();
        assert_eq!(net.state, ModelState::Ready);
        assert_eq!(net.inputs[0].shape, [-1, 4]);
        assert!(matches!(
            standby.model("net", "2"),
            Err(AskError::UnknownVersion { .. })
        ));
        assert!(!standby.is_ready());
        let refused = standby.load("net", None).await.unwrap_err().to_string();
        assert!(refused.contains("center:8001"), "{refused}");
    }
}
