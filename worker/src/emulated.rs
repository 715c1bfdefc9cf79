//! How a node is emulated that is slower than this machine: work takes its time here, and the thread sleeps for the rest.
//!
//! What counts is the processor time of the thread, so that a busy machine does not make an emulated node slower than
//! it should be. That is not enough for what runs again and again: beside twenty other processes its data are out of
//! the caches each time it is asked for seldom, and in them when it is asked for often. A node of its own would not be
//! twice as slow when it has less to do. Nor do its clock and its neighbours change as this machine's do: a twentieth in
//! a run is a half in what waits on a node that is nearly busy. So a run takes what the fastest of the first runs took,
//! stretched, for ever: what is emulated is a machine that stays as it is.
//!
//! A thread that sleeps wakes late where others have the processor, by a millisecond or three, ten times a request. What
//! one slept too long the next sleeps less.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Runs of a size by which it is settled what one takes.
const SETTLING: u32 = 32;
/// Most that is made up for: a thread that could not keep up for long is not to hurry for long after.
const LATE: Duration = Duration::from_millis(50);
/// Sizes that are told apart.
const SIZES: usize = 64;

/// What a fragment's runs are made longer by, and what is done to its tensors before and after.
#[derive(Debug)]
pub(crate) struct Stretches {
    pub(crate) decoding: Stretch,
    pub(crate) computing: Stretch,
    pub(crate) encoding: Stretch,
}

impl Stretches {
    /// On a node with that share of this machine's speed.
    pub(crate) fn new(share: f64) -> Self {
        Self {
            decoding: Stretch::new(share),
            computing: Stretch::new(share),
            encoding: Stretch::new(share),
        }
    }
}

/// Bytes as a size by which times are told apart: within a factor of two.
pub(crate) const fn size(bytes: u64) -> u64 {
    match bytes.checked_ilog2() {
        Some(power) => power as u64,
        None => 0,
    }
}

/// What runs take, by size.
#[derive(Debug)]
pub(crate) struct Stretch {
    share: f64,
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    settled: BTreeMap<u64, Settled>,
    /// What was slept too long and not made up for yet.
    late: Duration,
}

impl Stretch {
    fn new(share: f64) -> Self {
        Self {
            share,
            past: Mutex::default(),
        }
    }

    /// Runs `work` of a size, stretched as if the machine had only its share of its speed; returns the time that it took
    /// there: what it slept too long here, the next run makes up for.
    pub(crate) fn run(&self, size: u64, work: impl FnOnce()) -> Duration {
        let (wall, spent) = (Instant::now(), thread_time());
        work();
        if self.share < 1.0 {
            let spent = thread_time().saturating_sub(spent);
            let (target, before) = {
                let mut past = self.past.lock();
                if past.settled.len() >= SIZES && !past.settled.contains_key(&size) {
                    past.settled.clear();
                }
                let fastest = past.settled.entry(size).or_default().fastest(spent);
                let before = std::mem::take(&mut past.late);
                (fastest.div_f64(self.share), before)
            };
            let left = target.saturating_sub(before + wall.elapsed());
            if !left.is_zero() {
                std::thread::sleep(left);
            }
            let late = (before + wall.elapsed()).saturating_sub(target);
            self.past.lock().late = late.min(LATE);
            return target;
        }
        wall.elapsed()
    }
}

/// The fastest of the first [`SETTLING`] runs.
#[derive(Debug, Default)]
struct Settled {
    fastest: Option<Duration>,
    runs: u32,
}

impl Settled {
    /// Takes in a run while it is not settled; what one takes.
    fn fastest(&mut self, spent: Duration) -> Duration {
        match self.fastest {
            Some(fastest) if self.runs == SETTLING => fastest,
            before => {
                self.runs += 1;
                let fastest = before.map_or(spent, |fastest| fastest.min(spent));
                self.fastest = Some(fastest);
                fastest
            }
        }
    }
}

/// Processor time of this thread.
pub(crate) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretched_run_takes_its_share() {
        let work = || {
            let spent = thread_time();
            while thread_time() - spent < Duration::from_millis(5) {
                std::hint::black_box(0);
            }
        };
        // Lower bounds only: a busy machine may take longer.
        assert!(Stretch::new(0.25).run(1, work) >= Duration::from_millis(20));
        assert_eq!([0, 1, 1023, 1024, 1025].map(size), [0, 0, 9, 10, 10]);
    }

    #[test]
    fn what_is_slept_too_long_is_slept_less_later() {
        let stretch = Stretch::new(0.5);
        let begin = Instant::now();
        let runs = 40;
        for _ in 0..runs {
            // A thousandth of a second of a processor, two as it is emulated, and a wait that nobody asked for.
            stretch.run(1, || {
                let spent = thread_time();
                while thread_time() - spent < Duration::from_millis(1) {
                    std::hint::black_box(0);
                }
                std::thread::sleep(Duration::from_micros(200));
            });
        }
        // All together not less than they should be.
        assert!(begin.elapsed() >= Duration::from_millis(2) * runs - LATE);
    }

    #[test]
    fn the_fastest_of_the_first_runs_counts_and_nothing_after() {
        let ms = Duration::from_millis;
        let mut settled = Settled::default();
        assert_eq!(settled.fastest(ms(4)), ms(4));
        assert_eq!(settled.fastest(ms(9)), ms(4));
        assert_eq!(settled.fastest(ms(2)), ms(2));
        for _ in 3..SETTLING {
            assert_eq!(settled.fastest(ms(7)), ms(2));
        }
        assert_eq!(settled.fastest(ms(1)), ms(2));
        assert_eq!(settled.fastest(ms(7)), ms(2));
    }
}
