//! What a fragment takes on this machine: by samples in one call and by threads that run it at once.
//!
//! Threads get in each other's way (memory, caches, clock), so two do not do twice the work of one; how much they do
//! is measured, not assumed. Memory does not depend on either. A cell is the pair of samples and threads; it holds what one sample took. Cells forget:
//! when one has [`FULL`] runs, all that it knows counts half from then on.

use std::collections::BTreeMap;

use splitplace_plan::FragmentId;
use splitplace_proto::control;

/// Runs in a cell at which what it knows begins to count half.
const FULL: f64 = 1024.0;
/// Cells of a fragment; others are not kept.
const CELLS: usize = 64;
/// Bins for every doubling of time: neighbouring ones are 9 % apart, so a quantile is off by half of that at most.
const PER_DOUBLING: f64 = 8.0;
/// Seconds at the lower edge of the first bin.
const LEAST: f64 = 1e-6;
/// Bins: to a quarter of an hour and more, into the last.
const BINS: u16 = 240;

/// How many samples one call had, and how many threads ran the node's fragments meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Setting {
    pub(crate) batch: u32,
    pub(crate) threads: u32,
}

impl Setting {
    /// One sample on one thread.
    pub(crate) const ONE: Self = Self {
        batch: 1,
        threads: 1,
    };
}

/// Runs of one setting.
#[derive(Clone, Debug, Default, PartialEq)]
struct Cell {
    weight: f64,
    mean: f64,
    /// Sum of squared distances from the mean.
    squares: f64,
    bins: BTreeMap<u16, f64>,
    /// Since it was last told.
    is_news: bool,
}

/// Memory that a fragment takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Bytes held after loading, and the peak of one run on top of it.
    pub(crate) bytes: u64,
    /// The latter alone.
    pub(crate) peak_bytes: u64,
}

/// A fragment's profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Profile {
    cells: BTreeMap<Setting, Cell>,
    /// When it was last loaded.
    memory: Option<Memory>,
    /// Since it was last written.
    is_unsaved: bool,
}

impl Profile {
    /// Takes in a call: seconds for each of its samples. O(log cells).
    pub(crate) fn add(&mut self, setting: Setting, seconds: f64) {
        let is_time = seconds.is_finite() && seconds >= 0.0;
        let is_full = self.cells.len() >= CELLS && !self.cells.contains_key(&setting);
        if is_time && !is_full {
            self.cells.entry(setting).or_default().add(seconds);
            self.is_unsaved = true;
        }
    }

    /// Takes in what memory it was found to take.
    pub(crate) fn take_memory(&mut self, memory: Memory) {
        self.is_unsaved |= self.memory != Some(memory);
        self.memory = Some(memory);
    }

    /// The memory that it was found to take; `None` when it was never loaded.
    pub(crate) const fn memory(&self) -> Option<Memory> {
        self.memory
    }

    /// Whether there are runs of that setting.
    pub(crate) fn knows(&self, setting: Setting) -> bool {
        self.cells.contains_key(&setting)
    }

    /// Every cell.
    pub(crate) fn points(&self) -> Vec<control::ProfilePoint> {
        let cells = self.cells.iter();
        cells.map(|(setting, cell)| cell.point(*setting)).collect()
    }

    /// The cells that runs were added to since this was last called.
    pub(crate) fn news(&mut self) -> Vec<control::ProfilePoint> {
        let cells = self.cells.iter_mut();
        cells
            .filter_map(|(setting, cell)| {
                std::mem::take(&mut cell.is_news).then(|| cell.point(*setting))
            })
            .collect()
    }

    /// Whether something was added since this was last asked.
    pub(crate) const fn take_unsaved(&mut self) -> bool {
        std::mem::replace(&mut self.is_unsaved, false)
    }

    /// As it is kept, of the fragment of that name.
    pub(crate) fn kept(&self, id: FragmentId) -> control::FragmentProfile {
        control::FragmentProfile {
            id: id.0.to_vec().into(),
            cells: self.cells(),
            memory_bytes: self.memory.map_or(0, |memory| memory.bytes),
            peak_bytes: self.memory.map_or(0, |memory| memory.peak_bytes),
        }
    }

    fn cells(&self) -> Vec<control::ProfileCell> {
        let cells = self.cells.iter();
        cells
            .map(|(setting, cell)| control::ProfileCell {
                batch: setting.batch,
                threads: setting.threads,
                weight: cell.weight,
                mean_seconds: cell.mean,
                squares_seconds2: cell.squares,
                bins: cell.bins.keys().map(|bin| u32::from(*bin)).collect(),
                weights: cell.bins.values().copied().collect(),
            })
            .collect()
    }

    /// What was kept; what cannot be is left out.
    pub(crate) fn restore(kept: &control::FragmentProfile) -> Self {
        let sound = |x: f64| x.is_finite() && x >= 0.0;
        let memory = Memory {
            bytes: kept.memory_bytes,
            peak_bytes: kept.peak_bytes,
        };
        let is_memory = 0 < memory.bytes && memory.peak_bytes <= memory.bytes;
        let cells = kept.cells.iter().filter_map(|kept| {
            let numbers = [kept.weight, kept.mean_seconds, kept.squares_seconds2];
            let is_sound = numbers.iter().chain(&kept.weights).all(|x| sound(*x))
                && kept.weight > 0.0
                && kept.bins.len() == kept.weights.len();
            let bins = kept.bins.iter().zip(&kept.weights);
            let bins = bins.map(|(bin, weight)| {
                let bin = u16::try_from(*bin).ok().filter(|bin| *bin < BINS)?;
                Some((bin, *weight))
            });
            let setting = Setting {
                batch: kept.batch,
                threads: kept.threads,
            };
            let cell = Cell {
                weight: kept.weight,
                mean: kept.mean_seconds,
                squares: kept.squares_seconds2,
                bins: bins.collect::<Option<_>>()?,
                is_news: false,
            };
            is_sound.then_some((setting, cell))
        });
        Self {
            cells: cells.take(CELLS).collect(),
            memory: is_memory.then_some(memory),
            is_unsaved: false,
        }
    }
}

