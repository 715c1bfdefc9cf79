//! A cluster: version, nodes and images, definitions, rights, pods, certificates.

use std::collections::BTreeSet;

use anyhow::Result;
use splitplace_k8s::{
    Client, cluster,
    look::{self, NodeFacts, PodFacts},
};

use super::{Finding, machine::certificate};
use crate::command::certs::now;

/// Oldest version with everything that the chart uses (the preStop action `sleep`).
const VERSION: (u32, u32) = (1, 30);

/// What the operator has to be able to do: verb, group, resource.
const RIGHTS: [(&str, &str, &str); 8] = [
    ("list", "splitplace.dev", "edgemodels"),
    ("watch", "splitplace.dev", "edgemodels"),
    ("patch", "splitplace.dev", "edgemodels/status"),
    ("create", "splitplace.dev", "edgenodes"),
    ("create", "coordination.k8s.io", "leases"),
    ("create", "events.k8s.io", "events"),
    ("create", "batch", "jobs"),
    ("patch", "", "nodes"),
];

/// Everything about the cluster that the kubeconfig, or the pod's account, leads to.
pub(crate) async fn look(namespace: &str, release: &str) -> Result<Vec<Finding>> {
    let client: Client = cluster::connect().await?;
    let mut findings = vec![match look::version(&client).await {
        Ok(text) => version(&text),
        Err(error) => {
            return Ok(vec![Finding::bad(
                "API server",
                error.to_string(),
                "is the cluster up, and KUBECONFIG right?",
            )]);
        }
    }];
    match look::nodes(&client, "splitplace").await {
        Ok(nodes) => findings.extend(nodes.iter().flat_map(node)),
        Err(error) => findings.push(Finding::doubt("nodes", error.to_string(), "")),
    }
    findings.push(match look::definitions(&client).await {
        Ok(wrong) if wrong.is_empty() => {
            Finding::good("definitions", "EdgeModel and EdgeNode are there")
        }
        Ok(wrong) => Finding::bad(
            "definitions",
            wrong.join("; "),
            "splitplace crds | kubectl apply --server-side -f -",
        ),
        Err(error) => Finding::doubt("definitions", error.to_string(), ""),
    });
    let mut missing = BTreeSet::new();
    for (verb, group, resource) in RIGHTS {
        if look::may(&client, namespace, verb, group, resource).await == Some(false) {
            missing.insert(format!("{verb} {resource}"));
        }
    }
    findings.push(if missing.is_empty() {
        Finding::good("rights", "this account may do all that the operator does")
    } else {
        let missing: Vec<_> = missing.into_iter().collect();
        let mend =
            "fine for your own account; the operator's are in the chart's templates/rbac.yaml";
        Finding::doubt(
            "rights",
            format!("this account may not {}", missing.join(", ")),
            mend,
        )
    });
    match look::pods(&client, namespace).await {
        Ok(pods) if pods.is_empty() => findings.push(Finding::doubt(
            "pods",
            format!("none of SplitPlace in {namespace}"),
            "helm list -A shows where it is; then --namespace",
        )),
        Ok(pods) => findings.extend(pods.iter().map(pod)),
        Err(error) => findings.push(Finding::doubt("pods", error.to_string(), "")),
    }
    let secrets = ["ca", "orchestrator-tls", "worker-tls"].map(|part| format!("{release}-{part}"));
    match look::certificates(&client, namespace, &secrets).await {
        Ok(found) => findings.extend(
            found
                .iter()
                .map(|(name, pem)| certificate(name, pem, now())),
        ),
        Err(error) => findings.push(Finding::doubt("certificates", error.to_string(), "")),
    }
    Ok(findings)
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
    // A kubelet lists its largest images only, fifty of them by default.
    if node.images.is_empty() {
        let mend = "without internet, copy the image's archive to /var/lib/rancher/k3s/agent/images/ there; \
                    docs/kubernetes-air-gap.md";
        findings.push(Finding::doubt(&name, "the image is not seen on it", mend));
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

#[cfg(test)]
mod tests {
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
    fn a_node_without_the_image_is_doubted() {
        let facts = NodeFacts {
            name: "n".into(),
            arch: "arm64".into(),
            ready: true,
            ..NodeFacts::default()
        };
        assert_eq!(
            node(&facts).iter().map(|f| f.level).max(),
            Some(Level::Doubt)
        );
        let armv7 = NodeFacts {
            arch: "arm".into(),
            ..facts
        };
        assert_eq!(node(&armv7).iter().map(|f| f.level).max(), Some(Level::Bad));
    }
}
