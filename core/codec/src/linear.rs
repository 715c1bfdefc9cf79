//! Linear quantisation: numbers to whole steps and back.
//!
//! For a group with values from `lo ≤ 0` to `hi ≥ 0` (zero always counts) and `n = 2^bits - 1`:
//! `step = (hi - lo) / n`, rounded up to eight significant bits; `zero = round(-lo / step)`;
//! `q = clamp(round(x / step) + zero, 0, n)`; `x' = (q - zero) · step`. So `|x - x'| ≤ step / 2`, apart
//! from the rounding of f32, and zero is exact (B. Jacob et al., "Quantization and training of neural
//! networks for efficient integer-arithmetic-only inference", arXiv 1712.05877, eq. 1, with the zero
//! point nudged to a whole number).
//!
//! What is coded is `(q - zero) mod 2^bits`: zero is symbol 0 in every group, small numbers have small
//! symbols or ones near the end, and groups of different ranges can share a table.

use std::ops::Range;

use crate::{Bits, Grouping, spec::Layout};

/// A channel with fewer elements than this shares its step with its neighbours: a step costs three bytes.
const GROUP_ELEMENTS: usize = 128;
/// Bytes of a step on the wire.
pub(crate) const STEP_BYTES: usize = 3;

/// A group's step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    /// Size; the lower 16 bits are zero. Zero for a group of zeros.
    size: f32,
    /// The integer that means zero.
    zero: u8,
}

/// Which channels share a step: `per` neighbouring ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Groups {
    layout: Layout,
    per: usize,
}

impl Groups {
    /// As the encoder chooses them.
    pub(crate) fn choose(layout: Layout, grouping: Grouping) -> Self {
        let channel = (layout.samples * layout.inner).max(1);
        let per = match grouping {
            Grouping::Tensor => layout.channels,
            Grouping::Channel => GROUP_ELEMENTS.div_ceil(channel).min(layout.channels),
        };
        Self { layout, per }
    }

    /// As they were written; `None` if they cannot be.
    pub(crate) fn of(layout: Layout, per: usize) -> Option<Self> {
        (1..=layout.channels.max(1))
            .contains(&per)
            .then_some(Self { layout, per })
    }

    /// Channels that share a step.
    pub(crate) const fn per(&self) -> usize {
        self.per
    }

    /// Number of groups.
    pub(crate) const fn count(&self) -> usize {
        self.layout.channels.div_ceil(self.per)
    }

    /// Elements of one group; the last may have fewer.
    pub(crate) const fn elements(&self) -> usize {
        self.layout.samples * self.per * self.layout.inner
    }

    /// Where a group's elements lie in the tensor: a range for each sample, or one for all.
    fn ranges(&self, group: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let Layout {
            samples,
            channels,
            inner,
        } = self.layout;
        let begin = group * self.per;
        let end = (begin + self.per).min(channels);
        let (samples, channels, end) = if end - begin == channels {
            (1, samples * channels, samples * channels)
        } else {
            (samples, channels, end)
        };
        (0..samples).map(move |sample| {
            (sample * channels + begin) * inner..(sample * channels + end) * inner
        })
    }
}

impl Step {
    /// The step for values in this range; `None` if it or what it gives back might not be finite.
    fn of(lo: f32, hi: f32, bits: u32) -> Option<Self> {
        let (lo, hi) = (lo.min(0.0), hi.max(0.0));
        let range = hi - lo;
        // Twice the largest value must be finite: the ends may be passed by half a step.
        if !(2.0 * range.max(hi).max(-lo)).is_finite() {
            return None;
        }
        if range == 0.0 {
            return Some(Self { size: 0.0, zero: 0 });
        }
        let most = top(bits);
        let exact = (range / f32::from(most)).max(f32::MIN_POSITIVE);
        let size = f32::from_bits((exact.to_bits() + 0xffff) & 0xffff_0000);
        let zero = (-lo / size).round().min(f32::from(most)) as u8;
        Some(Self { size, zero })
    }

    /// The integer that means zero.
    pub(crate) const fn zero(self) -> u8 {
        self.zero
    }

    /// As it is on the wire: the upper half of the step's size as an f32, and the zero.
    pub(crate) fn to_bytes(self) -> [u8; STEP_BYTES] {
        let [_, _, low, high] = self.size.to_le_bytes();
        [low, high, self.zero]
    }

