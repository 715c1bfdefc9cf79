//! From what came back to what the client is told.

use std::time::Duration;

use splitplace_brain::{Decision, Report};
use splitplace_codec::Codec;
use splitplace_lifecycle::{Ending, RequestId};
use splitplace_plan::ArmPlan;

use super::{
    flow::{Part, Waiting},
    merge,
};
use crate::{
    face::{Answer, AskError, HopRecord},
    store::DecisionRecord,
};

/// The answer, or why there is none. `offset` is by how much a node's clock is ahead, in microseconds.
pub(super) fn assemble(
    request: RequestId,
    waiting: &Waiting,
    report: &Report,
    offset: &dyn Fn(&str) -> i64,
) -> Result<Answer, AskError> {
    let told = |last: String| {
        waiting
            .trouble
            .clone()
            .map_or(last.clone(), |t| format!("{last}: {t}"))
    };
    let (attempt, missing) = match &report.ending {
        Ending::Answered { attempt, missing } => (*attempt, missing),
        Ending::Refused | Ending::Cancelled => {
            return Err(AskError::Failed("the request was given up".into()));
        }
        Ending::Expired { last, .. } => {
            let last = last.map_or_else(
                || "nothing went wrong, it took too long".into(),
                |f| f.to_string(),
            );
            return Err(AskError::Expired {
                waited: report.response,
                last: told(last),
            });
        }
        Ending::Failed { last, attempts } => {
            let last = told(last.to_string());
            return Err(AskError::Failed(format!(
                "given up after {attempts} attempts: {last}"
            )));
        }
    };
    let Some(decision) = &report.decision else {
        return Err(AskError::Failed("an answer came without a decision".into()));
    };
    let arm = &decision.arm;
    let branches = arm.branches.len();
    let parts: Vec<Option<&Part>> = (0..branches)
        .map(|branch| {
            let is_missing = u32::try_from(branch).is_ok_and(|b| missing.contains(&b));
            waiting
                .parts
                .get(branch)
                .and_then(Option::as_ref)
                .filter(|_| !is_missing)
        })
        .collect();
    let tensors = parts
        .iter()
        .map(|part| part.map(|part| part.tensors.clone()))
        .collect();
    let merged = merge::merge(waiting.served.merge(&arm.variant), tensors)
        .map_err(|reason| AskError::Failed(format!("arm {}: {reason}", arm.name)))?;
    let outputs = waiting
        .served
        .outputs
        .iter()
        .map(|facts| {
            merged
                .iter()
                .find(|tensor| tensor.name == facts.name)
                .cloned()
                .ok_or_else(|| {
                    AskError::Failed(format!("arm {} gave no '{}'", arm.name, facts.name))
                })
        })
        .collect::<Result<_, _>>()?;
    Ok(Answer {
        request: request.0,
        model: waiting.served.name.to_string(),
        version: waiting.served.loaded.version().to_owned(),
        outputs,
        arm: arm.name.clone(),
        variant: arm.variant.clone(),
        kind: arm.kind,
        exit: exit(arm, &parts),
        generation: decision.generation.0,
        context: decision.context,
        reason: decision.reason.to_string(),
        propensity: decision.propensity,
        predicted: decision.predicted,
        response: report.response,
        sla: report.sla,
        sla_held: report.sla_held,
        attempts: attempt + 1,
        missing: missing.clone(),
        hops: hops(arm, &parts, offset),
        trace: None,
    })
}

/// The early exit that answered, by its name.
fn exit(arm: &ArmPlan, parts: &[Option<&Part>]) -> Option<String> {
    let number = parts
        .iter()
        .flatten()
        .map(|part| part.exit)
        .find(|&exit| exit > 0)?;
    let hops = arm.branches.iter().flat_map(|route| &route.hops);
    let mut exits = hops.flat_map(|hop| &hop.exits);
    let name = exits
        .find(|exit| exit.number == number)
        .map(|exit| exit.name.clone());
    Some(name.unwrap_or_else(|| number.to_string()))
}

