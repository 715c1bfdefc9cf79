//! What must survive: packages, the plan, the policy's state, counters, measurements, decisions.
//!
//! One trait, two adapters that keep the same promises: [`SledStore`] on disk, [`MemoryStore`] for
//! tests and for fleets that may forget. A write that returned is there after `kill -9` at any later
//! instant; a write that was cut off is there whole or not at all; a plan or a counter never goes
//! back. Calls block on the disk: an async caller gives them a thread.
//!
//! Reading order: [`records`] (what is kept), this trait, [`sled`] with its `blobs`, [`memory`],
//! `convert` (the disk schema).

mod blobs;
mod convert;
pub mod memory;
pub mod records;
pub mod sled;

use std::{collections::BTreeMap, error::Error, fmt, ops::Range};

use bytes::Bytes;
use splitplace_fleet::NodeId;
use splitplace_plan::{FragmentId, Generation, ModelName, Plan};

pub use self::{
    memory::MemoryStore,
    records::{Counter, DecisionRecord, Digest, MeasurementRecord, PackageRecord, PartRecord},
    sled::SledStore,
};

/// The bounds of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Decisions kept; the oldest make room.
    pub decisions: usize,
    /// Measurements kept; one more is refused.
    pub measurements: usize,
    /// Packages kept; one more is refused.
    pub packages: usize,
    /// Bytes of one part of a package.
    pub part_bytes: u64,
    /// Bytes of memory for the disk adapter's cache.
    pub cache_bytes: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            decisions: 10_000,
            measurements: 100_000,
            packages: 1_000,
            part_bytes: 4 << 30,
            cache_bytes: 16 << 20,
        }
    }
}

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error(
        "the store at {place} is in use by another process; stop that one or name another folder"
    )]
    Busy {
        /// The folder.
        place: String,
    },
    /// The disk did not do what was asked of it.
    #[error("cannot {what} in the store at {place}: {source}")]
    Io {
        /// The folder or file.
        place: String,
        /// The operation, as a verb with its object.
        what: &'static str,
        /// What the system said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// What lies there is not what was written.
    #[error(
        "the store at {place} is damaged: {what}; restore it from a backup, or move the folder away to begin with an empty store"
    )]
    Corrupt {
        /// The folder or file.
        place: String,
        /// What was found.
        what: String,
    },
    /// Written by a later version, or by something else.
    #[error(
        "the store at {place} has format {found}, and this version reads format {known}; use the version that wrote it, or name another folder"
    )]
    Foreign {
        /// The folder.
        place: String,
        /// The format's number found.
        found: u64,
        /// The format's number that this version writes.
        known: u64,
    },
    /// A package names a part that was neither given nor is here.
    #[error("package {package}: the content of part '{file}' (sha256 {digest}) was not given")]
    MissingPart {
        /// The package.
        package: ModelName,
        /// The part's file name.
        file: String,
        /// The content that the manifest names.
        digest: Digest,
    },
    /// A part's content is not what its hash says.
    #[error("content named {named} has the hash {found}")]
    WrongDigest {
        /// The hash that was stated.
        named: Digest,
        /// The hash of what was given.
        found: Digest,
    },
    /// A plan older than, or different from, the one that is kept.
    #[error("plan {offered} does not come after plan {kept}, which is in the store")]
    Stale {
        /// The plan in the store.
        kept: Generation,
        /// The plan offered.
        offered: Generation,
    },
    /// A bound would be passed.
    #[error("{what}: {wanted} would pass the limit of {limit}")]
    Limit {
        /// Of what there would be too much.
        what: &'static str,
        /// How much there would be.
        wanted: u64,
        /// The limit.
        limit: u64,
    },
}

/// Keeps what must survive.
///
/// Every method that returns `Ok` after a change has made it durable. All of them may fail with
/// [`StoreError::Io`] and [`StoreError::Corrupt`]; further errors are named where they can occur.
pub trait Store: Send + Sync + fmt::Debug {
    /// Keeps a package with the content of its parts, all or nothing; replaces the package of the
    /// same name. Contents that are here already need not be given again.
    ///
    /// # Errors
    /// [`StoreError::MissingPart`], [`StoreError::WrongDigest`], [`StoreError::Limit`].
    fn put_package(
        &self,
        package: &PackageRecord,
        contents: &BTreeMap<Digest, Bytes>,
    ) -> Result<(), StoreError>;

