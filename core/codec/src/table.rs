//! How often each symbol comes: counting, rounding to a table of slots, writing it compactly.

use crate::bits::{BitReader, BitWriter};

/// A table's frequencies sum to 2 to the power of one of these. The fine scale is for long messages with
/// rare symbols, each of which takes a slot at least; at the coarse one a table is shorter, which is what
/// counts in short messages. The decoder's table of 16 KiB at most stays in the first-level cache.
pub(crate) const SCALES: [u32; 2] = [11, 14];
/// The most slots of a table.
pub(crate) const SLOTS: usize = 1 << 14;

/// How many symbols of each kind there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Histogram(pub(crate) [u32; 256]);

impl Histogram {
    /// Counts symbols, of which there are fewer than 2^32.
    pub(crate) fn of(symbols: &[u8]) -> Self {
        // Equal neighbours would wait for each other's store; four tables let them pass.
        let mut tables = [[0u32; 256]; 4];
        let (fours, rest) = symbols.as_chunks::<4>();
        for four in fours {
            for (table, &symbol) in tables.iter_mut().zip(four) {
                table[usize::from(symbol)] += 1;
            }
        }
        for &symbol in rest {
            tables[0][usize::from(symbol)] += 1;
        }
        let [mut sum, b, c, d] = tables;
        for (at, count) in sum.iter_mut().enumerate() {
            *count += b[at] + c[at] + d[at];
        }
        Self(sum)
    }

    /// Adds another's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
    }

    /// Number of symbols counted.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|&count| u64::from(count)).sum()
    }

    /// The only symbol there is, if there is only one; zero for none at all.
    pub(crate) fn only(&self) -> Option<u8> {
        let mut used = (0..=255u8).filter(|&symbol| self.0[usize::from(symbol)] != 0);
        let first = used.next().unwrap_or(0);
        used.next().is_none().then_some(first)
    }

    /// Empirical entropy of all symbols together, bits.
    pub(crate) fn entropy_bits(&self) -> f64 {
        let total = self.total() as f64;
        let used = self.0.iter().filter(|&&count| count != 0);
        used.map(|&count| f64::from(count) * (total / f64::from(count)).log2())
            .sum()
    }

    /// The table with which these symbols are shortest, and its bits.
    ///
    /// At least two symbols are used.
    pub(crate) fn table(&self) -> (Table, usize) {
        let [coarse, fine] = SCALES.map(|scale| {
            let table = self.normalized(scale);
            let mut written = BitWriter::default();
            table.write(&mut written);
            (table, written.len())
        });
        let bits = |(table, bits): &(Table, usize)| table.cost_bits(self) + *bits as f64;
        if bits(&coarse) <= bits(&fine) {
            coarse
        } else {
            fine
        }
    }

    /// Frequencies that sum to `1 << scale`, none of a used symbol zero.
    ///
    /// At least two symbols are used.
    fn normalized(&self, scale: u32) -> Table {
        let total = self.total();
        let mut frequencies = [0u16; 256];
        // What would get less than one slot gets one; the others share what is left in proportion.
        let is_rare = |count: u32| u64::from(count) << scale < total;
        let rare = self.0.iter().filter(|&&c| c != 0 && is_rare(c)).count() as u64;
        let common: u64 = self
            .0
            .iter()
            .filter(|&&c| !is_rare(c))
            .map(|&c| u64::from(c))
            .sum();
        let slots = (1 << scale) - rare;
        let mut before = 0u64;
        let mut given = 0u64;
        for (frequency, &count) in frequencies.iter_mut().zip(&self.0) {
            if count == 0 {
                continue;
            }
            if is_rare(count) {
                *frequency = 1;
                continue;
            }
            before += u64::from(count);
            // Rounding the running sum makes the parts sum up by themselves.
            let until = (before * slots + common / 2) / common;
            *frequency = (until - given) as u16;
            given = until;
        }
        let mut short = 0;
        for (frequency, &count) in frequencies.iter_mut().zip(&self.0) {
            if count != 0 && *frequency == 0 {
                *frequency = 1;
                short += 1;
            }
        }
        while 0 < short {
            let Some(largest) = frequencies.iter_mut().max() else {
                break;
            };
            let take = short.min(*largest / 2);
            *largest -= take;
            short -= take;
        }
        Table { scale, frequencies }
    }
}

/// Frequencies of 256 symbols: they sum to `1 << scale`, and at least two are not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    scale: u32,
    frequencies: [u16; 256],
}

/// How a table's numbers are written: Exp-Golomb codes whose order follows the recent numbers' size.
struct Adaptive {
    /// Sixteenfold mean.
    mean: u32,
}

impl Adaptive {
    const fn new() -> Self {
        Self { mean: 16 << 4 }
    }

    fn order(&self) -> u32 {
        (self.mean >> 4).checked_ilog2().unwrap_or(0)
    }

    const fn learn(&mut self, value: u32) {
        self.mean = self.mean - (self.mean >> 2) + (value << 2);
    }
}

const fn fold(difference: i32) -> u32 {
    (difference << 1 ^ difference >> 31) as u32
}

const fn unfold(folded: u32) -> i32 {
    (folded >> 1) as i32 ^ -((folded & 1) as i32)
}

impl Table {
    /// Frequencies in the order of symbols.
    pub(crate) const fn frequencies(&self) -> &[u16; 256] {
        &self.frequencies
    }

    /// One of [`SCALES`].
    pub(crate) const fn scale(&self) -> u32 {
        self.scale
    }

