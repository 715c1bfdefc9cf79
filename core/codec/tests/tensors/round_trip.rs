//! What comes back: everything where the codec is lossless, half a step beside it where it is not.

use half::f16;
use proptest::prelude::*;
use splitplace_codec::{Codec, Element, Entropy, Error, Form, Grouping, Limits, Spec, decode};

use crate::made::{bytes, f32s, normal, sparse, values};

/// Encodes and decodes; which codec it was, and what came back.
fn around(codec: Codec, spec: &Spec<'_>, input: &[u8]) -> (Codec, Vec<u8>) {
    let mut wire = b"before".to_vec();
    let used = codec.encode(spec, input, &mut wire).unwrap();
    let wire = wire.strip_prefix(b"before").unwrap();
    assert_eq!(Codec::of(wire), Some(used));
    assert!(wire.len() <= input.len() + 5, "{codec} made it longer");
    (used, decode(wire, spec, Limits::default()).unwrap())
}

/// Shapes of up to four dimensions with a few thousand elements at most.
fn shapes() -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![
        proptest::collection::vec(0i64..30, 0..3),
        (0i64..4, 0i64..12, 0i64..40).prop_map(|(n, c, l)| vec![n, c, l]),
        (1i64..3, 1i64..20, 1i64..12, 1i64..12).prop_map(|(n, c, h, w)| vec![n, c, h, w]),
    ]
}

fn count(shape: &[i64]) -> usize {
    usize::try_from(shape.iter().product::<i64>()).unwrap()
}

/// Shapes with numbers, channels of very different sizes, some of them all zero.
fn tensors() -> impl Strategy<Value = (Vec<i64>, Vec<f32>)> {
    (shapes(), any::<u64>(), 0.0..1f64, -30i32..30).prop_map(|(shape, seed, zeros, power)| {
        let mut tensor = sparse(count(&shape), zeros, seed);
        let inner = shape.iter().skip(2).product::<i64>().max(1);
        let signs = normal(tensor.len(), seed);
        for (at, (value, sign)) in tensor.iter_mut().zip(signs).enumerate() {
            let channel = at as u64 / inner as u64 % shape.get(1).map_or(1, |&c| c.max(1) as u64);
            let scale = [0.0, 1.0, 0.001, 40.0][((channel ^ seed) % 4) as usize];
            *value *= scale * 2f32.powi(power) * if seed % 3 == 0 { sign.signum() } else { 1.0 };
        }
        (shape, tensor)
    })
}

/// The groups that a codec may have at most: a group is never larger than what is listed here together,
/// so its step is at most that of these. Tensor: everything. Channel: as many neighbouring channels as
/// together have 128 elements.
fn groups(shape: &[i64], grouping: Grouping) -> Vec<Vec<usize>> {
    let all = count(shape);
    if grouping == Grouping::Tensor || shape.len() < 2 {
        return vec![(0..all).collect()];
    }
    let (channels, inner) = (
        shape[1] as usize,
        shape[2..].iter().product::<i64>() as usize,
    );
    let each = (shape[0] as usize * inner).max(1);
    let per = 128usize.div_ceil(each).clamp(1, channels.max(1));
    let mut groups = vec![Vec::new(); channels.div_ceil(per)];
    for at in 0..all {
        groups[at / inner % channels / per].push(at);
    }
    groups
}