/// The hop trail with the clocks' differences taken off the transfers.
fn hops(arm: &ArmPlan, parts: &[Option<&Part>], offset: &dyn Fn(&str) -> i64) -> Vec<HopRecord> {
    let micros = |us: u64| Duration::from_micros(us);
    let ahead = |node: Option<&str>| node.map_or(0, offset);
    let mut records = Vec::new();
    for ((branch, route), part) in (0u32..).zip(&arm.branches).zip(parts) {
        let Some(part) = part else { continue };
        let name = |hop: u32| route.hops.get(hop as usize).map(|hop| hop.node.as_str());
        for timing in &part.trail {
            let before = timing.hop.checked_sub(1);
            let from = before.and_then(name);
            let codec = before.and_then(|before| route.hops.get(before as usize));
            let transfer = timing.transfer_us - (ahead(Some(&timing.node)) - ahead(from));
            records.push(HopRecord {
                node: timing.node.clone(),
                branch,
                hop: timing.hop,
                codec: codec.map_or(Codec::RAW, |hop| hop.codec).to_string(),
                transfer: micros(u64::try_from(transfer).unwrap_or(0)),
                queue: micros(timing.queue_us),
                compute: micros(timing.decode_us.saturating_add(timing.compute_us)),
                decode: micros(timing.decode_us),
                encode: micros(timing.encode_us),
                outbox: micros(timing.outbox_us),
            });
        }
        // The one that answered: an exit does before the last.
        let last = part.trail.last().map(|timing| timing.node.as_str());
        let transfer = part.came_unix_us - part.sent_unix_us + ahead(last);
        records.push(HopRecord {
            node: String::new(),
            branch,
            hop: u32::try_from(part.trail.len()).unwrap_or(u32::MAX),
            codec: Codec::RAW.to_string(),
            transfer: micros(u64::try_from(transfer).unwrap_or(0)),
            queue: Duration::ZERO,
            compute: Duration::ZERO,
            decode: Duration::ZERO,
            encode: Duration::ZERO,
            outbox: Duration::ZERO,
        });
    }
    records
}

/// The class of each sample, when the answer is one tensor of scores.
pub(super) fn classes(answer: &Answer) -> Option<Vec<u32>> {
    let [scores] = answer.outputs.as_slice() else {
        return None;
    };
    let classes = merge::classes(scores);
    (!classes.is_empty()).then_some(classes)
}

/// The line of history about an ended request.
pub(super) fn record(
    request: RequestId,
    waiting: &Waiting,
    report: &Report,
    unix_ms: u64,
) -> DecisionRecord {
    let decision = report.decision.as_ref();
    let text = |of: fn(&Decision) -> String| decision.map(of).unwrap_or_default();
    DecisionRecord {
        request: request.0,
        unix_ms,
        model: waiting.served.name.clone(),
        arm: text(|d| d.arm.name.clone()),
        context: text(|d| d.context.to_owned()),
        reason: text(|d| d.reason.to_string()),
        propensity: decision.map_or(0.0, |d| d.propensity),
        generation: decision.map(|d| d.generation).unwrap_or_default(),
        sla: report.sla,
        predicted: decision.map_or(Duration::ZERO, |d| d.predicted),
        response: matches!(report.ending, Ending::Answered { .. }).then_some(report.response),
        ending: ending(&report.ending).to_owned(),
    }
}

/// The ending in a word, for history and metrics.
pub(super) const fn ending(ending: &Ending) -> &'static str {
    match ending {
        Ending::Answered { .. } => "answered",
        Ending::Refused => "refused",
        Ending::Expired { .. } => "expired",
        Ending::Failed { .. } => "failed",
        Ending::Cancelled => "cancelled",
    }
}

impl Waiting {
    /// The answer with the outputs that the client named, in its order.
    pub(super) fn select_from(outputs: &[String], mut answer: Answer) -> Answer {
        if !outputs.is_empty() {
            let all = std::mem::take(&mut answer.outputs);
            answer.outputs = outputs
                .iter()
                .filter_map(|name| all.iter().find(|tensor| tensor.name == *name).cloned())
                .collect();
        }
        answer
    }
}
