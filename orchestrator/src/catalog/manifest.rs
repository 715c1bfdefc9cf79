//! The head of a manifest, without the files that it names.

use std::{fs, io::Read as _, path::Path};

use serde::Deserialize;

/// Largest manifest that is read for a listing, in bytes.
const LIMIT: u64 = 1 << 20;

#[derive(Deserialize)]
struct Head {
    package: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    version: String,
}

/// Name and version that a manifest states. Everything else is checked when the package is opened.
pub(super) fn head(path: &Path) -> Result<(String, String), String> {
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(LIMIT).read_to_string(&mut text))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let head: Head = toml::from_str(&text)
        .map_err(|error| format!("{}: {}", path.display(), error.message()))?;
    Ok((head.package.name, head.package.version))
}
