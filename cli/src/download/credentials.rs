//! Who asks a registry: what `docker login` writes, and secrets of the type `kubernetes.io/dockerconfigjson` hold.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::HeaderValue;
use serde::Deserialize;

/// What is told to which registry, by `host[:port]` or `host[:port]/path`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    places: BTreeMap<String, HeaderValue>,
    has_helpers: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    /// What these files hold; the first one that names a place counts.
    ///
    /// # Errors
    /// When one cannot be read, or is something else. No error shows what a file holds.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self> {
        let mut all = Self::default();
        for path in files {
            let place = path.display();
            let text = std::fs::read(path).with_context(|| format!("cannot read {place}"))?;
            let config: Config = serde_json::from_slice(&text)
                .map_err(|error| {
                    anyhow::anyhow!("line {}, column {}", error.line(), error.column())
                })
                .with_context(|| {
                    format!(
                        "{place} is not what `docker login` writes: {{\"auths\": …}} is expected"
                    )
                })?;
            all.has_helpers |= config.store.is_some() || !config.helpers.is_empty();
            for (key, entry) in config.auths {
                let told = told(entry).with_context(|| format!("{place}, {key}"))?;
                if let Some(told) = told {
                    all.places.entry(plain(&key)).or_insert(told);
                }
            }
        }
        Ok(all)
    }

    /// What is told to a registry that is asked for a repository: the entry with the longest path that leads there.
    pub(crate) fn of(&self, registry: &str, repository: &str) -> Option<HeaderValue> {
        let place = format!("{registry}/{repository}");
        let leads = |key: &str| {
            let rest = place.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found = self.places.iter().filter(|(key, _)| leads(key));
        let found = found.max_by_key(|(key, _)| key.len());
        found.map(|(_, told)| told.clone())
    }

    /// What to do when a registry accepts nobody.
    pub(crate) fn advice(&self, registry: &str) -> String {
        if self.has_helpers && self.of(registry, "").is_none() {
            return format!(
                "the registry's name and password are with a credential helper, which is not asked: make a secret with \
                 kubectl create secret docker-registry NAME --docker-server={registry} …, or a file without a helper"
            );
        }
        let has = if self.of(registry, "").is_some() {
            "its name and password are right"
        } else {
            "there are any"
        };
        format!(
            "see that {has} for {registry}: --registry-config FILE as `docker login` writes it; in a cluster \
             operator.fetch.imagePullSecrets"
        )
    }
}

/// A place without what people write around it.
fn plain(key: &str) -> String {
    let key = key
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let key = key.trim_end_matches('/');
    let key = key
        .strip_suffix("/v1")
        .or_else(|| key.strip_suffix("/v2"))
        .unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        other => other.into(),
    }
}

fn told(entry: Entry) -> Result<Option<HeaderValue>> {
    if let Some(user) = &entry.username {
        return basic(user, entry.password.as_deref().unwrap_or_default()).map(Some);
    }
    let Some(auth) = entry.auth.filter(|auth| !auth.is_empty()) else {
        return Ok(None);
    };
    let text = BASE64_STANDARD.decode(auth.trim()).ok();
    let text = text.and_then(|text| String::from_utf8(text).ok());
    let pair = text.as_deref().and_then(|text| text.split_once(':'));
    let (user, password) = pair.context("its auth is no NAME:PASSWORD in base64")?;
    basic(user, password).map(Some)
}

/// The header that tells a name and a password; it never shows itself in a log.
///
/// # Errors
/// Never in practice: base64 is fit for a header.
pub(crate) fn basic(user: &str, password: &str) -> Result<HeaderValue> {
    let pair = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {pair}"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Credentials> {
        let folder = tempfile::tempdir()?;
        let files = texts.iter().enumerate().map(|(number, text)| {
            let path = folder.path().join(number.to_string());
            std::fs::write(&path, text).map(|()| path)
        });
        Credentials::read(&files.collect::<std::io::Result<Vec<_>>>()?)
    }

    #[test]
    fn the_longest_place_counts_and_then_the_first_file() {
        // "a:1", "b:2:3" and "c:4" in base64.
        let first = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "YTox"}, "r.example:5000": {"auth": "YjoyOjM="}}}"#;
        let second = r#"{"auths": {"r.example:5000": {"auth": "YTox"}, "r.example:5000/team": {"username": "c", "password": "4"}}}"#;
        let all = read(&[first, second]).unwrap();
        let of = |registry: &str, repository: &str| all.of(registry, repository);
        assert_eq!(of("docker.io", "library/x"), basic("a", "1").ok());
        assert_eq!(of("r.example:5000", "nets"), basic("b", "2:3").ok());
        assert_eq!(of("r.example:5000", "team/nets"), basic("c", "4").ok());
        assert_eq!(of("r.example:5000", "teamwork"), basic("b", "2:3").ok());
        assert_eq!(of("r.example", "nets"), None);
        assert_eq!(of("other.example", "nets"), None);
    }

    #[test]
    fn what_a_file_holds_is_never_shown() {
        let all = read(&[r#"{"auths": {"r.example": {"username": "c", "password": "hunter2"}}}"#])
            .unwrap();
        assert!(!format!("{all:?}").contains("hunter2") && !format!("{all:?}").contains("Basic"));
        for text in [
            r#"{"auths": {"r": "hunter2"}}"#,
            r#"{"auths": {"r": {"auth": "aHVudGVyMg=="}}}"#,
            "hunter2",
        ] {
            let error = format!("{:#}", read(&[text]).unwrap_err());
            assert!(
                !error.contains("hunter2") && !error.contains("aHVu"),
                "{error}"
            );
        }
        let helped = read(&[r#"{"credsStore": "desktop", "auths": {"r.example": {}}}"#]).unwrap();
        assert!(helped.advice("r.example").contains("helper"));
    }
}
