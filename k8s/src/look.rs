//! Facts about a cluster for `splitplace doctor`: what is there, what may be done, what is missing.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, Pod, Secret, Service},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Client, ResourceExt, api::ListParams, client::Body};

use crate::{
    cluster::{Cluster, Error, doing},
    drift::{self, Drift},
};

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
    /// Images that it has, by every name; the largest fifty, as kubelets are set by default.
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
    /// Which part of the release it is.
    pub component: String,
    /// Its account.
    pub account: String,
    /// What its first container is told.
    pub args: Vec<String>,
    /// Images that its containers ask for, each with what was found for it; empty when nothing was yet.
    pub images: Vec<(String, String)>,
    /// Secrets that it mounts and cannot start without.
    pub secrets: Vec<String>,
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

/// How far this machine's clock is ahead of the API server's, as far as whole seconds and the way there tell, and the API
/// server's time; `None` when it tells no time.
///
/// # Errors
/// [`Error::Api`].
pub async fn clock(client: &Client) -> Result<Option<(SignedDuration, Timestamp)>, Error> {
    let request = http::Request::get("/version").body(Body::empty());
    let request = request
        .map_err(kube::Error::HttpError)
        .map_err(doing("make a request"))?;
    let begin = Timestamp::now();
    let answer = client.send(request).await;
    let answer = answer.map_err(doing("ask for the API server's time"))?;
    let end = Timestamp::now();
    let date = answer.headers().get(http::header::DATE);
    let date = date.and_then(|date| DateTimeParser::new().parse_timestamp(date.as_bytes()).ok());
    Ok(date.map(|date| (ahead(begin, end, date), date)))
}

/// By how much a clock that showed `begin` and `end` around an answer is ahead of the one that wrote `date`, cut to whole
/// seconds, into it. Nought when `date` may lie between.
fn ahead(begin: Timestamp, end: Timestamp, date: Timestamp) -> SignedDuration {
    let latest = date
        .saturating_add(SignedDuration::from_secs(1))
        .unwrap_or(date);
    if latest < begin {
        begin.duration_since(latest)
    } else if end < date {
        end.duration_since(date)
    } else {
        SignedDuration::ZERO
    }
}

/// When each node's kubelet last said that it lives, by the node's own clock.
///
/// # Errors
/// [`Error::Api`].
pub async fn heartbeats(client: &Client) -> Result<BTreeMap<String, Timestamp>, Error> {
    let api: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let leases = api.list(&ListParams::default()).await;
    let leases = leases
        .map_err(doing("list the nodes' leases"))?
        .items
        .into_iter();
    let renewed = leases.filter_map(|lease| {
        let name = lease.name_any();
        Some((name, lease.spec?.renew_time?.0))
    });
    Ok(renewed.collect())
}

/// Names of the release's Services.
///
/// # Errors
/// [`Error::Api`].
pub async fn services(client: &Client, namespace: &str, label: &str) -> Result<Vec<String>, Error> {
    let api: Api<Service> = Api::namespaced(client.clone(), namespace);
    let services = api.list(&ListParams::default().labels(label)).await;
    let services = services.map_err(doing("list the release's Services"))?;
    Ok(services.items.iter().map(ResourceExt::name_any).collect())
}

/// The cluster's nodes.
///
/// # Errors
/// [`Error::Api`].
pub async fn nodes(client: &Client) -> Result<Vec<NodeFacts>, Error> {
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
                .collect(),
        }
    };
    Ok(nodes.items.into_iter().map(facts).collect())
}

/// Pods of a release, by the label that all of them carry.
///
/// # Errors
/// [`Error::Api`].
pub async fn pods(client: &Client, namespace: &str, label: &str) -> Result<Vec<PodFacts>, Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels(label);
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
        let component = pod.metadata.labels.unwrap_or_default();
        let component = component.get("app.kubernetes.io/component").cloned();
        let spec = pod.spec.unwrap_or_default();
        let images = spec.containers.iter().map(|asked| {
            let mut same = containers.iter().filter(|found| found.name == asked.name);
            let found = same.next().map(|found| found.image_id.clone());
            (
                asked.image.clone().unwrap_or_default(),
                found.unwrap_or_default(),
            )
        });
        let images = images.collect();
        let args = spec.containers.first().and_then(|first| first.args.clone());
        let volumes = spec.volumes.into_iter().flatten();
        let secrets = volumes.filter_map(|volume| {
            let secret = volume.secret?;
            (secret.optional != Some(true))
                .then_some(secret.secret_name)
                .flatten()
        });
        PodFacts {
            name,
            component: component.unwrap_or_default(),
            account: spec
                .service_account_name
                .unwrap_or_else(|| "default".into()),
            args: args.unwrap_or_default(),
            images,
            secrets: secrets.collect(),
            node: spec.node_name.unwrap_or_default(),
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

/// How an installed definition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionFacts {
    /// Its name.
    pub name: String,
    /// How it differs from this program's; `None` when the cluster has none.
    pub drift: Option<Vec<Drift>>,
}

/// Each definition of ours, and how the cluster's differs from this program's.
///
/// # Errors
/// [`Error::Api`].
pub async fn definitions(client: &Client) -> Result<Vec<DefinitionFacts>, Error> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut all = Vec::new();
    for (_, own) in crate::crds::all() {
        let name = own.name_any();
        let found = api.get_opt(&name).await;
        let found = found.map_err(doing("read the custom resources' definitions"))?;
        let drift = found.map(|found| drift::differences(&found, &own));
        all.push(DefinitionFacts { name, drift });
    }
    Ok(all)
}

/// Names of the namespace's secrets with certificates that are SplitPlace's, by their label.
///
/// # Errors
/// [`Error::Api`].
pub async fn certificate_names(client: &Client, namespace: &str) -> Result<Vec<String>, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels("app.kubernetes.io/part-of=splitplace");
    // Names and labels alone: what they hold is not asked for.
    let secrets = api.list_metadata(&ours).await;
    let secrets = secrets.map_err(doing("list the release's secrets"))?;
    Ok(secrets.items.iter().map(ResourceExt::name_any).collect())
}

/// What the secrets of these names hold as `tls.crt`; `None` for one that is not there.
///
/// # Errors
/// [`Error::Api`].
pub async fn certificates(
    client: &Client,
    namespace: &str,
    names: &[String],
) -> Result<BTreeMap<String, Option<Vec<u8>>>, Error> {
    let cluster = Cluster::new(client.clone(), namespace, "doctor");
    let mut found = BTreeMap::new();
    for name in names {
        match cluster.secret(name).await? {
            None => {
                found.insert(name.clone(), None);
            }
            // One that holds tokens, say, is no certificate.
            Some(mut secret) => {
                if let Some(pem) = secret.remove("tls.crt") {
                    found.insert(name.clone(), Some(pem));
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_wrong_when_no_moment_of_the_answer_fits() {
        let at = |millis: i64| Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap();
        // Between 10.2 and 10.5 by our clock; the server's says 10, which is until 11.
        assert_eq!(
            ahead(at(10_200), at(10_500), at(10_000)),
            SignedDuration::ZERO
        );
        assert_eq!(
            ahead(at(13_200), at(13_500), at(10_000)),
            SignedDuration::from_millis(2200)
        );
        assert_eq!(
            ahead(at(7200), at(7500), at(10_000)),
            SignedDuration::from_millis(-2500)
        );
        let date = DateTimeParser::new()
            .parse_timestamp("Fri, 27 Nov 2026 23:05:46 GMT")
            .unwrap();
        assert_eq!(date.to_string(), "2026-11-27T23:05:46Z");
    }
}
