//! From what every exit said of every sample to histograms and transitions. Pure.

use splitplace_onnx::tables::{BINS, ExitRecord};

/// The confidences of one exit, sorted into bins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    pub(super) edges: Vec<f64>,
    pub(super) share: Vec<f64>,
    pub(super) correct: Vec<f64>,
    /// By sample.
    bins: Vec<usize>,
}

/// Histogram of an exit over bins that hold equally many samples, as far as confidences differ.
pub(super) fn histogram(record: &ExitRecord, exit: usize) -> Histogram {
    let said: Vec<(f64, bool)> = (0..record.samples())
        .map(|sample| {
            let (confidence, is_correct) = record.get(sample, exit);
            (f64::from(confidence), is_correct)
        })
        .collect();
    let mut sorted: Vec<f64> = said.iter().map(|(confidence, _)| *confidence).collect();
    sorted.sort_by(f64::total_cmp);
    let edges: Vec<f64> = (1..BINS)
        .map(|edge| {
            let at = (edge * sorted.len() / BINS).min(sorted.len().saturating_sub(1));
            // As many digits as the file keeps.
            let edge = sorted.get(at).copied().unwrap_or(0.0);
            (edge * 1e6).round() / 1e6
        })
        .collect();
    let mut counts = [(0u32, 0u32); BINS];
    let bins: Vec<usize> = said
        .iter()
        .map(|(confidence, is_correct)| {
            let bin = edges.partition_point(|edge| edge <= confidence);
            counts[bin].0 += 1;
            counts[bin].1 += u32::from(*is_correct);
            bin
        })
        .collect();
    let all = f64::from(u32::try_from(said.len()).unwrap_or(u32::MAX)).max(1.0);
    Histogram {
        share: counts.iter().map(|&(n, _)| f64::from(n) / all).collect(),
        correct: counts
            .iter()
            .map(|&(n, right)| f64::from(right) / f64::from(n.max(1)))
            .collect(),
        edges,
        bins,
    }
}

/// Where the samples of each bin are at the next exit; rows sum to 1.
pub(super) fn transitions(here: &Histogram, next: &Histogram) -> Vec<Vec<f64>> {
    let mut counts = [[0u32; BINS]; BINS];
    for (&from, &to) in here.bins.iter().zip(&next.bins) {
        counts[from][to] += 1;
    }
    let row = |counts: &[u32; BINS]| match counts.iter().sum::<u32>() {
        0 => next.share.clone(),
        sum => counts
            .iter()
            .map(|&count| f64::from(count) / f64::from(sum))
            .collect(),
    };
    counts.iter().map(row).collect()
}

/// Share of samples that an exit answers correctly.
pub(super) fn top1(record: &ExitRecord, exit: usize) -> f64 {
    let right = (0..record.samples()).filter(|&sample| record.get(sample, exit).1);
    share(right.count(), record.samples())
}

#[expect(clippy::cast_precision_loss, reason = "counts of samples")]
pub(super) fn share(part: usize, of: usize) -> f64 {
    part as f64 / of.max(1) as f64
}

#[cfg(test)]
pub(super) mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Samples with a hardness; later exits see more of it.
    pub(in super::super) fn record(samples: usize, exits: usize) -> ExitRecord {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut record = ExitRecord::new(exits);
        for _ in 0..samples {
            let hardness: f32 = random.random();
            let said: Vec<(f32, bool)> = (1..=exits)
                .map(|exit| {
                    let skill = exit as f32 / exits as f32;
                    let confidence = 1.0 - hardness * (1.0 - 0.7 * skill);
                    (confidence, random.random::<f32>() < confidence)
                })
                .collect();
            record.push(&said);
        }
        record
    }

    #[test]
    fn bins_are_even_and_rows_sum_to_one() {
        let record = record(1000, 3);
        let (first, second) = (histogram(&record, 0), histogram(&record, 1));
        assert!(
            first.share.iter().all(|share| (share - 0.1).abs() < 0.02),
            "{first:?}"
        );
        let right: f64 = first
            .share
            .iter()
            .zip(&first.correct)
            .map(|(s, c)| s * c)
            .sum();
        assert!((right - top1(&record, 0)).abs() < 1e-9);
        let rows = transitions(&first, &second);
        for row in &rows {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
        // Going on through the rows gives the next exit's shares.
        for (bin, share) in second.share.iter().enumerate() {
            let through: f64 = first
                .share
                .iter()
                .zip(&rows)
                .map(|(s, row)| s * row[bin])
                .sum();
            assert!((through - share).abs() < 1e-9);
        }
    }

    #[test]
    fn confidences_that_are_all_alike_fill_one_bin() {
        let mut record = ExitRecord::new(2);
        for _ in 0..20 {
            record.push(&[(1.0, true), (0.5, false)]);
        }
        let (first, second) = (histogram(&record, 0), histogram(&record, 1));
        assert_eq!(first.share.iter().filter(|share| 0.0 < **share).count(), 1);
        assert_eq!(transitions(&first, &second)[0], second.share);
    }
}
