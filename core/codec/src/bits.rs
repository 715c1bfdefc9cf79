//! Numbers of a few bits in bytes, lowest bit first.

/// Collects bits.
#[derive(Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    held: u64,
    count: u32,
}

impl BitWriter {
    /// Appends the lowest `count` bits of a value below `2^count`; at most 32.
    pub(crate) fn put(&mut self, value: u32, count: u32) {
        self.held |= u64::from(value) << self.count;
        self.count += count;
        while 8 <= self.count {
            self.bytes.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// Appends any number, small ones in few bits: an Exp-Golomb code of order `k`. A number of
    /// `n` bits, `2^k` added, costs `2n - k - 1` bits.
    pub(crate) fn put_golomb(&mut self, value: u32, k: u32) {
        let shifted = u64::from(value) + (1 << k);
        let more = 63 - shifted.leading_zeros() - k;
        self.put(0, more);
        self.put(1, 1);
        let rest = shifted - (1 << (k + more));
        self.put((rest & 0xffff) as u32, (k + more).min(16));
        self.put((rest >> 16) as u32, (k + more).saturating_sub(16));
    }

    /// Bits so far.
    pub(crate) fn len(&self) -> usize {
        8 * self.bytes.len() + self.count as usize
    }

    /// Whole bytes, the last filled up with zeros.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if 0 < self.count {
            self.bytes.push(self.held as u8);
        }
        self.bytes
    }
}

/// Gives bits back in order; `None` past the end.
#[derive(Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    held: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            held: 0,
            count: 0,
        }
    }

    /// The next `count` bits, at most 32.
    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        while self.count < count {
            let (&first, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            self.held |= u64::from(first) << self.count;
            self.count += 8;
        }
        let value = self.held & ((1 << count) - 1);
        self.held >>= count;
        self.count -= count;
        Some(value as u32)
    }

    /// A number as [`BitWriter::put_golomb`] wrote it.
    pub(crate) fn take_golomb(&mut self, k: u32) -> Option<u32> {
        let mut more = 0;
        while self.take(1)? == 0 {
            more += 1;
            if 32 < k + more {
                return None;
            }
        }
        let low = self.take((k + more).min(16))?;
        let high = self.take((k + more).saturating_sub(16))?;
        let rest = u64::from(high) << 16 | u64::from(low);
        u32::try_from((1u64 << (k + more)) + rest - (1 << k)).ok()
    }

    /// Whether nothing is left but the zeros that filled up the last byte.
    pub(crate) const fn is_finished(&self) -> bool {
        self.bytes.is_empty() && self.count < 8 && self.held == 0
    }
}

/// Bytes of `count` symbols of `bits` bits.
pub(crate) const fn packed_bytes(count: usize, bits: u32) -> usize {
    // Four symbols are three bytes at six bits; no product can pass the largest tensor's bytes.
    (count / 8) * bits as usize + ((count % 8) * bits as usize).div_ceil(8)
}

/// Appends symbols of 8, 6 or 4 bits.
pub(crate) fn pack(symbols: &[u8], bits: u32, out: &mut Vec<u8>) {
    match bits {
        4 => {
            let (pairs, rest) = symbols.as_chunks::<2>();
            out.extend(pairs.iter().map(|[a, b]| a | b << 4));
            out.extend_from_slice(rest);
        }
        6 => {
            let (fours, rest) = symbols.as_chunks::<4>();
            let three = |[a, b, c, d]: &[u8; 4]| [a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2];
            out.extend(fours.iter().flat_map(three));
            let mut last = [0; 4];
            last[..rest.len()].copy_from_slice(rest);
            out.extend_from_slice(&three(&last)[..packed_bytes(rest.len(), 6)]);
        }
        _ => out.extend_from_slice(symbols),
    }
}

/// Fills `symbols` from [`packed_bytes`] bytes.
pub(crate) fn unpack(bytes: &[u8], bits: u32, symbols: &mut [u8]) {
    match bits {
        4 => {
            let (pairs, rest) = symbols.as_chunks_mut::<2>();
            for (pair, byte) in pairs.iter_mut().zip(bytes) {
                *pair = [byte & 15, byte >> 4];
            }
            for (symbol, byte) in rest.iter_mut().zip(bytes.last()) {
                *symbol = byte & 15;
            }
        }
        6 => {
            let four = |[a, b, c]: [u8; 3]| {
                [
                    a & 63,
                    (a >> 6 | b << 2) & 63,
                    (b >> 4 | c << 4) & 63,
                    c >> 2,
                ]
            };
            let (fours, rest) = symbols.as_chunks_mut::<4>();
            let (threes, left) = bytes.as_chunks::<3>();
            for (symbols, bytes) in fours.iter_mut().zip(threes) {
                *symbols = four(*bytes);
            }
            let mut last = [0; 3];
            let count = left.len().min(3);
            last[..count].copy_from_slice(&left[..count]);
            // Three symbols fill three bytes, and then they are in `threes`.
            if rest.len() == 3
                && let Some(bytes) = threes.last()
            {
                last = *bytes;
            }
            rest.copy_from_slice(&four(last)[..rest.len()]);
        }
        _ => symbols.copy_from_slice(bytes),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(values in proptest::collection::vec((any::<u32>(), 0u32..33, 0u32..13), 0..50)) {
            let mut writer = BitWriter::default();
            let cut = |value: u32, bits: u32| (u64::from(value) & ((1 << bits) - 1)) as u32;
            for &(value, bits, k) in &values {
                writer.put(cut(value, bits), bits);
                writer.put_golomb(cut(value, bits), k);
            }
            let bits = writer.len();
            let bytes = writer.finish();
            prop_assert_eq!(bytes.len(), bits.div_ceil(8));
            let mut reader = BitReader::new(&bytes);
            for &(value, bits, k) in &values {
                prop_assert_eq!(reader.take(bits), Some(cut(value, bits)));
                prop_assert_eq!(reader.take_golomb(k), Some(cut(value, bits)));
            }
            prop_assert!(reader.is_finished());
            prop_assert_eq!(reader.take(8), None);
        }

        #[test]
        fn symbols_come_back(symbols in proptest::collection::vec(any::<u8>(), 0..40)) {
            for bits in [4, 6, 8] {
                let symbols: Vec<u8> = symbols.iter().map(|s| s >> (8 - bits)).collect();
                let mut bytes = Vec::new();
                pack(&symbols, bits, &mut bytes);
                prop_assert_eq!(bytes.len(), packed_bytes(symbols.len(), bits));
                prop_assert_eq!(bytes.len(), (symbols.len() * bits as usize).div_ceil(8));
                let mut found = vec![0; symbols.len()];
                unpack(&bytes, bits, &mut found);
                prop_assert_eq!(found, symbols);
            }
        }
    }
}
