//! The API server, as far as it is spoken to: fields of ours are applied, nobody else's are touched.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::Job,
        core::v1::{Node, ObjectReference, Pod, Secret, Service},
    },
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::json;

use crate::{
    FIELD_MANAGER, FINALIZER, HOLD_LABEL,
    model::{EdgeModel, EdgeModelStatus},
    node::{EdgeNode, EdgeNodeStatus},
    tell::Happened,
};

/// What went wrong with the API server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be found.
    #[error(
        "no cluster can be reached: {0}; inside a pod an account is needed, elsewhere a kubeconfig"
    )]
    Connect(String),
    /// It did not do what it was asked.
    #[error("cannot {what}: {source}{}", remedy(source))]
    Api {
        /// What it was asked.
        what: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// The custom resources are not there, or may not be read.
    #[error(
        "the {0} cannot be watched within {1} s: are the definitions installed (splitplace crds | \
         kubectl apply -f -), and may this account list them?"
    )]
    NotWatched(&'static str, u64),
}

fn remedy(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            "; the account lacks a right: see `splitplace doctor --cluster`"
        }
        kube::Error::Api(status) if status.code == 404 => {
            "; is the object, or its definition, still there?"
        }
        _ => "",
    }
}

/// Says what was being done when the API server said no.
pub(crate) fn doing(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
    let what = what.into();
    move |source| Error::Api {
        what,
        source: Box::new(source),
    }
}

/// Whether the API server said that somebody else was faster, or owns the field.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// One namespace of a cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    recorder: Recorder,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster({})", self.namespace)
    }
}

/// A client for the cluster that this process belongs to, or that the kubeconfig names.
///
/// # Errors
/// [`Error::Connect`].
pub async fn connect() -> Result<Client, Error> {
    Client::try_default()
        .await
        .map_err(|error| Error::Connect(error.to_string()))
}

impl Cluster {
    /// Through a client.
    #[must_use]
    pub fn new(client: Client, namespace: &str, instance: &str) -> Self {
        let reporter = Reporter {
            controller: FIELD_MANAGER.into(),
            instance: Some(instance.to_owned()),
        };
        let recorder = Recorder::new(client.clone(), reporter);
        Self {
            client,
            namespace: namespace.to_owned(),
            recorder,
        }
    }

    /// Objects of one kind in the namespace.
    pub(crate) fn of<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The cluster's nodes.
    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// Puts the finaliser on, or takes it off.
    ///
    /// # Errors
    /// [`Error::Api`]; a model that is gone is none.
    pub async fn set_finalizer(&self, name: &str, is_on: bool) -> Result<(), Error> {
        let finalizers: &[&str] = if is_on { &[FINALIZER] } else { &[] };
        let metadata = json!({"name": name, "finalizers": finalizers});
        let patch = object::<EdgeModel>(&metadata);
        let done = self
            .of::<EdgeModel>()
            .patch(name, &applied(), &Patch::Apply(patch))
            .await;
        gone_is_fine(done).map_err(doing(format!("change the finaliser of EdgeModel {name}")))
    }

    /// Writes a model's status.
    ///
    /// # Errors
    /// [`Error::Api`]; a model that is gone is none.
    pub async fn set_model(&self, name: &str, status: &EdgeModelStatus) -> Result<(), Error> {
        let mut patch = object::<EdgeModel>(&json!({"name": name}));
        patch["status"] = json!(status);
        let done = self
            .of::<EdgeModel>()
            .patch_status(name, &applied(), &Patch::Apply(patch))
            .await;
        gone_is_fine(done).map_err(doing(format!("write the status of EdgeModel {name}")))
    }

    /// Writes a node's resource; makes it when it is not there. Gives it back as it is then.
    ///
    /// # Errors
    /// [`Error::Api`].
    pub async fn set_node(&self, name: &str, status: &EdgeNodeStatus) -> Result<EdgeNode, Error> {
        let api = self.of::<EdgeNode>();
        let labels = json!({"app.kubernetes.io/managed-by": FIELD_MANAGER});
        let mut patch = object::<EdgeNode>(&json!({"name": name, "labels": labels}));
        patch["spec"] = json!({});
        api.patch(name, &applied(), &Patch::Apply(&patch))
            .await
            .map_err(doing(format!("make EdgeNode {name}")))?;
        let mut patch = object::<EdgeNode>(&json!({"name": name}));
        patch["status"] = json!(status);
        api.patch_status(name, &applied(), &Patch::Apply(&patch))
            .await
            .map_err(doing(format!("write the status of EdgeNode {name}")))
    }

    /// Removes a node's resource.
    ///
    /// # Errors
    /// [`Error::Api`]; one that is gone is none.
    pub async fn drop_node(&self, name: &str) -> Result<(), Error> {
        let done = self
            .of::<EdgeNode>()
            .delete(name, &DeleteParams::default())
            .await;
        gone_is_fine(done.map(|_| ())).map_err(doing(format!("delete EdgeNode {name}")))
    }

    /// Makes a job.
    ///
    /// # Errors
    /// [`Error::Api`].
    pub async fn set_job(&self, job: &Job) -> Result<(), Error> {
        let name = job.name_any();
        let done = self
            .of::<Job>()
            .patch(&name, &applied(), &Patch::Apply(job))
            .await;
        done.map(|_| ())
            .map_err(doing(format!("make the job {name}")))
    }

