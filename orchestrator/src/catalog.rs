//! The models there are: in the repository folders, and in the store.
//!
//! A repository folder holds packages: subfolders with `package.toml`, and bare `.onnx` files. Loading
//! a model reads it from a folder, or from the store when no folder has it, takes it apart
//! ([`Loaded`]), and keeps it in the store, so that a restart serves the same bytes even if the folder
//! has changed or is gone. A model's name never becomes a path: folders are listed, and the entry of
//! that name is opened.
//!
//! Reading order: [`loaded`], `interface` (does a part fit its package), `manifest`, this [`Catalog`].

mod interface;
mod leaving;
pub mod loaded;
mod manifest;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use splitplace_onnx::package::{Package, bare_name};
use splitplace_plan::ModelName;

pub use self::loaded::{
    Coding, FragmentPlace, LoadSettings, Loaded, LoadedExit, LoadedPart, LoadedVariant, Profiled,
    profile_plan, records,
};
use crate::{
    face::LoadError,
    store::{Digest, PackageRecord, PartRecord, Store, StoreError},
    wishes::{self, THRESHOLDS, Wishes, WishesError},
};

/// Why a model cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Neither a folder nor the store has it.
    #[error("no such model in the repository")]
    Unknown {
        /// The name.
        model: ModelName,
    },
    /// A repository folder cannot be listed.
    #[error("cannot list the repository folder {folder}: {source}")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A repository folder has more entries than are looked at.
    #[error("the repository folder {folder} has more than {limit} entries; split it up")]
    Crowded {
        /// Which.
        folder: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// Two entries of the folders have one name.
    #[error("{first} and {second} are both named {model}; rename or remove one")]
    Ambiguous {
        /// The name.
        model: ModelName,
        /// One place.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// The package or one of its models is not sound.
    #[error(transparent)]
    Onnx(#[from] splitplace_onnx::Error),
    /// A part does not take or give what its package says.
    #[error("variant '{variant}', file '{file}': {reason}")]
    Interface {
        /// The variant.
        variant: String,
        /// The part's file.
        file: String,
        /// What differs.
        reason: String,
    },
    /// What is asked for beyond serving it cannot be done with its package.
    #[error(transparent)]
    Wishes(#[from] WishesError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CatalogError {
    /// The same, for whoever asked for the model.
    pub(crate) fn of(self, model: &ModelName) -> LoadError {
        let (reason, model) = (self.to_string(), model.to_string());
        match self {
            Self::Unknown { .. } => LoadError::Unknown { model },
            Self::Wishes(error) => LoadError::NotGranted(error),
            _ => LoadError::Refused { model, reason },
        }
    }
}

/// Where a listed model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Its name.
    pub name: ModelName,
    /// Its version, when it could be read.
    pub version: Option<String>,
    /// Where in the folders it is.
    pub folder: Option<PathBuf>,
    /// Where there is another of the same name: neither can be loaded.
    pub also: Option<PathBuf>,
    /// Whether the store has it.
    pub is_stored: bool,
    /// Whether the operator wants it served.
    pub is_wanted: bool,
    /// Why it could not be read, for an entry that is no sound package.
    pub problem: Option<String>,
}

/// Most entries of one repository folder.
const ENTRIES_LIMIT: usize = 10_000;

/// Repository folders and the store behind them.
#[derive(Debug)]
pub struct Catalog {
    folders: Vec<PathBuf>,
    store: Arc<dyn Store>,
    settings: LoadSettings,
}

impl Catalog {
    /// Looks into `folders`, the first one first, and into `store`.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>, store: Arc<dyn Store>, settings: LoadSettings) -> Self {
        Self {
            folders,
            store,
            settings,
        }
    }

    /// Every model of the folders and the store, by name. Reads manifests only; O(entries).
    ///
    /// # Errors
    /// [`CatalogError::Folder`], [`CatalogError::Crowded`], [`CatalogError::Store`]. A package that cannot be read is listed with its problem.
    pub fn list(&self) -> Result<Vec<Listing>, CatalogError> {
        let mut all: BTreeMap<ModelName, Listing> = BTreeMap::new();
        for folder in &self.folders {
            for listing in list_folder(folder)? {
                match all.entry(listing.name.clone()) {
                    Entry::Vacant(empty) => {
                        empty.insert(listing);
                    }
                    Entry::Occupied(mut first) => first.get_mut().also = listing.folder,
                }
            }
        }
        for record in self.store.packages()? {
            let listing = all.entry(record.name.clone()).or_insert_with(|| Listing {
                name: record.name.clone(),
                version: None,
                folder: None,
                also: None,
                is_stored: true,
                is_wanted: false,
                problem: None,
            });
            listing.is_stored = true;
            listing.is_wanted = record.loaded;
            if record.loaded || listing.folder.is_none() {
                listing.version = Some(record.version);
            }
        }
        Ok(all.into_values().collect())
    }

    /// Loads a model as the operator wants it now: from a folder if one has it, else from the store.
    /// It is in the store, and noted as wanted, when this returns. Blocks on disk and on cutting.
    ///
    /// # Errors
    /// Whatever is wrong with the package; nothing is kept then.
    pub fn load(&self, name: &ModelName) -> Result<Loaded, CatalogError> {
        self.load_as(name, None)
    }

    /// The same, and keeps what the operator asks for beyond; `None` leaves what was asked before.
    ///
    /// # Errors
    /// See [`Catalog::load`].
    pub fn load_as(
        &self,
        name: &ModelName,
        asked: Option<&Wishes>,
    ) -> Result<Loaded, CatalogError> {
        let found = self
            .list()?
            .into_iter()
            .find(|listing| listing.name == *name);
        let listing = found.ok_or_else(|| CatalogError::Unknown {
            model: name.clone(),
        })?;
        let Some(place) = listing.folder else {
            let loaded = self.restore(name)?;
            grant(&loaded, asked)?;
            self.note(name, true, asked.map(Wishes::text))?;
            return Ok(loaded);
        };
        if let Some(second) = listing.also {
            return Err(CatalogError::Ambiguous {
                model: name.clone(),
                first: place,
                second,
            });
        }
        let package = Package::open(&place, &self.settings.limits)?;
        let (mut record, contents) = stored(&package);
        record.wishes = match asked {
            Some(asked) => asked.text().to_owned(),
            None => {
                let before = self.store.package(name)?;
                before.map(|record| record.wishes).unwrap_or_default()
            }
        };
        let loaded = Loaded::open(package, &self.settings)?;
        grant(&loaded, asked)?;
        self.store.put_package(&record, &contents)?;
        Ok(loaded)
    }

    /// What the operator asks for beyond serving the model, as the store remembers.
    ///
    /// # Errors
    /// [`CatalogError::Store`].
    pub fn wishes(&self, name: &ModelName) -> Result<Wishes, CatalogError> {
        let record = self.store.package(name)?;
        let text = record.map(|record| record.wishes).unwrap_or_default();
        Ok(wishes::stored(name, &text))
    }

    /// Notes what the operator wants; `false` when the store does not have the model.
    fn note(
        &self,
        name: &ModelName,
        loaded: bool,
        wishes: Option<&str>,
    ) -> Result<bool, StoreError> {
        let Some(before) = self.store.package(name)? else {
            return Ok(false);
        };
        let wishes = wishes.map_or_else(|| before.wishes.clone(), str::to_owned);
        let after = PackageRecord {
            loaded,
            wishes,
            ..before.clone()
        };
        if after != before {
            self.store.put_package(&after, &BTreeMap::new())?;
        }
        Ok(true)
    }

    /// Loads a model from the store alone: after a restart, what was served before.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] when the store does not have it.
    pub fn restore(&self, name: &ModelName) -> Result<Loaded, CatalogError> {
        let unknown = || CatalogError::Unknown {
            model: name.clone(),
        };
        let record = self.store.package(name)?.ok_or_else(unknown)?;
        let mut contents = BTreeMap::new();
        for part in &record.parts {
            let content = self.store.content(&part.digest)?.ok_or_else(unknown)?;
            contents.insert(part.file.as_str(), content);
        }
        let place = Path::new("the store");
        let package = Package::from_parts(place, &record.manifest, &record.tables, |file| {
            contents
                .get(file)
                .cloned()
                .ok_or_else(|| splitplace_onnx::Error::Package {
                    path: place.to_owned(),
                    reason: format!("the manifest names '{file}', which is not in the store"),
                })
        })?;
        Loaded::open(package, &self.settings)
    }

    /// The models that the operator wants served, as the store remembers, by name.
    ///
    /// # Errors
    /// [`CatalogError::Store`].
    pub fn wanted(&self) -> Result<Vec<ModelName>, CatalogError> {
        let records = self.store.packages()?.into_iter();
        let wanted = records.filter(|record| record.loaded);
        Ok(wanted.map(|record| record.name).collect())
    }

    /// Notes that the operator does not want the model served any more, and asks for nothing else of it.
    /// Its package stays in the store.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] when neither folders nor store have it.
    pub fn unload(&self, name: &ModelName) -> Result<(), CatalogError> {
        if self.note(name, false, Some(""))? {
            return Ok(());
        }
        let is_listed = self.list()?.iter().any(|listing| listing.name == *name);
        if is_listed {
            Ok(())
        } else {
            Err(CatalogError::Unknown {
                model: name.clone(),
            })
        }
    }
}

/// Whether a package can be served as it is asked for, as far as it alone says.
fn grant(loaded: &Loaded, asked: Option<&Wishes>) -> Result<(), WishesError> {
    let policy = asked.and_then(|asked| asked.exit_policy.as_deref());
    let Some(policy) = policy.filter(|policy| *policy != THRESHOLDS) else {
        return Ok(());
    };
    let variants = loaded.variants().iter();
    let with_exits: Vec<_> = variants.filter(|v| !v.exits.is_empty()).collect();
    let unmeasured = |variant: &&&LoadedVariant| {
        let records = loaded.exit_records(&variant.name);
        !records.is_ok_and(|records| records.is_some())
    };
    let why = match (with_exits.first(), with_exits.iter().find(unmeasured)) {
        (None, _) => format!("no variant of {} has exits", loaded.name()),
        (_, Some(variant)) => format!(
            "{policy} decides by what was measured of the exits, and of variant '{}' nothing was; run \
             `splitplace model measure`",
            variant.name
        ),
        _ => return Ok(()),
    };
    let impossible = BTreeMap::from([("exits".to_owned(), why)]);
    Err(WishesError::Impossible(impossible))
}

/// The package as the store keeps it, noted as wanted.
fn stored(package: &Package) -> (PackageRecord, BTreeMap<Digest, bytes::Bytes>) {
    let record = PackageRecord {
        name: ModelName::new(&package.name),
        version: package.version.clone(),
        manifest: package.manifest_text(),
        tables: package.tables_text.clone(),
        parts: package
            .files()
            .map(|(file, sha256, content)| PartRecord {
                file: file.to_owned(),
                digest: Digest(sha256),
                size_bytes: content.len() as u64,
            })
            .collect(),
        loaded: true,
        wishes: String::new(),
    };
    let contents = package.files();
    let contents = contents.map(|(_, sha256, content)| (Digest(sha256), content.clone()));
    (record, contents.collect())
}

/// The packages of one folder, by file name.
fn list_folder(folder: &Path) -> Result<Vec<Listing>, CatalogError> {
    let failed = |source| CatalogError::Folder {
        folder: folder.to_owned(),
        source,
    };
    let mut places = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        if places.len() == ENTRIES_LIMIT {
            return Err(CatalogError::Crowded {
                folder: folder.to_owned(),
                limit: ENTRIES_LIMIT,
            });
        }
        places.push(entry.map_err(failed)?.path());
    }
    places.sort();
    Ok(places
        .iter()
        .filter_map(|place| list_place(place))
        .collect())
}

/// The package at `place`; `None` when there is none.
fn list_place(place: &Path) -> Option<Listing> {
    let is_folder = place.join("package.toml").is_file();
    let is_bare = place.extension().is_some_and(|ending| ending == "onnx") && place.is_file();
    let (name, version, problem) = if is_folder {
        match manifest::head(&place.join("package.toml")) {
            Ok((name, version)) => (name, Some(version), None),
            // Listed under its folder's name, so that somebody sees what is wrong with it.
            Err(problem) => (place.file_name()?.to_str()?.to_owned(), None, Some(problem)),
        }
    } else if is_bare {
        (bare_name(place)?, Some("1".into()), None)
    } else {
        return None;
    };
    Some(Listing {
        name: ModelName::new(&name),
        version,
        folder: Some(place.to_owned()),
        also: None,
        is_stored: false,
        is_wanted: false,
        problem,
    })
}

#[cfg(test)]
pub(crate) mod tests;
