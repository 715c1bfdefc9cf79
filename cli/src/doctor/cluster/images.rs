//! Whether nodes have the images that the release asks for: the very tag or digest, and the same bytes under one tag.

use std::collections::{BTreeMap, BTreeSet};

use splitplace_k8s::look::{NodeFacts, PodFacts};

use crate::doctor::Finding;

/// What nodes have, against what pods ask for. Nothing is said when there are no pods.
pub(super) fn on(nodes: &[NodeFacts], pods: &[PodFacts]) -> Vec<Finding> {
    let asked: BTreeSet<&str> = pods
        .iter()
        .flat_map(|pod| pod.images.iter().map(|(asked, _)| asked.as_str()))
        .filter(|asked| !asked.is_empty())
        .collect();
    let mut findings: Vec<Finding> = nodes
        .iter()
        .flat_map(|node| asked.iter().map(move |asked| has(node, asked, pods)))
        .collect();
    findings.extend(asked.iter().filter_map(|asked| same(asked, nodes, pods)));
    findings
}

fn has(node: &NodeFacts, asked: &str, pods: &[PodFacts]) -> Finding {
    let what = format!("image on {}", node.name);
    let wanted = full(asked);
    // A kubelet lists its fifty largest images only; what a pod runs from is there, listed or not.
    let runs = pods.iter().any(|pod| {
        let mut images = pod.images.iter();
        pod.node == node.name && images.any(|(one, found)| one == asked && !found.is_empty())
    });
    if runs || node.images.iter().any(|name| full(name) == wanted) {
        return Finding::good(&what, format!("{asked} is there"));
    }
    let repository = repository(&wanted);
    let others = node.images.iter().map(|name| full(name));
    let others: Vec<String> = others
        .filter(|name| self::repository(name) == repository)
        .collect();
    let mend = format!(
        "without internet: copy the image's archive to /var/lib/rancher/k3s/agent/images/ on {}, or k3s ctr images import \
         there; docs/kubernetes-air-gap.md",
        node.name
    );
    if others.is_empty() {
        let seen = format!("{asked} is not seen (a kubelet lists its fifty largest images)");
        return Finding::doubt(&what, seen, mend);
    }
    Finding::doubt(
        &what,
        format!("{asked} is not seen, but {}", others.join(", ")),
        mend,
    )
}

/// Whether pods on nodes of one architecture run from different bytes under one name.
fn same(asked: &str, nodes: &[NodeFacts], pods: &[PodFacts]) -> Option<Finding> {
    let arches: BTreeMap<&str, &str> = nodes
        .iter()
        .map(|node| (node.name.as_str(), node.arch.as_str()))
        .collect();
    let mut found: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for pod in pods {
        let arch = arches.get(pod.node.as_str()).copied().unwrap_or_default();
        for (_, id) in pod
            .images
            .iter()
            .filter(|(one, id)| one == asked && !id.is_empty())
        {
            found.entry(arch).or_default().insert(digest(id), &pod.node);
        }
    }
    let unequal = found.into_values().find(|ids| 1 < ids.len())?;
    let list: Vec<String> = unequal
        .iter()
        .map(|(id, node)| format!("{node}: {id}"))
        .collect();
    Some(Finding::bad(
        "image",
        format!("{asked} is not the same everywhere: {}", list.join(", ")),
        "bring the same archive to every node, then delete the pods; or name the image by image.digest",
    ))
}

/// What identifies an image's bytes, without where they came from.
fn digest(id: &str) -> &str {
    id.rsplit_once('@').map_or(id, |(_, digest)| digest)
}

