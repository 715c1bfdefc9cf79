//! Sections of symbols as bytes: each in the way that is shortest, one rANS stream for all.
//!
//! ```text
//! coded = head_bytes:varint words:varint head stream stored
//! head  = for each section: kind:2 bits, constant (0): symbol:8 bits | coded (1): table | stored (2)
//!         | contextual (3): zero:8 bits, flat:1 bit, thresholds:3 bits, each 9 bits, tables
//!         and before it whatever the caller puts there
//! stream = four states, 32 bits each, and words of 16 bits; nothing if no section is coded
//! stored = the symbols of sections of kind 2, in order
//! ```

use std::borrow::Cow;

use crate::{
    Error,
    bits::{BitReader, BitWriter},
    context::{CONTEXTS, Model},
    rans::{Decoder, Encoder, STATE_BYTES, Slots},
    table::{Histogram, Table},
};

const CONSTANT: u32 = 0;
const CODED: u32 = 1;
const STORED: u32 = 2;
const CONTEXTUAL: u32 = 3;

enum Part<'a> {
    Coded(Box<Table>, Cow<'a, [u8]>),
    Contextual(Vec<Table>, Vec<u8>, Vec<u8>),
    Stored(Cow<'a, [u8]>),
}

/// Collects sections.
#[derive(Default)]
pub(crate) struct Writer<'a> {
    head: BitWriter,
    parts: Vec<Part<'a>>,
    coded_bits: f64,
    stored_bytes: usize,
}

impl<'a> Writer<'a> {
    /// Where a caller puts numbers of its own before a section.
    pub(crate) const fn head(&mut self) -> &mut BitWriter {
        &mut self.head
    }

    /// Adds a section of symbols with these counts.
    pub(crate) fn add(&mut self, symbols: Cow<'a, [u8]>, counts: &Histogram) {
        if let Some(only) = counts.only() {
            self.head.put(CONSTANT, 2);
            self.head.put(u32::from(only), 8);
            return;
        }
        let (table, own, cost) = counts.table();
        if 8.0 * symbols.len() as f64 <= own as f64 + cost {
            self.head.put(STORED, 2);
            self.stored_bytes += symbols.len();
            self.parts.push(Part::Stored(symbols));
        } else {
            self.head.put(CODED, 2);
            table.write(&mut self.head);
            self.coded_bits += cost;
            self.parts.push(Part::Coded(table.into(), symbols));
        }
    }

    /// Adds a section of symbols in rows, of so many bits, of which zero is the integer `zero`: with a
    /// table for each context.
    pub(crate) fn add_contextual(&mut self, symbols: &[u8], row: usize, bits: u32, zero: u8) {
        let simple = Model::new(row, bits, zero, &[], false);
        let thresholds = simple.thresholds(symbols);
        let is_flat_apart = simple.is_flat(symbols);
        let model = Model::new(row, bits, zero, &thresholds, is_flat_apart);
        self.head.put(CONTEXTUAL, 2);
        self.head.put(u32::from(zero), 8);
        self.head.put(u32::from(is_flat_apart), 1);
        self.head.put(thresholds.len() as u32, 3);
        for &threshold in &thresholds {
            self.head.put(threshold.min(511), 9);
        }
        let (contexts, codes) = model.all(symbols);
        let mut counts =
            vec![Histogram([0; 256]); thresholds.len() + 1 + usize::from(is_flat_apart)];
        for (&code, &context) in codes.iter().zip(&contexts) {
            counts[usize::from(context)].0[usize::from(code)] += 1;
        }
        let tables = counts.iter_mut().map(|counts| {
            if let Some(only) = counts.only() {
                // A table has two symbols; one that never comes costs next to nothing.
                counts.0[usize::from(only)] = counts.0[usize::from(only)].max(1);
                counts.0[usize::from(only ^ 1)] = 1;
            }
            let (table, _, cost) = counts.table();
            table.write(&mut self.head);
            self.coded_bits += cost;
            table
        });
        let tables = tables.collect();
        self.parts.push(Part::Contextual(tables, contexts, codes));
    }

