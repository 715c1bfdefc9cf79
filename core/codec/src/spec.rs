//! What a tensor is apart from its values.

use crate::Error;

/// What one element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// IEEE 754 single precision, little-endian: every codec can be used.
    F32,
    /// Anything else that has a fixed size; it crosses losslessly.
    Other {
        /// Bytes of one element, 1 to 16.
        bytes: u8,
    },
}

impl Element {
    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Other { bytes } => bytes as usize,
        }
    }

    /// What the checksum knows it by.
    const fn id(self) -> u8 {
        match self {
            Self::F32 => 0,
            Self::Other { bytes } => bytes,
        }
    }
}

/// Element and shape, row-major: first dimension samples, second channels, the rest inside a channel.
/// A tensor of one dimension is one sample with one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec<'a> {
    /// What one element is.
    pub element: Element,
    /// Dimensions, none negative; none at all is one element.
    pub shape: &'a [i64],
}

/// Bounds on what is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a decoded tensor.
    pub tensor_bytes: usize,
}

impl Default for Limits {
    /// 64 MiB, as a frame has at most.
    fn default() -> Self {
        Self {
            tensor_bytes: 64 << 20,
        }
    }
}

/// Samples, channels, elements of one channel of one sample; their product is the number of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) samples: usize,
    pub(crate) channels: usize,
    pub(crate) inner: usize,
}

impl Spec<'_> {
    /// Bytes of the tensor.
    ///
    /// # Errors
    /// [`Error::Shape`] when there can be no such tensor.
    pub fn bytes(&self) -> Result<usize, Error> {
        let size = self.element.bytes();
        if !(1..=16).contains(&size) {
            return Err(Error::Shape);
        }
        self.shape.iter().try_fold(size, |product, &dim| {
            let dim = usize::try_from(dim).map_err(|_| Error::Shape)?;
            product.checked_mul(dim).ok_or(Error::Shape)
        })
    }

    /// As the codecs see it. Only for a shape whose [`bytes`](Self::bytes) are known.
    pub(crate) fn layout(&self) -> Layout {
        let dim = |at: usize| usize::try_from(self.shape[at]).unwrap_or(0);
        match self.shape.len() {
            0 | 1 => Layout {
                samples: 1,
                channels: 1,
                inner: self.shape.first().map_or(1, |_| dim(0)),
            },
            // A dimension of zero may stand before ones whose product cannot be counted.
            rank if (0..rank).any(|at| dim(at) == 0) => Layout {
                samples: 1,
                channels: 1,
                inner: 0,
            },
            rank => Layout {
                samples: dim(0),
                channels: dim(1),
                inner: (2..rank).map(dim).product(),
            },
        }
    }

    /// Elements in a row: the last dimension.
    pub(crate) fn row(&self) -> usize {
        let last = self.shape.last().copied().unwrap_or(1);
        usize::try_from(last).unwrap_or(1)
    }

    /// The checksum of this and of a tensor encoded for it (without its checksum).
    pub(crate) fn checksum(&self, encoded: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[self.element.id()]);
        for dim in self.shape {
            hasher.update(&dim.to_le_bytes());
        }
        hasher.update(encoded);
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(shape: &[i64]) -> Spec<'_> {
        Spec {
            element: Element::F32,
            shape,
        }
    }

    #[test]
    fn shapes_that_no_tensor_has_are_refused() {
        assert_eq!(spec(&[1, -1]).bytes(), Err(Error::Shape));
        assert_eq!(spec(&[i64::MAX, 2]).bytes(), Err(Error::Shape));
        let wide = Spec {
            element: Element::Other { bytes: 17 },
            shape: &[1],
        };
        assert_eq!(wide.bytes(), Err(Error::Shape));
        assert_eq!(spec(&[0, i64::MAX]).bytes(), Ok(0));
    }

    #[test]
    fn the_product_of_a_layout_is_the_number_of_elements() {
        for shape in [
            &[][..],
            &[7],
            &[2, 3],
            &[2, 3, 4],
            &[2, 3, 4, 5],
            &[0, i64::MAX],
            &[3, 0, i64::MAX],
        ] {
            let layout = spec(shape).layout();
            let elements = layout.samples * layout.channels * layout.inner;
            assert_eq!(Ok(4 * elements), spec(shape).bytes(), "{shape:?}");
        }
        let layout = spec(&[2, 3, 4, 5]).layout();
        assert_eq!((layout.samples, layout.channels, layout.inner), (2, 3, 20));
    }
}
