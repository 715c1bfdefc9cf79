//! State dicts as PyTorch saves them: a zip archive, entries stored as they are, with a pickle (`data.pkl`) that says
//! what tensors there are, and the numbers of each storage in an entry of its own (`data/0`, `data/1`, …).
//!
//! Nothing of the file is trusted, and nothing in it is run (see `pickle`). A tensor is read when it is asked for, with
//! the shape that it must have, so that what a file says of sizes never decides how much memory is taken.

mod pickle;

use std::{
    collections::BTreeMap,
    io::{Cursor, Read as _},
};

use zip::{CompressionMethod, ZipArchive};

/// Largest file.
const LARGEST: usize = 64 << 20;
/// Most entries of the archive.
const ENTRIES: usize = 4096;
/// Longest pickle: some hundred bytes a tensor.
const PICKLE: u64 = 256 << 10;
/// Where the state dict lies in a checkpoint that holds other things too.
const INNER: &str = "model_state_dict";

/// Why a file is no state dict that can be read: where it is wrong, what is wrong there, what to try.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct StateDictError {
    /// The entry, the byte in it, or the tensor.
    pub place: String,
    /// What is wrong, and what may help.
    pub what: String,
}

impl StateDictError {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            what: what.into(),
        }
    }
}

/// A view of a storage: a number lies at `offset` and the strides' multiples from there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tensor {
    /// Entry's name behind `data/`.
    storage: String,
    /// Numbers in the storage.
    count: usize,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// Tensors of single precision by name, in a file of PyTorch.
#[derive(Debug)]
pub struct StateDict<'b> {
    archive: ZipArchive<Cursor<&'b [u8]>>,
    /// The one that all entries lie in, with its slash.
    folder: String,
    tensors: BTreeMap<String, Tensor>,
}

impl<'b> StateDict<'b> {
    /// Reads what tensors there are in the bytes of `torch.save(model.state_dict(), FILE)`, or of a dict that has the
    /// state dict as `model_state_dict`. Costs O(entries + length of the pickle).
    ///
    /// # Errors
    /// Where the bytes are no such archive, are larger than 64 MiB, hold a pickle of more than 256 KiB, or one that asks
    /// for anything but dicts of tensors of single precision.
    pub fn open(bytes: &'b [u8]) -> Result<Self, StateDictError> {
        let of_file = |what: String| StateDictError::new("the file", what);
        if LARGEST < bytes.len() {
            let size = bytes.len();
            return Err(of_file(format!("{size} bytes; at most {LARGEST} are read")));
        }
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| {
            of_file(format!(
                "no whole zip archive ({error}): it is cut off, of another program, or of PyTorch before 1.6; fetch it \
                 again, or load it there and torch.save it anew"
            ))
        })?;
        if ENTRIES < archive.len() {
            let count = archive.len();
            return Err(of_file(format!(
                "{count} entries; at most {ENTRIES} are read"
            )));
        }
        let folder = archive.file_names().find_map(|name| {
            let name = name.ok()?;
            let folder = name.strip_suffix("data.pkl")?;
            folder.ends_with('/').then(|| folder.to_owned())
        });
        let folder = folder.ok_or_else(|| {
            of_file("a zip archive without FOLDER/data.pkl is none of torch.save".into())
        })?;
        let mut dict = Self {
            archive,
            folder,
            tensors: BTreeMap::new(),
        };
        dict.check_order()?;
        let pickle = dict.entry("data.pkl", PICKLE)?;
        dict.tensors = pickle::tensors(&pickle, INNER).map_err(|wrong| {
            StateDictError::new(format!("data.pkl, {}", wrong.place()), wrong.what)
        })?;
        Ok(dict)
    }

    /// The numbers of a tensor, row by row. Costs O(its storage).
    ///
    /// # Errors
    /// When it is missing, has another shape, does not lie within its storage, or holds what is not finite.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, StateDictError> {
        let wrong = |what: String| StateDictError::new(format!("tensor {name}"), what);
        let Some(tensor) = self.tensors.get(name).cloned() else {
            let known: Vec<&str> = self.tensors.keys().take(5).map(String::as_str).collect();
            return Err(wrong(format!(
                "it is not among the {} that are there ({}, …): is this another network's file?",
                self.tensors.len(),
                known.join(", ")
            )));
        };
        if tensor.shape != shape {
            return Err(wrong(format!(
                "it is of {:?} and not of {shape:?}: is this another network's file?",
                tensor.shape
            )));
        }
        let size = shape.iter().product::<usize>();
        let last = shape
            .iter()
            .zip(&tensor.strides)
            .try_fold(tensor.offset, |last, (size, stride)| {
                last.checked_add(size.saturating_sub(1).checked_mul(*stride)?)
            });
        if 0 < size && last.is_none_or(|last| tensor.count <= last) {
            let count = tensor.count;
            return Err(wrong(format!(
                "it reaches beyond the {count} numbers of its storage"
            )));
        }
        let length = (tensor.count as u64).saturating_mul(4);
        let bytes = self.entry(&format!("data/{}", tensor.storage), length)?;
        if bytes.len() as u64 != length {
            let found = bytes.len();
            return Err(wrong(format!(
                "its storage has {found} bytes and not {length}"
            )));
        }
        let number = |at: usize| {
            let mut rest = at;
            let mut place = tensor.offset;
            for (size, stride) in shape.iter().zip(&tensor.strides).rev() {
                place += rest % size * stride;
                rest /= size;
            }
            let mut four = [0; 4];
            four.copy_from_slice(&bytes[place * 4..place * 4 + 4]);
            f32::from_le_bytes(four)
        };
        let numbers: Vec<f32> = (0..size).map(number).collect();
        match numbers.iter().position(|number| !number.is_finite()) {
            Some(at) => Err(wrong(format!("number {at} is {}", numbers[at]))),
            None => Ok(numbers),
        }
    }

    /// Files of big-endian machines say so.
    fn check_order(&mut self) -> Result<(), StateDictError> {
        const NAME: &str = "byteorder";
        if self
            .archive
            .index_for_name(&format!("{}{NAME}", self.folder))
            .is_none()
        {
            return Ok(());
        }
        match &self.entry(NAME, 16)?[..] {
            b"little" => Ok(()),
            _ => Err(StateDictError::new(
                NAME,
                "only little-endian numbers are read",
            )),
        }
    }

    /// The bytes of an entry, no more than so many. Its checksum is compared.
    fn entry(&mut self, name: &str, most: u64) -> Result<Vec<u8>, StateDictError> {
        let wrong = |what: String| StateDictError::new(name, what);
        let path = format!("{}{name}", self.folder);
        let entry = self.archive.by_name(&path);
        let mut entry = entry.map_err(|error| wrong(format!("{error}; torch.save it anew")))?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(wrong(
                "it is compressed, which torch.save never does".into(),
            ));
        }
        if most < entry.size() {
            return Err(wrong(format!(
                "{} bytes; at most {most} belong here",
                entry.size()
            )));
        }
        let mut bytes = Vec::new();
        // One more than it says: where there is more, the archive says one thing and holds another.
        let read = entry.by_ref().take(most + 1).read_to_end(&mut bytes);
        read.map_err(|error| wrong(format!("{error}: the file is damaged, fetch it again")))?;
        if bytes.len() as u64 != entry.size() {
            return Err(wrong(
                "it is not as long as it says: fetch the file again".into(),
            ));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
