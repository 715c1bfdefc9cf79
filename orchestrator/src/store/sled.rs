//! The store on disk: sled for records, files named by their hash for the parts of packages.
//!
//! A folder with
//!
//! ```text
//! records/   sled, one tree; keys begin with the kind of record, values are protobuf
//! parts/     contents of packages, one file each, named by SHA-256
//! witness    how many changes were acknowledged
//! ```
//!
//! Each change is one atomic batch, flushed before the call returns. The batch also counts changes,
//! and after the flush that count goes into the witness. A log that was cut short by damage opens as
//! if the last changes had never been made; the witness knows better, so that opening reports damage
//! instead of serving an old state. sled 0.34 panics on some damaged files: every call into it is
//! fenced, and a panic becomes [`StoreError::Corrupt`].

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    ops::Range,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use ::sled::{Batch, Db, IVec};
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use splitplace_fleet::NodeId;
use splitplace_plan::{FragmentId, ModelName, Plan};
use splitplace_proto::store as wire;

use super::{
    Counter, DecisionRecord, Digest, MeasurementRecord, PackageRecord, Store, StoreError,
    StoreLimits,
    blobs::{Blobs, failed},
    check_contents, check_limit, check_succession, convert,
    memory::next_numbers,
};

/// The number of the layout described above.
const FORMAT: u64 = 1;

const FORMAT_KEY: &[u8] = b"format";
const CHANGES_KEY: &[u8] = b"changes";
const PLAN_KEY: &[u8] = b"plan";
const ORDERS_KEY: &[u8] = b"orders";
const PACKAGES: &[u8] = b"package/";
const POLICIES: &[u8] = b"policy/";
const COUNTERS: &[u8] = b"counter/";
const MEASUREMENTS: &[u8] = b"measurement/";
const DECISIONS: &[u8] = b"decision/";

/// A folder on disk.
pub struct SledStore {
    folder: PathBuf,
    limits: StoreLimits,
    blobs: Blobs,
    db: Db,
    /// Held during each change, so that changes are counted in the order in which they are flushed.
    state: Mutex<State>,
}

/// What is known of the records without reading them again.
#[derive(Debug)]
struct State {
    changes: u64,
    witness: File,
    plan: Option<Plan>,
    packages: BTreeMap<ModelName, PackageRecord>,
    measurements: usize,
    decisions: Range<u64>,
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore")
            .field("folder", &self.folder)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// How often a store that is in use is tried again, and after what pause.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

impl SledStore {
    /// Opens the store in `folder`, or makes one there.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while another process has it, [`StoreError::Corrupt`] when what lies there
    /// was damaged, [`StoreError::Foreign`] for a later format, [`StoreError::Io`] for the rest.
    pub fn open(folder: &Path, limits: StoreLimits) -> Result<Self, StoreError> {
        let blobs = Blobs::open(folder.join("parts"))?;
        let mut witness = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join("witness"))
            .map_err(|error| failed(folder, "open the witness", error))?;
        let witnessed = read_witness(&mut witness)
            .map_err(|error| failed(folder, "read the witness", error))?;
        let records = folder.join("records");
        let config = ::sled::Config::new()
            .path(&records)
            .cache_capacity(limits.cache_bytes)
            // Every change is flushed by whoever makes it.
            .flush_every_ms(None);
        // A process that ends lets go of its lock a little after it seems gone.
        let mut tries = BUSY_TRIES;
        let db = loop {
            match fence(folder, "open", || config.open()) {
                Err(StoreError::Busy { .. }) if 0 < tries => {
                    tries -= 1;
                    std::thread::sleep(BUSY_PAUSE);
                }
                opened => break opened?,
            }
        };
        let state = State {
            changes: 0,
            witness,
            plan: None,
            packages: BTreeMap::new(),
            measurements: 0,
            decisions: 0..0,
        };
        let store = Self {
            folder: folder.to_owned(),
            limits,
            blobs,
            db,
            state: Mutex::new(state),
        };
        store.recover(witnessed)?;
        Ok(store)
    }

