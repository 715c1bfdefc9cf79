//! How often each symbol comes: counting, rounding to a table of 16 384 slots, writing it compactly.
//!
//! A table is written in one of two ways, whichever makes table and message shorter together: its
//! frequencies as they are, or a class for each symbol from which both ends make the frequencies. Classes
//! are half an octave wide, so they cost less than 0.01 bit a symbol, and are a third as long as the
//! frequencies, which decides in short messages.

use crate::bits::{BitReader, BitWriter};

/// A table's frequencies sum to 2 to the power of this: fine enough for rare symbols, each of which takes
/// a slot at least, and small enough for the decoder's table to stay in the first-level cache.
pub(crate) const SCALE: u32 = 14;
/// Slots of a table.
pub(crate) const SLOTS: usize = 1 << SCALE;
/// Messages of fewer symbols get classes without asking: the best frequencies save a bit for each hundred.
const SHORT: u64 = 2048;
/// The most frequent symbol's class.
const TOP_CLASS: u8 = 27;

/// What a class weighs: 2, 3, 4, 6, 8, 12, ... 16 384; class 0 is a symbol that is not used.
const fn weight(class: u8) -> u32 {
    match class {
        0 => 0,
        _ => (2 + (class as u32 - 1) % 2) << ((class - 1) / 2),
    }
}

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
    #[cfg(test)]
    pub(crate) fn entropy_bits(&self) -> f64 {
        let total = self.total() as f64;
        let used = self.0.iter().filter(|&&count| count != 0);
        used.map(|&count| f64::from(count) * (total / f64::from(count)).log2())
            .sum()
    }

    /// The table with which these symbols are shortest, the bits that it has itself, and the symbols' under
    /// it.
    ///
    /// At least two symbols are used.
    pub(crate) fn table(&self) -> (Table, usize, f64) {
        let measured = |table: Table| {
            let mut written = BitWriter::default();
            table.write(&mut written);
            let cost = table.cost_bits(self);
            (table, written.len(), cost)
        };
        let coarse = measured(Table::from_classes(self.classes()));
        if self.total() < SHORT {
            return coarse;
        }
        let exact = measured(Table {
            frequencies: self.normalized(),
            classes: None,
        });
        let bits = |(_, own, cost): &(Table, usize, f64)| *own as f64 + cost;
        if bits(&coarse) <= bits(&exact) {
            coarse
        } else {
            exact
        }
    }

    /// Half octaves from the most frequent symbol down.
    fn classes(&self) -> [u8; 256] {
        let most = self.0.iter().max().map_or(1.0, |&most| f64::from(most));
        self.0.map(|count| {
            let below = 2.0 * (most / f64::from(count)).log2().min(100.0);
            let class = TOP_CLASS.saturating_sub(below.round() as u8).max(1);
            if count == 0 { 0 } else { class }
        })
    }

    /// Frequencies that sum to [`SLOTS`], none of a used symbol zero.
    ///
    /// At least two symbols are used.
    fn normalized(&self) -> [u16; 256] {
        let total = self.total();
        let mut frequencies = [0u16; 256];
        // What would get less than one slot gets one; the others share what is left in proportion.
        let is_rare = |count: u32| u64::from(count) << SCALE < total;
        let rare = self.0.iter().filter(|&&c| c != 0 && is_rare(c)).count() as u64;
        let common: u64 = self
            .0
            .iter()
            .filter(|&&c| !is_rare(c))
            .map(|&c| u64::from(c))
            .sum();
        let slots = (1 << SCALE) - rare;
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
        frequencies
    }
}

/// Frequencies of 256 symbols: they sum to [`SLOTS`], and at least two are not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    frequencies: [u16; 256],
    /// What they were made from, if they are written so.
    classes: Option<[u8; 256]>,
}

/// How a list of numbers is written: each as its difference from the last one that was not zero, and after
/// a zero how many more follow. Differences are Exp-Golomb codes whose order follows their recent size.
struct Deltas {
    last: i32,
    /// Sixteenfold mean of differences.
    mean: u32,
}

impl Deltas {
    const fn new(order: u32) -> Self {
        Self {
            last: 0,
            mean: 16 << order,
        }
    }

    fn order(&self) -> u32 {
        (self.mean >> 4).checked_ilog2().unwrap_or(0)
    }

    const fn learn(&mut self, folded: u32, value: i32) {
        self.mean = self.mean - (self.mean >> 2) + (folded << 2);
        if value != 0 {
            self.last = value;
        }
    }

