//! A store that forgets when it is dropped: for tests, and for fleets that need no memory.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use bytes::Bytes;
use parking_lot::Mutex;
use splitplace_fleet::NodeId;
use splitplace_plan::{FragmentId, ModelName, Plan};

use super::{
    Counter, DecisionRecord, Digest, MeasurementRecord, PackageRecord, Store, StoreError,
    StoreLimits, check_contents, check_limit, check_succession,
};

/// Everything in maps behind one lock.
#[derive(Debug, Default)]
pub struct MemoryStore {
    limits: StoreLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    packages: BTreeMap<ModelName, PackageRecord>,
    contents: BTreeMap<Digest, Bytes>,
    plan: Option<Plan>,
    policies: BTreeMap<String, BTreeMap<String, f64>>,
    orders: Option<String>,
    counters: BTreeMap<Counter, u64>,
    measurements: BTreeMap<(FragmentId, NodeId), MeasurementRecord>,
    decisions: VecDeque<DecisionRecord>,
}

impl State {
    fn drop_orphans(&mut self) {
        let packages = &self.packages;
        self.contents.retain(|digest, _| {
            packages
                .values()
                .flat_map(|package| &package.parts)
                .any(|part| part.digest == *digest)
        });
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(limits: StoreLimits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
        }
    }
}

impl Store for MemoryStore {
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
        let mut taken = Vec::new();
        for part in &package.parts {
            let content = contents.get(&part.digest);
            match content.or_else(|| state.contents.get(&part.digest)) {
                Some(content) => taken.push((part.digest, content.clone())),
                None => {
                    return Err(StoreError::MissingPart {
                        package: package.name.clone(),
                        file: part.file.clone(),
                        digest: part.digest,
                    });
                }
            }
        }
        state.contents.extend(taken);
        state.packages.insert(package.name.clone(), package.clone());
        state.drop_orphans();
        Ok(())
    }

    fn package(&self, name: &ModelName) -> Result<Option<PackageRecord>, StoreError> {
        Ok(self.state.lock().packages.get(name).cloned())
    }

    fn packages(&self) -> Result<Vec<PackageRecord>, StoreError> {
        Ok(self.state.lock().packages.values().cloned().collect())
    }

    fn set_loaded(&self, name: &ModelName, loaded: bool) -> Result<bool, StoreError> {
        let mut state = self.state.lock();
        let Some(package) = state.packages.get_mut(name) else {
            return Ok(false);
        };
        package.loaded = loaded;
        Ok(true)
    }

    fn remove_package(&self, name: &ModelName) -> Result<bool, StoreError> {
        let mut state = self.state.lock();
        let was_there = state.packages.remove(name).is_some();
        state.drop_orphans();
        Ok(was_there)
    }

    fn content(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        Ok(self.state.lock().contents.get(digest).cloned())
    }

    fn put_plan(&self, plan: &Plan) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        check_succession(state.plan.as_ref(), plan)?;
        state.plan = Some(plan.clone());
        Ok(())
    }

    fn plan(&self) -> Result<Option<Plan>, StoreError> {
        Ok(self.state.lock().plan.clone())
    }

    fn put_policy(&self, policy: &str, values: &BTreeMap<String, f64>) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.policies.insert(policy.to_owned(), values.clone());
        Ok(())
    }

    fn put_orders(&self, orders: &str) -> Result<(), StoreError> {
        self.state.lock().orders = Some(orders.to_owned());
        Ok(())
    }

    fn orders(&self) -> Result<Option<String>, StoreError> {
        Ok(self.state.lock().orders.clone())
    }

    fn policy(&self, policy: &str) -> Result<Option<BTreeMap<String, f64>>, StoreError> {
        Ok(self.state.lock().policies.get(policy).cloned())
    }

    fn reserve(&self, counter: Counter, count: u64) -> Result<Range<u64>, StoreError> {
        let mut state = self.state.lock();
        let used = state.counters.entry(counter).or_default();
        let range = next_numbers(*used, count)?;
        *used = range.end - 1;
        Ok(range)
    }

    fn put_measurements(&self, measurements: &[MeasurementRecord]) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let mut after = state.measurements.clone();
        for record in measurements {
            after.insert((record.fragment, record.node.clone()), record.clone());
        }
        check_limit(
            "measurements",
            after.len() as u64,
            self.limits.measurements as u64,
        )?;
        state.measurements = after;
        Ok(())
    }

    fn measurements(&self) -> Result<Vec<MeasurementRecord>, StoreError> {
        Ok(self.state.lock().measurements.values().cloned().collect())
    }

    fn remove_measurements(&self, keys: &[(FragmentId, NodeId)]) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        for key in keys {
            state.measurements.remove(key);
        }
        Ok(())
    }

    fn append_decisions(&self, decisions: &[DecisionRecord]) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.decisions.extend(decisions.iter().cloned());
        let surplus = state.decisions.len().saturating_sub(self.limits.decisions);
        state.decisions.drain(..surplus);
        Ok(())
    }

    fn decisions(&self, count: usize) -> Result<Vec<DecisionRecord>, StoreError> {
        let state = self.state.lock();
        let skipped = state.decisions.len().saturating_sub(count);
        Ok(state.decisions.iter().skip(skipped).cloned().collect())
    }
}

/// The `count` numbers after `used`, as a range whose end still fits.
pub(super) fn next_numbers(used: u64, count: u64) -> Result<Range<u64>, StoreError> {
    let limit = u64::MAX - 1;
    let Some(last) = used.checked_add(count).filter(|last| *last <= limit) else {
        return Err(StoreError::Limit {
            what: "numbers of a counter",
            wanted: u64::MAX,
            limit,
        });
    };
    Ok(used + 1..last + 1)
}
