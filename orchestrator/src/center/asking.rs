//! The centre as the API servers see it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use splitplace_brain::{Arrival, Refusal};
use splitplace_lifecycle::{Event, RequestId};
use splitplace_link::Tensor;
use splitplace_plan::{ArmPlan, ModelName};
use splitplace_proto::{center, data::DType};
use tokio::sync::{oneshot, watch};

use super::{
    Center, Inner, check, control::Command, demand::Sent, flow::Waiting, look, plans, profiled,
    served::Served,
};
use crate::{
    face::{Answer, Ask, AskError, Face, LoadError, ModelFacts, ModelState, ModelTallies},
    watched::Watched as _,
    wishes::{self, Wishes},
};

/// Gives a request up when whoever asked goes away.
struct Asked<'a> {
    center: &'a Inner,
    request: RequestId,
    is_over: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.center.step(Event::Cancelled {
                request: self.request,
            });
        }
    }
}

impl Inner {
    fn served(&self, model: &str, version: &str) -> Result<Arc<Served>, AskError> {
        let Some(served) = self.models.read().get(model).cloned() else {
            let name = ModelName::new(model);
            let reason = self.problems.read().get(&name).cloned();
            return Err(match reason {
                Some(reason) => AskError::NotReady {
                    model: model.to_owned(),
                    reason,
                },
                None => AskError::UnknownModel {
                    model: model.to_owned(),
                },
            });
        };
        if !version.is_empty() && version != served.loaded.version() {
            return Err(AskError::UnknownVersion {
                model: model.to_owned(),
                version: version.to_owned(),
            });
        }
        Ok(served)
    }

    /// Lets a request in and sends it on its way.
    fn admit(
        &self,
        ask: Ask,
    ) -> Result<(RequestId, oneshot::Receiver<Result<Answer, AskError>>), AskError> {
        if self.is_draining.load(Ordering::Relaxed) {
            return Err(AskError::Draining);
        }
        let served = self.served(&ask.model, &ask.version)?;
        let samples = check::check(
            &ask.model,
            &served.inputs,
            &served.outputs,
            &ask.inputs,
            &ask.outputs,
            served.pictures(),
        )?;
        let sla = ask.sla.unwrap_or_else(|| served.default_sla());
        let patience = ask.patience.unwrap_or_else(|| {
            sla.saturating_add(Duration::from_millis(self.config.admission.patience_ms))
        });
        let came = self.clock.now();
        #[expect(clippy::cast_precision_loss, reason = "bytes of a request")]
        let sent = Sent {
            samples,
            bytes: ask.inputs.iter().map(Tensor::len_bytes).sum::<usize>() as f64,
            is_pictures: ask
                .inputs
                .iter()
                .any(|input| input.dtype == DType::Bytes && served.pictures() == Some(&input.name)),
        };
        served.demand.lock().arrived(came, sent, sla, patience);
        let request = self
            .ids
            .next()
            .map_err(|error| AskError::Failed(error.to_string()))?;
        let (reply, answer) = oneshot::channel();
        let arrival = Arrival {
            model: served.name.clone(),
            samples,
            sla,
            patience,
            min_accuracy: ask.min_accuracy,
        };
        let waiting = Waiting::new(
            reply,
            Arc::clone(&served),
            ask.inputs,
            ask.outputs,
            samples,
            (ask.caller, ask.via),
            ask.min_accuracy,
        );
        let actions = {
            let mut flow = self.flow.lock();
            flow.wait(request, waiting);
            let now = self.clock.now();
            let admitted = flow.brain.arrive(now, request, arrival);
            match admitted {
                Ok(orders) => flow.prepare(orders),
                Err(refusal) => {
                    served.demand.lock().ended(now, None);
                    flow.forget(request);
                    let in_flight = flow.brain.in_flight() as u64;
                    return Err(match refusal {
                        Refusal::NotReady => AskError::NotReady {
                            model: ask.model,
                            reason: served.reason.lock().clone(),
                        },
                        Refusal::Hopeless { fastest } => AskError::Hopeless {
                            model: ask.model,
                            left: patience,
                            fastest,
                        },
                        Refusal::Overloaded => AskError::Overloaded { in_flight },
                        Refusal::Inaccurate { best } => AskError::Inaccurate {
                            model: ask.model,
                            wanted: ask.min_accuracy,
                            best,
                        },
                    });
                }
            }
        };
        self.act(actions);
        Ok((request, answer))
    }