    /// Writes the scale, then each frequency as its difference from the last one that was not zero, and after a zero how
    /// many more follow; stops when all slots are given.
    pub(crate) fn write(&self, to: &mut BitWriter) {
        to.put(u32::from(self.scale != SCALES[0]), 1);
        let mut adaptive = Adaptive::new();
        let (mut left, mut last, mut at) = (1u32 << self.scale, 0i32, 0);
        while 0 < left && at < 256 {
            let frequency = i32::from(self.frequencies[at]);
            let folded = fold(frequency - last);
            to.put_golomb(folded, adaptive.order());
            adaptive.learn(folded);
            at += 1;
            if frequency == 0 {
                let more = self.frequencies[at..]
                    .iter()
                    .take_while(|&&f| f == 0)
                    .count();
                to.put_golomb(more as u32, 0);
                at += more;
            } else {
                last = frequency;
                left -= frequency as u32;
            }
        }
    }

    /// Reads what [`write`](Self::write) wrote; `None` for anything that is no table.
    pub(crate) fn read(from: &mut BitReader<'_>) -> Option<Self> {
        let scale = SCALES[from.take(1)? as usize];
        let mut adaptive = Adaptive::new();
        let mut frequencies = [0u16; 256];
        let (mut left, mut last, mut at) = (1u32 << scale, 0i32, 0usize);
        while 0 < left {
            let slot = frequencies.get_mut(at)?;
            let folded = from.take_golomb(adaptive.order())?;
            if 2 << scale < folded {
                return None;
            }
            adaptive.learn(folded);
            at += 1;
            let frequency = u32::try_from(last + unfold(folded)).ok()?;
            if frequency == 0 {
                at = at.checked_add(usize::try_from(from.take_golomb(0)?).ok()?)?;
            } else {
                // One symbol with every slot is no table: it is a constant.
                if left < frequency || frequency == 1 << scale {
                    return None;
                }
                *slot = u16::try_from(frequency).ok()?;
                last = frequency as i32;
                left -= frequency;
            }
        }
        Some(Self { scale, frequencies })
    }

    /// Bits of symbols with these counts under this table, at best.
    fn cost_bits(&self, counts: &Histogram) -> f64 {
        let slots = f64::from(1u32 << self.scale);
        let pairs = self.frequencies.iter().zip(&counts.0);
        let pairs = pairs.filter(|(_, count)| **count != 0);
        pairs
            .map(|(&f, &count)| f64::from(count) * (slots / f64::from(f)).log2())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts() -> impl Strategy<Value = Histogram> {
        let count = prop_oneof![4 => Just(0u32), 3 => 1..4u32, 3 => 1..2000u32, 1 => any::<u32>()];
        (proptest::collection::vec(count, 256), 1..=256usize).prop_map(|(mut counts, used)| {
            counts[used..].fill(0);
            Histogram(counts.try_into().unwrap())
        })
    }

    proptest! {
        #[test]
        fn a_table_has_every_used_symbol_and_comes_back(counts in counts()) {
            prop_assume!(counts.only().is_none());
            for table in SCALES.map(|scale| counts.normalized(scale)) {
                let sum: u32 = table.frequencies.iter().map(|&f| u32::from(f)).sum();
                prop_assert_eq!(sum, 1 << table.scale);
                for (f, c) in table.frequencies.iter().zip(&counts.0) {
                    prop_assert_eq!(*f == 0, *c == 0);
                }
                let mut writer = BitWriter::default();
                table.write(&mut writer);
                let bytes = writer.finish();
                let mut reader = BitReader::new(&bytes);
                prop_assert_eq!(Table::read(&mut reader), Some(table));
                prop_assert!(reader.is_finished());
            }
        }

        #[test]
        fn noise_is_a_table_that_sums_up_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(table) = Table::read(&mut BitReader::new(&bytes)) {
                let sum: u32 = table.frequencies.iter().map(|&f| u32::from(f)).sum();
                prop_assert_eq!(sum, 1 << table.scale);
                prop_assert!(table.frequencies.iter().filter(|&&f| f != 0).count() > 1);
            }
        }

        #[test]
        fn symbols_are_counted(symbols in proptest::collection::vec(any::<u8>(), 0..300)) {
            let counts = Histogram::of(&symbols);
            for symbol in 0..=255u8 {
                let slow = symbols.iter().filter(|&&s| s == symbol).count();
                prop_assert_eq!(counts.0[usize::from(symbol)] as usize, slow);
            }
            prop_assert_eq!(counts.total(), symbols.len() as u64);
        }
    }

    #[test]
    fn rounding_to_slots_costs_little() {
        // From a million down to single symbols: the tail is what rounding hurts.
        let mut counts = Histogram([0; 256]);
        let mut count = 1e6f64;
        for slot in &mut counts.0 {
            *slot = count as u32;
            count *= 0.93;
        }
        let (table, bits) = counts.table();
        let cost = table.cost_bits(&counts);
        assert!(counts.entropy_bits() <= cost);
        assert!(cost <= counts.entropy_bits() * 1.002, "{cost}");
        assert!(bits < 256 * 6, "{bits}");
    }

    #[test]
    fn entropy_is_shannons() {
        let mut counts = Histogram([0; 256]);
        counts.0[3] = 8;
        counts.0[4] = 4;
        counts.0[200] = 4;
        assert_eq!(counts.entropy_bits(), 8.0 + 8.0 + 8.0);
    }

    #[test]
    fn differences_fold_and_unfold() {
        for difference in -5000..5000 {
            assert_eq!(unfold(fold(difference)), difference);
        }
        assert_eq!([0, -1, 1, -2].map(fold), [0, 1, 2, 3]);
    }
}
