//! What is known of the variant being measured, kept on disk so that an interrupted measurement goes on.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::command::model::replace;

/// Name of the file in the package's folder; gone when everything was measured.
const FILE: &str = "measuring.json";
/// Between two writes.
const EVERY: Duration = Duration::from_secs(10);
/// Largest file that is read back.
const BYTES_MAX: u64 = 1 << 30;

/// Sums over the samples so far.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Partial {
    /// Hash of everything that the numbers depend on.
    pub(super) key: String,
    /// By sample and exit (the end last): confidence, and whether it is correct.
    pub(super) said: Vec<(f32, bool)>,
    /// By branch: correct answers when it is missing.
    pub(super) missing: Vec<u64>,
    /// Samples that all codecs were tried on.
    pub(super) coded: usize,
    /// Correct answers on those, without codecs.
    pub(super) exact: u64,
    /// Bytes of the pictures' files, of those.
    pub(super) picture_bytes: Vec<f64>,
    /// By part, cut and codec.
    pub(super) cells: Vec<Vec<Vec<Cell>>>,
}

/// One codec at one cut.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cell {
    /// Correct answers.
    pub(super) correct: u64,
    /// By sample.
    pub(super) bytes: Vec<f64>,
    /// Seconds, all samples together.
    pub(super) encode: f64,
    /// Seconds, all samples together.
    pub(super) decode: f64,
}

/// The file with a [`Partial`].
#[derive(Debug)]
pub(super) struct State {
    path: PathBuf,
    written: Instant,
}

impl State {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            path: folder.join(FILE),
            written: Instant::now(),
        }
    }

    /// What was kept under this key; nothing when there is none, or it is damaged.
    pub(super) fn read(&self, key: &str) -> Option<Partial> {
        let size = fs::metadata(&self.path).ok()?.len();
        let text = (size <= BYTES_MAX).then(|| fs::read(&self.path).ok())??;
        let partial: Partial = serde_json::from_slice(&text).ok()?;
        (partial.key == key).then_some(partial)
    }

    /// Keeps it, if the last time is long enough ago.
    pub(super) fn keep(&mut self, partial: &Partial) -> anyhow::Result<()> {
        if self.written.elapsed() < EVERY {
            return Ok(());
        }
        let text = serde_json::to_vec(partial).context("partial results cannot be written")?;
        replace(&self.path, &text)?;
        self.written = Instant::now();
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_goes_on_under_its_own_key_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut state = State::new(folder.path());
        let partial = Partial {
            key: "a".into(),
            said: vec![(0.5, true)],
            coded: 3,
            ..Partial::default()
        };
        state.written -= EVERY;
        state.keep(&partial).expect("written");
        assert_eq!(state.read("a"), Some(partial));
        assert_eq!(state.read("b"), None);
        fs::write(&state.path, b"{\"key\":").expect("written");
        assert_eq!(state.read("a"), None);
        state.clear().expect("gone");
        state.clear().expect("gone already");
    }
}