    async fn command(
        &self,
        model: &str,
        command: impl FnOnce(ModelName, oneshot::Sender<Result<(), LoadError>>) -> Command,
    ) -> Result<(), LoadError> {
        let refused = |reason: &str| LoadError::Refused {
            model: model.to_owned(),
            reason: reason.to_owned(),
        };
        let (told, answer) = oneshot::channel();
        let command = command(ModelName::new(model), told);
        if self.commands.send(command).await.is_err() {
            return Err(refused("the server is shutting down"));
        }
        answer
            .await
            .unwrap_or_else(|_| Err(refused("the server is shutting down")))
    }
}

impl Face for Center {
    async fn ask(&self, ask: Ask) -> Result<Answer, AskError> {
        let (model, caller, via) = (ask.model.clone(), ask.caller, ask.via);
        let admitted = self.inner.admit(ask);
        let (request, answer) = admitted.inspect_err(|error| {
            self.inner.note_refused(&model, error, (caller, via));
        })?;
        let mut asked = Asked {
            center: &self.inner,
            request,
            is_over: false,
        };
        let answer = answer.await;
        asked.is_over = true;
        answer.unwrap_or_else(|_| Err(AskError::Failed("the request was dropped".into())))
    }

    fn model(&self, name: &str, version: &str) -> Result<ModelFacts, AskError> {
        let served = match self.inner.served(name, version) {
            Ok(served) => served,
            Err(AskError::NotReady { .. }) => {
                let known = self.models().into_iter().find(|facts| facts.name == name);
                return known.ok_or_else(|| AskError::UnknownModel {
                    model: name.to_owned(),
                });
            }
            Err(error) => return Err(error),
        };
        let can_answer = self.inner.flow.lock().brain.can_answer(&served.name);
        Ok(served.facts(can_answer))
    }

