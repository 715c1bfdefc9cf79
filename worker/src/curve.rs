//! What a fragment takes in settings that no traffic has shown yet: batches, and several threads at once.
//!
//! Measured once it is loaded, by a bounded number of calls, and only while nobody needs the node.

use std::{
    iter,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use splitplace_onnx::{Prepared, Value};

use crate::{fragments::Loaded, profile::Setting};

/// Samples in a call by which it is measured what more of them do.
const BATCH: u32 = 4;
/// Calls of each setting that are measured, and the time after which none but the first of a setting begins.
const CURVE_CALLS: u32 = 3;
const CURVE_TIME: Duration = Duration::from_millis(100);

/// Runs a fragment in the settings that it never ran in: by two, four, … threads up to the node's cores, and a batch.
/// Each is run once, however long that takes: without it nobody would know what the other cores do for a large network
/// or on a slow node. Ends as soon as `is_free` says that others need the cores.
/// Blocks; of O(log cores) settings.
pub(crate) fn curve(loaded: &Loaded, cores: u32, is_free: impl Fn() -> bool) {
    within(CURVE_TIME, loaded, cores, is_free);
}

fn within(time: Duration, loaded: &Loaded, cores: u32, is_free: impl Fn() -> bool) {
    let begin = Instant::now();
    for setting in settings(cores) {
        if loaded.profile.lock().knows(setting) {
            continue;
        }
        let inputs = samples(&loaded.prepared, setting.batch);
        if loaded.prepared.samples(&inputs).is_err() {
            continue;
        }
        for call in 0..CURVE_CALLS {
            if !is_free() {
                return;
            }
            if 0 < call && time < begin.elapsed() {
                break;
            }
            at_once(loaded, setting, &inputs);
        }
    }
}

/// Has so many threads run a fragment at the same time, once each. Nothing is measured when there are no so many
/// threads to be had.
fn at_once(loaded: &Loaded, setting: Setting, inputs: &[Value]) {
    // Held until all are there; then it says whether they are.
    let gate = Mutex::new(false);
    let one = || {
        if !*gate.lock() {
            return;
        }
        let samples = setting.batch.max(1);
        let run = || drop(loaded.prepared.run(inputs));
        let took = loaded.stretch.computing.run(u64::from(samples), run);
        let seconds = took.as_secs_f64() / f64::from(samples);
        loaded.profile.lock().add(setting, seconds);
    };
    std::thread::scope(|scope| {
        let mut is_open = gate.lock();
        let started = (0..setting.threads).all(|_| {
            let thread = std::thread::Builder::new().name("profile".into());
            thread.spawn_scoped(scope, one).is_ok()
        });
        *is_open = started;
    });
}

/// What is measured beside one sample on one thread: two, four, … and `cores` threads, which planning asks for, then a
/// batch.
fn settings(cores: u32) -> impl Iterator<Item = Setting> {
    let doubled = iter::successors(Some(2u32), |threads| threads.checked_mul(2));
    let below = doubled.take_while(move |threads| *threads < cores);
    let threads = below.chain((cores > 1).then_some(cores));
    let threads = threads.map(|threads| Setting { batch: 1, threads });
    threads.chain(iter::once(Setting {
        batch: BATCH,
        threads: 1,
    }))
}

/// So many samples of zeros.
fn samples(prepared: &Prepared, batch: u32) -> Vec<Value> {
    let mut values = prepared.zeros();
    for value in &mut values {
        if let Some(first) = value.shape.first_mut() {
            *first *= u64::from(batch);
        }
        let one = value.chunks.clone();
        value.chunks = (0..batch).flat_map(|_| one.clone()).collect();
    }
    values
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, path::Path};

    use bytes::Bytes;
    use sha2::{Digest as _, Sha256};
    use splitplace_onnx::Limits;
    use splitplace_plan::FragmentId;
    use splitplace_proto::control::FragmentSpec;

    use super::*;
    use crate::{fragments::Fragments, profiles::Profiles};

    /// A network that never ran with more than one thread.
    fn loaded() -> Loaded {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../models/packages/fashion-mnist/student.onnx");
        let bytes = Bytes::from(std::fs::read(path).unwrap());
        let id = FragmentId(Sha256::digest(&bytes).into());
        let profiles = Profiles::open(None, "one".into());
        let fragments = Fragments::new(1 << 30, Limits::default(), 1, 1.0, None, profiles);
        let spec = FragmentSpec::default();
        fragments.measure(&spec, id, bytes).unwrap()
    }

    /// Samples in a call, threads, and runs.
    fn runs(loaded: &Loaded) -> Vec<(u32, u32, u64)> {
        let points = loaded.profile.lock().points();
        let count = |point: &splitplace_proto::control::ProfilePoint| {
            (point.batch, point.threads, point.service.unwrap().count)
        };
        points.iter().map(count).collect()
    }

    #[test]
    fn threads_come_before_the_batch() {
        let of = |cores| {
            let all = settings(cores);
            all.map(|one| (one.batch, one.threads)).collect::<Vec<_>>()
        };
        assert_eq!(of(8), [(1, 2), (1, 4), (1, 8), (4, 1)]);
        assert_eq!(of(6), [(1, 2), (1, 4), (1, 6), (4, 1)]);
        assert_eq!(of(1), [(4, 1)]);
    }

    #[test]
    fn what_takes_longer_than_there_is_time_has_every_setting_once() {
        let loaded = loaded();
        within(Duration::ZERO, &loaded, 4, || true);
        // By each thread of a call one run.
        let once = [(1, 1, 1), (1, 2, 2), (1, 4, 4), (4, 1, 1)];
        assert_eq!(runs(&loaded), once);
        // What is known is not measured again.
        within(Duration::MAX, &loaded, 4, || true);
        assert_eq!(runs(&loaded), once);
    }

    #[test]
    fn where_there_is_time_each_setting_has_three_calls() {
        let loaded = loaded();
        within(Duration::MAX, &loaded, 2, || true);
        assert_eq!(runs(&loaded), [(1, 1, 1), (1, 2, 6), (4, 1, 3)]);
    }

    #[test]
    fn it_ends_when_others_need_the_node() {
        let loaded = loaded();
        let calls = Cell::new(0);
        let is_free = || calls.replace(calls.get() + 1) < 2;
        within(Duration::MAX, &loaded, 4, is_free);
        assert_eq!(runs(&loaded), [(1, 1, 1), (1, 2, 4)]);
    }
}
