//! Times in buckets half an octave wide, from a tenth of a millisecond to half a minute.

/// Buckets; the last holds everything longer.
pub const BINS: usize = 38;
/// Upper bound of the first bucket, in seconds.
const FIRST: f64 = 1e-4;

/// Counts by bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u32; BINS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BINS] }
    }
}

/// Upper bound of a bucket, in seconds; infinite for the last.
#[must_use]
pub fn bound(bin: usize) -> f64 {
    if BINS <= bin + 1 {
        return f64::INFINITY;
    }
    #[expect(clippy::cast_precision_loss, reason = "a bucket's number")]
    let halves = bin as f64;
    FIRST * (halves / 2.0).exp2()
}

impl Histogram {
    /// Counts one time. O(1).
    pub fn add(&mut self, seconds: f64) {
        let halves = (seconds.max(FIRST) / FIRST).log2() * 2.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at least 0, and held below the number of buckets"
        )]
        let bin = ((halves - 1e-9).ceil() as usize).min(BINS - 1);
        self.counts[bin] = self.counts[bin].saturating_add(1);
    }

    /// Adds another one's counts.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|&count| u64::from(count)).sum()
    }

    /// Counts by bucket.
    #[must_use]
    pub const fn counts(&self) -> &[u32; BINS] {
        &self.counts
    }

    /// The time that a share `q` of all did not pass, interpolated within its bucket; `None` when
    /// nothing was counted. Off by at most half an octave.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of some minutes")]
        let wanted = q.clamp(0.0, 1.0) * total as f64;
        let mut below = 0.0;
        for (bin, &count) in self.counts.iter().enumerate() {
            let count = f64::from(count);
            if count > 0.0 && wanted <= below + count {
                let low = if bin == 0 { 0.0 } else { bound(bin - 1) };
                let high = bound(bin);
                let high = if high.is_finite() { high } else { low };
                return Some(low + (high - low) * ((wanted - below) / count).clamp(0.0, 1.0));
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_at_or_below_its_bound_and_above_the_one_before() {
        for k in 0..2000 {
            let seconds = 2e-5 * 1.008_f64.powi(k);
            let mut one = Histogram::default();
            one.add(seconds);
            let bin = one.counts().iter().position(|&c| c == 1).unwrap();
            assert!(seconds <= bound(bin) * (1.0 + 1e-6), "{seconds} in {bin}");
            assert!(bin == 0 || bound(bin - 1) < seconds * (1.0 + 1e-6));
        }
    }

    #[test]
    fn quantiles_are_within_half_an_octave() {
        let mut all = Histogram::default();
        assert_eq!(all.quantile(0.5), None);
        for k in 1..=1000 {
            all.add(f64::from(k) * 1e-3);
        }
        for (q, truth) in [(0.5, 0.5), (0.95, 0.95), (0.99, 0.99)] {
            let found = all.quantile(q).unwrap();
            assert!((found / truth).log2().abs() <= 0.5, "{q}: {found}");
        }
        let mut twice = all;
        twice.merge(&all);
        assert_eq!(twice.total(), 2000);
        assert_eq!(twice.quantile(0.5), all.quantile(0.5));
    }
}
