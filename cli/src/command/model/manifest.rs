//! `fragments.toml`: what lies in a folder of fragments. `docs/cutting.md` describes it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::output;

/// Name of the file.
const FILE: &str = "fragments.toml";

/// A cut model on disk.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Manifest {
    /// The whole model.
    pub(super) model: PathBuf,
    /// SHA-256 of its file.
    pub(super) model_sha256: String,
    /// In the order in which they run.
    #[serde(rename = "fragment")]
    pub(super) fragments: Vec<Entry>,
}

/// One fragment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Entry {
    /// In the same folder.
    pub(super) file: String,
    /// SHA-256 of it, which is the fragment's identity.
    pub(super) sha256: String,
    /// Names of the tensors that it takes.
    pub(super) inputs: Vec<String>,
    /// Names of the tensors that it makes for others.
    pub(super) outputs: Vec<String>,
    /// Multiply-accumulates for one sample.
    pub(super) macs: u64,
    /// Bytes of its weights.
    pub(super) parameter_bytes: u64,
}

impl Manifest {
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read {}: `splitplace model cut` writes one",
                path.display()
            )
        })?;
        toml::from_str(&text).with_context(|| format!("{} cannot be used", path.display()))
    }

    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(FILE);
        output::write(&path, toml::to_string_pretty(self)?)
    }
}
