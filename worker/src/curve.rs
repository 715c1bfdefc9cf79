//! What a fragment takes in settings that no traffic has shown yet: batches, and several threads at once.
//!
//! Measured once it is loaded, in a bounded time, and only while nobody needs the node.

use std::{
    iter,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use splitplace_onnx::{Prepared, Value};

use crate::{fragments::Loaded, profile::Setting};

/// Samples in a call by which it is measured what more of them do.
const BATCH: u32 = 4;
/// Calls of each other setting that are measured, and the time after which no further one begins.
const CURVE_CALLS: u32 = 3;
const CURVE_TIME: Duration = Duration::from_millis(100);

/// Runs a fragment in the settings that it never ran in: a batch, and by two, four, … threads up to the node's cores.
/// Ends early when the time for that is over, or as soon as `is_free` says that others need the cores.
/// Blocks; of O(log cores) settings.
pub(crate) fn curve(loaded: &Loaded, cores: u32, is_free: impl Fn() -> bool) {
    let begin = Instant::now();
    for setting in settings(cores) {
        if loaded.profile.lock().knows(setting) {
            continue;
        }
        let inputs = samples(&loaded.prepared, setting.batch);
        if loaded.prepared.samples(&inputs).is_err() {
            continue;
        }
        for _ in 0..CURVE_CALLS {
            if CURVE_TIME < begin.elapsed() || !is_free() {
                return;
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

/// What is measured beside one sample on one thread: a batch, then two, four, … and `cores` threads.
fn settings(cores: u32) -> impl Iterator<Item = Setting> {
    let batch = Setting {
        batch: BATCH,
        threads: 1,
    };
    let doubled = iter::successors(Some(2u32), |threads| threads.checked_mul(2));
    let below = doubled.take_while(move |threads| *threads < cores);
    let threads = below.chain((cores > 1).then_some(cores));
    iter::once(batch).chain(threads.map(|threads| Setting { batch: 1, threads }))
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
