//! A tensor to bytes.
//!
//! ```text
//! encoded = codec:8 bits, body, crc32:32 bits
//! body    = the tensor's bytes                                   raw
//!         | halves                                               f16
//!         | groups, packed symbols                               u8, u6, u4
//!         | sections of planes                                   raw and f16 with entropy coding
//!         | groups, sections                                     u8, u6, u4 with entropy coding
//!         | groups if any, Zstandard frame of the rest           any, with zstd
//! groups  = channels per group:varint (only per channel), for each group: step:16 bits, zero:8 bits
//! ```

use std::{borrow::Cow, ops::Range};

use crate::{
    Codec, Element, Entropy, Error, Form, Grouping, Spec,
    bits::{pack, packed_bytes},
    linear::{self, Groups, Quantized},
    planes,
    section::{Writer, put_varint},
    table::Histogram,
    zero_run,
};

/// Bytes of codec and checksum around a body.
pub(crate) const FRAMING_BYTES: usize = 5;
/// Zstandard's fastest ordinary level: higher ones gain little on noise.
const ZSTD_LEVEL: i32 = 1;
/// Below so many elements a table of their own is not tried.
const TABLE_ELEMENTS: usize = 4096;

/// A tensor's symbols, before they become bytes.
pub(crate) enum Symbols<'a> {
    /// As they are.
    Bytes(Cow<'a, [u8]>, usize),
    /// With steps; bits of a symbol, symbols of a row.
    Steps(Quantized, u32, usize),
}

impl Codec {
    /// Appends an encoded tensor to `out`, and returns the codec that was used. It is another one
    /// - when the form is for f32 and the tensor is not, or has a value that is not finite or too large
    ///   (65 520 for f16; 1.7e38 between smallest and largest for the linear forms): [`Codec::RAW`];
    /// - when entropy coding would make it longer: the same form without it, or [`Codec::RAW`].
    ///
    /// So an encoded tensor is never longer than the tensor by more than five bytes. Time and memory are
    /// linear in the tensor's size.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::Length`], when the input is not the tensor that `spec` says; `out`
    /// is left as it was.
    pub fn encode(self, spec: &Spec<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Self, Error> {
        check(spec, input)?;
        let begin = out.len();
        out.push(0);
        let used = self.possible().body(spec, input, out);
        out[begin] = used.id();
        let checksum = spec.checksum(&out[begin..]);
        out.extend(checksum.to_le_bytes());
        Ok(used)
    }

    /// The codec that can be used: by context only what has steps.
    fn possible(self) -> Self {
        match Self::from_id(self.id()) {
            Some(codec) => codec,
            None => Self::new(self.form, Entropy::Rans),
        }
    }

    fn body(self, spec: &Spec<'_>, input: &[u8], out: &mut Vec<u8>) -> Self {
        let begin = out.len();
        let mut used = Self::RAW;
        if self != Self::RAW
            && let Some(symbols) = self.form.symbols(spec, input)
        {
            let plain = symbols.plain_bytes();
            if self.entropy != Entropy::None && !input.is_empty() {
                symbols.prefix(out);
                if self.entropy == Entropy::Zstd {
                    out.extend(symbols.zstd());
                } else {
                    symbols.sections(self.entropy).finish(out);
                }
                used = self;
            }
            if self.entropy == Entropy::None || plain <= out.len() - begin {
                out.truncate(begin);
                symbols.plain(out);
                used = Self::new(self.form, Entropy::None);
            }
        }
        if used == Self::RAW || input.len() <= out.len() - begin {
            out.truncate(begin);
            out.extend_from_slice(input);
            used = Self::RAW;
        }
        used
    }
}

/// Whether the input is the tensor that it is said to be.
pub(crate) fn check(spec: &Spec<'_>, input: &[u8]) -> Result<(), Error> {
    let expected = spec.bytes()?;
    let found = input.len();
    (expected == found)
        .then_some(())
        .ok_or(Error::Length { expected, found })
}

impl Form {
    /// The tensor's symbols, if it has some in this form.
    pub(crate) fn symbols<'a>(self, spec: &Spec<'_>, input: &'a [u8]) -> Option<Symbols<'a>> {
        let singles = || {
            let is_single = spec.element == Element::F32;
            is_single.then_some(input.as_chunks::<4>().0)
        };
        match self {
            Self::Raw => Some(Symbols::Bytes(input.into(), spec.element.bytes())),
            Self::F16 => {
                let singles = singles()?;
                let (low, high) = linear::extent(singles)?;
                let is_small = -65_520.0 < low && high < 65_520.0;
                is_small.then(|| Symbols::Bytes(planes::halve(singles).into(), 2))
            }
            Self::Linear { bits, grouping } => {
                let quantized = linear::quantize(singles()?, spec.layout(), bits, grouping)?;
                Some(Symbols::Steps(quantized, bits.count(), spec.row()))
            }
        }
    }
}

impl Symbols<'_> {
    /// Bytes of the body without entropy coding.
    pub(crate) fn plain_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes, _) => bytes.len(),
            Self::Steps(quantized, bits, _) => {
                let mut prefix = Vec::new();
                self.prefix(&mut prefix);
                prefix.len() + packed_bytes(quantized.symbols.len(), *bits)
            }
        }
    }

    fn plain(&self, out: &mut Vec<u8>) {
        self.prefix(out);
        self.packed(out);
    }

    /// The packed symbols as a Zstandard frame.
    pub(crate) fn zstd(&self) -> Vec<u8> {
        let mut packed = Vec::new();
        self.packed(&mut packed);
        // There is no way to fail but to run out of memory; then the plain codec is shorter.
        zstd::bulk::compress(&packed, ZSTD_LEVEL).unwrap_or(packed)
    }

    fn packed(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bytes(bytes, _) => out.extend_from_slice(bytes),
            Self::Steps(quantized, bits, _) => pack(&quantized.symbols, *bits, out),
        }
    }

    /// The groups' steps.
    pub(crate) fn prefix(&self, out: &mut Vec<u8>) {
        if let Self::Steps(quantized, ..) = self {
            if quantized.grouping == Grouping::Channel {
                put_varint(out, quantized.groups.per());
            }
            out.extend(quantized.steps.iter().flat_map(|step| step.to_bytes()));
        }
    }

    /// The symbols in sections.
    pub(crate) fn sections(&self, entropy: Entropy) -> Writer<'_> {
        let mut writer = Writer::default();
        match self {
            Self::Bytes(bytes, width) => {
                let planes = planes::split(bytes, *width);
                let count = (planes.len() / width).max(1);
                match entropy {
                    Entropy::None | Entropy::Rans | Entropy::ContextRans | Entropy::Zstd => {
                        for plane in planes.chunks(count) {
                            writer.add(plane.to_vec().into(), &Histogram::of(plane));
                        }
                    }
                    Entropy::ZeroRunRans => {
                        let planes: Vec<&[u8]> = planes.chunks(count).collect();
                        add_runs(&mut writer, &planes);
                    }
                }
            }
            Self::Steps(quantized, bits, row) => {
                let symbols = &quantized.symbols[..];
                if entropy == Entropy::ContextRans {
                    let zeros = quantized.steps.iter().map(|step| step.zero());
                    let zero = zeros.max().unwrap_or(0);
                    writer.add_contextual(symbols, *row, *bits, zero);
                    return writer;
                }
                if quantized.grouping == Grouping::Tensor {
                    add(&mut writer, entropy, symbols, None);
                    return writer;
                }
                let (per, counts) = tables(&quantized.groups, symbols);
                writer.head().put_golomb(per as u32, 0);
                for (range, counts) in ranges(&quantized.groups, per, symbols.len()).zip(counts) {
                    add(&mut writer, entropy, &symbols[range], Some(counts));
                }
            }
        }
        writer
    }
}

