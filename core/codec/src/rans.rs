//! rANS with four interleaved states: symbols and frequencies to 16-bit words, and back.
//!
//! A state `x` lies in `[2^16, 2^32)`. Coding a symbol with frequency `f` and first slot `s` of `2^14`:
//! `x' = (x / f) · 2^14 + x mod f + s`, after the low 16 bits were put out if `x'` would not fit; decoding
//! runs it backwards (F. Giesen, "Interleaved entropy coders", arXiv 1402.3392). Symbol `i` of a section
//! belongs to state `i mod 4`: four independent chains of multiplications keep a core busy where one
//! would wait. The encoder goes from the last symbol to the first, so the decoder can go forwards.

use crate::context::{Model, quarter};
use crate::table::{SCALE, SLOTS, Table};

/// Interleaved states.
pub(crate) const LANES: usize = 4;
/// A state's lower bound; also where the encoder begins, and where the decoder must end.
const LOW: u32 = 1 << 16;
/// Bytes of the states at the start of a stream.
pub(crate) const STATE_BYTES: usize = 4 * LANES;
/// Symbols per block of the encoder: its words stay in the first-level cache.
const BLOCK: usize = 1 << 11;

/// What coding one symbol needs, without a division.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    /// `floor(2^46 / f) + 1`. Times `x < f · 2^18` it is below 2^64 for `f < 2^14`, and its error
    /// too small to change the whole part of `x / f`.
    reciprocal: u64,
    /// From here on a word is put out first.
    limit: u32,
    /// First slot.
    start: u16,
    /// `2^14 - f`.
    complement: u16,
}

impl Step {
    /// The state after the symbol, from one that is below the limit.
    #[inline(always)]
    fn next(&self, state: u32) -> u32 {
        let quotient = ((u64::from(state) * self.reciprocal) >> (32 + SCALE)) as u32;
        state + u32::from(self.start) + quotient * u32::from(self.complement)
    }
}

/// Writes sections from the last to the first.
#[derive(Debug)]
pub(crate) struct Encoder {
    states: [u32; LANES],
    /// In the order of writing, which is the reverse of the wire's.
    words: Vec<u16>,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            states: [LOW; LANES],
            words: Vec::new(),
        }
    }

    /// Codes a section before those that were coded already. Every symbol has a frequency in the table.
    pub(crate) fn section(&mut self, table: &Table, symbols: &[u8]) {
        let steps = steps(table);
        let mut block = [0u16; BLOCK];
        // The first block that is coded is the last and may be short; lanes go by the place in the section.
        for symbols in symbols.chunks(BLOCK).rev() {
            let mut count = 0;
            let mut put = |state: &mut u32, symbol: u8| {
                let step = &steps[usize::from(symbol)];
                // Written always and kept if needed: whether it is cannot be predicted.
                block[count % BLOCK] = *state as u16;
                let is_full = step.limit <= *state;
                count += usize::from(is_full);
                let x = if is_full { *state >> 16 } else { *state };
                *state = step.next(x);
            };
            let mut states = self.states;
            let (fours, rest) = symbols.as_chunks::<LANES>();
            for (state, &symbol) in states.iter_mut().zip(rest).rev() {
                put(state, symbol);
            }
            for four in fours.iter().rev() {
                for (state, &symbol) in states.iter_mut().zip(four).rev() {
                    put(state, symbol);
                }
            }
            self.states = states;
            self.words.extend_from_slice(&block[..count]);
        }
    }

    /// Codes a section of which each symbol has a table of its own, before those that were coded already:
    /// state `k` takes the `k`th quarter.
    pub(crate) fn contextual(&mut self, tables: &[Table], contexts: &[u8], symbols: &[u8]) {
        let steps: Vec<[Step; 256]> = tables.iter().map(steps).collect();
        let size = quarter(symbols.len());
        for at in (0..size.min(symbols.len())).rev() {
            for (lane, state) in self.states.iter_mut().enumerate().rev() {
                let place = lane * size + at;
                if let (Some(&symbol), Some(&context)) = (symbols.get(place), contexts.get(place)) {
                    let step = &steps[usize::from(context)][usize::from(symbol)];
                    if step.limit <= *state {
                        self.words.push(*state as u16);
                        *state >>= 16;
                    }
                    *state = step.next(*state);
                }
            }
        }
    }

    /// Words that [`finish`](Self::finish) will append, states included.
    pub(crate) const fn words(&self) -> usize {
        2 * LANES + self.words.len()
    }

    /// Appends states and words, little-endian.
    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        out.extend(self.states.iter().flat_map(|state| state.to_le_bytes()));
        out.extend(self.words.iter().rev().flat_map(|word| word.to_le_bytes()));
    }
}

