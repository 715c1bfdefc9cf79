//! Tensors of the inference protocol: datatype words, shapes, and the three ways elements travel.

use bytes::Bytes;
use splitplace_codec::Codec;
use splitplace_link::Tensor;
use splitplace_proto::{data::DType, inference::InferTensorContents};

/// Type of an element in the protocol's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datatype {
    /// A type that models here take.
    Plain(DType),
    /// Texts and blobs; no engine type.
    Bytes,
    /// Brain floating point; no engine type.
    Bf16,
}

impl Datatype {
    /// From the protocol's word.
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word {
            "BYTES" => Some(Self::Bytes),
            "BF16" => Some(Self::Bf16),
            "UNSPECIFIED" => None,
            _ => DType::from_str_name(&format!("D_TYPE_{word}")).map(Self::Plain),
        }
    }

    /// Bytes of one element; `None` where elements differ.
    fn element_bytes(self) -> Option<usize> {
        match self {
            Self::Plain(dtype) => splitplace_link::element_bytes(dtype),
            Self::Bytes => None,
            Self::Bf16 => Some(2),
        }
    }
}

/// The protocol's word for a type.
pub(super) fn word(dtype: DType) -> &'static str {
    dtype.as_str_name().trim_start_matches("D_TYPE_")
}

/// Name, type and shape of an input, with the model's name for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header<'a> {
    pub(super) model: &'a str,
    pub(super) name: &'a str,
    pub(super) datatype: &'a str,
    pub(super) shape: &'a [i64],
}

/// Most dimensions of a tensor.
const RANK_MAX: usize = 32;

