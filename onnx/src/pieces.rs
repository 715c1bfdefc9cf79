//! A file in pieces: large weights by themselves, so that what two fragments share is sent once.
//!
//! An ONNX file is a protobuf message, and each weight lies in it as one run of bytes. Two fragments that are cut from
//! one network at other places hold the same runs between other headers; split there, the pieces are named by their
//! content and the same in both.

use std::ops::Range;

/// `ModelProto.graph`, `GraphProto.initializer`.
const PATH: [u64; 2] = [7, 5];
/// Fewest bytes that are a piece of their own.
const LEAST: usize = 1024;

/// The pieces of a file, in order and without gaps; the file itself where it is no ONNX file or has no large weights.
/// O(fields).
#[must_use]
pub fn pieces(file: &[u8]) -> Vec<Range<usize>> {
    let mut weights = Vec::new();
    if find(file, 0..file.len(), &PATH, &mut weights).is_none() {
        weights.clear();
    }
    let mut pieces = Vec::with_capacity(2 * weights.len() + 1);
    let mut at = 0;
    for weight in weights {
        if at < weight.start {
            pieces.push(at..weight.start);
        }
        at = weight.end;
        pieces.push(weight);
    }
    if at < file.len() || pieces.is_empty() {
        pieces.push(at..file.len());
    }
    pieces
}

/// Goes down the path and notes the large runs of bytes in the messages at its end; `None` when it is no message.
fn find(
    file: &[u8],
    message: Range<usize>,
    path: &[u64],
    found: &mut Vec<Range<usize>>,
) -> Option<()> {
    let mut at = message.start;
    while at < message.end {
        let tag = varint(file, &mut at, message.end)?;
        match tag & 7 {
            0 => {
                varint(file, &mut at, message.end)?;
            }
            1 => at = at.checked_add(8)?,
            5 => at = at.checked_add(4)?,
            2 => {
                let length = usize::try_from(varint(file, &mut at, message.end)?).ok()?;
                let end = at.checked_add(length).filter(|end| *end <= message.end)?;
                match path.split_first() {
                    Some((first, rest)) if *first == tag >> 3 => find(file, at..end, rest, found)?,
                    None if LEAST <= length => found.push(at..end),
                    Some(_) | None => {}
                }
                at = end;
            }
            _ => return None,
        }
    }
    (at == message.end).then_some(())
}

/// The number at `at`, which moves behind it.
fn varint(file: &[u8], at: &mut usize, end: usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *file.get(*at).filter(|_| *at < end)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Limits, Model, cut_layers, import};

    fn joined(file: &[u8], pieces: &[Range<usize>]) -> Vec<u8> {
        pieces
            .iter()
            .flat_map(|piece| file[piece.clone()].to_vec())
            .collect()
    }

    #[test]
    fn pieces_are_the_file_whatever_it_is() {
        let mut files: Vec<Vec<u8>> = vec![
            Vec::new(),
            vec![7; 5000],
            // A length beyond the end, and a number without end.
            vec![0x3a, 0xff, 0x7f, 1],
            vec![0xff; 40],
        ];
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../models/packages/fashion-mnist/base.onnx"
        );
        let onnx = std::fs::read(path).unwrap();
        files.push(onnx[..onnx.len() / 2].to_vec());
        files.push(onnx.clone());
        for file in &files {
            let pieces = pieces(file);
            assert_eq!(joined(file, &pieces), *file);
        }
        let weights = pieces(&onnx);
        assert!(weights.len() > 10, "{}", weights.len());
    }

    #[test]
    fn another_cut_of_a_network_shares_its_weights() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../models/packages/fashion-mnist/base.onnx"
        );
        let limits = Limits::default();
        let model = Model::open(std::path::Path::new(path), &limits).unwrap();
        let from = import(model, &limits).unwrap();
        let chain = from.graph.chain();
        let count = chain.len();
        let contents = |segments: Range<usize>, number: usize| -> BTreeSet<Vec<u8>> {
            let layers = chain.layers(segments).collect();
            let fragment = cut_layers(&from, &layers, number, 2).unwrap();
            let pieces = pieces(&fragment.onnx);
            pieces
                .iter()
                .map(|piece| fragment.onnx[piece.clone()].to_vec())
                .collect()
        };
        let (short, long) = (contents(0..count / 2, 0), contents(0..count * 3 / 4, 0));
        let bytes = |set: &BTreeSet<Vec<u8>>| set.iter().map(Vec::len).sum::<usize>();
        let shared: BTreeSet<Vec<u8>> = short.intersection(&long).cloned().collect();
        // All but headers.
        assert!(
            bytes(&shared) * 100 > bytes(&short) * 95,
            "{} of {}",
            bytes(&shared),
            bytes(&short)
        );
    }
}