fn steps(table: &Table) -> [Step; 256] {
    let mut steps = [Step::default(); 256];
    let mut start = 0;
    for (step, &frequency) in steps.iter_mut().zip(table.frequencies()) {
        if frequency != 0 {
            *step = Step {
                reciprocal: (1 << (32 + SCALE)) / u64::from(frequency) + 1,
                limit: u32::from(frequency) << (32 - SCALE),
                start,
                complement: SLOTS as u16 - frequency,
            };
            start += frequency;
        }
    }
    steps
}

/// What a slot means: its symbol, and what decoding that symbol needs. Two small tables instead of one
/// large: 16 KiB and 1 KiB.
#[derive(Debug)]
pub(crate) struct Slots {
    symbols: Box<[u8; SLOTS]>,
    /// Frequency in the upper half, first slot in the lower.
    steps: [u32; 256],
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            symbols: Box::new([0; SLOTS]),
            steps: [0; 256],
        }
    }

    /// Becomes this table's slots.
    pub(crate) fn fill(&mut self, table: &Table) {
        let mut start = 0;
        for (symbol, &frequency) in (0u8..=255).zip(table.frequencies()) {
            let until = start + usize::from(frequency);
            self.steps[usize::from(symbol)] = u32::from(frequency) << 16 | start as u32;
            // A table sums to the number of its slots, so the range is always there.
            if let Some(slots) = self.symbols.get_mut(start..until) {
                slots.fill(symbol);
            }
            start = until;
        }
    }

    /// The symbol of a state, and the state before it was coded, but for its low word.
    #[inline(always)]
    fn advance(&self, state: u32) -> (u8, u32) {
        let place = state % SLOTS as u32;
        let symbol = self.symbols[place as usize];
        let step = self.steps[usize::from(symbol)];
        // Nothing wraps: a slot lies among its symbol's, and the result is below the state.
        let within = place.wrapping_sub(step & 0xffff);
        let before = (step >> 16).wrapping_mul(state >> SCALE);
        (symbol, before.wrapping_add(within))
    }
}

/// Reads sections from the first to the last.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    states: [u32; LANES],
    words: &'a [[u8; 2]],
}

