//! Fragments that the node holds: fetched bytes verified, kept on disk, loaded, measured.

use std::{
    collections::BTreeMap,
    iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use splitplace_onnx::{Limits, Prepared, Value, prepare};
use splitplace_plan::FragmentId;
use splitplace_proto::control;

use crate::{cache::Cache, emulated::Stretches, profile::Setting, profiles::Profiles};

/// Count, mean and variance of service times, by Welford's recursion.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Service {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Service {
    pub(crate) fn add(&mut self, seconds: f64) {
        self.count += 1;
        #[expect(clippy::cast_precision_loss, reason = "a count of runs")]
        let count = self.count as f64;
        let before = seconds - self.mean;
        self.mean += before / count;
        self.squares += before * (seconds - self.mean);
    }

    pub(crate) fn message(&self) -> control::ServiceTime {
        #[expect(clippy::cast_precision_loss, reason = "a count of runs")]
        let variance = if self.count < 2 {
            0.0
        } else {
            self.squares / (self.count - 1) as f64
        };
        control::ServiceTime {
            count: self.count,
            mean_seconds: self.mean,
            variance_seconds2: variance,
        }
    }
}

/// Samples in a call by which it is measured what more of them do.
const BATCH: u32 = 4;
/// Calls of each other setting that are measured, and the time after which no further one begins.
const CURVE_CALLS: u32 = 3;
const CURVE_TIME: Duration = Duration::from_millis(100);

/// A fragment in memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) id: FragmentId,
    pub(crate) label: String,
    pub(crate) prepared: Prepared,
    /// Held after loading, and the peak of one run on top of it.
    pub(crate) memory_bytes: u64,
    /// The latter alone.
    pub(crate) peak_bytes: u64,
    /// Of the runs made when it was loaded.
    pub(crate) first: Service,
    /// How runs are made longer on an emulated node.
    pub(crate) stretch: Stretches,
    /// Frames that may wait.
    pub(crate) queue_limit: u64,
    pub(crate) queued: AtomicU64,
    /// Since the last report.
    pub(crate) service: Mutex<Service>,
    pub(crate) done: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Loaded {
    /// What is known of it; `profile` is what it takes on this hardware.
    pub(crate) fn status(&self, profile: Vec<control::ProfilePoint>) -> control::FragmentStatus {
        control::FragmentStatus {
            id: self.id.0.to_vec().into(),
            memory_bytes: self.memory_bytes,
            service: Some(self.first.message()),
            profile,
            peak_bytes: self.peak_bytes,
        }
    }

    /// Numbers since the last report; the service times start anew. `profile` is what is new of it.
    pub(crate) fn report(&self, profile: Vec<control::ProfilePoint>) -> control::FragmentReport {
        let service = std::mem::take(&mut *self.service.lock());
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        control::FragmentReport {
            id: self.id.0.to_vec().into(),
            service: Some(service.message()),
            queued: u32::try_from(read(&self.queued)).unwrap_or(u32::MAX),
            done: read(&self.done),
            refused: read(&self.refused),
            expired: read(&self.expired),
            failed: read(&self.failed),
            profile,
        }
    }
}

/// Why a fragment was not loaded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NotLoaded {
    /// With the arithmetic, where it did not fit.
    pub(crate) reason: String,
    /// What it would have taken, when that was found out.
    pub(crate) measured: Option<Box<control::FragmentStatus>>,
}

impl From<String> for NotLoaded {
    fn from(reason: String) -> Self {
        Self {
            reason,
            measured: None,
        }
    }
}

/// The fragments of a node, within its memory.
#[derive(Debug)]
pub(crate) struct Fragments {
    held: Mutex<BTreeMap<FragmentId, Arc<Loaded>>>,
    memory_bytes: u64,
    limits: Limits,
    warm_runs: u32,
    speed_share: f64,
    cache: Option<Cache>,
    pub(crate) profiles: Profiles,
}

impl Fragments {
    pub(crate) fn new(
        memory_bytes: u64,
        limits: Limits,
        warm_runs: u32,
        speed_share: f64,
        cache: Option<Cache>,
        profiles: Profiles,
    ) -> Self {
        Self {
            held: Mutex::default(),
            memory_bytes,
            limits,
            warm_runs,
            speed_share,
            cache,
            profiles,
        }
    }

    /// What a fragment says of itself.
    pub(crate) fn status(&self, loaded: &Loaded) -> control::FragmentStatus {
        loaded.status(self.profiles.points(loaded.id))
    }

    /// What every fragment held did since the last report.
    pub(crate) fn reports(&self) -> Vec<control::FragmentReport> {
        let report = |loaded: Arc<Loaded>| loaded.report(self.profiles.news(loaded.id));
        self.all().into_iter().map(report).collect()
    }