    /// Checks what was found and reads what is kept in memory.
    fn recover(&self, witnessed: Option<u64>) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        match self.number(FORMAT_KEY)? {
            Some(FORMAT) => {}
            Some(found) => {
                return Err(StoreError::Foreign {
                    place: self.folder.display().to_string(),
                    found,
                    known: FORMAT,
                });
            }
            None => {
                let records = self.fenced("read", || self.db.iter().next().transpose())?;
                if records.is_some() || witnessed.is_some() {
                    return Err(self.corrupt("it does not say its format".into()));
                }
                let mut batch = Batch::default();
                batch.insert(FORMAT_KEY, &FORMAT.to_be_bytes());
                self.apply(&mut state, batch)?;
            }
        }
        state.changes = self.number(CHANGES_KEY)?.unwrap_or(0);
        if let Some(witnessed) = witnessed.filter(|witnessed| *witnessed > state.changes) {
            return Err(self.corrupt(format!(
                "{witnessed} changes were acknowledged and {} are there",
                state.changes
            )));
        }
        for (_, value) in self.scan(PACKAGES)? {
            let package = self.decode(&value, convert::package_from_wire)?;
            state.packages.insert(package.name.clone(), package);
        }
        state.plan = match self.get(PLAN_KEY)? {
            Some(value) => Some(self.decode(&value, convert::plan_from_wire)?),
            None => None,
        };
        state.measurements = self.scan(MEASUREMENTS)?.len();
        let decisions = self.scan(DECISIONS)?;
        let index = |key: &IVec| {
            key.get(DECISIONS.len()..)
                .and_then(|index| index.try_into().ok())
                .map(u64::from_be_bytes)
        };
        if let (Some((first, _)), Some((last, _))) = (decisions.first(), decisions.last()) {
            state.decisions = match (index(first), index(last)) {
                (Some(first), Some(last)) => first..last.saturating_add(1),
                _ => return Err(self.corrupt("a decision has a key of another length".into())),
            };
        }
        self.blobs.keep_only(&digests(&state.packages))
    }

    /// Makes one change durable, then acknowledged.
    fn apply(&self, state: &mut State, mut batch: Batch) -> Result<(), StoreError> {
        state.changes += 1;
        batch.insert(CHANGES_KEY, &state.changes.to_be_bytes());
        self.fenced("write", || {
            self.db.apply_batch(batch)?;
            self.db.flush()
        })?;
        write_witness(&mut state.witness, state.changes)
            .map_err(|error| failed(&self.folder, "write the witness", error))
    }

    fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.fenced("read", || self.db.get(key))
    }

    fn number(&self, key: &[u8]) -> Result<Option<u64>, StoreError> {
        let Some(value) = self.get(key)? else {
            return Ok(None);
        };
        let bytes = value.as_ref().try_into().map_err(|_| {
            let length = value.len();
            self.corrupt(format!("a number is {length} bytes long instead of 8"))
        })?;
        Ok(Some(u64::from_be_bytes(bytes)))
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(IVec, IVec)>, StoreError> {
        self.fenced("read", || self.db.scan_prefix(prefix).collect())
    }

    fn decode<W: Message + Default, T, E: ToString>(
        &self,
        value: &[u8],
        convert: impl FnOnce(W) -> Result<T, E>,
    ) -> Result<T, StoreError> {
        let message = W::decode(value).map_err(|error| self.corrupt(error.to_string()))?;
        convert(message).map_err(|error| self.corrupt(error.to_string()))
    }

    fn put_record(&self, state: &mut State, package: &PackageRecord) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let value = convert::package_to_wire(package).encode_to_vec();
        batch.insert(key(PACKAGES, package.name.as_str().as_bytes()), value);
        self.apply(state, batch)?;
        state.packages.insert(package.name.clone(), package.clone());
        Ok(())
    }

    fn fenced<T>(
        &self,
        what: &'static str,
        call: impl FnOnce() -> ::sled::Result<T>,
    ) -> Result<T, StoreError> {
        fence(&self.folder, what, call)
    }

    fn corrupt(&self, what: String) -> StoreError {
        StoreError::Corrupt {
            place: self.folder.display().to_string(),
            what,
        }
    }
}

impl Store for SledStore {
    fn put_package(
        &self,
        package: &PackageRecord,
        contents: &BTreeMap<Digest, Bytes>,
    ) -> Result<(), StoreError> {
        check_contents(contents, &self.limits)?;
        let mut state = self.state.lock();
        if !state.packages.contains_key(&package.name) {
            let wanted = state.packages.len() as u64 + 1;
            check_limit("packages", wanted, self.limits.packages as u64)?;
        }
        let known = digests(&state.packages);
        for part in &package.parts {
            let is_here = known.contains(&part.digest) && self.blobs.holds(&part.digest);
            if !contents.contains_key(&part.digest) && !is_here {
                return Err(StoreError::MissingPart {
                    package: package.name.clone(),
                    file: part.file.clone(),
                    digest: part.digest,
                });
            }
        }
        for part in &package.parts {
            if let Some(content) = contents.get(&part.digest) {
                self.blobs.put(&part.digest, content)?;
            }
        }
        self.put_record(&mut state, package)?;
        self.blobs.keep_only(&digests(&state.packages))
    }

