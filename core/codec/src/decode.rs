//! Bytes to a tensor, whatever the bytes are.

use crate::{
    Bits, Codec, Element, Entropy, Error, Form, Grouping, Limits, Spec,
    bits::{packed_bytes, unpack},
    encode::ranges,
    linear::{self, Groups, Quantized, STEP_BYTES, Step},
    planes,
    section::{Reader, take_varint},
    zero_run,
};

/// The bytes of a tensor that [`Codec::encode`] encoded, little-endian and row-major.
///
/// Memory: at most four times the tensor's bytes and 160 KiB (tables, or what libzstd needs), which are known before anything is allocated. Time:
/// linear in the tensor's bytes and in those given, whatever they are.
///
/// # Errors
/// [`Error::Shape`] and [`Error::TooLarge`] for what was expected; [`Error::Truncated`] and
/// [`Error::Checksum`] for what changed on the way, and for a tensor of another shape or element;
/// [`Error::Id`], [`Error::Element`] and [`Error::Malformed`] for what no encoder writes.
pub fn decode(bytes: &[u8], spec: &Spec<'_>, limits: Limits) -> Result<Vec<u8>, Error> {
    let expected = spec.bytes()?;
    if limits.tensor_bytes < expected {
        return Err(Error::TooLarge {
            bytes: expected,
            limit: limits.tensor_bytes,
        });
    }
    let (encoded, checksum) = bytes.split_last_chunk::<4>().ok_or(Error::Truncated)?;
    let (&id, body) = encoded.split_first().ok_or(Error::Truncated)?;
    if spec.checksum(encoded) != u32::from_le_bytes(*checksum) {
        return Err(Error::Checksum);
    }
    let codec = Codec::from_id(id).ok_or(Error::Id(id))?;
    if codec.form != Form::Raw && spec.element != Element::F32 {
        return Err(Error::Element(codec));
    }
    match codec.form {
        Form::Raw => elements(codec.entropy, body, expected, spec.element.bytes()),
        Form::F16 => {
            let halves = elements(codec.entropy, body, expected / 2, 2)?;
            Ok(planes::widen(halves.as_chunks().0))
        }
        Form::Linear { bits, grouping } => {
            let quantized = quantized(codec.entropy, body, spec, (bits, grouping))?;
            Ok(linear::restore(&quantized, bits))
        }
    }
}

/// Elements of so many bytes, as they are or as sections of planes.
fn elements(
    entropy: Entropy,
    body: &[u8],
    expected: usize,
    width: usize,
) -> Result<Vec<u8>, Error> {
    if entropy == Entropy::Zstd {
        return unzstd(body, expected);
    }
    if entropy == Entropy::None {
        return match body.len() == expected {
            true => Ok(body.to_vec()),
            false => Err(WRONG_LENGTH),
        };
    }
    let mut reader = Reader::new(body)?;
    let mut planes = vec![0; expected];
    symbols(&mut reader, entropy, &mut planes, width)?;
    reader.finish()?;
    Ok(planes::join(&planes, width))
}

/// Fills `width` planes of zeros, one after the other.
fn symbols(
    reader: &mut Reader<'_>,
    entropy: Entropy,
    planes: &mut [u8],
    width: usize,
) -> Result<(), Error> {
    let count = (planes.len() / width).max(1);
    if entropy == Entropy::Rans {
        return planes
            .chunks_mut(count)
            .try_for_each(|plane| reader.section(plane));
    }
    // Every run but the long ones has an element, and a long one stands for many.
    let runs = reader.head().take_golomb(8).unwrap_or(u32::MAX);
    let runs = usize::try_from(runs).unwrap_or(usize::MAX);
    if count < runs {
        return Err(Error::Malformed("it has more runs than elements"));
    }
    let mut runs = vec![0; runs];
    reader.section(&mut runs)?;
    let mut values = vec![0; zero_run::values(&runs)];
    for plane in planes.chunks_mut(count) {
        reader.section(&mut values)?;
        zero_run::spread(&runs, &values, plane)
            .ok_or(Error::Malformed("a run reaches beyond the tensor"))?;
    }
    Ok(())
}

fn quantized(
    entropy: Entropy,
    mut body: &[u8],
    spec: &Spec<'_>,
    (bits, grouping): (Bits, Grouping),
) -> Result<Quantized, Error> {
    let layout = spec.layout();
    let per = match grouping {
        Grouping::Tensor => layout.channels,
        Grouping::Channel => take_varint(&mut body)?,
    };
    let groups = Groups::of(layout, per).ok_or(Error::Malformed("its groups are none"))?;
    let prefix = groups.count().checked_mul(STEP_BYTES).ok_or(WRONG_LENGTH)?;
    let (prefix, body) = body.split_at_checked(prefix).ok_or(WRONG_LENGTH)?;
    let steps = prefix.as_chunks::<STEP_BYTES>().0.iter();
    let steps: Option<Vec<Step>> = steps
        .map(|step| Step::from_bytes(*step, bits.count()))
        .collect();
    let steps = steps.ok_or(Error::Malformed("a step is none"))?;
    let mut symbols = vec![0; layout.samples * layout.channels * layout.inner];
    let packed = packed_bytes(symbols.len(), bits.count());
    if entropy == Entropy::None {
        if body.len() != packed {
            return Err(WRONG_LENGTH);
        }
        unpack(body, bits.count(), &mut symbols);
    } else if entropy == Entropy::Zstd {
        unpack(&unzstd(body, packed)?, bits.count(), &mut symbols);
    } else if entropy == Entropy::ContextRans {
        let mut reader = Reader::new(body)?;
        reader.contextual(&mut symbols, spec.row(), bits.count())?;
        reader.finish()?;
    } else {
        let mut reader = Reader::new(body)?;
        let per = match grouping {
            Grouping::Tensor => 0,
            Grouping::Channel => reader.head().take_golomb(0).ok_or(WRONG_LENGTH)?,
        };
        for range in ranges(&groups, per as usize, symbols.len()) {
            self::symbols(&mut reader, entropy, &mut symbols[range], 1)?;
        }
        reader.finish()?;
    }
    Ok(Quantized {
        grouping,
        groups,
        steps,
        symbols,
    })
}

/// What a Zstandard frame holds, if that is so many bytes.
fn unzstd(frame: &[u8], expected: usize) -> Result<Vec<u8>, Error> {
    zstd::bulk::decompress(frame, expected)
        .ok()
        .filter(|bytes| bytes.len() == expected)
        .ok_or(Error::Malformed(
            "it is no Zstandard frame of the right length",
        ))
}

const WRONG_LENGTH: Error = Error::Malformed("it is not as long as it must be");
