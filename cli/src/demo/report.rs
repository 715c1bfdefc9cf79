//! The demo's verdict: what was promised, what was measured, and whether it may be called right.

use serde::Serialize;

use super::{recovery::Recovery, reference::Reference};
use crate::load::summary::Summary;

/// One thing that must hold.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) held: bool,
    pub(crate) detail: String,
}

/// Accuracy that a package claims for an arm.
pub(crate) type Claims = std::collections::BTreeMap<String, f64>;

/// Standard errors that a measured accuracy may lie below the claimed one. With five, a right system
/// is called wrong once in some million runs.
const ERRORS: f64 = 5.0;

/// Everything that must hold for the demo to end well.
pub(crate) fn checks(
    summary: &Summary,
    recovery: &Recovery,
    reference: &Reference,
    claims: &Claims,
) -> Vec<Check> {
    let vanished = summary.lost_after_admission();
    let mut checks = vec![
        Check {
            name: "no accepted request vanished",
            held: vanished == 0 && summary.sent == summary.all.count + summary.lost(),
            detail: format!(
                "{} sent, {} answered, {} refused at the door, {vanished} lost after they were let in",
                summary.sent,
                summary.all.count,
                summary.lost() - vanished
            ),
        },
        Check {
            name: "answers are right",
            held: reference.wrong == 0 && reference.compared > 0,
            detail: format!(
                "{} compared, {} of them with the whole network and the others with themselves, {} wrong, \
                 largest difference {:.1e}; the whole network gets {:.2} % of these \
                 pictures right{}",
                reference.compared,
                reference.exact,
                reference.wrong,
                reference.largest,
                reference.accuracy * 100.0,
                reference
                    .example
                    .as_ref()
                    .map_or(String::new(), |text| format!("; {text}"))
            ),
        },
        Check {
            name: "the fleet recovered",
            held: recovery.replanned.is_some() && recovery.rows()[2].1.count > 0,
            detail: format!(
                "{} of {} requests in flight at the kill were answered; the next plan was in force \
                 after {}",
                recovery.survived,
                recovery.in_flight,
                recovery
                    .replanned
                    .map_or_else(|| "—".into(), |time| format!("{:.2} s", time.as_secs_f64()))
            ),
        },
    ];
    for (arm, claimed) in claims {
        let mut labelled = 0;
        let mut correct = 0;
        for ((_, _), group) in summary.groups.iter().filter(|((of, _), _)| of == arm) {
            // A degraded answer is one that the package makes no claim about.
            if group.degraded == 0 {
                labelled += group.labelled;
                correct += group.correct;
            }
        }
        if labelled == 0 {
            continue;
        }
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let (measured, count) = (correct as f64 / labelled as f64, labelled as f64);
        let error = (claimed * (1.0 - claimed) / count).sqrt();
        checks.push(Check {
            name: "accuracy is what the package claims",
            held: measured >= claimed - ERRORS * error,
            detail: format!(
                "{arm}: {:.2} % of {labelled} pictures, claimed {:.2} %",
                measured * 100.0,
                claimed * 100.0
            ),
        });
    }
    checks
}