    /// Bytes that [`finish`](Self::finish) would append, by the tables.
    pub(crate) fn estimate(&self) -> usize {
        let head = self.head.len().div_ceil(8);
        let words = (self.coded_bits / 8.0).ceil() as usize;
        let is_stored = |part: &Part<'_>| matches!(part, Part::Stored(_));
        let is_coded = !self.parts.iter().all(is_stored);
        let states = if is_coded { STATE_BYTES } else { 0 };
        // A state begins with 16 bits that mean nothing, and ends with 24 of 32 on average.
        let words = (words + states * 3 / 4).max(states);
        varint_len(head) + varint_len(words / 2) + head + words + self.stored_bytes
    }

    /// Codes everything and appends it.
    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        let head = self.head.finish();
        put_varint(out, head.len());
        let mut encoder = Encoder::new();
        let mut is_coded = false;
        for part in self.parts.iter().rev() {
            match part {
                Part::Coded(table, symbols) => encoder.section(table, symbols),
                Part::Contextual(tables, contexts, symbols) => {
                    encoder.contextual(tables, contexts, symbols);
                }
                Part::Stored(_) => continue,
            }
            is_coded = true;
        }
        put_varint(out, if is_coded { encoder.words() } else { 0 });
        out.extend(head);
        if is_coded {
            encoder.finish(out);
        }
        for part in self.parts {
            if let Part::Stored(symbols) = part {
                out.extend_from_slice(&symbols);
            }
        }
    }
}

/// Reads sections in the order in which they were added.
pub(crate) struct Reader<'a> {
    head: BitReader<'a>,
    stream: Option<Decoder<'a>>,
    stored: &'a [u8],
    slots: Slots,
}

const CUT_SHORT: Error = Error::Malformed("it ends within a section");

impl<'a> Reader<'a> {
    /// What [`Writer::finish`] wrote.
    pub(crate) fn new(mut bytes: &'a [u8]) -> Result<Self, Error> {
        let head = take_varint(&mut bytes)?;
        let words = take_varint(&mut bytes)?;
        let (head, bytes) = bytes.split_at_checked(head).ok_or(CUT_SHORT)?;
        let stream = words.checked_mul(2).ok_or(CUT_SHORT)?;
        let (stream, stored) = bytes.split_at_checked(stream).ok_or(CUT_SHORT)?;
        let stream = if words == 0 {
            None
        } else {
            Some(Decoder::new(stream).ok_or(Error::Malformed("its states are none"))?)
        };
        Ok(Self {
            head: BitReader::new(head),
            stream,
            stored,
            slots: Slots::new(),
        })
    }

    /// Where a caller reads its own numbers.
    pub(crate) const fn head(&mut self) -> &mut BitReader<'a> {
        &mut self.head
    }

    /// Fills `symbols` with a section of that length.
    pub(crate) fn section(&mut self, symbols: &mut [u8]) -> Result<(), Error> {
        match self.head.take(2) {
            Some(CONSTANT) => {
                let symbol = self.head.take(8).ok_or(CUT_SHORT)?;
                symbols.fill(symbol as u8);
            }
            Some(CODED) => {
                let table = Table::read(&mut self.head);
                let table = table.ok_or(Error::Malformed("a table is none"))?;
                self.slots.fill(&table);
                let stream = self.stream.as_mut().ok_or(CUT_SHORT)?;
                stream.section(&self.slots, symbols).ok_or(CUT_SHORT)?;
            }
            Some(STORED) => {
                let (stored, rest) = self
                    .stored
                    .split_at_checked(symbols.len())
                    .ok_or(CUT_SHORT)?;
                symbols.copy_from_slice(stored);
                self.stored = rest;
            }
            _ => return Err(Error::Malformed("a section is of no known kind")),
        }
        Ok(())
    }

    /// Fills `symbols` with a section that was added with [`Writer::add_contextual`].
    pub(crate) fn contextual(
        &mut self,
        symbols: &mut [u8],
        row: usize,
        bits: u32,
    ) -> Result<(), Error> {
        if self.head.take(2) != Some(CONTEXTUAL) {
            return Err(Error::Malformed("a section is of no known kind"));
        }
        let zero = self.head.take(8).ok_or(CUT_SHORT)? as u8;
        let is_flat_apart = self.head.take(1).ok_or(CUT_SHORT)? == 1;
        let count = self.head.take(3).ok_or(CUT_SHORT)?;
        let thresholds: Option<Vec<u32>> = (0..count).map(|_| self.head.take(9)).collect();
        let model = Model::new(
            row,
            bits,
            zero,
            &thresholds.ok_or(CUT_SHORT)?,
            is_flat_apart,
        );
        let mut tables = Vec::with_capacity(CONTEXTS);
        for _ in 0..=count + u32::from(is_flat_apart) {
            let table = Table::read(&mut self.head);
            let mut slots = Slots::new();
            slots.fill(&table.ok_or(Error::Malformed("a table is none"))?);
            tables.push(slots);
        }
        let stream = self.stream.as_mut().ok_or(CUT_SHORT)?;
        stream.contextual(&tables, &model, symbols).ok_or(CUT_SHORT)
    }

    /// Whether everything was read, and nothing is left over.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        let is_over = self.head.is_finished()
            && self.stored.is_empty()
            && self.stream.as_ref().is_none_or(Decoder::is_finished);
        is_over
            .then_some(())
            .ok_or(Error::Malformed("something is left over"))
    }
}

