//! Contents as files named by their hash: written beside, synced, renamed into place.
//!
//! A file under its final name is whole. What a crash leaves behind has a temporary name, or a name
//! that no package mentions; [`Blobs::keep_only`] removes both.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{Digest, StoreError};

#[derive(Debug)]
pub(super) struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    pub(super) fn open(folder: PathBuf) -> Result<Self, StoreError> {
        fs::create_dir_all(&folder).map_err(|error| failed(&folder, "make the folder", error))?;
        Ok(Self { folder })
    }

    /// Makes `content` durable under its name. The caller has checked the hash.
    pub(super) fn put(&self, digest: &Digest, content: &[u8]) -> Result<(), StoreError> {
        let path = self.path(digest);
        // An altered file is written anew: giving a package again mends it.
        if matches!(fs::read(&path), Ok(there) if there == content) {
            return Ok(());
        }
        let beside = self.folder.join(format!("{digest}.new"));
        let write = || {
            let mut file = File::create(&beside)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| failed(&path, "write a part", error))
    }

    /// The content, verified.
    pub(super) fn get(&self, digest: &Digest) -> Result<Bytes, StoreError> {
        let path = self.path(digest);
        let corrupt = |what: String| StoreError::Corrupt {
            place: path.display().to_string(),
            what,
        };
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(corrupt("the content of a package's part is gone".into()));
            }
            Err(error) => return Err(failed(&path, "read a part", error)),
        };
        let found = Digest::of(&content);
        if found != *digest {
            return Err(corrupt(format!(
                "the content's hash is {found}, so it was altered"
            )));
        }
        Ok(content.into())
    }

    pub(super) fn holds(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Removes every file but those of `digests`.
    pub(super) fn keep_only(&self, digests: &BTreeSet<Digest>) -> Result<(), StoreError> {
        let sweep = || {
            for entry in fs::read_dir(&self.folder)? {
                let entry = entry?;
                let name = entry.file_name();
                let digest = name.to_str().and_then(Digest::from_hex);
                if digest.is_none_or(|digest| !digests.contains(&digest)) {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        sweep().map_err(|error| failed(&self.folder, "remove parts that no package names", error))
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

pub(super) fn failed(place: &Path, what: &'static str, error: io::Error) -> StoreError {
    StoreError::Io {
        place: place.display().to_string(),
        what,
        source: error.into(),
    }
}
