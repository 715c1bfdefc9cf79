//! An orchestrator over its public API, as the operator sees one.

use std::{collections::BTreeSet, time::Duration};

use splitplace_k8s::center::{
    Center, CenterError, Order, Phase, Seen, SeenArm, SeenHop, SeenModel, SeenNode, Wishes,
};
use splitplace_proto::{
    center::{
        ActRequest, DrainNode, PlanRequest, StatusRequest, StatusResponse, WatchPlanRequest,
        act_request::What,
    },
    inference::{
        ModelRepositoryParameter, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
        model_repository_parameter::ParameterChoice,
    },
};
use tokio::sync::Mutex;
use tonic::{Code, Status};

use crate::client::{Client, Server};

/// Parameter of a load that carries the operator's wishes, as JSON.
const WISHES: &str = "splitplace_wishes";
/// For an answer that is not a load.
const ANSWER: Duration = Duration::from_secs(10);
/// For a load: fragments are fetched and measured meanwhile.
const LOAD: Duration = Duration::from_secs(180);
/// Changes that the plan does not show are looked for this often.
const LOOK: Duration = Duration::from_secs(2);

/// An orchestrator somewhere.
pub(crate) struct Remote {
    server: Server,
    client: Mutex<Option<Client>>,
}

impl Remote {
    pub(crate) fn new(server: Server) -> Self {
        Self {
            server,
            client: Mutex::new(None),
        }
    }

    async fn client(&self) -> Result<Client, CenterError> {
        let mut slot = self.client.lock().await;
        if let Some(client) = &*slot {
            return Ok(client.clone());
        }
        let client = Client::connect(&self.server)
            .await
            .map_err(|error| CenterError::Unreachable(format!("{error:#}")))?;
        *slot = Some(client.clone());
        Ok(client)
    }

    /// The connection is made anew next time: the name may lead elsewhere by then.
    async fn failed(&self, status: &Status) -> CenterError {
        if matches!(
            status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
        ) {
            *self.client.lock().await = None;
            return CenterError::Unreachable(status.message().to_owned());
        }
        let why = status.message().to_owned();
        match status.code() {
            Code::NotFound => CenterError::Missing(why),
            _ => CenterError::Refused(why),
        }
    }
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {limit:?}"
        ))),
    }
}

impl Center for Remote {
    async fn look(&self) -> Result<Seen, CenterError> {
        let client = self.client().await?;
        let status = match within(ANSWER, client.center().status(StatusRequest {})).await {
            Ok(status) => status,
            Err(status) => return Err(self.failed(&status).await),
        };
        Ok(seen(status))
    }

    async fn load(&self, order: &Order) -> Result<Vec<String>, CenterError> {
        let mut wishes = Some(order.wishes());
        let mut left_out = Vec::new();
        let client = self.client().await?;
        loop {
            let mut request = RepositoryModelLoadRequest {
                model_name: order.model.clone(),
                ..RepositoryModelLoadRequest::default()
            };
            // None at all must be said too: others may have been in force before.
            if let Some(wishes) = &wishes {
                let text = serde_json::to_string(wishes).unwrap_or_default();
                let value = ModelRepositoryParameter {
                    parameter_choice: Some(ParameterChoice::StringParam(text)),
                };
                request.parameters.insert(WISHES.into(), value);
            }
            let asked = within(LOAD, client.inference().repository_model_load(request)).await;
            let status = match asked {
                Ok(_) => return Ok(left_out),
                Err(status) => status,
            };
            // Then without what it cannot carry out, and the truth about it.
            let Some(asked) = wishes
                .take()
                .filter(|_| status.code() == Code::Unimplemented)
            else {
                return Err(self.failed(&status).await);
            };
            let impossible = impossible(&status);
            let (refused, rest): (Wishes, Wishes) = asked
                .into_iter()
                .partition(|(name, _)| impossible.as_ref().is_none_or(|all| all.contains(name)));
            // One that does not know the parameter names nothing: it gets none of them.
            wishes = impossible.is_some().then_some(rest);
            if refused.is_empty() && wishes.is_some() {
                return Err(self.failed(&status).await);
            }
            left_out.extend(refused.into_keys());
        }
    }

