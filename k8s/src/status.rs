//! The status of an EdgeModel from what is seen of it. Pure.

use crate::{
    center::{Phase, Seen, SeenArm, SeenModel},
    conditions::Said,
    decide::Settings,
    model::{EdgeModel, EdgeModelStatus, Endpoint, FragmentPlace},
};

/// Reason of whatever cannot be known while the orchestrator cannot be reached.
pub const UNREACHABLE: &str = "OrchestratorUnreachable";
/// What to do about that.
pub const REMEDY: &str = "kubectl get pods shows the orchestrator's";

/// Everything but the conditions.
#[must_use]
pub fn facts(
    model: &EdgeModel,
    seen: &Seen,
    settings: &Settings,
    outside: &[String],
) -> EdgeModelStatus {
    let name = model.served_name();
    let found = seen.models.iter().find(|one| one.name == name);
    let mut status = EdgeModelStatus {
        plan_generation: Some(signed(seen.generation)),
        ..EdgeModelStatus::default()
    };
    let Some(found) = found else { return status };
    let arms: Vec<&SeenArm> = found.arms.iter().filter(|arm| arm.available).collect();
    status.arms = arms
        .iter()
        .map(|arm| arm.name.as_str())
        .collect::<Vec<_>>()
        .join(",");
    for arm in &found.arms {
        for hop in &arm.hops {
            let place = FragmentPlace {
                node: hop.node.clone(),
                arm: arm.name.clone(),
                fragment: hop.fragment.clone(),
                memory_bytes: signed(hop.memory_bytes),
                service_micros: signed(hop.service_micros),
            };
            if !status.fragments.contains(&place) {
                status.fragments.push(place);
            }
        }
    }
    let mut nodes: Vec<&str> = status
        .fragments
        .iter()
        .map(|place| place.node.as_str())
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    status.nodes = i32::try_from(nodes.len()).unwrap_or(i32::MAX);
    let fastest = arms.iter().map(|arm| arm.predicted_micros).min();
    status.predicted = fastest.map_or_else(String::new, millis);
    let known: Vec<f64> = arms
        .iter()
        .map(|arm| arm.accuracy)
        .filter(|a| *a > 0.0)
        .collect();
    if let Some(least) = known.iter().copied().reduce(f64::min) {
        let best = known.iter().copied().fold(least, f64::max);
        status.accuracy = if best - least < 0.000_05 {
            percent(best)
        } else {
            format!("{} – {}", percent(least), percent(best))
        };
    }
    let promised = model
        .spec
        .sla
        .as_ref()
        .map_or(found.default_sla_micros, |sla| {
            u64::from(sla.milliseconds) * 1000
        });
    status.sla = match found.held {
        Some(held) => format!("{} of {}", percent(held), millis(promised)),
        None => millis(promised),
    };
    if let Some((answered, lost)) = found.ended
        && 0 < answered + lost
    {
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        let share = lost as f64 / (answered + lost) as f64;
        status.loss = percent(share);
    }
    if found.phase == Phase::Ready {
        status.endpoints = endpoints(name, settings, outside);
    }
    status
}

/// How to ask for a model: from inside the cluster first, then at the load balancer's addresses, then through a proxy.
fn endpoints(name: &str, settings: &Settings, outside: &[String]) -> Vec<Endpoint> {
    let ways = [
        ("grpc", &settings.public_grpc),
        ("http", &settings.public_http),
    ];
    let endpoint = |protocol: &str, address: String, tls: bool, external: bool| Endpoint {
        protocol: protocol.into(),
        address: match (protocol, tls) {
            ("http", true) => format!("https://{address}/v2/models/{name}"),
            ("http", false) => format!("http://{address}/v2/models/{name}"),
            _ => address,
        },
        model: name.into(),
        tls,
        external,
    };
    let known = ways.iter().filter(|(_, address)| !address.is_empty());
    let inside = known
        .clone()
        .map(|(protocol, address)| endpoint(protocol, (*address).clone(), settings.tls, false));
    let balanced = outside.iter().flat_map(|host| {
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        known.clone().filter_map(move |(protocol, address)| {
            let (_, port) = address.rsplit_once(':')?;
            Some(endpoint(
                protocol,
                format!("{host}:{port}"),
                settings.tls,
                true,
            ))
        })
    });
    let routed = settings.route.iter().flat_map(|route| {
        ways.iter()
            .map(|(protocol, _)| endpoint(protocol, route.clone(), true, true))
    });
    inside.chain(balanced).chain(routed).collect()
}

