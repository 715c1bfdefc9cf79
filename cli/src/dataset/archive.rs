//! Pictures' files from a folder or a tar archive, within bounds, by path.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use lzma_rust2::XzReader;
use sha2::{Digest as _, Sha256};

use super::{FILE_BYTES_MAX, FILES_MAX, File, TOTAL_BYTES_MAX, hex};

/// Levels of folders that are looked into.
const DEPTH_MAX: usize = 8;

/// Whether the name is that of an archive.
pub(super) fn is_archive(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with(".tar") || name.ends_with(".tar.xz")
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    let known = ["png", "jpg", "jpeg"];
    ending.is_some_and(|ending| known.iter().any(|known| ending == *known))
}

/// Gathers files and watches the bounds.
#[derive(Default)]
struct Gathered {
    files: Vec<File>,
    bytes: u64,
}

impl Gathered {
    fn add(&mut self, path: PathBuf, size: u64, mut from: impl Read) -> anyhow::Result<()> {
        let name = path.display();
        ensure!(
            size <= FILE_BYTES_MAX,
            "{name} has {size} bytes, more than the {FILE_BYTES_MAX} of a picture"
        );
        ensure!(
            self.files.len() < FILES_MAX && self.bytes + size <= TOTAL_BYTES_MAX,
            "there are more than {FILES_MAX} pictures or {TOTAL_BYTES_MAX} bytes of them"
        );
        let mut bytes = Vec::new();
        from.by_ref()
            .take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {name}"))?;
        self.bytes += bytes.len() as u64;
        self.files.push(File {
            path,
            bytes: bytes.into(),
        });
        Ok(())
    }

    fn sorted(mut self) -> Vec<File> {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.files
    }
}

/// Every picture in and below a folder, with paths from it.
pub(super) fn folder(root: &Path) -> anyhow::Result<Vec<File>> {
    let mut gathered = Gathered::default();
    let mut queue = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = queue.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry
                .with_context(|| format!("cannot list {}", folder.display()))?
                .path();
            if path.is_dir() {
                ensure!(
                    depth < DEPTH_MAX,
                    "{} lies more than {DEPTH_MAX} folders deep",
                    path.display()
                );
                queue.push((path, depth + 1));
            } else if is_picture(&path) {
                let read = || format!("cannot read {}", path.display());
                let file = fs::File::open(&path).with_context(read)?;
                let size = file.metadata().with_context(read)?.len();
                let inside = path.strip_prefix(root).unwrap_or(&path).to_owned();
                gathered.add(inside, size, file)?;
            }
        }
    }
    Ok(gathered.sorted())
}

/// Every picture in a `.tar` or `.tar.xz`, and the archive's hash. Nothing is written to disk.
pub(super) fn tar(path: &Path) -> anyhow::Result<(Vec<File>, String)> {
    let read = || format!("cannot read {}", path.display());
    let mut hash = Sha256::new();
    let mut file = fs::File::open(path).with_context(read)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).with_context(read)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let file = io::BufReader::new(fs::File::open(path).with_context(read)?);
    let files = if path.extension().is_some_and(|ending| ending == "xz") {
        unpack(XzReader::new(file, true))
    } else {
        unpack(file)
    };
    Ok((files.with_context(read)?, hex(hash.finalize().into())))
}

fn unpack(reader: impl Read) -> anyhow::Result<Vec<File>> {
    // What is no picture is skipped, but not for ever.
    let bounded = reader.take(2 * TOTAL_BYTES_MAX);
    let mut archive = tar::Archive::new(bounded);
    let mut gathered = Gathered::default();
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        if entry.header().entry_type().is_file() && is_picture(&path) {
            let size = entry.size();
            gathered.add(path, size, entry)?;
        }
    }
    Ok(gathered.sorted())
}
