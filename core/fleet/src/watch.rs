//! A link watched: what frames took on it, whether it has changed, and what it will take next.
//!
//! A frame of `b` bytes is expected to take `D + b/R`. What it really took, in logarithms of the ratio, goes
//! into two cumulative sums (Page 1954, "Continuous inspection schemes"): one grows while frames are slower
//! than expected by more than an allowance, one while they are faster. When one passes its threshold the link
//! has changed, and everything before the sum left zero is forgotten. One odd frame counts for less than the
//! threshold, whatever it took.
//!
//! Until a change was found the link is what it is known to be. From then on `D` and `R` are fitted to the
//! frames since: the slope is the median of the slopes between pairs of frames of different size (Theil–Sen),
//! which a third of odd frames does not move. On a machine where threads wake late small frames say nothing of a rate, and
//! a slope that differs from the one before by less than what the frames lie off the line is noise: the rate stays then,
//! and the delay accounts for the rest. Frames of one size cannot tell a delay from a rate: the delay is taken as it was
//! and the rate has to account for the rest, unless they are so small that no rate would be the reason.
//!
//! A forecast is asked for by quantile: the link on which that share of frames is expected to be no slower. Before a change
//! the median is what is known, and a link that only jitters is slower by what the quantile of its frames is.

use std::{collections::VecDeque, time::Duration};

use crate::{Link, Timestamp};

/// What may be chosen about watching.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WatchSettings {
    /// Frames that are remembered.
    pub window: usize,
    /// Seconds below which a difference is nobody's concern: sockets and threads make as much.
    pub floor: f64,
    /// Logarithm of the ratio of times that is no change.
    pub allowance: f64,
    /// Most that one frame adds to a sum.
    pub clip: f64,
    /// A sum above this is a change.
    pub threshold: f64,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            window: 48,
            floor: 0.005,
            allowance: 0.25,
            clip: 1.5,
            threshold: 2.0,
        }
    }
}

/// Standard errors by which a slope has to differ from the one before.
const SURE: f64 = 2.0;
/// Bytes from which on a frame that is late speaks of the rate: the smallest probe for one.
const TELLING: f64 = 2048.0;

/// Frames that have to be seen before they say how a link that never changed is spread.
const FEW: usize = 12;

/// One frame's way.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    bytes: f64,
    seconds: f64,
}

/// One directed link, watched. Memory is bounded by [`WatchSettings::window`].
#[derive(Clone, Debug)]
pub struct LinkWatch {
    settings: WatchSettings,
    known: Link,
    seen: VecDeque<Seen>,
    /// Sums of slower and of faster frames, and how many frames made them.
    sums: [(f64, usize); 2],
    /// Since the first change: delay in seconds, and seconds a byte.
    fit: Option<(f64, f64)>,
    changes: u64,
    informed: Option<Timestamp>,
}

impl LinkWatch {
    /// Watches a link that is known to be so.
    #[must_use]
    pub fn new(known: Link, settings: WatchSettings) -> Self {
        Self {
            settings,
            known,
            seen: VecDeque::with_capacity(settings.window),
            sums: [(0.0, 0); 2],
            fit: None,
            changes: 0,
            informed: None,
        }
    }

    /// Takes in one frame of `bytes` that took `seconds`; says whether the link was found to have changed.
    /// O(window²) when a fit is due, else O(1).
    pub fn observe(&mut self, at: Timestamp, bytes: f64, seconds: f64) -> bool {
        if !(bytes.is_finite() && seconds.is_finite()) || bytes < 0.0 {
            return false;
        }
        let seconds = seconds.max(0.0);
        let expected = self.expected(bytes);
        let floor = self.settings.floor;
        if self.is_informative(bytes) {
            self.informed = Some(at);
        }
        if self.seen.len() >= self.settings.window.max(2) {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen { bytes, seconds });
        let clip = self.settings.clip;
        let ratio = ((seconds + floor) / (expected + floor)).ln();
        let ratio = ratio.clamp(-clip, clip);
        let mut found = None;
        for (way, (sum, count)) in [1.0, -1.0].into_iter().zip(&mut self.sums) {
            let next = *sum + way * ratio - self.settings.allowance;
            (*sum, *count) = if next > 0.0 {
                (next, *count + 1)
            } else {
                (0.0, 0)
            };
            if self.settings.threshold < *sum {
                found = Some(*count);
            }
        }
        if let Some(count) = found {
            let old = self.seen.len().saturating_sub(count);
            self.seen.drain(..old);
            self.sums = [(0.0, 0); 2];
            self.changes += 1;
            self.refit();
            return true;
        }
        if self.fit.is_some() {
            self.refit();
        }
        false
    }