    fn models(&self) -> Vec<ModelFacts> {
        let listings = self.inner.catalog.list().unwrap_or_else(|error| {
            tracing::warn!(code = "SP408", %error, "the repository cannot be listed");
            Vec::new()
        });
        let mut all: Vec<ModelFacts> = Vec::new();
        let served: Vec<Arc<Served>> = self.inner.models.read().values().cloned().collect();
        for served in &served {
            let can_answer = self.inner.flow.lock().brain.can_answer(&served.name);
            all.push(served.facts(can_answer));
        }
        let problems = self.inner.problems.read().clone();
        for listing in listings {
            if served.iter().any(|served| served.name == listing.name) {
                continue;
            }
            let reason = problems
                .get(&listing.name)
                .cloned()
                .or(listing.problem)
                .unwrap_or_else(|| "not loaded".into());
            all.push(ModelFacts {
                name: listing.name.to_string(),
                version: listing.version.unwrap_or_default(),
                state: ModelState::Unavailable,
                reason,
                inputs: Vec::new(),
                outputs: Vec::new(),
                default_sla: Duration::ZERO,
                properties: Default::default(),
                tallies: ModelTallies::default(),
            });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn is_ready(&self) -> bool {
        let inner = &self.inner;
        if inner.is_draining.load(Ordering::Relaxed) || !inner.is_settled.load(Ordering::Relaxed) {
            return false;
        }
        let names: Vec<ModelName> = inner.models.read().keys().cloned().collect();
        let flow = inner.flow.lock();
        inner.problems.read().is_empty() && names.iter().all(|name| flow.brain.can_answer(name))
    }

    async fn load(&self, model: &str, wishes: Option<Wishes>) -> Result<(), LoadError> {
        let load = |model, told| Command::Load {
            model,
            wishes,
            told,
        };
        self.inner.command(model, load).await
    }

    async fn unload(&self, model: &str) -> Result<(), LoadError> {
        self.inner
            .command(model, |model, told| Command::Unload { model, told })
            .await
    }

    async fn feedback(&self, told: center::FeedbackRequest) -> center::FeedbackResponse {
        let (correct, model) = {
            let mut flow = self.inner.flow.lock();
            let request = RequestId(told.request);
            let model = flow.brain.remembered(request).cloned();
            (flow.brain.feedback(request, &told.labels), model)
        };
        let Some(correct) = correct else {
            return center::FeedbackResponse {
                used: false,
                correct: 0,
            };
        };
        if let Some(model) = model {
            let mut book = self.inner.watching.book.lock();
            book.model(&model).feedback(correct, told.labels.len());
        }
        let (saved, is_saved) = oneshot::channel();
        self.inner.feedback.waiting.lock().push(saved);
        self.inner.feedback.asked.notify_one();
        // Not saved: the answer must not claim it.
        let used = is_saved.await.is_ok();
        center::FeedbackResponse { used, correct }
    }

    fn status(&self) -> center::StatusResponse {
        let inner = &self.inner;
        let fleet = inner.fleet.read().clone();
        let facts = self.models();
        let served = inner.models.read().clone();
        let flow = inner.flow.lock();
        let models = facts
            .into_iter()
            .map(|facts| {
                let model = ModelName::new(&facts.name);
                let forecasts = flow.brain.forecasts(&model);
                let is_unplaced = |served: &Arc<Served>| served.is_unplaced.load(Ordering::Relaxed);
                center::ModelStatus {
                    unplaced: served.get(&facts.name[..]).is_some_and(is_unplaced),
                    arms: forecasts
                        .iter()
                        .map(|(arm, forecast)| center::ArmStatus {
                            exit_control: inner.steering.status(&facts.name, &arm.name),
                            ..arm_status(served.get(&facts.name[..]), arm, *forecast)
                        })
                        .collect(),
                    model: facts.name,
                    version: facts.version,
                    state: facts.state.label().to_owned(),
                    reason: facts.reason,
                    default_sla_us: micros(facts.default_sla),
                    pinned: flow.brain.pinned(&model).unwrap_or_default().to_owned(),
                    traffic: None,
                    answered: facts.tallies.success.count,
                    held: facts.tallies.held,
                    lost: facts.tallies.fail.count,
                    wishes: facts
                        .properties
                        .get(wishes::PARAMETER)
                        .cloned()
                        .unwrap_or_default(),
                }
            })
            .collect();
        let mut status = center::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: flow.brain.generation().0,
            policy: flow.brain.policy().name().to_owned(),
            nodes: fleet.nodes,
            models,
            in_flight: flow.brain.in_flight() as u64,
            explanation: fleet.explanation,
            draining: inner.is_draining.load(Ordering::Relaxed),
            policy_state: flow.brain.policy().state().into_iter().collect(),
            ..center::StatusResponse::default()
        };
        drop(flow);
        inner.tell_seen(&mut status);
        status
    }

    async fn snapshot(&self) -> Option<center::SnapshotResponse> {
        look::look(&self.inner).await
    }

    async fn plan(&self, explain: bool) -> Result<center::PlanResponse, String> {
        plans::plan(&self.inner, explain).await
    }

    fn profiles(&self) -> Result<center::ProfilesResponse, String> {
        Ok(profiled::profiles(&self.inner))
    }

    fn plan_diff(
        &self,
        asked: center::PlanDiffRequest,
    ) -> Result<center::PlanDiffResponse, String> {
        plans::plan_diff(&self.inner, &asked)
    }

    async fn act(&self, what: center::ActRequest) -> Result<String, String> {
        self.operate(plans::operation(what)?).await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }
}

fn arm_status(
    served: Option<&Arc<Served>>,
    arm: &ArmPlan,
    forecast: Option<Duration>,
) -> center::ArmStatus {
    let route = |route: &splitplace_plan::Route| center::RouteStatus {
        hops: route
            .hops
            .iter()
            .map(|hop| center::HopStatus {
                node: hop.node.to_string(),
                fragment: hop.fragment.hex(),
                service_us: micros(hop.service),
                memory_bytes: hop.memory_bytes,
                codec: hop.codec.to_string(),
                reach: hop.reach,
                exits: hop
                    .exits
                    .iter()
                    .map(|exit| center::ExitStatus {
                        exit: exit.name.clone(),
                        threshold: f64::from(exit.threshold),
                    })
                    .collect(),
            })
            .collect(),
    };
    center::ArmStatus {
        arm: arm.name.clone(),
        kind: arm.kind.label().to_owned(),
        accuracy: arm.accuracy.unwrap_or(0.0),
        predicted_us: micros(forecast.unwrap_or(arm.predicted)),
        available: forecast.is_some(),
        branches: arm.branches.iter().map(route).collect(),
        variant: arm.variant.clone(),
        technique: served
            .map_or("", |served| served.technique(&arm.variant))
            .to_owned(),
        exits: served
            .map(|served| served.exits(&arm.name))
            .unwrap_or_default()
            .into_iter()
            .collect(),
        exit_control: None,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
