//! Fragments that the node holds: fetched bytes verified, kept on disk, loaded, measured.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use splitplace_onnx::{Limits, Prepared, prepare};
use splitplace_plan::FragmentId;
use splitplace_proto::control;

use crate::{
    cache::Cache,
    emulated::Stretches,
    profile::{Memory, Setting},
    profiles::{Handle, Profiles},
};

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

/// A fragment in memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) id: FragmentId,
    pub(crate) label: String,
    pub(crate) prepared: Prepared,
    pub(crate) memory: Memory,
    /// Of the runs made when it was loaded.
    pub(crate) first: Service,
    /// What it takes on this hardware.
    pub(crate) profile: Handle,
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
    /// What is known of it.
    pub(crate) fn status(&self) -> control::FragmentStatus {
        control::FragmentStatus {
            id: self.id.0.to_vec().into(),
            memory_bytes: self.memory.bytes,
            service: Some(self.first.message()),
            profile: self.profile.lock().points(),
            peak_bytes: self.memory.peak_bytes,
        }
    }

    /// Numbers since the last report; the service times start anew, and of the profile what is new is told.
    pub(crate) fn report(&self) -> control::FragmentReport {
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
            profile: self.profile.lock().news(),
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

    /// What every fragment held did since the last report.
    pub(crate) fn reports(&self) -> Vec<control::FragmentReport> {
        self.all().iter().map(|loaded| loaded.report()).collect()
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
            .map(|loaded| loaded.memory.bytes)
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

    /// Loads, measures and holds a fragment, or says with the arithmetic why it does not fit: without loading it where it is
    /// known from before what it takes. Blocks for as long as that takes; call it on a thread.
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
        let profile = self.profiles.of(id);
        let known = profile.lock().memory();
        if let Some(memory) = known {
            self.room(spec, id, memory.bytes)
                .map_err(|reason| NotLoaded {
                    reason,
                    measured: Some(Box::new(control::FragmentStatus {
                        id: id.0.to_vec().into(),
                        memory_bytes: memory.bytes,
                        service: None,
                        profile: profile.lock().points(),
                        peak_bytes: memory.peak_bytes,
                    })),
                })?;
        }
        let loaded = Arc::new(self.measure(spec, id, bytes)?);
        self.room(spec, id, loaded.memory.bytes)
            .map_err(|reason| NotLoaded {
                reason,
                measured: Some(Box::new(loaded.status())),
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
        let profile = self.profiles.of(id);
        let stretch = Stretches::new(self.speed_share);
        let begin = Instant::now();
        for _ in 0..self.warm_runs.max(1) {
            let seconds = stretch.computing.run(1, || drop(prepared.run(&inputs)));
            first.add(seconds.as_secs_f64());
            profile.lock().add(Setting::ONE, seconds.as_secs_f64());
            if Duration::from_secs(2) < begin.elapsed() {
                break;
            }
        }
        let held = u64::try_from(counted.bytes_current).unwrap_or(0);
        let memory = Memory {
            bytes: held.saturating_add(run.bytes_max),
            peak_bytes: run.bytes_max,
        };
        profile.lock().take_memory(memory);
        Ok(Loaded {
            id,
            label: spec.label.clone(),
            prepared,
            memory,
            first,
            profile,
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
            .map(|loaded| format!("{} {}", loaded.label, megabytes(loaded.memory.bytes)))
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
