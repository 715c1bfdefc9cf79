//! Weights by name, drawn, saved and read.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::Matrix;
use crate::Stream;

/// Named matrices. Numbers are handed out in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    names: BTreeMap<String, usize>,
    all: Vec<Matrix>,
}

/// Why bytes are no weights.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// Not this format.
    #[error("these are no weights of a surrogate: {0}")]
    Format(&'static str),
    /// A matrix that the network needs is missing or has another shape.
    #[error("the weights lack {name} of {rows} by {columns}")]
    Missing {
        /// Its name.
        name: String,
        /// As needed.
        rows: usize,
        /// As needed.
        columns: usize,
    },
}

/// First bytes of a file: the format and its version.
const MAGIC: &[u8; 8] = b"spnet\0\0\x01";
/// Most matrices, and most numbers in one.
const MOST: usize = 1 << 24;

impl Weights {
    /// Adds a matrix drawn uniformly within `±sqrt(6 / (rows + columns))` (Glorot and Bengio 2010).
    pub fn draw(&mut self, name: &str, rows: usize, columns: usize, stream: &mut Stream) {
        let limit = (6.0 / (rows + columns) as f64).sqrt();
        let mut one = || ((2.0 * stream.unit() - 1.0) * limit) as f32;
        self.add(
            name,
            Array2::from_shape_simple_fn((rows, columns), &mut one),
        );
    }

    /// Adds a matrix of zeros.
    pub fn zeros(&mut self, name: &str, rows: usize, columns: usize) {
        self.add(name, Array2::zeros((rows, columns)));
    }

    /// Adds a matrix.
    pub(crate) fn add(&mut self, name: &str, matrix: Matrix) {
        self.names.insert(name.to_owned(), self.all.len());
        self.all.push(matrix);
    }

    /// The number of a matrix.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn number(&self, name: &str) -> usize {
        self.names[name]
    }

    /// By number.
    #[must_use]
    pub fn all(&self) -> &[Matrix] {
        &self.all
    }

    pub(crate) fn all_mut(&mut self) -> &mut [Matrix] {
        &mut self.all
    }

    /// Other values under the same names.
    #[must_use]
    pub fn with_values(&self, all: Vec<Matrix>) -> Self {
        Self {
            names: self.names.clone(),
            all,
        }
    }

    /// Numbers in all of them.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.iter().map(Array2::len).sum()
    }

    /// As bytes: name, shape and little-endian numbers of each matrix, in order.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut named: Vec<(&String, usize)> = self.names.iter().map(|(n, &at)| (n, at)).collect();
        named.sort_by_key(|(_, at)| *at);
        let mut bytes = MAGIC.to_vec();
        let word = |bytes: &mut Vec<u8>, n: usize| {
            bytes.extend_from_slice(&u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes());
        };
        word(&mut bytes, named.len());
        for (name, at) in named {
            let (rows, columns) = self.all[at].dim();
            word(&mut bytes, name.len());
            bytes.extend_from_slice(name.as_bytes());
            word(&mut bytes, rows);
            word(&mut bytes, columns);
            for number in &self.all[at] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        bytes
    }

    /// From [`Weights::to_bytes`]; nothing of the bytes is trusted.
    ///
    /// # Errors
    /// [`WeightsError::Format`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WeightsError> {
        let wrong = WeightsError::Format;
        let mut rest = bytes
            .strip_prefix(MAGIC)
            .ok_or(wrong("they begin otherwise"))?;
        let mut take = |count: usize| -> Result<&[u8], WeightsError> {
            let (head, tail) = rest
                .split_at_checked(count)
                .ok_or(wrong("they end too soon"))?;
            rest = tail;
            Ok(head)
        };
        let word = |bytes: &[u8]| -> usize {
            let mut four = [0; 4];
            four.copy_from_slice(bytes);
            u32::from_le_bytes(four) as usize
        };
        let count = word(take(4)?);
        let mut weights = Self::default();
        for _ in 0..count {
            let length = word(take(4)?);
            let name = String::from_utf8(take(length)?.to_vec());
            let name = name.map_err(|_| wrong("a name is no text"))?;
            let (rows, columns) = (word(take(4)?), word(take(4)?));
            let size = rows.checked_mul(columns).filter(|size| *size <= MOST);
            let size = size.ok_or(wrong("a matrix is too large"))?;
            let numbers = take(size * 4)?
                .chunks_exact(4)
                .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            let matrix = Array2::from_shape_vec((rows, columns), numbers.collect());
            let matrix = matrix.map_err(|_| wrong("a shape is wrong"))?;
            if matrix.iter().any(|number| !number.is_finite()) {
                return Err(wrong("a number is not finite"));
            }
            weights.add(&name, matrix);
        }
        let is_whole = rest.is_empty() && weights.names.len() == weights.all.len();
        is_whole
            .then_some(weights)
            .ok_or(wrong("names repeat, or something follows"))
    }

    /// Whether these have every matrix of `like`, in its order and shape.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] naming the first that differs.
    pub fn check(&self, like: &Self) -> Result<(), WeightsError> {
        for (name, &at) in &like.names {
            let (rows, columns) = like.all[at].dim();
            let own = self.names.get(name).filter(|own| **own == at);
            let own = own.and_then(|own| self.all.get(*own));
            if own.is_none_or(|own| own.dim() != (rows, columns)) {
                let name = name.clone();
                return Err(WeightsError::Missing {
                    name,
                    rows,
                    columns,
                });
            }
        }
        Ok(())
    }
}
