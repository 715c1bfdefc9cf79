//! The job that brings a package into the orchestrator's folder: its desired form, and its state. Pure.
//!
//! A job mounts the source and the folder, so that foreign volumes and foreign bytes stay away from the
//! orchestrator. Its name holds a hash of the source: another source is another job.

use k8s_openapi::api::batch::v1::Job;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use crate::{conditions::Said, decide::Settings, model::EdgeModel};

/// How packages are fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchSettings {
    /// Image with our binary.
    pub image: String,
    /// How it is pulled.
    pub pull_policy: String,
    /// Claim with the orchestrator's folder of models.
    pub claim: String,
    /// The folder on it.
    pub path: String,
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
            Self::Failed(why) => Said::no("Fetched", "FetchFailed", why),
            Self::Impossible(why) => Said::no("Fetched", "NowhereToFetchTo", *why),
        }
    }
}

/// How far the package is.
#[must_use]
pub fn state(model: &EdgeModel, job: Option<&Job>, settings: &Settings) -> FetchState {
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
    if status.succeeded.unwrap_or_default() > 0 {
        return FetchState::Done;
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
    let mut volumes = vec![
        json!({"name": "models", "persistentVolumeClaim": {"claimName": fetch.claim}}),
        json!({"name": "tmp", "emptyDir": {"sizeLimit": "4Gi"}}),
    ];
    let mut mounts = vec![
        json!({"name": "models", "mountPath": "/models", "subPath": fetch.path}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
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
                            "requests": {"cpu": "50m", "memory": "64Mi"},
                            "limits": {"memory": "512Mi"},
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