impl Cell {
    fn add(&mut self, seconds: f64) {
        if FULL <= self.weight {
            self.weight /= 2.0;
            self.squares /= 2.0;
            for weight in self.bins.values_mut() {
                *weight /= 2.0;
            }
            // What counts for next to nothing need not be kept.
            self.bins.retain(|_, weight| *weight > 1e-3);
        }
        self.weight += 1.0;
        let before = seconds - self.mean;
        self.mean += before / self.weight;
        self.squares += before * (seconds - self.mean);
        *self.bins.entry(bin(seconds)).or_default() += 1.0;
        self.is_news = true;
    }

    /// Seconds that this share of the runs did not exceed.
    fn quantile(&self, share: f64) -> f64 {
        let all: f64 = self.bins.values().sum();
        let mut left = share * all;
        for (bin, weight) in &self.bins {
            left -= weight;
            if left <= all * 1e-12 {
                return middle(*bin);
            }
        }
        self.mean
    }

    fn point(&self, setting: Setting) -> control::ProfilePoint {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a weight is at least 1 and at most FULL"
        )]
        let count = self.weight.ceil() as u64;
        let variance = if self.weight > 1.0 {
            self.squares / (self.weight - 1.0)
        } else {
            0.0
        };
        control::ProfilePoint {
            batch: setting.batch,
            threads: setting.threads,
            service: Some(control::ServiceTime {
                count,
                mean_seconds: self.mean,
                variance_seconds2: variance,
            }),
            p95_seconds: self.quantile(0.95),
        }
    }
}

/// The bin that a time belongs to.
fn bin(seconds: f64) -> u16 {
    let place = (seconds / LEAST).max(1.0).log2() * PER_DOUBLING;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least 0, and the cast saturates"
    )]
    let place = place as u16;
    place.min(BINS - 1)
}

/// The geometric middle of a bin, in seconds.
fn middle(bin: u16) -> f64 {
    LEAST * ((f64::from(bin) + 0.5) / PER_DOUBLING).exp2()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn moments_and_tail_are_those_of_the_runs() {
        for seed in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut profile = Profile::default();
            let mut times: Vec<f64> = (0..900)
                .map(|_| 1e-4 * (1.0 - rng.random::<f64>()).recip().powf(0.4))
                .collect();
            for time in &times {
                profile.add(Setting::ONE, *time);
            }
            let point = profile.points().remove(0);
            let service = point.service.unwrap();
            let mean = times.iter().sum::<f64>() / 900.0;
            let variance = times.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / 899.0;
            assert!((service.mean_seconds / mean - 1.0).abs() < 1e-9);
            assert!((service.variance_seconds2 / variance - 1.0).abs() < 1e-9);
            times.sort_by(f64::total_cmp);
            // Half a bin: 2^(1/16).
            let off = (point.p95_seconds / times[854]).log2().abs();
            assert!(off <= 0.5 / PER_DOUBLING + 1e-9, "{off} of a doubling");
        }
    }

    #[test]
    fn a_machine_that_grows_slower_is_believed() {
        let mut profile = Profile::default();
        for _ in 0..5000 {
            profile.add(Setting::ONE, 1e-3);
        }
        for _ in 0..3000 {
            profile.add(Setting::ONE, 3e-3);
        }
        let point = profile.points().remove(0);
        let service = point.service.unwrap();
        assert!(service.count <= 1024);
        assert!(service.mean_seconds > 2.7e-3, "{service:?}");
        assert!(point.p95_seconds > 2.7e-3);
    }

    #[test]
    fn what_is_kept_comes_back_and_what_cannot_be_is_left_out() {
        let mut profile = Profile::default();
        let two = Setting {
            batch: 4,
            threads: 2,
        };
        for number in 0..50u32 {
            profile.add(Setting::ONE, 1e-3 * f64::from(number + 1));
            profile.add(two, 2e-3);
        }
        assert_eq!(profile.news().len(), 2);
        assert!(profile.news().is_empty());
        assert!(profile.take_unsaved() && !profile.take_unsaved());
        let memory = Memory {
            bytes: 3000,
            peak_bytes: 1000,
        };
        profile.take_memory(memory);
        assert!(profile.take_unsaved());
        profile.take_memory(memory);
        assert!(!profile.take_unsaved());
        let mut kept = profile.kept(FragmentId([1; 32]));
        assert_eq!(Profile::restore(&kept), profile);
        kept.cells[0].mean_seconds = f64::NAN;
        kept.cells[1].bins[0] = 1 << 20;
        kept.peak_bytes = 3001;
        assert_eq!(Profile::restore(&kept), Profile::default());
    }

    #[test]
    fn there_is_no_room_for_ever_more_settings() {
        let mut profile = Profile::default();
        for batch in 0..1000 {
            profile.add(Setting { batch, threads: 1 }, 1e-3);
        }
        assert_eq!(profile.points().len(), CELLS);
        profile.add(Setting::ONE, f64::INFINITY);
        assert!(
            profile
                .points()
                .iter()
                .all(|p| p.service.unwrap().mean_seconds < 1.0)
        );
    }
}
