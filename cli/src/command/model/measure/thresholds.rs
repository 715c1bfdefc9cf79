//! Thresholds at which exits answer, chosen on what every exit said of every sample. Pure.

use splitplace_onnx::{
    package::NEVER,
    tables::{ExitRecord, Setting, Thresholds},
};

use super::exits::share;

/// Thresholds are tried in steps of one part in so many.
const STEPS: u32 = 10_000;
/// A step that no confidence reaches.
const OFF: u32 = STEPS + 1;
/// Of the thresholds common to all exits, every so many steps.
const COMMON_STRIDE: usize = 10;
/// Rounds of improving one threshold after another.
const ROUNDS: usize = 20;
/// Standard errors between a loss and the most that is allowed.
const SPARE: f64 = 2.0;

/// Thresholds that cost at most `tolerance` of the end's accuracy, two standard errors to spare, with the
/// fewest multiply-accumulates; `macs` are those up to each exit, the end last.
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

    /// What is lost against the end, with [`SPARE`] standard errors on top: samples answered differently
    /// are pairs (McNemar, 1947), `b` of them now wrong and `c` now right, and the loss `(b - c) / n` has the
    /// variance `(b + c - (b - c)² / n) / n²`.
    fn loss(&self, steps: &[u32]) -> f64 {
        let (mut wrong, mut right) = (0usize, 0usize);
        for row in self.rows() {
            let (here, end) = (row[Self::leaves(row, steps)].1, row[self.exits - 1].1);
            wrong += usize::from(end && !here);
            right += usize::from(here && !end);
        }
        let (b, c) = (share(wrong, self.len()), share(right, self.len()));
        let variance = (b + c - (b - c).powi(2)) * share(1, self.len());
        b - c + SPARE * variance.max(0.0).sqrt()
    }

    fn common(&self, tolerance: f64) -> Vec<u32> {
        let tried = (1..=OFF).step_by(COMMON_STRIDE).chain([OFF]);
        let tried = tried.map(|step| vec![step; self.exits - 1]);
        self.cheapest(tried, tolerance)
    }

    fn each(&self, tolerance: f64) -> Vec<u32> {
        // From an error that is worth a hundredth of a run to one that is worth a thousand.
        let prices = (0..50).map(|rung| 1e-2 * 10f64.powf(f64::from(rung) / 10.0));
        let tried = prices.map(|price| self.at_price(price));
        let tried = tried.chain([self.common(tolerance)]);
        self.cheapest(tried, tolerance)
    }

    /// Of those that lose no more than `tolerance`, the one with the least work.
    fn cheapest(&self, tried: impl Iterator<Item = Vec<u32>>, tolerance: f64) -> Vec<u32> {
        let mut best = (f64::INFINITY, vec![OFF; self.exits - 1]);
        for steps in tried {
            let (_, work, _) = self.evaluate(&steps);
            if work < best.0 && self.loss(&steps) <= tolerance {
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
    use super::{
        super::exits::{tests::record, top1},
        *,
    };

    #[test]
    fn thresholds_keep_the_floor_and_are_as_good_as_a_grid() {
        let record = record(2000, 3);
        let macs = [20, 55, 100];
        let tolerance = 0.03;
        let found = thresholds(&record, &macs, tolerance);
        let floor = top1(&record, 2) - tolerance;
        assert!(floor <= found.common.top1 && floor <= found.each.top1);
        assert!(found.each.macs_share <= found.common.macs_share);
        assert!(found.each.macs_share < 1.0);
        let samples = Samples::new(&record, &macs, |_| true);
        let mut best = f64::INFINITY;
        for first in (1..=101).map(|step| step * 100) {
            for second in (1..=101).map(|step| step * 100) {
                let (_, work, _) = samples.evaluate(&[first, second]);
                if samples.loss(&[first, second]) <= tolerance {
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
    fn a_loss_counts_pairs_and_leaves_room_for_chance() {
        let mut record = ExitRecord::new(2);
        for sample in 0..100 {
            // Of a hundred, six get worse and two better.
            record.push(&[(0.9, sample >= 6), (0.6, !(6..8).contains(&sample))]);
        }
        let samples = Samples::new(&record, &[1, 10], |_| true);
        assert!(samples.loss(&[OFF]).abs() < 1e-12);
        let error = ((0.08 - 0.04f64.powi(2)) / 100.0).sqrt();
        assert!((samples.loss(&[5000]) - (0.04 + 2.0 * error)).abs() < 1e-12);
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
