//! Models that are wanted are opened, from the store or the repository, and then planned for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use splitplace_plan::ModelName;
use tokio::task::JoinSet;

use super::{Control, Opened};
use crate::{
    catalog::{CatalogError, Loaded},
    center::served::Served,
    wishes::Wishes,
};

impl Control {
    /// Loads what was served before, what the configuration names, and what is new in the repository.
    pub(super) async fn open_wanted(&mut self, openings: &mut JoinSet<Opened>) {
        let catalog = Arc::clone(&self.inner.catalog);
        let listed = tokio::task::spawn_blocking(move || catalog.list()).await;
        let listings = match listed {
            Ok(Ok(listings)) => listings,
            Ok(Err(error)) => {
                tracing::error!(code = "SP408", %error, "the repository cannot be listed");
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        let named: BTreeSet<ModelName> = self
            .inner
            .config
            .load
            .iter()
            .map(|name| ModelName::new(name))
            .collect();
        let mut wanted: BTreeMap<ModelName, bool> = BTreeMap::new();
        for listing in &listings {
            if listing.is_wanted {
                wanted.insert(listing.name.clone(), true);
            } else if named.is_empty() && !listing.is_stored {
                wanted.insert(listing.name.clone(), false);
            }
        }
        for name in named {
            wanted.entry(name).or_insert(false);
        }
        if wanted.is_empty() {
            self.inner.is_settled.store(true, Ordering::Relaxed);
        }
        for (model, is_stored) in wanted {
            self.open(model, is_stored, None, openings);
        }
    }

    /// Opens a package on a thread of its own.
    pub(super) fn open(
        &self,
        model: ModelName,
        from_store: bool,
        wishes: Option<Wishes>,
        openings: &mut JoinSet<Opened>,
    ) {
        self.inner
            .problems
            .write()
            .insert(model.clone(), "it is being loaded".into());
        let catalog = Arc::clone(&self.inner.catalog);
        openings.spawn_blocking(move || {
            let result = if from_store {
                catalog.restore(&model)
            } else {
                catalog.load_as(&model, wishes.as_ref())
            };
            let result = result.and_then(|loaded| Ok((loaded, catalog.wishes(&model)?)));
            (model, result)
        });
    }

    /// Takes in what became of that.
    pub(super) fn opened(
        &mut self,
        model: &ModelName,
        result: Result<(Loaded, Wishes), CatalogError>,
    ) {
        match result {
            Ok((loaded, wishes)) => {
                self.inner.problems.write().remove(model);
                let served = Arc::new(Served::new(Arc::new(loaded), wishes));
                self.inner
                    .models
                    .write()
                    .insert(served.name.clone(), served);
                self.because(format!("{model} is loaded"));
                self.plan_within(Duration::ZERO);
            }
            Err(error) => {
                tracing::error!(code = "SP307", %model, %error, "a model cannot be loaded");
                if matches!(error, CatalogError::Unknown { .. }) {
                    self.inner.problems.write().remove(model);
                } else {
                    let mut problems = self.inner.problems.write();
                    problems.insert(model.clone(), error.to_string());
                }
                let error = error.of(model);
                self.tell(model, &|| Err(error.clone()));
            }
        }
        self.inner.changed();
    }
}
