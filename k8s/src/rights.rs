//! What each part has to be allowed, and whether it is. The chart's roles grant it; a test holds both together.

use std::fmt;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, ResourceRule, SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
    SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};

use crate::{
    GROUP,
    cluster::{Error, doing},
};

/// Something that may be done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    name: Option<String>,
    is_namespaced: bool,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        match &self.name {
            Some(name) => write!(f, " {name}"),
            None => Ok(()),
        }
    }
}

fn rights<'a>(
    group: &'static str,
    resource: &'static str,
    name: Option<&'a str>,
    verbs: &'a [&'static str],
) -> impl Iterator<Item = Right> + 'a {
    verbs.iter().map(move |verb| Right {
        verb,
        group,
        resource,
        name: name.map(str::to_owned),
        is_namespaced: true,
    })
}

fn lease(name: &str) -> impl Iterator<Item = Right> {
    let group = "coordination.k8s.io";
    rights(group, "leases", None, &["create"]).chain(rights(
        group,
        "leases",
        Some(name),
        &["get", "update"],
    ))
}

/// What an operator with this Lease has to be allowed; `service` is the one whose address outside it looks up.
#[must_use]
pub fn of_operator(own_lease: &str, watches_nodes: bool, service: Option<&str>) -> Vec<Right> {
    let mut all: Vec<Right> = lease(own_lease).collect();
    all.extend(rights(
        GROUP,
        "edgemodels",
        None,
        &["list", "watch", "patch"],
    ));
    let verbs = ["list", "watch", "create", "patch", "delete"];
    all.extend(rights(GROUP, "edgenodes", None, &verbs));
    all.extend(rights(GROUP, "edgemodels/status", None, &["patch"]));
    all.extend(rights(GROUP, "edgenodes/status", None, &["patch"]));
    all.extend(rights(
        "events.k8s.io",
        "events",
        None,
        &["create", "patch"],
    ));
    all.extend(rights("batch", "jobs", None, &verbs));
    if watches_nodes {
        let nodes = rights("", "nodes", None, &["list", "watch", "patch"]);
        all.extend(nodes.map(|right| Right {
            is_namespaced: false,
            ..right
        }));
    }
    if let Some(service) = service {
        all.extend(rights("", "services", Some(service), &["get"]));
    }
    all
}

/// What an orchestrator with a standby has to be allowed: its Lease, and the label of the pods that may lead.
#[must_use]
pub fn of_elect(own_lease: &str, pods: &[String]) -> Vec<Right> {
    let pods = pods
        .iter()
        .flat_map(|pod| rights("", "pods", Some(pod), &["patch"]));
    lease(own_lease).chain(pods).collect()
}

/// Which of these rights an account lacks, as whoever authorises says. Who may not ask that gets [`Error::Api`].
///
/// # Errors
/// [`Error::Api`].
pub async fn missing(
    client: &Client,
    namespace: &str,
    account: &str,
    wanted: &[Right],
) -> Result<Vec<Right>, Error> {
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let mut missing = Vec::new();
    for right in wanted {
        let (resource, sub) = parts(right.resource);
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(format!("system:serviceaccount:{namespace}:{account}")),
                groups: Some(vec![
                    "system:serviceaccounts".into(),
                    format!("system:serviceaccounts:{namespace}"),
                    "system:authenticated".into(),
                ]),
                resource_attributes: Some(ResourceAttributes {
                    namespace: right.is_namespaced.then(|| namespace.to_owned()),
                    verb: Some(right.verb.to_owned()),
                    group: Some(right.group.to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource: sub.map(str::to_owned),
                    name: right.name.clone(),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = api.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(doing("ask what another account may do"))?;
        if !answer.status.is_some_and(|status| status.allowed) {
            missing.push(right.clone());
        }
    }
    Ok(missing)
}

/// Which of these rights whoever asks lacks, by the rules that hold for them in a namespace.
///
/// # Errors
/// [`Error::Api`].
pub async fn missing_of_own(
    client: &Client,
    namespace: &str,
    wanted: &[Right],
) -> Result<Vec<Right>, Error> {
    let api: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.to_owned()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let answer = api.create(&PostParams::default(), &review).await;
    let answer = answer.map_err(doing("ask what this account may do"))?;
    let rules = answer.status.map(|status| status.resource_rules);
    let rules = rules.unwrap_or_default();
    let lacks = |right: &&Right| !rules.iter().any(|rule| grants(rule, right));
    Ok(wanted.iter().filter(lacks).cloned().collect())
}

fn parts(resource: &str) -> (&str, Option<&str>) {
    match resource.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub)),
        None => (resource, None),
    }
}

