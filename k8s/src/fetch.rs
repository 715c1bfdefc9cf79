//! The job that brings a package into the orchestrator's folder: its desired form, and its state. Pure.
//!
//! A job mounts the source and the folder, so that foreign volumes and foreign bytes stay away from the
//! orchestrator. Its name holds a hash of the source: another source is another job.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{LocalObjectReference, Toleration},
};
use kube::{Resource as _, ResourceExt as _};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{conditions::Said, decide::Settings, model::EdgeModel};

/// How packages are fetched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchSettings {
    /// Image with our binary.
    pub image: String,
    /// How it is pulled.
    pub pull_policy: String,
    /// Claim with the orchestrator's folder of models.
    pub claim: String,
    /// The folder on it.
    pub path: String,
    /// What else the job's pod needs.
    pub pod: FetchPod,
}

/// What the pod of a job that fetches needs besides: the chart's `operator.fetch`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FetchPod {
    /// Authorities that the job trusts besides the public ones.
    pub ca: Authority,
    /// Secrets of the type `kubernetes.io/dockerconfigjson`: its own image is pulled with them, and artifacts are.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Nodes where it may run.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that it tolerates.
    pub tolerations: Vec<Toleration>,
}

/// A file of certificates in PEM: of a secret, or of a config map.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Authority {
    /// The secret; empty for none.
    pub secret: String,
    /// The config map; empty for none.
    pub config_map: String,
    /// The key in it; `ca.crt` when empty.
    pub key: String,
}

impl Authority {
    fn volume(&self) -> Option<Value> {
        let key = if self.key.is_empty() {
            "ca.crt"
        } else {
            &self.key
        };
        let items = json!([{"key": key, "path": "ca.crt"}]);
        if !self.secret.is_empty() {
            return Some(
                json!({"name": "ca", "secret": {"secretName": self.secret, "items": items}}),
            );
        }
        let is_given = !self.config_map.is_empty();
        is_given
            .then(|| json!({"name": "ca", "configMap": {"name": self.config_map, "items": items}}))
    }
}

