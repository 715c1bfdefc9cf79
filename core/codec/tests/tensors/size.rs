//! How long it is, against an entropy that is computed here from what the plain codecs write.

use std::collections::BTreeMap;

use splitplace_codec::{Codec, Entropy, Form, estimate};

use crate::made::{bytes, f32s, normal, sparse};

/// Shannon's entropy of symbols, bytes.
fn entropy(symbols: impl IntoIterator<Item = u32>) -> f64 {
    let mut counts = BTreeMap::<u32, f64>::new();
    symbols
        .into_iter()
        .for_each(|symbol| *counts.entry(symbol).or_default() += 1.0);
    let total: f64 = counts.values().sum();
    counts
        .values()
        .map(|count| count * (total / count).log2())
        .sum::<f64>()
        / 8.0
}

fn encode(name: &str, shape: &[i64], tensor: &[f32]) -> Vec<u8> {
    let codec: Codec = name.parse().unwrap();
    let mut wire = Vec::new();
    let used = codec
        .encode(&f32s(shape), &bytes(tensor), &mut wire)
        .unwrap();
    assert_eq!(used, codec);
    wire
}

/// The symbols that a tensor has at so many bits, read from the plain codec: after codec and step, before
/// the checksum.
fn symbols(bits: u32, shape: &[i64], tensor: &[f32]) -> Vec<u8> {
    let wire = encode(&format!("u{bits}"), shape, tensor);
    let packed = &wire[4..wire.len() - 4];
    let bit = |at: usize| packed[at / 8] >> (at % 8) & 1;
    let symbol = |at: usize| {
        (0..bits as usize)
            .map(|k| bit(at * bits as usize + k) << k)
            .sum()
    };
    (0..tensor.len()).map(symbol).collect()
}

/// Bytes of codec, step, two lengths, the tables and the checksum; and of the rest.
fn parts(wire: &[u8]) -> (usize, usize) {
    let varint = |at: usize| {
        let len = wire[at..].iter().take_while(|&&byte| 0x80 <= byte).count() + 1;
        let digits = wire[at..at + len].iter().rev();
        (
            len,
            digits.fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f)),
        )
    };
    let (head_len, head) = varint(4);
    let (words_len, words) = varint(4 + head_len);
    let around = 4 + head_len + words_len + head + 4;
    assert_eq!(around + 2 * words, wire.len());
    (around, 2 * words)
}

fn cases() -> Vec<(&'static str, Vec<f32>)> {
    const COUNT: usize = 64 * 28 * 28;
    vec![
        ("30 % zeros", sparse(COUNT, 0.3, 1)),
        ("60 % zeros", sparse(COUNT, 0.6, 2)),
        ("85 % zeros", sparse(COUNT, 0.85, 3)),
        ("97 % zeros", sparse(COUNT, 0.97, 4)),
        ("normal", normal(COUNT, 5)),
        (
            "even",
            (0..COUNT).map(|k| (k * 7919 % 10_007) as f32).collect(),
        ),
    ]
}

/// Bytes that a percent of a short message does not hold: the states at its beginning, and what a shorter
/// table costs.
const SHORT: f64 = 32.0;
const SHAPE: [i64; 4] = [1, 64, 28, 28];

#[test]
fn rans_is_within_a_percent_of_the_entropy() {
    for (name, tensor) in cases() {
        for bits in [8, 6, 4] {
            let entropy = entropy(symbols(bits, &SHAPE, &tensor).into_iter().map(u32::from));
            if entropy > 0.99 * tensor.len() as f64 * f64::from(bits) / 8.0 {
                // Nothing to gain: the plain codec is used.
                continue;
            }
            let (around, words) = parts(&encode(&format!("u{bits}-rans"), &SHAPE, &tensor));
            assert!(
                around < 20 + 256,
                "{name} at {bits} bits: tables of {around} bytes"
            );
            // No code is shorter.
            assert!(entropy <= words as f64, "{name} at {bits} bits");
            let most = 1.01 * entropy + SHORT;
            assert!(
                words as f64 <= most,
                "{name} at {bits} bits: {words} for {entropy}"
            );
        }
    }
}