impl<'a> Decoder<'a> {
    /// A stream of whole words that begins with states; `None` if it does not.
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (states, words) = bytes.split_at_checked(STATE_BYTES)?;
        let mut begin = [0; LANES];
        for (state, bytes) in begin.iter_mut().zip(states.as_chunks::<4>().0) {
            *state = u32::from_le_bytes(*bytes);
        }
        if begin.iter().any(|&state| state < LOW) {
            return None;
        }
        let (words, rest) = words.as_chunks::<2>();
        rest.is_empty().then_some(Self {
            states: begin,
            words,
        })
    }

    /// Decodes a section; `None` if the words run out.
    pub(crate) fn section(&mut self, slots: &Slots, symbols: &mut [u8]) -> Option<()> {
        let mut states = self.states;
        let mut words = self.words;
        let (fours, rest) = symbols.as_chunks_mut::<LANES>();
        let mut fours = fours.iter_mut();
        // Up to four words are wanted for four symbols.
        while let Some(&[a, b, c, d]) = words.first_chunk::<LANES>() {
            let Some(four) = fours.next() else { break };
            let mut window = u64::from_le_bytes([a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]]);
            let mut taken = 0;
            for (state, symbol) in states.iter_mut().zip(four) {
                let x;
                (*symbol, x) = slots.advance(*state);
                // A branch would be guessed wrong every few symbols.
                let is_low = x < LOW;
                *state = if is_low {
                    x << 16 | (window & 0xffff) as u32
                } else {
                    x
                };
                window = if is_low { window >> 16 } else { window };
                taken += usize::from(is_low);
            }
            words = words.get(taken..)?;
        }
        for symbols in fours.map(|four| &mut four[..]).chain([rest]) {
            for (state, symbol) in states.iter_mut().zip(symbols) {
                (*symbol, *state) = slots.advance(*state);
                if *state < LOW {
                    let (word, left) = words.split_first()?;
                    *state = *state << 16 | u32::from(u16::from_le_bytes(*word));
                    words = left;
                }
            }
        }
        self.states = states;
        self.words = words;
        Some(())
    }

    /// Decodes a section of which each symbol's table is the one of its context.
    pub(crate) fn contextual(
        &mut self,
        slots: &[Slots],
        model: &Model,
        symbols: &mut [u8],
    ) -> Option<()> {
        let size = quarter(symbols.len());
        let mut states = self.states;
        let mut words = self.words;
        for at in 0..size.min(symbols.len()) {
            for (quarter, state) in symbols.chunks_mut(size).zip(&mut states) {
                if at < quarter.len() {
                    let (context, base) = model.context(quarter, at);
                    let code;
                    (code, *state) = slots.get(usize::from(context))?.advance(*state);
                    quarter[at] = model.symbol(code, base);
                    if *state < LOW {
                        let (word, left) = words.split_first()?;
                        *state = *state << 16 | u32::from(u16::from_le_bytes(*word));
                        words = left;
                    }
                }
            }
        }
        self.states = states;
        self.words = words;
        Some(())
    }

    /// Whether everything was used, and the states are where an encoder begins.
    pub(crate) fn is_finished(&self) -> bool {
        self.words.is_empty() && self.states == [LOW; LANES]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::table::Histogram;

    /// rANS as in the paper, one symbol after the other with divisions and numbers of any size: what the
    /// states together must contain. Kept to 128 bits, so for short messages and one lane.
    fn slow(table: &Table, symbols: &[u8]) -> u128 {
        let start = |symbol: u8| -> u128 {
            let before = &table.frequencies()[..usize::from(symbol)];
            before.iter().map(|&f| u128::from(f)).sum()
        };
        symbols.iter().rev().fold(u128::from(LOW), |x, &symbol| {
            let f = u128::from(table.frequencies()[usize::from(symbol)]);
            ((x / f) << SCALE) + x % f + start(symbol)
        })
    }

    #[test]
    fn a_state_is_what_the_formula_says() {
        // Lane 0 alone carries the message: the other lanes' symbols have half of all slots, and are
        // checked by a message of their own.
        let symbols = [7u8, 9, 7, 7, 9, 9, 9, 7];
        let table = Histogram::of(&symbols).table().0;
        let mut encoder = Encoder::new();
        encoder.section(&table, &symbols);
        for lane in 0..LANES {
            let own: Vec<u8> = symbols.iter().copied().skip(lane).step_by(LANES).collect();
            assert_eq!(u128::from(encoder.states[lane]), slow(&table, &own));
        }
    }

    #[test]
    fn reciprocals_divide_exactly() {
        for f in 1..SLOTS as u32 {
            let reciprocal = (1u64 << (32 + SCALE)) / u64::from(f) + 1;
            let limit = f << (32 - SCALE);
            for x in [
                0,
                1,
                f - 1,
                f,
                f + 1,
                limit / 2,
                limit - f - 1,
                limit - f,
                limit - 1,
            ] {
                let quotient = (u64::from(x) * reciprocal) >> (32 + SCALE);
                assert_eq!(quotient, u64::from(x / f), "{x} / {f}");
            }
        }
    }

    proptest! {
        #[test]
        fn sections_come_back(
            sections in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 2..9000), 1u8..=255), 1..4),
        ) {
            // Reduced to fewer kinds of symbol, so that frequencies are of every size.
            let sections: Vec<Vec<u8>> = sections
                .into_iter()
                .map(|(symbols, kinds)| {
                    let mut symbols: Vec<u8> = symbols.iter().map(|&s| s.min(kinds)).collect();
                    symbols[..2].copy_from_slice(&[0, 255]);
                    symbols
                })
                .collect();
            let tables: Vec<Table> =
                sections.iter().map(|symbols| Histogram::of(symbols).table().0).collect();
            let mut encoder = Encoder::new();
            for (table, symbols) in tables.iter().zip(&sections).rev() {
                encoder.section(table, symbols);
            }
            let mut bytes = Vec::new();
            let words = encoder.words();
            encoder.finish(&mut bytes);
            prop_assert_eq!(bytes.len(), 2 * words);
            let mut decoder = Decoder::new(&bytes).unwrap();
            let mut slots = Slots::new();
            for (table, symbols) in tables.iter().zip(&sections) {
                slots.fill(table);
                let mut found = vec![0; symbols.len()];
                prop_assert!(!decoder.is_finished());
                prop_assert!(decoder.section(&slots, &mut found).is_some());
                prop_assert_eq!(&found, symbols);
            }
            prop_assert!(decoder.is_finished());
        }
    }
}