    /// Removes a job and its pods.
    ///
    /// # Errors
    /// [`Error::Api`]; one that is gone is none.
    pub async fn drop_job(&self, name: &str) -> Result<(), Error> {
        let done = self
            .of::<Job>()
            .delete(name, &DeleteParams::background())
            .await;
        gone_is_fine(done.map(|_| ())).map_err(doing(format!("delete the job {name}")))
    }

    /// Keeps workers off a cluster node, or lets them back. False when somebody else has set the label
    /// to a value of their own, which then stays.
    ///
    /// # Errors
    /// [`Error::Api`]; a node that is gone is none.
    pub async fn hold(&self, name: &str, is_held: bool) -> Result<bool, Error> {
        let labels = if is_held {
            json!({HOLD_LABEL: "operator"})
        } else {
            json!({})
        };
        let patch = object::<Node>(&json!({"name": name, "labels": labels}));
        let params = PatchParams::apply(FIELD_MANAGER);
        match self
            .nodes()
            .patch(name, &params, &Patch::Apply(patch))
            .await
        {
            Err(error) if is_conflict(&error) => Ok(false),
            done => gone_is_fine(done)
                .map(|()| true)
                .map_err(doing(format!("label the cluster's node {name}"))),
        }
    }

    /// Tells what happened to an object. What cannot be told is logged: it must stop nothing.
    pub async fn tell(&self, about: &ObjectReference, happened: &Happened) {
        let mut note = happened.note.clone();
        if NOTE_MAX < note.len() {
            let end = (0..=NOTE_MAX).rev().find(|at| note.is_char_boundary(*at));
            note.truncate(end.unwrap_or_default());
        }
        let event = Event {
            type_: if happened.is_warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: happened.reason.clone(),
            note: Some(note),
            action: happened.action.clone(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, about).await {
            tracing::warn!(code = "SP501", %error, reason = happened.reason, "an event could not be told");
        }
    }

    /// Addresses and names that a load balancer has given a Service, in its own order; none while it has not.
    ///
    /// # Errors
    /// [`Error::Api`].
    pub async fn balanced(&self, service: &str) -> Result<Vec<String>, Error> {
        let found = self.of::<Service>().get_opt(service).await;
        let found = found.map_err(doing(format!("read the Service {service}")))?;
        let balancer = found
            .and_then(|service| service.status)
            .and_then(|status| status.load_balancer)
            .and_then(|balancer| balancer.ingress);
        let ways = balancer.into_iter().flatten().take(BALANCED_MAX);
        Ok(ways.filter_map(|way| way.ip.or(way.hostname)).collect())
    }

    /// A secret's content; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Api`].
    pub async fn secret(&self, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, Error> {
        let found = self.of::<Secret>().get_opt(name).await;
        let found = found.map_err(doing(format!("read the secret {name}")))?;
        let bytes = |secret: Secret| {
            let data = secret.data.unwrap_or_default().into_iter();
            data.map(|(key, ByteString(bytes))| (key, bytes)).collect()
        };
        Ok(found.map(bytes))
    }

    /// Writes a secret with a certificate.
    ///
    /// # Errors
    /// [`Error::Api`].
    pub async fn set_secret(
        &self,
        name: &str,
        data: BTreeMap<String, Vec<u8>>,
    ) -> Result<(), Error> {
        let data: BTreeMap<_, _> = data
            .into_iter()
            .map(|(k, bytes)| (k, ByteString(bytes)))
            .collect();
        let labels = json!({"app.kubernetes.io/part-of": "splitplace"});
        let mut patch = object::<Secret>(&json!({"name": name, "labels": labels}));
        patch["type"] = json!("kubernetes.io/tls");
        patch["data"] = json!(data);
        let done = self
            .of::<Secret>()
            .patch(name, &applied(), &Patch::Apply(patch))
            .await;
        done.map(|_| ())
            .map_err(doing(format!("write the secret {name}")))
    }

    /// Marks a pod as the leader, or not.
    ///
    /// # Errors
    /// [`Error::Api`]; for a pod that is gone not to lead is none.
    pub async fn mark_leader(&self, pod: &str, is_leader: bool) -> Result<(), Error> {
        let label = if is_leader {
            json!("true")
        } else {
            json!(null)
        };
        let patch = json!({"metadata": {"labels": {"splitplace.dev/leader": label}}});
        let done = self
            .of::<Pod>()
            .patch(pod, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        let done = if is_leader {
            done.map(|_| ())
        } else {
            gone_is_fine(done)
        };
        done.map_err(doing(format!("label the pod {pod}")))
    }
}

/// Addresses of a load balancer that are shown: k3s' own names each of its nodes.
const BALANCED_MAX: usize = 16;

/// Longest note of an event: the API's own limit.
const NOTE_MAX: usize = 1024;

fn applied() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

fn object<K: kube::Resource<DynamicType = ()>>(metadata: &serde_json::Value) -> serde_json::Value {
    json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata})
}

fn gone_is_fine<T>(done: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match done {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// What an event is about.
#[must_use]
pub fn reference<K: kube::Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    object.object_ref(&())
}