    fn put(&mut self, value: i32, to: &mut BitWriter) {
        let folded = fold(value - self.last);
        to.put_golomb(folded, self.order());
        self.learn(folded, value);
    }

    /// A number from 0 to `most`.
    fn take(&mut self, most: u32, from: &mut BitReader<'_>) -> Option<u32> {
        let folded = from.take_golomb(self.order())?;
        if 2 * (SLOTS as u32) < folded {
            return None;
        }
        let value = self.last + unfold(folded);
        self.learn(folded, value);
        u32::try_from(value).ok().filter(|&value| value <= most)
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

    /// The table that classes say; they are 27 at most, and at least two are not zero.
    fn from_classes(classes: [u8; 256]) -> Self {
        Self {
            frequencies: Histogram(classes.map(weight)).normalized(),
            classes: Some(classes),
        }
    }

    /// Writes which way it is written, then classes to the last symbol, or frequencies until all slots are
    /// given.
    pub(crate) fn write(&self, to: &mut BitWriter) {
        to.put(u32::from(self.classes.is_some()), 1);
        let numbers = self.classes.map_or(self.frequencies, |c| c.map(u16::from));
        let mut deltas = Deltas::new(if self.classes.is_some() { 1 } else { 6 });
        let (mut left, mut at) = (SLOTS, 0);
        while at < 256 && 0 < left {
            let number = numbers[at];
            deltas.put(i32::from(number), to);
            at += 1;
            if number == 0 {
                let more = numbers[at..].iter().take_while(|&&n| n == 0).count();
                to.put_golomb(more as u32, 0);
                at += more;
            } else if self.classes.is_none() {
                left -= usize::from(number);
            }
        }
    }

    /// Reads what [`write`](Self::write) wrote; `None` for anything that is no table.
    pub(crate) fn read(from: &mut BitReader<'_>) -> Option<Self> {
        let is_classes = from.take(1)? == 1;
        let mut deltas = Deltas::new(if is_classes { 1 } else { 6 });
        let mut numbers = [0u16; 256];
        let (mut left, mut at) = (SLOTS as u32, 0usize);
        while (at < 256 || !is_classes) && 0 < left {
            let slot = numbers.get_mut(at)?;
            let most = if is_classes { TOP_CLASS.into() } else { left };
            let number = deltas.take(most, from)?;
            at += 1;
            if number == 0 {
                at = at.checked_add(usize::try_from(from.take_golomb(0)?).ok()?)?;
            } else if !is_classes {
                left -= number;
            }
            *slot = u16::try_from(number).ok()?;
        }
        // One symbol with every slot is no table: it is a constant.
        if at > 256 || numbers.iter().filter(|&&number| number != 0).count() < 2 {
            return None;
        }
        Some(if is_classes {
            Self::from_classes(numbers.map(|class| class as u8))
        } else {
            Self {
                frequencies: numbers,
                classes: None,
            }
        })
    }

    /// Bits of symbols with these counts under this table, at best.
    fn cost_bits(&self, counts: &Histogram) -> f64 {
        let slots = SLOTS as f64;
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
            let exact = Table { frequencies: counts.normalized(), classes: None };
            for table in [exact, Table::from_classes(counts.classes())] {
                let sum: usize = table.frequencies.iter().map(|&f| usize::from(f)).sum();
                prop_assert_eq!(sum, SLOTS);
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
                let sum: usize = table.frequencies.iter().map(|&f| usize::from(f)).sum();
                prop_assert_eq!(sum, SLOTS);
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
        let (_, bits, cost) = counts.table();
        assert!(counts.entropy_bits() <= cost);
        assert!(cost <= counts.entropy_bits() * 1.002, "{cost}");
        assert!(bits < 256 * 7, "{bits}");
    }

    #[test]
    fn a_short_message_gets_classes_and_loses_little_by_them() {
        let mut counts = Histogram([0; 256]);
        for (at, slot) in counts.0.iter_mut().take(120).enumerate() {
            *slot = (80.0 * (-0.04 * at as f64).exp()) as u32 + at as u32 % 3;
        }
        let (table, bits, cost) = counts.table();
        assert!(table.classes.is_some());
        assert!(bits < 120 * 7 / 2, "{bits}");
        let lost = cost - counts.entropy_bits();
        assert!(0.0 < lost && lost < 0.01 * counts.total() as f64, "{lost}");
    }

    #[test]
    fn weights_are_half_octaves() {
        let weights: Vec<u32> = (0..8).map(weight).collect();
        assert_eq!(weights, [0, 2, 3, 4, 6, 8, 12, 16]);
        assert_eq!(weight(TOP_CLASS), 16_384);
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
