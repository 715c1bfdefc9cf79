//! A cluster: version, clocks, nodes and images, definitions, rights, pods, names, certificates.

mod clocks;
mod images;
mod rights;

use std::collections::BTreeSet;

use anyhow::Result;
use splitplace_k8s::{
    Client, cluster,
    drift::Way,
    look::{self, DefinitionFacts, NodeFacts, PodFacts},
};

use super::{Finding, machine};
use crate::command::certs::now;

/// Oldest version with everything that the chart uses (the preStop action `sleep`).
const VERSION: (u32, u32) = (1, 30);

/// What is looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Namespace of the release.
    pub(crate) namespace: String,
    /// Helm's name of the release; any in the namespace without it.
    pub(crate) release: Option<String>,
    /// Secrets with certificates, besides those that pods mount.
    pub(crate) certificates: Vec<String>,
    /// Whether this process is in the cluster.
    pub(crate) is_inside: bool,
}

impl Place {
    fn label(&self) -> String {
        match &self.release {
            Some(release) => format!("app.kubernetes.io/instance={release}"),
            None => "app.kubernetes.io/name=splitplace".into(),
        }
    }
}

/// Everything about the cluster that the kubeconfig, or the pod's account, leads to.
pub(crate) async fn look(place: &Place) -> Result<Vec<Finding>> {
    let client: Client = cluster::connect().await?;
    let namespace = place.namespace.as_str();
    let mut findings = vec![match look::version(&client).await {
        Ok(text) => version(&text),
        Err(error) => {
            return Ok(vec![Finding::bad(
                "API server",
                error.to_string(),
                "is the cluster up, and KUBECONFIG right? On k3s: export KUBECONFIG=/etc/rancher/k3s/k3s.yaml",
            )]);
        }
    }];
    let date = match look::clock(&client).await {
        Ok(told) => {
            findings.push(clocks::own(told.map(|(ahead, _)| ahead)));
            told.map(|(_, date)| date)
        }
        Err(error) => {
            findings.push(unseen("clock", &error));
            None
        }
    };
    let pods = match look::pods(&client, namespace, &place.label()).await {
        Ok(pods) => {
            findings.extend(pods.iter().map(pod));
            if pods.is_empty() {
                findings.push(Finding::doubt(
                    "pods",
                    format!("none with {} in {namespace}", place.label()),
                    "helm list -A shows where a release is; then --namespace, and --release when its chart has another name",
                ));
            }
            pods
        }
        Err(error) => {
            findings.push(unseen("pods", &error));
            Vec::new()
        }
    };
    match look::nodes(&client).await {
        Ok(nodes) => {
            findings.extend(nodes.iter().flat_map(node));
            findings.extend(images::on(&nodes, &pods));
            if let Some(date) = date {
                match look::heartbeats(&client).await {
                    Ok(beats) => findings.extend(clocks::of_nodes(&nodes, &beats, date)),
                    Err(error) => findings.push(unseen("clocks of nodes", &error)),
                }
            }
        }
        Err(error) => findings.push(unseen("nodes", &error)),
    }
    match look::definitions(&client).await {
        Ok(all) => findings.extend(all.iter().map(definition)),
        Err(error) => findings.push(unseen("definitions", &error)),
    }
    findings.extend(rights::of(&client, namespace, &pods).await);
    match look::services(&client, namespace, &place.label()).await {
        Ok(services) => findings.extend(names(place, &services, &pods)),
        Err(error) => findings.push(unseen("names", &error)),
    }
    findings.extend(certificates(&client, place, &pods).await);
    Ok(findings)
}

/// What this account may not look at.
fn unseen(what: &str, error: &cluster::Error) -> Finding {
    let mend = "use an account that may look at it (kubectl auth can-i --list), or leave this out";
    Finding::doubt(what, error.to_string(), mend)
}

fn version(text: &str) -> Finding {
    let mut numbers = text
        .trim_start_matches('v')
        .split(['.', '+', '-'])
        .map_while(|part| part.parse().ok());
    let found: (u32, u32) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    if found < VERSION {
        let mend = format!("upgrade to {}.{} or newer", VERSION.0, VERSION.1);
        return Finding::bad("API server", text, mend);
    }
    Finding::good("API server", text)
}

/// Differences that are named one by one.
const NAMED: usize = 6;