proptest! {
    #[test]
    fn lossless_codecs_give_everything_back(
        shape in shapes(),
        width in prop_oneof![Just(None), (1u8..=16).prop_map(Some)],
        seed in any::<u64>(),
        zeros in 0.0..1f64,
    ) {
        let element = width.map_or(Element::F32, |bytes| Element::Other { bytes });
        let spec = Spec { element, shape: &shape };
        // Bit patterns of every kind, in runs and alone.
        let noise = sparse(spec.bytes().unwrap().div_ceil(4), zeros, seed);
        let input = &bytes(&noise)[..spec.bytes().unwrap()];
        for codec in Codec::all().filter(|codec| codec.is_lossless()) {
            prop_assert_eq!(around(codec, &spec, input).1, input);
        }
        if element != Element::F32 {
            for codec in Codec::all().filter(|codec| !codec.is_lossless()) {
                prop_assert_eq!(around(codec, &spec, input), (Codec::RAW, input.to_vec()));
            }
        }
    }

    #[test]
    fn a_linear_codec_is_at_most_half_a_step_off((shape, tensor) in tensors()) {
        let spec = f32s(&shape);
        for codec in Codec::all() {
            let Form::Linear { bits, grouping } = codec.form else { continue };
            let (used, found) = around(codec, &spec, &bytes(&tensor));
            let found = values(&found);
            for group in groups(&shape, grouping) {
                let ends = group.iter().map(|&at| tensor[at]);
                let range = ends.clone().fold(0.0, f32::max) - ends.fold(0.0, f32::min);
                // The step has eight significant bits, rounded up; results are rounded to f32.
                let step = f64::from(range) / f64::from((1u32 << bits.count()) - 1) * (1.0 + 1.0 / 128.0);
                for at in group {
                    let error = (f64::from(found[at]) - f64::from(tensor[at])).abs();
                    let most = step / 2.0 + f64::from(range) * 1e-6 + f64::from(f32::MIN_POSITIVE);
                    prop_assert!(error <= most, "{codec}: {} became {}", tensor[at], found[at]);
                    if tensor[at] == 0.0 {
                        prop_assert_eq!(found[at], 0.0);
                    }
                }
            }
            // Entropy coding changes nothing about the numbers.
            let (plain, again) = around(Codec::new(codec.form, Entropy::None), &spec, &bytes(&tensor));
            if plain.form == used.form {
                prop_assert_eq!(again, bytes(&found));
            }
        }
    }

    #[test]
    fn f16_is_what_half_precision_is((shape, tensor) in tensors()) {
        let spec = f32s(&shape);
        let is_small = tensor.iter().all(|value| value.abs() < 65_520.0);
        let rounded: Vec<f32> = tensor.iter().map(|&value| f16::from_f32(value).to_f32()).collect();
        for entropy in [Entropy::None, Entropy::Rans, Entropy::ZeroRunRans] {
            let (used, found) = around(Codec::new(Form::F16, entropy), &spec, &bytes(&tensor));
            let expected = if used.form == Form::Raw { &tensor } else { &rounded };
            prop_assert_eq!(found, bytes(expected));
            prop_assert!(used.form == Form::F16 || !is_small || tensor.is_empty());
        }
    }
}

#[test]
fn what_is_not_finite_or_too_large_crosses_as_it_is() {
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2e38, -3.4e38] {
        for place in [0, 17, 99] {
            let mut tensor = normal(100, 1);
            tensor[place] = odd;
            for codec in Codec::all().filter(|codec| !codec.is_lossless()) {
                let (used, found) = around(codec, &f32s(&[1, 100]), &bytes(&tensor));
                assert_eq!((used, found), (Codec::RAW, bytes(&tensor)), "{codec}");
            }
        }
    }
    let large = bytes(&[65_519.0, -65_520.0]);
    let f16 = Codec::new(Form::F16, Entropy::None);
    assert_eq!(around(f16, &f32s(&[2]), &large).0, Codec::RAW);
    let large = bytes(&[65_519.0, -65_519.0]);
    assert_eq!(around(f16, &f32s(&[2]), &large).0, f16);
}

#[test]
fn the_smallest_and_the_largest_numbers_have_steps_too() {
    for size in [1e-45f32, 1e-40, 1e-30, 8e37] {
        let tensor: Vec<f32> = (-50..50).map(|k| k as f32 / 50.0 * size).collect();
        let (used, found) = around("u8".parse().unwrap(), &f32s(&[1, 100]), &bytes(&tensor));
        assert_eq!(used.to_string(), "u8");
        for (found, value) in values(&found).iter().zip(&tensor) {
            let step = (2.0 * size / 255.0 * 1.01).max(f32::MIN_POSITIVE);
            assert!(
                (found - value).abs() <= step * 0.501,
                "{value} became {found}"
            );
        }
    }
}

#[test]
fn channels_of_a_batch_have_steps_of_their_own() {
    let shape = [3, 4, 8, 8];
    let tensor: Vec<f32> = normal(3 * 4 * 64, 5)
        .into_iter()
        .enumerate()
        .map(|(at, value)| value * [1.0, 1000.0, 0.01, 30.0][at / 64 % 4])
        .collect();
    let worst = |name: &str| {
        let found = values(&around(name.parse().unwrap(), &f32s(&shape), &bytes(&tensor)).1);
        let small = tensor
            .iter()
            .zip(found)
            .enumerate()
            .filter(|(at, _)| at / 64 % 4 == 2);
        small.map(|(_, (a, b))| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(worst("u8c-rans") < 0.0003);
    assert!(worst("u8-rans") > 0.01);
}

#[test]
fn an_input_of_the_wrong_length_is_refused() {
    let mut out = vec![1];
    let error = Codec::RAW
        .encode(&f32s(&[2, 3]), &[0; 23], &mut out)
        .unwrap_err();
    let (expected, found) = (24, 23);
    assert_eq!(error, Error::Length { expected, found });
    assert_eq!(out, [1]);
}

#[test]
fn by_context_only_what_has_steps() {
    let input = bytes(&sparse(500, 0.8, 3));
    for form in [Form::Raw, Form::F16] {
        let (used, _) = around(
            Codec::new(form, Entropy::ContextRans),
            &f32s(&[500]),
            &input,
        );
        assert_eq!(used, Codec::new(form, Entropy::Rans));
    }
}
