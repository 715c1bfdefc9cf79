//! Fragments on disk, in pieces named by their hash, within a bound.
//!
//! For each fragment there is a list of its pieces, for each piece a file; fragments share pieces. What is read is put
//! together and compared with the fragment's own hash, so a damaged or missing piece is fetched anew.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use splitplace_plan::FragmentId;

/// The hash of a piece.
pub(crate) type Hash = [u8; 32];

/// Ending of the files that hold what was measured; they stand beside the fragments.
pub(crate) const PROFILES: &str = "profiles";

/// Most pieces of a fragment.
pub(crate) const PIECES: usize = 65_536;

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("part");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

/// A folder of pieces.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    limit_bytes: u64,
}

impl Cache {
    pub(crate) fn open(folder: &Path, limit_bytes: u64) -> std::io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            limit_bytes,
        })
    }

    fn list_path(&self, id: FragmentId) -> PathBuf {
        self.folder.join(format!("{}.pieces", id.hex()))
    }

    fn piece_path(&self, hash: &Hash) -> PathBuf {
        self.folder
            .join(format!("{}.piece", FragmentId(*hash).hex()))
    }

    /// Bytes of a fragment, if all of its pieces are there and unharmed.
    pub(crate) fn get(&self, id: FragmentId) -> Option<Bytes> {
        let list = fs::read(self.list_path(id)).ok()?;
        let mut whole = Vec::new();
        for hash in list.chunks(32) {
            whole.extend(self.piece(hash.try_into().ok()?)?);
        }
        let found: Hash = Sha256::digest(&whole).into();
        if found == id.0 {
            return Some(whole.into());
        }
        tracing::warn!(code = "SP113", fragment = %id, "a fragment on disk is damaged; fetching it anew");
        let _ = fs::remove_file(self.list_path(id));
        None
    }

    /// Bytes of a piece, if they are there and unharmed. It was needed: it makes room after others.
    pub(crate) fn piece(&self, hash: Hash) -> Option<Bytes> {
        let path = self.piece_path(&hash);
        let bytes = fs::read(&path).ok()?;
        let found: Hash = Sha256::digest(&bytes).into();
        if found == hash {
            let file = fs::File::options().append(true).open(path);
            // A folder that cannot be written serves as it is.
            let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
            return Some(bytes.into());
        }
        tracing::warn!(
            code = "SP113",
            "a piece on disk is damaged; fetching it anew"
        );
        let _ = fs::remove_file(path);
        None
    }

    /// Keeps a fragment.
    pub(crate) fn put(&self, id: FragmentId, bytes: &Bytes) -> std::io::Result<()> {
        let pieces = splitplace_onnx::pieces(bytes);
        let hashes: Vec<(Hash, Bytes)> = pieces
            .into_iter()
            .map(|piece| bytes.slice(piece))
            .map(|piece| (Sha256::digest(&piece).into(), piece))
            .collect();
        let is_new = |(hash, _): &&(Hash, Bytes)| !self.piece_path(hash).exists();
        let new: u64 = hashes
            .iter()
            .filter(is_new)
            .map(|(_, piece)| piece.len() as u64)
            .sum();
        let list: Vec<u8> = hashes.iter().flat_map(|(hash, _)| *hash).collect();
        self.make_room(new + list.len() as u64)?;
        for (hash, piece) in &hashes {
            if !self.piece_path(hash).exists() {
                write(&self.piece_path(hash), piece)?;
            }
        }
        write(&self.list_path(id), &list)
    }

    /// Removes the files that were needed longest ago until `needed` bytes fit.
    fn make_room(&self, needed: u64) -> std::io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // What was measured is small, and cannot be fetched again.
            if entry
                .path()
                .extension()
                .is_some_and(|ending| ending == PROFILES)
            {
                continue;
            }
            let about = entry.metadata()?;
            files.push((about.modified()?, about.len(), entry.path()));
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in files {
            if total.saturating_add(needed) <= self.limit_bytes {
                break;
            }
            fs::remove_file(path)?;
            total -= size;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(bytes: &Bytes) -> FragmentId {
        FragmentId(Sha256::digest(bytes).into())
    }

    #[test]
    fn the_disk_keeps_what_it_was_given_and_notices_damage() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 160).unwrap();
        let bytes = Bytes::from(vec![7; 60]);
        cache.put(id(&bytes), &bytes).unwrap();
        assert_eq!(cache.get(id(&bytes)), Some(bytes.clone()));
        fs::write(cache.piece_path(&id(&bytes).0), [1, 2]).unwrap();
        assert_eq!(cache.get(id(&bytes)), None);
        cache.put(id(&bytes), &bytes).unwrap();
        assert_eq!(cache.get(id(&bytes)), Some(bytes.clone()));
        let other = Bytes::from(vec![8; 60]);
        cache.put(id(&other), &other).unwrap();
        assert_eq!(cache.get(id(&bytes)), None, "it made room");
        assert_eq!(cache.get(id(&other)), Some(other));
    }

    #[test]
    fn what_two_fragments_share_is_kept_once() {
        // A message with one weight of 3000 bytes at graph.initializer.raw_data, behind a header of its own.
        let fragment = |header: &str, value: u8| -> Bytes {
            let field = |number: u8, content: &[u8]| -> Vec<u8> {
                let length = content.len();
                let (low, high) = ((length & 0x7f) as u8 | 0x80, (length >> 7) as u8);
                [&[number << 3 | 2, low, high], content].concat()
            };
            let graph = field(5, &field(9, &vec![value; 3000]));
            [field(2, header.as_bytes()), field(7, &graph)]
                .concat()
                .into()
        };
        let (one, two, three) = (fragment("a", 1), fragment("b", 1), fragment("a", 2));
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 1 << 20).unwrap();
        let size = || -> u64 {
            let files = fs::read_dir(folder.path()).unwrap();
            files
                .map(|file| file.unwrap().metadata().unwrap().len())
                .sum()
        };
        cache.put(id(&one), &one).unwrap();
        let first = size();
        cache.put(id(&two), &two).unwrap();
        assert!(size() < first + 300, "the weight lies there once");
        cache.put(id(&three), &three).unwrap();
        assert!(size() > first + 3000);
        for fragment in [one, two, three] {
            assert_eq!(cache.get(id(&fragment)), Some(fragment));
        }
    }
}