/// How far the package is.
#[derive(Clone, Debug, PartialEq)]
pub enum FetchState {
    /// The orchestrator has it.
    NotNeeded,
    /// This job has to be made.
    Missing(Box<Job>),
    /// It runs.
    Running,
    /// It is through.
    Done,
    /// It is through, but what it brought is there no more: this job goes, and another one comes.
    Lost(String),
    /// It is through, and the orchestrator has not found what it brought; it may yet.
    NotFound,
    /// It gave up.
    Failed(String),
    /// There is nowhere to bring it to.
    Impossible(&'static str),
}

impl FetchState {
    /// The same as a condition.
    #[must_use]
    pub fn said(&self) -> Said {
        match self {
            Self::NotNeeded => {
                Said::yes("Fetched", "NotNeeded", "the orchestrator has the package")
            }
            Self::Missing(_) | Self::Running => Said::no(
                "Fetched",
                "Fetching",
                "a job brings the package to the orchestrator",
            ),
            Self::Done => Said::yes(
                "Fetched",
                "Fetched",
                "the package is in the orchestrator's folder",
            ),
            Self::Lost(_) => Said::no(
                "Fetched",
                "Lost",
                "the orchestrator has the package no more, neither in its folder nor in its store: it is fetched anew",
            ),
            Self::NotFound => Said::no(
                "Fetched",
                "NotFound",
                format!(
                    "a job has brought the package, and the orchestrator does not find it: does its folder of models lie on \
                     the claim and in the folder that operator --models-claim and --models-path name? It is fetched anew \
                     after {} minutes",
                    AGAIN.as_mins()
                ),
            ),
            Self::Failed(why) => Said::no("Fetched", "FetchFailed", why),
            Self::Impossible(why) => Said::no("Fetched", "NowhereToFetchTo", *why),
        }
    }
}

/// What was brought and was not found is not brought again before so long: then the claim is another's, and each try
/// would be as vain.
const AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// How far the package is. `missed` is when the orchestrator last said that it has no such package, `now` the moment.
#[must_use]
pub fn state(
    model: &EdgeModel,
    job: Option<&Job>,
    missed: Option<Timestamp>,
    now: Timestamp,
    settings: &Settings,
) -> FetchState {
    if model.spec.source.stored.is_some() {
        return FetchState::NotNeeded;
    }
    let Some(fetch) = &settings.fetch else {
        return FetchState::Impossible(
            "the orchestrator keeps no packages on a volume, so that none can be brought there; set \
             orchestrator.persistence.enabled in the chart",
        );
    };
    let Some(status) = job.map(|job| job.status.clone().unwrap_or_default()) else {
        return FetchState::Missing(Box::new(desired(model, settings, fetch)));
    };
    // One that is being deleted keeps its name until its pods are gone.
    if job.is_some_and(|job| job.metadata.deletion_timestamp.is_some()) {
        return FetchState::Running;
    }
    if status.succeeded.unwrap_or_default() > 0 {
        let done = status.completion_time.map_or(Timestamp::MIN, |done| done.0);
        return match missed {
            Some(missed)
                if done < missed && done.saturating_add(AGAIN).is_ok_and(|due| due <= now) =>
            {
                FetchState::Lost(job_name(model))
            }
            Some(missed) if done < missed => FetchState::NotFound,
            _ => FetchState::Done,
        };
    }
    let failed = status.conditions.unwrap_or_default();
    match failed
        .iter()
        .find(|condition| condition.type_ == "Failed" && condition.status == "True")
    {
        Some(condition) => FetchState::Failed(format!(
            "{}; kubectl logs job/{} says why. A changed spec.source is tried at once, the same one \
             when the job is deleted",
            condition.message.as_deref().unwrap_or("the job failed"),
            job_name(model)
        )),
        None => FetchState::Running,
    }
}

/// Name of the job for the model's present source.
#[must_use]
pub fn job_name(model: &EdgeModel) -> String {
    let source = serde_json::to_string(&model.spec.source).unwrap_or_default();
    let mut name = model.name_any();
    name.truncate(40);
    format!(
        "fetch-{}-{:08x}",
        name.trim_end_matches(['-', '.']),
        fnv(&source)
    )
}

/// FNV-1a, 32 bits: stable over versions, which the standard library's hashes do not promise to be.
fn fnv(text: &str) -> u32 {
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    text.bytes().fold(2_166_136_261, fold)
}

/// The job.
///
/// # Panics
/// Never: what is built here is a job. A test builds each kind.
#[must_use]
pub fn desired(model: &EdgeModel, settings: &Settings, fetch: &FetchSettings) -> Job {
    let name = job_name(model);
    let source = &model.spec.source;
    let mut args = vec![
        "fetch".to_owned(),
        format!("--name={}", model.served_name()),
        "--into=/models".to_owned(),
    ];
    let mut volumes =
        vec![json!({"name": "models", "persistentVolumeClaim": {"claimName": fetch.claim}})];
    let mut mounts = vec![json!({"name": "models", "mountPath": "/models", "subPath": fetch.path})];
    if fetch.path.is_empty() {
        mounts[0] = json!({"name": "models", "mountPath": "/models"});
    }
    let mut mount = |volume: Value, sub_path: &str| {
        volumes.push(volume);
        let mut mount = json!({"name": "source", "mountPath": "/source", "readOnly": true});
        if !sub_path.is_empty() {
            mount["subPath"] = json!(sub_path);
        }
        mounts.push(mount);
    };
    if let Some(claim) = &source.claim {
        let volume = json!({"claimName": claim.name, "readOnly": true});
        mount(
            json!({"name": "source", "persistentVolumeClaim": volume}),
            &claim.path,
        );
        args.push("--path=/source".into());
    } else if let Some(path) = &source.host_path {
        mount(
            json!({"name": "source", "hostPath": {"path": path.path}}),
            "",
        );
        args.push("--path=/source".into());
    } else if let Some(http) = &source.http {
        args.push(format!("--url={}", http.url));
        args.push(format!("--digest={}", http.digest));
    } else if let Some(oci) = &source.oci {
        args.push(format!("--oci={}", oci.repository));
        args.push(format!("--digest={}", oci.digest));
        if oci.plain_http {
            args.push("--plain-http".into());
        }
    }
    if source.http.is_some() || source.oci.is_some() {
        network(
            fetch,
            source.oci.is_some(),
            &mut args,
            &mut volumes,
            &mut mounts,
        );
    }
    let labels = |component: &str| {
        json!({
            "app.kubernetes.io/name": settings.app.0,
            "app.kubernetes.io/instance": settings.app.1,
            "app.kubernetes.io/component": component,
        })
    };
    let orchestrator = json!({
        "labelSelector": {"matchLabels": labels("orchestrator")},
        "topologyKey": "kubernetes.io/hostname",
    });
    let owner = model.controller_owner_ref(&());
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": model.namespace(),
            "labels": labels("fetch"),
            "ownerReferences": owner.into_iter().collect::<Vec<_>>(),
        },
        "spec": {
            "backoffLimit": 4,
            "activeDeadlineSeconds": 1800,
            "template": {
                "metadata": {"labels": labels("fetch")},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "imagePullSecrets": fetch.pod.image_pull_secrets,
                    "nodeSelector": fetch.pod.node_selector,
                    "tolerations": fetch.pod.tolerations,
                    // The folder may be bound to one node: that of the orchestrator.
                    "affinity": {"podAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [orchestrator],
                    }},
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": 65532,
                        "runAsGroup": 65532,
                        "fsGroup": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": "fetch",
                        "image": fetch.image,
                        "imagePullPolicy": fetch.pull_policy,
                        "args": args,
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "resources": {
                            // What is fetched goes to the disk piece by piece, however large it is.
                            "requests": {"cpu": "50m", "memory": "32Mi"},
                            "limits": {"memory": "128Mi"},
                        },
                        "volumeMounts": mounts,
                    }],
                    "volumes": volumes,
                },
            },
        },
    });
    serde_json::from_value(job).expect("a job")
}

/// Whom a job trusts that fetches over a network, and as whom it asks.
fn network(
    fetch: &FetchSettings,
    is_registry: bool,
    args: &mut Vec<String>,
    volumes: &mut Vec<Value>,
    mounts: &mut Vec<Value>,
) {
    if let Some(volume) = fetch.pod.ca.volume() {
        volumes.push(volume);
        mounts.push(json!({"name": "ca", "mountPath": "/ca", "readOnly": true}));
        args.push("--ca=/ca/ca.crt".into());
    }
    let secrets = fetch.pod.image_pull_secrets.iter().filter(|_| is_registry);
    for (number, secret) in secrets.enumerate() {
        let (volume, path) = (
            format!("registry-{number}"),
            format!("/registry/{}", secret.name),
        );
        let items = json!([{"key": ".dockerconfigjson", "path": "config.json"}]);
        // One that is missing shall be told in the job's log, rather than leave its pod waiting.
        let source = json!({"secretName": secret.name, "items": items, "optional": true});
        volumes.push(json!({"name": volume, "secret": source}));
        mounts.push(json!({"name": volume, "mountPath": path, "readOnly": true}));
        args.push(format!("--registry-config={path}/config.json"));
    }
}
