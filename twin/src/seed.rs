//! One seed, and a named stream of randomness for each purpose.
//!
//! Every draw is a function of (seed, name of the stream, entity, count): a candidate that lets one
//! request fewer in draws the same service times for all the others. That is what makes common random
//! numbers common, and what a sequential generator shared by all cannot give.

use std::convert::Infallible;

use rand::{Rng as _, SeedableRng as _, TryRng};
use rand_chacha::ChaCha8Rng;

/// The seed of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The stream called `name` of the entity numbered `id`. The same arguments give the same stream;
    /// streams of different names or entities share no draws.
    #[must_use]
    pub fn stream(self, name: &str, id: u64) -> Stream {
        Stream {
            key: mix(self.0 ^ hash(name)),
            entity: id,
            count: 0,
            spare: None,
        }
    }

    /// The seed of a part, or of a replication.
    #[must_use]
    pub fn child(self, name: &str, id: u64) -> Self {
        let [first, _] = philox([id, 0], mix(self.0 ^ hash(name)));
        Self(first)
    }

    /// A generator of the kind that the brain takes.
    #[must_use]
    pub fn chacha(self, name: &str) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.child(name, 0).0)
    }
}

/// A stream of random numbers: Philox2x64 (Salmon, Moraes, Dror, Shaw, SC'11) with 7 rounds, which is
/// one above what passes TestU01's BigCrush. 40 bytes, no warm-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    key: u64,
    entity: u64,
    count: u64,
    spare: Option<u64>,
}

impl Stream {
    /// The stream of the same name for another entity. O(1).
    #[must_use]
    pub const fn of(&self, id: u64) -> Self {
        Self {
            key: self.key,
            entity: id,
            count: 0,
            spare: None,
        }
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
        let bits = (self.next_u64() >> 11) as f64;
        bits / (1u64 << 53) as f64
    }

    /// A number below `bound`, uniformly up to a bias of `bound / 2^64`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next_u64()) * bound as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }
}

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|word| (word >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        if let Some(word) = self.spare.take() {
            return Ok(word);
        }
        let [first, second] = philox([self.count, self.entity], self.key);
        self.count = self.count.wrapping_add(1);
        self.spare = Some(second);
        Ok(first)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let word = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

const ROUNDS: usize = 7;

fn philox([mut left, mut right]: [u64; 2], mut key: u64) -> [u64; 2] {
    for _ in 0..ROUNDS {
        let product = u128::from(left) * 0xD2B7_4407_B1CE_6E93;
        let (high, low) = ((product >> 64) as u64, product as u64);
        (left, right) = (high ^ key ^ right, low);
        key = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    }
    [left, right]
}

/// FNV-1a, 64 bits.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finaliser of SplitMix64: seeds that differ in one bit give keys that differ in half of them.
const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the known-answer file of Random123.
    #[test]
    fn philox_gives_the_published_answers() {
        let pi = philox(
            [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344],
            0xa409_3822_299f_31d0,
        );
        assert_eq!(pi, [0x98ed_1534_392b_f372, 0x6752_8b15_6888_2fd5]);
        let ones = philox([u64::MAX; 2], u64::MAX);
        assert_eq!(ones, [0xa469_6cc0_4462_015d, 0x7247_82da_e171_69e9]);
    }

    #[test]
    fn streams_are_named_and_repeat() {
        let draw = |seed: u64, name: &str, id: u64| {
            let mut stream = Seed(seed).stream(name, id);
            [stream.next_u64(), stream.next_u64(), stream.next_u64()]
        };
        assert_eq!(draw(1, "a", 0), draw(1, "a", 0));
        assert_ne!(draw(1, "a", 0), draw(1, "a", 1));
        assert_ne!(draw(1, "a", 0), draw(1, "b", 0));
        assert_ne!(draw(1, "a", 0), draw(2, "a", 0));
        let stream = Seed(1).stream("a", 0);
        assert_eq!(stream.of(5), Seed(1).stream("a", 5));
    }

    #[test]
    fn units_are_uniform_within_five_standard_errors() {
        let count = 200_000;
        let mut cells = [0u32; 20];
        let base = Seed(3).stream("u", 0);
        for id in 0..count / 4 {
            let mut stream = base.of(id);
            for _ in 0..4 {
                cells[(stream.unit() * 20.0) as usize] += 1;
            }
        }
        let expected = count as f64 / 20.0;
        let square = |&n: &u32| (f64::from(n) - expected).powi(2) / expected;
        let chi: f64 = cells.iter().map(square).sum();
        assert!(chi < 19.0 + 5.0 * 38f64.sqrt(), "{chi}");
        let mut stream = Seed(3).stream("b", 0);
        assert!((0..1000).all(|_| stream.below(7) < 7));
        assert_eq!(stream.below(0), 0);
    }
}
