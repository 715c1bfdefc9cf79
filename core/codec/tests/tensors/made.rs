//! Tensors made up for tests.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Exp1, StandardNormal};
use splitplace_codec::{Element, Spec};

pub(crate) const fn f32s(shape: &[i64]) -> Spec<'_> {
    Spec {
        element: Element::F32,
        shape,
    }
}

pub(crate) fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

pub(crate) fn values(bytes: &[u8]) -> Vec<f32> {
    let fours = bytes.as_chunks::<4>().0.iter();
    fours.map(|four| f32::from_le_bytes(*four)).collect()
}

/// What a ReLU leaves: so many zeros, the others exponential.
pub(crate) fn sparse(count: usize, zeros: f64, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let value = |_| match rng.random_bool(zeros) {
        true => 0.0,
        false => Exp1.sample(&mut rng),
    };
    (0..count).map(value).collect()
}

/// What a linear bottleneck leaves.
pub(crate) fn normal(count: usize, seed: u64) -> Vec<f32> {
    let rng = ChaCha8Rng::seed_from_u64(seed);
    StandardNormal.sample_iter(rng).take(count).collect()
}