fn add<'a>(
    writer: &mut Writer<'a>,
    entropy: Entropy,
    symbols: &'a [u8],
    counts: Option<Histogram>,
) {
    match entropy {
        Entropy::None | Entropy::Rans | Entropy::ContextRans | Entropy::Zstd => {
            let counts = counts.unwrap_or_else(|| Histogram::of(symbols));
            writer.add(symbols.into(), &counts);
        }
        Entropy::ZeroRunRans => add_runs(writer, &[symbols]),
    }
}

fn add_runs(writer: &mut Writer<'_>, planes: &[&[u8]]) {
    let split = zero_run::split(planes);
    writer.head().put_golomb(split.runs.len() as u32, 8);
    let counts = Histogram::of(&split.runs);
    writer.add(split.runs.into(), &counts);
    for values in split.values {
        let counts = Histogram::of(&values);
        writer.add(values.into(), &counts);
    }
}

/// The symbols of each table, when `per` groups share one; zero is all of them.
pub(crate) fn ranges(
    groups: &Groups,
    per: usize,
    count: usize,
) -> impl Iterator<Item = Range<usize>> + use<> {
    let elements = match per {
        0 => count,
        per => per.saturating_mul(groups.elements()),
    }
    .max(1);
    (0..count.div_ceil(elements)).map(move |at| {
        let begin = at * elements;
        begin..begin.saturating_add(elements).min(count)
    })
}

/// How many groups share a table (zero: all), and the tables' counts: one table for all symbols or one
/// for every few groups, whichever is shorter.
fn tables(groups: &Groups, symbols: &[u8]) -> (usize, Vec<Histogram>) {
    let per = TABLE_ELEMENTS.div_ceil(groups.elements().max(1));
    let each: Vec<Histogram> = ranges(groups, per, symbols.len())
        .map(|range| Histogram::of(&symbols[range]))
        .collect();
    let mut all = Histogram([0; 256]);
    each.iter().for_each(|counts| all.add(counts));
    let bits = |counts: &Histogram| match counts.only() {
        Some(_) => 0.0,
        None => {
            let (_, own, cost) = counts.table();
            own as f64 + cost
        }
    };
    if each.len() < 2 || bits(&all) <= each.iter().map(bits).sum() {
        return (0, vec![all]);
    }
    (per, each)
}
