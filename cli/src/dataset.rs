//! Labelled pictures from disk, for measuring what a package can do.
//!
//! A folder with a pair of IDX files (MNIST's format), a folder with one sub-folder for each class, a
//! `.tar` or `.tar.xz` of such a folder, or pictures with a list of their classes. Where there is a `test`
//! part beside a `train` part, the test part is taken. Everything read is bounded.

mod archive;
mod labels;

use std::{
    io::Cursor,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use splitplace_onnx::{PictureLimits, Preprocess, TensorSpec};
use splitplace_plan::FragmentId;

use crate::shipped::{self, Pictures};

/// Bytes of one picture's file.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Bytes of all pictures' files together.
const TOTAL_BYTES_MAX: u64 = 4 << 30;
/// Pictures.
const FILES_MAX: usize = 1 << 20;

/// Pictures with their classes.
#[derive(Debug)]
pub(crate) struct DataSet {
    /// For people: the name of the folder or file, and which part of it.
    pub(crate) name: String,
    /// SHA-256 of the IDX file of pictures, of the archive, or of the pictures' paths and contents.
    pub(crate) sha256: String,
    content: Content,
    labels: Vec<u32>,
    /// Which pictures are used.
    chosen: Vec<usize>,
}

#[derive(Debug)]
enum Content {
    /// Grey pixels of one size.
    Pixels(Pictures),
    /// PNG and JPEG files.
    Encoded(Vec<Bytes>),
}

/// A picture's file with the path that says its class.
struct File {
    path: PathBuf,
    bytes: Bytes,
}

impl DataSet {
    /// Reads pictures. `classes` are the names of the package's classes, in order, as far as they are known;
    /// `list` is a file with a line for each picture: its name and its class.
    ///
    /// # Errors
    /// What cannot be read, and which picture's class is unknown.
    pub(crate) fn open(
        path: &Path,
        classes: &[String],
        list: Option<&Path>,
    ) -> anyhow::Result<Self> {
        ensure!(path.exists(), "there is no {}", path.display());
        let stem = |path: &Path| {
            let name = path.file_name().unwrap_or(path.as_os_str());
            name.to_string_lossy().into_owned()
        };
        if let Some((images, labels)) = idx_pair(path) {
            let pictures = shipped::read_pictures(&images, Some(&labels))?;
            let bytes = std::fs::read(&images)
                .with_context(|| format!("cannot read {}", images.display()))?;
            let folder = images.parent().map(stem).unwrap_or_default();
            let part = if stem(&images).starts_with("t10k") {
                "-test"
            } else {
                ""
            };
            return Self::new(
                format!("{folder}{part}"),
                hex(Sha256::digest(&bytes).into()),
                pictures.labels.iter().map(|&label| label.into()).collect(),
                Content::Pixels(pictures),
            );
        }
        let (files, sha256) = if path.is_dir() {
            let files = archive::folder(path)?;
            (files, None)
        } else if archive::is_archive(path) {
            let (files, sha256) = archive::tar(path)?;
            (files, Some(sha256))
        } else {
            bail!(
                "{} is neither a folder of pictures nor a .tar, .tar.xz or IDX file",
                path.display()
            );
        };
        let (files, part) = labels::held_out(files);
        let sha256 = sha256.unwrap_or_else(|| digest(&files));
        let found = match list {
            Some(list) => labels::by_list(&files, list, classes)?,
            None => labels::by_folder(&files, classes)?,
        };
        Self::new(
            format!("{}{part}", stem(path)),
            sha256,
            found,
            Content::Encoded(files.into_iter().map(|file| file.bytes).collect()),
        )
    }

    fn new(
        name: String,
        sha256: String,
        labels: Vec<u32>,
        content: Content,
    ) -> anyhow::Result<Self> {
        let count = match &content {
            Content::Pixels(pictures) => pictures.len(),
            Content::Encoded(files) => files.len(),
        };
        ensure!(count > 0, "there are no pictures in it");
        ensure!(
            count == labels.len(),
            "{count} pictures have {} classes",
            labels.len()
        );
        Ok(Self {
            name,
            sha256,
            content,
            labels,
            chosen: (0..count).collect(),
        })
    }

    /// Keeps `most` pictures, spread evenly over all.
    pub(crate) fn keep(&mut self, most: usize) {
        let count = self.chosen.len();
        if most < count {
            self.chosen = (0..most).map(|at| self.chosen[at * count / most]).collect();
        }
    }

    /// Keeps every `stride`-th picture from `first` on.
    pub(crate) fn keep_every(&mut self, stride: usize, first: usize) {
        let kept = self.chosen.iter().skip(first).step_by(stride.max(1));
        self.chosen = kept.copied().collect();
    }

    /// How many pictures.
    pub(crate) fn len(&self) -> usize {
        self.chosen.len()
    }

    /// The class of a picture.
    pub(crate) fn label(&self, at: usize) -> u32 {
        self.labels[self.chosen[at]]
    }

    /// The picture as a file: as it was, or as PNG when it came as pixels.
    pub(crate) fn encoded(&self, at: usize) -> anyhow::Result<Bytes> {
        match &self.content {
            Content::Encoded(files) => Ok(files[self.chosen[at]].clone()),
            Content::Pixels(pictures) => {
                let [height, width] = pictures.size.map(|side| u32::try_from(side).unwrap_or(0));
                let pixels = pictures.picture(self.chosen[at]);
                let mut file = Cursor::new(Vec::new());
                let encoder = image::codecs::png::PngEncoder::new(&mut file);
                let grey = image::ExtendedColorType::L8;
                image::ImageEncoder::write_image(encoder, pixels, width, height, grey)?;
                Ok(file.into_inner().into())
            }
        }
    }

    /// What an input takes for the picture: little-endian floats of one sample. Pixels without any
    /// preprocessing are taken as they are, 0 to 255.
    pub(crate) fn values(
        &self,
        at: usize,
        input: &TensorSpec,
        preprocess: Option<&Preprocess>,
    ) -> anyhow::Result<Bytes> {
        let shape = input.sample_shape();
        let values = match (preprocess, &self.content) {
            (Some(preprocess), Content::Pixels(pictures)) => {
                let pixels = pictures.picture(self.chosen[at]);
                let size = pictures.size.map(|side| u32::try_from(side).unwrap_or(0));
                preprocess.apply_grey(pixels, size, &shape)?
            }
            (Some(preprocess), Content::Encoded(files)) => {
                let file = &files[self.chosen[at]];
                preprocess
                    .apply(file, &shape, &PictureLimits::default())
                    .with_context(|| format!("picture {at} of {}", self.name))?
            }
            (None, Content::Pixels(pictures)) => {
                let needed = shape.iter().product::<u64>();
                let found = pictures.size.iter().product::<usize>() as u64;
                ensure!(
                    needed == found,
                    "the package has no [preprocess], and its input takes {needed} values where a \
                     picture has {found}"
                );
                return Ok(pictures.floats(self.chosen[at]).into());
            }
            (None, Content::Encoded(_)) => bail!(
                "the package has no [preprocess], so encoded pictures cannot become its input"
            ),
        };
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Ok(bytes.into())
    }
}

/// A pair of IDX files at `path`: the folder's test part, or the file itself with its labels beside it.
fn idx_pair(path: &Path) -> Option<(PathBuf, PathBuf)> {
    const IMAGES: &str = "-images-idx3-ubyte";
    let pair = |images: PathBuf| {
        let name = images.file_name()?.to_str()?;
        let labels = name.replace(IMAGES, "-labels-idx1-ubyte");
        let labels = images.with_file_name(labels);
        (name.contains(IMAGES) && images.is_file() && labels.is_file()).then_some((images, labels))
    };
    if path.is_file() {
        return pair(path.to_owned());
    }
    ["t10k", "test", "train"].iter().find_map(|part| {
        let plain = pair(path.join(format!("{part}{IMAGES}")));
        plain.or_else(|| pair(path.join(format!("{part}{IMAGES}.gz"))))
    })
}

/// One hash over all paths and contents, in order.
fn digest(files: &[File]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        let path = file.path.to_string_lossy();
        for bytes in [path.as_bytes(), &file.bytes] {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
    }
    hex(hash.finalize().into())
}

fn hex(digest: [u8; 32]) -> String {
    FragmentId(digest).hex()
}

#[cfg(test)]
mod tests;
