//! The codecs, their names and their numbers.
//!
//! ```text
//! name    = form [ "-" entropy ]
//! form    = raw | f16 | u8 | u6 | u4 | u8c | u6c | u4c        c: a step per group of channels
//! entropy = rans | zrans | crans | zstd    z: runs of zeros apart; c: by context, only u8 to u4c
//! number  = form (raw 0, f16 1, u8 2, u8c 3, u6 4, u6c 5, u4 6, u4c 7) + 16 · entropy (0, 1, 2, 3, 4)
//! ```

use std::{fmt, str::FromStr};

use crate::Error;

/// What becomes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// It stays as it is.
    Raw,
    /// IEEE 754 half precision, rounded to nearest.
    F16,
    /// A whole number of steps: error at most half a step.
    Linear {
        /// How many steps there are.
        bits: Bits,
        /// What shares a step.
        grouping: Grouping,
    },
}

/// Bits of a linear form's integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bits {
    /// 256 values.
    Eight,
    /// 64 values.
    Six,
    /// 16 values.
    Four,
}

impl Bits {
    /// As a number.
    #[must_use]
    pub const fn count(self) -> u32 {
        match self {
            Self::Eight => 8,
            Self::Six => 6,
            Self::Four => 4,
        }
    }
}

/// What shares a step, and so a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grouping {
    /// The whole tensor.
    Tensor,
    /// A channel of all samples, or a few neighbouring channels where they are small.
    Channel,
}

/// How symbols become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entropy {
    /// As they are, packed.
    None,
    /// rANS with static tables (J. Duda, "Asymmetric numeral systems", arXiv 1311.2540).
    Rans,
    /// Lengths of runs of zeros and the values between them, both by rANS. For sparse activations.
    ZeroRunRans,
    /// rANS with a table for each kind of neighbourhood in the picture that a channel is. The shortest for
    /// real activations; half as fast. Only for linear forms.
    ContextRans,
    /// Zstandard at level 1 (RFC 8878) over the packed symbols. The fastest on dense tensors, and shorter
    /// where maps repeat one another.
    Zstd,
}

/// A form and an entropy coder. Every pair is a codec, but for raw and f16 by context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Codec {
    /// What becomes of a number.
    pub form: Form,
    /// How symbols become bytes.
    pub entropy: Entropy,
}

const fn linear(bits: Bits, grouping: Grouping) -> Form {
    Form::Linear { bits, grouping }
}

/// In the order of their numbers, with their names.
const FORMS: [(Form, &str); 8] = [
    (Form::Raw, "raw"),
    (Form::F16, "f16"),
    (linear(Bits::Eight, Grouping::Tensor), "u8"),
    (linear(Bits::Eight, Grouping::Channel), "u8c"),
    (linear(Bits::Six, Grouping::Tensor), "u6"),
    (linear(Bits::Six, Grouping::Channel), "u6c"),
    (linear(Bits::Four, Grouping::Tensor), "u4"),
    (linear(Bits::Four, Grouping::Channel), "u4c"),
];
const ENTROPIES: [(Entropy, &str); 5] = [
    (Entropy::None, ""),
    (Entropy::Rans, "-rans"),
    (Entropy::ZeroRunRans, "-zrans"),
    (Entropy::ContextRans, "-crans"),
    (Entropy::Zstd, "-zstd"),
];

impl Codec {
    /// Bytes as they are. Needs no encoding where the link has a checksum of its own.
    pub const RAW: Self = Self::new(Form::Raw, Entropy::None);

    /// A form with an entropy coder.
    #[must_use]
    pub const fn new(form: Form, entropy: Entropy) -> Self {
        Self { form, entropy }
    }

    /// Every codec, simplest first.
    pub fn all() -> impl Iterator<Item = Self> {
        let pair = |(form, _)| ENTROPIES.map(|(entropy, _)| Self { form, entropy });
        let all = FORMS.into_iter().flat_map(pair);
        all.filter(|codec| Self::from_id(codec.id()).is_some())
    }

    /// Whether a finite tensor comes back bit for bit.
    #[must_use]
    pub const fn is_lossless(self) -> bool {
        matches!(self.form, Form::Raw)
    }

    /// Its number: what is on the wire, and stays.
    #[must_use]
    pub fn id(self) -> u8 {
        let form = (0u8..).zip(FORMS).find(|(_, (form, _))| *form == self.form);
        let entropy = match self.entropy {
            Entropy::None => 0,
            Entropy::Rans => 1,
            Entropy::ZeroRunRans => 2,
            Entropy::ContextRans => 3,
            Entropy::Zstd => 4,
        };
        form.map_or(0, |(at, _)| at) | entropy << 4
    }

    /// The codec with this number.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        let (form, _) = FORMS.get(usize::from(id & 15))?;
        let (entropy, _) = ENTROPIES.get(usize::from(id >> 4))?;
        let is_codec = *entropy != Entropy::ContextRans || matches!(form, Form::Linear { .. });
        is_codec.then_some(Self::new(*form, *entropy))
    }

    /// The codec with this number, as messages carry it.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::from_id(u8::try_from(number).ok()?)
    }

    /// The codec that an encoded tensor says it was written with. Nothing is checked.
    #[must_use]
    pub fn of(encoded: &[u8]) -> Option<Self> {
        Self::from_id(*encoded.first()?)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id();
        let name = FORMS[usize::from(id & 15)].1;
        let entropy = ENTROPIES[usize::from(id >> 4)].1;
        f.pad(&format!("{name}{entropy}"))
    }
}

impl FromStr for Codec {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::all()
            .find(|codec| codec.to_string() == name)
            .ok_or_else(|| Error::Name(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_fixed() {
        let names: Vec<String> = Codec::all()
            .map(|codec| format!("{codec} {}", codec.id()))
            .collect();
        assert_eq!(
            names.join(", "),
            "raw 0, raw-rans 16, raw-zrans 32, raw-zstd 64, f16 1, f16-rans 17, f16-zrans 33, f16-zstd 65, \
             u8 2, u8-rans 18, u8-zrans 34, u8-crans 50, u8-zstd 66, u8c 3, u8c-rans 19, u8c-zrans 35, \
             u8c-crans 51, u8c-zstd 67, u6 4, u6-rans 20, u6-zrans 36, u6-crans 52, u6-zstd 68, u6c 5, \
             u6c-rans 21, u6c-zrans 37, u6c-crans 53, u6c-zstd 69, u4 6, u4-rans 22, u4-zrans 38, \
             u4-crans 54, u4-zstd 70, u4c 7, u4c-rans 23, u4c-zrans 39, u4c-crans 55, u4c-zstd 71"
        );
    }

    #[test]
    fn a_codec_is_found_by_name_and_by_number() {
        for codec in Codec::all() {
            assert_eq!(codec.to_string().parse(), Ok(codec));
            assert_eq!(Codec::from_id(codec.id()), Some(codec));
        }
        let known = (0..=255).filter(|&id| Codec::from_id(id).is_some());
        assert_eq!(known.count(), Codec::all().count());
        let error = "u7".parse::<Codec>().unwrap_err().to_string();
        assert!(error.contains("'u7'") && error.contains("zrans"), "{error}");
    }
}
