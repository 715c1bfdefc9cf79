//! A hash over everything that happened: two runs are the same when theirs are.

/// Chained mixing of 64-bit words; order counts. 8 bytes, some 2 ns a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceHash(u64);

impl Default for TraceHash {
    fn default() -> Self {
        Self(0x243f_6a88_85a3_08d3)
    }
}

impl TraceHash {
    /// Takes in one word.
    #[inline]
    pub const fn add(&mut self, word: u64) {
        let wide =
            (self.0 ^ 0x9E37_79B9_7F4A_7C15) as u128 * (word ^ 0xD2B7_4407_B1CE_6E93) as u128;
        self.0 = self.0.rotate_left(23) ^ (wide >> 64) as u64 ^ wide as u64;
    }

    /// Takes in text, of a name for example.
    pub fn add_text(&mut self, text: &str) {
        for byte in text.bytes() {
            self.add(u64::from(byte));
        }
        self.add(text.len() as u64);
    }

    /// The hash so far.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_every_word_count() {
        let hash = |words: &[u64]| {
            let mut hash = TraceHash::default();
            words.iter().for_each(|&word| hash.add(word));
            hash.get()
        };
        assert_eq!(hash(&[1, 2]), hash(&[1, 2]));
        assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
        assert_ne!(hash(&[1, 2]), hash(&[1, 2, 0]));
        assert_ne!(hash(&[0]), hash(&[1]));
    }
}