impl Header<'_> {
    /// Type and number of elements.
    pub(super) fn check(&self) -> Result<(Datatype, usize), String> {
        let Self {
            model,
            name,
            datatype,
            shape,
        } = *self;
        let Some(kind) = Datatype::parse(datatype) else {
            return Err(format!(
                "inference input '{name}' for model '{model}' has unknown data-type '{datatype}'"
            ));
        };
        if shape.len() > RANK_MAX {
            return Err(format!(
                "inference input '{name}' for model '{model}' has {} dimensions; the limit is {RANK_MAX}",
                shape.len()
            ));
        }
        let mut count = 1_usize;
        for &dim in shape {
            let dim = usize::try_from(dim).map_err(|_| {
                format!(
                    "inference input '{name}' for model '{model}' has a negative dimension in its \
                     shape {shape:?}"
                )
            })?;
            count = count.checked_mul(dim).ok_or_else(|| {
                format!(
                    "inference input '{name}' for model '{model}' has more elements than can be \
                     counted: shape {shape:?}"
                )
            })?;
        }
        Ok((kind, count))
    }

    /// From little-endian bytes.
    pub(super) fn raw(&self, bytes: Bytes) -> Result<Tensor, String> {
        let (kind, count) = self.check()?;
        let Self { model, name, .. } = *self;
        match kind.element_bytes() {
            Some(size) => {
                let wanted = count.checked_mul(size);
                if wanted != Some(bytes.len()) {
                    return Err(format!(
                        "unexpected size {} for input '{name}' for model '{model}': its shape and \
                         data-type make {} bytes",
                        bytes.len(),
                        wanted.map_or_else(|| "too many".into(), |wanted| wanted.to_string()),
                    ));
                }
            }
            None => self.check_blobs(&bytes, count)?,
        }
        self.tensor(kind, bytes)
    }

    /// From one of the typed lists.
    pub(super) fn typed(&self, contents: &InferTensorContents) -> Result<Tensor, String> {
        let (kind, count) = self.check()?;
        let Self {
            model,
            name,
            datatype,
            ..
        } = *self;
        let lists = [
            ("bool_contents", contents.bool_contents.len()),
            ("int_contents", contents.int_contents.len()),
            ("int64_contents", contents.int64_contents.len()),
            ("uint_contents", contents.uint_contents.len()),
            ("uint64_contents", contents.uint64_contents.len()),
            ("fp32_contents", contents.fp32_contents.len()),
            ("fp64_contents", contents.fp64_contents.len()),
            ("bytes_contents", contents.bytes_contents.len()),
        ];
        let Some(list) = typed_list(kind) else {
            return Err(format!(
                "inference input '{name}' for model '{model}' has data-type '{datatype}', which \
                 travels in raw_input_contents only"
            ));
        };
        if let Some((other, _)) = lists.iter().find(|(of, len)| *of != list && *len > 0) {
            return Err(format!(
                "inference input '{name}' for model '{model}' has data-type '{datatype}': its \
                 elements belong into {list}, not {other}"
            ));
        }
        let given = lists.iter().find(|(of, _)| *of == list).map_or(0, |l| l.1);
        if given != count {
            return Err(format!(
                "unexpected number of elements {given} in {list} for input '{name}' for model \
                 '{model}': its shape makes {count}"
            ));
        }
        let range = || {
            format!(
                "an element of input '{name}' for model '{model}' does not fit its data-type \
                 '{datatype}'"
            )
        };
        let bytes = match kind {
            Datatype::Plain(DType::Bool) => contents
                .bool_contents
                .iter()
                .map(|&b| u8::from(b))
                .collect(),
            Datatype::Plain(DType::Int8) => {
                narrow(&contents.int_contents, i8::to_le_bytes).ok_or_else(range)?
            }
            Datatype::Plain(DType::Int16) => {
                narrow(&contents.int_contents, i16::to_le_bytes).ok_or_else(range)?
            }
            Datatype::Plain(DType::Uint8) => {
                narrow(&contents.uint_contents, u8::to_le_bytes).ok_or_else(range)?
            }
            Datatype::Plain(DType::Uint16) => {
                narrow(&contents.uint_contents, u16::to_le_bytes).ok_or_else(range)?
            }
            Datatype::Plain(DType::Int32) => spread(&contents.int_contents, i32::to_le_bytes),
            Datatype::Plain(DType::Uint32) => spread(&contents.uint_contents, u32::to_le_bytes),
            Datatype::Plain(DType::Int64) => spread(&contents.int64_contents, i64::to_le_bytes),
            Datatype::Plain(DType::Uint64) => spread(&contents.uint64_contents, u64::to_le_bytes),
            Datatype::Plain(DType::Fp32) => spread(&contents.fp32_contents, f32::to_le_bytes),
            Datatype::Plain(DType::Fp64) => spread(&contents.fp64_contents, f64::to_le_bytes),
            Datatype::Bytes => blobs(&contents.bytes_contents),
            Datatype::Plain(DType::Fp16 | DType::Bytes | DType::Unspecified) | Datatype::Bf16 => {
                Vec::new()
            }
        };
        self.tensor(kind, bytes.into())
    }

    /// The tensor, unless no engine knows its type.
    pub(super) fn tensor(&self, kind: Datatype, bytes: Bytes) -> Result<Tensor, String> {
        let Self {
            model,
            name,
            datatype,
            shape,
        } = *self;
        let dtype = match kind {
            Datatype::Plain(dtype) => dtype,
            // Encoded pictures; whether the model takes them is checked with everything else.
            Datatype::Bytes => DType::Bytes,
            Datatype::Bf16 => {
                return Err(format!(
                    "inference input '{name}' data-type is '{datatype}', which model '{model}' does \
                     not take"
                ));
            }
        };
        Ok(Tensor {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
            codec: Codec::RAW,
            chunks: vec![bytes],
        })
    }

    /// Elements of differing size: each with its length before it, in four bytes.
    fn check_blobs(&self, bytes: &[u8], count: usize) -> Result<(), String> {
        let Self { model, name, .. } = *self;
        let mut rest = bytes;
        let mut found = 0_usize;
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            let Some((_, after)) = after.split_at_checked(length) else {
                break;
            };
            rest = after;
            found += 1;
        }
        if found != count || !rest.is_empty() {
            return Err(format!(
                "unexpected BYTES of input '{name}' for model '{model}': {found} whole elements and \
                 {} bytes more, where its shape makes {count}",
                rest.len()
            ));
        }
        Ok(())
    }
}

const fn typed_list(kind: Datatype) -> Option<&'static str> {
    Some(match kind {
        Datatype::Plain(DType::Bool) => "bool_contents",
        Datatype::Plain(DType::Int8 | DType::Int16 | DType::Int32) => "int_contents",
        Datatype::Plain(DType::Uint8 | DType::Uint16 | DType::Uint32) => "uint_contents",
        Datatype::Plain(DType::Int64) => "int64_contents",
        Datatype::Plain(DType::Uint64) => "uint64_contents",
        Datatype::Plain(DType::Fp32) => "fp32_contents",
        Datatype::Plain(DType::Fp64) => "fp64_contents",
        Datatype::Bytes => "bytes_contents",
        Datatype::Plain(DType::Fp16 | DType::Bytes | DType::Unspecified) | Datatype::Bf16 => {
            return None;
        }
    })
}

