//! Elements as JSON: flat or nested arrays in, flat arrays out.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::{Value as Json, json};
use splitplace_proto::data::DType;

use crate::api::tensors::Datatype;

/// Arrays within arrays.
const DEPTH_MAX: usize = 32;

/// Little-endian bytes of `count` elements.
pub(super) fn from_json(kind: Datatype, count: usize, text: &str) -> Result<Vec<u8>, String> {
    if matches!(kind, Datatype::Bf16 | Datatype::Plain(DType::Fp16)) {
        return Err("half precision travels as binary only: use 'binary_data_size'".into());
    }
    // The text bounds the elements, so that an absurd shape reserves nothing.
    let mut elements = Elements {
        kind,
        count: 0,
        bytes: Vec::with_capacity(count.min(text.len())),
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Nested {
        into: &mut elements,
        depth: 0,
    }
    .deserialize(&mut reader);
    read.map_err(|error| format!("'data' cannot be used: {error}"))?;
    if elements.count != count {
        return Err(format!(
            "'data' has {} elements, its shape makes {count}",
            elements.count
        ));
    }
    Ok(elements.bytes)
}

struct Elements {
    kind: Datatype,
    count: usize,
    bytes: Vec<u8>,
}

impl Elements {
    fn int<E: Error>(&mut self, value: i128) -> Result<(), E> {
        fn fit<T: TryFrom<i128>, E: Error>(value: i128) -> Result<T, E> {
            T::try_from(value).map_err(|_| E::custom(format!("{value} does not fit the data-type")))
        }
        let Datatype::Plain(dtype) = self.kind else {
            return Err(E::custom("a number does not fit the data-type"));
        };
        match dtype {
            DType::Int8 => self.push(fit::<i8, E>(value)?.to_le_bytes()),
            DType::Int16 => self.push(fit::<i16, E>(value)?.to_le_bytes()),
            DType::Int32 => self.push(fit::<i32, E>(value)?.to_le_bytes()),
            DType::Int64 => self.push(fit::<i64, E>(value)?.to_le_bytes()),
            DType::Uint8 => self.push(fit::<u8, E>(value)?.to_le_bytes()),
            DType::Uint16 => self.push(fit::<u16, E>(value)?.to_le_bytes()),
            DType::Uint32 => self.push(fit::<u32, E>(value)?.to_le_bytes()),
            DType::Uint64 => self.push(fit::<u64, E>(value)?.to_le_bytes()),
            #[expect(clippy::cast_precision_loss, reason = "JSON's numbers are doubles")]
            _ => self.number(value as f64)?,
        }
        Ok(())
    }

    fn number<E: Error>(&mut self, value: f64) -> Result<(), E> {
        match self.kind {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "rounding is what is asked for"
            )]
            Datatype::Plain(DType::Fp32) => self.push((value as f32).to_le_bytes()),
            Datatype::Plain(DType::Fp64) => self.push(value.to_le_bytes()),
            _ => return Err(E::custom(format!("{value} does not fit the data-type"))),
        }
        Ok(())
    }

    fn push<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes.extend_from_slice(&bytes);
        self.count += 1;
    }
}