    /// Whether a frame of that size would say something of the rate: it takes longer than what nobody is
    /// concerned about, as the link shows itself now.
    #[must_use]
    pub fn is_informative(&self, bytes: f64) -> bool {
        self.settings.floor <= bytes * self.line().1
    }

    /// When a frame last said something of the rate.
    #[must_use]
    pub const fn informed(&self) -> Option<Timestamp> {
        self.informed
    }

    /// Whether the last frames hint at a change that is not certain yet.
    #[must_use]
    pub fn is_suspicious(&self) -> bool {
        self.sums
            .iter()
            .any(|(sum, _)| self.settings.threshold / 3.0 < *sum)
    }

    /// How often the link was found to have changed.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// The link on which a share `quantile` of the frames is expected to be no slower. Before a change was found it is as
    /// it is known, and for quantiles above a half as many times slower as that share of the last frames was at most; frames
    /// that are late by less than [`WatchSettings::floor`] are as expected. O(window log window).
    #[must_use]
    pub fn forecast(&self, quantile: f64) -> Link {
        let Some((delay, slope)) = self.fit else {
            return self.spread(quantile);
        };
        let mut ratios: Vec<f64> = self
            .seen
            .iter()
            .map(|one| (one.seconds, delay + one.bytes * slope))
            .filter(|(_, expected)| *expected > 0.0)
            .map(|(seconds, expected)| seconds / expected)
            .collect();
        let times = quantile_of(&mut ratios, quantile).unwrap_or(1.0).max(1e-3);
        let rate = 1.0 / (slope * times);
        Link {
            rate_bytes_per_second: if rate.is_finite() {
                rate
            } else {
                f64::INFINITY
            },
            delay: Duration::try_from_secs_f64(delay * times).unwrap_or(self.known.delay),
            jitter: self.known.jitter,
        }
    }

    /// The known link by a quantile of the frames, where they are enough to say it; never faster than it is known.
    fn spread(&self, quantile: f64) -> Link {
        if quantile <= 0.5 || self.seen.len() < FEW {
            return self.known;
        }
        let ratio = |one: &Seen| {
            let expected = self.expected(one.bytes);
            let is_late = self.settings.floor < one.seconds - expected && 0.0 < expected;
            if is_late { one.seconds / expected } else { 1.0 }
        };
        let mut ratios: Vec<f64> = self.seen.iter().map(ratio).collect();
        let times = quantile_of(&mut ratios, quantile).unwrap_or(1.0);
        let delay = self.known.delay.as_secs_f64() * times;
        Link {
            rate_bytes_per_second: self.known.rate_bytes_per_second / times,
            delay: Duration::try_from_secs_f64(delay).unwrap_or(self.known.delay),
            jitter: self.known.jitter,
        }
    }

    /// Delay and seconds a byte.
    fn line(&self) -> (f64, f64) {
        self.fit.unwrap_or_else(|| {
            let slope = 1.0 / self.known.rate_bytes_per_second;
            (self.known.delay.as_secs_f64(), slope)
        })
    }

    fn expected(&self, bytes: f64) -> f64 {
        let (delay, slope) = self.line();
        delay + bytes * slope
    }

    fn refit(&mut self) {
        let mut slopes = Vec::new();
        for (number, one) in self.seen.iter().enumerate() {
            for other in self.seen.iter().skip(number + 1) {
                // Sizes alike tell noise for a rate, and so do small ones.
                let (less, more) = (one.bytes.min(other.bytes), one.bytes.max(other.bytes));
                if TELLING <= more && 2.0 * less <= more {
                    slopes.push((one.seconds - other.seconds) / (one.bytes - other.bytes));
                }
            }
        }
        let before = self.line();
        let rest = |slope: f64| {
            let mut rest: Vec<f64> = self
                .seen
                .iter()
                .map(|s| s.seconds - s.bytes * slope)
                .collect();
            let delay = quantile_of(&mut rest, 0.5)?;
            Some((delay.max(0.0), slope))
        };
        let fit = match quantile_of(&mut slopes, 0.5) {
            Some(slope) => rest(slope.max(0.0)).and_then(|(delay, slope)| {
                let is_known = (slope - before.1).abs() <= self.blur(delay, slope);
                rest(if is_known { before.1 } else { slope })
            }),
            None if self.seen.iter().all(|one| one.bytes < TELLING) => rest(before.1),
            None => {
                let mut slopes: Vec<f64> = self
                    .seen
                    .iter()
                    .filter(|one| one.bytes > 0.0)
                    .map(|one| (one.seconds - before.0) / one.bytes)
                    .collect();
                match quantile_of(&mut slopes, 0.5) {
                    Some(slope) if slope > 0.0 => Some((before.0, slope)),
                    // Faster than the delay alone.
                    _ => rest(0.0),
                }
            }
        };
        self.fit = fit.or(self.fit);
    }

