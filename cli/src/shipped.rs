//! What travels inside the binary: two model packages, real test pictures, and the demo's fleet.
//!
//! So `splitplace up` and `splitplace demo` need no files beside them.

use std::{io::Read as _, path::Path};

use anyhow::{Context as _, ensure};
use flate2::read::GzDecoder;
use lzma_rust2::XzReader;

/// Description of the demo's fleet.
pub(crate) const DEMO_FLEET: &str = include_str!("../../orchestrator/fleets/demo.toml");

macro_rules! packed {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".tar.xz")) as &[u8],
        )
    };
}

/// Packages by name, each a tar compressed with xz, as `build.rs` makes them.
const PACKAGES: [(&str, &[u8]); 2] = [packed!("fashion-mnist"), packed!("simple")];

const IMAGES: &[u8] = include_bytes!("../../models/data/fashion-mnist/t10k-images-idx3-ubyte.gz");
const LABELS: &[u8] = include_bytes!("../../models/data/fashion-mnist/t10k-labels-idx1-ubyte.gz");

/// Writes the packages into `folder`, each into a folder of its own; only one when it is named.
pub(crate) fn write_packages(folder: &Path, only: Option<&str>) -> anyhow::Result<()> {
    for (name, packed) in PACKAGES {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let folder = folder.join(name);
        let mut archive = tar::Archive::new(XzReader::new(packed, false));
        // Files that were made now: whoever clears old ones looks at that.
        archive.set_preserve_mtime(false);
        archive
            .unpack(&folder)
            .with_context(|| format!("cannot write the package into {}", folder.display()))?;
    }
    Ok(())
}

/// Grey pictures with their classes.
#[derive(Clone, Debug)]
pub(crate) struct Pictures {
    /// Rows and columns.
    pub(crate) size: [usize; 2],
    /// Pixel values of one picture after another, row by row.
    pub(crate) pixels: Vec<u8>,
    /// The class of each; empty when it is not known.
    pub(crate) labels: Vec<u8>,
}

impl Pictures {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.pixels.len() / (self.size[0] * self.size[1]).max(1)
    }

    /// The pixels of one picture.
    pub(crate) fn picture(&self, at: usize) -> &[u8] {
        let len = self.size[0] * self.size[1];
        &self.pixels[at * len..][..len]
    }

    /// The pixels of one picture as little-endian 32-bit floats, 0 to 255.
    pub(crate) fn floats(&self, at: usize) -> Vec<u8> {
        self.picture(at)
            .iter()
            .flat_map(|&pixel| f32::from(pixel).to_le_bytes())
            .collect()
    }
}

/// The 10 000 test pictures of Fashion-MNIST.
pub(crate) fn pictures() -> anyhow::Result<Pictures> {
    parse(IMAGES, Some(LABELS))
}

/// Pictures from files in the IDX format, compressed or not.
pub(crate) fn read_pictures(images: &Path, labels: Option<&Path>) -> anyhow::Result<Pictures> {
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let labels = labels.map(read).transpose()?;
    parse(&read(images)?, labels.as_deref())
        .with_context(|| format!("{} is no IDX file of pictures", images.display()))
}

/// Largest IDX file, uncompressed.
const IDX_BYTES_MAX: u64 = 1 << 30;

fn parse(images: &[u8], labels: Option<&[u8]>) -> anyhow::Result<Pictures> {
    let (dims, pixels) = idx(images)?;
    let [count, rows, columns] = dims[..] else {
        anyhow::bail!(
            "pictures have three dimensions, the file has {}",
            dims.len()
        );
    };
    let labels = match labels {
        None => Vec::new(),
        Some(labels) => {
            let (dims, labels) = idx(labels)?;
            ensure!(
                dims == [count],
                "{count} pictures, but labels of shape {dims:?}"
            );
            labels
        }
    };
    Ok(Pictures {
        size: [rows, columns],
        pixels,
        labels,
    })
}

/// An IDX file of unsigned bytes: two zeros, the type (8), the rank, the dimensions in big-endian order,
/// the elements.
fn idx(bytes: &[u8]) -> anyhow::Result<(Vec<usize>, Vec<u8>)> {
    let mut plain = Vec::new();
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(bytes)
            .take(IDX_BYTES_MAX)
            .read_to_end(&mut plain)?;
        &plain[..]
    } else {
        bytes
    };
    let (&[zero, zero_too, kind, rank], mut rest) = bytes
        .split_first_chunk::<4>()
        .context("the file is too short")?;
    ensure!(
        [zero, zero_too, kind] == [0, 0, 8],
        "it is not an IDX file of unsigned bytes"
    );
    let mut dims = Vec::new();
    for _ in 0..rank {
        let (dim, after) = rest
            .split_first_chunk::<4>()
            .context("the file is cut short")?;
        dims.push(u32::from_be_bytes(*dim) as usize);
        rest = after;
    }
    let count = dims
        .iter()
        .try_fold(1_usize, |count, dim| count.checked_mul(*dim));
    ensure!(
        count == Some(rest.len()),
        "its dimensions {dims:?} do not fit its {} elements",
        rest.len()
    );
    Ok((dims, rest.to_vec()))
}

#[cfg(test)]
mod tests {
    use splitplace_onnx::{Limits, Package};

    use super::*;

    #[test]
    fn the_pictures_are_all_there() {
        let pictures = pictures().expect("shipped");
        assert_eq!((pictures.len(), pictures.size), (10_000, [28, 28]));
        let mut counts = [0; 10];
        for &label in &pictures.labels {
            counts[label as usize] += 1;
        }
        assert_eq!(counts, [1000; 10]);
        assert_eq!(pictures.floats(9_999).len(), 28 * 28 * 4);
    }

    #[test]
    fn packages_are_whole_and_measured() {
        let folder = tempfile::tempdir().expect("a folder");
        write_packages(folder.path(), None).expect("shipped");
        for (name, _) in PACKAGES {
            let folder = folder.path().join(name);
            let files = std::fs::read_dir(&folder).expect("a folder").count();
            let package = Package::open(&folder, &Limits::default()).expect(name);
            // The two texts come on top.
            let texts = 1 + usize::from(package.tables.is_some());
            assert_eq!(package.files().count() + texts, files, "{name}");
            for variant in &package.variants {
                assert_eq!(variant.accuracy.is_some(), name != "simple", "{name}");
            }
        }
    }

    #[test]
    fn cut_files_are_refused() {
        let whole = [0, 0, 8, 1, 0, 0, 0, 2, 7, 8];
        assert_eq!(idx(&whole).expect("whole"), (vec![2], vec![7, 8]));
        for length in 0..whole.len() {
            assert!(idx(&whole[..length]).is_err(), "{length}");
        }
    }
}
