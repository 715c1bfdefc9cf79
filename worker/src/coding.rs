//! From tensors as they cross a link to tensors as the engine takes them, and back.

use bytes::Bytes;
use splitplace_codec::{Codec, Limits, Spec};
use splitplace_graph::Element;
use splitplace_link::{Tensor, dtype, element};
use splitplace_onnx::{PictureLimits, Preprocess, Value, cut::Port};
use splitplace_proto::data::DType;

/// The tensors named, for the engine: decoded, and pictures made into what the network takes. Memory
/// of tensors that are not coded is shared.
///
/// # Errors
/// What a peer sent is not what it says, in words.
pub(crate) fn decode(
    tensors: &[Tensor],
    wanted: impl Fn(&str) -> bool,
    pictures: Option<(&Preprocess, &[Port])>,
) -> Result<Vec<Value>, String> {
    let mut values = Vec::with_capacity(tensors.len());
    for tensor in tensors.iter().filter(|tensor| wanted(&tensor.name)) {
        values.push(match (tensor.dtype, pictures) {
            (DType::Bytes, Some((preprocess, ports))) => prepared(tensor, preprocess, ports)?,
            (DType::Bytes, None) => {
                return Err(format!(
                    "'{}' holds pictures, and none are taken",
                    tensor.name
                ));
            }
            _ => value(tensor)?,
        });
    }
    Ok(values)
}

/// A tensor of the wire as one for the engine.
fn value(tensor: &Tensor) -> Result<Value, String> {
    let broken = || format!("'{}' has no shape or type that can be", tensor.name);
    let element = element(tensor.dtype).ok_or_else(broken)?;
    let dims = tensor.shape.iter().map(|&dim| u64::try_from(dim));
    let shape: Vec<u64> = dims.collect::<Result<_, _>>().map_err(|_| broken())?;
    let chunks = if tensor.codec == Codec::RAW {
        tensor.chunks.clone()
    } else {
        let spec = Spec {
            element: splitplace_codec::Element::F32,
            shape: &tensor.shape,
        };
        if element != Element::F32 {
            return Err(format!("'{}' is coded and not FP32", tensor.name));
        }
        let bytes = splitplace_codec::decode(&tensor.contiguous(), &spec, Limits::default());
        let bytes =
            bytes.map_err(|error| format!("'{}' cannot be decoded: {error}", tensor.name))?;
        vec![bytes.into()]
    };
    Ok(Value {
        name: tensor.name.clone(),
        element,
        shape,
        chunks,
    })
}

/// Encoded pictures, one for each sample, as the tensor that the network takes.
fn prepared(tensor: &Tensor, preprocess: &Preprocess, ports: &[Port]) -> Result<Value, String> {
    let of = |error: String| format!("pictures '{}': {error}", tensor.name);
    let port = ports.iter().find(|port| port.name == preprocess.input);
    let port = port.ok_or_else(|| of("the fragment takes no such input".into()))?;
    let limits = PictureLimits::default();
    let bytes = tensor.contiguous();
    let mut made = Vec::new();
    let mut samples = 0u64;
    let mut left = &bytes[..];
    while !left.is_empty() {
        let cut_short = || of("they are cut short".into());
        let (length, rest) = left.split_first_chunk::<4>().ok_or_else(cut_short)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (picture, rest) = rest.split_at_checked(length).ok_or_else(cut_short)?;
        let numbers = preprocess.apply(picture, &port.shape, &limits);
        let numbers = numbers.map_err(|error| of(error.to_string()))?;
        made.extend_from_slice(&little_endian(&numbers));
        samples += 1;
        left = rest;
    }
    let mut shape = port.shape.clone();
    if let Some(batch) = shape.first_mut() {
        *batch = samples;
    }
    Ok(Value {
        name: port.name.clone(),
        element: Element::F32,
        shape,
        chunks: vec![made.into()],
    })
}

/// The tensors that go on, coded for the next link. Tensors that are coded already and only pass by
/// stay as they are, and so do those that the codec is not for.
pub(crate) fn encode(tensors: Vec<Tensor>, codec: Codec) -> Vec<Tensor> {
    let encode = |tensor: Tensor| match tensor.codec == Codec::RAW && tensor.dtype == DType::Fp32 {
        true => coded(&tensor, codec).unwrap_or(tensor),
        false => tensor,
    };
    tensors.into_iter().map(encode).collect()
}

/// `None` where the codec would gain nothing, or is not for such values.
fn coded(tensor: &Tensor, codec: Codec) -> Option<Tensor> {
    let spec = Spec {
        element: splitplace_codec::Element::F32,
        shape: &tensor.shape,
    };
    let mut wire = Vec::new();
    let used = codec.encode(&spec, &tensor.contiguous(), &mut wire).ok()?;
    (used != Codec::RAW).then(|| Tensor {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        codec: used,
        chunks: vec![wire.into()],
    })
}

