//! What is to be expected of early exits at their thresholds.

use splitplace_onnx::{package::Variant, tables::VariantTable};

/// How requests leave a network, and how many are right.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Leaving {
    /// Share of the requests that each exit answers; the rest gets to the end.
    pub(super) leave: Vec<f64>,
    /// Share of correct answers.
    pub(super) top1: f64,
}

/// From the measured bins of confidence, as a Markov chain over them: who does not leave at one exit is
/// in some bin of the next by the measured transitions. A bin that a threshold divides leaves in the
/// share of it that lies above, as if confidences were even within a bin. Where the thresholds are those
/// that were recommended, what was measured for them is taken instead.
///
/// `None` when the exits were not measured. O(exits · bins²).
pub(super) fn leaving(variant: &Variant, table: &VariantTable) -> Option<Leaving> {
    let count = variant.exits.len();
    if count == 0 || table.exits.len() != count + 1 {
        return None;
    }
    let thresholds: Vec<f32> = variant.exits.iter().map(|exit| exit.threshold).collect();
    if let Some(known) = &table.thresholds {
        for setting in [&known.each, &known.common] {
            if setting.thresholds == thresholds && setting.leave.len() == count + 1 {
                return Some(Leaving {
                    leave: setting.leave[..count].to_vec(),
                    top1: setting.top1,
                });
            }
        }
    }
    let mut here = table.exits[0].share.clone();
    let (mut leave, mut right) = (Vec::with_capacity(count), 0.0);
    for (exit, &threshold) in table.exits.iter().zip(&thresholds) {
        let mut left = 0.0;
        let mut next = vec![0.0; exit.next.first().map_or(0, Vec::len)];
        for (bin, &share) in here.iter().enumerate() {
            let low = if bin == 0 { 0.0 } else { exit.edges[bin - 1] };
            let high = exit.edges.get(bin).copied().unwrap_or(1.0);
            let above = (high - f64::from(threshold)) / (high - low).max(1e-9);
            let leaves = share * above.clamp(0.0, 1.0);
            left += leaves;
            right += leaves * exit.correct[bin];
            for (there, chance) in next.iter_mut().zip(&exit.next[bin]) {
                *there += (share - leaves) * chance;
            }
        }
        leave.push(left);
        here = next;
    }
    let end = table.exits.last()?;
    right += here
        .iter()
        .zip(&end.correct)
        .map(|(share, correct)| share * correct)
        .sum::<f64>();
    Some(Leaving { leave, top1: right })
}
