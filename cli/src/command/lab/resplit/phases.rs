//! What is done to a fleet and what is seen of it: uplinks that fall under load, and plans that are told of them.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use splitplace_orchestrator::face::Face as _;
use splitplace_proto::center::{PlanEvent, PlanResponse, PlannedArm};

use super::{
    Resplit, SETTLED, SLA,
    fleet::{Served, Stage, links},
};
use crate::load::engine::Outcome;

/// Requests between two looks at the plan while it is waited for, and batches after it has followed.
const BATCH: u64 = 10;
const AFTER: u32 = 6;
/// Longest wait for it.
const PATIENCE: Duration = Duration::from_secs(180);

/// One phase as it ran, with the static plan beside it.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Phase {
    pub(super) mbit: f64,
    pub(super) requests: usize,
    pub(super) lost: usize,
    /// Where everything ran at the end of the phase.
    pub(super) way: String,
    pub(super) cuts: Vec<u32>,
    pub(super) bytes_between: u64,
    /// What the plan was predicted to take when it came into force: the mean, by the orchestrator's clock.
    pub(super) predicted_ms: f64,
    /// Mean by the orchestrator's clock, median and 95th percentile by the client's, of what was sent once settled.
    pub(super) mean_ms: f64,
    pub(super) p50_ms: f64,
    pub(super) p95_ms: f64,
    /// Share by which the mean differs from what was predicted.
    pub(super) off: f64,
    /// Plans that came into force, and when the first and the last did, after the phase began.
    pub(super) adopted: usize,
    pub(super) first_s: Option<f64>,
    pub(super) last_s: Option<f64>,
    /// Why.
    pub(super) said: Vec<String>,
    /// Bytes of fragments that were sent for them.
    pub(super) sent_bytes: u64,
    pub(super) fixed: Option<Static>,
    /// p95 over that of the static plan.
    pub(super) over_static: Option<f64>,
    /// Of every answer the seconds into the phase, and its milliseconds by the client's clock and the orchestrator's.
    pub(super) answers: Vec<[f64; 3]>,
}

/// A plan that was told the rate, under the same requests.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Static {
    pub(super) way: String,
    pub(super) predicted_ms: f64,
    pub(super) p50_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) lost: usize,
}

/// Sends the requests of all phases in a row and slows the uplink as they begin.
pub(super) async fn live(
    stage: &Stage,
    args: &Resplit,
    instants: &[Vec<f64>],
    seed: u64,
) -> anyhow::Result<Vec<Phase>> {
    let first = *args.rates.first().context("--rates needs a phase")?;
    let served = Served::start(stage, args, first, false, seed).await?;
    let before = served.plan().await?.events.len();
    let mut trace = Vec::new();
    for (number, phase) in instants.iter().enumerate() {
        let begins = super::super::real(number) * args.phase;
        trace.extend(phase.iter().map(|at| begins + at));
    }
    let mut phases: Vec<Phase> = args
        .rates
        .iter()
        .map(|&mbit| Phase {
            mbit,
            ..Phase::default()
        })
        .collect();
    // Of each phase the plan that was in force at its end, as it was seen when it came into force.
    let mut ends: Vec<PlanResponse> = Vec::new();
    let mut begins_ms = Vec::new();
    let slow = async {
        let mut changes = served.fleet.center().changes();
        let mut in_force = served.explained().await?;
        for &rate in &args.rates {
            begins_ms.push(unix_ms());
            served.fleet.center().reshape(links(args, rate));
            let until = tokio::time::Instant::now() + Duration::from_secs_f64(args.phase);
            while let Ok(changed) = tokio::time::timeout_at(until, changes.changed()).await {
                changed?;
                if served.plan().await?.generation != in_force.generation {
                    in_force = served.explained().await?;
                }
            }
            ends.push(in_force.clone());
        }
        anyhow::Ok(())
    };
    let send = async {
        let mode = served.trial.at(&trace, seed)?;
        let phase_of = |at: Duration| at.as_secs_f64() / args.phase;
        served
            .trial
            .run(mode, SLA, u64::MAX, |outcome| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a phase's number"
                )]
                let number = phase_of(outcome.intended) as usize;
                if let Some(phase) = phases.get_mut(number) {
                    let into =
                        outcome.intended.as_secs_f64() - super::super::real(number) * args.phase;
                    note(phase, into, &outcome);
                }
            })
            .await;
        anyhow::Ok(())
    };
    let (slowed, sent) = tokio::join!(slow, send);
    slowed?;
    sent?;
    let events: Vec<PlanEvent> = served.plan().await?.events.split_off(before);
    served.fleet.stop().await;
    for (number, (phase, end)) in phases.iter_mut().zip(&ends).enumerate() {
        settle(phase, end, SETTLED.as_secs_f64());
        let begins = begins_ms.get(number).copied().unwrap_or(0);
        let ends = begins_ms.get(number + 1).copied().unwrap_or(u64::MAX);
        let within = events
            .iter()
            .filter(|event| begins <= event.unix_ms && event.unix_ms < ends);
        for event in within {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of a phase")]
            let at = (event.unix_ms - begins) as f64 / 1e3;
            phase.first_s.get_or_insert(at);
            phase.last_s = Some(at);
            phase.adopted += 1;
            phase.sent_bytes += event.sent_bytes;
            phase.said.push(event.said.clone());
        }
    }
    Ok(phases)
}