/// Each with its length before it, in four bytes; none is longer than a message may be.
fn blobs(list: &[Bytes]) -> Vec<u8> {
    let mut out = Vec::with_capacity(list.iter().map(|blob| blob.len() + 4).sum());
    for blob in list {
        out.extend(u32::try_from(blob.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(blob);
    }
    out
}

fn spread<T: Copy, const N: usize>(list: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    list.iter().flat_map(|&value| bytes(value)).collect()
}

fn narrow<W: Copy, T: TryFrom<W>, const N: usize>(
    list: &[W],
    bytes: impl Fn(T) -> [u8; N],
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(list.len() * N);
    for &value in list {
        out.extend(bytes(T::try_from(value).ok()?));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(datatype: &'a str, shape: &'a [i64]) -> Header<'a> {
        Header {
            model: "m",
            name: "x",
            datatype,
            shape,
        }
    }

    #[test]
    fn raw_bytes_must_have_the_exact_size() {
        assert!(header("FP32", &[2, 3]).raw(vec![0; 24].into()).is_ok());
        assert!(header("FP16", &[2, 3]).raw(vec![0; 12].into()).is_ok());
        assert!(header("FP32", &[0, 3]).raw(Bytes::new()).is_ok());
        for size in [0, 23, 25] {
            let error = header("FP32", &[2, 3])
                .raw(vec![0; size].into())
                .unwrap_err();
            assert!(error.contains("24 bytes"), "{error}");
        }
    }

    #[test]
    fn shapes_cannot_overflow_or_be_negative() {
        let error = header("FP32", &[2, -3]).raw(Bytes::new()).unwrap_err();
        assert!(error.contains("negative dimension"), "{error}");
        let error = header("FP32", &[i64::MAX, i64::MAX])
            .raw(Bytes::new())
            .unwrap_err();
        assert!(error.contains("counted"), "{error}");
        let most = i64::MAX / 2;
        assert!(
            header("FP64", &[most])
                .raw(Bytes::new())
                .unwrap_err()
                .contains("too many")
        );
        assert!(header("FP32", &[1; 33]).check().is_err());
    }

    #[test]
    fn typed_lists_are_checked_against_the_datatype() {
        let ints = InferTensorContents {
            int_contents: vec![1, -2, 300],
            ..Default::default()
        };
        let tensor = header("INT16", &[3]).typed(&ints).expect("fits");
        assert_eq!(tensor.contiguous()[..], [1, 0, 254, 255, 44, 1]);
        assert!(
            header("INT8", &[3])
                .typed(&ints)
                .unwrap_err()
                .contains("does not fit")
        );
        assert!(
            header("INT16", &[2])
                .typed(&ints)
                .unwrap_err()
                .contains("makes 2")
        );
        let error = header("FP32", &[3]).typed(&ints).unwrap_err();
        assert!(error.contains("fp32_contents, not int_contents"), "{error}");
        for half in ["FP16", "BF16"] {
            let error = header(half, &[3]).typed(&ints).unwrap_err();
            assert!(error.contains("raw_input_contents only"), "{error}");
        }
        assert!(
            header("FP99", &[3])
                .typed(&ints)
                .unwrap_err()
                .contains("unknown data-type")
        );
        assert!(header("UNSPECIFIED", &[3]).check().is_err());
    }

    #[test]
    fn blobs_are_walked_before_they_are_believed() {
        let two = [2, 0, 0, 0, b'h', b'i', 0, 0, 0, 0];
        let tensor = header("BYTES", &[2])
            .raw(two.to_vec().into())
            .expect("they are two");
        assert_eq!(
            (tensor.dtype, &tensor.contiguous()[..]),
            (DType::Bytes, &two[..])
        );
        let typed = InferTensorContents {
            bytes_contents: vec![Bytes::from_static(b"hi"), Bytes::new()],
            ..Default::default()
        };
        let typed = header("BYTES", &[2]).typed(&typed).expect("they are two");
        assert_eq!(typed.contiguous(), tensor.contiguous());
        for wrong in [&two[..9], &two[..3], &[255, 255, 255, 255, 1]] {
            let error = header("BYTES", &[2])
                .raw(wrong.to_vec().into())
                .unwrap_err();
            assert!(error.contains("whole elements"), "{error}");
        }
    }
}
