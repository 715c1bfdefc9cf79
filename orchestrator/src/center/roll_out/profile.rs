//! Measuring segments that never ran, before anything is planned, and what workers tell of what they measured.

use std::{collections::BTreeSet, sync::Arc};

use splitplace_fleet::NodeId;
use splitplace_plan::FragmentId;
use splitplace_proto::control::{FragmentSpec, FragmentStatus, Profile};

use super::{super::Inner, Observation, Start};
use crate::{catalog::profile_plan, measured::ServiceTime};

/// How many times the runs at loading a worker has to remember for the rest to be requests, near enough.
const KEPT: u64 = 4;

/// Runs every segment of models that were never measured, one after another, on the fastest node.
#[tracing::instrument(skip_all, name = "measure")]
pub(super) async fn profile(inner: &Arc<Inner>, start: &mut Start) -> Vec<Observation> {
    let runs = inner.config.planning.profile_runs;
    let mut observations = Vec::new();
    let fastest = start
        .snapshot
        .alive()
        .max_by(|a, b| a.macs_per_second.total_cmp(&b.macs_per_second))
        .cloned();
    let (Some(node), true) = (fastest, runs > 0) else {
        return observations;
    };
    for (number, served) in (1u64..).zip(&start.models) {
        let (loaded, measured) = (Arc::clone(&served.loaded), start.measured.clone());
        let work = move || profile_plan(&loaded, &measured);
        let wanted = match tokio::task::spawn_blocking(work).await {
            Ok(Ok(wanted)) if !wanted.is_empty() => wanted,
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => {
                tracing::warn!(code = "SP403", model = %served.name, %error, "cannot be measured; estimates are computed");
                continue;
            }
            Err(error) => {
                tracing::warn!(code = "SP403", model = %served.name, %error, "cannot be measured; estimates are computed");
                continue;
            }
        };
        let specs = wanted.iter().map(|profiled| FragmentSpec {
            id: profiled.fragment.id.0.to_vec().into(),
            label: profiled.label.clone(),
            size_bytes: profiled.fragment.onnx.len() as u64,
            queue_limit: 1,
            threads: 1,
        });
        let request = Profile {
            id: number,
            fragments: specs.collect(),
            runs,
        };
        let lent: Vec<FragmentId> = wanted.iter().map(|p| p.fragment.id).collect();
        {
            let mut held = inner.fragments.held.write();
            held.extend(wanted.into_iter().map(|p| (p.fragment.id, p.fragment)));
        }
        let answer = match inner.sessions.profile(&node.id, request) {
            Ok(answer) => tokio::time::timeout(inner.load_timeout(), answer).await,
            Err(_) => break,
        };
        match answer {
            Ok(Ok(Ok(statuses))) => {
                inner.profiled(&node.id, &statuses);
                for observed in statuses
                    .iter()
                    .filter_map(|status| observation(&node.id, status))
                {
                    observed.learn(&mut start.measured, &node);
                    observations.push(observed);
                }
            }
            Ok(Ok(Err(refused))) => {
                let reason = refused.reason;
                tracing::warn!(code = "SP403", model = %served.name, node = %node.id, reason, "could not be measured");
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(code = "SP403", model = %served.name, node = %node.id, "measuring did not end");
            }
        }
        let in_force: BTreeSet<FragmentId> = start
            .parent
            .routes()
            .flat_map(|r| &r.hops)
            .map(|h| h.fragment)
            .collect();
        let mut held = inner.fragments.held.write();
        for id in lent {
            if !in_force.contains(&id) {
                held.remove(&id);
            }
        }
    }
    observations
}

pub(super) fn observation(node: &NodeId, status: &FragmentStatus) -> Option<Observation> {
    let fragment = FragmentId::from_slice(&status.id)?;
    let service = status.service.as_ref().and_then(ServiceTime::told);
    let memory_bytes = (status.memory_bytes > 0).then_some(status.memory_bytes);
    let mut points = status.profile.iter();
    let one = points.find(|point| (point.batch, point.threads) == (1, 1));
    // The runs by which it was measured just now are among them, and are no requests.
    let fresh = status.service.as_ref().map_or(0, |fresh| fresh.count);
    let kept = one.and_then(|point| point.service.as_ref());
    let kept = kept.filter(|kept| KEPT * fresh < kept.count);
    let kept = kept.and_then(ServiceTime::told);
    Some(Observation {
        node: node.clone(),
        fragment,
        service,
        kept,
        memory_bytes,
    })
}