fn definition(facts: &DefinitionFacts) -> Finding {
    let what = format!("definition {}", facts.name);
    let install = "splitplace crds | kubectl apply --server-side --force-conflicts -f -";
    let Some(drift) = &facts.drift else {
        let mend = format!("{install}; or helm upgrade with crds.install=true");
        return Finding::bad(&what, "is missing", mend);
    };
    if drift.is_empty() {
        return Finding::good(&what, "is that of this program, field by field");
    }
    let of = |way: Way| {
        let same = drift.iter().filter(|one| one.way == way);
        let places: Vec<&str> = same.map(|one| one.place.as_str()).collect();
        let rest = places.len().saturating_sub(NAMED);
        let named = places[..places.len() - rest].join(", ");
        let more = if rest == 0 {
            String::new()
        } else {
            format!(" and {rest} more")
        };
        (!places.is_empty()).then(|| format!("{named}{more}"))
    };
    let said = [
        of(Way::Lacks).map(|list| format!("the cluster's lacks {list}")),
        of(Way::Besides)
            .map(|list| format!("the cluster's has {list}, which this program does not know")),
        of(Way::Other).map(|list| format!("{list}: another form")),
    ];
    let seen = said.into_iter().flatten().collect::<Vec<_>>().join("; ");
    let is_newer = drift.iter().all(|one| one.way == Way::Besides);
    if is_newer {
        let mend = "the cluster's is newer: look with the release's own version of splitplace, or upgrade the release";
        return Finding::doubt(&what, seen, mend);
    }
    Finding::bad(
        &what,
        seen,
        format!("when this program is that of the release: {install}"),
    )
}

fn node(node: &NodeFacts) -> Vec<Finding> {
    let name = format!("node {}", node.name);
    let seen = format!(
        "{}, kernel {}, kubelet {}, {}",
        node.arch, node.kernel, node.kubelet, node.memory
    );
    let mut findings = vec![match (node.ready, node.cordoned) {
        (true, false) => Finding::good(&name, seen),
        (true, true) => Finding::doubt(
            &name,
            "cordoned",
            format!("kubectl uncordon {} gives it work again", node.name),
        ),
        (false, _) => Finding::bad(
            &name,
            "not ready",
            format!("kubectl describe node {}", node.name),
        ),
    }];
    if !["amd64", "arm64"].contains(&node.arch.as_str()) {
        let mend = "keep workers off it: workers.nodeSelector with kubernetes.io/arch";
        findings.push(Finding::bad(
            &name,
            format!("{} has no image", node.arch),
            mend,
        ));
    }
    findings
}

fn pod(pod: &PodFacts) -> Finding {
    let name = format!("pod {}", pod.name);
    let seen = format!("{} on {}, {} restarts", pod.phase, pod.node, pod.restarts);
    match (pod.ready, pod.phase.as_str()) {
        (true, _) if pod.restarts > 5 => {
            Finding::doubt(&name, seen, format!("kubectl logs --previous {}", pod.name))
        }
        (true, _) | (_, "Succeeded") => Finding::good(&name, seen),
        (false, _) if pod.trouble.contains("ImagePull") || pod.trouble.contains("ErrImage") => {
            Finding::bad(
                &name,
                pod.trouble.clone(),
                format!(
                    "the image is not on {}; docs/kubernetes-air-gap.md",
                    pod.node
                ),
            )
        }
        (false, "Pending") => Finding::bad(
            &name,
            seen,
            format!("kubectl describe pod {} says what it waits for", pod.name),
        ),
        (false, _) => {
            let seen = if pod.trouble.is_empty() {
                format!("{seen}, not ready")
            } else {
                pod.trouble.clone()
            };
            Finding::doubt(&name, seen, format!("kubectl logs {}", pod.name))
        }
    }
}

/// The Services by name, from inside; from outside, how to ask from inside.
fn names(place: &Place, services: &[String], pods: &[PodFacts]) -> Vec<Finding> {
    let full = |name: &String| format!("{name}.{}.svc", place.namespace);
    if place.is_inside {
        let found = services.iter().map(|name| machine::resolve(&full(name)));
        return found.collect();
    }
    // Every pod of ours has the program, and what one resolves the others do.
    let Some(pod) = pods.iter().find(|pod| pod.ready) else {
        return Vec::new();
    };
    let all: Vec<String> = services
        .iter()
        .map(|name| format!("--name {}", full(name)))
        .collect();
    let mend = format!(
        "from inside: kubectl -n {} exec {} -- /splitplace doctor {}",
        place.namespace,
        pod.name,
        all.join(" ")
    );
    let seen = "the cluster's names lead somewhere inside it only, and this is outside";
    vec![Finding::doubt("names", seen, mend)]
}