    pub(crate) fn get(&self, id: FragmentId) -> Option<Arc<Loaded>> {
        self.held.lock().get(&id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Loaded>> {
        self.held.lock().values().cloned().collect()
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.held
            .lock()
            .values()
            .map(|loaded| loaded.memory_bytes)
            .sum()
    }

    /// What is kept on disk, where something is.
    pub(crate) const fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Verifies fetched bytes and keeps them on disk.
    pub(crate) fn keep(&self, id: FragmentId, bytes: &Bytes) -> Result<(), String> {
        let found: [u8; 32] = Sha256::digest(bytes).into();
        if found != id.0 {
            return Err(format!(
                "fragment {id}: what was fetched has the hash {}, so it is not the fragment",
                FragmentId(found)
            ));
        }
        if let Some(cache) = &self.cache
            && let Err(error) = cache.put(id, bytes)
        {
            // It can be fetched again.
            tracing::warn!(code = "SP112", %error, fragment = %id, "cannot keep a fragment on disk");
        }
        Ok(())
    }

    /// Loads, measures and holds a fragment, or says with the arithmetic why it does not fit.
    /// Blocks for as long as that takes; call it on a thread.
    pub(crate) fn load(
        &self,
        spec: &control::FragmentSpec,
        id: FragmentId,
        bytes: Bytes,
    ) -> Result<Arc<Loaded>, NotLoaded> {
        if let Some(loaded) = self.get(id) {
            return Ok(loaded);
        }
        let size = bytes.len() as u64;
        self.room(spec, id, size)?;
        let loaded = Arc::new(self.measure(spec, id, bytes)?);
        self.room(spec, id, loaded.memory_bytes)
            .map_err(|reason| NotLoaded {
                reason,
                measured: Some(Box::new(self.status(&loaded))),
            })?;
        self.held.lock().insert(id, Arc::clone(&loaded));
        Ok(loaded)
    }

    /// Loads a fragment and runs it, without holding it.
    pub(crate) fn measure(
        &self,
        spec: &control::FragmentSpec,
        id: FragmentId,
        bytes: Bytes,
    ) -> Result<Loaded, String> {
        let mut prepared = None;
        // Held until after the measurement: memory from before that is given back within it would be
        // taken off what the fragment holds.
        let file = bytes.clone();
        let counted = allocation_counter::measure(|| {
            prepared = Some(prepare(&spec.label, bytes, &self.limits));
        });
        drop(file);
        let prepared = match prepared {
            Some(Ok(prepared)) => prepared,
            Some(Err(error)) => return Err(format!("fragment {id}: {error}")),
            None => return Err(format!("fragment {id}: it was not loaded")),
        };
        let inputs = prepared.zeros();
        let mut failed = None;
        let run = allocation_counter::measure(|| {
            failed = prepared.run(&inputs).err();
        });
        if let Some(error) = failed {
            return Err(format!("fragment {id}: {error}"));
        }
        let mut first = Service::default();
        let stretch = Stretches::new(self.speed_share);
        let begin = Instant::now();
        for _ in 0..self.warm_runs.max(1) {
            let seconds = stretch.computing.run(1, || drop(prepared.run(&inputs)));
            first.add(seconds.as_secs_f64());
            self.profiles.add(id, Setting::ONE, seconds.as_secs_f64());
            if Duration::from_secs(2) < begin.elapsed() {
                break;
            }
        }
        let held = u64::try_from(counted.bytes_current).unwrap_or(0);
        Ok(Loaded {
            id,
            label: spec.label.clone(),
            prepared,
            memory_bytes: held.saturating_add(run.bytes_max),
            peak_bytes: run.bytes_max,
            first,
            stretch,
            queue_limit: u64::from(spec.queue_limit.max(1)),
            queued: AtomicU64::new(0),
            service: Mutex::default(),
            done: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Runs a fragment in the settings that it never ran in: a batch, and by two, four, … threads up to the node's cores.
    /// Ends early when the time for that is over, or as soon as `is_free` says that others need the cores.
    /// Blocks; of O(log cores) settings.
    pub(crate) fn curve(&self, loaded: &Loaded, cores: u32, is_free: impl Fn() -> bool) {
        let begin = Instant::now();
        for setting in settings(cores) {
            if self.profiles.knows(loaded.id, setting) {
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
                self.at_once(loaded, setting, &inputs);
            }
        }
    }

    /// Has so many threads run a fragment at the same time, once each. Nothing is measured when there are no so many
    /// threads to be had.
    fn at_once(&self, loaded: &Loaded, setting: Setting, inputs: &[Value]) {
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
            self.profiles.add(loaded.id, setting, seconds);
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

    fn room(
        &self,
        spec: &control::FragmentSpec,
        id: FragmentId,
        needed: u64,
    ) -> Result<(), String> {
        let used = self.used_bytes();
        if used.saturating_add(needed) <= self.memory_bytes {
            return Ok(());
        }
        let held: Vec<String> = self
            .all()
            .iter()
            .map(|loaded| format!("{} {}", loaded.label, megabytes(loaded.memory_bytes)))
            .collect();
        Err(format!(
            "fragment {id} ({}) needs {}; {} of {} are left, held are: {}",
            spec.label,
            megabytes(needed),
            megabytes(self.memory_bytes.saturating_sub(used)),
            megabytes(self.memory_bytes),
            if held.is_empty() {
                "none".to_owned()
            } else {
                held.join(", ")
            },
        ))
    }

    /// Drops every fragment that is not in `wanted`.
    pub(crate) fn retain(&self, wanted: impl Fn(FragmentId) -> bool) {
        self.held.lock().retain(|&id, _| wanted(id));
    }
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

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_times_are_summed_up_right() {
        let mut service = Service::default();
        for seconds in [1.0, 2.0, 3.0, 4.0] {
            service.add(seconds);
        }
        let message = service.message();
        assert_eq!((message.count, message.mean_seconds), (4, 2.5));
        assert!((message.variance_seconds2 - 5.0 / 3.0).abs() < 1e-12);
    }
}