    /// As it was written; `None` if no encoder can have written it.
    pub(crate) fn from_bytes([low, high, zero]: [u8; STEP_BYTES], bits: u32) -> Option<Self> {
        let size = f32::from_le_bytes([0, 0, low, high]);
        let is_step = size.to_bits() == 0 && zero == 0 || f32::MIN_POSITIVE <= size;
        let is_finite = (size * f32::from(top(bits))).is_finite();
        (is_step && is_finite && zero <= top(bits)).then_some(Self { size, zero })
    }

    fn quantize(self, values: &[[u8; 4]], bits: u32, symbols: &mut [u8]) {
        /// Adding this leaves a number below 2^23 rounded to a whole one, in the lowest bits.
        const ROUND: f32 = 8_388_608.0;
        let Self { size, zero } = self;
        let inverse = if size == 0.0 { 0.0 } else { 1.0 / size };
        let (most, mask) = (f32::from(top(bits)), top(bits));
        let zero_point = f32::from(zero);
        for (value, symbol) in values.iter().zip(symbols) {
            let place = f32::from_le_bytes(*value) * inverse + zero_point;
            let place = if place < 0.0 { 0.0 } else { place };
            let place = if most < place { most } else { place };
            *symbol = ((place + ROUND).to_bits() as u8).wrapping_sub(zero) & mask;
        }
    }

    fn restore(self, symbols: &[u8], bits: u32, values: &mut [[u8; 4]]) {
        let Self { size, zero } = self;
        let mask = top(bits);
        for (symbol, value) in symbols.iter().zip(values) {
            let place = symbol.wrapping_add(zero) & mask;
            let steps = i32::from(place) - i32::from(zero);
            *value = (steps as f32 * size).to_le_bytes();
        }
    }
}

/// The largest integer of so many bits.
const fn top(bits: u32) -> u8 {
    (255 >> (8 - bits)) as u8
}

/// Smallest and largest of values and zero; `None` if one is not finite.
pub(crate) fn extent(values: &[[u8; 4]]) -> Option<(f32, f32)> {
    const LANES: usize = 16;
    let (mut lows, mut highs, mut traps) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
    let mut see = |lane: usize, value: &[u8; 4]| {
        let x = f32::from_le_bytes(*value);
        lows[lane] = if x < lows[lane] { x } else { lows[lane] };
        highs[lane] = if highs[lane] < x { x } else { highs[lane] };
        // Zero for what is finite; otherwise NaN from here on.
        traps[lane] += x * 0.0;
    };
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (lane, value) in block.iter().enumerate() {
            see(lane, value);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        see(lane, value);
    }
    let is_finite = traps.iter().all(|trap| *trap == 0.0);
    let low = lows.into_iter().fold(0.0, f32::min);
    let high = highs.into_iter().fold(0.0, f32::max);
    is_finite.then_some((low, high))
}

/// A quantised tensor: a step for each group, and symbols, group after group and within it sample after
/// sample.
#[derive(Debug)]
pub(crate) struct Quantized {
    pub(crate) grouping: Grouping,
    pub(crate) groups: Groups,
    pub(crate) steps: Vec<Step>,
    pub(crate) symbols: Vec<u8>,
}

/// Quantises; `None` if a value is not finite, or too large for steps that are.
pub(crate) fn quantize(
    values: &[[u8; 4]],
    layout: Layout,
    bits: Bits,
    grouping: Grouping,
) -> Option<Quantized> {
    let bits = bits.count();
    let groups = Groups::choose(layout, grouping);
    let mut steps = Vec::with_capacity(groups.count());
    let mut symbols = vec![0; values.len()];
    let mut left = symbols.as_mut_slice();
    for group in 0..groups.count() {
        let (mut low, mut high) = (0f32, 0f32);
        for range in groups.ranges(group) {
            let (lo, hi) = extent(&values[range])?;
            (low, high) = (low.min(lo), high.max(hi));
        }
        let step = Step::of(low, high, bits)?;
        steps.push(step);
        for range in groups.ranges(group) {
            let (symbols, rest) = left.split_at_mut(range.len());
            step.quantize(&values[range], bits, symbols);
            left = rest;
        }
    }
    Some(Quantized {
        grouping,
        groups,
        steps,
        symbols,
    })
}

/// The tensor's bytes.
pub(crate) fn restore(quantized: &Quantized, bits: Bits) -> Vec<u8> {
    let mut bytes = vec![0; 4 * quantized.symbols.len()];
    let values = bytes.as_chunks_mut::<4>().0;
    let mut left = quantized.symbols.as_slice();
    for (group, step) in quantized.steps.iter().enumerate() {
        for range in quantized.groups.ranges(group) {
            let (symbols, rest) = left.split_at(range.len());
            step.restore(symbols, bits.count(), &mut values[range]);
            left = rest;
        }
    }
    bytes
}
