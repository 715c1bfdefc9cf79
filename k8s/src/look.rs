//! Facts about a cluster for `splitplace doctor`: what is there, what may be done, what is missing.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        authorization::v1::{
            ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
        },
        core::v1::{Node, Pod},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PostParams},
};

use crate::cluster::{Cluster, Error, doing};

/// A node of the cluster, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Name.
    pub name: String,
    /// `amd64`, `arm64`, ….
    pub arch: String,
    /// Kernel.
    pub kernel: String,
    /// Kubelet.
    pub kubelet: String,
    /// Whether it is ready, and what is wrong otherwise.
    pub ready: bool,
    /// Whether it is cordoned.
    pub cordoned: bool,
    /// Kilobytes, megabytes: as the cluster states it.
    pub memory: String,
    /// Images of ours that it has.
    pub images: Vec<String>,
}

/// A pod of the release, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Name.
    pub name: String,
    /// Where.
    pub node: String,
    /// `Running`, `Pending`, ….
    pub phase: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Restarts of its containers.
    pub restarts: i32,
    /// Why a container waits, or ended badly.
    pub trouble: String,
}

/// The API server's version.
///
/// # Errors
/// [`Error::Api`].
pub async fn version(client: &Client) -> Result<String, Error> {
    let version = client
        .apiserver_version()
        .await
        .map_err(doing("read the API server's version"))?;
    Ok(version.git_version)
}

/// Nodes, and whether they have an image whose name contains `image`.
///
/// # Errors
/// [`Error::Api`].
pub async fn nodes(client: &Client, image: &str) -> Result<Vec<NodeFacts>, Error> {
    let api: Api<Node> = Api::all(client.clone());
    let nodes = api
        .list(&ListParams::default())
        .await
        .map_err(doing("list the cluster's nodes"))?;
    let facts = |node: Node| {
        let name = node.name_any();
        let status = node.status.unwrap_or_default();
        let info = status.node_info.unwrap_or_default();
        let is_ready = status.conditions.iter().flatten();
        let capacity = status.capacity.unwrap_or_default();
        NodeFacts {
            name,
            arch: info.architecture,
            kernel: info.kernel_version,
            kubelet: info.kubelet_version,
            ready: is_ready
                .clone()
                .any(|c| c.type_ == "Ready" && c.status == "True"),
            cordoned: node
                .spec
                .and_then(|spec| spec.unschedulable)
                .unwrap_or(false),
            memory: capacity
                .get("memory")
                .map(|memory| memory.0.clone())
                .unwrap_or_default(),
            images: status
                .images
                .into_iter()
                .flatten()
                .flat_map(|image| image.names.unwrap_or_default())
                .filter(|name| name.contains(image))
                .collect(),
        }
    };
    Ok(nodes.items.into_iter().map(facts).collect())
}

/// Pods of a release.
///
/// # Errors
/// [`Error::Api`].
pub async fn pods(client: &Client, namespace: &str) -> Result<Vec<PodFacts>, Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels("app.kubernetes.io/name=splitplace");
    let pods = api
        .list(&ours)
        .await
        .map_err(doing("list the release's pods"))?;
    let facts = |pod: Pod| {
        let name = pod.name_any();
        let status = pod.status.unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let trouble = containers.iter().find_map(|container| {
            let state = container.state.as_ref()?;
            if let Some(waiting) = &state.waiting {
                return Some(format!(
                    "{}: {}",
                    waiting.reason.clone().unwrap_or_default(),
                    waiting.message.clone().unwrap_or_default()
                ));
            }
            let ended = state
                .terminated
                .as_ref()
                .filter(|ended| ended.exit_code != 0)?;
            Some(format!("ended with {}", ended.exit_code))
        });
        PodFacts {
            name,
            node: pod.spec.and_then(|spec| spec.node_name).unwrap_or_default(),
            phase: status.phase.unwrap_or_default(),
            ready: !containers.is_empty() && containers.iter().all(|container| container.ready),
            restarts: containers
                .iter()
                .map(|container| container.restart_count)
                .sum(),
            trouble: trouble.unwrap_or_default(),
        }
    };
    Ok(pods.items.into_iter().map(facts).collect())
}

/// Whether this account may do something; `None` when that cannot be asked.
pub async fn may(
    client: &Client,
    namespace: &str,
    verb: &str,
    group: &str,
    resource: &str,
) -> Option<bool> {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub.to_owned())),
        None => (resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                verb: Some(verb.to_owned()),
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await.ok()?;
    answer.status.map(|status| status.allowed)
}

/// Definitions of ours that the cluster lacks, or has in a form other than this binary's.
///
/// # Errors
/// [`Error::Api`].
pub async fn definitions(client: &Client) -> Result<Vec<String>, Error> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut wrong = Vec::new();
    for (_, own) in crate::crds::all() {
        let name = own.name_any();
        let found = api
            .get_opt(&name)
            .await
            .map_err(doing("read the custom resources' definitions"))?;
        let schema = |one: &CustomResourceDefinition| {
            let properties = one
                .spec
                .versions
                .first()?
                .schema
                .clone()?
                .open_api_v3_schema?
                .properties?;
            Some(properties.keys().cloned().collect::<Vec<_>>())
        };
        match found {
            None => wrong.push(format!("{name} is missing")),
            Some(found) if schema(&found) != schema(&own) => {
                wrong.push(format!("{name} is of another version than this binary"));
            }
            Some(_) => {}
        }
    }
    Ok(wrong)
}

/// Contents of the certificate secrets that are there, by name.
///
/// # Errors
/// [`Error::Api`].
pub async fn certificates(
    client: &Client,
    namespace: &str,
    names: &[String],
) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let cluster = Cluster::new(client.clone(), namespace, "doctor");
    let mut found = BTreeMap::new();
    for name in names {
        if let Some(mut secret) = cluster.secret(name).await?
            && let Some(pem) = secret.remove("tls.crt")
        {
            found.insert(name.clone(), pem);
        }
    }
    Ok(found)
}
