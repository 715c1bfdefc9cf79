//! What an answer says about itself, as parameters that begin with `splitplace_`.

use std::time::Duration;

use crate::face::{Answer, LAST_EXIT};

use super::sla::Value;

/// Every parameter of an answer, in a fixed order. `docs/api.md` explains each.
pub(super) fn parameters(answer: &Answer) -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::Text(text.to_owned());
    let missing: Vec<String> = answer.missing.iter().map(ToString::to_string).collect();
    let mut all = vec![
        // A text: the number uses all 64 bits, which JSON's readers and int64 do not.
        (
            "splitplace_request",
            Value::Text(answer.request.to_string()),
        ),
        ("splitplace_arm", text(&answer.arm)),
        ("splitplace_variant", text(&answer.variant)),
        ("splitplace_kind", text(answer.kind.label())),
        (
            "splitplace_exit",
            text(answer.exit.as_deref().unwrap_or(LAST_EXIT)),
        ),
        (
            "splitplace_generation",
            Value::Int(i128::from(answer.generation)),
        ),
        ("splitplace_context", text(answer.context)),
        ("splitplace_reason", text(&answer.reason)),
        ("splitplace_propensity", Value::Number(answer.propensity)),
        ("splitplace_predicted_us", micros(answer.predicted)),
        ("splitplace_response_us", micros(answer.response)),
        ("splitplace_sla_us", micros(answer.sla)),
        ("splitplace_sla_held", Value::Bool(answer.sla_held)),
        (
            "splitplace_attempts",
            Value::Int(i128::from(answer.attempts)),
        ),
        (
            "splitplace_missing_branches",
            Value::Text(missing.join(",")),
        ),
        ("splitplace_hops", Value::Text(hops(answer))),
    ];
    if let Some(trace) = answer.trace {
        all.push(("splitplace_trace", Value::Text(format!("{trace:032x}"))));
    }
    all
}

fn micros(time: Duration) -> Value {
    Value::Int(i128::try_from(time.as_micros()).unwrap_or(i128::MAX))
}

/// The trail as a JSON array, in the order of branch and hop.
fn hops(answer: &Answer) -> String {
    let hops: Vec<_> = answer
        .hops
        .iter()
        .map(|hop| {
            serde_json::json!({
                "node": hop.node,
                "branch": hop.branch,
                "hop": hop.hop,
                "codec": hop.codec,
                "transfer_us": whole(hop.transfer),
                "queue_us": whole(hop.queue),
                "compute_us": whole(hop.compute),
                "encode_us": whole(hop.encode + hop.outbox),
            })
        })
        .collect();
    serde_json::Value::Array(hops).to_string()
}

fn whole(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