/// Phases that end when the split has followed.
pub(super) async fn follow(stage: &Stage, args: &Resplit, seed: u64) -> anyhow::Result<Vec<Phase>> {
    let first = *args.rates.first().context("--rates needs a phase")?;
    let served = Served::start(stage, args, first, false, seed).await?;
    let mut phases = Vec::new();
    let mut last = first;
    for &mbit in &args.rates {
        let before = served.plan().await?;
        served.fleet.center().reshape(links(args, mbit));
        let began = tokio::time::Instant::now();
        let mut phase = Phase {
            mbit,
            ..Phase::default()
        };
        // Where nothing changes nothing has to be followed.
        let mut is_followed = mbit.total_cmp(&last).is_eq();
        let (mut left, mut since) = (AFTER, 0.0);
        let end = loop {
            let clients = served.trial.closed(1, seed);
            let into = began.elapsed().as_secs_f64();
            served
                .trial
                .run(clients, SLA, BATCH, |outcome| {
                    note(&mut phase, into + outcome.intended.as_secs_f64(), &outcome);
                })
                .await;
            let now = served.plan().await?;
            if !is_followed && ways(&now) != ways(&before) {
                is_followed = true;
                since = began.elapsed().as_secs_f64();
            }
            left -= u32::from(is_followed);
            if left == 0 || PATIENCE < began.elapsed() {
                break served.explained().await?;
            }
        };
        settle(&mut phase, &end, since);
        for event in &end.events[before.events.len()..] {
            phase.adopted += 1;
            phase.sent_bytes += event.sent_bytes;
            phase.said.push(event.said.clone());
        }
        phases.push(phase);
        last = mbit;
    }
    served.fleet.stop().await;
    Ok(phases)
}

/// Where everything runs.
fn ways(plan: &PlanResponse) -> Vec<(&str, &str)> {
    let arms = plan.models.iter().flat_map(|model| &model.arms);
    arms.map(|arm| (&arm.arm[..], &arm.way[..])).collect()
}

/// The requests of one phase on a fleet that is told the rate.
pub(super) async fn fixed(
    stage: &Stage,
    args: &Resplit,
    mbit: f64,
    instants: &[f64],
    seed: u64,
) -> anyhow::Result<Static> {
    let served = Served::start(stage, args, mbit, true, seed).await?;
    let mut phase = Phase::default();
    let mode = served.trial.at(instants, seed)?;
    served
        .trial
        .run(mode, SLA, u64::MAX, |outcome| {
            let into = outcome.intended.as_secs_f64();
            note(&mut phase, into, &outcome);
        })
        .await;
    settle(
        &mut phase,
        &served.explained().await?,
        SETTLED.as_secs_f64(),
    );
    served.fleet.stop().await;
    Ok(Static {
        way: phase.way,
        predicted_ms: phase.predicted_ms,
        p50_ms: phase.p50_ms,
        p95_ms: phase.p95_ms,
        lost: phase.lost,
    })
}

fn note(phase: &mut Phase, into: f64, outcome: &Outcome) {
    phase.requests += 1;
    match &outcome.result {
        Ok(answer) => {
            let latency = outcome.latency();
            let response = answer.response.unwrap_or(latency);
            let [client, centre] = [latency, response].map(|time| time.as_secs_f64() * 1e3);
            phase.answers.push([into, client, centre]);
        }
        Err(refused) => {
            phase.lost += 1;
            tracing::warn!(code = "SP309", why = refused.message, "a request was lost");
        }
    }
}

/// What a plan says that was in force at the end of a phase, and what was sent from so many seconds into it on.
fn settle(phase: &mut Phase, end: &PlanResponse, since: f64) {
    let settled = phase.answers.iter().filter(|[into, ..]| since <= *into);
    let (mut times, centre): (Vec<f64>, Vec<f64>) =
        settled.map(|&[_, client, centre]| (client, centre)).unzip();
    times.sort_by(f64::total_cmp);
    (phase.p50_ms, phase.p95_ms) = (quantile(&times, 0.5), quantile(&times, 0.95));
    phase.mean_ms = centre.iter().sum::<f64>() / super::super::real(centre.len().max(1));
    let arms = end.models.iter().flat_map(|model| &model.arms);
    // With what waits at the load that was seen then.
    let expected = |arm: &PlannedArm| {
        let now = arm.why.as_ref().map(|why| why.expected_us);
        now.unwrap_or(arm.predicted_us)
    };
    // The one that promises most is the one that is taken.
    if let Some(arm) = arms.min_by_key(|arm| expected(arm)) {
        phase.way.clone_from(&arm.way);
        phase.cuts.clone_from(&arm.cuts);
        phase.bytes_between = arm.bytes_between;
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a request")]
        let predicted = expected(arm) as f64 / 1e3;
        phase.predicted_ms = predicted;
        phase.off = (phase.mean_ms / predicted - 1.0).abs();
    }
}

/// Of sorted values; 0 of none.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let place = (share * super::super::real(last)).round() as usize;
    sorted[place.min(last)]
}

fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