fn grants(rule: &ResourceRule, right: &Right) -> bool {
    let has = |list: &[String], word: &str| list.iter().any(|one| one == "*" || one == word);
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let (_, sub) = parts(right.resource);
    let resources = list(&rule.resources);
    let any_with = sub.map(|sub| format!("*/{sub}"));
    let names = list(&rule.resource_names);
    has(&rule.verbs, right.verb)
        && has(&list(&rule.api_groups), right.group)
        && (has(&resources, right.resource) || any_with.is_some_and(|any| resources.contains(&any)))
        && (names.is_empty() || right.name.as_ref().is_some_and(|name| has(&names, name)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Rules of the roles in the rendered chart, as `group resource name verb`.
    fn granted(role: &str) -> BTreeSet<String> {
        let chart = include_str!("../../charts/snapshots/extreme.yaml");
        let mut found = BTreeSet::new();
        for document in chart.split("\n---\n") {
            let is_role =
                document.contains("\nkind: Role\n") || document.contains("\nkind: ClusterRole\n");
            if !is_role || !document.contains(&format!("-{role}\n")) {
                continue;
            }
            for rule in document.split("- apiGroups: ").skip(1) {
                let list = |text: &str| {
                    let inner = text.split(']').next().unwrap().trim_start_matches('[');
                    let words = inner
                        .split(", ")
                        .map(|word| word.trim_matches('"').to_owned());
                    words.collect::<Vec<_>>()
                };
                let of = |key: &str| rule.split(&format!("{key}: ")).nth(1).map(list);
                for group in list(rule) {
                    for resource in of("resources").unwrap() {
                        for name in of("resourceNames").unwrap_or_else(|| vec![String::new()]) {
                            for verb in of("verbs").unwrap() {
                                found.insert(format!("{group} {resource} {name} {verb}"));
                            }
                        }
                    }
                }
            }
        }
        found
    }

    fn wanted(rights: &[Right]) -> BTreeSet<String> {
        let text = |right: &Right| {
            let name = right.name.clone().unwrap_or_default();
            format!("{} {} {name} {}", right.group, right.resource, right.verb)
        };
        rights.iter().map(text).collect()
    }

    #[test]
    fn what_is_asked_about_is_what_the_chart_grants() {
        let operator = wanted(&of_operator("edge-ai-operator", true, Some("edge-ai")));
        assert_eq!(operator, granted("operator"));
        let pods = [
            "edge-ai-orchestrator-0".to_owned(),
            "edge-ai-orchestrator-1".to_owned(),
        ];
        let elect = wanted(&of_elect("edge-ai-orchestrator", &pods));
        assert_eq!(elect, granted("orchestrator"));
    }

    #[test]
    fn a_rule_grants_what_it_says() {
        let rule = |groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str]| {
            let list = |words: &[&str]| {
                words
                    .iter()
                    .map(|word| (*word).to_owned())
                    .collect::<Vec<_>>()
            };
            ResourceRule {
                api_groups: Some(list(groups)),
                resources: Some(list(resources)),
                resource_names: Some(list(names)),
                verbs: list(verbs),
            }
        };
        let operator = of_operator("own", true, None);
        let right = |text: &str| {
            operator
                .iter()
                .find(|right| right.to_string() == text)
                .unwrap()
        };
        assert!(grants(
            &rule(&["*"], &["*"], &[], &["*"]),
            right("patch nodes")
        ));
        assert!(grants(
            &rule(&[""], &["nodes"], &[], &["get", "patch"]),
            right("patch nodes")
        ));
        assert!(!grants(
            &rule(&["batch"], &["nodes"], &[], &["patch"]),
            right("patch nodes")
        ));
        assert!(grants(
            &rule(&[GROUP], &["*/status"], &[], &["patch"]),
            right("patch edgenodes/status")
        ));
        assert!(!grants(
            &rule(&[GROUP], &["edgenodes"], &[], &["patch"]),
            right("patch edgenodes/status")
        ));
        let leases = |names: &[&str]| {
            rule(
                &["coordination.k8s.io"],
                &["leases"],
                names,
                &["get", "create"],
            )
        };
        assert!(grants(&leases(&["own"]), right("get leases own")));
        assert!(!grants(&leases(&["other"]), right("get leases own")));
        assert!(!grants(&leases(&["own"]), right("create leases")));
    }
}
