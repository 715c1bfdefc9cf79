//! What was fetched becomes a package's folder: files of an archive, of a folder, or the network itself.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Seek as _},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use flate2::read::MultiGzDecoder;

use super::PACKAGE_BYTES;

/// Entries of an archive, those that are left out too.
const ENTRIES_MAX: usize = 100_000;

/// What is at a path of this machine: a package's folder, or a file as [`unpack`] takes it.
///
/// # Errors
/// When there is nothing, or too much.
pub(super) fn take(path: &Path, fresh: &Path, name: &str) -> Result<()> {
    if path.is_file() {
        return unpack(path, fresh, name);
    }
    ensure!(path.is_dir(), "there is nothing at {}", path.display());
    let mut left = PACKAGE_BYTES;
    let is_package = path.join("package.toml").is_file();
    for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        let entry = entry?;
        let size = entry.metadata()?.len();
        if !entry.file_type()?.is_file() {
            continue;
        }
        left = left.checked_sub(size).with_context(too_large)?;
        let is_bare = !is_package && entry.path().extension() == Some(OsStr::new("onnx"));
        let file = if is_bare {
            format!("{name}.onnx").into()
        } else {
            entry.file_name()
        };
        ensure!(
            !fresh.join(&file).exists(),
            "{} has several networks and no package.toml; name one of the files",
            path.display()
        );
        fs::copy(entry.path(), fresh.join(file))?;
    }
    settle(fresh)
}

/// A `.tar`, a `.tar.gz`, or anything else as the network itself. Memory does not depend on its size.
///
/// # Errors
/// When it is broken, too large, or packed in a way that is not known here.
pub(super) fn unpack(path: &Path, fresh: &Path, name: &str) -> Result<()> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut head = Vec::new();
    file.by_ref().take(512).read_to_end(&mut head)?;
    file.rewind()?;
    let file = io::BufReader::with_capacity(64 << 10, file);
    if head.starts_with(&[0x1f, 0x8b]) {
        untar(MultiGzDecoder::new(file), fresh)?;
    } else if head.get(257..262) == Some(b"ustar") {
        untar(file, fresh)?;
    } else {
        let kinds: [(&[u8], &str); 4] = [
            (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
            (b"PK\x03\x04", "zip"),
            (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
            (b"BZh", "bzip2"),
        ];
        let other = kinds.iter().find(|(magic, _)| head.starts_with(magic));
        if let Some((_, kind)) = other {
            anyhow::bail!(
                "it is packed with {kind}; a .tar, a .tar.gz or a .onnx file is expected"
            );
        }
        write(file, &fresh.join(format!("{name}.onnx")))?;
    }
    settle(fresh)
}

/// Files of an archive, without their folders: a package is flat, and no entry leads elsewhere.
fn untar(archive: impl Read, fresh: &Path) -> Result<()> {
    // What is between files counts too: some bytes of gzip may stand for gigabytes of it.
    let archive = archive.take(PACKAGE_BYTES + (64 << 20));
    let mut left = PACKAGE_BYTES;
    for (number, entry) in tar::Archive::new(archive).entries()?.enumerate() {
        let entry = entry.context("the archive is broken")?;
        ensure!(
            number < ENTRIES_MAX,
            "the archive has more than {ENTRIES_MAX} entries"
        );
        if !entry.header().entry_type().is_file() {
            continue;
        }
        left = left.checked_sub(entry.size()).with_context(too_large)?;
        let path = entry.path()?.into_owned();
        let Some(file) = path.file_name() else {
            continue;
        };
        let place = fresh.join(file);
        ensure!(
            !place.exists(),
            "the archive has two files named {}",
            file.display()
        );
        let size = entry.size();
        let written = write(entry, &place)?;
        ensure!(
            written == size,
            "the archive ends within {}",
            file.display()
        );
    }
    Ok(())
}

fn write(mut from: impl Read, place: &Path) -> Result<u64> {
    let copy = || io::copy(&mut from, &mut File::create(place)?);
    let mut copy = copy;
    copy().with_context(|| {
        format!(
            "cannot unpack {}: is it whole, and the volume not full?",
            place.display()
        )
    })
}

/// Everything in a folder is on the disk when this returns: whoever reads that a package was fetched believes it after a
/// power cut too.
///
/// # Errors
/// The system's.
pub(super) fn settle(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        File::open(entry?.path())?.sync_all()?;
    }
    Ok(File::open(folder)?.sync_all()?)
}

fn too_large() -> String {
    format!("the package is larger than {} GiB", PACKAGE_BYTES >> 30)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::fetch::tests::tar;

    fn unpacked(bytes: &[u8]) -> Result<tempfile::TempDir> {
        let (from, fresh) = (tempfile::NamedTempFile::new()?, tempfile::tempdir()?);
        fs::write(from.path(), bytes)?;
        unpack(from.path(), fresh.path(), "net").map(|()| fresh)
    }

    #[test]
    fn archives_are_flat_and_nothing_is_written_twice() {
        let bytes = tar(&[("net/package.toml", b"x"), ("net/a.onnx", b"y")]);
        let fresh = unpacked(&bytes).unwrap();
        assert!(
            fresh.path().join("package.toml").is_file() && fresh.path().join("a.onnx").is_file()
        );
        assert!(unpacked(&tar(&[("a/w", b"1"), ("b/w", b"2")])).is_err());
        let bare = unpacked(b"\x08\x08onnx").unwrap();
        assert_eq!(
            fs::read(bare.path().join("net.onnx")).unwrap(),
            b"\x08\x08onnx"
        );
    }

    #[test]
    fn what_is_broken_or_packed_otherwise_is_no_network() {
        let whole = tar(&[("net/a.onnx", &[7; 4000])]);
        assert!(unpacked(&whole[..2000]).is_err());
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut packed, &whole).unwrap();
        let packed = packed.finish().unwrap();
        assert!(unpacked(&packed).is_ok() && unpacked(&packed[..packed.len() / 2]).is_err());
        let error = unpacked(&[0x28, 0xb5, 0x2f, 0xfd, 0]).unwrap_err();
        assert!(error.to_string().contains("zstd"), "{error}");
    }
}
