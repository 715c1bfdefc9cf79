//! Whether each part's account may do what the part has to.

use splitplace_k8s::{
    Client,
    look::PodFacts,
    rights::{self, Right},
};

use crate::doctor::Finding;

/// A part of the release that asks the API server for anything.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    name: &'static str,
    account: String,
    rights: Vec<Right>,
}

/// The parts, as their pods are started. An orchestrator without a standby, and workers, have to be allowed nothing.
fn parts(pods: &[PodFacts]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for pod in pods {
        let of = |flag: &str| {
            let values = pod
                .args
                .iter()
                .filter_map(|arg| arg.strip_prefix(flag)?.strip_prefix('='));
            values.map(str::to_owned).collect::<Vec<_>>()
        };
        let lease = |default: &str| of("--lease").pop().unwrap_or_else(|| default.to_owned());
        let part = match pod.args.first().map(String::as_str) {
            Some("operator") => {
                let watches = of("--watch-nodes")
                    .pop()
                    .is_none_or(|value| value == "true");
                (
                    "operator",
                    rights::of_operator(
                        &lease("splitplace-operator"),
                        watches,
                        of("--service").pop().as_deref(),
                    ),
                )
            }
            Some("elect") => {
                let pods = of("--other");
                (
                    "orchestrator",
                    rights::of_elect(&lease("splitplace-orchestrator"), &pods),
                )
            }
            _ => continue,
        };
        let part = Part {
            name: part.0,
            account: pod.account.clone(),
            rights: part.1,
        };
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts
}

/// Findings for each part; when whoever asks may not ask about others, about themselves instead.
pub(super) async fn of(client: &Client, namespace: &str, pods: &[PodFacts]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for part in parts(pods) {
        let who = format!("{namespace}:{}", part.account);
        let what = format!("rights of the {}", part.name);
        findings.push(match rights::missing(client, namespace, &part.account, &part.rights).await {
            Ok(missing) => judge(&what, &format!("its account {who}"), part.rights.len(), &missing),
            Err(refused) => match rights::missing_of_own(client, namespace, &part.rights).await {
                Ok(missing) => judged_by_own(&what, &who, part.rights.len(), &missing),
                Err(_) => Finding::doubt(
                    &what,
                    refused.to_string(),
                    "ask as an account that may create subjectaccessreviews: a cluster's admin may",
                ),
            },
        });
    }
    if findings.is_empty() {
        findings.push(Finding::doubt(
            "rights",
            "no part is seen that asks the API server for anything",
            "when there should be an operator: operator.enabled; -n and --release when it is elsewhere",
        ));
    }
    findings
}

fn judge(what: &str, who: &str, count: usize, missing: &[Right]) -> Finding {
    if missing.is_empty() {
        return Finding::good(
            what,
            format!("{who} may do all {count} things that it has to"),
        );
    }
    Finding::bad(
        what,
        format!("{who} may not {}", listed(missing)),
        "helm upgrade puts the roles of the chart back (templates/rbac.yaml); kubectl get role,rolebinding,clusterrole, \
         clusterrolebinding shows what somebody changed",
    )
}

/// What holds for whoever asks says little of the part, unless both are the same account.
fn judged_by_own(what: &str, who: &str, count: usize, missing: &[Right]) -> Finding {
    let mend = "whoever may create subjectaccessreviews (a cluster's admin) can ask about the part's own account";
    let asked = format!("{who} may not be asked about; this account");
    if missing.is_empty() {
        return Finding::doubt(what, format!("{asked} may do all {count} things"), mend);
    }
    Finding::doubt(what, format!("{asked} may not {}", listed(missing)), mend)
}

fn listed(missing: &[Right]) -> String {
    let list: Vec<String> = missing.iter().map(ToString::to_string).collect();
    list.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(account: &str, args: &[&str]) -> PodFacts {
        PodFacts {
            account: account.into(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..PodFacts::default()
        }
    }

    #[test]
    fn parts_are_read_from_what_their_pods_are_told() {
        let operator = pod(
            "op",
            &[
                "operator",
                "--lease=x-operator",
                "--watch-nodes=false",
                "--service=x",
            ],
        );
        let elect = pod(
            "or",
            &[
                "elect",
                "--lease=x",
                "--other=x-0",
                "--other=x-1",
                "--",
                "orchestrator",
            ],
        );
        let pods = [
            operator.clone(),
            operator,
            elect,
            pod("w", &["worker"]),
            pod("o", &["orchestrator"]),
        ];
        let found = parts(&pods);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0].rights,
            rights::of_operator("x-operator", false, Some("x"))
        );
        assert_eq!(
            found[1].rights,
            rights::of_elect("x", &["x-0".into(), "x-1".into()])
        );
        assert_eq!(
            (found[0].account.as_str(), found[1].account.as_str()),
            ("op", "or")
        );
    }
}
