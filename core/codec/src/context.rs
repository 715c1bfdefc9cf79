//! Symbols whose neighbours say what to expect: a table for each kind of neighbourhood.
//!
//! Activations are pictures. A symbol's context is how large the symbol before it and the one a row above
//! it are together, by a few thresholds. Where both are the same and not zero the picture is flat: that may
//! be a context of its own, and then what is coded is the difference from them. The four states of the coder take a quarter of the symbols each,
//! so that four chains of "what came before decides what comes next" run side by side; what lies before a
//! quarter's beginning counts as zero.

use crate::rans::LANES;

/// The most contexts there are: seven thresholds make eight, and one is for what is flat.
pub(crate) const CONTEXTS: usize = 9;
/// With fewer symbols than this, fewer contexts: tables would cost more than they give.
const MANY_SYMBOLS: usize = 8192;

/// What makes a context of neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// Symbols in a row: how far back the neighbour above is.
    row: usize,
    /// How large a symbol is.
    sizes: [u8; 256],
    /// The context of two sizes' sum.
    contexts: [u8; 512],
    /// Bits of a symbol that are used.
    mask: u8,
    /// The context of what is flat, if it is one of its own.
    flat: Option<u8>,
}

impl Model {
    /// From the integer that means zero, of so many bits, and thresholds in ascending order: a context is
    /// how many of them the neighbours' sum is above.
    pub(crate) fn new(
        row: usize,
        bits: u32,
        zero: u8,
        thresholds: &[u32],
        is_flat_apart: bool,
    ) -> Self {
        let mask = (255 >> (8 - bits)) as u8;
        let mut sizes = [0; 256];
        for (symbol, size) in (0u8..=255).zip(&mut sizes) {
            *size = (symbol.wrapping_add(zero) & mask).abs_diff(zero);
        }
        let mut contexts = [0; 512];
        for (sum, context) in (0u32..).zip(&mut contexts) {
            let below = thresholds.iter().filter(|&&threshold| threshold < sum);
            *context = below.count().min(CONTEXTS - 2) as u8;
        }
        Self {
            row: row.max(1),
            sizes,
            contexts,
            mask,
            flat: is_flat_apart.then_some(thresholds.len() as u8 + 1),
        }
    }

    /// Thresholds for these symbols, around the mean size of those that are not zero.
    pub(crate) fn thresholds(&self, symbols: &[u8]) -> Vec<u32> {
        let (mut sum, mut count) = (0u64, 0u64);
        for &symbol in symbols {
            let size = self.sizes[usize::from(symbol)];
            sum += u64::from(size);
            count += u64::from(size != 0);
        }
        let mean = (sum as f64 / count.max(1) as f64).max(1.0);
        let shares: &[f64] = match (symbols.len() < MANY_SYMBOLS, self.mask) {
            (false, _) => &[0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0],
            (true, 255) => &[0.0, 1.0],
            (true, _) => &[0.0, 0.5, 1.0, 2.0],
        };
        shares.iter().map(|share| (share * mean) as u32).collect()
    }

    /// The context of symbol `at` of a quarter of which everything before is known, and what its code is
    /// the difference from.
    #[inline(always)]
    pub(crate) fn context(&self, quarter: &[u8], at: usize) -> (u8, u8) {
        let neighbour = |back: usize| {
            let before = at.checked_sub(back).and_then(|at| quarter.get(at));
            before.copied().unwrap_or(0)
        };
        let (left, above) = (neighbour(1), neighbour(self.row));
        if let Some(flat) = self.flat
            && left == above
            && left != 0
        {
            return (flat, left);
        }
        let size = |symbol: u8| usize::from(self.sizes[usize::from(symbol)]);
        (self.contexts[(size(left) + size(above)) % 512], 0)
    }

    /// The symbol whose code this is.
    #[inline(always)]
    pub(crate) const fn symbol(&self, code: u8, base: u8) -> u8 {
        code.wrapping_add(base) & self.mask
    }

    /// The contexts and the codes of all symbols.
    pub(crate) fn all(&self, symbols: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut contexts = Vec::with_capacity(symbols.len());
        let mut codes = Vec::with_capacity(symbols.len());
        for quarter in symbols.chunks(quarter(symbols.len())) {
            for (at, symbol) in quarter.iter().enumerate() {
                let (context, base) = self.context(quarter, at);
                contexts.push(context);
                codes.push(symbol.wrapping_sub(base) & self.mask);
            }
        }
        (contexts, codes)
    }

    /// Whether what is flat goes on as it is, more often than not.
    pub(crate) fn is_flat(&self, symbols: &[u8]) -> bool {
        let before = symbols
            .iter()
            .zip(symbols.get(self.row - 1..).unwrap_or_default());
        let here = symbols.get(self.row..).unwrap_or_default();
        let (mut flat, mut same) = (0usize, 0usize);
        for ((above, left), symbol) in before.zip(here) {
            flat += usize::from(left == above && *left != 0);
            same += usize::from(left == above && *left != 0 && symbol == left);
        }
        symbols.len() / 64 < flat && flat / 2 < same
    }
}

/// How many symbols a state takes; the last ones may get fewer, or none.
pub(crate) fn quarter(symbols: usize) -> usize {
    symbols.div_ceil(LANES).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_the_left_and_the_upper_neighbour() {
        let model = Model::new(3, 8, 0, &[0, 4, 9], false);
        let quarter = [5, 0, 0, 4, 0, 200];
        let found: Vec<(u8, u8)> = (0..6).map(|at| model.context(&quarter, at)).collect();
        // Left and above: nothing, 5, 0, 0 + 5, 4 + 0, 0 + 0.
        let contexts = [0, 2, 0, 2, 1, 0];
        assert_eq!(found, contexts.map(|context| (context, 0)));
        assert_eq!(
            model.all(&quarter.repeat(4)),
            (contexts.repeat(4), quarter.repeat(4))
        );
    }

    #[test]
    fn what_is_flat_is_coded_by_its_difference() {
        let symbols = [7, 7, 7, 7, 3, 7, 7, 7];
        let model = Model::new(2, 4, 0, &[0], true);
        let found: Vec<(u8, u8)> = (0..8).map(|at| model.context(&symbols, at)).collect();
        let (flat, other) = ((2, 7), (1, 0));
        assert_eq!(found, [(0, 0), other, flat, flat, flat, other, other, flat]);
        assert_eq!(model.symbol(12, 7), 3);
        assert!(model.is_flat(&symbols) && !model.is_flat(&[1, 1, 2, 2, 1, 1, 2, 2]));
    }

    #[test]
    fn symbols_below_zero_have_sizes_too() {
        // Zero is 2 of 16: symbols 14 and 15 are -2 and -1.
        let model = Model::new(1, 4, 2, &[], false);
        assert_eq!(
            model.sizes[..16],
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 2, 1]
        );
    }
}