struct Nested<'a> {
    into: &'a mut Elements,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Nested<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, booleans, texts, or arrays of them")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.depth == DEPTH_MAX {
            return Err(A::Error::custom(format!(
                "more than {DEPTH_MAX} arrays within each other"
            )));
        }
        let depth = self.depth + 1;
        while seq
            .next_element_seed(Nested {
                into: self.into,
                depth,
            })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if self.into.kind != Datatype::Plain(DType::Bool) {
            return Err(E::custom(format!("{value} does not fit the data-type")));
        }
        self.into.push([u8::from(value)]);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.into.int(i128::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.into.int(i128::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.into.number(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        let length = u32::try_from(value.len()).ok();
        let (Datatype::Bytes, Some(length)) = (self.into.kind, length) else {
            return Err(E::custom("a text does not fit the data-type"));
        };
        self.into.bytes.extend_from_slice(&length.to_le_bytes());
        self.into.bytes.extend_from_slice(value.as_bytes());
        self.into.count += 1;
        Ok(())
    }
}

/// A flat array of the elements in `bytes`.
pub(super) fn to_json(dtype: DType, bytes: &[u8]) -> Result<Json, String> {
    fn all<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> Json) -> Json {
        let (chunks, _) = bytes.as_chunks::<N>();
        Json::Array(chunks.iter().map(|&chunk| of(chunk)).collect())
    }
    let array = match dtype {
        DType::Bool => all(bytes, |b: [u8; 1]| json!(b[0] != 0)),
        DType::Uint8 => all(bytes, |b| json!(u8::from_le_bytes(b))),
        DType::Uint16 => all(bytes, |b| json!(u16::from_le_bytes(b))),
        DType::Uint32 => all(bytes, |b| json!(u32::from_le_bytes(b))),
        DType::Uint64 => all(bytes, |b| json!(u64::from_le_bytes(b))),
        DType::Int8 => all(bytes, |b| json!(i8::from_le_bytes(b))),
        DType::Int16 => all(bytes, |b| json!(i16::from_le_bytes(b))),
        DType::Int32 => all(bytes, |b| json!(i32::from_le_bytes(b))),
        DType::Int64 => all(bytes, |b| json!(i64::from_le_bytes(b))),
        DType::Fp32 => all(bytes, |b| json!(f32::from_le_bytes(b))),
        DType::Fp64 => all(bytes, |b| json!(f64::from_le_bytes(b))),
        DType::Fp16 | DType::Bytes | DType::Unspecified => {
            return Err("half precision travels as binary only: ask with 'binary_data'".into());
        }
    };
    let has_null = array
        .as_array()
        .is_some_and(|array| array.iter().any(Json::is_null));
    if has_null {
        return Err("JSON has no infinity and no NaN: ask with 'binary_data'".into());
    }
    Ok(array)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FP32: Datatype = Datatype::Plain(DType::Fp32);

    #[test]
    fn nested_and_flat_are_the_same() {
        let nested = from_json(FP32, 4, "[[1, 2.5], [-3, 1e3]]");
        assert_eq!(nested, from_json(FP32, 4, "[1, 2.5, -3, 1e3]"));
        let bytes = nested.expect("numbers");
        let back = to_json(DType::Fp32, &bytes).expect("finite");
        assert_eq!(back, json!([1.0, 2.5, -3.0, 1000.0]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let int8 = Datatype::Plain(DType::Int8);
        assert!(
            from_json(int8, 1, "[128]")
                .unwrap_err()
                .contains("does not fit")
        );
        assert!(from_json(int8, 1, "[1.5]").is_err());
        assert!(from_json(int8, 1, "[true]").is_err());
        assert!(from_json(int8, 1, "[\"a\"]").is_err());
        assert!(
            from_json(int8, 2, "[1]")
                .unwrap_err()
                .contains("1 elements")
        );
        assert!(from_json(FP32, 1, "[null]").is_err());
        assert!(
            from_json(Datatype::Plain(DType::Fp16), 1, "[1]")
                .unwrap_err()
                .contains("binary")
        );
        assert_eq!(
            from_json(Datatype::Bytes, 1, "[\"hi\"]"),
            Ok(vec![2, 0, 0, 0, b'h', b'i'])
        );
        let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
        assert!(
            from_json(FP32, 1, &deep)
                .unwrap_err()
                .contains("within each other")
        );
        assert!(from_json(FP32, usize::MAX, "[1]").is_err());
    }

    #[test]
    fn json_has_no_infinity() {
        let infinite = f32::INFINITY.to_le_bytes();
        assert!(
            to_json(DType::Fp32, &infinite)
                .unwrap_err()
                .contains("binary_data")
        );
        let most = u64::MAX.to_le_bytes();
        assert_eq!(to_json(DType::Uint64, &most), Ok(json!([u64::MAX])));
    }
}