    /// By how much a slope may be off, in seconds a byte: two standard errors by what the frames lie off its line (1.4826
    /// times the median of that is the standard deviation of a normal law), and more where these are few.
    fn blur(&self, delay: f64, slope: f64) -> f64 {
        let off = |one: &Seen| (one.seconds - delay - one.bytes * slope).abs();
        let mut off: Vec<f64> = self.seen.iter().map(off).collect();
        let deviation = 1.4826 * quantile_of(&mut off, 0.5).unwrap_or(0.0);
        #[expect(clippy::cast_precision_loss, reason = "frames of a window")]
        let count = self.seen.len().max(1) as f64;
        let mean = self.seen.iter().map(|one| one.bytes).sum::<f64>() / count;
        let squares = self.seen.iter().map(|one| (one.bytes - mean).powi(2));
        SURE * (1.0 + SURE / count) * deviation / squares.sum::<f64>().sqrt()
    }
}

/// The value below which a share of the values lies; `None` of none.
fn quantile_of(values: &mut [f64], share: f64) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a short list"
    )]
    let place = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
    values.get(place.min(last)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Link = Link {
        rate_bytes_per_second: 12.5e6,
        delay: Duration::from_millis(5),
        jitter: Duration::ZERO,
    };

    fn at(number: u32) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(100) * number
    }

    fn watch() -> LinkWatch {
        LinkWatch::new(FAST, WatchSettings::default())
    }

    /// Noise of up to a tenth, the same every time.
    fn noise(number: u32) -> f64 {
        1.0 + f64::from(number * 7919 % 21) / 200.0 - 0.05
    }

    #[test]
    fn a_link_that_is_as_known_stays_as_known() {
        let mut watch = watch();
        for n in 0..500 {
            let bytes = f64::from(1000 + 9000 * (n % 7));
            let seconds = (0.005 + bytes / 12.5e6) * noise(n);
            assert!(!watch.observe(at(n), bytes, seconds));
        }
        assert_eq!(watch.forecast(0.5), FAST);
        assert!(!watch.is_suspicious());
    }

    #[test]
    fn one_odd_frame_is_no_change_and_three_slow_ones_are() {
        let mut watch = watch();
        for n in 0..50 {
            watch.observe(at(n), 60_000.0, 0.0098 * noise(n));
        }
        assert!(!watch.observe(at(50), 60_000.0, 30.0));
        assert!(watch.is_suspicious());
        for n in 51..70 {
            assert!(!watch.observe(at(n), 60_000.0, 0.0098));
        }
        // From 100 to 2 Mbit/s.
        let slow = 0.005 + 60_000.0 / 0.25e6;
        let found: Vec<bool> = (70..73)
            .map(|n| watch.observe(at(n), 60_000.0, slow))
            .collect();
        assert!(found.contains(&true), "{found:?}");
        let link = watch.forecast(0.5);
        assert!(
            (link.rate_bytes_per_second / 0.25e6 - 1.0).abs() < 0.01,
            "{link:?}"
        );
        assert_eq!(link.delay, FAST.delay);
        assert_eq!(watch.changes(), 1);
    }

    #[test]
    fn it_comes_back_by_probes_and_delay_is_told_from_rate() {
        let mut watch = watch();
        for n in 0..10 {
            watch.observe(at(n), 60_000.0, 0.245);
        }
        // Small frames alone say little; with a few larger ones the rate is found again.
        let mut found = false;
        for n in 10..30 {
            let bytes = if n % 2 == 0 { 1_000.0 } else { 10_000.0 };
            found |= watch.observe(at(n), bytes, 0.009 + bytes / 12.5e6);
        }
        assert!(found);
        let link = watch.forecast(0.5);
        assert!(
            (link.rate_bytes_per_second / 12.5e6 - 1.0).abs() < 0.05,
            "{link:?}"
        );
        assert!((link.delay.as_secs_f64() - 0.009).abs() < 2e-4, "{link:?}");
    }

    /// Threads that wake late, here and there.
    fn late(number: u32) -> f64 {
        f64::from(number * 7919 % 23) * 3e-4
    }

    #[test]
    fn late_frames_of_some_bytes_speak_of_the_delay() {
        let mut watch = watch();
        for n in 0..60 {
            watch.observe(at(n), 40.0, 0.015 + late(n));
        }
        let link = watch.forecast(0.5);
        assert_eq!(watch.changes(), 1);
        assert!(
            (link.rate_bytes_per_second / 12.5e6 - 1.0).abs() < 0.3,
            "{link:?}"
        );
        assert!(
            (0.015..0.022).contains(&link.delay.as_secs_f64()),
            "{link:?}"
        );
        // A probe tells when it is the rate after all: 0.1 Mbit/s.
        for n in 60..90 {
            let bytes = if n % 3 == 0 { 2048.0 } else { 40.0 };
            watch.observe(at(n), bytes, 0.012 + bytes / 12.5e3 + late(n));
        }
        let link = watch.forecast(0.5);
        assert!(
            (link.rate_bytes_per_second / 12.5e3 - 1.0).abs() < 0.2,
            "{link:?}"
        );
    }

    #[test]
    fn a_rate_stays_where_noise_hides_it() {
        let mut watch = watch();
        // First what shows a change: the delay.
        for n in 0..400 {
            let bytes = [400.0, 3_000.0, 12_000.0][n as usize % 3];
            watch.observe(
                at(n),
                bytes,
                0.013 + bytes / 12.5e6 + late(n / 3 + n % 3 * 5),
            );
            let rate = watch.forecast(0.5).rate_bytes_per_second;
            assert!((0.5..2.0).contains(&(rate / 12.5e6)), "{n}: {rate}");
        }
        assert!(watch.changes() > 0);
    }

    #[test]
    fn quantiles_are_slower_where_times_are_spread() {
        let mut watch = watch();
        for n in 0..48 {
            let times = if n % 4 == 0 { 2.0 } else { 1.0 };
            watch.observe(at(n), 100_000.0, 0.4 * times);
        }
        let (median, late) = (watch.forecast(0.5), watch.forecast(0.9));
        let (median, late) = (median.transfer(100_000), late.transfer(100_000));
        assert!((median.as_secs_f64() - 0.4).abs() < 0.01, "{median:?}");
        assert!((late.as_secs_f64() - 0.8).abs() < 0.02, "{late:?}");
    }

    #[test]
    fn a_link_that_jitters_and_never_changes_has_slow_frames_and_the_known_median() {
        let slow = Link {
            rate_bytes_per_second: 0.25e6,
            ..FAST
        };
        let mut watch = LinkWatch::new(slow, WatchSettings::default());
        for n in 0..200u32 {
            // Every fifth takes three times as long; three in a row would be a change.
            let times = if n % 5 == 0 { 3.0 } else { 1.0 };
            let bytes = f64::from(20_000 + 40_000 * (n % 3));
            let late = watch.forecast(0.9);
            // Too few to say it.
            assert!(n >= 12 || late == slow);
            assert!(!watch.observe(at(n), bytes, times * (0.005 + bytes / 0.25e6)));
            assert_eq!(watch.forecast(0.5), slow);
        }
        assert_eq!(watch.changes(), 0);
        for bytes in [0, 60_000] {
            let time = |quantile| watch.forecast(quantile).transfer(bytes).as_secs_f64();
            assert!((time(0.9) / time(0.5) - 3.0).abs() < 1e-6, "{bytes}");
            assert!((time(0.75) / time(0.5) - 1.0).abs() < 1e-6, "{bytes}");
        }
    }

    #[test]
    fn threads_that_wake_late_are_no_spread_of_a_link() {
        let mut watch = watch();
        for n in 0..100 {
            watch.observe(at(n), 0.0, 0.005 + late(n) / 2.0);
        }
        assert_eq!((watch.changes(), watch.forecast(0.9)), (0, FAST));
        // Of a way that takes no time there is no number of times it.
        let local = Link {
            rate_bytes_per_second: f64::INFINITY,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
        };
        let mut watch = LinkWatch::new(local, WatchSettings::default());
        for n in 0..48 {
            watch.observe(at(n), 1e6, if n % 5 == 0 { 0.01 } else { 0.0 });
        }
        assert_eq!((watch.changes(), watch.forecast(0.99)), (0, local));
    }

    #[test]
    fn what_is_no_time_is_ignored() {
        let mut watch = watch();
        for (bytes, seconds) in [(f64::NAN, 1.0), (1.0, f64::INFINITY), (-1.0, 1.0)] {
            assert!(!watch.observe(at(0), bytes, seconds));
        }
        // A clock that runs ahead makes a way of less than nothing.
        for n in 0..20 {
            watch.observe(at(n), 1000.0, -0.5);
        }
        let link = watch.forecast(0.5);
        assert!(link.delay <= FAST.delay && link.rate_bytes_per_second > 0.0);
    }
}