    /// The package of that name.
    ///
    /// # Errors
    /// See the trait.
    fn package(&self, name: &ModelName) -> Result<Option<PackageRecord>, StoreError>;

    /// Every package, by name.
    ///
    /// # Errors
    /// See the trait.
    fn packages(&self) -> Result<Vec<PackageRecord>, StoreError>;

    /// Notes whether a package should be served; `false` when there is no such package.
    ///
    /// # Errors
    /// See the trait.
    fn set_loaded(&self, name: &ModelName, loaded: bool) -> Result<bool, StoreError>;

    /// Forgets a package, and the contents that no other package names; `false` when there was none.
    ///
    /// # Errors
    /// See the trait.
    fn remove_package(&self, name: &ModelName) -> Result<bool, StoreError>;

    /// The content of that hash, verified; `None` when no package names it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a package names it and it is gone or altered.
    fn content(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError>;

    /// Makes `plan` the current one. The same plan twice is fine.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when a different plan of the same or a later generation is kept.
    fn put_plan(&self, plan: &Plan) -> Result<(), StoreError>;

    /// The current plan.
    ///
    /// # Errors
    /// See the trait.
    fn plan(&self) -> Result<Option<Plan>, StoreError>;

    /// Keeps the state of the policy of that name, whole.
    ///
    /// # Errors
    /// See the trait.
    fn put_policy(&self, policy: &str, state: &BTreeMap<String, f64>) -> Result<(), StoreError>;

    /// The state of the policy of that name.
    ///
    /// # Errors
    /// See the trait.
    fn policy(&self, policy: &str) -> Result<Option<BTreeMap<String, f64>>, StoreError>;

    /// Keeps what operators have pinned and drained, as one text in the place of the one before.
    ///
    /// # Errors
    /// See the trait.
    fn put_orders(&self, orders: &str) -> Result<(), StoreError>;

    /// What operators have pinned and drained.
    ///
    /// # Errors
    /// See the trait.
    fn orders(&self) -> Result<Option<String>, StoreError>;

    /// Takes `count` numbers that were never handed out before and never will be again. The first
    /// number ever is 1.
    ///
    /// # Errors
    /// [`StoreError::Limit`] when the numbers run out.
    fn reserve(&self, counter: Counter, count: u64) -> Result<Range<u64>, StoreError>;

    /// Keeps measurements, each in the place of the one of the same fragment and node.
    ///
    /// # Errors
    /// [`StoreError::Limit`]; none of them is kept then.
    fn put_measurements(&self, measurements: &[MeasurementRecord]) -> Result<(), StoreError>;

    /// Every measurement, by fragment and node.
    ///
    /// # Errors
    /// See the trait.
    fn measurements(&self) -> Result<Vec<MeasurementRecord>, StoreError>;

    /// Forgets these measurements; those that are not there are fine.
    ///
    /// # Errors
    /// See the trait.
    fn remove_measurements(&self, keys: &[(FragmentId, NodeId)]) -> Result<(), StoreError>;

    /// Adds decisions to the history and lets the oldest go beyond the bound.
    ///
    /// # Errors
    /// See the trait.
    fn append_decisions(&self, decisions: &[DecisionRecord]) -> Result<(), StoreError>;

    /// The newest `count` decisions, oldest first.
    ///
    /// # Errors
    /// See the trait.
    fn decisions(&self, count: usize) -> Result<Vec<DecisionRecord>, StoreError>;
}

/// Whether `plan` may take the place of `kept`.
fn check_succession(kept: Option<&Plan>, plan: &Plan) -> Result<(), StoreError> {
    match kept {
        Some(kept) if kept.generation >= plan.generation && kept != plan => {
            Err(StoreError::Stale {
                kept: kept.generation,
                offered: plan.generation,
            })
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether every content is what its hash says and none is too large.
fn check_contents(
    contents: &BTreeMap<Digest, Bytes>,
    limits: &StoreLimits,
) -> Result<(), StoreError> {
    for (named, content) in contents {
        check_limit("bytes of a part", content.len() as u64, limits.part_bytes)?;
        let found = Digest::of(content);
        if found != *named {
            return Err(StoreError::WrongDigest {
                named: *named,
                found,
            });
        }
    }
    Ok(())
}

const fn check_limit(what: &'static str, wanted: u64, limit: u64) -> Result<(), StoreError> {
    if wanted > limit {
        return Err(StoreError::Limit {
            what,
            wanted,
            limit,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