    async fn unload(&self, model: &str) -> Result<(), CenterError> {
        let request = RepositoryModelUnloadRequest {
            model_name: model.to_owned(),
            ..RepositoryModelUnloadRequest::default()
        };
        let client = self.client().await?;
        match within(LOAD, client.inference().repository_model_unload(request)).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(self.failed(&status).await),
        }
    }

    async fn drain(&self, node: &str, is_drained: bool) -> Result<(), CenterError> {
        let name = node.to_owned();
        let node = DrainNode { node: name.clone() };
        let what = if is_drained {
            What::Drain(node)
        } else {
            What::Undrain(node)
        };
        let request = ActRequest { what: Some(what) };
        let client = self.client().await?;
        let asked = async {
            let plan = PlanRequest { explain: false };
            let plan = within(ANSWER, client.center().plan(plan)).await?;
            if plan.drained.contains(&name) != is_drained {
                within(ANSWER, client.center().act(request)).await?;
            }
            Ok(())
        };
        match asked.await {
            Ok(()) => Ok(()),
            Err(status) => Err(self.failed(&status).await),
        }
    }

    async fn changed(&self, above: u64) {
        let watch = async {
            let client = self.client().await.ok()?;
            let asked = WatchPlanRequest {
                above_generation: above,
            };
            let mut plans = client.center().watch_plan(asked).await.ok()?.into_inner();
            plans.message().await.ok().flatten()
        };
        let begin = tokio::time::Instant::now();
        let is_told = tokio::time::timeout(LOOK, watch)
            .await
            .is_ok_and(|told| told.is_some());
        if !is_told {
            // A stream that ended at once must not make us spin.
            tokio::time::sleep_until(begin + LOOK).await;
        }
    }
}

/// Names of wishes that cannot be carried out, in the metadata of a refusal, by comma.
fn impossible(status: &Status) -> Option<BTreeSet<String>> {
    let names = status.metadata().get("splitplace-impossible")?;
    let names = names.to_str().ok()?.split(',');
    Some(names.map(str::to_owned).collect())
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(part: u64, all: u64) -> Option<f64> {
    (0 < all).then(|| part as f64 / all as f64)
}

fn seen(status: StatusResponse) -> Seen {
    let node = |node: splitplace_proto::center::NodeStatus| SeenNode {
        name: node.node,
        state: node.state,
        cores: node.cores,
        memory_bytes: node.memory_bytes,
        memory_used_bytes: node.memory_used_bytes,
        macs_per_second: node.macs_per_second,
        address: node.data_address,
        links: node
            .links
            .into_iter()
            .map(|link| (link.peer, link.bytes_per_second, link.delay_us))
            .collect(),
    };
    let hop = |hop: splitplace_proto::center::HopStatus| SeenHop {
        node: hop.node,
        fragment: hop.fragment,
        service_micros: hop.service_us,
        memory_bytes: hop.memory_bytes,
    };
    let arm = move |arm: splitplace_proto::center::ArmStatus| SeenArm {
        name: arm.arm,
        kind: arm.kind,
        accuracy: arm.accuracy,
        predicted_micros: arm.predicted_us,
        available: arm.available,
        hops: arm
            .branches
            .into_iter()
            .flat_map(|route| route.hops)
            .map(hop)
            .collect(),
    };
    let model = move |model: splitplace_proto::center::ModelStatus| SeenModel {
        phase: match model.state.as_str() {
            "READY" => Phase::Ready,
            "LOADING" => Phase::Loading,
            "UNLOADING" => Phase::Unloading,
            _ => Phase::Unavailable,
        },
        name: model.model,
        version: model.version,
        reason: model.reason,
        is_unplaced: model.unplaced,
        default_sla_micros: model.default_sla_us,
        arms: model.arms.into_iter().map(arm).collect(),
        ended: Some((model.answered, model.lost)),
        held: share(model.held, model.answered),
        wishes: Some(serde_json::from_str(&model.wishes).unwrap_or_default()),
    };
    Seen {
        version: status.version,
        generation: status.generation,
        draining: status.draining,
        in_flight: status.in_flight,
        nodes: status.nodes.into_iter().map(node).collect(),
        models: status.models.into_iter().map(model).collect(),
    }
}

#[cfg(test)]
mod tests {
    use splitplace_k8s::{crds, model::Exits};
    use splitplace_policy::exit::task::SERVED;

    use super::*;

    /// The resource's words are the orchestrator's: neither crate knows the other's.
    #[test]
    fn every_exit_policy_of_the_resource_is_taken_and_none_is_missing() {
        let definition = serde_json::to_value(&crds::all()[0].1).unwrap();
        let spec =
            &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let policies = &spec["properties"]["exits"]["properties"]["policy"]["enum"];
        let policies: BTreeSet<&str> = policies
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one.as_str())
            .collect();
        let own = SERVED.into_iter().filter(|policy| *policy != "threshold");
        assert_eq!(policies, own.chain(["never", "confidence"]).collect());
        for policy in policies {
            let mut exits = serde_json::json!({"policy": policy});
            match policy {
                "never" => {}
                "confidence" => exits["minConfidence"] = 0.5.into(),
                _ => exits["lossTarget"] = 0.1.into(),
            }
            let exits: Exits = serde_json::from_value(exits).unwrap();
            let mut order = Order::default();
            order.spec.exits = Some(exits);
            let text = serde_json::to_string(&order.wishes()).unwrap();
            let wishes = splitplace_orchestrator::wishes::Wishes::parse(&text);
            assert!(
                wishes.is_ok_and(|wishes| !wishes.text().is_empty()),
                "{policy}"
            );
        }
    }
}
