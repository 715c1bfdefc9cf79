//! What links really took, beyond what is known of them, with forgetting.
//!
//! For each directed pair of places the seconds that frames took beyond the known link's delay and rate
//! are fitted by a line over their bytes: its height is delay that nobody told of (sockets, threads,
//! copies), its slope a rate that nobody told of. A slope is believed only when frames of different sizes
//! show one; it never goes below 0. Memory is bounded by the pairs.

use std::{collections::BTreeMap, time::Duration};

use splitplace_fleet::{Link, Place};

use super::fade;

/// After this many further frames a frame counts half.
const HALF_LIFE_FRAMES: f64 = 200.0;
/// Pairs that are kept; more are not.
const PAIRS: usize = 65_536;

/// Decayed sums of (bytes, seconds beyond the known link).
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Transfers {
    lines: BTreeMap<(Place, Place), Line>,
}

impl Transfers {
    /// Takes in one frame of `bytes` that took `seconds` over a link known to be `known`. O(log pairs).
    pub fn observe(&mut self, from: Place, to: Place, known: &Link, bytes: f64, seconds: f64) {
        let beyond = seconds - known.delay.as_secs_f64() - bytes / known.rate_bytes_per_second;
        if !beyond.is_finite() || self.lines.len() >= PAIRS {
            return;
        }
        let line = self.lines.entry((from, to)).or_default();
        let (left, new) = fade(1, HALF_LIFE_FRAMES);
        let terms = [
            1.0,
            bytes,
            beyond,
            bytes * bytes,
            bytes * beyond,
            beyond * beyond,
        ];
        let Line {
            weight,
            x,
            y,
            xx,
            xy,
            yy,
        } = line;
        for (sum, term) in [weight, x, y, xx, xy, yy].into_iter().zip(terms) {
            *sum = *sum * left + new * term;
        }
    }

    /// Forgets a pair: the link is known to be another now.
    pub fn forget(&mut self, from: &Place, to: &Place) {
        self.lines.remove(&(from.clone(), to.clone()));
    }

    /// The link as it shows itself; as it is known where nothing was seen.
    #[must_use]
    pub fn link(&self, from: &Place, to: &Place, known: Link) -> Link {
        let Some(line) = self.lines.get(&(from.clone(), to.clone())) else {
            return known;
        };
        let (height, slope, spread) = line.fit();
        let rate = 1.0 / (1.0 / known.rate_bytes_per_second + slope);
        Link {
            rate_bytes_per_second: rate,
            delay: known.delay + duration(height.max(-known.delay.as_secs_f64())),
            jitter: known.jitter.max(duration(spread)),
        }
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::ZERO)
}

impl Line {
    /// Height, slope, and the standard deviation around the line.
    fn fit(&self) -> (f64, f64, f64) {
        let mean_x = self.x / self.weight;
        let mean_y = self.y / self.weight;
        let var_x = (self.xx / self.weight - mean_x * mean_x).max(0.0);
        let cov = self.xy / self.weight - mean_x * mean_y;
        let var_y = (self.yy / self.weight - mean_y * mean_y).max(0.0);
        // Sizes that differ by a tenth at least, and a slope above two standard errors.
        let slope = if var_x > (0.1 * mean_x).powi(2) && self.weight > 20.0 {
            let slope = cov / var_x;
            let rest = (var_y - slope * cov).max(0.0);
            let error = (rest / var_x / self.weight).sqrt();
            if slope > 2.0 * error { slope } else { 0.0 }
        } else {
            0.0
        };
        let spread = (var_y - slope * cov).max(0.0).sqrt();
        (mean_y - slope * mean_x, slope, spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Link = Link {
        rate_bytes_per_second: f64::INFINITY,
        delay: Duration::from_millis(1),
        jitter: Duration::ZERO,
    };

    fn ends() -> (Place, Place) {
        (Place::Center, Place::Node("a".into()))
    }

    #[test]
    fn delay_and_rate_that_nobody_told_of_are_found() {
        let (from, to) = ends();
        let mut transfers = Transfers::default();
        assert_eq!(transfers.link(&from, &to, KNOWN), KNOWN);
        for n in 0..400 {
            // 0.5 ms and 8 Mbit/s beyond what is known, with some noise of mean 0.
            let bytes = f64::from(1000 + 500 * (n % 7));
            let noise = f64::from(n % 3 - 1) * 1e-5;
            let seconds = 0.0015 + bytes / 1e6 + noise;
            transfers.observe(from.clone(), to.clone(), &KNOWN, bytes, seconds);
        }
        let link = transfers.link(&from, &to, KNOWN);
        assert!(
            (link.rate_bytes_per_second / 1e6 - 1.0).abs() < 0.02,
            "{link:?}"
        );
        assert!((link.delay.as_secs_f64() - 0.0015).abs() < 5e-5, "{link:?}");
    }

    #[test]
    fn frames_of_one_size_show_no_rate_and_the_past_is_forgotten() {
        let (from, to) = ends();
        let mut transfers = Transfers::default();
        for seconds in [0.003, 0.002] {
            for _ in 0..2000 {
                transfers.observe(from.clone(), to.clone(), &KNOWN, 5000.0, seconds);
            }
        }
        let link = transfers.link(&from, &to, KNOWN);
        assert!(link.rate_bytes_per_second.is_infinite());
        assert!((link.delay.as_secs_f64() - 0.002).abs() < 1e-5, "{link:?}");
    }
}
