//! What the receiver of frames tells their sender: how busy it is, by route.
//!
//! An exit at the border of two nodes weighs its answer against what the next node would make of the request,
//! and that depends on how many are present there. Receipts are small, follow one another on the response side
//! of the stream of frames, and say only what changed.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use splitplace_proto::data;

use crate::WireError;

/// Most backlogs in one receipt; more are told in several.
const BACKLOGS_MAX: usize = 128;
/// Most bytes of one receipt.
const RECEIPT_BYTES: usize = 8 << 10;
/// A gRPC message's prefix: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// How many requests of a route are present at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Generation of the plan whose route table gives `route` its meaning.
    pub generation: u64,
    /// The route.
    pub route: u32,
    /// Requests there, the one in service included.
    pub present: u32,
}

/// The gRPC messages that tell these backlogs.
#[must_use]
pub fn encode(backlogs: &[Backlog]) -> Bytes {
    let mut out = BytesMut::new();
    for some in backlogs.chunks(BACKLOGS_MAX) {
        let one = |backlog: &Backlog| data::Backlog {
            generation: backlog.generation,
            route: backlog.route,
            present: backlog.present,
        };
        let receipt = data::Receipt {
            backlogs: some.iter().map(one).collect(),
        };
        out.put_u8(0);
        out.put_u32(u32::try_from(receipt.encoded_len()).unwrap_or(u32::MAX));
        out.put_slice(&receipt.encode_to_vec());
    }
    out.freeze()
}

/// Receipts out of pieces of memory of any size.
#[derive(Debug, Default)]
pub struct Receipts {
    held: BytesMut,
}

impl Receipts {
    /// Takes a piece and gives the backlogs of all receipts that are complete now.
    ///
    /// # Errors
    /// [`WireError`] when a message is compressed, too long, or no receipt.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Backlog>, WireError> {
        self.held.extend_from_slice(piece);
        let mut found = Vec::new();
        while let Some((prefix, rest)) = self.held.split_first_chunk::<PREFIX_BYTES>() {
            let [compressed, length @ ..] = *prefix;
            let length = u32::from_be_bytes(length) as usize;
            if compressed != 0 || length > RECEIPT_BYTES {
                let message = format!("a receipt of {length} bytes, or a compressed one");
                return Err(WireError(message));
            }
            if rest.len() < length {
                break;
            }
            self.held.advance(PREFIX_BYTES);
            let receipt = data::Receipt::decode(self.held.split_to(length))
                .map_err(|error| WireError(error.to_string()))?;
            found.extend(receipt.backlogs.iter().map(|backlog| Backlog {
                generation: backlog.generation,
                route: backlog.route,
                present: backlog.present,
            }));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(count: u32) -> Vec<Backlog> {
        let one = |route| Backlog {
            generation: 1 << 40,
            route,
            present: route % 9,
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn receipts_come_through_in_pieces_of_any_size() {
        let told = some(300);
        let wire = encode(&told);
        for size in [1, 2, 7, 64, wire.len()] {
            let mut receipts = Receipts::default();
            let pieces = wire.chunks(size);
            let heard = pieces.flat_map(|piece| receipts.push(piece).unwrap());
            assert_eq!(heard.collect::<Vec<_>>(), told, "pieces of {size}");
        }
    }

    #[test]
    fn a_receipt_that_is_too_long_or_none_ends_the_stream() {
        let mut long = Receipts::default();
        assert!(long.push(&[0, 0, 1, 0, 0]).is_err());
        let mut compressed = Receipts::default();
        assert!(compressed.push(&[1, 0, 0, 0, 0]).is_err());
        let mut noise = Receipts::default();
        assert!(noise.push(&[0, 0, 0, 0, 2, 0x0a, 0x7f]).is_err());
        let mut short = Receipts::default();
        assert_eq!(short.push(&[0, 0, 0]).unwrap(), []);
    }
}