/// A name as container runtimes keep it: with registry, and tag or digest.
fn full(name: &str) -> String {
    let (place, digest) = match name.split_once('@') {
        Some((place, digest)) => (place, Some(digest)),
        None => (name, None),
    };
    let first = place.split('/').next().unwrap_or_default();
    let has_registry = place.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let place = match (has_registry, place.contains('/')) {
        (true, _) => place.to_owned(),
        (false, true) => format!("docker.io/{place}"),
        (false, false) => format!("docker.io/library/{place}"),
    };
    let repository = repository(&place);
    match digest {
        // A digest says more than a tag beside it.
        Some(digest) => format!("{repository}@{digest}"),
        None if repository.len() == place.len() => format!("{place}:latest"),
        None => place,
    }
}

/// Without tag and digest.
fn repository(name: &str) -> &str {
    let place = name.split('@').next().unwrap_or_default();
    let name_begins = place.rfind('/').map_or(0, |at| at + 1);
    let end = place[name_begins..]
        .find(':')
        .map_or(place.len(), |at| name_begins + at);
    &place[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn names_are_those_that_runtimes_keep() {
        for (short, long) in [
            ("splitplace:0.1.0", "docker.io/library/splitplace:0.1.0"),
            ("me/splitplace", "docker.io/me/splitplace:latest"),
            (
                "registry.local:5000/splitplace:1",
                "registry.local:5000/splitplace:1",
            ),
            (
                "registry.local:5000/splitplace",
                "registry.local:5000/splitplace:latest",
            ),
            (
                "splitplace:1@sha256:aa",
                "docker.io/library/splitplace@sha256:aa",
            ),
        ] {
            assert_eq!(full(short), long);
        }
    }

    fn node(name: &str, images: &[&str]) -> NodeFacts {
        NodeFacts {
            name: name.into(),
            arch: "arm64".into(),
            images: images.iter().map(|one| (*one).to_owned()).collect(),
            ..NodeFacts::default()
        }
    }

    fn pod(node: &str, asked: &str, found: &str) -> PodFacts {
        PodFacts {
            node: node.into(),
            images: vec![(asked.into(), found.into())],
            ..PodFacts::default()
        }
    }

    #[test]
    fn the_very_tag_or_digest_counts_and_another_one_is_named() {
        let level = |images: &[&str], asked: &str| {
            let found = on(&[node("attic", images)], &[pod("", asked, "")]);
            (found[0].level, found[0].seen.clone())
        };
        let have = [
            "docker.io/library/splitplace:0.0.9",
            "docker.io/library/splitplace@sha256:aa",
        ];
        assert_eq!(level(&have, "splitplace@sha256:aa").0, Level::Good);
        assert_eq!(level(&have, "splitplace:0.0.9").0, Level::Good);
        let (is, seen) = level(&have, "splitplace:0.1.0");
        assert!(is == Level::Doubt && seen.contains("0.0.9"), "{seen}");
        // A name that only contains ours is another.
        assert_eq!(
            level(
                &["docker.io/library/not-splitplace:0.1.0"],
                "splitplace:0.1.0"
            )
            .0,
            Level::Doubt
        );
        // What runs is there.
        let found = on(
            &[node("attic", &[])],
            &[pod("attic", "splitplace:1", "sha256:aa")],
        );
        assert_eq!(found[0].level, Level::Good);
        assert!(on(&[node("attic", &[])], &[]).is_empty());
    }

    #[test]
    fn one_tag_with_two_contents_is_bad_unless_the_architectures_differ() {
        let mut nodes = [node("attic", &[]), node("cellar", &[])];
        let pods = [
            pod("attic", "s:1", "docker.io/s@sha256:aa"),
            pod("cellar", "s:1", "r.local/s@sha256:bb"),
        ];
        assert!(
            on(&nodes, &pods)
                .iter()
                .any(|one| one.level == Level::Bad && one.seen.contains("cellar"))
        );
        let alike = [pods[0].clone(), pod("cellar", "s:1", "r.local/s@sha256:aa")];
        assert!(
            on(&nodes, &alike)
                .iter()
                .all(|one| one.level == Level::Good)
        );
        nodes[1].arch = "amd64".into();
        assert!(on(&nodes, &pods).iter().all(|one| one.level == Level::Good));
    }
}
