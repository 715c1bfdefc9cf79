//! From what every exit said of every sample to histograms, transitions and thresholds. Pure.

use splitplace_onnx::{
    package::NEVER,
    tables::{BINS, ExitRecord, Setting, Thresholds},
};

/// Thresholds are tried in steps of one part in so many.
const STEPS: u32 = 10_000;
/// A step that no confidence reaches.
const OFF: u32 = STEPS + 1;
/// Of the thresholds common to all exits, every so many steps.
const COMMON_STRIDE: usize = 10;
/// Rounds of improving one threshold after another.
const ROUNDS: usize = 20;

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

/// Thresholds that cost at most `tolerance` of the end's accuracy with the fewest multiply-accumulates;
/// `macs` are those up to each exit, the end last.
///
/// The common one is tried out. Those for each exit minimise work plus a price for every error, one after
/// another until nothing changes, for a ladder of prices; O(prices · rounds · exits · (samples + steps)).
pub(super) fn thresholds(record: &ExitRecord, macs: &[u64], tolerance: f64) -> Thresholds {
    let all = Samples::new(record, macs, |_| true);
    let halves = [0, 1].map(|half| Samples::new(record, macs, |sample| sample % 2 == half));
    let setting = |choose: &dyn Fn(&Samples) -> Vec<u32>| {
        let chosen = choose(&all);
        let (top1, macs_share, leave) = all.evaluate(&chosen);
        let tried = [0, 1].map(|half| halves[1 - half].evaluate(&choose(&halves[half])));
        Setting {
            thresholds: chosen.iter().map(|&step| threshold(step)).collect(),
            top1,
            macs_share,
            leave,
            held_out_top1: f64::midpoint(tried[0].0, tried[1].0),
            held_out_macs_share: f64::midpoint(tried[0].1, tried[1].1),
        }
    };
    Thresholds {
        tolerance,
        common: setting(&|samples| samples.common(tolerance)),
        each: setting(&|samples| samples.each(tolerance)),
    }
}

fn threshold(step: u32) -> f32 {
    match step {
        OFF => NEVER,
        #[expect(clippy::cast_possible_truncation, reason = "four digits")]
        step => (f64::from(step) / f64::from(STEPS)) as f32,
    }
}

/// Samples, exit by exit, in a form that is quick to try thresholds on.
struct Samples {
    exits: usize,
    /// By sample and exit: the largest step that the confidence reaches, and whether it is correct.
    said: Vec<(u32, bool)>,
    /// Up to each exit, as a share of the end's.
    work: Vec<f64>,
}

impl Samples {
    fn new(record: &ExitRecord, macs: &[u64], takes: impl Fn(usize) -> bool) -> Self {
        let exits = record.exits();
        let end = macs.last().copied().unwrap_or(0).max(1);
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let work = macs.iter().map(|&macs| macs as f64 / end as f64).collect();
        let said = (0..record.samples())
            .filter(|&sample| takes(sample))
            .flat_map(|sample| (0..exits).map(move |exit| (sample, exit)))
            .map(|(sample, exit)| {
                let (confidence, is_correct) = record.get(sample, exit);
                (reached(confidence), is_correct)
            })
            .collect();
        Self { exits, said, work }
    }

    fn rows(&self) -> impl Iterator<Item = &[(u32, bool)]> {
        self.said.chunks_exact(self.exits)
    }

    fn len(&self) -> usize {
        self.said.len() / self.exits
    }

    /// The exit at which a sample leaves.
    fn leaves(row: &[(u32, bool)], steps: &[u32]) -> usize {
        let exits = row.iter().zip(steps);
        let mut firing = exits
            .enumerate()
            .filter(|(_, (said, step))| said.0 >= **step);
        firing.next().map_or(steps.len(), |(exit, _)| exit)
    }

    /// Accuracy, share of the work, and who leaves where.
    fn evaluate(&self, steps: &[u32]) -> (f64, f64, Vec<f64>) {
        let mut leave = vec![0usize; self.exits];
        let mut right = 0;
        for row in self.rows() {
            let exit = Self::leaves(row, steps);
            leave[exit] += 1;
            right += usize::from(row[exit].1);
        }
        let leave: Vec<f64> = leave
            .iter()
            .map(|&count| share(count, self.len()))
            .collect();
        let work = leave
            .iter()
            .zip(&self.work)
            .map(|(share, work)| share * work);
        (share(right, self.len()), work.sum::<f64>().min(1.0), leave)
    }

    fn floor(&self, tolerance: f64) -> f64 {
        self.evaluate(&vec![OFF; self.exits - 1]).0 - tolerance
    }