async fn certificates(client: &Client, place: &Place, pods: &[PodFacts]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mounted: BTreeSet<String> = pods.iter().flat_map(|pod| pod.secrets.clone()).collect();
    let mut names = mounted.clone();
    names.extend(place.certificates.iter().cloned());
    if place.certificates.is_empty() {
        // The authority is in no pod.
        match look::certificate_names(client, &place.namespace).await {
            Ok(labelled) => names.extend(labelled),
            Err(error) => findings.push(Finding::doubt(
                "certificates",
                error.to_string(),
                "name them: --certificate SECRET, once for each; those that pods mount are looked at anyway",
            )),
        }
    }
    let names: Vec<String> = names.into_iter().collect();
    match look::certificates(client, &place.namespace, &names).await {
        Ok(found) => findings.extend(found.iter().map(|(name, pem)| match pem {
            Some(pem) => machine::certificate(name, pem, now()),
            None => missing(name, mounted.contains(name)),
        })),
        Err(error) => findings.push(unseen("certificates", &error)),
    }
    findings
}

fn missing(name: &str, is_mounted: bool) -> Finding {
    let mend = "helm upgrade without --no-hooks makes it (tls.mode=selfIssued); with tls.mode=existing or certManager \
                whoever makes secrets there has to";
    let seen = format!("there is no secret {name}");
    if is_mounted {
        return Finding::bad("certificate", format!("{seen}, and pods wait for it"), mend);
    }
    Finding::bad(
        "certificate",
        seen,
        "is it spelled right, and in this namespace? kubectl get secrets",
    )
}

#[cfg(test)]
mod tests {
    use splitplace_k8s::drift::Drift;

    use super::*;
    use crate::doctor::Level;

    #[test]
    fn versions_of_k3s_are_read() {
        assert_eq!(version("v1.33.4+k3s1").level, Level::Good);
        assert_eq!(version("v1.29.0").level, Level::Bad);
    }

    #[test]
    fn what_is_wrong_with_a_pod_decides_what_to_do() {
        let facts = PodFacts {
            name: "p".into(),
            node: "n".into(),
            phase: "Pending".into(),
            ..PodFacts::default()
        };
        let pulling = PodFacts {
            trouble: "ImagePullBackOff: x".into(),
            ..facts.clone()
        };
        assert!(pod(&pulling).mend.contains("air-gap"));
        assert!(pod(&facts).mend.contains("describe"));
        let ready = PodFacts {
            ready: true,
            phase: "Running".into(),
            ..facts
        };
        assert_eq!(pod(&ready).level, Level::Good);
        assert_eq!(
            pod(&PodFacts {
                restarts: 9,
                ..ready
            })
            .level,
            Level::Doubt
        );
    }

    #[test]
    fn a_board_without_an_image_is_bad() {
        let facts = NodeFacts {
            name: "n".into(),
            arch: "arm64".into(),
            ready: true,
            ..NodeFacts::default()
        };
        assert_eq!(
            node(&facts).iter().map(|f| f.level).max(),
            Some(Level::Good)
        );
        let armv7 = NodeFacts {
            arch: "arm".into(),
            ..facts
        };
        assert_eq!(node(&armv7).iter().map(|f| f.level).max(), Some(Level::Bad));
    }

    #[test]
    fn a_definition_that_lacks_something_is_bad_and_a_newer_one_is_a_doubt() {
        let with = |drift: Vec<(Way, &str)>| {
            let drift = drift.into_iter().map(|(way, place)| Drift {
                way,
                place: place.into(),
            });
            definition(&DefinitionFacts {
                name: "d".into(),
                drift: Some(drift.collect()),
            })
        };
        assert_eq!(with(vec![]).level, Level::Good);
        assert_eq!(
            with(vec![(Way::Besides, "v1alpha1 spec.new")]).level,
            Level::Doubt
        );
        let both = with(vec![
            (Way::Besides, "v1alpha1 spec.new"),
            (Way::Lacks, "v1alpha1 spec.old"),
        ]);
        assert_eq!(both.level, Level::Bad);
        assert!(
            both.seen.contains("lacks v1alpha1 spec.old") && both.mend.contains("splitplace crds")
        );
        assert!(with(vec![(Way::Lacks, "x"); 9]).seen.contains("and 3 more"));
    }

    #[test]
    fn names_are_asked_for_inside_and_explained_outside() {
        let services = ["sp-splitplace".to_owned()];
        let ready = PodFacts {
            name: "sp-operator-1".into(),
            ready: true,
            ..PodFacts::default()
        };
        let mut place = Place {
            namespace: "edge".into(),
            ..Place::default()
        };
        let mend = &names(&place, &services, &[ready])[0].mend;
        let command = "kubectl -n edge exec sp-operator-1 -- /splitplace doctor --name sp-splitplace.edge.svc";
        assert!(mend.contains(command), "{mend}");
        place.is_inside = true;
        let found = names(&place, &["localhost.invalid".to_owned()], &[]);
        assert_eq!(found[0].level, Level::Bad);
    }
}