const fn varint_len(value: usize) -> usize {
    match value.checked_ilog2() {
        None => 1,
        Some(log) => log as usize / 7 + 1,
    }
}

/// Seven bits a byte, lowest first, the high bit set on all but the last.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while 0x80 <= value {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// At most five bytes: nothing here is longer than 4 GiB.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Result<usize, Error> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(CUT_SHORT)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return usize::try_from(value).map_err(|_| CUT_SHORT);
        }
    }
    Err(Error::Malformed("a number is too long"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(sections: &[Vec<u8>]) -> Vec<u8> {
        let mut writer = Writer::default();
        for symbols in sections {
            writer.head().put_golomb(symbols.len() as u32, 8);
            writer.add(symbols.into(), &Histogram::of(symbols));
        }
        let mut bytes = Vec::new();
        writer.finish(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn arbitrary_sections_come_back(
            sections in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 0..2000), any::<u8>()), 0..6),
        ) {
            let sections: Vec<Vec<u8>> = sections
                .into_iter()
                .map(|(symbols, mask)| symbols.iter().map(|s| s & mask).collect())
                .collect();
            let bytes = write(&sections);
            let mut reader = Reader::new(&bytes).unwrap();
            for symbols in &sections {
                let count = reader.head().take_golomb(8).unwrap();
                let mut found = vec![0; count as usize];
                reader.section(&mut found).unwrap();
                prop_assert_eq!(&found, symbols);
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn each_kind_of_section_is_used() {
        let even: Vec<u8> = (0..=255).collect();
        // Head: order-8 length, kind, and a constant's symbol.
        assert_eq!(write(&[vec![9; 200]]).len(), 2 + 3);
        assert_eq!(write(&[even]).len(), 2 + 2 + 256);
        let skewed: Vec<u8> = (0..4096).map(|k| u8::from(k % 64 == 0)).collect();
        assert!(write(&[skewed]).len() < 100);
    }

    #[test]
    fn what_is_left_over_is_found() {
        let symbols: Vec<u8> = (0..1000).map(|k| (k % 7) as u8).collect();
        let mut bytes = write(&[symbols]);
        let is_over = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes)?;
            reader.head().take_golomb(8);
            reader.section(&mut [0; 1000])?;
            reader.finish()
        };
        assert_eq!(is_over(&bytes), Ok(()));
        bytes.push(0);
        assert_eq!(
            is_over(&bytes),
            Err(Error::Malformed("something is left over"))
        );
    }

    #[test]
    fn numbers_have_the_length_that_is_foretold() {
        for value in [0, 1, 127, 128, 16383, 16384, u32::MAX as usize] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(bytes.len(), varint_len(value));
            assert_eq!(take_varint(&mut &bytes[..]), Ok(value));
        }
        assert!(take_varint(&mut &[0x80; 6][..]).is_err());
    }
}