    fn package(&self, name: &ModelName) -> Result<Option<PackageRecord>, StoreError> {
        Ok(self.state.lock().packages.get(name).cloned())
    }

    fn packages(&self) -> Result<Vec<PackageRecord>, StoreError> {
        Ok(self.state.lock().packages.values().cloned().collect())
    }

    fn set_loaded(&self, name: &ModelName, loaded: bool) -> Result<bool, StoreError> {
        let mut state = self.state.lock();
        let Some(mut package) = state.packages.get(name).cloned() else {
            return Ok(false);
        };
        if package.loaded != loaded {
            package.loaded = loaded;
            self.put_record(&mut state, &package)?;
        }
        Ok(true)
    }

    fn remove_package(&self, name: &ModelName) -> Result<bool, StoreError> {
        let mut state = self.state.lock();
        if !state.packages.contains_key(name) {
            return Ok(false);
        }
        let mut batch = Batch::default();
        batch.remove(key(PACKAGES, name.as_str().as_bytes()));
        self.apply(&mut state, batch)?;
        state.packages.remove(name);
        self.blobs.keep_only(&digests(&state.packages))?;
        Ok(true)
    }

    fn content(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        // The lock keeps the file from being removed between the two steps.
        let state = self.state.lock();
        if !digests(&state.packages).contains(digest) {
            return Ok(None);
        }
        self.blobs.get(digest).map(Some)
    }

    fn put_plan(&self, plan: &Plan) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        check_succession(state.plan.as_ref(), plan)?;
        if state.plan.as_ref() == Some(plan) {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.insert(PLAN_KEY, convert::plan_to_wire(plan).encode_to_vec());
        self.apply(&mut state, batch)?;
        state.plan = Some(plan.clone());
        Ok(())
    }

    fn plan(&self) -> Result<Option<Plan>, StoreError> {
        Ok(self.state.lock().plan.clone())
    }

    fn put_policy(&self, policy: &str, values: &BTreeMap<String, f64>) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let value = convert::policy_to_wire(policy, values).encode_to_vec();
        batch.insert(key(POLICIES, policy.as_bytes()), value);
        self.apply(&mut self.state.lock(), batch)
    }

    fn policy(&self, policy: &str) -> Result<Option<BTreeMap<String, f64>>, StoreError> {
        let Some(value) = self.get(&key(POLICIES, policy.as_bytes()))? else {
            return Ok(None);
        };
        let convert = |state| Ok::<_, String>(convert::policy_from_wire(state));
        self.decode(&value, convert).map(Some)
    }

    fn put_orders(&self, orders: &str) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.insert(ORDERS_KEY, orders.as_bytes());
        self.apply(&mut self.state.lock(), batch)
    }

    fn orders(&self) -> Result<Option<String>, StoreError> {
        let Some(value) = self.get(ORDERS_KEY)? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&value);
        let text = text.map_err(|_| self.corrupt("what operators want is no text".into()))?;
        Ok(Some(text.to_owned()))
    }

    fn reserve(&self, counter: Counter, count: u64) -> Result<Range<u64>, StoreError> {
        let mut state = self.state.lock();
        let key = key(COUNTERS, counter.label().as_bytes());
        let used = match self.get(&key)? {
            Some(value) => {
                self.decode(&value, |used: wire::Counter| Ok::<_, String>(used.value))?
            }
            None => 0,
        };
        let range = next_numbers(used, count)?;
        let value = wire::Counter {
            value: range.end - 1,
        };
        let mut batch = Batch::default();
        batch.insert(key, value.encode_to_vec());
        self.apply(&mut state, batch)?;
        Ok(range)
    }

    fn put_measurements(&self, measurements: &[MeasurementRecord]) -> Result<(), StoreError> {
        if measurements.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock();
        let mut added = BTreeSet::new();
        let mut batch = Batch::default();
        for record in measurements {
            let key = measurement_key(record.fragment, &record.node);
            if self.get(&key)?.is_none() {
                added.insert(key.clone());
            }
            batch.insert(key, convert::measurement_to_wire(record).encode_to_vec());
        }
        let count = state.measurements + added.len();
        check_limit(
            "measurements",
            count as u64,
            self.limits.measurements as u64,
        )?;
        self.apply(&mut state, batch)?;
        state.measurements = count;
        Ok(())
    }

    fn measurements(&self) -> Result<Vec<MeasurementRecord>, StoreError> {
        let records = self.scan(MEASUREMENTS)?;
        let records = records.iter();
        records
            .map(|(_, value)| self.decode(value, convert::measurement_from_wire))
            .collect()
    }

    fn remove_measurements(&self, keys: &[(FragmentId, NodeId)]) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let mut removed = BTreeSet::new();
        let mut batch = Batch::default();
        for (fragment, node) in keys {
            let key = measurement_key(*fragment, node);
            if self.get(&key)?.is_some() && removed.insert(key.clone()) {
                batch.remove(key);
            }
        }
        if removed.is_empty() {
            return Ok(());
        }
        self.apply(&mut state, batch)?;
        state.measurements -= removed.len();
        Ok(())
    }

    fn append_decisions(&self, decisions: &[DecisionRecord]) -> Result<(), StoreError> {
        let surplus = decisions.len().saturating_sub(self.limits.decisions);
        let decisions = &decisions[surplus..];
        if decisions.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock();
        let mut batch = Batch::default();
        let mut kept = state.decisions.clone();
        for record in decisions {
            let value = convert::decision_to_wire(record).encode_to_vec();
            batch.insert(key(DECISIONS, &kept.end.to_be_bytes()), value);
            kept.end += 1;
        }
        let bound = self.limits.decisions as u64;
        while kept.end - kept.start > bound {
            batch.remove(key(DECISIONS, &kept.start.to_be_bytes()));
            kept.start += 1;
        }
        self.apply(&mut state, batch)?;
        state.decisions = kept;
        Ok(())
    }

    fn decisions(&self, count: usize) -> Result<Vec<DecisionRecord>, StoreError> {
        let newest = self.fenced("read", || {
            let newest = self.db.scan_prefix(DECISIONS).rev().take(count);
            newest.collect::<::sled::Result<Vec<_>>>()
        })?;
        let oldest_first = newest.iter().rev();
        oldest_first
            .map(|(_, value)| {
                let convert = |record| Ok::<_, String>(convert::decision_from_wire(record));
                self.decode(value, convert)
            })
            .collect()
    }
}

