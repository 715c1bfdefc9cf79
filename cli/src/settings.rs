//! Settings from four places: defaults, then a file, then the environment, then flags.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use figment::{
    Figment,
    providers::{Env, Format as _, Serialized, Toml},
};
use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

/// Where settings come from.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Sources {
    /// Settings in a TOML file; the environment and flags beat it.
    #[arg(long, short = 'c', value_name = "FILE", env = "SPLITPLACE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Any setting by its name, as `admission.patience-ms=200`; can be given many times.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print the settings that would be used, as TOML, and stop.
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// Flags with names of their own, as a tree of settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags(Table);

impl Flags {
    /// Sets `name` (as `listen.grpc`) when the flag was given.
    pub(crate) fn with<T: Serialize>(
        mut self,
        name: &str,
        value: Option<T>,
    ) -> anyhow::Result<Self> {
        if let Some(value) = value {
            insert(&mut self.0, name, Value::try_from(value)?)?;
        }
        Ok(self)
    }
}

fn insert(table: &mut Table, name: &str, value: Value) -> anyhow::Result<()> {
    let Some((head, rest)) = name.split_once('.') else {
        table.insert(name.to_owned(), value);
        return Ok(());
    };
    let inner = table
        .entry(head)
        .or_insert_with(|| Value::Table(Table::new()));
    match inner {
        Value::Table(inner) => insert(inner, rest, value),
        _ => bail!("{head} is a value, not a group of settings: {name} cannot be set"),
    }
}

/// `2`, `true`, `["a"]` as TOML reads them; anything else is a text.
fn value(text: &str) -> Value {
    let parsed: Result<Table, _> = format!("value = {text}").parse();
    let parsed = parsed.ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Settings of type `T`. Variables are `prefix` and the name in capitals, `-` as `_`, `.` as `__`:
/// `SPLITPLACE_ORCHESTRATOR_ADMISSION__PATIENCE_MS`.
pub(crate) fn read<T: Serialize + DeserializeOwned + Default>(
    sources: &Sources,
    prefix: &str,
    flags: Flags,
) -> anyhow::Result<T> {
    let mut figment = Figment::from(Serialized::defaults(T::default()));
    if let Some(path) = &sources.config {
        if !path.is_file() {
            bail!("cannot read {}: there is no such file", path.display());
        }
        figment = figment.merge(Toml::file_exact(path));
    }
    let env = Env::prefixed(prefix).map(|name| {
        name.as_str()
            .to_lowercase()
            .replace("__", ".")
            .replace('_', "-")
            .into()
    });
    figment = figment.merge(env.split("."));
    let mut set = flags.0;
    for pair in &sources.set {
        let (name, text) = pair
            .split_once('=')
            .with_context(|| format!("--set {pair:?}: NAME=VALUE is expected"))?;
        insert(&mut set, name.trim(), value(text.trim()))?;
    }
    figment = figment.merge(Serialized::defaults(set));
    figment
        .extract()
        .map_err(|error| anyhow::anyhow!("settings: {error}"))
}

/// Prints settings as TOML.
pub(crate) fn print<T: Serialize>(settings: &T) -> anyhow::Result<()> {
    print!(
        "{}",
        toml::to_string_pretty(settings).context("the settings cannot be printed")?
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use splitplace_orchestrator::config::Config;

    use super::*;

    fn sources(set: &[&str]) -> Sources {
        Sources {
            set: set.iter().map(ToString::to_string).collect(),
            ..Sources::default()
        }
    }

    #[test]
    fn flags_beat_the_file() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("c.toml");
        let text = "seed = 1\ninsecure = true\n[admission]\npatience-ms = 7\n";
        std::fs::write(&path, text).expect("write");
        let mut sources = sources(&["admission.max-attempts=3", "policy.name=layer"]);
        sources.config = Some(path);
        let flags = Flags::default().with("seed", Some(2)).expect("flag");
        let config: Config = read(&sources, "NO_SUCH_PREFIX_", flags).expect("settings");
        assert_eq!(config.seed, Some(2));
        assert!(config.insecure);
        assert_eq!(config.admission.patience_ms, 7);
        assert_eq!(config.admission.max_attempts, 3);
        assert_eq!(config.policy.name, "layer");
        assert_eq!(config.workers, Config::default().workers);
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let mut config = Config::default();
        config.listen.workers_public = Some("here:1".into());
        let text = toml::to_string_pretty(&config).expect("toml");
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("c.toml");
        std::fs::write(&path, text).expect("write");
        let sources = Sources {
            config: Some(path),
            ..Sources::default()
        };
        let back: Config = read(&sources, "NO_SUCH_PREFIX_", Flags::default()).expect("settings");
        assert_eq!(back, config);
    }

    #[test]
    fn unknown_settings_are_named() {
        for wrong in ["admission.patiense=3", "policy=3", "nonsense", "seed.x=1"] {
            let read: Result<Config, _> = read(&sources(&[wrong]), "NO_SUCH_", Flags::default());
            let error = read.expect_err(wrong).to_string();
            assert!(!error.is_empty());
        }
    }
}
