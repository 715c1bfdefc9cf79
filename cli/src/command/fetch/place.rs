//! Where a package is made ready, and how it takes the place of the one before.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// A hidden folder within the models' folder, of one process at a time. What came of a file stays in it when a line
/// breaks, for the next try; nothing else does.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    _lock: File,
    is_arrived: bool,
}

impl Scratch {
    /// That of a model.
    ///
    /// # Errors
    /// When another process has it, or it cannot be made.
    pub(super) fn open(into: &Path, name: &str) -> Result<Self> {
        let folder = into.join(format!(".fetch-{name}"));
        let path = folder.join("lock");
        loop {
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot write in {}", into.display()))?;
            let opened = File::options().create(true).append(true).open(&path);
            let lock = match opened {
                Ok(lock) => lock,
                // Its last owner has just cleared it away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot write {}", path.display()));
                }
            };
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => bail!(
                    "another fetch of {name} into {} is under way; wait for it, or end it",
                    into.display()
                ),
                // Some network file systems have none; two jobs for one model are rare there too.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
            let is_same = fs::metadata(&path).is_ok_and(|there| {
                lock.metadata()
                    .is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
            });
            if is_same {
                return Ok(Self {
                    folder,
                    _lock: lock,
                    is_arrived: false,
                });
            }
        }
    }

    /// An empty folder for the package.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn fresh(&self) -> Result<PathBuf> {
        let fresh = self.folder.join("package");
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        fs::create_dir(&fresh)?;
        Ok(fresh)
    }

    /// Where a file with a digest is gathered.
    pub(super) fn part(&self, digest: &str) -> PathBuf {
        self.folder
            .join(format!("{}.part", digest.replace(':', "-")))
    }

    /// Everything has come.
    pub(super) fn arrived(&mut self) {
        self.is_arrived = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be cleared away is, by the next one.
        let _ = fs::remove_dir_all(self.folder.join("package"));
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let is_part = entry
                .path()
                .extension()
                .is_some_and(|ending| ending == "part");
            let is_empty = entry.metadata().is_ok_and(|data| data.len() == 0);
            if is_part && (self.is_arrived || is_empty) {
                let _ = fs::remove_file(entry.path());
            }
        }
        // The lock alone.
        if fs::read_dir(&self.folder).map_or(0, Iterator::count) <= 1 {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Puts a file or a folder where `place` is, in one step: a reader finds the old one or the new one, whole.
///
/// # Errors
/// The system's.
pub(super) fn put(fresh: &Path, place: &Path) -> Result<()> {
    let what = || format!("cannot put {} in place", place.display());
    if place.is_dir() {
        match renameat_with(CWD, fresh, CWD, place, RenameFlags::EXCHANGE) {
            // The old one is in the scratch folder now, and goes with it.
            Ok(()) => {}
            // A file system that cannot exchange: for a moment there is nothing, never a mixture.
            Err(
                rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP,
            ) => {
                let old = fresh.with_extension("old");
                fs::rename(place, &old).with_context(what)?;
                fs::rename(fresh, place).with_context(what)?;
                fs::remove_dir_all(old).with_context(what)?;
            }
            Err(error) => return Err(error).with_context(what),
        }
    } else {
        fs::rename(fresh, place).with_context(what)?;
    }
    let folder = place.parent().unwrap_or(place);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_and_only_parts_are_left() {
        let into = tempfile::tempdir().unwrap();
        let first = Scratch::open(into.path(), "net").unwrap();
        assert!(
            Scratch::open(into.path(), "net")
                .unwrap_err()
                .to_string()
                .contains("under way")
        );
        Scratch::open(into.path(), "other").unwrap();
        fs::write(first.fresh().unwrap().join("x"), b"x").unwrap();
        fs::write(first.part("sha256:00"), b"half").unwrap();
        drop(first);
        let mut second = Scratch::open(into.path(), "net").unwrap();
        assert_eq!(fs::read(second.part("sha256:00")).unwrap(), b"half");
        assert!(!into.path().join(".fetch-net/package").exists());
        second.arrived();
        drop(second);
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_replaced_is_replaced_in_one_step() {
        let into = tempfile::tempdir().unwrap();
        let (fresh, place) = (into.path().join("fresh"), into.path().join("net"));
        fs::create_dir(&place).unwrap();
        fs::write(place.join("old"), b"1").unwrap();
        // Whoever holds the old folder keeps it whole.
        let held = File::open(place.join("old")).unwrap();
        fs::create_dir(&fresh).unwrap();
        fs::write(fresh.join("new"), b"2").unwrap();
        put(&fresh, &place).unwrap();
        let names: Vec<_> = fs::read_dir(&place)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["new"]);
        assert_eq!(io::read_to_string(held).unwrap(), "1");
    }
}