fn little_endian(numbers: &[f32]) -> Bytes {
    let mut bytes = Vec::with_capacity(numbers.len() * 4);
    for number in numbers {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.into()
}

/// A tensor of the engine as one for the wire; the memory is shared.
pub(crate) fn tensor(value: Value) -> Tensor {
    Tensor {
        name: value.name,
        dtype: dtype(value.element),
        shape: value
            .shape
            .iter()
            .map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX))
            .collect(),
        codec: Codec::RAW,
        chunks: value.chunks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activations() -> Tensor {
        let numbers = (0..2 * 4 * 64u32).map(|k| {
            if k % 3 == 0 {
                (k % 50) as f32 / 10.0
            } else {
                0.0
            }
        });
        Tensor {
            name: "x".into(),
            dtype: DType::Fp32,
            shape: vec![2, 4, 8, 8],
            codec: Codec::RAW,
            chunks: vec![
                numbers
                    .flat_map(f32::to_le_bytes)
                    .collect::<Vec<u8>>()
                    .into(),
            ],
        }
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        let (numbers, _) = bytes.as_chunks::<4>();
        numbers
            .iter()
            .map(|number| f32::from_le_bytes(*number))
            .collect()
    }

    fn decoded(tensors: &[Tensor]) -> Result<Vec<Value>, String> {
        decode(tensors, |_| true, None)
    }

    #[test]
    fn what_was_coded_comes_back_within_half_a_step() {
        let tensor = activations();
        let coded = encode(vec![tensor.clone()], "u8-rans".parse().unwrap());
        assert!(coded[0].len_bytes() * 6 < tensor.len_bytes());
        let values = decoded(&coded).unwrap();
        assert_eq!(values[0].shape, [2, 4, 8, 8]);
        let (before, after) = (
            floats(&tensor.contiguous()),
            floats(&values[0].chunks.concat()),
        );
        let step = 4.9 / 255.0;
        for (a, b) in before.iter().zip(&after) {
            assert!((a - b).abs() <= step / 2.0 + 1e-4, "{a} {b}");
        }
    }

    #[test]
    fn what_only_passes_by_and_what_is_no_number_stay_as_they_are() {
        let codec: Codec = "u8-rans".parse().unwrap();
        let once = encode(vec![activations()], codec);
        assert_eq!(encode(once.clone(), codec), once);
        let mut whole = activations();
        whole.dtype = DType::Int32;
        let mut wild = activations();
        wild.chunks = vec![vec![0xff; 4 * 512].into()];
        let same = vec![whole, wild];
        assert_eq!(encode(same.clone(), codec), same);
    }

    #[test]
    fn a_damaged_tensor_is_refused_by_name() {
        let mut coded = encode(vec![activations()], "u8-rans".parse().unwrap());
        let mut bytes = coded[0].contiguous().to_vec();
        bytes[20] ^= 1;
        coded[0].chunks = vec![bytes.into()];
        assert!(
            decoded(&coded)
                .unwrap_err()
                .contains("'x' cannot be decoded")
        );
        coded[0].shape = vec![-1];
        assert!(decoded(&coded).is_err());
    }

    #[test]
    fn pictures_become_the_tensor_that_the_network_takes() {
        let preprocess = Preprocess::from_text(
            "input = \"image\"\nresize = \"stretch\"\nchannels = \"grey\"\nlayout = \"nchw\"\n\
             mean = [0.0]\nstd = [2.0]\n",
        )
        .unwrap();
        let ports = [Port {
            name: "image".into(),
            element: Element::F32,
            shape: vec![1, 1, 2, 3],
            bytes: 24,
        }];
        // A grey PNG of 3 × 2 pixels: 0, 20, 40, 60, 80, 100.
        let picture: &[u8] = &[
            137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 3, 0, 0, 0, 2,
            8, 0, 0, 0, 0, 184, 31, 57, 198, 0, 0, 0, 16, 73, 68, 65, 84, 120, 156, 99, 100, 16,
            17, 97, 180, 17, 17, 1, 0, 1, 224, 0, 143, 73, 210, 142, 40, 0, 0, 0, 0, 73, 69, 78,
            68, 174, 66, 96, 130,
        ];
        let mut bytes = Vec::new();
        for _ in 0..2 {
            bytes.extend(u32::try_from(picture.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(picture);
        }
        let tensor = Tensor {
            name: "image".into(),
            dtype: DType::Bytes,
            shape: vec![2],
            codec: Codec::RAW,
            chunks: vec![bytes.clone().into()],
        };
        let pictures = Some((&preprocess, &ports[..]));
        let values = decode(std::slice::from_ref(&tensor), |_| true, pictures).unwrap();
        assert_eq!(values[0].shape, [2, 1, 2, 3]);
        let one = [0.0, 10.0, 20.0, 30.0, 40.0, 50.0];
        assert_eq!(floats(&values[0].chunks.concat()), [one, one].concat());
        let cut = Tensor {
            chunks: vec![bytes[..bytes.len() - 1].to_vec().into()],
            ..tensor.clone()
        };
        assert!(
            decode(&[cut], |_| true, Some((&preprocess, &ports)))
                .unwrap_err()
                .contains("cut short")
        );
        assert!(decoded(&[tensor]).unwrap_err().contains("none are taken"));
    }
}