    fn common(&self, tolerance: f64) -> Vec<u32> {
        let floor = self.floor(tolerance);
        let tried = (1..=OFF).step_by(COMMON_STRIDE).chain([OFF]);
        let tried = tried.map(|step| vec![step; self.exits - 1]);
        self.cheapest(tried, floor)
    }

    fn each(&self, tolerance: f64) -> Vec<u32> {
        let floor = self.floor(tolerance);
        // From an error that is worth a hundredth of a run to one that is worth a thousand.
        let prices = (0..50).map(|rung| 1e-2 * 10f64.powf(f64::from(rung) / 10.0));
        let tried = prices.map(|price| self.at_price(price));
        let tried = tried.chain([self.common(tolerance)]);
        self.cheapest(tried, floor)
    }

    /// Of those that keep the floor, the one with the least work.
    fn cheapest(&self, tried: impl Iterator<Item = Vec<u32>>, floor: f64) -> Vec<u32> {
        let mut best = (f64::INFINITY, vec![OFF; self.exits - 1]);
        for steps in tried {
            let (top1, work, _) = self.evaluate(&steps);
            if floor <= top1 && work < best.0 {
                best = (work, steps);
            }
        }
        best.1
    }

    /// Thresholds that minimise work plus `price` for every error, each given the others.
    fn at_price(&self, price: f64) -> Vec<u32> {
        let mut steps = vec![OFF; self.exits - 1];
        for _ in 0..ROUNDS {
            let before = steps.clone();
            for exit in 0..steps.len() {
                steps[exit] = self.best_step(exit, &steps, price);
            }
            if steps == before {
                break;
            }
        }
        steps
    }

    fn best_step(&self, exit: usize, steps: &[u32], price: f64) -> u32 {
        // What is gained by leaving here, by the largest step that the confidence reaches.
        let mut gains = vec![0.0; STEPS as usize + 1];
        let cost = |row: &[(u32, bool)], exit: usize| {
            self.work[exit] + if row[exit].1 { 0.0 } else { price }
        };
        for row in self.rows() {
            if Self::leaves(&row[..exit], &steps[..exit]) < exit {
                continue;
            }
            let later = exit + 1 + Self::leaves(&row[exit + 1..], &steps[exit + 1..]);
            gains[row[exit].0 as usize] += cost(row, later) - cost(row, exit);
        }
        let mut best = (0.0, OFF);
        let mut sum = 0.0;
        for step in (1..=STEPS).rev() {
            sum += gains[step as usize];
            if best.0 < sum {
                best = (sum, step);
            }
        }
        best.1
    }
}

/// The largest step that a confidence reaches, as thresholds are compared when serving.
fn reached(confidence: f32) -> u32 {
    // The product is a good guess; the comparison that serving makes decides.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 10 000"
    )]
    let guess = (f64::from(confidence) * f64::from(STEPS)).round() as u32;
    let mut step = (guess + 1).min(STEPS);
    while 0 < step && confidence < threshold(step) {
        step -= 1;
    }
    step
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Samples with a hardness; later exits see more of it.
    fn record(samples: usize, exits: usize) -> ExitRecord {
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

    #[test]
    fn thresholds_keep_the_floor_and_are_as_good_as_a_grid() {
        let record = record(2000, 3);
        let macs = [20, 55, 100];
        let tolerance = 0.01;
        let found = thresholds(&record, &macs, tolerance);
        let floor = top1(&record, 2) - tolerance;
        assert!(floor <= found.common.top1 && floor <= found.each.top1);
        assert!(found.each.macs_share <= found.common.macs_share);
        assert!(found.each.macs_share < 1.0);
        let samples = Samples::new(&record, &macs, |_| true);
        let mut best = f64::INFINITY;
        for first in (1..=101).map(|step| step * 100) {
            for second in (1..=101).map(|step| step * 100) {
                let (top1, work, _) = samples.evaluate(&[first, second]);
                if floor <= top1 {
                    best = best.min(work);
                }
            }
        }
        assert!(
            found.each.macs_share <= best + 0.01,
            "{} {best}",
            found.each.macs_share
        );
    }

    #[test]
    fn exits_that_are_never_right_are_never_taken() {
        let mut record = ExitRecord::new(2);
        for sample in 0..100 {
            record.push(&[(0.9, false), (0.6, sample % 10 != 0)]);
        }
        let found = thresholds(&record, &[1, 10], 0.005);
        assert_eq!(found.each.thresholds, [NEVER]);
        assert_eq!(found.each.leave, [0.0, 1.0]);
    }

    #[test]
    fn steps_are_reached_as_serving_compares() {
        for step in 1..=STEPS {
            assert_eq!(reached(threshold(step)), step);
        }
        assert_eq!((reached(0.0), reached(1.0)), (0, STEPS));
    }
}