/// Whether the plan has the model where it may be.
#[must_use]
pub fn placed(found: &SeenModel, allowed: Option<&[String]>) -> Said {
    let arms: Vec<&SeenArm> = found.arms.iter().filter(|arm| arm.available).collect();
    if arms.is_empty() {
        return not_placed(found);
    }
    if let Some(allowed) = allowed {
        let stray: Vec<&str> = found
            .arms
            .iter()
            .flat_map(|arm| &arm.hops)
            .map(|hop| hop.node.as_str())
            .filter(|node| !allowed.iter().any(|one| one == node))
            .collect();
        if let Some(first) = stray.first() {
            return Said::no(
                "Placed",
                "OutsidePlacement",
                format!(
                    "a fragment is on {first}, which spec.placement does not allow; the next plan moves it. \
                     If it stays, the condition Accepted says what the orchestrator does not carry out: \
                     allow the node, or take its worker away with kubectl cordon"
                ),
            );
        }
    }
    let names: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
    Said::yes(
        "Placed",
        "Placed",
        format!("arms that can answer: {}", names.join(", ")),
    )
}

/// Why nothing of the model can answer: nodes of its arms are lost, no arm has found a place, or nobody has looked for
/// one yet.
fn not_placed(found: &SeenModel) -> Said {
    let lost: Vec<&str> = found.arms.iter().map(|arm| arm.name.as_str()).collect();
    if !lost.is_empty() {
        let why = format!(
            "every arm ({}) has a node that is lost; kubectl get edgenodes says which. Bring it back or add one",
            lost.join(", ")
        );
        return Said::no("Placed", "NodesLost", why);
    }
    if found.is_unplaced {
        return Said::no("Placed", "DoesNotFit", &found.reason);
    }
    let why = match found.reason.as_str() {
        "" => "no plan has this model yet",
        reason => reason,
    };
    let why = format!(
        "{why}; if that stays so, kubectl get edgenodes shows whether any node is alive and has memory left"
    );
    Said::no("Placed", "NoPlan", why)
}

/// Whether the promise is kept, or can be.
#[must_use]
pub fn promise_kept(model: &EdgeModel, found: &SeenModel) -> Said {
    let Some(sla) = &model.spec.sla else {
        return Said::yes(
            "PromiseKept",
            "NoPromise",
            "spec.sla promises nothing of its own",
        );
    };
    let promised = u64::from(sla.milliseconds) * 1000;
    let fastest = found
        .arms
        .iter()
        .filter(|arm| arm.available)
        .min_by_key(|arm| arm.predicted_micros);
    let Some(fastest) = fastest else {
        let why = "nothing can answer now; the condition Placed says why and what to do";
        return Said::unknown("PromiseKept", "NotServed", why);
    };
    if let Some(held) = found.held {
        let text = format!(
            "{} of the answers are within {}",
            percent(held),
            millis(promised)
        );
        return if held < sla.share {
            let wanted = percent(sla.share);
            Said::no(
                "PromiseKept",
                "Missed",
                format!(
                    "{text}, {wanted} are wanted; add a node, allow more variants, or promise more time"
                ),
            )
        } else {
            Said::yes("PromiseKept", "Held", text)
        };
    }
    let predicted = format!(
        "{}, is predicted to take {}",
        fastest.name,
        millis(fastest.predicted_micros)
    );
    if promised < fastest.predicted_micros {
        let why = format!(
            "the fastest arm, {predicted}, {} is promised; add a faster node, allow more variants, or promise more \
             time",
            millis(promised)
        );
        return Said::no("PromiseKept", "OutOfReach", why);
    }
    let why = format!("the fastest arm, {predicted}");
    Said::yes("PromiseKept", "WithinReach", why)
}

/// A number that the API keeps signed.
#[must_use]
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Microseconds as milliseconds, for people.
#[must_use]
pub fn millis(micros: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let ms = micros as f64 / 1e3;
    match ms {
        ms if ms < 10.0 => format!("{ms:.1}ms"),
        ms if ms < 10_000.0 => format!("{ms:.0}ms"),
        ms => format!("{:.0}s", ms / 1e3),
    }
}

/// A share, for people.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Bytes, for people, in powers of two as Kubernetes counts.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 {
        format!("{mib:.0}Mi")
    } else {
        format!("{:.1}Gi", mib / 1024.0)
    }
}