fn digests(packages: &BTreeMap<ModelName, PackageRecord>) -> BTreeSet<Digest> {
    let parts = packages.values().flat_map(|package| &package.parts);
    parts.map(|part| part.digest).collect()
}

fn key(kind: &[u8], name: &[u8]) -> Vec<u8> {
    [kind, name].concat()
}

fn measurement_key(fragment: FragmentId, node: &NodeId) -> Vec<u8> {
    [MEASUREMENTS, &fragment.0, node.as_str().as_bytes()].concat()
}

/// Calls into sled; errors and panics come back as ours.
fn fence<T>(
    folder: &Path,
    what: &'static str,
    call: impl FnOnce() -> ::sled::Result<T>,
) -> Result<T, StoreError> {
    let place = || folder.display().to_string();
    // Sound to go on with after a panic: sled remembers that it failed and refuses further changes,
    // and the caller's state is changed only after success.
    match panic::catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(::sled::Error::Corruption { at, .. })) => Err(StoreError::Corrupt {
            place: place(),
            what: format!("sled found damage at {at:?}"),
        }),
        Ok(Err(::sled::Error::Io(error))) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(StoreError::Busy { place: place() })
        }
        // How sled 0.34 reports that the file lock is held.
        Ok(Err(::sled::Error::Io(error)))
            if error.to_string().contains("could not acquire lock") =>
        {
            Err(StoreError::Busy { place: place() })
        }
        Ok(Err(error)) => Err(StoreError::Io {
            place: place(),
            what,
            source: error.into(),
        }),
        Err(panic) => Err(StoreError::Corrupt {
            place: place(),
            what: said(&*panic),
        }),
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("sled gave up: {}", text.unwrap_or("without a word"))
}

/// The count in the witness; `None` when it was never written.
fn read_witness(file: &mut File) -> io::Result<Option<u64>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(16).read_to_end(&mut bytes)?;
    let Ok(bytes) = <[u8; 16]>::try_from(bytes) else {
        return Ok(None);
    };
    let [count, check] = [&bytes[..8], &bytes[8..]]
        .map(|half| u64::from_be_bytes(half.try_into().expect("half of sixteen bytes is eight")));
    // Torn by a loss of power: it knows nothing, and the records speak for themselves.
    Ok((check == !count).then_some(count))
}

/// Not synced: after `kill -9` the system still has it, and after a loss of power an older count is
/// still true, because the records are synced first.
fn write_witness(file: &mut File, count: u64) -> io::Result<()> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&count.to_be_bytes());
    bytes[8..].copy_from_slice(&(!count).to_be_bytes());
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&bytes)
}