#[test]
fn zero_runs_are_within_a_percent_of_the_entropy_of_runs_and_values() {
    for (name, tensor) in &cases()[..4] {
        for bits in [8, 6, 4] {
            let (mut runs, mut kept, mut run) = (Vec::new(), Vec::new(), 0u32);
            for symbol in symbols(bits, &SHAPE, tensor) {
                run += 1;
                if symbol != 0 {
                    runs.push(run);
                    kept.push(u32::from(symbol));
                    run = 0;
                }
            }
            let entropy = entropy(runs) + entropy(kept);
            let (around, words) = parts(&encode(&format!("u{bits}-zrans"), &SHAPE, tensor));
            assert!(around < 20 + 2 * 256);
            let most = 1.01 * entropy + SHORT;
            assert!(
                words as f64 <= most,
                "{name} at {bits} bits: {words} for {entropy}"
            );
        }
    }
}

#[test]
fn rows_of_zeros_cost_next_to_nothing() {
    let mut tensor = vec![0.0; 64 * 28 * 28];
    tensor[4000..6000].copy_from_slice(&sparse(2000, 0.0, 6));
    let (rans, runs) = (
        encode("u8-rans", &SHAPE, &tensor),
        encode("u8-zrans", &SHAPE, &tensor),
    );
    let entropy = entropy(
        symbols(8, &SHAPE, &tensor)[4000..6000]
            .iter()
            .map(|&s| u32::from(s)),
    );
    assert!(
        (runs.len() as f64) < 1.15 * entropy,
        "{} of {entropy}",
        runs.len()
    );
    assert!(runs.len() < rans.len());
}

#[test]
fn an_estimate_is_close() {
    let small = ("small", sparse(64 * 7 * 7, 0.6, 7));
    let mut cases: Vec<_> = cases()
        .into_iter()
        .map(|(name, tensor)| (name, tensor, SHAPE))
        .collect();
    cases.push((small.0, small.1, [1, 64, 7, 7]));
    cases.push(("logits", normal(10, 8), [1, 10, 1, 1]));
    cases.push(("not finite", vec![f32::NAN; 10], [1, 10, 1, 1]));
    for (name, tensor, shape) in cases {
        for codec in Codec::all() {
            let spec = f32s(&shape);
            let mut wire = Vec::new();
            codec.encode(&spec, &bytes(&tensor), &mut wire).unwrap();
            let (found, real) = (
                estimate(codec, &spec, &bytes(&tensor)).unwrap() as f64,
                wire.len() as f64,
            );
            let off = (found - real).abs();
            assert!(
                off <= 8.0 + 0.002 * real,
                "{name}, {codec}: {found} for {real}"
            );
            if codec.entropy == Entropy::None && codec.form != Form::F16 {
                assert_eq!(found, real, "{name}, {codec}");
            }
        }
    }
}

#[test]
fn a_picture_is_shorter_by_context() {
    // Waves with noise on them, cut off below zero as a ReLU does; and flat areas of several heights.
    let noise = normal(64 * 28 * 28, 9);
    let waves = noise.iter().enumerate().map(|(at, noise)| {
        let (x, y) = (at % 28, at / 28 % 28);
        ((x as f32 * 0.3).sin() + (y as f32 * 0.2).cos() + 0.2 * noise).max(0.0)
    });
    let waves: Vec<f32> = waves.collect();
    let flat: Vec<f32> = (0..64 * 28 * 28)
        .map(|at| {
            if at % 97 == 0 {
                9.0
            } else {
                (at / 784 % 7) as f32
            }
        })
        .collect();
    for (tensor, share) in [(waves, 0.9), (flat, 0.35)] {
        for bits in [8, 6, 4] {
            let length =
                |entropy| encode(&format!("u{bits}-{entropy}"), &SHAPE, &tensor).len() as f64;
            let best = length("rans").min(length("zrans"));
            assert!(
                length("crans") < share * best,
                "{} of {best}",
                length("crans")
            );
        }
    }
}
